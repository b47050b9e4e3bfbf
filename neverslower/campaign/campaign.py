"""Runs a campaign: selects, prepares, measures and judges; every step is written to the journal as it ends.

A comparison can't be judged alone: error control needs them all, and confirmation needs time between. So test items
declare what they compare, the campaign measures it, and the items look their results up.

It goes in passes, each in a fresh process, and after each the judge says of which comparisons it has seen enough. What
looks slower is measured once more, and counts where that process shows it again.
Beside another library (`against`), every pass is a pair of processes, old and new by turns, and what the old one shows
is kept apart: it is the baseline that the new one is set against.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Protocol

from neverslower.campaign import agreements as outputs
from neverslower.campaign.budget import USUAL_PASSES, Budget, share
from neverslower.campaign.choosing import ChosenSchedule
from neverslower.campaign.context import BackendRun, Choose
from neverslower.campaign.explaining import explain_slower
from neverslower.campaign.findings import Agreement, Findings
from neverslower.campaign.forecast import Tell, untold
from neverslower.campaign.guard import Guard
from neverslower.campaign.judging import end, layer_of, settle
from neverslower.campaign.library import Library
from neverslower.campaign.looking import look
from neverslower.campaign.measuring import measure
from neverslower.campaign.preparing import compiled_ahead, tune
from neverslower.campaign.progress import Progress, silent
from neverslower.campaign.rechecking import recheck
from neverslower.campaign.resume import Recorded
from neverslower.campaign.schedule import Schedule
from neverslower.campaign.settings import Settings
from neverslower.campaign.turns import BLOCKS_A_TURN
from neverslower.device.fingerprint import Fingerprint
from neverslower.device.readers import limits
from neverslower.errors import DeviceBusy, JournalError, NeverSlowerError, Unavailable, WorkerFailure
from neverslower.files.journal import BEFORE, Journal
from neverslower.judge.failure import Failure, of_failure
from neverslower.judge.joint import Pooling, can_pool, halved
from neverslower.judge.paired import FEWEST_PAIRS
from neverslower.judge.pooled import FEWEST, PooledJudge, Scatter
from neverslower.judge.verdict import STANDARD, Code, Judge, Reason, ReasonCode, Thresholds
from neverslower.problem.compared import Compared
from neverslower.problem.comparison import Comparison
from neverslower.worker.holder import MOST_AHEAD, how_many_ahead
from neverslower.worker.process import StartWorker, WorkerSpec

FEW_AHEAD, MORE_AHEAD = 5, 7
"""Workers that load at once for few layers: at first those of the judge that knows the device's scatter, which decides
in three passes; once it is known that nobody does, so many wait in all: for six passes, and to look for causes.
"""


class Reviewer(Protocol):
    """Knows the baselines: told of each device before anything is measured, asked what looks like a regression."""

    def identified(self, fingerprint: Fingerprint) -> None:
        """Learn a backend's device and software. Raises NeverSlowerError where nothing is to be measured on it."""

    def beside(self, backend: str, before: Findings) -> None:
        """Learn what another library showed that was measured beside a backend."""

    def regressed(self, backend: str) -> list[Comparison]:
        """Return what looks slower than in the baseline and is to be measured again in a fresh process."""

    def scatter(self, fingerprint: Fingerprint) -> Scatter | None:
        """Return the stored scatter of a device, of the same hardware, state and software, if there is any."""


