import math

import numpy as np
import pytest

from neverslower.judge.change import PassSpread, Variance, judge_change, judge_pairs, shown_again, typical_variance
from neverslower.judge.verdict import Code, Interval, Thresholds
from selftests.support import known

BENCHMARKS = 200


def run(
    random: np.random.Generator, passes: int, own: float | np.ndarray, common: float, shift: float = 0.0
) -> np.ndarray:
    """Levels of shape (benchmarks, passes): what every pass shares, and what each benchmark has besides."""
    besides = random.normal(0, 1, (BENCHMARKS, passes)) * np.broadcast_to(own, BENCHMARKS)[:, None]
    levels: np.ndarray = shift + random.normal(0, common, passes) + besides
    return levels


def spread_of(levels: np.ndarray) -> PassSpread:
    return PassSpread.of(dict(enumerate(levels.tolist())))


def verdicts(then: np.ndarray, now: np.ndarray) -> list[Code]:
    spread = spread_of(then).pooled(spread_of(now))
    pairs = enumerate(zip(then.tolist(), now.tolist(), strict=True))
    return [judge_change(a, b, spread, key, BENCHMARKS).code for key, (a, b) in pairs]


def test_spread_separates_what_passes_share_from_what_is_a_benchmark_s_own() -> None:
    spread = spread_of(run(np.random.default_rng(1), passes=60, own=0.01, common=0.05))
    own = np.mean([one.value for one in spread.own.values()])
    assert math.sqrt(own) == pytest.approx(0.01, rel=0.05)
    assert math.sqrt(spread.common.value) == pytest.approx(0.05, rel=0.3)
    assert spread.common.freedom == 59
    assert spread.own[0].freedom == pytest.approx(59 * (1 - 1 / BENCHMARKS))


def test_a_real_change_is_found_where_passes_agree() -> None:
    random = np.random.default_rng(2)
    then, now = run(random, 4, own=0.002, common=0.001), run(random, 4, own=0.002, common=0.001)
    now[:10] += math.log(1.10)
    found = verdicts(then, now)
    assert found[:10] == [Code.SLOWER] * 10
    assert Code.SLOWER not in found[10:]


def test_a_slowdown_of_everything_is_red_where_passes_agree() -> None:
    random = np.random.default_rng(3)
    found = verdicts(run(random, 4, 0.002, 0.001), run(random, 4, 0.002, 0.001, shift=math.log(1.2)))
    assert set(found) == {Code.SLOWER}


@pytest.mark.parametrize(("own", "common", "passes"), [(0.005, 0.1, 2), (0.02, 0.002, 4)])
@pytest.mark.parametrize("unlike", [0.0, 0.3, 0.64, 1.0])
def test_scatter_is_no_regression_however_unlike_benchmarks_are(
    own: float, common: float, passes: int, unlike: float
) -> None:
    random = np.random.default_rng(4)
    deviations = own * np.exp(random.normal(0, unlike, BENCHMARKS))
    runs = 150
    red = sum(
        Code.SLOWER in verdicts(run(random, passes, deviations, common), run(random, passes, deviations, common))
        for _ in range(runs)
    )
    assert red <= 6  # 1 % of 150 runs is 1.5; the binomial's 99.9 % quantile is 6


def test_one_benchmark_that_goes_astray_does_not_blind_the_others() -> None:
    random = np.random.default_rng(5)
    then, now = run(random, 4, 0.002, 0.001), run(random, 4, 0.002, 0.001)
    then[0, 2] += 0.6
    now[1] += math.log(1.2)
    found = verdicts(then, now)
    assert found[0] is Code.UNDECIDED
    assert found[1] is Code.SLOWER


def test_a_single_pass_on_both_sides_decides_nothing() -> None:
    spread = spread_of(np.zeros((5, 1)))
    assert judge_change([0.0], [1.0], spread.pooled(spread), 0, 5).code is Code.UNDECIDED


def test_more_comparisons_demand_more_proof() -> None:
    spread = spread_of(run(np.random.default_rng(5), 3, own=0.01, common=0.0))
    few, many = (judge_change([0, 0, 0], [0.1, 0.1, 0.1], spread, 0, count).ratio for count in (1, 10_000))
    assert few is not None
    assert many is not None
    assert many.low < few.low


@pytest.mark.parametrize("freedom", [3.0, 10.0])
def test_the_typical_variance_is_found_among_sample_variances(freedom: float) -> None:
    random = np.random.default_rng(6)
    true = 4.0 * freedom / random.chisquare(freedom, 20_000)
    sampled = true * random.chisquare(6, 20_000) / 6
    prior = typical_variance([Variance(value, 6) for value in sampled])
    assert prior.value == pytest.approx(4.0, rel=0.05)
    assert prior.freedom == pytest.approx(freedom, rel=0.1)


def test_variances_that_are_alike_have_a_prior_without_doubt() -> None:
    prior = typical_variance([Variance(2.0, 6)] * 50)
    assert math.isinf(prior.freedom)


@pytest.mark.parametrize(("again", "shown"), [(0.0, False), (0.029, False), (0.031, True)])
def test_a_regression_is_shown_again_beyond_the_target(again: float, shown: bool) -> None:
    assert shown_again([-0.01, 0.01], again) is shown


def test_passes_that_have_nothing_in_common_are_undecided() -> None:
    then = {key: [-27.0, 13.0] for key in range(7)} | {0: [13.0, -27.0]}
    now = {key: [-9.0, -9.0] for key in range(7)}
    spread = PassSpread.of(then).pooled(PassSpread.of(now))
    verdict = judge_change(then[0], now[0], spread, 0, 7)
    assert verdict.code is Code.UNDECIDED
    assert verdict.ratio is not None
    assert verdict.ratio.high == math.inf


def test_each_direction_of_a_change_has_an_error_of_its_own() -> None:
    """A false SLOWER counts for the whole run, a wrong SAME for its own comparison alone."""
    random = np.random.default_rng(7)
    then, now = run(random, 4, own=0.002, common=0.001), run(random, 4, own=0.002, common=0.001)
    spread = spread_of(then).pooled(spread_of(now))

    def ratios(comparisons: int, thresholds: Thresholds) -> list[Interval]:
        change = judge_change(list(then[0]), list(now[0]), spread, 0, comparisons, thresholds)
        paired = judge_pairs(list(now[0] - then[0]), spread, 0, comparisons, thresholds)
        return [known(verdict.ratio) for verdict in (change, paired)]

    plain = ratios(10, Thresholds())
    for moved in (ratios(10, Thresholds(family_error=1e-4)), ratios(1000, Thresholds())):
        for before, after in zip(plain, moved, strict=True):
            assert after.low < before.low
            assert after.high == before.high
    for before, after in zip(plain, ratios(10, Thresholds(miss_error=1e-4)), strict=True):
        assert after.low == before.low
        assert after.high > before.high
