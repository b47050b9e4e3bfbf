"""The campaign: select, prepare, measure, judge, confirm; every step is written to the journal as it ends.

A comparison can't be judged alone: error control needs them all, and confirmation needs time between. So test items
declare what they compare, the campaign measures it, and the items look their results up.

It goes in passes, each in a fresh process, and after each the judge says of which comparisons it has seen enough.
Beside another library (`against`), every pass is a pair of processes, old and new by turns, and what the old one shows
is kept apart: it is the baseline that the new one is set against.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

from neverslower.campaign.explaining import Explainer
from neverslower.campaign.findings import Agreement, Findings, Identity, Result
from neverslower.campaign.guard import Guard
from neverslower.campaign.library import Library
from neverslower.campaign.progress import Progress, silent
from neverslower.campaign.resume import Recorded
from neverslower.campaign.settings import Settings
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import (
    DeviceBusy,
    JournalError,
    NeverSlowerError,
    Unavailable,
    WorkerFailure,
)
from neverslower.evidence.observation import Examined, PairedPass, Searched
from neverslower.files.journal import BEFORE, Journal
from neverslower.judge.change import PassSpread, in_pairs, pairs_needed
from neverslower.judge.exact import judge_pruned
from neverslower.judge.failure import of_failure
from neverslower.judge.sequential import CONFIRMING
from neverslower.judge.verdict import STANDARD, Code, Judge, Reason, ReasonCode, Thresholds, Verdict
from neverslower.problem.comparison import Comparison
from neverslower.problem.subject import Search
from neverslower.worker.process import StartWorker, WorkerSpec

TRIAL_LIMIT, TRIALS_AT_LEAST = 60.0, 15
"""Seconds that a search may take for each of its trials, and for how many at the least."""
USUAL_PASSES = 4
"""Passes after which most comparisons are decided, when time is planned: SAME takes about 3, SLOWER about 6."""
CONFIRMATION_RESERVE = 1.3
"""How much longer a campaign takes for confirming what is slower, when time is planned."""
PREPARING_AGAIN = 0.3
"""What it takes to prepare a problem again, of what it took to examine it: no output is checked, nothing profiled."""
BLOCKS_A_TURN = 2
"""Two libraries that are timed side by side take turns after so many blocks: the fewest that are mirrored."""
TRIES = 3
"""So often a pass in turns is begun, where processes of the other library die by accident."""
FEWEST_PAIRS = 3
"""Pairs of processes that must have been seen before the number that is needed is planned."""


class Reviewer(Protocol):
    """What knows the baselines: told of each device before anything is measured, asked what looks like a regression."""

    def identified(self, fingerprint: Fingerprint) -> None:
        """A backend's device and software are known; may raise NeverSlowerError, and nothing is measured."""

    def beside(self, backend: str, before: Findings) -> None:
        """Another library was measured beside a backend, and that is what it showed."""

    def regressed(self, backend: str) -> list[Comparison]:
        """Comparisons that look slower than in the baseline and are to be measured again in a fresh process."""


class NoBaselines:
    """Reviews nothing."""

    def identified(self, fingerprint: Fingerprint) -> None:
        """Nothing to do."""

    def beside(self, backend: str, before: Findings) -> None:
        """Nothing to do."""

    def regressed(self, backend: str) -> list[Comparison]:
        """None."""
        return []


