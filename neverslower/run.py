"""One run from plan to verdict: the campaign, the baselines chosen for its devices, and what it came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from neverslower.baseline import folders
from neverslower.baseline.entry import Entry
from neverslower.baseline.folders import BaselineChoice
from neverslower.baseline.scope import vanished
from neverslower.calibration import scatter
from neverslower.campaign import resume
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings, Identity
from neverslower.campaign.forecast import Tell, untold
from neverslower.campaign.progress import Progress
from neverslower.campaign.resume import Recorded
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import JournalError, WorkerFailure
from neverslower.files.journal import Journal
from neverslower.hunt.hunting import Hunted
from neverslower.judge.pooled import Scatter
from neverslower.judge.verdict import STANDARD, Code, Reason, ReasonCode, Thresholds, Verdict
from neverslower.outcome import concluded
from neverslower.outcome.assessment import Assessed, Assessment
from neverslower.outcome.beside import baseline_of
from neverslower.outcome.known import AssessedRule, Measured, assess_rules
from neverslower.outcome.run_verdict import Asked, Came, RunCode, RunVerdict, judge_run
from neverslower.outcome.table import Finding
from neverslower.outcome.tally import Questions
from neverslower.outcome.upgrade import Change, changes
from neverslower.outcome.whole import AssessedWhole, explained, times_by_place
from neverslower.problem.comparison import Comparison
from neverslower.problem.whole import WholeComparison
from neverslower.releases.providing import provided
from neverslower.report.run_verdict import fields
from neverslower.rules.rule import Rule, Rules
from neverslower.run_plan import RunPlan
from neverslower.worker.process import StartWorker, Worker

NEVER_SLOWER, OUTPUTS = "never-slower", "outputs"
"""What a hunt through drawn layers asks: whether a pruned one is slower, or whether an output is wrong."""


@dataclass
class Run:
    """One run: what it was asked for, and after the campaign what it found and the baselines chosen for its devices.

    `root` is the folder of baselines. `compare` is what the user wants to compare with: a file or its number, True
    for the best fitting baseline, False for none; `resumes` says that the journal is an earlier run's, with which this
    one goes on. `asked` is what its items ask, and `verdict` what it says at the end. `recorded` names the test that
    records each comparison; `hindrance` says why there is nothing to compare, and `acceptance` what came of accepting
    the run. `before` is what another library showed that was measured in this run, `changes` how this one differs.
    `hunts` are those through drawn layers, by what they looked for, and `kept` says which of their examples were kept.
    `items` holds what is said about each item, by its id. `recorded_before` is what an earlier run's journal holds, and
    `reused` says how much of it this run has used. `unmet` says why something that was asked can't be answered,
    whatever is measured of layers; where layers were only removed, the whole network answers it. `beyond` is what
    --benchmark-compare-fail refuses. `rules` are about known hazards, and `ruled` says what became of each that is an
    item of the run.
    """

    plan: RunPlan
    root: Path
    journal_path: Path
    compare: str | bool = False
    resumes: bool = False
    findings: Findings = field(default_factory=Findings)
    choices: dict[str, BaselineChoice] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    items: dict[str, Assessed] = field(default_factory=dict)
    recorded: dict[Identity, str] = field(default_factory=dict)
    acceptance: list[str] = field(default_factory=list)
    asked: Questions = field(default_factory=Questions)
    verdict: RunVerdict | None = None
    hindrance: str | None = None
    hunts: dict[str, Hunted] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    before: Findings = field(default_factory=Findings)
    changes: list[Change] = field(default_factory=list)
    thresholds: Thresholds = STANDARD
    recorded_before: Recorded | None = None
    reused: list[str] = field(default_factory=list)
    unmet: str = ""
    beyond: list[str] = field(default_factory=list)
    rules: Rules = field(default_factory=Rules)
    ruled: dict[Rule, AssessedRule] = field(default_factory=dict)
    start: StartWorker = field(default_factory=lambda: Worker)

    # What is asked

    @property
    def comparing(self) -> bool:
        """Whether times are set against others: those of a baseline, or of another library in this run."""
        return bool(self.compare or self.plan.against)

    def hindered(self, why: str) -> None:
        """Remember why there is nothing to compare."""
        self.hindrance = why

    def nothing_pruned(self, why: str) -> None:
        """Remember why no layer is pruned; of a pruned model it was asked, and can't be answered by times of layers."""
        self.hindered(why)
        if self.plan.pairing:
            self.unmet = self.unmet or why

    def require_advice(self) -> None:
        """Remember why advice can't be judged that the run's items ask for, if that is so."""
        if why := self.plan.why_no_advice():
            self.hindered(self.hindrance or why)
            self.unmet = self.unmet or why

    def records(self, comparison: Comparison, test: str) -> None:
        """Remember the id of the test that records a comparison."""
        self.recorded[comparison.identity] = test

    def provide(self, report: Callable[[str], None]) -> None:
        """Have the library there that --against names as a release. Raises NeverSlowerError where it can't be had."""
        against = {name: provided(spec, report) for name, spec in self.plan.against.items()}
        self.plan = replace(self.plan, against=against)

    def read_journal(self) -> None:
        """Read the journal that this run goes on with, if it does. Raises NeverSlowerError where it is another's."""
        if self.resumes:
            self.recorded_before = resume.load(self.journal_path)
            self.recorded_before.require_backends(self.plan.backends)

    # Measuring

    def run(self, asked: Questions, progress: Progress, tell: Tell = untold) -> None:
        """Measure what is asked of listed layers, journal, and choose the baselines of the devices that were found.

        Hunts for slow layers will follow: they, the ratios and the changes on each backend share the chance of a false
        red.
        """
        self.asked, timed = asked, asked.timed
        changed = len({comparison.backend for comparison in timed}) if self.comparing else 0
        self.thresholds = self.plan.thresholds(bool(timed) + changed + asked.slow_hunts)
        if not (timed or asked.checked):
            return
        self.rules.require_computable(asked.slower)
        with closing(Journal(self.journal_path)) as journal:
            campaign = self._campaign(journal, progress, tell)
            self.findings, self.before = campaign.findings, campaign.before
            if self.recorded_before:  # The campaign has dropped what can't be reused.
                self.reused.append(self.recorded_before.reused(timed))
            for model in self.plan.models:
                journal.write("model", model.record())
            if self.plan.pairing:
                journal.write("pairing", self.plan.pairing.record())
            campaign.run(timed, asked.checked)
            scatter.save(self.journal_path.parent, self.findings, self.plan.settings.blocks)
            if self.plan.against:
                self.changes = list(changes(self.assessment, self.findings))

    def _campaign(self, journal: Journal, progress: Progress, tell: Tell) -> Campaign:
        return Campaign(
            self.plan.backends,
            self.plan.settings,
            journal,
            progress=progress,
            tell=tell,
            reviewer=self,
            recorded=self.recorded_before,
            refuse_unsound=self.plan.refuse_unsound,
            against=self.plan.against,
            thresholds=self.thresholds,
            start=self.start,
        )

    # Reviewing: what the campaign asks of the baselines

    def identify(self) -> None:
        """Ask each backend for its fingerprint at the very beginning, for choosing its baseline."""
        for spec in self.plan.backends.values():
            try:
                with self.start(spec) as worker:
                    self.identified(worker.fingerprint)
            except WorkerFailure:
                continue  # The campaign will meet it again, and says so.

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
            path = folders.named(self.root, fingerprint, self.compare)
            self.choices[name] = folders.compare_with(path, fingerprint)
        else:
            self.choices[name] = folders.choose(self.root, fingerprint, upgrade=bool(self.compare))

    def beside(self, backend: str, before: Findings) -> None:
        """Take what another library showed in this run as what a backend is set against, instead of a stored run."""
        spec = self.plan.against[backend].place
        baseline = baseline_of(before, backend, spec)
        text = f"--against {spec}: nothing was measured there"
        absent = Verdict(Code.NO_BASELINE, Reason(ReasonCode.NOT_IN_BASELINE, text))
        self.choices[backend] = BaselineChoice(baseline, None if baseline else absent)

    def regressed(self, backend: str) -> list[Comparison]:
        """Return what looks slower than in the baseline that the user asked to compare with."""
        choice = self.choices.get(backend)
        if not (self.comparing and choice and choice.baseline):
            return []
        return self._assess(comparing=True).regressed(backend)

    def scatter(self, fingerprint: Fingerprint) -> Scatter | None:
        """Return the scatter that an earlier run of this device and software has left, if any.

        A resumed run has that which its journal names: what was kept since may be its own.
        """
        if self.recorded_before:
            return self.recorded_before.pooled.get(fingerprint.backend)
        return scatter.load(self.journal_path.parent, fingerprint, self.plan.settings.blocks)

    # What it came to

    @cached_property
    def assessment(self) -> Assessment:
        """The findings set against the baselines; ask after the campaign."""
        return self._assess(self.comparing)

    def _assess(self, comparing: bool) -> Assessment:
        before = self.before if self.plan.against else None
        return Assessment(self.findings, self.choices, comparing, before, self.thresholds, self.rules)

    def judged_rules(self) -> list[Rule]:
        """Return the rules that this run can judge: those of its backends, where it measures what they usually do."""
        if not self.plan.names_nothing or self.hindrance:
            return []
        return [rule for rule in self.rules.rules if rule.backend in self.plan.backends]

    def rule(self, rule: Rule) -> AssessedRule:
        """Return what became of a rule, and remember it: its item was run."""
        name = rule.backend
        chosen = [comparison for comparison in self.plan.comparisons if comparison.backend == name]
        asked = {comparison.identity for comparison in self.asked.slower}
        whole = all(comparison.against_itself or comparison.identity in asked for comparison in chosen)
        formats, sides = tuple(self.plan.formats[name]), self.plan.selections[name].sides
        measured = Measured(self.findings, chosen, whole, formats, sides)
        self.ruled[rule] = next(one for one in assess_rules(self.rules, name, measured) if one.rule == rule)
        return self.ruled[rule]

    def whole(self, comparison: WholeComparison) -> AssessedWhole:
        """Return what is said of a whole network, and what its layers explain of that."""
        result, pairing = self.findings.wholes.get(comparison.identity), self.plan.pairing
        assessed = self.assessment.whole(comparison)
        if result is None or pairing is None:
            return assessed
        layers = times_by_place(pairing, self.plan.comparisons, comparison, self.findings.results)
        return replace(assessed, explained=explained(result.passes, layers))

    def concluded(self, item: str, assessed: Assessed) -> None:
        """Remember what is said about one item, by its id: one that is run again is still one item."""
        self.items[item] = assessed

    @property
    def assessed(self) -> list[Assessed]:
        """What is said about each item that was run."""
        return list(self.items.values())

    def vanished(self) -> list[Entry]:
        """Return the chosen baselines' entries in scope that no comparison measures any more."""
        return vanished(self.choices, self.plan.scope, self.plan.comparisons)

    def conclude(self, ending: RunCode | None, why: str, failed_items: bool) -> RunVerdict | None:
        """Return the run's verdict, and make it the journal's last line; None where nothing was asked.

        `ending` is pytest's own one, of a reason `why`; `failed_items` says that some item failed.
        """
        if not (self.asked or self.hindrance or ending):
            return None
        plan, pairing = self.plan, self.plan.pairing
        answered = self.asked.wholes and pairing and pairing.only_removed
        unmet = "" if answered else self.unmet
        asked = Asked(self.asked, plan.required, plan.against, self.hindrance, plan.strict, plan.least_decided, unmet)
        slow, outputs = _hunts_for(self.hunts, NEVER_SLOWER), _hunts_for(self.hunts, OUTPUTS)
        vanished = sum(item.finding is Finding.VANISHED for item in self.assessed)
        rules = [assessed.finding for assessed in self.ruled.values()]
        came = Came(self.assessment, slow, outputs, vanished, failed_items, ending, why, len(self.beyond), rules)
        self.verdict = judge_run(asked, came)
        if self.asked:
            self._write_last(self.verdict)
        return self.verdict

    def _write_last(self, verdict: RunVerdict) -> None:
        """Write what was concluded, and the verdict last; that a journal can't be written was reported before."""
        with suppress(JournalError), closing(Journal(self.journal_path)) as journal:
            for said in concluded.lines(self.assessed, self.plan.strict, bool(self.plan.against)):
                journal.write(concluded.EVENT, said)
            journal.write("run", fields(verdict))


def _hunts_for(hunts: Mapping[str, Hunted], question: str) -> list[Hunted]:
    return [hunted for name, hunted in hunts.items() if name.endswith(f", {question}")]
