"""Measures again, in a fresh process, what looks slower than its baseline."""

from __future__ import annotations

from collections.abc import Sequence

from neverslower.campaign.context import BackendRun
from neverslower.campaign.library import Library
from neverslower.campaign.turns import known, take_turns
from neverslower.judge.sequential import CONFIRMING
from neverslower.problem.comparison import Comparison


def recheck(run: BackendRun, comparisons: Sequence[Comparison]) -> None:
    """Measure each apparent regression again, in a fresh process, or in another pair of them."""
    if not comparisons or run.spent(run.start):
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
