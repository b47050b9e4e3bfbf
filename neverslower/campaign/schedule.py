"""Decides what the time is spent on: what is begun, and what the next pass measures.

Without a deadline that is everything, in every pass until it is decided. With one, what costs little comes before what
costs much, and of what costs the same the most telling. Nothing is begun for which the time would not last, and what is
saved because others are decided early goes to what was left out so far.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from neverslower.campaign.budget import FEWEST_PASSES, PREPARING_AGAIN, Room, Work, out_of_time
from neverslower.campaign.context import BackendRun
from neverslower.campaign.findings import Identity
from neverslower.campaign.forecast import Forecast
from neverslower.campaign.judging import SAME_WORK, so_far
from neverslower.campaign.preparing import Wait, examine, examined_together, subjects
from neverslower.evidence.observation import Examined
from neverslower.judge.verdict import STANDARD, Code, Verdict
from neverslower.problem.compared import Compared

T = TypeVar("T")
LESS_TELLING = 0.02
"""By which share of its cost a comparison counts as dearer for each rank that it is less telling."""
LOOKING = 0.25
"""The share of the time that may go into finding out what layers cost, before any is chosen."""
RESERVE = 2
"""So many passes more than are planned are kept for each that was begun, before others are."""
MOST_OF_THEM = 2 / 3
"""The share of comparisons that must be decided within the passes that are planned."""
PATIENCE = 2
"""After so many times the planned passes what is not decided yet comes after what was never begun."""


ANSWERED = 0.01
"""A pass that takes less than this share of what was expected was in the journal of an earlier run."""
LONG = 0.1
"""The share of comparisons of which is expected that no number of passes decides them."""


class Schedule:
    """Spends one backend's time on its comparisons; `begun` are those that were examined and can be measured."""

    def __init__(self, run: BackendRun, comparisons: Sequence[Compared]) -> None:
        self._run, self._budget = run, run.budget
        self._left_out = {comparison.identity: comparison for comparison in comparisons}
        self._places = {comparison.identity: place for place, comparison in enumerate(comparisons)}
        self._subjects = len(subjects(comparisons))
        self._arms = Counter(comparison.keys[0] for comparison in comparisons)
        self._examining, self._scale = 0.0, 1.0
        self._usual = 0, 0.0
        self._planned = run.budget.planned_passes
        self._so_far: dict[Identity, Verdict] = {}
        self._phase = run.phase()
        self.begun: list[Compared] = []

    # What is begun

    def begin(self, compiled: Wait) -> None:
        """Examine all, or as much as there will be time to measure, each once it is `compiled`."""
        if self._run.begins_all:
            kept = self._budget.half(self._run.clock())
            for group in examined_together(self._run, list(self._left_out.values())):
                compiled(subjects(group))
                if self._run.spent(kept):
                    break
                self._begin_together(group)
        else:
            self._look_into_each_layer()
            self.fill()

    def _look_into_each_layer(self) -> None:
        """Examine unpruned layers, those of which most is told first: that says what their comparisons will cost."""
        until = self._run.clock() + LOOKING * self._budget.left
        ordered = sorted(self._left_out.values(), key=lambda one: (one.telling, one.reference.macs))
        for reference in dict.fromkeys(comparison.keys[0] for comparison in ordered):
            if self._run.clock() < until:
                self._timed(partial(self._run.library.examiner.examine, reference))
        if self._run.other:
            self._look_with_both(until)

    def _look_with_both(self, until: float) -> None:
        """Examine with two libraries what there is time for, to know where both run equal code: that can wait."""
        for group in examined_together(self._run, sorted(self._left_out.values(), key=self._dearness)):
            if self._run.clock() >= until:
                return
            keys = subjects(comparison for comparison in group if not comparison.whole)
            for library in self._run.libraries():
                self._timed(partial(library.examiner.examine_together, keys))

    def fill(self) -> None:
        """Begin more, the cheapest first, while the time will last for it besides what is begun."""
        if self._budget.deadline is None or not self._left_out:
            return
        _, room = self._choose(RESERVE)
        for group in examined_together(self._run, sorted(self._left_out.values(), key=self._worth)):
            self._begin_together([one for one in group if room.take(self._work(one), self._examining_of(one))])
        # Fewer passes than are usual may do, and there is nothing to lose.
        if self._left_out and not (self.begun or self._run.spent()):
            self._begin(min(self._left_out.values(), key=self._worth))

    def _begin_together(self, group: Sequence[Compared]) -> None:
        """Begin some whose problems are asked for in one request; a whole network is asked for by itself."""
        keys = subjects(comparison for comparison in group if not comparison.whole)
        for library in self._run.libraries():
            self._timed(partial(library.examiner.examine_together, keys))
        for comparison in group:
            self._begin(comparison)

    def _begin(self, comparison: Compared) -> None:
        del self._left_out[comparison.identity]
        if self._timed(partial(examine, self._run, comparison)):
            self.begun.append(comparison)

    def _timed(self, examines: Callable[[], T]) -> T:
        begin = self._run.clock()
        answer = examines()
        self._phase.show("prepare", len(self._run.library.examiner.examined), self._subjects)
        self._examining += self._run.clock() - begin
        return answer

    def leave_out(self) -> None:
        """Say of what was never begun that the time did not last; what both libraries examined is kept of both."""
        for comparison in self._left_out.values():
            last = SAME_WORK if self._run.same_work(comparison) else ""
            self._run.library.fail(comparison, out_of_time("measured", last=last))
            other = self._run.other
            if other and not other.lost and all(other.seen(comparison)):
                other.fail(comparison, out_of_time("measured"))

    # What is measured

    def next(self) -> list[Compared]:
        """Return what the next pass measures; nothing where all is decided, or the time lasts for nothing more.

        In the order given, whatever is urgent: what a seed draws from it must not depend on what things cost.
        """
        chosen = self._waiting if self._budget.deadline is None else self._choose()[0]
        return sorted(chosen, key=lambda comparison: self._places[comparison.identity])

    @property
    def _waiting(self) -> list[Compared]:
        return self._run.library.waiting(self.begun)

    def _choose(self, reserve: int = 0) -> tuple[list[Compared], Room]:
        """Return what there is time for, the most urgent first, and the time that is left besides.

        So many passes are held in `reserve` for each.
        """
        waiting = sorted(self._waiting, key=self._urgency)
        room = Room(self._budget.left - self._run.unplanned_start(self.begun), self._start)
        chosen: list[Compared] = []
        # Where there is no time for the usual number of passes, fewer may do: they decide what is clear.
        for usual in range(self._planned + reserve, min(FEWEST_PASSES, self._planned) - 1, -1):
            taken = [room.take(self._work(comparison, usual)) for comparison in waiting]
            chosen += [comparison for comparison, fits in zip(waiting, taken, strict=True) if fits]
            waiting = [comparison for comparison, fits in zip(waiting, taken, strict=True) if not fits]
        return chosen, room

    def _urgency(self, comparison: Compared) -> tuple[int, int, float]:
        """Return a key by which what may soonest be decided sorts first."""
        taken, so_far = self._taken(comparison), self._so_far.get(comparison.identity)
        if not taken and self._run.same_work(comparison):  # Two libraries: there is nothing to time first.
            return 4, 0, self._dearness(comparison)
        if so_far and so_far.code is Code.SLOWER:
            return 0, 0, self._dearness(comparison)
        late = taken >= PATIENCE * self._planned
        return (3, taken, 0.0) if late else (1 if taken else 2, 0, self._dearness(comparison))

    def learn(self, seconds: float, measured: Sequence[Compared], starts: int) -> None:
        """Take in what a pass of these comparisons took, with so many starts of processes, and what it decided."""
        expected = self.a_pass_of(measured)
        if seconds > ANSWERED * expected > 0:
            self._scale *= max(0.1 * seconds, seconds - starts * self._budget.start_seconds) / expected
        if self._budget.deadline is not None:
            self._so_far = {one.identity: so_far(self._run, one) for one in self._waiting if self._taken(one)}
            self._planned = self._passes_it_takes()

    def _passes_it_takes(self) -> int:
        """Return how many passes a comparison takes, about: at first what is usual, then what it took so far."""
        planned, findings = self._budget.planned_passes, self._run.findings
        decided = [self._taken(one) for one in self.begun if findings.has(one)]
        waiting = [self._taken(one) for one in self.begun if not findings.has(one)]
        longest = max(waiting, default=0)
        for passes in range(planned, longest + 1):
            within = sum(taken <= passes for taken in decided)
            beyond = len(decided) - within + sum(taken >= passes for taken in waiting)
            if within >= MOST_OF_THEM * (within + beyond):
                return passes
        return max(planned, longest + 1)

    # What is left to do

    def forecast(self, passes: int) -> Forecast:
        """Return what is to be expected after so many passes, by what they showed."""
        mdes = sorted(verdict.mde for verdict in self._so_far.values() if verdict.mde is not None)
        return Forecast(
            passes,
            undecided=len(self._waiting),
            begun=len(self.begun),
            mde=mdes[len(mdes) // 2] if mdes else None,
            lost=sum(map(_lost_in_noise, self._so_far.values())),
            seconds_for_all=self.seconds_for_all(),
            seconds_left=min(self._budget.left, self.seconds_for_all()),
        )

    def later(self, measured: Sequence[Compared]) -> float:
        """Return the seconds that will be left to do after one more pass of these, about."""
        return max(0.0, min(self._budget.left, self.seconds_for_all()) - self.a_pass_of(measured))

    def a_pass_of(self, measured: Sequence[Compared]) -> float:
        """Return the seconds that a pass of these takes, about, without the start of its process."""
        works = [self._work(comparison) for comparison in measured]
        return sum(work.seconds for work in works) + sum({work.layer: work.shared for work in works}.values())

    def seconds_for_all(self) -> float:
        """Return the seconds until all is decided or given up, about, whatever the budget."""
        most = self._run.judge.most_passes
        shared: dict[str, float] = {}
        seconds, longest = 0.0, 0
        for comparison in (*self._waiting, *self._left_out.values()):
            work, taken = self._work(comparison), self._taken(comparison)
            late = LONG * max(0, most - taken - work.passes)
            lost = _lost_in_noise(self._so_far.get(comparison.identity))
            passes = most - taken if lost else work.passes + late
            seconds += passes * work.seconds + self._examining_of(comparison)
            shared[work.layer] = max(shared.get(work.layer, 0.0), passes * work.shared)
            longest = max(longest, most - taken)
        return seconds + sum(shared.values()) + longest * self._start

    # What it costs

    def _work(self, comparison: Compared, usual: int | None = None) -> Work:
        passes = max(1, (usual or self._planned) - self._taken(comparison))
        reference, candidate = comparison.keys
        own, shared = self._a_pass(candidate, reference), self._a_pass(reference)
        if self._run.takes_turns:  # Then the reference is timed anew beside each candidate.
            own, shared = own + shared, 0.0
        return Work(reference, own, shared, passes)

    @property
    def _start(self) -> float:
        return self._budget.start_seconds * len(self._run.libraries())

    def _taken(self, comparison: Compared) -> int:
        return len(self._run.library.samples.get(comparison.identity, ()))

    def _dearness(self, comparison: Compared) -> float:
        """Return the seconds that it will take to decide a comparison, weighed by how little it tells.

        A whole network costs more than any layer, and is what the user asked about: it comes first all the same.
        """
        if comparison.whole:
            return 0.0
        work = self._work(comparison)
        measuring = work.passes * (work.seconds + work.shared / self._arms[work.layer])
        return (self._examining_each + measuring) * (1 + LESS_TELLING * comparison.telling)

    def _worth(self, comparison: Compared) -> tuple[bool, float]:
        """Return a key by which what is to be begun first sorts first: the cheap, before what runs equal code."""
        return self._run.same_work(comparison), self._dearness(comparison)

    def _examining_of(self, comparison: Compared) -> float:
        """Return the seconds that examining takes of what was not examined yet, about."""
        examined = self._run.library.examiner.examined
        return self._examining_each * sum(key not in examined for key in comparison.keys)

    @property
    def _examining_each(self) -> float:
        return self._examining / max(1, sum(len(library.examiner.examined) for library in self._run.libraries()))

    def _a_pass(self, *keys: str) -> float:
        """Return the seconds that a pass of a subject takes, about: of the first of these that was examined."""
        run = self._run
        warm_up = run.settings.blocks if run.takes_turns else 2  # Rounds; in turns, a round before each of them.
        found = (run.library.examiner.found(key) for key in keys)
        call = next((examined.seconds_per_call for examined in found if examined), None)
        # A call that is shorter than a round is repeated in it, and a round lasts a little longer than it must.
        each = self._usual_call if call is None else call
        rounds = (2 * run.settings.blocks + warm_up) * max(1.2 * run.library.shortest_round, each)
        return len(run.libraries()) * self._scale * (rounds + PREPARING_AGAIN * self._examining_each)

    @property
    def _usual_call(self) -> float:
        """Return the mean seconds of a call of what was examined."""
        examined = self._run.library.examiner.examined
        if len(examined) != self._usual[0]:  # Of thousands of problems the mean is not taken anew for each.
            calls = [one.seconds_per_call for one in examined.values() if isinstance(one, Examined)]
            self._usual = len(examined), sum(calls) / len(calls) if calls else 0.0
        return self._usual[1]


def _lost_in_noise(so_far: Verdict | None) -> bool:
    """Return whether noise hides a ratio: it lies nearer to 1 than what can be proved, and the target does too."""
    if so_far is None or so_far.mde is None or so_far.mde <= STANDARD.target:
        return False
    return so_far.ratio is None or abs(math.log(so_far.ratio.estimate)) < so_far.mde
