"""Shows the steps of long work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Told after each step: the phase, steps done and in all, and the seconds that the phase may still take."""

    def __call__(self, phase: str, done: int, total: int, seconds_left: float | None) -> None:
        """Show the step."""
        ...


def silent(phase: str, done: int, total: int, seconds_left: float | None) -> None:
    """Show no progress."""


class Phase:
    """Times a phase that begins now, and shows its steps under the name of what is measured.

    `later` are the seconds that what follows will take.
    """

    def __init__(self, name: str, clock: Callable[[], float], show: Progress, later: float = 0.0) -> None:
        self._name, self._clock, self._show, self._later = name, clock, show, later
        self.begin = clock()

    def show(self, step: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps are done, and how long the others and what follows may take."""
        elapsed = self._clock() - self.begin
        left = elapsed / done * (total - done) + self._later if done else None
        self._show(f"{self._name}: {step}", done, total, left)
