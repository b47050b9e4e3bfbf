"""Measures pass after pass, until the judge has seen enough or the time is over."""

from __future__ import annotations

import math
from collections.abc import Sequence

from neverslower.campaign.context import BackendRun
from neverslower.campaign.findings import Identity
from neverslower.campaign.judging import settle, suspected
from neverslower.campaign.passes import measure_pass
from neverslower.campaign.turns import measure_pair
from neverslower.judge.change import PassSpread, in_pairs, pairs_needed
from neverslower.problem.comparison import Comparison

FEWEST_PAIRS = 3
"""Pairs of processes that must have been seen before the number that is needed is planned."""


def measure(run: BackendRun, chosen: Sequence[Comparison]) -> None:
    """Take pass after pass of what the judge has not seen enough of yet."""
    left_out: set[Identity] = set()
    for number in range(max(run.budget.fewest, run.judge.most_passes + 1)):
        waiting = _waiting(run, chosen, left_out)
        if not waiting or run.spent():
            break
        phase = run.phase()
        if run.takes_turns:
            measure_pair(run, waiting, number, phase)
        else:
            for library in run.libraries(number):
                measure_pass(run, library, waiting, number, phase)
        if number + 1 == max(run.settings.passes, FEWEST_PAIRS):
            _plan_pairs(run)
        settle(run, chosen)
        left_out |= _what_time_does_not_last_for(run, chosen, left_out, number, phase.begin)
    if run.other:
        run.other.close_worker()


def _waiting(run: BackendRun, chosen: Sequence[Comparison], left_out: set[Identity]) -> list[Comparison]:
    """Return what is to be measured again, what looks slower first: its next pass may settle it."""
    waiting = [one for one in run.library.waiting(chosen) if one.identity not in left_out]
    return sorted(waiting, key=lambda comparison: not suspected(run, comparison))


def _what_time_does_not_last_for(
    run: BackendRun, chosen: Sequence[Comparison], left_out: set[Identity], number: int, begin: float
) -> set[Identity]:
    """Return the least telling, now that a pass has shown what it costs: half-measured ones prove nothing."""
    if run.budget.deadline is None:
        return set()
    waiting = _waiting(run, chosen, left_out)
    if not waiting:
        return set()
    now = run.clock()
    measured = sum(len(run.library.samples.get(comparison.identity, ())) > number for comparison in chosen)
    each = (now - begin) / max(1, measured)
    lasts_for = run.budget.lasts_for(now, each, number + 1, len(run.libraries()))
    return {comparison.identity for comparison in waiting[lasts_for:]}


def _plan_pairs(run: BackendRun) -> None:
    """Say how many pairs of processes are needed, now that some have shown how far they scatter."""
    if run.other is None or run.other.lost:
        return
    before, now = run.other.samples, run.library.samples
    levels: dict[object, list[float]] = {
        identity: in_pairs(before[identity], passes) for identity, passes in now.items() if identity in before
    }
    spread = PassSpread.of(levels)
    if not spread.common.freedom:
        return
    run.budget.raise_fewest(pairs_needed(spread, len(levels), run.judge.most_passes, run.thresholds))
    together, alone = (math.expm1(math.sqrt(variance.value)) for variance in (spread.common, spread.prior))
    scatter = f"differences scatter by {together:.1%} together, {alone:.1%} each"
    pairs = run.budget.fewest
    run.findings.plan(run.name, f"{pairs} pairs of processes, whose {scatter}")
    run.library.write("planned", {"pairs": pairs, "together": spread.common.value, "each": spread.prior.value})
