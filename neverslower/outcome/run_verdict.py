"""What a whole run says, from what was asked of it and what it found; pure, and made in this one place."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from neverslower.baseline.folders import BaselineChoice
from neverslower.campaign.findings import Findings
from neverslower.hunt.hunting import Hunted
from neverslower.judge.verdict import ReasonCode


@dataclass(frozen=True)
class Asked:
    """What a run was asked for.

    `required` and `against` name backends: those that must be there, and those that are measured beside another
    library. `scheduled` counts comparisons to time, outputs to check and hunts; `hindrance` says why there is none.
    """

    required: Collection[str] = ()
    against: Collection[str] = ()
    scheduled: int = 0
    hindrance: str | None = None


def cannot_judge(
    asked: Asked,
    findings: Findings,
    before: Findings,
    choices: Mapping[str, BaselineChoice],
    hunts: Collection[Hunted],
) -> str | None:
    """Return why a run can't judge, or None; `before` is what the other library showed, if there was one."""
    if asked.hindrance and not asked.scheduled:
        return asked.hindrance
    if findings.refused:
        name = min(findings.refused)
        return f"{name}: {findings.unavailable[name]}"
    missing = [name for name in asked.required if name in findings.unavailable]
    if missing:
        return f"{missing[0]} is required, and unavailable: {findings.unavailable[missing[0]]}"
    for name in asked.against:
        if trouble := _without_the_other(name, findings, before, choices.get(name)):
            return f"{name}: {trouble}"
    if lost := findings.lost[ReasonCode.INTERRUPTED]:
        return f"the run ended before {lost} of {findings.wanted.total()} verdicts"
    measured = findings.measured or findings.checked or any(hunted.measured for hunted in hunts)
    if asked.scheduled and not measured:
        return "nothing was measured"
    return None


def _without_the_other(name: str, findings: Findings, before: Findings, choice: BaselineChoice | None) -> str | None:
    """Return why a backend that was measured was not set against the other library, or not to the end."""
    if lost := before.alone.get(name):
        return f"the other library was lost: {lost}"
    results = findings.results.items()
    measured = any(backend == name and result.verdict.code.measured for (backend, *_), result in results)
    if measured and not (choice and choice.baseline and choice.baseline.entries):
        return "nothing of the other library could be measured, so there is nothing to be set against"
    return None
