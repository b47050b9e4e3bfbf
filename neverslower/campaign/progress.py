"""Showing the steps of long work."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told after each step: the phase, steps done and in all, and the seconds that the phase may still take."""

    def __call__(self, phase: str, done: int, total: int, seconds_left: float | None) -> None:
        """Show the step."""
        ...


def silent(phase: str, done: int, total: int, seconds_left: float | None) -> None:
    """Show no progress."""
