"""Plans by the time that is left: what may still be begun, what it will cost, and for how much the time lasts.

Nothing here measures or writes: it is arithmetic on a clock that the caller brings. All times are in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from neverslower.judge.failure import Failure
from neverslower.judge.verdict import Code, Reason, ReasonCode

Clock = Callable[[], float]
USUAL_PASSES = 3
"""Passes that are planned for at the least: fewer decide nothing. What more there must be, a first pass has shown."""
PREPARING_AGAIN = 0.3
"""What it takes to prepare a problem again, of what it took to examine it: no output is checked, nothing profiled."""
OUTPUTS_SHARE, OUTPUTS_SECONDS = 0.1, 3.0
"""What comparing outputs may take of the time that is left, and what it may take in any case."""


def share(total: float | None, spent: float, mine: int, waiting: int) -> float | None:
    """Return what the next backend gets: of what is left, as much as its share of the verdicts that wait."""
    return None if total is None else (total - spent) * mine / waiting


def out_of_time(what: str, budget: str = "time budget") -> Failure:
    """Return why something that was not `what` (measured, checked …) is undecided."""
    return Failure(Code.UNDECIDED, Reason(ReasonCode.TIME_BUDGET, f"the {budget} ended before this was {what}"))


@dataclass
class Budget:
    """The time of one backend, until `deadline` on `clock`; None for as long as it takes.

    A comparison gets `fewest` passes at the least, and `most` are those after which the judge wants no more. Each pass
    is a process of its own, whose start takes `start_seconds`, which the first one shows.
    """

    clock: Clock
    deadline: float | None
    fewest: int
    most: int
    start_seconds: float = 0.0

    @property
    def planned_passes(self) -> int:
        """Return how many passes a comparison takes, about."""
        return max(self.fewest, min(USUAL_PASSES, self.most))

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

    def spent(self, planned: float, libraries: int) -> bool:
        """Return whether the time would end before `planned` more seconds of measuring.

        Of each of so many `libraries` all passes are still to be started; 0 where starts need not be counted.
        """
        if self.deadline is None:
            return False
        return self.clock() + planned + self.planned_passes * libraries * self.start_seconds > self.deadline

    def cost(self, rounds: Iterable[float], examining: float, libraries: int) -> float:
        """Return the seconds that all passes of a comparison will take, about.

        `rounds` are the seconds that those of a pass take, `examining` those that a subject took to be examined.
        """
        return libraries * self.planned_passes * (sum(rounds) + PREPARING_AGAIN * examining)

    def lasts_for(self, now: float, each: float, passes_done: int, libraries: int) -> int | None:
        """Return for how many comparisons the time lasts, at `each` seconds a pass; None for all of them."""
        if self.deadline is None:
            return None
        passes_left = max(1, self.planned_passes - passes_done)
        reserve = self.start_seconds * passes_left * libraries
        return max(0, int((self.deadline - now - reserve) / max(1e-9, each * passes_left)))
