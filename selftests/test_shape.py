"""The shapes of staircases, planted and recorded, and the counts that they advise."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neverslower.baseline.folders import load as load_record
from neverslower.evidence.observation import Plan
from neverslower.judge.verdict import STANDARD, Code, Interval, Reason, ReasonCode, Verdict, decide
from neverslower.maps.advice import advised_channels, pairs_of, verified
from neverslower.maps.map_file import Map, load
from neverslower.maps.shape import STEP, Name, shape_of
from neverslower.maps.staircase import Staircase, Stored
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.networks import Layer
from neverslower.report.advice import advice_lines
from selftests.support import ROOT, known, problem

CUDNN = ROOT / "baselines" / "cudnn@nvidia-h100-80gb-hbm3" / "maps"
A76 = ROOT / "baselines" / "acl@cortex-a76-emulated" / "maps"


def planted(name: Name, counts: np.ndarray) -> np.ndarray:
    """Costs of a shape at these counts."""
    stairs = np.ceil(counts / 32)
    costs: dict[Name, np.ndarray] = {
        Name.FLAT: np.ones(len(counts)),
        Name.STAIRCASE: stairs,
        Name.LINEAR: counts + 20.0,
        Name.TOOTHED: stairs * np.where(counts % 8 == 0, 1.0, 1.6),
        Name.ALTERNATING: (counts + 40.0) * np.array([1.3, 1.0, 1.6, 1.0])[counts % 4],
        Name.PARALLEL: np.ceil(counts / 4) * np.where((counts - 1) % 32 >= 28, 1.0, 1.4),
        Name.SPIKY: stairs * np.where(np.isin(counts, [17, 40, 71, 90, 111, 120]), 4.0, 1.0),
    }
    return np.asarray(costs[name], dtype=float)


@pytest.mark.parametrize("name", list(Name))
@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_a_planted_shape_has_its_name(name: Name, noise: float) -> None:
    counts = np.arange(1, 129)
    costs = planted(name, counts) * np.exp(np.random.default_rng(1).normal(0, noise, len(counts)))
    assert shape_of(list(range(1, 129)), costs).name is name


def test_treads_and_edges_of_a_staircase_are_exact() -> None:
    shape = shape_of(list(range(1, 129)), planted(Name.STAIRCASE, np.arange(1, 129)))
    assert shape.edges == (32, 64, 96, 128)
    assert [(tread.first, tread.cost) for tread in shape.treads] == [(1, 1.0), (33, 2.0), (65, 3.0), (97, 4.0)]
    assert shape.spikes == ()


def test_spikes_are_named_and_part_no_tread() -> None:
    shape = shape_of(list(range(1, 129)), planted(Name.SPIKY, np.arange(1, 129)))
    assert shape.spikes == (17, 40, 71, 90, 111, 120)
    assert shape.edges == (32, 64, 96, 128)


def test_the_period_of_teeth_is_found() -> None:
    assert shape_of(list(range(1, 129)), planted(Name.TOOTHED, np.arange(1, 129))).period == 8


@pytest.mark.parametrize("costs", [[1.0], [1.0, 2.0], [2.0, 1.0, 2.0]])
def test_a_curve_of_few_counts_has_a_shape(costs: list[float]) -> None:
    shape = shape_of(list(range(1, len(costs) + 1)), np.array(costs))
    assert shape.treads[-1].last == len(costs)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=60))
def test_treads_cover_every_count_once_and_end_at_steps(costs: list[float]) -> None:
    counts = list(range(1, len(costs) + 1))
    shape = shape_of(counts, np.array(costs))
    covered = [count for tread in shape.treads for count in range(tread.first, tread.last + 1)]
    assert covered == counts


@cache
def stored(name: str) -> Map:
    return load(CUDNN / f"{name}.json.xz")


@pytest.mark.parametrize(
    ("path", "layer", "name", "period"),
    [
        ("resnet50-float16-NHWC", "resnet50.L14", Name.TOOTHED, 8),
        ("resnet50-float16-NHWC", "resnet50.L27", Name.TOOTHED, 8),
        ("resnet50-tf32-NCHW", "resnet50.L46", Name.TOOTHED, 4),
    ],
)
def test_recorded_curves_of_cudnn_are_known_by_name(path: str, layer: str, name: Name, period: int) -> None:
    staircase = stored(path).staircase(layer)
    shape = shape_of(staircase.counts, staircase.costs)
    assert (shape.name, shape.period) == (name, period)


def test_instructions_of_acl_on_a_cpu_are_a_staircase() -> None:
    for path in sorted(A76.glob("*gemm*")):
        entries = load_record(path).entries.values()
        rows = sorted((ConvProblem.from_key(one.candidate).out_channels, known(one.instructions)) for one in entries)
        shape = shape_of([count for count, _ in rows], np.array([cost for _, cost in rows], dtype=float))
        assert shape.name in (Name.STAIRCASE, Name.LINEAR, Name.TOOTHED)


# Advice


def stairs(costs: np.ndarray, verdicts: tuple[Stored, ...] = ()) -> Staircase:
    counts = tuple(range(1, len(costs) + 1))
    return Staircase("net.L0", problem(len(costs)), counts, costs, tuple(Plan("any") for _ in counts), verdicts)


def test_the_right_edges_of_treads_are_advised() -> None:
    assert advised_channels(stairs(planted(Name.STAIRCASE, np.arange(1, 129)))) == [96, 64, 32]
    assert advised_channels(stairs(planted(Name.TOOTHED, np.arange(1, 129)))) == [96, 64, 32]
    assert advised_channels(stairs(np.ones(64))) == []


def test_what_is_not_proved_faster_is_not_advised() -> None:
    costs = planted(Name.STAIRCASE, np.arange(1, 129))
    faster, open_ = Stored(Code.FASTER, Interval(0.5, 0.4, 0.6)), Stored(Code.UNDECIDED, Interval(0.5, 0.4, 1.2))
    verdicts = tuple(open_ if count == 96 else faster for count in range(1, 128))
    assert advised_channels(stairs(costs, verdicts)) == [95, 64, 32]


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=60), st.sampled_from([0.0, 0.01, 0.1]))
def test_each_advised_count_is_faster_than_every_larger_one(costs: list[float], margin: float) -> None:
    one = stairs(np.array(costs))
    advised = advised_channels(one, margin)
    levels = [one.costs[-1], *(one.costs[count - 1] for count in advised)]
    assert all(small < large * (1 - margin) for large, small in itertools.pairwise(levels))
    assert not {count - 1 for count in advised} & set(one.hazards)
    # Whatever is not advised is no faster, by the margin, than the next larger advised count.
    for place in range(len(costs) - 1):
        larger = [one.costs[count - 1] for count in advised if count > place + 1] or [one.costs[-1]]
        if place + 1 not in advised:
            assert one.costs[place] >= min(larger[-1], one.costs[-1]) * (1 - margin)


def verdict(code: Code) -> Verdict:
    return Verdict(code, Reason(ReasonCode.PROVED, f"judged {code}"))


def test_what_is_not_faster_when_it_is_measured_is_taken_back() -> None:
    layer = Layer("net", 0, "first", problem(128))
    asked: list[tuple[int, int]] = []

    def measure(comparisons):
        pairs = {one.identity[1:]: (one.reference.out_channels, one.candidate.out_channels) for one in comparisons}
        asked.extend(pairs.values())
        return {keys: verdict(Code.SAME if pair == (96, 64) else Code.FASTER) for keys, pair in pairs.items()}

    costs = planted(Name.STAIRCASE, np.arange(1, 129))
    (advice,) = verified([stairs(costs)], {"net.L0": layer}, "scripted", measure)
    assert [(step.larger, step.count, step.verdict.code) for step in advice.steps] == [
        (128, 96, Code.FASTER),
        (96, 32, Code.FASTER),
    ]
    assert [(large, small) for large, small, _ in advice.taken_back] == [(96, 64)]
    assert asked == [(128, 96), (96, 64), (64, 32), (96, 32)]


def test_no_slower_is_measured_on_and_takes_a_count_back_only_where_faster_is_excluded() -> None:
    ratios = {96: Interval(0.5, 0.4, 0.6), 64: Interval(0.97, 0.95, 1.0), 32: Interval(1.0, 0.995, 1.005)}
    asked: list[bool] = []

    def measure(comparisons):
        asked.extend(one.asks_whether_faster for one in comparisons)
        ratio = {one.identity[1:]: ratios[one.candidate.out_channels] for one in comparisons}
        return {keys: Verdict(*decide(one, STANDARD), one) for keys, one in ratio.items()}

    costs = planted(Name.STAIRCASE, np.arange(1, 129))
    layer = Layer("net", 0, "first", problem(128))
    (advice,) = verified([stairs(costs)], {"net.L0": layer}, "scripted", measure)
    assert asked == [True] * len(asked)
    assert [step.count for step in advice.steps] == [96]
    codes = {smaller: verdict.code for _, smaller, verdict in advice.taken_back}
    assert codes == {64: Code.UNDECIDED, 32: Code.SAME}
    told = "\n".join(advice_lines(advice))
    assert "taken back: 64 against 96 is UNDECIDED (0.970× [0.950, 1.000]: no slower, but neither below 0.99×" in told
    assert "taken back: 32 against 96 is SAME (1.000× [0.995, 1.005]: proved to take 0.99 of the time or more)" in told


def test_neighbours_that_are_not_faster_are_taken_back_one_at_a_time() -> None:
    costs = {4: 1.0, 3: 0.965, 2: 0.935, 1: 0.5}

    def measure(comparisons):
        pairs = {one.identity[1:]: (one.reference.out_channels, one.candidate.out_channels) for one in comparisons}
        clear = {keys: costs[smaller] < 0.96 * costs[larger] for keys, (larger, smaller) in pairs.items()}
        return {keys: verdict(Code.FASTER if faster else Code.UNDECIDED) for keys, faster in clear.items()}

    drawn = stairs(np.array([costs[count] for count in (1, 2, 3, 4)]))
    (advice,) = verified([drawn], {"net.L0": Layer("net", 0, "first", problem(4))}, "scripted", measure)
    assert [(step.larger, step.count) for step in advice.steps] == [(4, 2), (2, 1)]
    assert [(larger, smaller) for larger, smaller, _ in advice.taken_back] == [(4, 3)]


def test_pairs_begin_at_the_unpruned_layer() -> None:
    assert pairs_of(problem(16), [8, 4]) == [(16, 8), (8, 4)]
    assert pairs_of(replace(problem(16)), []) == []


def test_a_step_is_five_per_cent() -> None:
    assert math.exp(STEP) == pytest.approx(1.05)
