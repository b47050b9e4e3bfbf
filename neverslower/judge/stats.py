"""Functions of arrays: robust centres and spreads, and the signed-rank interval with its exact distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bounds:
    """A lower and an upper bound, each wrong with at most the chance that was asked for."""

    low: float
    high: float


def normal_quantile(probability: float) -> float:
    """Return the standard normal distribution's quantile."""
    return NormalDist().inv_cdf(probability)


def robust_deviation(values: Floats) -> float:
    """Return the standard deviation that a normal sample with this median absolute deviation would have."""
    return float(np.median(np.abs(values - np.median(values)))) * 1.4826


def walsh_averages(values: Floats) -> Floats:
    """Return the sorted means of all pairs of n values, including each with itself: n(n+1)/2 of them.

    Their median is the Hodges–Lehmann centre.
    """
    rows, columns = _pairs(len(values))
    return np.sort((values[rows] + values[columns]) / 2)


@lru_cache(maxsize=16)
def _pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of all pairs of n values, each with itself too."""
    rows, columns = np.triu_indices(n)
    return rows, columns


@lru_cache(maxsize=256)
def signed_rank_tail(n: int) -> Floats:
    """Return P(W ≤ k) for k = 0 … n(n+1)/2: Wilcoxon's signed-rank statistic of n values symmetric about 0.

    Each rank 1 … n joins the sum with probability 1/2, so the counts of subsets with sum k follow by adding one rank
    after another (Hollander, Wolfe & Chicken, Nonparametric Statistical Methods, section 3.1).
    """
    probability = np.zeros(n * (n + 1) // 2 + 1)
    probability[0] = 1.0
    for rank in range(1, n + 1):
        shifted = np.zeros_like(probability)
        shifted[rank:] = probability[:-rank]
        probability = (probability + shifted) / 2
    return np.cumsum(probability)


def signed_rank_interval(walsh: Floats, n: int, error: float) -> Bounds | None:
    """Return bounds of the centre of symmetry of n values with these sorted Walsh averages, or None if n is too small.

    Each bound alone is wrong with a chance of at most `error`, exactly, whatever the symmetric distribution:
    W counts the Walsh averages above the centre, so the (k+1)-th smallest average exceeds the centre only
    if W ≥ N − k, and P(W ≥ N − k) = P(W ≤ k). (Same source, section 3.3.)
    """
    k = int(np.searchsorted(signed_rank_tail(n), error, side="right")) - 1
    if k < 0:
        return None
    return Bounds(low=float(walsh[k]), high=float(walsh[-1 - k]))


def smallest_sample(error: float) -> int:
    """Return the fewest values with which the signed-rank test can reach `error`: P(W = 0) = 2⁻ⁿ."""
    return math.ceil(-math.log2(error))


def student_quantile(probability: float, freedom: float) -> float:
    """Return Student's t quantile; infinite without degrees of freedom, the normal one with infinitely many."""
    from scipy.special import stdtrit  # scipy.stats would take seconds to import

    if math.isinf(freedom):
        return normal_quantile(probability)
    return float(stdtrit(freedom, probability)) if freedom else math.inf


def median_interval(values: Floats, confidence: float = 0.95) -> Bounds:
    """Return order statistics that enclose the median with at least this confidence, or the extremes if none do.

    The number of values below the median is binomial with probability 1/2, whatever the distribution.
    """
    ordered = np.sort(values)
    n = len(ordered)
    below, tail = 0, 0.5**n
    while tail * 2 <= 1 - confidence and below < n // 2:
        below += 1
        tail += math.comb(n, below) * 0.5**n
    first = max(0, below - 1)
    return Bounds(float(ordered[first]), float(ordered[n - 1 - first]))


def rate_bound(hits: int, trials: int, confidence: float = 0.95) -> float:
    """Return the exact one-sided upper bound of a rate, given `hits` in `trials`; 1 where all trials were hits.

    At that rate, so few hits or fewer have a chance of 1 − confidence (Clopper & Pearson 1934, The use of confidence or
    fiducial limits illustrated in the case of the binomial). It is about 3 / trials where there was no hit.
    """
    from scipy.special import betaincinv

    return float(betaincinv(hits + 1, trials - hits, confidence)) if hits < trials else 1.0
