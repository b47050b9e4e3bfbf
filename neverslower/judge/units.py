"""Units of so many neighbouring blocks that they are about independent: what the sequential judge counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from neverslower.judge.stats import Floats
from neverslower.judge.verdict import block_log_ratios

LAG_CORRELATION = 0.1
"""Neighbouring units that correlate by less, either way, count as independent."""
LONGEST_BLOCK = 8
"""The most blocks that are taken for one unit."""


def units_of(seconds: np.ndarray, length: int) -> Floats:
    """Return the log ratios of units of `length` blocks, without the rest at the end, from PairedPass.seconds."""
    ratios = block_log_ratios(seconds)
    whole = len(ratios) // length * length
    return np.asarray(ratios[:whole].reshape(-1, length).mean(axis=1))


def block_length(pools: Sequence[np.ndarray], longest: int = LONGEST_BLOCK) -> int:
    """Return how many blocks make a unit so that neighbouring units are about independent.

    Each pool is seconds of shape (blocks, 2, 2). The correlation of neighbours is Pearson's of the units' clipped
    deviations from their pool's median, averaged over pools that count alike; that of n independent values is −1/n on
    average, which is corrected. An odd length keeps the alternation that the mirrored order leaves: lengths beyond 1
    are even.
    """
    length = 1
    for length in (1, *range(2, longest + 1, 2)):
        lags = [lag for seconds in pools if (lag := _neighbours_correlate(units_of(seconds, length))) is not None]
        if not lags:
            break
        # One standard error more is allowed: with few pools the mean would rarely be small enough by itself.
        spread = float(np.std(lags)) / math.sqrt(len(lags))
        if abs(float(np.mean(lags))) <= LAG_CORRELATION + spread and _even(lags):
            break
    return length


def _even(lags: Sequence[float]) -> bool:
    """Return whether strong correlation is rare among pools: a mean near 0 may hide pools that alternate."""
    return float(np.mean(np.abs(lags) > 0.6)) <= 0.05


def _neighbours_correlate(units: Floats) -> float | None:
    """Return the lag-1 correlation, clipped at three deviations; None for too few units, or units without noise."""
    n = len(units)
    away = units - np.median(units) if n else units
    spread = 1.4826 * float(np.median(np.abs(away))) if n else 0.0
    if n < 8 or spread == 0:
        return None
    away = np.clip(away / spread, -3, 3)
    away -= away.mean()
    return float(away[1:] @ away[:-1] / (away @ away)) + 1 / n
