"""The summary of a run for a terminal, composed here as lines marked for emphasis; whoever prints them adds nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from neverslower.outcome.run_verdict import RunCode
from neverslower.report import calibration, drawn, run_verdict, terminal, upgrade, whole
from neverslower.report.listing import LISTED
from neverslower.report.next_steps import ENDED_EARLY, next_steps
from neverslower.report.overview import Overview


class Emphasis(Enum):
    """How a line stands out, if it does."""

    NONE = "none"
    BOLD = "bold"
    RED = "red"
    YELLOW = "yellow"
    GREEN = "green"


@dataclass(frozen=True)
class Line:
    """One line of the summary; one that is `whole`, such as a command, is not to be broken."""

    text: str
    emphasis: Emphasis = Emphasis.NONE
    whole: bool = False


TITLE = "never-slower"
_STANDS_OUT = {
    RunCode.HAZARDS: Emphasis.YELLOW,
    RunCode.INCOMPLETE: Emphasis.BOLD,
    RunCode.GREEN: Emphasis.GREEN,
}
"""Every other verdict is shown in red."""


def lines(overview: Overview) -> Iterator[Line]:
    """Yield the summary: what the run says first, then what was found, and last what to do next."""
    verdict = overview.verdict
    yield Line(run_verdict.headline(verdict), _STANDS_OUT.get(verdict.code, Emphasis.RED))
    yield from _plain(run_verdict.further(verdict))
    if not verdict.asked:
        return
    for assessed in overview.wholes:
        yield from _plain(whole.lines(assessed))
    yield from _plain(overview.remarks)
    if overview.beyond:
        yield Line(f"beyond --benchmark-compare-fail: {len(overview.beyond)}")
        yield from _plain(f"  {text}" for text in overview.beyond[:LISTED])
        if len(overview.beyond) > LISTED:
            yield Line(f"  … and {len(overview.beyond) - LISTED} more")
    yield from _plain(_found(overview))
    yield from _plain(overview.kept)
    yield from (Line(text, Emphasis.BOLD) for text in overview.acceptance)
    if verdict.code in ENDED_EARLY and overview.findings.measured:
        yield Line("ended early: what was measured so far is in the journal", Emphasis.RED)
    if overview.journal:
        yield Line(f"journal: {overview.journal}", whole=True)
    yield from _next(overview)


def _found(overview: Overview) -> Iterator[str]:
    findings, before, verdict = overview.findings, overview.before, overview.verdict
    yield from terminal.summary(
        findings, overview.assessed, overview.choices, overview.verbose, verdict.why, verdict.beside
    )
    yield from terminal.losses(before, "the other library: ")
    yield from upgrade.lost(before.alone)
    yield from upgrade.lines(overview.changes)
    yield from calibration.remarks(findings, overview.standings, overview.specs)
    for what, hunted in overview.hunts.items():
        yield from drawn.summary(what, hunted, overview.again)


def _next(overview: Overview) -> Iterator[Line]:
    steps = list(next_steps(overview))
    if steps:
        yield Line("next:", Emphasis.BOLD)
    for purpose, how in steps:
        yield Line(f"  {purpose}:")
        yield Line(f"    {how}", whole=True)


def _plain(texts: Iterable[str]) -> Iterator[Line]:
    return (Line(text) for text in texts)
