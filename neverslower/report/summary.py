"""The summary of a run for a terminal, composed here as lines marked for emphasis; whoever prints them adds nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from neverslower.baseline.folders import BaselineChoice
from neverslower.calibration.stored import Standing
from neverslower.campaign.findings import Findings
from neverslower.hunt.hunting import Hunted
from neverslower.outcome.assessment import Assessed
from neverslower.outcome.run_verdict import RunCode, RunVerdict
from neverslower.outcome.upgrade import Change
from neverslower.report import calibration, drawn, run_verdict, terminal, upgrade
from neverslower.worker.process import WorkerSpec


class Emphasis(Enum):
    """How a line stands out, if it does."""

    NONE = "none"
    BOLD = "bold"
    RED = "red"


@dataclass(frozen=True)
class Line:
    """One line of the summary."""

    text: str
    emphasis: Emphasis = Emphasis.NONE


@dataclass(frozen=True)
class Overview:
    """Everything that a run's summary tells; see Run for each.

    `journal` is its path as it is shown; `again` gives the command that measures a drawn layer again.
    """

    verdict: RunVerdict
    findings: Findings
    before: Findings
    assessed: Sequence[Assessed]
    choices: Mapping[str, BaselineChoice]
    changes: Sequence[Change]
    standings: Mapping[str, Standing]
    specs: Mapping[str, WorkerSpec]
    hunts: Mapping[str, Hunted]
    kept: Sequence[str]
    acceptance: Sequence[str]
    journal: str
    strict: bool
    again: drawn.Again


TITLE = "never-slower"
_ENDED_EARLY = (RunCode.INTERRUPTED, RunCode.INTERNAL_ERROR, RunCode.USAGE_ERROR)
_STANDS_OUT = {
    RunCode.HAZARDS: Emphasis.BOLD,
    RunCode.INCOMPLETE: Emphasis.BOLD,
    RunCode.GREEN: Emphasis.BOLD,
}
"""Every other verdict is shown in red."""


def lines(overview: Overview) -> Iterator[Line]:
    """Yield the summary: what the run says first, then what was found, and what else is to be known."""
    verdict = overview.verdict
    yield Line(run_verdict.headline(verdict), _STANDS_OUT.get(verdict.code, Emphasis.RED))
    yield from _plain(run_verdict.further(verdict))
    if not verdict.asked:
        return
    yield from _plain(_found(overview))
    yield from _plain(overview.kept)
    yield Line(f"journal: {overview.journal}")
    yield from (Line(text, Emphasis.BOLD) for text in overview.acceptance)
    if verdict.code in _ENDED_EARLY:
        told = "ended early: what was measured so far is in the journal; go on with --resume"
        yield Line(f"{told} {overview.journal}", Emphasis.RED)


def _found(overview: Overview) -> Iterator[str]:
    findings, before = overview.findings, overview.before
    yield from terminal.summary(findings, overview.assessed, overview.choices)
    yield from terminal.losses(before, "the other library: ")
    yield from upgrade.lost(before.alone)
    yield from upgrade.lines(overview.changes)
    yield from calibration.remarks(findings, overview.standings, overview.specs)
    for what, hunted in overview.hunts.items():
        yield from drawn.summary(what, hunted, overview.again)


def _plain(texts: Iterable[str]) -> Iterator[Line]:
    return (Line(text) for text in texts)
