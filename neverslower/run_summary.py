"""Say what a run came to, for its summary and its page, and why there is nothing to say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from neverslower.baseline.acceptance import not_run
from neverslower.calibration.stored import Standing, standing
from neverslower.counted import counted
from neverslower.files.shown import shown
from neverslower.outcome.run_verdict import RunCode, RunVerdict
from neverslower.report import pairs
from neverslower.report.drawn import Again
from neverslower.report.overview import Overview
from neverslower.report.rules import rule_lines
from neverslower.run import Run


def notes_of(run: Run) -> list[str]:
    """Return what to know of the user's models, of how they were paired, and of counts that do not fit."""
    pairing = run.plan.pairing
    return [*run.plan.notes(), *(pairs.lines(pairing) if pairing else ())]


def refused_at_once(run: Run) -> bool:
    """Return whether a run ended by a user's mistake before anything was measured: its one line says all."""
    mistaken = run.verdict is not None and run.verdict.code is RunCode.USAGE_ERROR
    return mistaken and not (run.findings.verdicts or run.findings.agreements)


def repeated_options(run: Run) -> tuple[str, ...]:
    """Return the options, as words of a command, that decide what is said of an item."""
    if not run.compare:
        return run.plan.repeated
    compare = "--benchmark-compare" if run.compare is True else f"--benchmark-compare={run.compare}"
    return *run.plan.repeated, compare


def standings_of(run: Run) -> dict[str, Standing]:
    """Return how each device that was timed stands to its calibration, by backend."""
    timed = {result.comparison.backend for result in run.findings.results.values() if result.passes}
    prints = run.findings.fingerprints
    return {name: standing(run.root, prints[name]) for name in prints if name in timed}


def overview_of(
    run: Run, verdict: RunVerdict, again: Again, standings: Mapping[str, Standing], verbose: bool = False
) -> Overview:
    """Return everything that a run's summary says.

    `again` gives the command that measures a layer again, `standings` are those of the devices worth a word, and
    `verbose` asks for every layer's times.
    """
    return Overview(
        verdict=verdict,
        findings=run.findings,
        before=run.before,
        assessed=run.assessed,
        choices=run.choices,
        changes=run.changes,
        wholes=[run.whole(comparison) for comparison in run.asked.wholes],
        standings=standings,
        specs=run.plan.backends,
        hunts=run.hunts,
        kept=list(dict.fromkeys(run.kept)),
        acceptance=run.acceptance,
        journal=shown(run.journal_path) if run.journal_path.exists() else "",
        strict=run.plan.strict,
        again=again,
        remarks=[*run.plan.notes(), *_paired(run, verbose), *run.reused, *rule_lines(run.ruled.values(), run.assessed)],
        unpaired=len(run.plan.pairing.unpaired) if run.plan.pairing else 0,
        beyond=run.beyond,
        verbose=verbose,
        storable=not_run(run.plan.comparisons, run.recorded) is None,
    )


def _paired(run: Run, verbose: bool) -> Iterator[str]:
    """Yield how models were paired, and what a layer without a pair takes."""
    if run.plan.pairing:
        yield from pairs.lines(run.plan.pairing, run.findings, None if verbose else pairs.LISTED)


def why_nothing(run: Run) -> str:
    """Return why a backend has nothing to compare."""
    if pairing := run.plan.pairing:
        counts = f"{counted(len(pairing.pairs), 'layer')} paired, {len(pairing.unpaired)} without a pair"
        return f"nothing to compare: no chosen layer of {pairing.pruned.title} has other channels ({counts})"
    return "nothing to compare: the chosen layers have no channel that can be pruned"


def why_no_study(run: Run) -> str:
    """Return why there is no case of the study of tuned logs."""
    if run.plan.pairing:
        return "the study of tuned logs prunes a layer by itself; leave out --pruned"
    return "no chosen backend searches for schedules; tvm does"
