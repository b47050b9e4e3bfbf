"""Say what to do next, the last lines of a summary: each step with the command or the option that takes it."""

from __future__ import annotations

from collections.abc import Iterator

from neverslower.campaign.findings import Findings
from neverslower.judge.verdict import Code, ReasonCode
from neverslower.outcome.assessment import Assessed
from neverslower.outcome.run_verdict import RunCode
from neverslower.outcome.table import Finding, Outcome, is_hazard, outcome_of
from neverslower.outcome.whole import AssessedWhole
from neverslower.report import calibration, words
from neverslower.report.overview import Overview

ONE_FAILURE = "measure one failure alone"
HEADROOM = 1.5
"""How much longer a time budget should be than what is forecast: that is mostly short by less than this."""
ENDED_EARLY = (RunCode.INTERRUPTED, RunCode.INTERNAL_ERROR, RunCode.USAGE_ERROR)
_CUT_SHORT = {ReasonCode.TIME_BUDGET, ReasonCode.BUDGET_ENDED}
_JUDGED = (RunCode.RED, RunCode.HAZARDS, RunCode.INCOMPLETE, RunCode.GREEN)
_UNLIKELY_BASELINE = (Finding.CRASHED, Finding.INVALID, Finding.REGRESSION, Finding.CHANGE_UNCONFIRMED)


def next_steps(overview: Overview) -> Iterator[tuple[str, str]]:
    """Yield (what it is good for, how), which is a command or an option of the same one; nothing where all is well."""
    code = overview.verdict.code
    if code in ENDED_EARLY:
        if overview.findings.measured:
            yield "go on from here", _same(f"--resume={overview.journal}")
        return
    if code is RunCode.CANNOT_JUDGE and not _only_too_short(overview.findings):
        yield "see what can be measured here, and what is missing", "python -m neverslower doctor"
    if code is RunCode.RED and overview.failing:
        yield ONE_FAILURE, "its “again” line above is the command"
    elif worst := _worst_hazard(overview):
        yield "measure the worst one alone", overview.again(worst.comparison)
    yield from _deciding(overview)
    if code in _JUDGED and _could_be_stored(overview):
        yield from _storing(overview)
    yield from calibration.steps(overview.standings, overview.specs)


def _deciding(overview: Overview) -> Iterator[tuple[str, str]]:
    """Yield what decides more: more time, or more samples of what was too noisy."""
    reasons = _reasons(overview.findings)
    unconfirmed = any(item.finding is Finding.CHANGE_UNCONFIRMED for item in overview.assessed)
    if reasons & _CUT_SHORT or unconfirmed:
        seconds = sum(overview.findings.lacking.values())
        about = f", which takes about {words.duration(seconds)} more" if seconds else ""
        # What was measured is not measured again, but the plan of the resumed run has to have room for it.
        longer = words.time_budget(overview.findings.seconds + HEADROOM * seconds)
        longer = f"--time-budget={longer}" if seconds else "a longer --time-budget"
        going_on = f" and --resume={overview.journal}" if overview.journal else ""
        what = "decide the rest" if reasons & _CUT_SHORT else "confirm what got slower"
        yield f"{what}{about}", _same(f"{longer}{going_on}")
    if overview.findings.spoiled and overview.journal:
        yield "measure again what the unfit device spoiled", _same(f"--resume={overview.journal}")
    if ReasonCode.TOO_NOISY in reasons or any(map(_change_too_noisy, overview.assessed)):
        yield "decide what was too noisy", _same("--preset=thorough")


def _change_too_noisy(item: Assessed) -> bool:
    """Return whether noise hides if a channel count got slower, though pruned against unpruned may be decided."""
    return item.finding is Finding.CHANGE_UNDECIDED and item.verdict.reason.code is ReasonCode.TOO_NOISY


def _reasons(findings: Findings) -> set[ReasonCode]:
    """Return why something is undecided."""
    return {verdict.reason.code for verdict in findings.verdicts.values() if verdict.code is Code.UNDECIDED}


def _only_too_short(findings: Findings) -> bool:
    """Return whether nothing but the time budget kept a run from judging: no noise, and nothing missing or unfit.

    Where most of what was asked was never begun, noise is not the reason: one or two passes always look noisy.
    """
    noisy = any(2 * forecast.begun > findings.wanted[name] for name, forecast in findings.noisy.items())
    hindered = noisy or findings.unavailable or findings.refused or findings.spoiled or findings.alone
    return not hindered and bool(_reasons(findings)) and _reasons(findings) <= _CUT_SHORT


def _same(options: str) -> str:
    return f"the same command with {options}"


def _worst_hazard(overview: Overview) -> Assessed | AssessedWhole | None:
    items: list[Assessed | AssessedWhole] = [*overview.assessed, *overview.wholes]
    hazards = [item for item in items if is_hazard(item.finding) and item.verdict.ratio]
    return max(hazards, key=lambda item: item.verdict.ratio.estimate if item.verdict.ratio else 0.0, default=None)


def _could_be_stored(overview: Overview) -> bool:
    """Return whether this run could be stored as a baseline, and that was not tried."""
    results = overview.findings.results.values()
    if (
        overview.acceptance
        or not overview.storable
        or any(result.verdict.reason.code in _CUT_SHORT for result in results)
    ):
        return False
    return bool(overview.findings.measured) and not any(
        item.finding in _UNLIKELY_BASELINE for item in overview.assessed
    )


def _could_be_known(overview: Overview) -> bool:
    """Return whether anything was found that a baseline can hold as known; it holds no whole network."""
    verdict, of_wholes = overview.verdict, [item.finding for item in overview.wholes]
    failed = [finding for finding in of_wholes if outcome_of(finding, overview.strict) is Outcome.FAILED]
    hazards = sum(verdict.hazards.values()) - sum(map(is_hazard, of_wholes))
    failing = sum(verdict.failing.values()) - len(failed)
    return hazards > 0 or (verdict.code is RunCode.RED and (failing > 0 or not failed))


def _storing(overview: Overview) -> Iterator[tuple[str, str]]:
    """Yield how the run becomes a baseline, where none fits or where something is not in it."""
    storing = _same("--accept-baseline=REASON")
    if _could_be_known(overview):
        yield "take what was found as known, so that only new hazards fail", storing
    elif not all(choice.baseline for choice in overview.choices.values()):
        yield "store this run, to see what an upgrade changes", storing