class NoBaselines:
    """Reviews nothing."""

    def identified(self, fingerprint: Fingerprint) -> None:
        """Do nothing."""

    def beside(self, backend: str, before: Findings) -> None:
        """Do nothing."""

    def regressed(self, backend: str) -> list[Comparison]:
        """Return nothing."""
        return []

    def scatter(self, fingerprint: Fingerprint) -> Scatter | None:
        """Return nothing."""
        return None


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
        tell: Tell = untold,
        choose: Choose | None = None,
    ) -> None:
        self.start, self.tell, self.choose = start, tell, choose
        self.against, self.thresholds = against or {}, thresholds
        self.specs, self.settings, self.progress, self.clock = specs, settings, progress, clock
        self.judge: Judge = settings.judge(thresholds) if judge is None else judge
        self._pools = judge is None
        self.reviewer: Reviewer = reviewer or NoBaselines()
        self.recorded = recorded or Recorded()
        self._how = asdict(settings) | {"against": ", ".join({spec.place for spec in self.against.values()})}
        self.recorded.require_settings(self._how)
        self.recorded.drop_doubtful()
        self.recorded.drop_half_pairs()
        self.recorded.close_gaps()
        self.findings, self.before = Findings(), Findings()
        self.guard = Guard(self.findings, self.write, refuse_unsound, clock)
        self._journal = journal

    def run(self, comparisons: Iterable[Compared], agreements: Iterable[Comparison] = ()) -> Findings:
        """Measure and judge every comparison, and check every agreement."""
        begin = self.clock()
        timed = list({comparison.identity: comparison for comparison in comparisons}.values())
        checked = list({comparison.identity: comparison for comparison in agreements}.values())
        family_error = self.thresholds.family_error
        asked = {"comparisons": len(timed), "agreements": len(checked), "family_error": family_error}
        self.write("campaign", self._how | asked)
        self.findings.want([*timed, *checked])
        try:
            self._run_each(timed, checked, begin)
        except KeyboardInterrupt:
            self.findings.end("interrupted")
            raise
        except NeverSlowerError as error:
            self.findings.end("journal not writable" if isinstance(error, JournalError) else "run ended by an error")
            raise
        finally:
            self.findings.last(self.clock() - begin)
            self.write("end", {"seconds": round(self.findings.seconds, 3)})
        return self.findings

    def _run_each(self, timed: Sequence[Compared], checked: Sequence[Comparison], begin: float) -> None:
        """Give each backend its share of the time, in turn; tuning is paid apart."""
        waiting = len(timed) + len(checked)
        for name in self.specs:
            mine = [comparison for comparison in timed if comparison.backend == name]
            its_checks = [comparison for comparison in checked if comparison.backend == name]
            asked = len(mine) + len(its_checks)
            if asked:
                spent = self.clock() - begin - self.findings.tuning_seconds
                seconds = share(self.settings.time_budget, spent, asked, waiting)
                self._run_backend(self._context(name, seconds, len(timed)), mine, its_checks)
                waiting -= asked

    def _context(self, name: str, seconds: float | None, family: int) -> BackendRun:
        """Return what all phases of one backend go by, whose time begins now."""
        library = Library(name, self.specs[name], self.findings, self.recorded, self.write, start=self.start)
        other = self._other(name)
        if other:
            library.holder.company, other.holder.company = other.holder, library.holder
        fewest = max(self.settings.passes, FEWEST_PAIRS) if other else self.settings.passes
        deadline = None if seconds is None else self.clock() + seconds
        return BackendRun(
            name=name,
            settings=self.settings,
            thresholds=self.thresholds,
            judge=self.judge,
            family=family,
            clock=self.clock,
            progress=self.progress,
            recorded=self.recorded,
            guard=self.guard,
            findings=self.findings,
            budget=Budget(self.clock, deadline, fewest, self.judge.most_passes, usual=_usual(self.judge, family)),
            library=library,
            other=other,
            tell=self.tell,
            choose=self.choose,
            regressed=partial(self.reviewer.regressed, name),
        )

    def _other(self, name: str) -> Library | None:
        """Return the library that a backend is measured beside, if there is one."""
        if name not in self.against:
            return None
        recorded = self.recorded.of_the_other
        return Library(name, self.against[name], self.before, recorded, self.write, BEFORE, self.start)

    def _run_backend(self, run: BackendRun, comparisons: Sequence[Compared], agreements: Sequence[Comparison]) -> None:
        """Give every comparison and agreement of a backend its one verdict, and leave no worker behind."""
        layers = len({layer_of(comparison.identity) for comparison in comparisons if not comparison.whole})
        try:
            if self._begins(run, layers):
                run = self._judged_together(run, layers)
                self._phases(run, comparisons, agreements)
        except DeviceBusy as error:  # Another run came between two workers.
            _do_without(run, error)
        except Unavailable as error:  # It was there when the run began.
            _do_without(run, error)
            _break_off(run, comparisons, agreements, str(error))
            self._compared(run)
        except WorkerFailure as error:
            _give_up(run, comparisons, agreements, of_failure(error))
            self._compared(run)
        finally:
            for library in run.libraries():
                library.close()

    def _judged_together(self, run: BackendRun, layers: int) -> BackendRun:
        """Let two judges share the errors where a backend's layers are enough for that, and write down that they do."""
        if not self._pools or run.library.evidence.exact:
            return run
        stored = self.reviewer.scatter(run.library.fingerprint)
        if not can_pool(layers, stored):
            _start_ahead(run, MORE_AHEAD, alive=1)  # One judge alone needs more passes.
            return run
        share = halved(self.thresholds)
        run.budget.usual = USUAL_PASSES
        run.library.write("pooled", {"stored": asdict(stored) if stored else None})
        return replace(run, judge=self.settings.judge(share), pooling=Pooling(PooledJudge(share), stored))

    def _phases(self, run: BackendRun, comparisons: Sequence[Compared], agreements: Sequence[Comparison]) -> None:
        """Go through all phases, of which each takes what the one before it has left to do."""
        if run.library.evidence.exact:
            look(run, comparisons)
            self._compared(run)
            outputs.check(run, agreements)
            return
        waiting = tune(run, sorted(comparisons, key=lambda comparison: comparison.telling))
        with compiled_ahead(run, waiting) as compiled:
            schedule = ChosenSchedule(run, waiting, run.choose) if run.choose else Schedule(run, waiting)
            schedule.begin(compiled)
        outputs.check(run, agreements)
        measure(run, schedule)
        schedule.leave_out()
        end(run, schedule.begun)
        self._compared(run)
        recheck(run, self.reviewer.regressed(run.name))
        explain_slower(run, comparisons)
        self.guard.look(run.name, run.library.worker, "after")

    def _begins(self, run: BackendRun, layers: int) -> bool:
        """Start the first workers, and return whether this backend can be measured here."""
        try:
            self._start(run, layers)
        except Unavailable as error:
            _do_without(run, error)
            return False
        return True

    def _start(self, run: BackendRun, layers: int) -> None:
        """Learn from the first worker what the device is: take it for this run, and choose what to compare with."""
        begin = self.clock()
        ahead = _start_ahead(run, FEW_AHEAD if layers <= FEWEST else MOST_AHEAD)
        worker = run.library.start()
        run.budget.start_seconds = run.budget.first_start = self.clock() - begin
        run.findings.remark(run.name, worker.remarks)
        self.reviewer.identified(worker.fingerprint)
        run.recorded.require_state(run.name, run.guard.begin(run.name, worker))
        if run.other:
            _start_beside(run, run.other)
        if ahead:
            run.budget.start_seconds = 0.0

    def _compared(self, run: BackendRun) -> None:
        """Tell what the other library showed, once all of it is judged."""
        if run.other:
            self.reviewer.beside(run.name, self.before)

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        """Write one line to the journal, if there is one."""
        if self._journal:
            self._journal.write(event, fields)


