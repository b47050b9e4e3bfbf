"""Say what values that are alike reach by chance, by their ranks alone; pooled.py derives it and names its sources."""

from __future__ import annotations

import math
from functools import lru_cache


def chance(n: int, agreeing: int, reached: float, others: int) -> float:
    """Return the chance that so many of n values reach what at most `reached` of `others` like them reach.

    All orders of the n + `others` values have the same chance. Those where exactly j of the n lie above the first
    `reached` + 1 others number C(reached + j, j) · C(others − reached − 1 + n − j, n − j), of C(others + n, n) in all.
    """
    if reached >= others:
        return 1.0
    counts = (
        _log_choose(reached + j, j) + _log_choose(others - reached - 1 + n - j, n - j) for j in range(agreeing, n + 1)
    )
    return min(1.0, sum(math.exp(count - _log_choose(others + n, n)) for count in counts))


@lru_cache(maxsize=4096)
def order(n: int, agreeing: int, others: int, error: float) -> tuple[int, float]:
    """Return which of the others' values, from 0 for the largest, must be exceeded, and by what factor."""
    first = chance(n, agreeing, 0, others)
    if first > error:
        return 0, (first / error) ** (1 / agreeing)
    low, high = 0, others
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if chance(n, agreeing, middle, others) <= error else (low, middle)
    return low, 1.0


@lru_cache(maxsize=4096)
def share_of_values(n: int, agreeing: int, others: int, error: float) -> tuple[float, float]:
    """Return how many of the others, as a fraction too, may reach the gap, and the factor beyond the largest."""
    place, factor = order(n, agreeing, others, error)
    if factor > 1:
        return 0.0, factor
    low, high = float(place), float(min(place + 1, others))
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if chance(n, agreeing, middle, others) <= error else (low, middle)
    return low, 1.0


def _log_choose(of: float, out: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(out + 1) - math.lgamma(of - out + 1)