class Campaign:
    """Measures comparisons on backends, one backend after another, one worker process a pass."""

    def __init__(
        self,
        specs: Mapping[str, WorkerSpec],
        settings: Settings,
        journal: Journal | None = None,
        judge: Judge | None = None,
        progress: Progress = silent,
        reviewer: Reviewer | None = None,
        recorded: Recorded | None = None,
        clock: Callable[[], float] = time.monotonic,
        refuse_unsound: bool = False,
        against: Mapping[str, WorkerSpec] | None = None,
        thresholds: Thresholds = STANDARD,
        start: StartWorker | None = None,
    ) -> None:
        self.start = start
        self.against, self.thresholds = against or {}, thresholds
        self.specs, self.settings, self.progress, self.clock = specs, settings, progress, clock
        self.judge: Judge = settings.judge(thresholds) if judge is None else judge
        self.reviewer: Reviewer = reviewer or NoBaselines()
        self.recorded = recorded or Recorded()
        self._how = asdict(settings) | {"against": ", ".join({one.execnet for one in self.against.values()})}
        self.recorded.require_settings(self._how)
        self.recorded.drop_doubtful()
        self.recorded.drop_half_pairs()
        self.findings, self.before = Findings(), Findings()
        self.guard = Guard(self.findings, self.write, refuse_unsound, clock)
        self._journal = journal
        self.family = 1

    def run(self, comparisons: Iterable[Comparison], agreements: Iterable[Comparison] = ()) -> Findings:
        """Measure and judge every comparison, and check every agreement."""
        begin = self.clock()
        timed = {one.identity: one for one in comparisons}
        checked = {one.identity: one for one in agreements}
        self.family = len(timed)
        error = self.thresholds.family_error
        asked = {"comparisons": len(timed), "agreements": len(checked), "family_error": error}
        self.write("campaign", self._how | asked)
        waiting = len(timed) + len(checked)
        self.findings.wanted = Counter(one.backend for one in (*timed.values(), *checked.values()))
        try:
            for name, spec in self.specs.items():
                mine = [one for one in timed.values() if one.backend == name]
                its_checks = [one for one in checked.values() if one.backend == name]
                if mine or its_checks:
                    budget = self._share(begin, len(mine) + len(its_checks), waiting)
                    _BackendRun(self, spec, name, budget).run(mine, its_checks)
                    waiting -= len(mine) + len(its_checks)
        except KeyboardInterrupt:
            self.findings.ended = "interrupted"
            raise
        except NeverSlowerError as error:
            self.findings.ended = "journal not writable" if isinstance(error, JournalError) else "run ended by an error"
            raise
        finally:
            self.findings.seconds = self.clock() - begin
            self.write("end", {"seconds": round(self.findings.seconds, 3)})
        return self.findings

    def _share(self, begin: float, mine: int, waiting: int) -> float | None:
        """Seconds for the next backend: of what is left, as much as its share of what waits; tuning is paid apart."""
        if self.settings.time_budget is None:
            return None
        spent = self.clock() - begin - self.findings.tuning_seconds
        return (self.settings.time_budget - spent) * mine / waiting

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        """One line for the journal, if there is one."""
        if self._journal:
            self._journal.write(event, fields)


