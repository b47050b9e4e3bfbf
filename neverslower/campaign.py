"""The campaign: select, prepare, measure, judge, confirm; every step is written to the journal as it ends.

A comparison can't be judged alone: error control needs them all, and confirmation needs time between. So test items
declare what they compare, the campaign measures it, and the items look their results up.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Protocol

from neverslower.cause import Explanation, Remedy, explain
from neverslower.comparison import Comparison, padded_selves
from neverslower.environment import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.exact import judge_pruned
from neverslower.findings import Agreement, Findings, Identity, Result
from neverslower.guard import Guard
from neverslower.journal import Journal
from neverslower.observation import Evidence, Examined, PairedPass, Searched
from neverslower.pool import ask_all, compile_all
from neverslower.resume import Recorded
from neverslower.subject import BEST, Search, Subject
from neverslower.unjudged import confirmed, of_failure, or_wrong
from neverslower.verdict import Code, FixedSizeJudge, Judge, Reason, ReasonCode, Verdict, explained
from neverslower.worker import (
    BackendUnavailable,
    DeviceLock,
    ProblemRefused,
    Worker,
    WorkerDied,
    WorkerError,
    WorkerSpec,
)

TRIAL_LIMIT, TRIALS_AT_LEAST = 60.0, 15
"""Seconds that a search may take for each of its trials, and for how many at the least."""
SUBJECTS_A_COMPILER = 8
"""A compiling process is worth starting for so many subjects."""
WORTH_A_POOL = 4
"""So many subjects are compiled in processes of their own; fewer where they are prepared."""
CONFIRMATION_RESERVE = 1.3
"""How much longer a campaign takes for confirming what is slower, when time is planned."""


@dataclass(frozen=True)
class Settings:
    """How a campaign measures: see selection.Profile for passes, blocks and the time budget.

    Budgets are in seconds, None for as long as it takes; those for tuning and for explaining are beside the one for
    measuring. With `explain_all` every comparison is explained, where its backend can, and not what is slower alone.
    """

    passes: int = 2
    blocks: int = 20
    seed: int = 0
    time_budget: float | None = None
    tuning_budget: float | None = None
    explain_budget: float | None = None
    explain_all: bool = False


class Progress(Protocol):
    """Told after each step: the phase, steps done and in all, and the seconds that the phase may still take."""

    def __call__(self, phase: str, done: int, total: int, seconds_left: float | None) -> None:
        """Show the step."""
        ...


def silent(phase: str, done: int, total: int, seconds_left: float | None) -> None:
    """Show no progress."""


class Reviewer(Protocol):
    """What knows the baselines: told of each device before anything is measured, asked what looks like a regression."""

    def identified(self, fingerprint: Fingerprint) -> None:
        """A backend's device and software are known; may raise NeverSlowerError, and nothing is measured."""

    def regressed(self, backend: str) -> list[Comparison]:
        """Comparisons that look slower than in the baseline and are to be measured again in a fresh process."""


class NoBaselines:
    """Reviews nothing."""

    def identified(self, fingerprint: Fingerprint) -> None:
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
    ) -> None:
        self.specs, self.settings, self.progress, self.clock = specs, settings, progress, clock
        self.judge = judge or FixedSizeJudge()
        self.reviewer: Reviewer = reviewer or NoBaselines()
        self.recorded = recorded or Recorded()
        self.recorded.require_settings(asdict(settings))
        self.findings = Findings()
        self.guard = Guard(self.findings, self.write, refuse_unsound, clock)
        self._journal = journal
        self._family = 1

    def run(self, comparisons: Iterable[Comparison], agreements: Iterable[Comparison] = ()) -> Findings:
        """Measure and judge every comparison, and check every agreement."""
        begin = self.clock()
        timed = {one.identity: one for one in comparisons}
        checked = {one.identity: one for one in agreements}
        self._family = len(timed)
        self.write("campaign", asdict(self.settings) | {"comparisons": len(timed), "agreements": len(checked)})
        waiting = len(timed) + len(checked)
        try:
            for name, spec in self.specs.items():
                mine = [one for one in timed.values() if one.backend == name]
                its_checks = [one for one in checked.values() if one.backend == name]
                if mine or its_checks:
                    budget = self._share(begin, len(mine) + len(its_checks), waiting)
                    _BackendRun(self, spec, name, budget).run(mine, its_checks)
                    waiting -= len(mine) + len(its_checks)
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

    def judged(self, passes: Sequence[PairedPass], family: int | None = None) -> Verdict:
        """The judge's verdict at the error that a family of so many comparisons allows."""
        return self.judge(passes, family or self._family)

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        """One line for the journal, if there is one."""
        if self._journal:
            self._journal.write(event, fields)


