"""Staircases from few timings, planted and recorded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bench.adaptive import curves, row_of
from bench.few_timings import branches, estimate
from neverslower.evidence.observation import Plan

COUNTS = list(range(1, 257))
PAD, GEMM = "addPadding grid={}x1x1 block=64x1x1", "gemm grid={}x1x1 block=128x1x1"


def plans(tile: int = 64, aligned: int = 8) -> list[Plan]:
    """A kernel whose grid grows by one every `tile` counts, and one that pads what is not aligned."""
    return [
        Plan("eng0", (*([] if count % aligned == 0 else [PAD.format(count)]), GEMM.format(-(-count // tile))))
        for count in COUNTS
    ]


def timed(costs: np.ndarray, launched: Sequence[Plan]):
    asked: list[int] = []

    def time(position: int) -> float:
        asked.append(position)
        return float(costs[position])

    return estimate(COUNTS, launched, time), asked


def test_counts_that_are_launched_alike_are_a_branch_whatever_the_helpers_grids_are() -> None:
    found = branches(plans())
    assert len(found) == 8
    assert sorted(position for branch in found for position in branch) == list(range(256))
    assert [COUNTS[position] for position in found[1]] == [8, 16, 24, 32, 40, 48, 56, 64]


def test_a_staircase_with_teeth_is_exact_from_few_timings() -> None:
    costs = np.ceil(np.array(COUNTS) / 64) * np.where(np.array(COUNTS) % 8 == 0, 1.0, 1.6)
    found, asked = timed(costs, plans())
    np.testing.assert_allclose(found.costs, costs)
    assert len(asked) == len(set(asked)) == len(found.timed) <= 0.07 * len(COUNTS)


def test_a_step_that_no_plan_shows_is_found_by_the_audit() -> None:
    costs = np.where(np.array(COUNTS) <= 100, 1.0, 1.2)
    found, asked = timed(costs, [Plan("eng0", (GEMM.format(1),))] * 256)
    edges = np.flatnonzero(np.abs(np.diff(np.log(found.costs))) >= np.log(1.05))
    assert [COUNTS[edge] for edge in edges] == [100]
    assert len(asked) < 30


def test_a_slope_is_a_line_between_few_counts() -> None:
    costs = np.array(COUNTS) + 100.0
    found, asked = timed(costs, [Plan("eng0", (GEMM.format(1),))] * 256)
    assert np.max(np.abs(np.log(found.costs / costs))) < np.log(1.05)
    assert len(asked) < 0.2 * len(COUNTS)


@pytest.mark.parametrize("layer", ["resnet50-float16-NHWC resnet50.L46", "resnet50-tf32-NCHW resnet50.L13"])
def test_recorded_curves_come_out_with_every_edge(layer: str) -> None:
    for name, staircase in curves():
        if name.endswith(layer):
            row = row_of(name, staircase)
            assert row.edges[0] == row.edges[1]
            assert row.share <= 0.15
            assert not row.failed
