import math

import numpy as np
import pytest

from neverslower.regression import PassSpread, judge_change
from neverslower.verdict import Code

BENCHMARKS = 200


def run(random: np.random.Generator, passes: int, own: float, common: float, shift: float = 0.0) -> np.ndarray:
    """Levels of shape (benchmarks, passes): what every pass shares, and what each benchmark has besides."""
    return shift + random.normal(0, common, passes) + random.normal(0, own, (BENCHMARKS, passes))


def spread_of(levels: np.ndarray) -> PassSpread:
    return PassSpread.of(dict(enumerate(levels.tolist())))


def verdicts(then: np.ndarray, now: np.ndarray) -> list[Code]:
    spread = spread_of(then).pooled(spread_of(now))
    return [judge_change(a, b, spread, BENCHMARKS).code for a, b in zip(then.tolist(), now.tolist(), strict=True)]


def test_spread_separates_what_passes_share_from_what_is_a_benchmark_s_own() -> None:
    spread = spread_of(run(np.random.default_rng(1), passes=60, own=0.01, common=0.05))
    assert math.sqrt(spread.own) == pytest.approx(0.01, rel=0.05)
    assert math.sqrt(spread.common) == pytest.approx(0.05, rel=0.3)
    assert (spread.common_freedom, spread.own_freedom) == (59, 199 * 59)


def test_a_real_change_is_found_where_passes_agree() -> None:
    random = np.random.default_rng(2)
    then, now = run(random, 4, own=0.002, common=0.001), run(random, 4, own=0.002, common=0.001)
    now[:10] += math.log(1.10)
    found = verdicts(then, now)
    assert found[:10] == [Code.SLOWER] * 10
    assert set(found[10:]) == {Code.SAME}


def test_a_slowdown_of_everything_is_red_where_passes_agree() -> None:
    random = np.random.default_rng(3)
    found = verdicts(run(random, 4, 0.002, 0.001), run(random, 4, 0.002, 0.001, shift=math.log(1.2)))
    assert set(found) == {Code.SLOWER}


def test_drift_that_passes_share_is_no_regression() -> None:
    random = np.random.default_rng(4)
    slower = sum(
        Code.SLOWER in verdicts(run(random, 2, own=0.005, common=0.1), run(random, 2, own=0.005, common=0.1))
        for _ in range(300)
    )
    assert slower <= 8  # 0.5 % of 300 runs is 1.5; the binomial's 99.9 % quantile lies below 8


def test_a_single_pass_on_both_sides_decides_nothing() -> None:
    spread = spread_of(np.zeros((5, 1)))
    assert judge_change([0.0], [1.0], spread.pooled(spread), 5).code is Code.UNDECIDED


def test_more_comparisons_demand_more_proof() -> None:
    random = np.random.default_rng(5)
    then = run(random, 3, own=0.01, common=0.0)
    spread = spread_of(then)
    few, many = (judge_change([0, 0, 0], [0.1, 0.1, 0.1], spread, count).ratio for count in (1, 10_000))
    assert few is not None
    assert many is not None
    assert many.low < few.low
