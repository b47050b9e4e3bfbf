"""Make the account of a run that has just ended: its journal, and what its tables made of each verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from neverslower.campaign.findings import Identity
from neverslower.errors import NeverSlowerError
from neverslower.outcome.concluded import Concluded, concluded
from neverslower.outcome.table import Finding, Outcome
from neverslower.outcome.upgrade import Change
from neverslower.page import journalled, of_journal, of_stored
from neverslower.page.account import Account, Case, Kind, Source, Step
from neverslower.page.calibrated import with_calibration
from neverslower.page.of_journal import Parts, with_findings
from neverslower.page.reading import naming, with_changes
from neverslower.problem.comparison import Comparison
from neverslower.report import run_verdict, terminal, whole
from neverslower.report.next_steps import ONE_FAILURE, next_steps
from neverslower.report.overview import Overview

Again = Callable[[Comparison], str]
"""Gives the command that measures a comparison again as this run did."""


def account_of_run(overview: Overview, journal: Path, changes: Sequence[Change], again: Again) -> Account:
    """Return the account of a run; a journal that could not be written leaves it without cases.

    `changes` are those against the chosen baselines or the other library. The first sentence is the summary's.
    """
    parts, verdict, trouble = Parts(), overview.verdict, ""
    try:
        if overview.journal:
            with naming(journal):
                _add_journal(parts, overview, journal, changes, again)
    except NeverSlowerError as error:
        trouble = f"this has no cases: {error}"
    return Account(
        sentence=run_verdict.headline(verdict),
        verdict=str(verdict.code),
        exit_code=verdict.exit_code,
        further=tuple(run_verdict.further(verdict)),
        steps=tuple(_steps(overview, parts.cases)),
        notes=tuple(filter(None, [trouble, *_notes(overview)])),
        sources=tuple(parts.sources),
        plans=tuple(parts.plans),
        cases=tuple(parts.cases),
        wholes=tuple(parts.wholes),
    )


def _add_journal(parts: Parts, overview: Overview, path: Path, changes: Sequence[Change], again: Again) -> None:
    """Add what the run has written into its journal, where earlier runs may have written, too."""
    of_journal.add(parts, path, journalled.read(path), Kind.RUN)
    found, sources = concluded(overview.assessed, overview.strict, overview.verdict.beside), parts.sources
    compared = {item.comparison.identity: item.comparison for item in reversed(overview.assessed)}
    mine = [case for case in parts.cases if overview.hunts or _is_of_the_run(case, overview, sources)]
    cases = with_changes(mine, changes, sources)
    parts.sources = [
        source if source.before else with_calibration(source, overview.standings.get(source.backend))
        for source in sources
    ]
    parts.cases = [
        _of_the_run(case, found[identity], overview.findings.marked.get(identity, ""), again(compared[identity]))
        if (identity := _identity(case, sources)) in found and not sources[case.source].before
        else case
        for case in cases
    ]
    wholes = {result.comparison.id for result in overview.findings.wholes.values()}
    parts.wholes = [found for found in parts.wholes if found.id in wholes]
    _add_baselines(parts, overview)


def _identity(case: Case, sources: Sequence[Source]) -> Identity:
    return sources[case.source].backend, case.unpruned, case.problem


def _is_of_the_run(case: Case, overview: Overview, sources: Sequence[Source]) -> bool:
    """Return whether the run has a result of a case, with the library that it is of; what hunts found has none."""
    findings = overview.before if sources[case.source].before else overview.findings
    return _identity(case, sources) in findings.results


def _steps(overview: Overview, cases: Sequence[Case]) -> Iterator[Step]:
    """Yield what to do next; the summary's word for a command that stands above it becomes the command."""
    failed = [case.again for case in cases if case.outcome == Outcome.FAILED and case.again]
    for purpose, how in next_steps(overview):
        yield Step(purpose, failed[0] if purpose == ONE_FAILURE and failed else how)


def _notes(overview: Overview) -> Iterator[str]:
    """Yield what is to be known besides the cases: losses, states, remarks, whole networks, and what vanished."""
    yield from overview.remarks
    for assessed in overview.wholes:
        yield from whole.lines(assessed)
    yield from terminal.losses(overview.findings)
    yield from terminal.states(overview.findings)
    for name, why in overview.findings.unavailable.items():
        yield f"{name} is unavailable: {why}"
    yield from (item.verdict.reason.text for item in overview.assessed if item.finding is Finding.VANISHED)
    yield from overview.kept
    yield from overview.acceptance


def _of_the_run(case: Case, found: Sequence[Concluded], marked: str, again: str) -> Case:
    """Return a case with what the run's items said of it, and with the command that measures it as this run did."""
    return replace(with_findings(case, found), marked=marked, again=again)


def _add_baselines(parts: Parts, overview: Overview) -> None:
    """Add what the chosen baselines hold of this run's cases, as sources that they are compared with."""
    for number, source in enumerate(list(parts.sources)):
        choice = overview.choices.get(source.backend)
        if source.before or not (choice and choice.baseline) or choice.baseline.beside:
            continue
        baseline = choice.baseline
        mine = {(case.unpruned, case.problem) for case in parts.cases if case.source == number}
        entries = {key: entry for key, entry in baseline.entries.items() if key in mine}
        differs = tuple(source.fingerprint.changes(baseline.fingerprint))
        parts.sources[number] = replace(source, compared=len(parts.sources), differs=differs)
        of_stored.add_baseline(parts, replace(baseline, entries=entries), {})
