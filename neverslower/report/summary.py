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
from neverslower.outcome.upgrade import Change
from neverslower.report import calibration, drawn, terminal, upgrade
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

    `journal` is its path as it is shown, `cannot_judge` says why the run can't judge, and `ended_early` that it was
    interrupted or broke; `again` gives the command that measures a drawn layer again.
    """

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
    cannot_judge: str | None
    ended_early: bool
    again: drawn.Again


def title(overview: Overview) -> str:
    """Return the summary's title."""
    return terminal.title(overview.findings)


def lines(overview: Overview) -> Iterator[Line]:
    """Yield the summary: what was found, what else is to be known, and last whether the run could judge."""
    yield from _plain(_found(overview))
    yield from _plain(overview.kept)
    yield Line(f"journal: {overview.journal}")
    yield from (Line(text, Emphasis.BOLD) for text in overview.acceptance)
    if overview.ended_early:
        told = "ended early: what was measured so far is in the journal; go on with --resume"
        yield Line(f"{told} {overview.journal}", Emphasis.RED)
    elif overview.cannot_judge:
        yield Line(f"cannot judge: {overview.cannot_judge}", Emphasis.RED)


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
