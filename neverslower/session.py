"""One run from plan to report: the campaign, the baselines chosen for its devices, accepting it as a baseline."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from neverslower import baseline
from neverslower.assessment import Assessed, Assessment
from neverslower.campaign import Campaign, Progress
from neverslower.comparison import Comparison
from neverslower.environment import Fingerprint
from neverslower.errors import BaselineError
from neverslower.findings import Findings, Identity
from neverslower.journal import Journal
from neverslower.options import Plan
from neverslower.problem import ConvProblem, Side
from neverslower.verdict import Code, ReasonCode
from neverslower.worker import BackendUnavailable, Worker, WorkerDied


@dataclass
class Session:
    """What a run knows: the plan, and after the campaign its findings and the chosen baselines.

    `root` is the folder of baselines. `compare` is what the user wants to compare with: a file or its number, True
    for the best fitting baseline, False for none. `recorded` names the test that records each comparison;
    `hindrance` says why there is nothing to compare.
    """

    plan: Plan
    root: Path
    journal_path: Path
    compare: str | bool = False
    findings: Findings = field(default_factory=Findings)
    choices: dict[str, baseline.Choice] = field(default_factory=dict)
    fingerprints: dict[str, Fingerprint] = field(default_factory=dict)
    assessed: list[Assessed] = field(default_factory=list)
    recorded: dict[Identity, str] = field(default_factory=dict)
    acceptance: list[str] = field(default_factory=list)
    scheduled: int = 0
    hindrance: str | None = None

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Every comparison that the options select."""
        return self.plan.comparisons()

    @cached_property
    def assessment(self) -> Assessment:
        """The findings set against the baselines; ask after the campaign."""
        return Assessment(self.findings, self.choices, bool(self.compare))

    def run(self, timed: list[Comparison], checked: list[Comparison], progress: Progress) -> None:
        """Measure, journal, and choose the baselines of the devices that were found."""
        self.scheduled = len(timed) + len(checked)
        if not self.scheduled:
            return
        journal = Journal(self.journal_path)
        campaign = Campaign(self.plan.backends, self.plan.settings, journal, progress=progress)
        self.findings = campaign.findings
        try:
            campaign.run(timed, checked)
        finally:
            journal.close()
        self.fingerprints |= self.findings.fingerprints
        self.choose_baselines()

    def choose_baselines(self) -> None:
        """The baseline of each backend whose device is known; one that can't be read is an error of the user's."""
        for name, fingerprint in self.fingerprints.items():
            if name in self.choices:
                continue
            if isinstance(self.compare, str):
                self.choices[name] = baseline.compare_with(self._named_baseline(fingerprint), fingerprint)
            else:
                self.choices[name] = baseline.choose(self.root, fingerprint, upgrade=bool(self.compare))

    def _named_baseline(self, fingerprint: Fingerprint) -> Path:
        """The file that --benchmark-compare names: a path, or the number of one of this device's."""
        path = Path(str(self.compare))
        if path.is_file():
            return path
        numbered = sorted((self.root / fingerprint.folder).glob(f"{self.compare}*.json"))
        if len(numbered) == 1:
            return numbered[0]
        raise BaselineError(
            f"--benchmark-compare={self.compare}: no such file, and {len(numbered)} baselines in "
            f"{self.root / fingerprint.folder} begin so"
        )

    def identify(self) -> None:
        """Ask each backend for its fingerprint before anything is measured, for choosing a baseline."""
        for name, spec in self.plan.backends.items():
            try:
                with Worker(spec) as worker:
                    self.fingerprints[name] = worker.fingerprint
            except (BackendUnavailable, WorkerDied):
                continue  # The campaign will meet it again, and says so.

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
        stored = {self.recorded[one.comparison.identity]: one for one in results if one.passes}
        before = baseline.choose(self.root, fingerprint, upgrade=False).baseline
        lines = baseline.changes(before, results)
        content = baseline.document(fingerprint, stored, reason, self.plan.settings_fields())
        path = baseline.save(self.root, fingerprint, content)
        yield f"accepted {len(stored)} comparisons as {os.path.relpath(path)}: {reason}"
        yield from (f"  {line}" for line in lines)

    def _unfit(self) -> str | None:
        """Why this run is no fit baseline, or None."""
        if not self.findings.measured:
            return "nothing was measured"
        for name, why in self.findings.unavailable.items():
            return f"{name} is unavailable ({why})"
        for comparison in self.comparisons:
            result = self.findings.results.get(comparison.identity)
            if result is None or comparison.identity not in self.recorded:
                return f"{comparison.id} was selected, but not run; narrow the run with --layer, not with -k"
            if result.verdict.code in (Code.CRASHED, Code.INVALID):
                return f"{comparison.id} is {result.verdict.code}: {result.verdict.reason.text}"
            if result.verdict.reason.code is ReasonCode.TIME_BUDGET:
                return f"{comparison.id} was left out by the time budget; give it more with --time-budget"
        return None

    def covers(self, entry: baseline.Entry) -> bool:
        """Whether a baseline's entry lies within the selected scope, and yet no test records it now."""
        backend = next((name for name, choice in self.choices.items() if _holds(choice, entry)), "")
        if (backend, entry.reference, entry.candidate) in self.recorded:
            return False
        problem = ConvProblem.from_key(entry.reference)
        selected = {layer.name for layer in self.plan.selection.places()}
        formats = self.plan.formats[backend]
        return (
            entry.layer in selected
            and (problem.dtype, problem.layout) in formats
            and Side(entry.side) in self.plan.selection.sides
        )

    def cannot_judge(self) -> str | None:
        """Why this run can't judge, or None."""
        if self.hindrance and not self.scheduled:
            return self.hindrance
        missing = [name for name in self.plan.required if name in self.findings.unavailable]
        if missing:
            return f"{missing[0]} is required, and unavailable: {self.findings.unavailable[missing[0]]}"
        if self.scheduled and not (self.findings.measured or self.findings.agreements):
            return "nothing was measured"
        return None


def _holds(choice: baseline.Choice, entry: baseline.Entry) -> bool:
    return choice.baseline is not None and (entry.reference, entry.candidate) in choice.baseline.entries
