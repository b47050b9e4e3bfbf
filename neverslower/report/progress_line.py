"""Show the steps of long work: on a terminal one line that changes, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from neverslower.campaign.forecast import Forecast
from neverslower.report import words


class ProgressLine:
    """Shows the campaign's steps through pytest's terminal reporter, which may be None."""

    def __init__(self, reporter: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._reporter = reporter
        self._clock, self._last, self._phase = clock, -1e9, ""
        self._live = bool(reporter and reporter.isatty)

    def __call__(self, phase: str, done: int, total: int, seconds_left: float | None) -> None:
        """Show a step, not more often than is useful."""
        if self._reporter is None or self._reporter.verbosity < 0:
            return
        every = 0.2 if self._live else 20.0
        if self._clock() - self._last < every and not (self._live and phase != self._phase):
            return
        self._last, self._phase = self._clock(), phase
        left = f", {words.duration(seconds_left)} left" if seconds_left and seconds_left >= 1 else ""
        text = f"{phase} {done}/{total}{left}"
        if self._live:
            self._reporter.rewrite(text, erase=True)
        else:
            self._reporter.ensure_newline()
            self._reporter.write_line(text)

    def foresee(self, backend: str, forecast: Forecast) -> None:
        """Show for good, and at once, that a machine is too noisy for its budget."""
        if self._reporter is not None and self._reporter.verbosity >= 0:
            self._reporter.write_line(f"\n{words.too_noisy(backend, forecast)}")

    def end(self) -> None:
        """Leave the line."""
        if self._live:
            self._reporter.rewrite("", erase=True)
