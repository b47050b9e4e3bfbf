"""Functions of arrays: robust centres and spreads, quantiles, and exact bounds of a median and of a rate."""

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


@lru_cache(maxsize=4096)
def student_quantile(probability: float, freedom: float) -> float:
    """Return Student's t quantile; infinite without degrees of freedom, the normal one with infinitely many.

    It is slow, and the comparisons of a run ask for the same ones.
    """
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
