"""Measures pass after pass, until the judge has seen enough or the time is over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean

from neverslower.campaign.context import BackendRun
from neverslower.campaign.forecast import Forecast
from neverslower.campaign.judging import pairs_of, settle
from neverslower.campaign.passes import measure_pass
from neverslower.campaign.schedule import Schedule
from neverslower.campaign.turns import measure_pair
from neverslower.judge.change import PassSpread, pairs_needed
from neverslower.judge.paired import FEWEST_PAIRS, at_the_end
from neverslower.judge.sequential import CONFIRMING
from neverslower.problem.compared import Compared

FORESEEN = 3
"""After so many passes is said what is to be expected: later it is seen."""


def measure(run: BackendRun, schedule: Schedule) -> None:
    """Take pass after pass of what the judge has not seen enough of yet, as long as the time lasts for any."""
    most = max(run.budget.fewest, run.judge.most_passes + 1)
    begins_later = run.budget.deadline is not None or run.choose is not None
    for number in range(2 * most if begins_later else most):
        waiting = schedule.next()
        if not waiting or run.spent(run.next_start(schedule.begun)):
            break
        if number >= max(run.settings.passes, FEWEST_PAIRS) and _leaves_no_time_to_confirm(run, schedule, waiting):
            break
        phase, started = run.phase(schedule.later(waiting)), run.library.started
        try:
            if run.takes_turns:
                measure_pair(run, waiting, number, phase)
            else:
                for library in run.libraries(number):
                    measure_pass(run, library, waiting, number, phase)
        except KeyboardInterrupt:
            if run.judge.most_passes == 1:  # No later pass will say more of what this one has measured.
                settle(run, schedule.begun)
            raise
        if number + 1 == max(run.settings.passes, FEWEST_PAIRS):
            _plan_pairs(run)
        seconds = run.clock() - phase.begin
        settle(run, schedule.begun)
        schedule.learn(seconds, waiting, run.library.started - started)
        # Pairs are planned for all at once, and so is what is set against a baseline: passes must be the same ones.
        if run.other is None and run.settings.passes == 1:
            schedule.fill()
        _foresee(run, schedule.forecast(number + 1))
    if run.budget.deadline is not None and run.library.examiner.examined and (seconds := schedule.seconds_for_all()):
        run.findings.lack_time(run.name, run.budget.first_start + seconds)
    if run.other:
        run.other.close_worker()


def _leaves_no_time_to_confirm(run: BackendRun, schedule: Schedule, waiting: Sequence[Compared]) -> bool:
    """Return whether another pass of what waits would leave no time to confirm what looks slower by now.

    What got slower than in the baseline, or than with the other library, counts once a further pass has shown it again,
    which has more blocks. The passes come first without which nothing is proved that could be confirmed.
    """
    if run.budget.deadline is None or not (slower := _to_be_confirmed(run, schedule.begun)):
        return False
    confirming = CONFIRMING * schedule.a_pass_of(slower) + run.start_after(1)
    return run.spent(run.start + schedule.a_pass_of(waiting) + confirming)


def _to_be_confirmed(run: BackendRun, begun: Sequence[Compared]) -> Sequence[Compared]:
    """Return what looks slower than in the baseline; with another library, by the mean of the pairs so far."""
    if run.other is None:
        return run.regressed()
    line = math.log1p(run.thresholds.tolerance)
    slower = {identity for identity, levels in pairs_of(run).items() if levels and fmean(levels) > line}
    return [comparison for comparison in begun if comparison.identity in slower and not comparison.studied]


def _foresee(run: BackendRun, forecast: Forecast) -> None:
    """Write down what is to be expected, and say it where noise keeps the run from getting done in its budget."""
    if forecast.passes <= FORESEEN and forecast.undecided:
        run.library.write("forecast", asdict(forecast))
        if forecast.too_noisy:
            if run.name not in run.findings.noisy:
                run.tell(run.name, forecast)
            run.findings.foresee(run.name, forecast)


def _plan_pairs(run: BackendRun) -> None:
    """Say how many pairs of processes are needed, now that some have shown how far they scatter."""
    if run.other is None or run.other.lost:
        return
    levels = pairs_of(run)
    spread = PassSpread.of(levels)
    if not spread.common.freedom:
        return
    run.budget.raise_fewest(pairs_needed(spread, len(levels), run.judge.most_passes, at_the_end(run.thresholds)))
    together, alone = (math.expm1(math.sqrt(variance.value)) for variance in (spread.common, spread.prior))
    scatter = f"differences scatter by {together:.1%} together, {alone:.1%} each; fewer where that is clear"
    pairs = run.budget.fewest
    run.findings.plan(run.name, f"{pairs} pairs of processes, whose {scatter}")
    run.library.write("planned", {"pairs": pairs, "together": spread.common.value, "each": spread.prior.value})
