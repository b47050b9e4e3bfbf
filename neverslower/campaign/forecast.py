"""Says early what is to be expected of a run: how long it will take, and what this machine's noise lets it prove."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Forecast:
    """What is to be expected after so many `passes`.

    Of the comparisons `begun` so many are `undecided`, and the noise of so many of these hides whether they are slower
    (`lost`). `mde` is the median of the smallest slowdowns that can be proved of them, as a fraction. The measuring
    will end after `seconds_left`; without a budget it would after `seconds_for_all`.
    """

    passes: int
    undecided: int
    begun: int
    mde: float | None
    lost: int
    seconds_for_all: float
    seconds_left: float

    @property
    def too_noisy(self) -> bool:
        """Return whether noise, more than anything else, keeps this run from being done in its budget."""
        return self.seconds_for_all > self.seconds_left and 2 * self.lost > self.begun


Tell = Callable[[str, Forecast], None]
"""Is told early of a backend whose machine is too noisy for its budget."""


def untold(backend: str, forecast: Forecast) -> None:
    """Tell nobody."""