class _BackendRun:
    """One backend's share of a campaign."""

    def __init__(self, campaign: Campaign, spec: WorkerSpec, name: str, budget: float | None) -> None:
        self.campaign, self.name = campaign, name
        self.findings, self.settings = campaign.findings, campaign.settings
        self.side = Library(name, spec, campaign.findings, campaign.recorded, campaign.write, start=campaign.start)
        self.other = _other_side(campaign, name)
        self.least = max(self.settings.passes, FEWEST_PAIRS) if self.other else self.settings.passes
        self.left_out: set[Identity] = set()
        self.begin = self.begin_phase = campaign.clock()
        self.deadline = None if budget is None else self.begin + budget
        self.start_seconds = 0.0
        self.begun = False

    def run(self, comparisons: Sequence[Comparison], agreements: Sequence[Comparison]) -> None:
        """The whole share: every comparison and agreement gets its one verdict, and no worker is left behind."""
        try:
            self._start()
            if self.side.evidence.exact:
                for side in self._sides():
                    self._look(side, comparisons)
                self._compared()
                self._check_agreements(agreements)
                return
            waiting = self._tune(sorted(comparisons, key=lambda one: one.telling))
            self._compile(waiting)
            chosen = self._prepare(waiting)
            self._measure(chosen)
            self._confirm(self._judge(chosen))
            self._compared()
            self._recheck(self.campaign.reviewer.regressed(self.name))
            self._check_agreements(agreements)
            self._explain(comparisons)
            self.campaign.guard.look(self.name, self.side.worker, "after")
        except WorkerFailure as error:
            busy = isinstance(error, DeviceBusy)
            if busy:
                self.findings.refused.add(self.name)
            if busy or (isinstance(error, Unavailable) and not self.begun):
                self.findings.unavailable[self.name] = str(error)
                self.side.write("unavailable", {"reason": str(error)})
            else:
                self._give_up(comparisons, agreements, of_failure(error))
                self._compared()
        finally:
            for side in self._sides():
                side.close()

    def _start(self) -> None:
        """The first worker tells what the device is: take it for this run, and choose what to compare with."""
        begin = self.campaign.clock()
        worker = self.side.start()
        self.start_seconds = self.campaign.clock() - begin
        if worker.remarks:
            self.findings.remarks[self.name] = worker.remarks
        self.campaign.reviewer.identified(worker.fingerprint)
        self.campaign.recorded.require_state(self.name, self.campaign.guard.begin(self.name, worker))
        if self.other:
            self._start_beside(self.other)
        self.begun = True

    def _start_beside(self, other: Library) -> None:
        """The other library's first worker. Raises Unavailable where it can't be set beside this one."""
        try:
            found = other.start(lock=False).fingerprint
        except WorkerFailure as error:
            raise Unavailable(f"--against {other.spec.execnet}: {error}") from None
        if obstacles := self.side.fingerprint.obstacles(found):
            text = f"--against {other.spec.execnet}: it measures something else: {'; '.join(obstacles)}"
            raise Unavailable(text)
        turns = BLOCKS_A_TURN if self._takes_turns else 0
        self.campaign.recorded.require_turns(self.name, turns)
        self.side.write("beside", {"turns": turns})

    def _sides(self, number: int = 0) -> list[Library]:
        """The sides in the order in which pass `number` measures them: old and new, then new and old."""
        if self.other is None or self.other.lost:
            return [self.side]
        return [self.side, self.other] if number % 2 else [self.other, self.side]

    def _compared(self) -> None:
        """Tell what the other library showed, once all of it is judged."""
        if self.name in self.campaign.against:
            self.campaign.reviewer.beside(self.name, self.campaign.before)

    def _give_up(self, comparisons: Sequence[Comparison], agreements: Sequence[Comparison], why: Verdict) -> None:
        """No worker starts here any more: that is the verdict of all that have none yet."""
        for comparison in self.side.waiting(comparisons):
            self.side.finish(comparison, why)
        for comparison in agreements:
            if comparison.identity not in self.findings.agreements:
                self._agree(comparison, Agreement(why))

    # Exact evidence

    def _look(self, side: Library, comparisons: Sequence[Comparison]) -> None:
        """Examine every problem once, as many beside each other as the backend allows, and judge at once."""
        ordered = sorted(comparisons, key=lambda one: one.telling)
        keys = _keys(ordered)
        self.begin_phase = self.campaign.clock()
        try:
            side.examine_beside(keys, lambda done: self._progress("look", done, len(keys)), self._spent)
        finally:
            for comparison in ordered:
                if verdict := self._exact_verdict(side, comparison):
                    side.finish(comparison, verdict)
        for comparison in side.waiting(ordered):
            side.finish(comparison, _out_of_time("looked at"))

    @staticmethod
    def _exact_verdict(side: Library, comparison: Comparison) -> Verdict | None:
        """The verdict, None where one of both was not looked at yet."""
        seen = [side.examined.get(key) for key in comparison.keys]
        for one in seen:
            if isinstance(one, Verdict):
                return one
        reference, candidate = seen
        if isinstance(reference, Examined) and isinstance(candidate, Examined):
            return judge_pruned(side.evidence, reference, candidate)
        return None

    # Prepare

    def _tune(self, comparisons: Sequence[Comparison]) -> list[Comparison]:
        """Make the searches that comparisons rest on, each once; what can be measured then comes back."""
        needed: dict[Search, None] = {}
        for comparison in comparisons:
            needed |= dict.fromkeys(log.search for log in comparison.tuned_logs)
        if not needed:
            return list(comparisons)
        begin = self.begin_phase = self.campaign.clock()
        failed: dict[Search, Verdict] = {}
        for done, search in enumerate(needed):
            if isinstance(found := self._searched(search, begin), Verdict):
                failed[search] = found
            self._progress("tune", done + 1, len(needed))
        self.side.fresh_worker()  # What a search leaves in its process must not lie beside what is timed.
        spent = self.campaign.clock() - begin
        self.findings.tuning_seconds += spent
        self.deadline = None if self.deadline is None else self.deadline + spent
        return self._without_failed_searches(comparisons, failed)

    def _searched(self, search: Search, begin: float) -> Searched | Verdict:
        """What a search found, within what is left of the time for tuning."""
        limit = left = TRIAL_LIMIT * max(TRIALS_AT_LEAST, search.trials)
        if self.settings.tuning_budget is not None:
            left = min(limit, begin + self.settings.tuning_budget - self.campaign.clock())
        if left <= 0:
            return _out_of_time("tuned", "tuning budget")
        found: Searched | Verdict = self.side.ask(lambda worker: worker.tune(search, left))
        if isinstance(found, Verdict) and found.reason.code is ReasonCode.TIME_LIMIT and left < limit:
            found = _out_of_time("tuned", "tuning budget")
        self.side.write("tuned", {"search": str(search)} | asdict(found))
        if isinstance(found, Searched):
            self.findings.searches[search] = found
        return found

    def _without_failed_searches(
        self, comparisons: Sequence[Comparison], failed: Mapping[Search, Verdict]
    ) -> list[Comparison]:
        """The comparisons whose searches were all made; the others get the verdict of the first that was not."""
        chosen = []
        for comparison in comparisons:
            why = next((failed[log.search] for log in comparison.tuned_logs if log.search in failed), None)
            if why:
                self.side.finish(comparison, why)
            else:
                chosen.append(comparison)
        return chosen

    def _compile(self, comparisons: Sequence[Comparison]) -> None:
        self.begin_phase = self.campaign.clock()
        # Half of the time is for measuring what was compiled; the rest is compiled as far as it is prepared.
        left = 0.0 if self.deadline is None else (self.deadline - self.begin_phase) / 2
        keys = _keys(comparisons)
        for side in self._sides():
            side.compile(keys, lambda done, total: self._progress("compile", done, total), lambda: self._spent(left))

    def _prepare(self, comparisons: Sequence[Comparison]) -> list[Comparison]:
        """Examine problems in the order given, as far as the time budget goes; what can be measured comes back."""
        chosen = []
        planned = 0.0
        self.begin = self.begin_phase = self.campaign.clock()
        keys = _keys(comparisons)
        for comparison in comparisons:
            if self._spent(planned):
                self.side.finish(comparison, _out_of_time("measured"))
                continue
            found = [self.side.examine(key) for key in comparison.keys]
            self._progress("prepare", len(self.side.examined), len(keys))
            if self.other:
                self._examine_beside(self.other, comparison)
            if failed := next((one for one in found if isinstance(one, Verdict)), None):
                self.side.finish(comparison, failed)
                self._only_there(comparison)
                continue
            chosen.append(comparison)
            planned += self._cost(found)
        return chosen

    def _only_there(self, comparison: Comparison) -> None:
        """The other library can do what this one can't: nothing is timed, and it is known that it could."""
        reason = Reason(ReasonCode.LIBRARY_REFUSES, "only this library can do it, so it was not timed")
        if self.other and self.other.waiting([comparison]):
            self.other.finish(comparison, Verdict(Code.UNDECIDED, reason))

    @staticmethod
    def _examine_beside(other: Library, comparison: Comparison) -> None:
        """What the other library finds; where it can't do it, there is nothing to set this one's time against."""
        found = [other.examine(key) for key in comparison.keys]
        if failed := next((one for one in found if isinstance(one, Verdict)), None):
            other.finish(comparison, failed)

    def _cost(self, found: Sequence[Examined | Verdict]) -> float:
        """Seconds that all passes of a comparison will take, about: rounds, preparing again, confirmation."""
        seconds = sum(max(1.5e-3, one.seconds_per_call) for one in found if isinstance(one, Examined))
        warm_up = self.settings.blocks if self._takes_turns else 2
        rounds = 2 * self.settings.blocks + warm_up
        examined = sum(len(side.examined) for side in self._sides())
        preparing = PREPARING_AGAIN * (self.campaign.clock() - self.begin) / max(1, examined)
        return len(self._sides()) * self._planned_passes * (rounds * seconds + preparing) * CONFIRMATION_RESERVE

    @property
    def _planned_passes(self) -> int:
        """How many passes a comparison takes, about."""
        return max(self.least, min(USUAL_PASSES, self.campaign.judge.most_passes))

    def _spent(self, planned: float = 0.0) -> bool:
        """Whether the time budget would end before so many more seconds of measuring, and the workers' starts."""
        if self.deadline is None:
            return False
        passes = self._planned_passes * len(self._sides())
        starts = passes * self.start_seconds if planned or not self.side.samples else 0.0
        return self.campaign.clock() + planned + starts > self.deadline

    # Measure

    def _measure(self, chosen: Sequence[Comparison]) -> None:
        """Pass after pass, of what the judge has not seen enough of yet."""
        most = max(self.least, self.campaign.judge.most_passes)
        for number in range(most):
            waiting = self._undecided(chosen)
            if not waiting or self._spent():
                break
            self.begin_phase = self.campaign.clock()
            if self._takes_turns:
                self._measure_pair(waiting, number)
            else:
                for side in self._sides(number):
                    self._measure_pass(side, waiting, number)
            self._drop_what_time_does_not_last_for(chosen, number)
            if number + 1 == max(self.settings.passes, FEWEST_PAIRS):
                self._plan_pairs()
        if self.other:
            self.other.close_worker()

    @property
    def _takes_turns(self) -> bool:
        """Whether two libraries are measured, and a process of each may wait while the other's works."""
        # Threads beyond the first one spin for a while after a call.
        return len(self._sides()) > 1 and all("waits" in one.offers and one.spec.threads == 1 for one in self._sides())

    def _plan_pairs(self) -> None:
        """Say how many pairs of processes are needed, now that some have shown how far they scatter."""
        if self.other is None or self.other.lost:
            return
        before, now = self.other.samples, self.side.samples
        levels: dict[object, list[float]] = {
            identity: in_pairs(before[identity], passes) for identity, passes in now.items() if identity in before
        }
        spread = PassSpread.of(levels)
        if not spread.common.freedom:
            return
        most = self.campaign.judge.most_passes
        self.least = max(self.least, pairs_needed(spread, len(levels), most, self.campaign.thresholds))
        together, alone = (math.expm1(math.sqrt(one.value)) for one in (spread.common, spread.prior))
        scatter = f"differences scatter by {together:.1%} together, {alone:.1%} each"
        self.findings.pairs[self.name] = f"{self.least} pairs of processes, whose {scatter}"
        self.side.write("planned", {"pairs": self.least, "together": spread.common.value, "each": spread.prior.value})

    def _undecided(self, chosen: Sequence[Comparison]) -> list[Comparison]:
        """What is to be measured again."""
        return [one for one in self.side.waiting(chosen) if one.identity not in self.left_out and not self._enough(one)]

    def _enough(self, comparison: Comparison) -> bool:
        """Whether a comparison was measured as often as it must be, and the judge wants no more."""
        passes = self.side.samples.get(comparison.identity, ())
        judge, family = self.campaign.judge, self.campaign.family
        # The study of tuned logs sets intervals against each other, which must have both their bounds.
        least = max(self.least, judge.fewest_passes(family) if comparison.studied else 1)
        return len(passes) >= least and judge.enough(passes, family)

    def _measure_pass(self, side: Library, waiting: Sequence[Comparison], number: int) -> None:
        """A few blocks of each, layer by layer, in a fresh process; in every other one the candidates come first."""
        recorded = side.recorded.passes
        waiting = side.waiting(waiting)
        if number or self.other or "profiles" in side.offers:
            for one in self._sides():
                one.close_worker()  # Whoever else has a process on the device is no company for what is timed.
            side.renew(all((one.identity, number) in recorded for one in waiting))
        done = 0
        for group in shuffled(waiting, f"{self.settings.seed}/{self.name}/{number}"):
            if self._spent():
                return
            if number % 2:
                self._prepare_ahead(side, group, number)
            for comparison in side.waiting(group):
                if side.lost:
                    return
                known = side.recorded.passes.get((comparison.identity, number))
                found = known or side.measure(comparison, self.settings.blocks, candidate_first=number % 2 == 1)
                self._keep(side, comparison, number, found, known is None)
                done += 1
                self._progress(f"measure, pass {number + 1}{side.label and f' {side.label}'}", done, len(waiting))
        self.campaign.guard.look(self.name, side.worker, "between")

    def _measure_pair(self, waiting: Sequence[Comparison], number: int) -> None:
        """A pass of either library in turns of a few blocks: what the machine does meanwhile, it does to both."""
        for side in self._sides(number):
            recorded = side.recorded.passes
            side.renew(all((one.identity, number) in recorded for one in side.waiting(waiting)))
        done = 0
        for group in shuffled(waiting, f"{self.settings.seed}/{self.name}/{number}"):
            if self._spent():
                return
            for side in self._sides(number) if number % 2 else ():
                self._prepare_ahead(side, side.waiting(group), number)
            for comparison in self.side.waiting(group):
                self._measure_both(comparison, number)
                done += 1
                self._progress(f"measure, pair {number + 1}", done, len(waiting))
        self.campaign.guard.look(self.name, self.side.worker, "between")

    def _measure_both(self, comparison: Comparison, number: int) -> None:
        """One comparison's pass of either library; of this one alone where the other can't do it."""
        sides = [one for one in self._sides(number) if one.waiting([comparison])]
        known = {one: found for one in sides if (found := one.recorded.passes.get((comparison.identity, number)))}
        whole = len(known) == len(sides)
        taken = known if whole else self._turns(sides, comparison, self.settings.blocks, number)
        for side, one in taken.items():
            self._keep(side, comparison, number, one, not whole)
        if self.side not in taken and self.side.waiting([comparison]):
            self._measure_both(comparison, number)  # The other library failed, and is asked no more.

    def _turns(
        self, sides: Sequence[Library], comparison: Comparison, blocks: int, number: int
    ) -> Mapping[Library, PairedPass | Verdict]:
        """So many blocks of each library, mirrored; where one fails, its failure alone."""
        for _ in range(TRIES):
            taken, processes = self._taken_by_turns(sides, comparison, blocks, number)
            if len(processes) <= len(sides):
                break  # Else one was replaced amid it, and a pass is that of one process.
        return taken

    @staticmethod
    def _taken_by_turns(
        sides: Sequence[Library], comparison: Comparison, blocks: int, number: int
    ) -> tuple[Mapping[Library, PairedPass | Verdict], set[tuple[Library, int]]]:
        """What was taken, and the processes that took it; who is alone takes all in one turn."""
        taken: dict[Library, list[PairedPass]] = {side: [] for side in sides}
        processes: set[tuple[Library, int]] = set()
        each = BLOCKS_A_TURN if len(sides) > 1 else blocks
        for turn, begin in enumerate(range(0, blocks, each)):
            for side in sides if turn % 2 == 0 else sides[::-1]:
                found = side.measure(comparison, min(each, blocks - begin), number % 2 == 1)
                if isinstance(found, Verdict):
                    return {side: found}, set()
                taken[side].append(found)
                processes.add((side, side.started))
        return {side: PairedPass.joined(found) for side, found in taken.items()}, processes

    @staticmethod
    def _prepare_ahead(side: Library, group: Sequence[Comparison], number: int) -> None:
        """Prepare a layer's candidates before the layer, so that it need not be prepared again for each."""
        recorded = side.recorded.passes
        for one in group:
            if (one.identity, number) not in recorded and not one.against_itself:
                why = side.prepare(one)
                if why and not side.lost:
                    side.finish(one, why)

    def _keep(self, side: Library, comparison: Comparison, number: int, found: PairedPass | Verdict, new: bool) -> None:
        """Keep what a pass of one side gave, in the journal too if it is new."""
        if isinstance(found, Verdict):
            if not side.lost:  # What was measured before it was lost is judged.
                side.finish(comparison, found)
            return
        side.samples.setdefault(comparison.identity, []).append(found)
        if new:
            side.write_samples("measured", comparison, number, found)
            self.campaign.guard.measured(comparison, side.worker)

    def _drop_what_time_does_not_last_for(self, chosen: Sequence[Comparison], number: int) -> None:
        """Leave out the least telling, now that a pass has shown what it costs: half-measured ones prove nothing.

        What is proved slower by now is to be confirmed, and time is kept for that.
        """
        waiting = self._undecided(chosen)
        if self.deadline is None or not waiting:
            return
        now = self.campaign.clock()
        measured = sum(len(self.side.samples.get(one.identity, ())) > number for one in chosen)
        each = (now - self.begin_phase) / max(1, measured)
        passes_left = max(1, self._planned_passes - number - 1)
        starts = passes_left * len(self._sides()) + 1
        reserve = self.start_seconds * starts + each * CONFIRMING * self._suspected(chosen)
        lasts_for = int((self.deadline - now - reserve) / max(1e-9, each * passes_left))
        self.left_out |= {one.identity for one in waiting[max(0, lasts_for) :]}

    def _suspected(self, chosen: Sequence[Comparison]) -> int:
        """How many look slower so far."""
        samples = self.side.samples
        passes = [samples[one.identity] for one in self.side.waiting(chosen) if one.identity in samples]
        return sum(self._judged(one).code is Code.SLOWER for one in passes)

    # Judge and confirm

    def _judged(self, passes: Sequence[PairedPass]) -> Verdict:
        return self.campaign.judge(passes, self.campaign.family)

    def _judge(self, comparisons: Sequence[Comparison]) -> list[tuple[Comparison, Verdict]]:
        """Finish what is judged now, and return what looks SLOWER and is still to be confirmed."""
        suspects = []
        for comparison in self.side.waiting(comparisons):
            passes = self.side.samples.get(comparison.identity)
            verdict = self._judged(passes) if passes else _out_of_time("measured")
            if verdict.code is Code.UNDECIDED and not self._enough(comparison):
                verdict = replace(verdict, reason=_budget_ended("measured enough"))
            if verdict.code is Code.SLOWER:
                suspects.append((comparison, verdict))
                self.side.write("suspect", comparison.named | asdict(verdict))
            else:
                self.side.finish(comparison, verdict)
        if self.other:
            for comparison in self.other.waiting(comparisons):
                passes = self.other.samples.get(comparison.identity)
                why_none = self.other.lost or _why_unpaired(self.findings.results.get(comparison.identity))
                self.other.finish(comparison, self._judged(passes) if passes else why_none)
        return suspects

    def _confirm(self, suspects: list[tuple[Comparison, Verdict]]) -> None:
        """Measure each suspect again, in a fresh process; unless it shows again it is no red."""
        if not suspects:
            return
        recorded = self.campaign.recorded.confirmations
        self.side.renew(all(one.identity in recorded for one, _ in suspects))
        self.begin_phase = self.campaign.clock()
        first = dict(suspects)
        for done, comparison in enumerate(_flat(shuffled(list(first), f"{self.settings.seed}/{self.name}/confirm"))):
            verdict = first[comparison]
            if self._spent():
                unconfirmed = replace(verdict, code=Code.UNDECIDED, reason=_budget_ended("confirmed"))
                self.side.finish(comparison, unconfirmed, first=verdict)
                continue
            known = recorded.get(comparison.identity)
            passes = self.side.samples[comparison.identity]
            found = known or self.side.measure(comparison, CONFIRMING * self.settings.blocks, len(passes) % 2 == 1)
            if isinstance(found, PairedPass):
                if not known:
                    self.side.write_samples("confirmed", comparison, self.side.started - 1, found)
                again = self.campaign.judge.confirmed(passes, found, self.campaign.family)
                self.side.finish(comparison, again, verdict, found)
            else:
                self.side.finish(comparison, found, verdict)
            self._progress("confirm", done + 1, len(suspects))

    def _recheck(self, comparisons: Sequence[Comparison]) -> None:
        """Measure each apparent regression again, in a fresh process, or in another pair of them."""
        if not comparisons:
            return
        groups = [self._sides()] if self._takes_turns else [[side] for side in self._sides()]
        for sides in groups:
            for side in self._sides():
                side.close_worker()
            for side in sides:
                side.renew()
            self._recheck_on(sides, comparisons)
        if self.other:
            self.other.close_worker()

    def _recheck_on(self, sides: Sequence[Library], comparisons: Sequence[Comparison]) -> None:
        """Once more by these sides, by turns if they are two."""
        self.begin_phase = self.campaign.clock()
        for done, comparison in enumerate(comparisons):
            if self._spent():
                break
            known = {one: found for one in sides if (found := one.recorded.rechecks.get(comparison.identity))}
            whole = len(known) == len(sides)
            blocks = CONFIRMING * self.settings.blocks
            taken = known if whole else self._turns(sides, comparison, blocks, 0)
            for side, one in taken.items():
                side.findings.rechecks[comparison.identity] = one
                if not whole:
                    side.write_samples("rechecked", comparison, side.started - 1, one)
            self._progress("recheck", done + 1, len(comparisons))

    # Agreements

    def _check_agreements(self, comparisons: Sequence[Comparison]) -> None:
        self.begin_phase = self.campaign.clock()
        for done, comparison in enumerate(comparisons):
            if self._spent():
                self._agree(comparison, Agreement(_out_of_time("checked")))
                continue
            keys = comparison.reference.key, comparison.candidate.key
            if known := self.campaign.recorded.agreements.get(comparison.identity):
                self._agree(comparison, _agreement(*known))
                continue
            found = self.side.ask(lambda worker, keys=keys: worker.agree(*keys))  # type: ignore[misc]
            self._agree(comparison, Agreement(found) if isinstance(found, Verdict) else _agreement(*found))
            self._progress("numerics", done + 1, len(comparisons))

    def _agree(self, comparison: Comparison, agreement: Agreement) -> None:
        self.findings.agreements[comparison.identity] = agreement
        finite = agreement.error is not None and math.isfinite(agreement.error)  # JSON has no other numbers.
        deviation = {"error": agreement.error, "tolerance": agreement.tolerance} if finite else {}
        self.side.write("agreement", comparison.named | deviation | asdict(agreement.verdict))

    # Explain

    def _explain(self, comparisons: Sequence[Comparison]) -> None:
        """Say why what is slower is slower, where the backend can."""
        results = [self.findings.results[one.identity] for one in comparisons]
        wanted = [one for one in results if self._wants_explaining(one)]
        if "explains" not in self.side.offers or not wanted:
            return
        self.begin_phase = self.campaign.clock()
        explainer = Explainer(
            self.side,
            self.campaign.judge,
            self.settings.blocks,
            self.settings.explain_budget,
            self.campaign.clock,
            self._progress,
        )
        for result, explanation in explainer.explain(wanted):
            self.findings.explanations[result.comparison.identity] = explanation
            self.side.write("explained", result.comparison.named | asdict(explanation))

    def _wants_explaining(self, result: Result) -> bool:
        asked = result.comparison.asks_whether_slower and result.verdict.ratio is not None
        return asked and (self.settings.explain_all or result.verdict.code is Code.SLOWER)

    # Reporting

    def _progress(self, phase: str, done: int, total: int) -> None:
        elapsed = self.campaign.clock() - self.begin_phase
        left = elapsed / done * (total - done) if done else None
        self.campaign.progress(f"{self.name}: {phase}", done, total, left)


