"""Accepting a run as the new baseline: whether it is fit for that, what accepting changes, and writing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neverslower.baseline import exact, folders, timed
from neverslower.baseline.changes import verdict_changes
from neverslower.baseline.scope import Scope
from neverslower.campaign.findings import Findings, Identity, Result
from neverslower.counted import counted
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import BaselineError
from neverslower.files.shown import shown
from neverslower.judge.failure import Failure
from neverslower.judge.verdict import Code, ReasonCode
from neverslower.problem.comparison import Comparison

_FAULTS = (Code.CRASHED, Code.INVALID)
_CUT_SHORT = (ReasonCode.TIME_BUDGET, ReasonCode.BUDGET_ENDED)


@dataclass(frozen=True)
class Proposal:
    """A run that may become a baseline.

    `comparisons` are all that the options select, `recorded` names the test that records each; `passes` is how many
    processes the run was asked for, and `settings` says how it measured, as plain data.
    """

    comparisons: Sequence[Comparison]
    recorded: Mapping[Identity, str]
    findings: Findings
    scope: Scope
    passes: int
    settings: Mapping[str, Any]


def accept(root: Path, proposal: Proposal, reason: str) -> Iterator[str]:
    """Store a run under `root` as the baseline of each of its backends; yield lines that say what changes.

    Raises BaselineError where the run is not fit, would hide what a baseline knows, or can't be written.
    """
    if trouble := unfit(proposal):
        raise BaselineError(trouble)
    for fingerprint in proposal.findings.fingerprints.values():
        yield from _accept_backend(root, proposal, fingerprint, reason)


def unfit(proposal: Proposal) -> str | None:
    """Return why a run is not fit as a baseline, or None."""
    findings = proposal.findings
    if not findings.measured:
        return "nothing was measured"
    if trouble := _unfit_device(findings):
        return trouble
    for comparison in proposal.comparisons:
        if trouble := _incomplete(proposal, comparison) or _faulty(findings, comparison):
            return trouble
    return None


def not_run(comparisons: Sequence[Comparison], recorded: Mapping[Identity, str]) -> str | None:
    """Return which comparison the options select and no test records, or None."""
    for comparison in comparisons:
        if comparison.identity not in recorded:
            return f"{comparison.id} was selected, but not run; narrow the run with --layer, not with -k"
    return None


def _unfit_device(findings: Findings) -> str | None:
    """Return what was wrong with a backend or with its device, or None."""
    for name, why in findings.unavailable.items():
        return f"{name} is unavailable ({why})"
    for name, unsound in findings.unsound.items():
        if grave := [trouble for trouble in unsound if trouble.grave]:
            return f"{name}'s device is unsound for timing: {'; '.join(map(str, grave))}"
    for name, change in findings.changed.items():
        return f"the state of {name}'s device changed while it was measured: {change}"
    return None


def _incomplete(proposal: Proposal, comparison: Comparison) -> str | None:
    """Return what is missing of a comparison, or what is wrong with its own verdict, or None."""
    result = proposal.findings.results.get(comparison.identity)
    if trouble := not_run([comparison], proposal.recorded):
        return trouble
    if result is None:
        return f"{comparison.id} was not measured"
    if result.verdict.code in _FAULTS:
        return f"{comparison.id} is {result.verdict.code}: {result.verdict.reason.text}"
    few = 0 < len(result.passes) < proposal.passes
    if result.verdict.reason.code in _CUT_SHORT or few:
        return f"{comparison.id} was cut by the time budget; give it more with --time-budget"
    if comparison.against_itself and result.verdict.code is Code.SLOWER:
        return f"{comparison.id} is slower than itself: this device is not fit for timing now"
    return None


def _faulty(findings: Findings, comparison: Comparison) -> str | None:
    """Return what went wrong when a comparison was measured again, or with its output, or None."""
    again = findings.rechecks.get(comparison.identity)
    if isinstance(again, Failure) and again.code in _FAULTS:
        return f"{comparison.id} is {again.code}: {again.reason.text}"
    agreement = findings.agreements.get(comparison.identity)
    if agreement and agreement.verdict.code in _FAULTS:
        return f"{comparison.id}, its output: {agreement.verdict.reason.text}"
    return None


def _accept_backend(root: Path, proposal: Proposal, fingerprint: Fingerprint, reason: str) -> Iterator[str]:
    mine = [comparison for comparison in proposal.comparisons if comparison.backend == fingerprint.backend]
    results = [proposal.findings.results[comparison.identity] for comparison in mine]
    stored = {proposal.recorded[result.comparison.identity]: result for result in results if result.observed}
    before = folders.choose(root, fingerprint, upgrade=False).baseline
    if trouble := narrowing(root, fingerprint, proposal.scope):
        raise BaselineError(trouble)
    lines = verdict_changes(before, results)
    path = _store(root, proposal, fingerprint, stored, reason)
    yield f"accepted {counted(len(stored), 'comparison')} as {shown(path)}: {reason}"
    yield from (f"  {line}" for line in lines)


def narrowing(root: Path, now: Fingerprint, scope: Scope) -> str | None:
    """Return which layers the stored run of this version knows and this run does not select, or None.

    The newer one would be chosen instead of it, and hide what is known of them.
    """
    before = folders.choose(root, now, upgrade=False).baseline
    if before is None or before.fingerprint.version != now.version:
        return None
    others = {entry.layer for entry in before.entries.values() if not scope.holds(now.backend, entry)}
    if not others:
        return None
    text = f"{shown(before.path)} also holds {', '.join(sorted(others))}, which this run did not select"
    return f"{text}; measure them too, or remove that file"


def _store(
    root: Path, proposal: Proposal, fingerprint: Fingerprint, results: Mapping[str, Result], reason: str
) -> Path:
    """Write results, by the test that records each, in the format of their evidence; return the file."""
    if any(result.evidence.exact for result in results.values()):
        return folders.save_exact(root, fingerprint, exact.text(fingerprint, results, reason))
    explanations = proposal.findings.explanations
    return folders.save(
        root, fingerprint, timed.document(fingerprint, results, reason, proposal.settings, explanations)
    )
