"""Staircases from few timings, planted and recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from bench.adaptive import BASELINES, Row, again, row_of
from neverslower.evidence.observation import Plan
from neverslower.maps import map_file
from neverslower.maps.adaptive import draw, families_of

COUNTS = list(range(1, 257))
PAD, GEMM = "addPadding grid={}x1x1 block=64x1x1", "gemm grid={}x1x1 block=128x1x1"


def plans(tile: int = 64, aligned: int = 8) -> list[Plan]:
    """A kernel whose grid grows by one every `tile` counts, and one that pads what is not aligned."""
    return [
        Plan("eng0", (*([] if count % aligned == 0 else [PAD.format(count)]), GEMM.format(-(-count // tile))))
        for count in COUNTS
    ]


def timed(costs: np.ndarray, launched: Sequence[Plan]) -> tuple[np.ndarray, list[int]]:
    """The curve that is drawn, and the positions in the order in which they were asked for."""
    known: dict[int, float] = {}
    while missing := (drawn := draw(COUNTS[: len(costs)], launched, known)).missing:
        assert not set(missing) & set(known)
        known |= {position: float(costs[position]) for position in missing}
    return drawn.costs, list(known)


def edges(costs: np.ndarray) -> list[int]:
    return [COUNTS[place] for place in np.flatnonzero(np.abs(np.diff(np.log(costs))) >= np.log(1.05))]


def test_counts_that_are_launched_alike_are_a_branch_and_branches_of_the_same_kernels_a_family() -> None:
    padded, aligned = families_of(plans())
    assert [len(branch) for branch in padded] == [56] * 4
    assert [COUNTS[position] for position in aligned[0]] == [8, 16, 24, 32, 40, 48, 56, 64]
    assert sorted(position for branch in [*padded, *aligned] for position in branch) == list(range(256))


def test_a_staircase_with_teeth_is_exact_from_few_timings() -> None:
    costs = np.ceil(np.array(COUNTS) / 64) * np.where(np.array(COUNTS) % 8 == 0, 1.0, 1.6)
    drawn, asked = timed(costs, plans())
    np.testing.assert_allclose(drawn, costs)
    assert len(asked) <= 0.07 * len(COUNTS)


def test_a_step_that_no_plan_shows_is_found_by_the_audit() -> None:
    costs = np.where(np.array(COUNTS) <= 100, 1.0, 1.2)
    drawn, asked = timed(costs, [Plan("eng0", (GEMM.format(1),))] * 256)
    assert edges(drawn) == [100]
    assert len(asked) < 60


def test_a_step_within_short_branches_is_found_where_the_family_shows_one() -> None:
    """The two largest branches are audited at both ends; what they show is looked for in every branch."""
    inner = np.array([(count - 1) % 8 >= 4 for count in COUNTS])
    costs = np.where(inner, 1.3, 1.0)
    drawn, _ = timed(costs, plans(tile=8, aligned=1))
    np.testing.assert_allclose(drawn, costs)


def test_a_branch_of_two_speeds_is_timed_as_a_whole() -> None:
    costs = np.random.default_rng(2).choice([1.0, 1.2], 256)
    drawn, asked = timed(costs, [Plan("eng0", (GEMM.format(1),))] * 256)
    np.testing.assert_allclose(drawn, costs)
    assert len(asked) == 256


def test_a_layer_of_a_few_counts_is_timed_as_a_whole() -> None:
    """The unpruned layer alone, whose cost is known, must not stand for a layer of which nothing was timed."""
    alike = [Plan("eng0", (GEMM.format(1),))] * 8
    assert draw(range(1, 9), alike, {7: 1.0}).missing == tuple(range(7))
    assert draw([1, 2], alike[:2], {1: 1.0}).missing == (0,)


def test_the_same_costs_ask_for_the_same_counts() -> None:
    """So a map that was interrupted goes on where it was."""
    known = dict.fromkeys(draw(COUNTS, plans(), {}).missing, 1.0)
    half = dict(list(known.items())[: len(known) // 2])
    assert set(draw(COUNTS, plans(), half).missing) == set(known) - set(half)
    assert np.isnan(draw(COUNTS, plans(), {}).costs).all()


def test_a_slope_is_a_line_between_few_counts() -> None:
    costs = np.array(COUNTS) + 100.0
    drawn, asked = timed(costs, [Plan("eng0", (GEMM.format(1),))] * 256)
    assert np.max(np.abs(np.log(drawn / costs))) < np.log(1.05)
    assert len(asked) < 0.2 * len(COUNTS)


def test_what_was_timed_keeps_its_own_cost() -> None:
    costs = 1 + 0.02 * np.sin(np.arange(256))
    drawn, asked = timed(costs, plans())
    np.testing.assert_array_equal(drawn[asked], costs[asked])


@pytest.mark.parametrize(("record", "layer"), [("resnet50-float16-NHWC", "L46"), ("resnet50-tf32-NCHW", "L13")])
def test_recorded_curves_come_out_with_every_edge(record: str, layer: str) -> None:
    stored = map_file.load(BASELINES / f"cudnn@nvidia-h100-80gb-hbm3/maps/{record}.json.xz")
    row = row_of(layer, stored.staircase(f"resnet50.{layer}"))
    assert row.edges[0] == row.edges[1]
    assert row.share <= 0.15
    assert not row.failed


def test_the_rules_are_tested_on_layers_that_they_were_not_fixed_on() -> None:
    row = Row("h100 resnet50.L16", 1, 1, 1, (0, 0), (0, 0), 0, 0.0)
    assert row.fixing
    assert not replace(row, name="h100 vgg16.L7").fixing


def test_a_second_map_of_every_count_misses_edges_too() -> None:
    """What two maps of one device do not share is noise, which no choice of counts could find."""
    rows = again()
    assert len(rows) == 23
    assert 0 < sum(row.failed for row in rows) < 8
