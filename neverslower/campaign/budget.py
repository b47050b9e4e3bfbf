"""Plans by the time that is left: what may still be begun, what it will cost, and for how much the time lasts.

Nothing here measures or writes: it is arithmetic on a clock that the caller brings. All times are in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from neverslower.judge.failure import Failure
from neverslower.judge.verdict import Code, Reason, ReasonCode

Clock = Callable[[], float]
USUAL_PASSES, FEWEST_PASSES = 3, 2
"""Passes that are planned for, unless the judge needs more; and those without which nothing is decided."""
PREPARING_AGAIN = 0.3
"""What it takes to prepare a problem again, of what it took to examine it: no output is checked, nothing profiled."""
OUTPUTS_SHARE, OUTPUTS_SECONDS = 0.1, 3.0
"""What comparing outputs may take of the time that is left, and what it may take in any case."""


def share(total: float | None, spent: float, mine: int, waiting: int) -> float | None:
    """Return what the next backend gets: of what is left, as much as its share of the verdicts that wait."""
    return None if total is None else (total - spent) * mine / waiting


CAME_LAST = "; it came last, for "
"""What precedes the reason why something that the budget left out came last."""


def out_of_time(what: str, budget: str = "time budget", last: str = "") -> Failure:
    """Return why something that was not `what` (measured, checked …) is undecided; `last` says why it came last."""
    text = f"the {budget} ended before this was {what}{f'{CAME_LAST}{last}' if last else ''}"
    return Failure(Code.UNDECIDED, Reason(ReasonCode.TIME_BUDGET, text))


@dataclass
class Budget:
    """The time of one backend, until `deadline` on `clock`; None for as long as it takes.

    A comparison gets `fewest` passes at the least and takes `usual` ones, and `most` are those after which the judge
    wants no more. Each pass is a process of its own, whose start takes `start_seconds`, which the first one shows;
    0 where processes load ahead. `first_start` is what the first one took, so what one takes that nobody loaded ahead.
    """

    clock: Clock
    deadline: float | None
    fewest: int
    most: int
    start_seconds: float = 0.0
    first_start: float = 0.0
    usual: int = USUAL_PASSES

    @property
    def planned_passes(self) -> int:
        """Return how many passes a comparison takes, about."""
        return max(self.fewest, min(self.usual, self.most))

    @property
    def left(self) -> float:
        """Return the seconds until the deadline, infinite without one, at least 0."""
        return math.inf if self.deadline is None else max(0.0, self.deadline - self.clock())

    def extend(self, seconds: float) -> None:
        """Give back what was spent on something that this budget does not pay for."""
        if self.deadline is not None:
            self.deadline += seconds

    def raise_fewest(self, passes: int) -> None:
        """Ask for more passes of every comparison; never for fewer than before."""
        self.fewest = max(self.fewest, passes)

    def half(self, now: float) -> float:
        """Return half of what is left; 0 where the time has no end, and nothing needs to be kept."""
        return 0.0 if self.deadline is None else (self.deadline - now) / 2

    def until_outputs(self, now: float) -> float | None:
        """Return the moment until which outputs may be compared, None for as long as it takes."""
        if self.deadline is None:
            return None
        return now + max(OUTPUTS_SECONDS, OUTPUTS_SHARE * (self.deadline - now))

    def spent(self, planned: float = 0.0) -> bool:
        """Return whether the time would end before `planned` more seconds of measuring."""
        return self.deadline is not None and self.clock() + planned > self.deadline


@dataclass(frozen=True)
class Work:
    """What is left to do of a comparison: so many passes, of so many seconds each.

    `shared` are the seconds that a pass of its layer's reference takes, once for all comparisons of the layer.
    """

    layer: str
    seconds: float
    shared: float
    passes: int


class Room:
    """The seconds that are left, from which works are paid; each pass of any takes `start` besides."""

    def __init__(self, seconds: float, start: float) -> None:
        self.seconds = seconds
        self._start = start
        self._passes: dict[str, int] = {}

    def take(self, work: Work, besides: float = 0.0) -> bool:
        """Pay for a work, and so many seconds besides, if there is time for all of it; return whether there was."""
        begun = self._passes.get(work.layer, 0)
        most = max(self._passes.values(), default=0)
        cost = besides + work.passes * work.seconds + max(0, work.passes - begun) * work.shared
        cost += max(0, work.passes - most) * self._start
        if cost > self.seconds:
            return False
        self.seconds -= cost
        self._passes[work.layer] = max(begun, work.passes)
        return True
