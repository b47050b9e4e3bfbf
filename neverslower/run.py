"""One run from plan to report: the campaign, the baselines chosen for its devices, accepting it as a baseline."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from neverslower.baseline import exact, folders, timed
from neverslower.baseline.changes import verdict_changes
from neverslower.baseline.entry import Baseline, Entry
from neverslower.calibration.stored import Standing, standing
from neverslower.campaign import resume
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings, Identity, Result
from neverslower.campaign.guard import Guard
from neverslower.campaign.progress import Progress
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import BaselineError, Unavailable, WorkerFailure
from neverslower.files import writing
from neverslower.files.journal import Journal
from neverslower.hunt.examples import Kept
from neverslower.hunt.hunting import Hunted, hunt, numerics_hunt
from neverslower.hunt.oracle import Oracle
from neverslower.judge.failure import Failure
from neverslower.judge.sequential import SequentialJudge
from neverslower.judge.verdict import STANDARD, Code, Reason, ReasonCode, Thresholds, Verdict
from neverslower.options import RunPlan
from neverslower.outcome.assessment import Assessed, Assessment
from neverslower.outcome.beside import baseline_of
from neverslower.outcome.tuned_log import Case
from neverslower.outcome.upgrade import Change, changes
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.worker.process import StartWorker, Worker


@dataclass
class Run:
    """What a run knows: the plan, and after the campaign its findings and the chosen baselines.

    `hunts` are those through drawn layers, by what they looked for, and `kept` says which examples were kept.
    `root` is the folder of baselines. `compare` is what the user wants to compare with: a file or its number, True
    for the best fitting baseline, False for none; `resumes` says that the journal is an earlier run's, with which this
    one goes on. `recorded` names the test that records each comparison;
    `hindrance` says why there is nothing to compare.
    """

    plan: RunPlan
    root: Path
    journal_path: Path
    compare: str | bool = False
    resumes: bool = False
    findings: Findings = field(default_factory=Findings)
    choices: dict[str, folders.BaselineChoice] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    assessed: list[Assessed] = field(default_factory=list)
    recorded: dict[Identity, str] = field(default_factory=dict)
    acceptance: list[str] = field(default_factory=list)
    scheduled: int = 0
    hindrance: str | None = None
    hunts: dict[str, Hunted] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    before: Findings = field(default_factory=Findings)
    changes: list[Change] = field(default_factory=list)
    thresholds: Thresholds = STANDARD
    start: StartWorker = field(default_factory=lambda: Worker)
    _layers: dict[str, set[str]] = field(default_factory=dict, repr=False)

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Every comparison that the options select."""
        return self.plan.comparisons()

    @cached_property
    def tuned_log_cases(self) -> list[Case]:
        """Every case of the study of tuned logs that the options select."""
        return self.plan.tuned_log_cases()

    @cached_property
    def assessment(self) -> Assessment:
        """The findings set against the baselines; ask after the campaign."""
        return Assessment(self.findings, self.choices, self.comparing, self.before, self.thresholds)

    @property
    def comparing(self) -> bool:
        """Whether times are set against others: those of a baseline, or of another library in this run."""
        return bool(self.compare or self.plan.against)

    def run(self, timed: list[Comparison], checked: list[Comparison], progress: Progress, hunts: int = 0) -> None:
        """Measure, journal, and choose the baselines of the devices that were found.

        So many `hunts` for slow layers will follow: they, the ratios and the changes on each backend share the chance
        of a false red.
        """
        changed = len({one.backend for one in timed}) if self.comparing else 0
        self.thresholds = self.plan.thresholds(bool(timed) + changed + hunts)
        self.scheduled = len(timed) + len(checked)
        if not self.scheduled:
            return
        recorded = resume.load(self.journal_path) if self.resumes else None
        journal = Journal(self.journal_path)
        try:
            campaign = Campaign(
                self.plan.backends,
                self.plan.settings,
                journal,
                progress=progress,
                reviewer=self,
                recorded=recorded,
                refuse_unsound=self.plan.refuse_unsound,
                against=self.plan.against,
                thresholds=self.thresholds,
                start=self.start,
            )
            self.findings, self.before = campaign.findings, campaign.before
            campaign.run(timed, checked)
            if self.plan.against:
                self.changes = list(changes(self.assessment, self.findings))
        finally:
            journal.close()

    def hunt(self, name: str, numerics: bool, progress: Progress) -> Hunted:
        """Hunt through drawn layers on one backend, for wrong outputs or for hazards; hazards are kept as examples.

        Raises NeverSlowerError where the backend can't be started, or an example can't be kept.
        """
        self.scheduled += 1
        journal = Journal(self.journal_path)
        try:
            with Oracle(self.plan.backends[name], journal, SequentialJudge(self.thresholds), self.start) as oracle:
                if oracle.evidence.exact and not numerics:
                    raise Unavailable(f"a hunt takes times, and what {name} gives here is {oracle.evidence}")
                self.fingerprints.setdefault(name, oracle.fingerprint)
                self.findings.remark(name, oracle.remarks)
                guard = Guard(self.findings, journal.write, self.plan.refuse_unsound, time.monotonic)
                if not numerics:  # An output is right or wrong in every state.
                    guard.begin(name, oracle)
                space = self.plan.space(name)
                question, search = ("outputs", numerics_hunt) if numerics else ("never-slower", hunt)
                examples = Kept(self.journal_path.parent / "examples", oracle.fingerprint, question)
                explicit, warnings = examples.load()
                found = search(oracle, space, explicit, self.plan.hunt_budget, progress)
                guard.look(name, oracle, "after")
        except Unavailable as error:
            self.findings.lack(name, error)
            raise
        finally:
            journal.close()
        self.hunts[f"{name}, {question}"] = found
        self.kept += [*warnings, *(f"{one} ({os.path.relpath(examples.path)})" for one in examples.save(found))]
        return found

    def identified(self, fingerprint: Fingerprint) -> None:
        """Choose the baseline of a backend whose device is now known; one that can't be read ends the run."""
        name = fingerprint.backend
        self.fingerprints[name] = fingerprint
        if name in self.choices:
            return
        if name in self.plan.against:
            self.beside(name, Findings())  # Nothing stored stands in for a library that could not be measured.
            return
        if isinstance(self.compare, str):
            self.choices[name] = folders.compare_with(self._named_baseline(fingerprint), fingerprint)
        else:
            self.choices[name] = folders.choose(self.root, fingerprint, upgrade=bool(self.compare))

    def standings(self) -> dict[str, Standing]:
        """How each device that was timed stands to its calibration."""
        timed = {one.comparison.backend for one in self.findings.results.values() if one.passes}
        prints = self.findings.fingerprints
        return {name: standing(self.root, prints[name]) for name in prints if name in timed}

    def regressed(self, backend: str) -> list[Comparison]:
        """What looks slower than in the baseline that the user asked to compare with."""
        choice = self.choices.get(backend)
        if not (self.comparing and choice and choice.baseline):
            return []
        return Assessment(self.findings, self.choices, True, self.before, self.thresholds).regressed(backend)

    def beside(self, backend: str, before: Findings) -> None:
        """What another library showed in this run is what a backend is set against, and no stored run is."""
        spec = self.plan.against[backend].execnet
        found = baseline_of(before, backend, spec)
        text = f"--against {spec}: nothing was measured there"
        absent = Verdict(Code.NO_BASELINE, Reason(ReasonCode.NOT_IN_BASELINE, text))
        self.choices[backend] = folders.BaselineChoice(found, None if found else absent)

    def _named_baseline(self, fingerprint: Fingerprint) -> Path:
        """The file that --benchmark-compare names: a path, or the number of one of this device's."""
        asked, folder = str(self.compare), self.root / fingerprint.folder
        path = Path(asked)
        if os.path.isfile(path):
            return path
        prefix = asked.zfill(4) if asked.isdigit() else asked
        stored = (one for one in folder.glob("*.json*") if one.suffix in folders.SUFFIXES)
        numbered = sorted(one for one in stored if one.name.startswith(prefix))
        if len(numbered) == 1:
            return numbered[0]
        raise BaselineError(
            f"--benchmark-compare={asked}: no such file, and {len(numbered)} baselines in {folder} begin so"
        )

    def identify(self) -> None:
        """Ask each backend for its fingerprint at the very beginning, for choosing its baseline."""
        for spec in self.plan.backends.values():
            try:
                with self.start(spec) as worker:
                    self.identified(worker.fingerprint)
            except WorkerFailure:
                continue  # The campaign will meet it again, and says so.

    def probe_root(self) -> None:
        """Make sure, before anything is measured, that a baseline could be stored. Raises BaselineError."""
        writing.require_storable(self.root, "baseline")

    def accept(self, reason: str) -> bool:
        """Store this run as each backend's baseline, if it is fit; `acceptance` says what changes, or why it is not."""
        try:
            if trouble := self._unfit():
                raise BaselineError(trouble)
            for fingerprint in self.findings.fingerprints.values():
                self.acceptance += self._accept_backend(fingerprint, reason)
        except BaselineError as error:
            self.acceptance.append(f"ERROR: not accepted: {error}")
            return False
        return True

    def _accept_backend(self, fingerprint: Fingerprint, reason: str) -> Iterator[str]:
        mine = [one for one in self.comparisons if one.backend == fingerprint.backend]
        results = [self.findings.results[one.identity] for one in mine]
        stored = {self.recorded[one.comparison.identity]: one for one in results if one.observed}
        before = folders.choose(self.root, fingerprint, upgrade=False).baseline
        self._refuse_to_narrow(before, fingerprint)
        lines = verdict_changes(before, results)
        path = self._stored(fingerprint, stored, reason)
        yield f"accepted {len(stored)} comparisons as {os.path.relpath(path)}: {reason}"
        yield from (f"  {line}" for line in lines)

    def _stored(self, fingerprint: Fingerprint, results: dict[str, Result], reason: str) -> Path:
        """The file that these results were written to, in the format of their evidence."""
        if any(one.evidence.exact for one in results.values()):
            return folders.save_exact(self.root, fingerprint, exact.text(fingerprint, results, reason))
        content = timed.document(
            fingerprint, results, reason, self.plan.settings_fields(self.thresholds), self.findings.explanations
        )
        return folders.save(self.root, fingerprint, content)

    def _refuse_to_narrow(self, before: Baseline | None, now: Fingerprint) -> None:
        """A run of fewer layers must not hide what is known of the others, for it would be chosen instead."""
        if before is None or before.fingerprint.version != now.version:
            return
        others = {one.layer for one in before.entries.values() if not self._in_scope(now.backend, one)}
        if others:
            text = (
                f"{os.path.relpath(before.path)} also holds {', '.join(sorted(others))}, which this run did not select"
            )
            raise BaselineError(f"{text}; measure them too, or remove that file")

    def _unfit(self) -> str | None:
        """Why this run is no fit baseline, or None."""
        if not self.findings.measured:
            return "nothing was measured"
        for name, why in self.findings.unavailable.items():
            return f"{name} is unavailable ({why})"
        for name, unsound in self.findings.unsound.items():
            if grave := [one for one in unsound if one.grave]:
                return f"{name}'s device is unsound for timing: {'; '.join(map(str, grave))}"
        for name, change in self.findings.changed.items():
            return f"the state of {name}'s device changed while it was measured: {change}"
        for comparison in self.comparisons:
            result = self.findings.results.get(comparison.identity)
            if result is None or comparison.identity not in self.recorded:
                return f"{comparison.id} was selected, but not run; narrow the run with --layer, not with -k"
            if result.verdict.code in (Code.CRASHED, Code.INVALID):
                return f"{comparison.id} is {result.verdict.code}: {result.verdict.reason.text}"
            few = 0 < len(result.passes) < self.plan.settings.passes
            if result.verdict.reason.code is ReasonCode.TIME_BUDGET or few:
                return f"{comparison.id} was cut by the time budget; give it more with --time-budget"
            if comparison.against_itself and result.verdict.code is Code.SLOWER:
                return f"{comparison.id} is slower than itself: this device is not fit for timing now"
            again = self.findings.rechecks.get(comparison.identity)
            if isinstance(again, Failure) and again.code in (Code.CRASHED, Code.INVALID):
                return f"{comparison.id} is {again.code}: {again.reason.text}"
            agreement = self.findings.agreements.get(comparison.identity)
            if agreement and agreement.verdict.code in (Code.CRASHED, Code.INVALID):
                return f"{comparison.id}, its output: {agreement.verdict.reason.text}"
        return None

    def vanished(self) -> list[Entry]:
        """Entries of the chosen baselines that lie within the selected scope, and that no comparison measures now."""
        measured = {one.identity for one in self.comparisons}
        return [
            entry
            for name, choice in self.choices.items()
            for entry in (choice.baseline.entries.values() if choice.baseline else ())
            if (name, entry.reference, entry.candidate) not in measured and self._in_scope(name, entry)
        ]

    def _in_scope(self, backend: str, entry: Entry) -> bool:
        """Whether the options select what an entry is about: its layer, format and side."""
        problem = ConvProblem.from_key(entry.reference)
        return (
            entry.layer in self._selected_layers(backend)
            and (problem.dtype, problem.layout) in self.plan.formats[backend]
            and entry.side in self.plan.selections[backend].sides
            and self._asks_for(ConvProblem.from_key(entry.candidate), entry.side, backend)
        )

    def _asks_for(self, candidate: ConvProblem, side: Side, backend: str) -> bool:
        keep = self.plan.selections[backend].keep
        return not keep or candidate.channels(side) in keep

    def _selected_layers(self, backend: str) -> set[str]:
        if backend not in self._layers:
            self._layers[backend] = {layer.name for layer in self.plan.selections[backend].places()}
        return self._layers[backend]

    def _without_the_other(self, name: str) -> str | None:
        """Why a backend that was measured was not set against the other library, or not to the end."""
        if lost := self.before.alone.get(name):
            return f"the other library was lost: {lost}"
        measured = any(key[0] == name and one.verdict.code.measured for key, one in self.findings.results.items())
        choice = self.choices.get(name)
        if measured and not (choice and choice.baseline and choice.baseline.entries):
            return "nothing of the other library could be measured, so there is nothing to be set against"
        return None

    def cannot_judge(self) -> str | None:
        """Why this run can't judge, or None."""
        if self.hindrance and not self.scheduled:
            return self.hindrance
        if self.findings.refused:
            name = min(self.findings.refused)
            return f"{name}: {self.findings.unavailable[name]}"
        missing = [name for name in self.plan.required if name in self.findings.unavailable]
        if missing:
            return f"{missing[0]} is required, and unavailable: {self.findings.unavailable[missing[0]]}"
        for name in self.plan.against:
            if trouble := self._without_the_other(name):
                return f"{name}: {trouble}"
        if lost := self.findings.lost[ReasonCode.INTERRUPTED]:
            return f"the run ended before {lost} of {self.findings.wanted.total()} verdicts"
        measured = self.findings.measured or self.findings.checked or any(one.measured for one in self.hunts.values())
        if self.scheduled and not measured:
            return "nothing was measured"
        return None
