"""Turn samples and intervals into the few numbers that an account keeps of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from neverslower.evidence.observation import PairedPass
from neverslower.judge.verdict import Interval, block_log_ratios
from neverslower.page.account import Five, Ratio, Sampled

DIGITS = 5
"""Significant digits that are kept: far finer than any interval, and a fifth of the bytes."""


def rounded(value: float) -> float:
    """Return a number with as many digits as an account keeps. Raises ValueError for what is no finite number."""
    if not np.isfinite(value):
        raise ValueError(f"{value} is no number")
    return float(f"{value:.{DIGITS}g}")


def _sound(pass_: PairedPass) -> bool:
    """Return whether there are samples, and each is a positive number of seconds; others are judged INVALID."""
    return bool(len(pass_.seconds)) and bool(np.all(np.isfinite(pass_.seconds)) and np.all(pass_.seconds > 0))


def ratio_of(interval: Interval | None) -> Ratio | None:
    """Return an interval as an account has it."""
    return (rounded(interval.estimate), rounded(interval.low), rounded(interval.high)) if interval else None


def five(values: NDArray[np.float64]) -> Five:
    """Return the five numbers of an array."""
    return tuple(rounded(value) for value in np.quantile(values, (0, 0.25, 0.5, 0.75, 1)))


def sampled(passes: Sequence[PairedPass], processes: Processes) -> tuple[Sampled, ...]:
    """Return what each process measured of one comparison."""
    return tuple(_one(pass_, processes.number(pass_.started, place)) for place, pass_ in enumerate(passes))


def _one(pass_: PairedPass, number: int) -> Sampled:
    if not _sound(pass_):
        return Sampled(number, len(pass_.seconds), discarded=pass_.discarded)
    ratio = np.exp(block_log_ratios(pass_.seconds))
    return Sampled(
        number, len(pass_.seconds), five(pass_.reference), five(pass_.candidate), five(ratio), pass_.discarded
    )


def medians(passes: Iterable[PairedPass]) -> tuple[float | None, float | None]:
    """Return the median seconds per call of the reference and of the candidate, over all rounds; None without any."""
    kept = [pass_ for pass_ in passes if _sound(pass_)]
    if not kept:
        return None, None
    sides = ([pass_.reference for pass_ in kept], [pass_.candidate for pass_ in kept])
    reference, candidate = (rounded(float(np.median(np.concatenate(side)))) for side in sides)
    return reference, candidate


class Processes:
    """Numbers the processes of a source, in the order in which they are first asked for."""

    def __init__(self) -> None:
        self._numbers: dict[float, int] = {}
        self._unnamed = 0

    def number(self, started: float | None, position: int) -> int:
        """Return the number of the process that began to load then; where that is not known, its place among others."""
        if started is None:
            self._unnamed = max(self._unnamed, position + 1)
            return position
        return self._numbers.setdefault(started, len(self._numbers))

    def __len__(self) -> int:
        return max(len(self._numbers), self._unnamed)
