"""The signed-rank interval of a centre of symmetry, by the exact distribution of Wilcoxon's statistic."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from neverslower.judge.stats import Bounds, Floats


@lru_cache(maxsize=256)
def tail(n: int) -> Floats:
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


def interval(walsh: Floats, n: int, error: float) -> Bounds | None:
    """Return bounds of the centre of symmetry of n values with these sorted Walsh averages, or None if n is too small.

    Each bound alone is wrong with a chance of at most `error`, exactly, whatever the symmetric distribution:
    W counts the Walsh averages above the centre, so the (k+1)-th smallest average exceeds the centre only
    if W ≥ N − k, and P(W ≥ N − k) = P(W ≤ k). (Same source, section 3.3.)
    """
    k = int(np.searchsorted(tail(n), error, side="right")) - 1
    if k < 0:
        return None
    return Bounds(low=float(walsh[k]), high=float(walsh[-1 - k]))


def smallest_sample(error: float) -> int:
    """Return the fewest values with which the signed-rank test can reach `error`: P(W = 0) = 2⁻ⁿ."""
    return math.ceil(-math.log2(error))
