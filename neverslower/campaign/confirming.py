"""Measures again, in a fresh process: what looks slower, and what looks slower than its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neverslower.campaign.budget import out_of_time
from neverslower.campaign.context import BackendRun
from neverslower.campaign.judging import Suspect
from neverslower.campaign.library import Library
from neverslower.campaign.passes import shuffled
from neverslower.campaign.turns import known, take_turns
from neverslower.judge.failure import Failure
from neverslower.judge.sequential import CONFIRMING
from neverslower.judge.verdict import Code, Verdict
from neverslower.problem.comparison import Comparison


def confirm(run: BackendRun, suspects: Sequence[Suspect]) -> None:
    """Measure each suspect again, in a fresh process; unless it shows again it is no red."""
    if not suspects:
        return
    recorded = run.recorded.confirmations
    run.library.renew(all(comparison.identity in recorded for comparison, _ in suspects))
    phase = run.phase()
    verdicts = dict(suspects)
    groups = shuffled(list(verdicts), f"{run.settings.seed}/{run.name}/confirm")
    for done, comparison in enumerate((comparison for group in groups for comparison in group), start=1):
        if run.spent():
            late = replace(verdicts[comparison], code=Code.UNDECIDED, reason=out_of_time("confirmed").reason)
            run.library.finish(comparison, late)
            continue
        _confirm_one(run, comparison, verdicts[comparison])
        phase.show("confirm", done, len(suspects))


def _confirm_one(run: BackendRun, comparison: Comparison, first: Verdict) -> None:
    """Finish a suspect whose `first` verdict is SLOWER, by what the fresh process shows."""
    known = run.recorded.confirmations.get(comparison.identity)
    passes = run.library.samples[comparison.identity]
    later = known or run.library.measure(comparison, CONFIRMING * run.settings.blocks, len(passes) % 2 == 1)
    if isinstance(later, Failure):
        run.library.finish(comparison, later.verdict, first)
        return
    if not known:
        run.library.write_samples("confirmed", comparison, run.library.started - 1, later)
    verdict = run.judge.confirmed(passes, later, run.family)
    run.library.finish(comparison, verdict, first, later)


def recheck(run: BackendRun, comparisons: Sequence[Comparison]) -> None:
    """Measure each apparent regression again, in a fresh process, or in another pair of them."""
    if not comparisons:
        return
    groups = [run.libraries()] if run.takes_turns else [[library] for library in run.libraries()]
    for libraries in groups:
        for library in run.libraries():
            library.close_worker()
        for library in libraries:
            library.renew()
        _recheck_with(libraries, run, comparisons)
    if run.other:
        run.other.close_worker()


def _recheck_with(libraries: Sequence[Library], run: BackendRun, comparisons: Sequence[Comparison]) -> None:
    """Measure once more with these libraries, by turns if they are two."""
    phase = run.phase()
    for done, comparison in enumerate(comparisons, start=1):
        if run.spent():
            break
        recorded = [library.recorded.rechecks.get(comparison.identity) for library in libraries]
        blocks = CONFIRMING * run.settings.blocks
        for taken in known(libraries, recorded) or take_turns(libraries, comparison, blocks, 0):
            taken.library.findings.recheck(comparison, taken.answer)
            if taken.new:
                taken.library.write_samples("rechecked", comparison, taken.library.started - 1, taken.answer)
        phase.show("recheck", done, len(comparisons))