class _BackendRun:
    """One backend's share of a campaign."""

    def __init__(self, campaign: Campaign, spec: WorkerSpec, name: str, budget: float | None) -> None:
        self.campaign, self.spec, self.name = campaign, spec, name
        self.findings, self.settings = campaign.findings, campaign.settings
        self.worker: Worker | None = None
        self.started = 0
        self.offers: frozenset[str] = frozenset()
        self.evidence, self.at_once = Evidence.DEVICE_TIME, 1
        self.examined: dict[str, Examined | Verdict] = {}
        self.samples: dict[Identity, list[PairedPass]] = {}
        self.begin = self.begin_phase = campaign.clock()
        self.deadline = None if budget is None else self.begin + budget
        self.lock: DeviceLock | None = None
        self.start_seconds = 0.0

    def run(self, comparisons: Sequence[Comparison], agreements: Sequence[Comparison]) -> None:
        """The whole share: every comparison and agreement gets its one verdict, and no worker is left behind."""
        try:
            self._fresh_worker()
            if self.evidence.exact:
                self._look(comparisons)
                self._check_agreements(agreements)
                return
            waiting = self._tune(sorted(comparisons, key=lambda one: one.telling))
            self._compile(waiting)
            chosen = self._prepare(waiting)
            for number in range(self.settings.passes):
                if number or "profiles" in self.offers:
                    self._renew(all((one.identity, number) in self.campaign.recorded.passes for one in chosen))
                self._measure_pass(chosen, number)
                self.campaign.guard.look(self.name, self.worker, "between")
                self._drop_what_time_does_not_last_for(chosen, self.settings.passes - number - 1)
            suspects = self._judge(chosen)
            self._confirm(suspects)
            self._recheck(self.campaign.reviewer.regressed(self.name))
            self._check_agreements(agreements)
            self._explain(comparisons)
            self.campaign.guard.look(self.name, self.worker, "after")
        except (BackendUnavailable, WorkerDied, WorkerError) as error:
            if isinstance(error, BackendUnavailable) and not self.started:
                self.findings.unavailable[self.name] = str(error)
                self._write("unavailable", {"reason": str(error)})
            else:
                self._give_up(comparisons, agreements, of_failure(error))
        finally:
            self._close()
            if self.lock:
                self.lock.close()

    def _give_up(self, comparisons: Sequence[Comparison], agreements: Sequence[Comparison], why: Verdict) -> None:
        """No worker starts here any more: that is the verdict of all that have none yet."""
        for comparison in comparisons:
            if comparison.identity not in self.findings.results:
                self._finish(comparison, why)
        for comparison in agreements:
            if comparison.identity not in self.findings.agreements:
                self._agree(comparison, Agreement(why))

    # Workers

    def _fresh_worker(self) -> None:
        self._close()
        begin = self.campaign.clock()
        self.worker = Worker(self.spec, process=self.started)
        if not self.started:
            self.start_seconds = self.campaign.clock() - begin
            self._identified(self.worker)
        self.started += 1

    def _renew(self, nothing_to_ask: bool) -> None:
        """A fresh worker for a phase, unless an earlier run has answered all of it."""
        self._close()
        if not nothing_to_ask:
            self._fresh_worker()

    def _identified(self, worker: Worker) -> None:
        """The first worker tells what the device is: take it for this run, and choose what to compare with."""
        fingerprint, self.offers = worker.fingerprint, worker.offers
        self.evidence, self.at_once = worker.evidence, worker.at_once
        if worker.exclusive:
            self.lock = DeviceLock(self.spec, worker.lock_name)
        self.campaign.recorded.require_device(fingerprint)
        self.findings.fingerprints[self.name] = fingerprint
        if worker.remarks:
            self.findings.remarks[self.name] = worker.remarks
        self._write("fingerprint", fingerprint.as_dict() | {"remarks": worker.remarks})
        self.campaign.reviewer.identified(fingerprint)
        self.campaign.guard.begin(self.name, worker)

    def _close(self) -> None:
        if self.worker:
            self.worker.close()
            self.worker = None

    def _ask(self, question: Callable[[Worker], Any]) -> Any | Verdict:
        """A worker's answer, or the verdict that its failure amounts to; a dead worker is replaced."""
        if self.worker is None:
            self._fresh_worker()
        assert self.worker is not None
        try:
            return question(self.worker)
        except (ProblemRefused, WorkerError) as error:
            return of_failure(error)
        except WorkerDied as error:
            self._close()
            return of_failure(error)

    # Exact evidence

    def _look(self, comparisons: Sequence[Comparison]) -> None:
        """Examine every problem once, as many beside each other as the backend allows, and judge at once."""
        ordered = sorted(comparisons, key=lambda one: one.telling)
        keys = list(dict.fromkeys(key for one in ordered for key in one.keys))
        recorded = self.campaign.recorded.examined
        self.examined |= {key: or_wrong(known) for key in keys if (known := recorded.get((self.name, key)))}
        waiting = [key for key in keys if key not in self.examined]
        self.begin_phase = self.campaign.clock()
        progress = partial(self._progress, "look", total=len(waiting))
        try:
            answers = (
                ask_all(self.spec, waiting, self.at_once, self._looked_at, progress, self._spent) if waiting else {}
            )
            self.examined |= {key: of_failure(one) for key, one in answers.items() if isinstance(one, NeverSlowerError)}
        finally:
            for comparison in ordered:
                if verdict := self._exact_verdict(comparison):
                    self._finish(comparison, verdict)
        for comparison in ordered:
            if comparison.identity not in self.findings.results:
                self._finish(comparison, _out_of_time("looked at"))

    def _looked_at(self, worker: Worker, key: str) -> None:
        """Keep what a worker finds of a subject, in the journal too, at once."""
        found = worker.examine(key)
        self.examined[key] = or_wrong(found)
        self._write("examined", {"problem": key} | asdict(found))

    def _exact_verdict(self, comparison: Comparison) -> Verdict | None:
        """The verdict, None where one of both was not looked at yet."""
        seen = [self.examined.get(key) for key in comparison.keys]
        for one in seen:
            if isinstance(one, Verdict):
                return one
        reference, candidate = seen
        if isinstance(reference, Examined) and isinstance(candidate, Examined):
            return judge_pruned(self.evidence, reference, candidate)
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
        self._fresh_worker()  # What a search leaves in its process must not lie beside what is timed.
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
        found: Searched | Verdict = self._ask(lambda worker: worker.tune(search, left))
        if isinstance(found, Verdict) and found.reason.code is ReasonCode.TIME_LIMIT and left < limit:
            found = _out_of_time("tuned", "tuning budget")
        self._write("tuned", {"search": str(search)} | asdict(found))
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
                self._finish(comparison, why)
            else:
                chosen.append(comparison)
        return chosen

    def _compile(self, comparisons: Sequence[Comparison]) -> None:
        """Let a backend that compiles do it now, in several processes: never beside a measurement."""
        if "compiles" not in self.offers:
            return
        keys = list(dict.fromkeys(key for one in comparisons for key in one.keys))
        missing = self._ask(lambda worker: worker.missing(keys))
        if isinstance(missing, Verdict) or len(missing) < WORTH_A_POOL:
            return
        self.begin_phase = self.campaign.clock()
        cores = int(self.findings.fingerprints[self.name].hardware.get("cores", 1))
        processes = min(cores, -(-len(missing) // SUBJECTS_A_COMPILER))
        # Half of the time is for measuring what was compiled; the rest is compiled as far as it is prepared.
        left = 0.0 if self.deadline is None else (self.deadline - self.begin_phase) / 2
        failures = compile_all(
            self.spec,
            missing,
            processes,
            lambda done: self._progress("compile", done, len(missing)),
            lambda: self._spent(left),
        )
        self.examined |= {key: of_failure(error) for key, error in failures.items()}
        seconds = self.campaign.clock() - self.begin_phase
        self._write("compiled", {"subjects": len(missing), "failed": len(failures), "seconds": round(seconds, 3)})

    def _prepare(self, comparisons: Sequence[Comparison]) -> list[Comparison]:
        """Examine problems in the order given, as far as the time budget goes; what can be measured comes back."""
        chosen = []
        planned = 0.0
        self.begin = self.campaign.clock()
        keys = {key for one in comparisons for key in one.keys}
        for comparison in comparisons:
            if self._spent(planned):
                self._finish(comparison, _out_of_time("measured"))
                continue
            failed = next((why for key in comparison.keys if (why := self._examine(key))), None)
            self._progress("prepare", len(self.examined), len(keys))
            if failed:
                self._finish(comparison, failed)
                continue
            chosen.append(comparison)
            planned += self._cost(comparison)
        return chosen

    def _examine(self, key: str) -> Verdict | None:
        """Why a subject can't be timed, or None; asked of the worker once a subject."""
        if key not in self.examined:
            known = self.campaign.recorded.examined.get((self.name, key))
            found = known or self._ask(lambda worker: worker.examine(key))
            self.examined[key] = found = or_wrong(found)
            if not known:
                self._write("examined", {"problem": key} | asdict(found))
        found = self.examined[key]
        return found if isinstance(found, Verdict) else None

    def _cost(self, comparison: Comparison) -> float:
        """Seconds that all passes of a comparison will take, about: rounds, preparing again, confirmation."""
        calls = [self.examined[key] for key in comparison.keys]
        seconds = sum(max(1.5e-3, one.seconds_per_call) for one in calls if isinstance(one, Examined))
        rounds = 2 * self.settings.blocks + 2
        preparing = (self.campaign.clock() - self.begin) / max(1, len(self.examined))
        return self.settings.passes * (rounds * seconds + preparing) * CONFIRMATION_RESERVE

    def _spent(self, planned: float = 0.0) -> bool:
        """Whether the time budget would end before so many more seconds of measuring, and the workers' starts."""
        if self.deadline is None:
            return False
        starts = self.settings.passes * self.start_seconds if planned or not self.samples else 0.0
        return self.campaign.clock() + planned + starts > self.deadline

    # Measure

    def _measure_pass(self, comparisons: Sequence[Comparison], number: int) -> None:
        waiting = [one for one in comparisons if one.identity not in self.findings.results]
        order = shuffled(waiting, f"{self.settings.seed}/{self.name}/{number}")
        self.begin_phase = self.campaign.clock()
        for done, comparison in enumerate(order):
            if self._spent():
                return
            known = self.campaign.recorded.passes.get((comparison.identity, number))
            found = known or self._measure(comparison, self.settings.blocks)
            if isinstance(found, Verdict):
                self._finish(comparison, found)
            else:
                self.samples.setdefault(comparison.identity, []).append(found)
                if not known:
                    self._write_samples("measured", comparison, number, found)
            self._progress(f"measure {number + 1}/{self.settings.passes}", done + 1, len(order))

    def _drop_what_time_does_not_last_for(self, chosen: Sequence[Comparison], passes_left: int) -> None:
        """Leave out the least telling, now that a pass has shown what it costs: half-measured ones prove nothing."""
        waiting = [one for one in chosen if one.identity not in self.findings.results]
        if self.deadline is None or not (passes_left and waiting):
            return
        now = self.campaign.clock()
        each = (now - self.begin_phase) / len(waiting)
        passes = passes_left + (CONFIRMATION_RESERVE - 1) * self.settings.passes
        lasts_for = int((self.deadline - now - passes_left * self.start_seconds) / max(1e-9, each * passes))
        for comparison in waiting[max(0, lasts_for) :]:
            self._finish(comparison, _out_of_time("measured in every pass"))

    def _measure(self, comparison: Comparison, blocks: int) -> PairedPass | Verdict:
        reference, candidate = comparison.keys
        found: PairedPass | Verdict = self._ask(lambda worker: worker.measure(reference, candidate, blocks))
        self.campaign.guard.measured(comparison, self.worker)
        return found

    # Judge and confirm

    def _judge(self, comparisons: Sequence[Comparison]) -> list[tuple[Comparison, Verdict]]:
        """Finish what is judged now, and return what looks SLOWER and is still to be confirmed."""
        suspects = []
        for comparison in comparisons:
            if comparison.identity in self.findings.results:
                continue
            passes = self.samples.get(comparison.identity)
            verdict = self.campaign.judged(passes) if passes else _out_of_time("measured")
            if passes and verdict.code is Code.UNDECIDED and len(passes) < self.settings.passes:
                verdict = replace(verdict, reason=_out_of_time("measured in every pass").reason)
            if verdict.code is Code.SLOWER:
                suspects.append((comparison, verdict))
                self._write("suspect", comparison.named | asdict(verdict))
            else:
                self._finish(comparison, verdict)
        return suspects

    def _confirm(self, suspects: list[tuple[Comparison, Verdict]]) -> None:
        """Measure each suspect again, in a fresh process and as often as before; unless it shows again it is no red."""
        if not suspects:
            return
        self._renew(all(one.identity in self.campaign.recorded.confirmations for one, _ in suspects))
        self.begin_phase = self.campaign.clock()
        first = dict(suspects)
        for done, comparison in enumerate(shuffled(list(first), f"{self.settings.seed}/{self.name}/confirm")):
            verdict = first[comparison]
            if self._spent():
                self._finish(comparison, replace(verdict, code=Code.UNDECIDED, reason=_out_of_time("confirmed").reason))
                continue
            known = self.campaign.recorded.confirmations.get(comparison.identity)
            found = known or self._measure(comparison, self.settings.passes * self.settings.blocks)
            if isinstance(found, PairedPass):
                if not known:
                    self._write_samples("confirmed", comparison, self.started - 1, found)
                again = self.campaign.judged([found], len(suspects))
                self._finish(comparison, confirmed(verdict, again), verdict, found)
            else:
                self._finish(comparison, found, verdict)
            self._progress("confirm", done + 1, len(suspects))

    def _recheck(self, comparisons: Sequence[Comparison]) -> None:
        """Measure each apparent regression against the baseline again, in a fresh process."""
        if not comparisons:
            return
        self._fresh_worker()
        self.begin_phase = self.campaign.clock()
        for done, comparison in enumerate(comparisons):
            if self._spent():
                return
            found = self._measure(comparison, self.settings.passes * self.settings.blocks)
            self.findings.rechecks[comparison.identity] = found
            if isinstance(found, PairedPass):
                self._write_samples("rechecked", comparison, self.started - 1, found)
            else:
                self._write("rechecked", comparison.named | asdict(found))
            self._progress("recheck", done + 1, len(comparisons))

    def _finish(
        self,
        comparison: Comparison,
        verdict: Verdict,
        first: Verdict | None = None,
        confirmation: PairedPass | None = None,
    ) -> None:
        """The comparison's one verdict: kept, and written to the journal."""
        seen = [self.examined.get(key) for key in comparison.keys]
        reference, candidate = (one if isinstance(one, Examined) else None for one in seen)
        verdict = explained(verdict, reference, candidate)
        self.findings.results[comparison.identity] = Result(
            comparison,
            verdict,
            tuple(self.samples.get(comparison.identity, ())),
            reference,
            candidate,
            first=first,
            confirmation=confirmation,
            evidence=self.evidence,
        )
        self._write("verdict", comparison.named | asdict(verdict))

    # Agreements

    def _check_agreements(self, comparisons: Sequence[Comparison]) -> None:
        self.begin_phase = self.campaign.clock()
        for done, comparison in enumerate(comparisons):
            if self._spent():
                self._agree(comparison, Agreement(_out_of_time("checked")))
                continue
            keys = comparison.reference.key, comparison.candidate.key
            found = self._ask(lambda worker, keys=keys: worker.agree(*keys))  # type: ignore[misc]
            self._agree(comparison, Agreement(found) if isinstance(found, Verdict) else _agreement(*found))
            self._progress("numerics", done + 1, len(comparisons))

    def _agree(self, comparison: Comparison, agreement: Agreement) -> None:
        self.findings.agreements[comparison.identity] = agreement
        self._write("agreement", comparison.named | asdict(agreement.verdict))

    # Explain

    def _explain(self, comparisons: Sequence[Comparison]) -> None:
        """Say why what is slower is slower, the worst first; from the plans alone once the time for it is over."""
        if "explains" not in self.offers:
            return
        results = [self.findings.results[one.identity] for one in comparisons]
        wanted = [one for one in results if self._wants_explaining(one)]
        if not wanted:
            return
        wanted.sort(key=lambda one: -one.verdict.ratio.estimate if one.verdict.ratio else 0.0)
        # A library may remember which plan a shape got in this process, so the best ones are looked for in another.
        self._fresh_worker()
        self.begin_phase = self.campaign.clock()
        remedies = {}
        for done, result in enumerate(wanted):
            if self._explained_enough(0.5):
                break
            remedies[result.comparison] = self._remedy(result.comparison, len(wanted))
            self._progress("remedies", done + 1, len(wanted))
        self._fresh_worker()
        for done, result in enumerate(wanted):
            best = None if self._explained_enough(1.0) else self._best(result.comparison, len(wanted))
            if found := self._explanation(result, best, remedies.get(result.comparison)):
                self.findings.explanations[result.comparison.identity] = found
                self._write("explained", result.comparison.named | asdict(found))
            self._progress("explain", done + 1, len(wanted))

    def _explained_enough(self, share: float) -> bool:
        """Whether that share of the time for explaining is spent."""
        budget = self.settings.explain_budget
        return budget is not None and self.campaign.clock() - self.begin_phase > share * budget

    def _wants_explaining(self, result: Result) -> bool:
        asked = result.comparison.asks_whether_slower and result.verdict.ratio is not None
        return asked and (self.settings.explain_all or result.verdict.code is Code.SLOWER)

    def _remedy(self, comparison: Comparison, family: int) -> Remedy | None:
        """The padding that is proved faster than the pruned layer, by most."""
        remedies = []
        for padded in padded_selves(comparison):
            verdict = self._quickly(comparison.keys[1], padded.key, family)
            if verdict and verdict.code is Code.FASTER and verdict.ratio:
                remedies.append(Remedy(padded.channels(comparison.side), verdict.ratio))
        return min(remedies, key=lambda one: one.ratio.estimate, default=None)

    def _best(self, comparison: Comparison, family: int) -> Verdict | None:
        """The pruned layer's best plan against the unpruned layer as it was chosen."""
        return self._quickly(comparison.keys[0], Subject(comparison.candidate, BEST).key, family)

    def _explanation(self, result: Result, best: Verdict | None, remedy: Remedy | None) -> Explanation | None:
        """The cause, from the plans and the best plan's time."""
        if result.reference is None or result.candidate is None:
            return None
        processors = int(self.findings.fingerprints[self.name].hardware.get("sms", 0))
        slower = result.verdict.code is Code.SLOWER
        return explain(result.reference.plan, result.candidate.plan, best, processors, remedy, slower)

    def _quickly(self, reference: str, candidate: str, family: int) -> Verdict | None:
        """One pass's verdict on a pair, None where it can't be measured."""
        blocks = max(self.settings.blocks, self.campaign.judge.smallest(family))
        found: PairedPass | Verdict = self._ask(lambda worker: worker.measure(reference, candidate, blocks))
        return None if isinstance(found, Verdict) else self.campaign.judged([found], family)

    # Reporting

    def _progress(self, phase: str, done: int, total: int) -> None:
        elapsed = self.campaign.clock() - self.begin_phase
        left = elapsed / done * (total - done) if done else None
        self.campaign.progress(f"{self.name}: {phase}", done, total, left)

    def _write(self, event: str, fields: Mapping[str, Any]) -> None:
        self.campaign.write(event, {"backend": self.name, **fields})

    def _write_samples(self, event: str, comparison: Comparison, number: int, found: PairedPass) -> None:
        self._write(event, comparison.named | found.record(number))


def shuffled(comparisons: Sequence[Comparison], seed: str) -> list[Comparison]:
    """Layers in a random order, and each layer's comparisons in one: what they share need not be prepared again."""
    layers: dict[str, list[Comparison]] = {}
    for one in comparisons:
        layers.setdefault(one.keys[0], []).append(one)
    chance = random.Random(seed)
    groups = list(layers.values())
    chance.shuffle(groups)
    for group in groups:
        chance.shuffle(group)
    return [one for group in groups for one in group]


def _out_of_time(what: str, budget: str = "time budget") -> Verdict:
    """What a time budget left out is undecided for that reason."""
    return Verdict(Code.UNDECIDED, Reason(ReasonCode.TIME_BUDGET, f"the {budget} ended before this was {what}"))


def _agreement(error: float, tolerance: float) -> Agreement:
    if error <= tolerance:
        text = f"equal to {error:.2g} of the largest value"
        return Agreement(Verdict(Code.SAME, Reason(ReasonCode.PROVED, text)), error, tolerance)
    text = f"off by {error:.2g} of the largest value (tolerance {tolerance:g})"
    return Agreement(Verdict(Code.INVALID, Reason(ReasonCode.WRONG_OUTPUT, text)), error, tolerance)
