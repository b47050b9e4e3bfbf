"""Holds what every phase of one backend's share of a campaign goes by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neverslower.campaign.budget import Budget, Clock
from neverslower.campaign.findings import Findings
from neverslower.campaign.forecast import Tell, untold
from neverslower.campaign.guard import Guard
from neverslower.campaign.library import Library
from neverslower.campaign.progress import Phase, Progress
from neverslower.campaign.resume import Recorded
from neverslower.campaign.settings import Settings
from neverslower.judge.joint import Pooling
from neverslower.judge.verdict import Judge, Thresholds
from neverslower.problem.compared import Compared

Choose = Callable[[Library, Sequence[Compared]], Sequence[Compared]]
"""Returns what to measure of all that was examined, by what a library has shown so far; more after each pass."""


@dataclass(frozen=True)
class BackendRun:
    """One backend's share of a campaign: the library under test, and the other one that it is measured beside, if any.

    `regressed` returns what looks slower than in a stored baseline, and waits for a fresh process to show it again.

    `family` is how many comparisons the whole campaign judges, among which the chance of a false red is divided.
    `judge` judges each comparison by itself, `pooling` all of them at once, where there are layers enough. Where
    there is a `choose`, only what it returns is measured.
    """

    name: str
    settings: Settings
    thresholds: Thresholds
    judge: Judge
    family: int
    clock: Clock
    progress: Progress
    recorded: Recorded
    guard: Guard
    findings: Findings
    budget: Budget
    library: Library
    other: Library | None
    pooling: Pooling | None = None
    tell: Tell = untold
    choose: Choose | None = None
    regressed: Callable[[], Sequence[Compared]] = tuple

    def libraries(self, number: int = 0) -> list[Library]:
        """Return those that pass `number` measures, in its order: old and new, then new and old."""
        if self.other is None or self.other.lost:
            return [self.library]
        return [self.library, self.other] if number % 2 else [self.other, self.library]

    def same_work(self, comparison: Compared) -> bool:
        """Return whether both libraries run the same kernels from equal code for both problems of a comparison."""
        if self.other is None:
            return False
        pairs = zip(self.library.seen(comparison), self.other.seen(comparison), strict=True)
        return all(new and old and new.plan.same_work(old.plan) for new, old in pairs)

    @property
    def takes_turns(self) -> bool:
        """Return whether two libraries are measured, and a process of each may wait while the other's works."""
        # Threads beyond the first one spin for a while after a call.
        libraries = self.libraries()
        return len(libraries) > 1 and all("waits" in one.offers and one.spec.threads == 1 for one in libraries)

    @property
    def begins_all(self) -> bool:
        """Return whether everything is begun in the order given, as far as half of the time lasts."""
        return self.budget.deadline is None or self.settings.whole

    @property
    def start(self) -> float:
        """Return the seconds until another process is ready, of each library; none where one was started ahead."""
        return self.start_after(0)

    def start_after(self, passes: int) -> float:
        """Return the seconds until the process is ready that follows on so many more of each library."""
        return self.budget.first_start * sum(library.holder.ahead <= passes for library in self.libraries())

    def next_start(self, begun: Sequence[Compared]) -> float:
        """Return the seconds until the process of the next pass of these is ready.

        None until something is judged, because a run that judged nothing has nothing to lose; and none where an earlier
        run has measured all of the next pass.
        """
        waiting = ((library, one) for library in self.libraries() for one in library.waiting(begun))
        judged = any(map(self.findings.has, begun))
        return self.start if judged and not all(library.known(one) for library, one in waiting) else 0.0

    def unplanned_start(self, begun: Sequence[Compared]) -> float:
        """Return the seconds until that process is ready, beyond what is planned for each."""
        planned = self.budget.start_seconds * len(self.libraries())
        return max(0.0, self.next_start(begun) - planned)

    def spent(self, planned: float = 0.0) -> bool:
        """Return whether the time would end before so many more seconds of measuring."""
        return self.budget.spent(planned)

    def phase(self, later: float = 0.0) -> Phase:
        """Begin a phase now, after which so many seconds will be left to do."""
        return Phase(self.name, self.clock, self.progress, later)
