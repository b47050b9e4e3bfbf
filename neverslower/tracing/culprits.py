"""Plans which pairs of releases to measure, and finds for every case the releases that brought its regressions.

Releases are numbered in order, 0 is the good one and the last the bad one. A step measures some cases with two releases
side by side, so it says whether the newer one is a regression for each. The first step sets the bad release against
the good one; what got worse there is traced. Then, of each case by itself but in steps that cases share:

1. Between a good release and a bad one that follows it, the middle one is measured against the good release 0. What
   stays undecided is measured for longer (`efforts`), and after that a neighbour is asked instead: nothing is guessed.
2. When the two are next to each other, the releases after the bad one are measured too. Without that, a regression
   that was fixed and came back would be put down to the release that brought it first, which no longer counts.
3. The two releases of each culprit are set side by side themselves, unless step 1 did that, and this is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from neverslower.enums import StrEnum
from neverslower.judge.verdict import Interval, beyond

EFFORTS = 2
"""So often a step is tried on what stays undecided: as asked, then for longer."""


class State(StrEnum):
    """What the newer of two releases is for a case: no regression, a regression, or nothing that could be decided."""

    GOOD = "good"
    BAD = "bad"
    OPEN = "open"


@dataclass(frozen=True)
class Seen:
    """What a step showed of one case: its finding in words with the reason, the ratio new / old, what changed.

    It is `final` where measuring longer would show nothing else, as where a release can't be installed. `also` is a
    second finding that is a regression too: a layer can be slower and less exact. `untimed` says why the time is
    undecided of what is a regression anyway.
    """

    state: State
    finding: str
    reason: str
    ratio: Interval | None = None
    what: str = ""
    final: bool = False
    also: str = ""
    untimed: str = ""

    @property
    def kinds(self) -> set[str]:
        """Return the findings that are regressions."""
        return {self.finding, self.also} - {""} if self.state is State.BAD else set()


@dataclass(frozen=True)
class Step:
    """One campaign: these cases with two releases side by side; `effort` counts the tries from 0."""

    old: int
    new: int
    effort: int
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Culprit:
    """One regression of one case: the last release without it, the first with it, and what both side by side showed.

    `between` are releases between the two that could not be decided, or that were not asked. `further` says that the
    case was a regression before, and got worse; `kinds` are the findings that the last good release did not have.
    """

    case: str
    last_good: int
    first_bad: int
    between: tuple[int, ...]
    seen: Seen
    further: bool = False
    kinds: tuple[str, ...] = ()

    @property
    def shown(self) -> bool:
        """Return whether both releases side by side show it; many small steps need not."""
        return self.seen.state is State.BAD


@dataclass
class Trace:
    """What is known of every case, by the steps so far; `follow` asks the releases after a culprit too."""

    releases: int
    cases: Sequence[str]
    follow: bool = True
    efforts: int = EFFORTS
    _known: dict[tuple[int, int, str], Seen] = field(default_factory=dict)
    _tries: Counter[tuple[int, int, str]] = field(default_factory=Counter)

    @property
    def last(self) -> int:
        """Return the number of the bad release."""
        return self.releases - 1

    def learn(self, step: Step, seen: Mapping[str, Seen]) -> None:
        """Take in what a step showed; a case that it is silent about stays open."""
        silent = Seen(State.OPEN, "not measured", "the step did not come to it")
        for case in step.cases:
            pair = step.old, step.new, case
            self._known[pair] = seen.get(case, silent)
            self._tries[pair] = max(self._tries[pair], step.effort + 1)

    # What to measure

    def next(self) -> Step | None:
        """Return the step that most cases wait for, None where nothing is left to ask."""
        for wanted in (self._of_the_ends, self._of_the_middle, self._of_the_releases_after, self._of_the_culprits):
            asked: dict[tuple[int, int, int], list[str]] = {}
            for old, new, case in wanted():
                asked.setdefault((old, new, self._tries[old, new, case]), []).append(case)
            if asked:
                (old, new, effort), cases = max(asked.items(), key=lambda item: len(item[1]))
                return Step(old, new, effort, tuple(cases))
        return None

    def _asks(self, old: int, new: int, case: str) -> bool:
        """Return whether a pair of releases can still say more of a case."""
        seen, tries = self._known.get((old, new, case)), self._tries[old, new, case]
        if seen is None:
            return True
        undecided = seen.state is State.OPEN or bool(seen.untimed)
        return undecided and not seen.final and tries < self.efforts

    def _of_the_ends(self) -> Iterator[tuple[int, int, str]]:
        return ((0, self.last, case) for case in self.cases if self._asks(0, self.last, case))

    def _of_the_middle(self) -> Iterator[tuple[int, int, str]]:
        """Yield what halves the way between a good release and the bad one after it, for each case.

        A release that one case waits for is asked for every other case that waits for it or will need it later, so
        that no release is set against the good one twice.
        """
        gaps = {case: [gap for gap in self._gaps(case) if gap] for case in self.traced}
        chosen = {_middle(gap, self._tried(case)) for case in gaps for gap in gaps[case]}
        for case, ranges in gaps.items():
            wanted = {release for gap in ranges for release in gap} | set(self._after(case))
            for release in sorted(chosen & wanted):
                yield 0, release, case

    def _tried(self, case: str) -> set[int]:
        return {new for old, new, other in self._tries if old == 0 and other == case and self._tries[old, new, other]}

    def _gaps(self, case: str) -> Iterator[list[int]]:
        """Yield the releases that can still be asked, between each good release and the bad one that follows it."""
        for good, bad in _falls(self.decided(case)):
            yield [release for release in range(good + 1, bad) if self._asks(0, release, case)]

    def _of_the_releases_after(self) -> Iterator[tuple[int, int, str]]:
        return ((0, new, case) for case in self.traced for new in self._after(case))

    def _after(self, case: str) -> list[int]:
        """Return the releases after the first bad one that is known so far, as far as they are followed and open."""
        first = min(release for release, seen in self.decided(case).items() if seen.state is State.BAD)
        return [new for new in range(first + 1, self.last) if self.follow and self._asks(0, new, case)]

    def _of_the_culprits(self) -> Iterator[tuple[int, int, str]]:
        for case in self.traced:
            for good, bad, _ in self._pairs(case):
                if self._asks(good, bad, case):
                    yield good, bad, case

    # What it showed

    @property
    def traced(self) -> list[str]:
        """Return the cases for which the bad release is a regression."""
        return self._that_are(State.BAD)

    @property
    def undecided(self) -> list[str]:
        """Return the cases of which nobody knows whether the bad release is a regression."""
        return self._that_are(State.OPEN)

    def _that_are(self, state: State) -> list[str]:
        ends = {case: self._known.get((0, self.last, case)) for case in self.cases}
        return [case for case, seen in ends.items() if seen and seen.state is state]

    def at_the_ends(self, case: str) -> Seen:
        """Return what the bad release against the good one showed of a case."""
        return self._known[0, self.last, case]

    def against_the_good(self, release: int, case: str) -> Seen | None:
        """Return what a release against the good one showed of a case, None where that was not asked."""
        return self._known.get((0, release, case))

    def decided(self, case: str) -> dict[int, Seen]:
        """Return what is decided of a case against release 0, by release, in order."""
        found = {0: Seen(State.GOOD, "the good release", "")}
        for release in range(1, self.releases):
            seen = self._known.get((0, release, case))
            if seen and seen.state is not State.OPEN:
                found[release] = seen
        return found

    def _pairs(self, case: str) -> Iterator[tuple[int, int, bool]]:
        """Yield (last good release, first bad one, whether it got worse only) of each regression of a case."""
        decided = self.decided(case)
        falls = set(_falls(decided))
        numbers = list(decided)
        for earlier, later in pairwise(numbers):
            if (earlier, later) in falls:
                yield earlier, later, False
            elif decided[later].state is State.BAD and _worse(decided[later], decided[earlier]):
                yield earlier, later, True

    def culprits(self) -> list[Culprit]:
        """Return every regression of every traced case, in the order of the cases and then of the releases."""
        return [self._culprit(case, *pair) for case in self.traced for pair in self._pairs(case)]

    def _culprit(self, case: str, good: int, bad: int, further: bool) -> Culprit:
        decided = self.decided(case)
        kinds = tuple(sorted(decided[bad].kinds - decided[good].kinds))
        between = tuple(range(good + 1, bad))
        return Culprit(case, good, bad, between, self._known.get((good, bad, case), _NOT_ASKED), further, kinds)

    def unasked(self, case: str) -> list[int]:
        """Return the releases after the first culprit of a case that were not measured, and so may have fixed it."""
        return [release for release in self._after_the_first(case) if (0, release, case) not in self._known]

    def open_after(self, case: str) -> list[int]:
        """Return the releases after the first culprit of a case that stay undecided, and so may have fixed it.

        One right after a good release is not among them: it may be the first bad one, which `between` says.
        """
        falls = _falls(self.decided(case))
        after_good = {release for good, bad in falls for release in range(good + 1, bad)}
        seen = {release: self._known.get((0, release, case)) for release in self._after_the_first(case)}
        undecided = (release for release, known in seen.items() if known and known.state is State.OPEN)
        return [release for release in undecided if release not in after_good]

    def _after_the_first(self, case: str) -> range:
        first = min((bad for _, bad, _ in self._pairs(case)), default=self.last)
        return range(first + 1, self.last)

    def unshown(self, case: str) -> list[str]:
        """Return what the bad release is worse in, and no culprit that was shown side by side has."""
        shown = (culprit.seen.kinds for culprit in self.culprits() if culprit.case == case)
        return sorted(self.at_the_ends(case).kinds.difference(*shown))

    def clear_steps(self) -> int:
        """Return how many steps there can be at most when each is decided at the first try."""
        between = self.releases - 2
        return 1 + 2 * between

    def most_steps(self) -> int:
        """Return how many steps there can be at most, whatever they show.

        Each pair of releases is measured once in each effort: the good release with every other one, and what could be
        a culprit of a case, of which there are fewer than releases.
        """
        between = self.releases - 2
        pairs = min(between * (between + 1) // 2, len(self.cases) * between)
        return self.efforts * (1 + between + pairs)

    def steps_left(self) -> int:
        """Return how many steps are left at most when each is decided the next time that it is measured."""
        if any(self._of_the_ends()):
            return self.clear_steps()
        gaps = {release for case in self.traced for gap in self._gaps(case) for release in gap}
        if waiting := gaps | {pair[1] for pair in self._of_the_releases_after()}:
            return len(waiting) + self.releases - 2
        return len({pair[:2] for pair in self._of_the_culprits()})


_NOT_ASKED = Seen(State.OPEN, "not measured", "the trace ended before both were set side by side")


def _falls(decided: Mapping[int, Seen]) -> list[tuple[int, int]]:
    """Return each pair of a good release and the bad one that is decided next."""
    numbers = list(decided)
    return [
        (earlier, later)
        for earlier, later in pairwise(numbers)
        if decided[earlier].state is State.GOOD and decided[later].state is State.BAD
    ]


def _middle(gap: Sequence[int], tried: set[int]) -> int:
    """Return the release to ask: one that was tried and stays undecided, for longer; else the one in the middle."""
    waiting = [release for release in gap if release in tried]
    middle = (gap[0] + gap[-1]) / 2
    return min(waiting or gap, key=lambda release: (abs(release - middle), release))


def _worse(later: Seen, earlier: Seen) -> bool:
    """Return whether a regression got larger, or is one of another kind as well."""
    return bool(later.kinds - earlier.kinds) or beyond(later.ratio, earlier.ratio)
