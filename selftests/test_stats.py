import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench import signed_rank
from neverslower.judge import stats
from selftests.support import known

TRIALS = 3000


@pytest.mark.parametrize(
    ("values", "averages"),
    [([3.0], [3.0]), ([1.0, 3.0], [1.0, 2.0, 3.0]), ([5.0, 1.0, 2.0], [1.0, 1.5, 2.0, 3.0, 3.5, 5.0])],
)
def test_walsh_averages_are_the_sorted_means_of_all_pairs(values, averages):
    assert stats.walsh_averages(np.array(values)).tolist() == averages


@given(arrays(float, st.integers(1, 20), elements=st.floats(-1e3, 1e3)))
def test_there_are_as_many_walsh_averages_as_pairs_in_order(values):
    averages = stats.walsh_averages(values)
    assert len(averages) == len(values) * (len(values) + 1) // 2
    assert np.all(np.diff(averages) >= 0)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 8, 11])
def test_the_signed_rank_tail_is_that_of_all_sign_patterns(n):
    sums = [sum(itertools.compress(range(1, n + 1), signs)) for signs in itertools.product((0, 1), repeat=n)]
    tail = signed_rank.tail(n)
    expected = [sum(total <= k for total in sums) / 2**n for k in range(n * (n + 1) // 2 + 1)]
    np.testing.assert_allclose(tail, expected, atol=1e-14)


def test_the_signed_rank_tail_begins_where_all_signs_agree():
    assert signed_rank.tail(40)[0] == 2.0**-40


def _normal(rng, n):
    return rng.normal(0, 0.02, n)


def _laplace(rng, n):
    return rng.laplace(0, 0.02, n)


def _heavy_tailed(rng, n):
    return rng.standard_t(2, n)


def _spiky(rng, n):
    return rng.normal(0, 0.02, n) * np.where(rng.random(n) < 0.05, 50, 1)


@pytest.mark.parametrize("draw", [_normal, _laplace, _heavy_tailed, _spiky])
@pytest.mark.parametrize(("n", "error"), [(8, 0.05), (20, 0.05), (20, 0.01)])
def test_each_bound_is_wrong_as_often_as_stated_whatever_the_symmetric_distribution(draw, n, error):
    rng = np.random.default_rng(20190103)
    wrong = np.zeros(2)
    for _ in range(TRIALS):
        bounds = known(signed_rank.interval(stats.walsh_averages(draw(rng, n) + 0.3), n, error))
        wrong += (bounds.low > 0.3, bounds.high < 0.3)
    # Exactly the largest attainable tail below the stated error, within five standard deviations of the count.
    tail = signed_rank.tail(n)
    attained = tail[tail <= error].max()
    within = 5 * math.sqrt(TRIALS * attained)
    assert np.all(np.abs(wrong - TRIALS * attained) <= within)


def test_a_smaller_error_widens_the_interval_and_more_values_narrow_it():
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, 200)

    def width(n, error):
        bounds = known(signed_rank.interval(stats.walsh_averages(values[:n]), n, error))
        return bounds.high - bounds.low

    assert width(20, 1e-5) > width(20, 1e-3) > width(20, 1e-1) > 0
    assert width(200, 1e-3) < width(20, 1e-3)


@given(arrays(float, st.integers(7, 20), elements=st.floats(-100, 100)))
def test_negating_the_values_negates_the_interval(values):
    bounds = known(signed_rank.interval(stats.walsh_averages(values), len(values), 0.01))
    mirrored = known(signed_rank.interval(stats.walsh_averages(-values), len(values), 0.01))
    assert (mirrored.low, mirrored.high) == (-bounds.high, -bounds.low)
    assert bounds.low <= bounds.high


@pytest.mark.parametrize("error", [0.5, 0.25, 0.05, 0.01, 1e-3, 1e-5, 2.0**-10, 2.0**-10 * 0.999])
def test_the_smallest_sample_is_the_first_that_attains_the_error(error):
    n = signed_rank.smallest_sample(error)
    assert signed_rank.interval(stats.walsh_averages(np.arange(float(n))), n, error) is not None
    fewer = stats.walsh_averages(np.arange(float(n - 1)))
    assert signed_rank.interval(fewer, n - 1, error) is None


@pytest.mark.parametrize(("n", "error"), [(0, 0.5), (1, 0.1), (6, 0.01), (19, 1e-6)])
def test_an_error_that_cannot_be_attained_has_no_interval(n, error):
    assert signed_rank.interval(stats.walsh_averages(np.arange(float(n))), n, error) is None


def test_at_its_smallest_sample_the_interval_is_the_range():
    values = np.array([5.0, -1.0, 3.0, 8.0, 2.0, 4.0, 4.5])
    assert signed_rank.interval(stats.walsh_averages(values), 7, 0.01) == stats.Bounds(-1.0, 8.0)


def test_the_robust_deviation_is_the_standard_deviation_of_normal_values():
    values = np.random.default_rng(2).normal(5, 0.3, 20_000)
    assert stats.robust_deviation(values) == pytest.approx(0.3, rel=0.03)


def test_the_robust_deviation_does_not_mind_outliers():
    values = np.random.default_rng(3).normal(0, 1, 1000)
    spoilt = np.where(np.arange(1000) < 50, 1e6, values)
    assert stats.robust_deviation(spoilt) == pytest.approx(stats.robust_deviation(values), rel=0.1)


@pytest.mark.parametrize(("probability", "quantile"), [(0.5, 0.0), (0.975, 1.959964), (0.01, -2.326348)])
def test_normal_quantiles_are_the_tables(probability, quantile):
    assert stats.normal_quantile(probability) == pytest.approx(quantile, abs=1e-6)


@pytest.mark.parametrize(
    ("probability", "freedom", "quantile"), [(0.975, 1, 12.7062), (0.975, 10, 2.22814), (0.05, 4, -2.13185)]
)
def test_student_quantiles_are_the_tables(probability, freedom, quantile):
    assert stats.student_quantile(probability, freedom) == pytest.approx(quantile, abs=1e-4)


def test_without_degrees_of_freedom_nothing_is_certain():
    assert stats.student_quantile(0.975, 0) == math.inf


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("n", range(1, 41))
def test_the_median_interval_is_the_narrowest_that_is_sure_enough(n, confidence):
    bounds = stats.median_interval(np.arange(float(n))[::-1], confidence)
    first = int(bounds.low)
    assert bounds.high == n - 1 - first

    def missed(rank):
        return 2 * sum(math.comb(n, below) for below in range(rank + 1)) / 2**n

    assert missed(first) <= 1 - confidence + 1e-12 or first == 0
    assert missed(first + 1) > 1 - confidence - 1e-12