def _other_side(campaign: Campaign, name: str) -> Library | None:
    """The library that a backend is measured beside, if there is one."""
    spec = campaign.against.get(name)
    if spec is None:
        return None
    return Library(name, spec, campaign.before, campaign.recorded.of_the_other, campaign.write, BEFORE, campaign.start)


def _keys(comparisons: Iterable[Comparison]) -> list[str]:
    """Every subject of some comparisons, once."""
    return list(dict.fromkeys(key for one in comparisons for key in one.keys))


def shuffled(comparisons: Sequence[Comparison], seed: str) -> list[list[Comparison]]:
    """Layers in a random order, and each layer's comparisons in one: what they share need not be prepared again."""
    layers: dict[str, list[Comparison]] = {}
    for one in comparisons:
        layers.setdefault(one.keys[0], []).append(one)
    chance = random.Random(seed)
    groups = list(layers.values())
    chance.shuffle(groups)
    for group in groups:
        chance.shuffle(group)
    return groups


def _flat(groups: Iterable[Sequence[Comparison]]) -> list[Comparison]:
    return [one for group in groups for one in group]


def _why_unpaired(here: Result | None) -> Verdict:
    """Why the other library was not measured where it could have been."""
    if here is None or here.verdict.code.measured:
        return _out_of_time("measured")
    text = f"this library failed first: {here.verdict.reason.text}"
    return Verdict(Code.UNDECIDED, Reason(here.verdict.reason.code, text))


def _out_of_time(what: str, budget: str = "time budget") -> Verdict:
    """What a time budget left out is undecided for that reason."""
    return Verdict(Code.UNDECIDED, Reason(ReasonCode.TIME_BUDGET, f"the {budget} ended before this was {what}"))


def _budget_ended(what: str) -> Reason:
    """Why something is undecided that was begun before the time budget ended."""
    return Reason(ReasonCode.BUDGET_ENDED, f"the time budget ended before this was {what}")


def _agreement(error: float, tolerance: float) -> Agreement:
    if error <= tolerance:
        text = f"equal to {error:.2g} of the largest value"
        return Agreement(Verdict(Code.SAME, Reason(ReasonCode.PROVED, text)), error, tolerance)
    text = f"off by {error:.2g} of the largest value (tolerance {tolerance:g})"
    return Agreement(Verdict(Code.INVALID, Reason(ReasonCode.WRONG_OUTPUT, text)), error, tolerance)