def _usual(judge: Judge, family: int) -> int:
    """Return how many passes most comparisons take: one that proves and, of what is slower, one that confirms."""
    return max(USUAL_PASSES, judge.fewest_passes(family) + 1)


def _start_ahead(run: BackendRun, wanted: int, alive: int = 0) -> int:
    """Start the workers of the first passes at once, where loading disturbs nobody: nothing is timed yet.

    Two libraries share the machine's memory and cores. Returns how many were started of each.
    """
    libraries = run.libraries()
    memory, cores = limits.memory() // len(libraries), limits.cores() // len(libraries)
    number = min(wanted, *(how_many_ahead(library.spec, memory, cores) - alive for library in libraries))
    for library in libraries:
        library.holder.start_ahead(number)
    return max(0, number)


def _start_beside(run: BackendRun, other: Library) -> None:
    """Start the other library's first worker. Raises Unavailable where it can't be set beside this one."""
    try:
        fingerprint = other.start(lock=False).fingerprint
    except WorkerFailure as error:
        raise Unavailable(f"--against {other.spec.place}: {error}") from None
    if obstacles := run.library.fingerprint.obstacles(fingerprint):
        text = f"--against {other.spec.place}: it measures something else: {'; '.join(obstacles)}"
        raise Unavailable(text)
    turns = BLOCKS_A_TURN if run.takes_turns else 0
    run.recorded.require_turns(run.name, turns)
    run.library.write("beside", {"turns": turns})


def _do_without(run: BackendRun, why: Unavailable) -> None:
    """Say that a backend can't be measured here; it gets no verdicts."""
    run.findings.lack(run.name, why)
    run.library.write("unavailable", {"reason": str(why)})


def _break_off(run: BackendRun, comparisons: Sequence[Compared], agreements: Sequence[Comparison], why: str) -> None:
    """Finish what was measured before a backend went away, as far as that proves something; the rest stays open."""
    settle(run, comparisons)
    for comparison in run.library.waiting(comparisons):
        answers = (run.library.examiner.examined.get(key) for key in comparison.keys)
        failed = next((answer for answer in answers if isinstance(answer, Failure)), None)
        code = ReasonCode.BUDGET_ENDED if run.library.taken(comparison) else ReasonCode.BACKEND_UNAVAILABLE
        run.library.fail(comparison, failed or Failure(Code.UNDECIDED, Reason(code, why)))
    _leave_out(run, agreements, Failure(Code.UNDECIDED, Reason(ReasonCode.BACKEND_UNAVAILABLE, why)))


def _give_up(run: BackendRun, comparisons: Sequence[Compared], agreements: Sequence[Comparison], why: Failure) -> None:
    """Finish all that has no verdict yet: no worker starts here any more."""
    for comparison in run.library.waiting(comparisons):
        run.library.fail(comparison, why)
    _leave_out(run, agreements, why)


def _leave_out(run: BackendRun, agreements: Sequence[Comparison], why: Failure) -> None:
    """Say why outputs were not compared that have not been yet."""
    for comparison in agreements:
        if comparison.identity not in run.findings.agreements:
            outputs.agree(run, comparison, Agreement(why.verdict))
