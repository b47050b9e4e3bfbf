"""What a verdict, set against what is known, means for a test: the one table that decides red and green."""

from __future__ import annotations

from enum import Enum

from neverslower.baseline.entry import Known
from neverslower.enums import StrEnum
from neverslower.judge.verdict import STANDARD, Code, Interval, ReasonCode, Thresholds, Verdict, beyond


class Outcome(str, Enum):
    """pytest's outcomes."""

    PASSED = "passed"
    FAILED = "failed"
    XFAILED = "xfailed"
    SKIPPED = "skipped"


class Finding(StrEnum):
    """What was found about one item; the text is how the summary lists it."""

    NOT_SLOWER = "no worse than unpruned"
    HAZARD_FOUND = "hazard found, not known to a baseline yet"
    HAZARD_KNOWN = "known hazard"
    TUNED_LOG_MISS = "missed by the tuned log, so untuned and slower"
    SLOWER_EQUALLY_TUNED = "slower though tuned equally"
    HAZARD_BORDERLINE = "slower, but not beyond the baseline's interval"
    HAZARD_UNDECIDED_BEFORE = "slower, and undecided before"
    HAZARD_NEW = "new hazard"
    HAZARD_WORSE = "hazard worse than known"
    HAZARD_FADED = "known hazard, not slower now, but not proved gone"
    HAZARD_FIXED = "known hazard, now gone"
    DISPATCH_DIFFERS = "dispatched differently from unpruned"
    UNPRUNED_FASTER = "ratio rose because the unpruned layer got better"
    UNCHANGED = "no worse than the baseline"
    REGRESSION = "slower than the baseline"
    MORE_INSTRUCTIONS = "more instructions than the baseline"
    IMPROVED = "faster than the baseline"
    FEWER_INSTRUCTIONS = "fewer instructions than the baseline"
    PLAN_CHANGED = "plan changed since the baseline"
    LESS_EXACT = "output ten times less exact than the baseline's"
    NO_BASELINE = "no baseline to compare with"
    RECORDED = "recorded"
    ADVICE_HOLDS = "advised, and faster than the wider layer"
    ADVICE_BROKEN = "advised, and no faster than the wider layer"
    RIGHT = "output right"
    UNDECIDED = "undecided"
    CHANGE_UNCONFIRMED = "slower than the baseline, not shown again yet"
    CHANGE_UNDECIDED = "undecided against the baseline"
    DISTURBED = "not judged, because the device was throttled or busy"
    OUT_OF_TIME = "left out by the time budget"
    INCOMPARABLE = "not comparable"
    UNSUPPORTED = "unsupported"
    WHOLE_NOT_JUDGED = "whole network not judged"
    DROPPED = "unsupported now, and measured before"
    UNAVAILABLE = "backend unavailable"
    CRASHED = "crashed"
    INVALID = "invalid"
    VANISHED = "in the baseline, but vanished"
    RULE_KNOWS = "hazard that a rule covers"
    RULE_EXCEEDED = "hazard worse than its rule says"
    RULE_HOLDS = "rule that covers hazards"
    RULE_FIXED = "rule whose hazards are gone"
    RULE_STALE = "rule that matches nothing"
    RULE_SHADOWED = "rule that earlier rules hide"
    RULE_EXPIRED = "rule that has expired"
    RULE_IDLE = "rule that this run can't judge"


_P, _F, _X, _S = Outcome.PASSED, Outcome.FAILED, Outcome.XFAILED, Outcome.SKIPPED
TABLE: dict[Finding, tuple[Outcome, Outcome]] = {
    # finding: (outcome, outcome with --strict)
    Finding.NOT_SLOWER: (_P, _P),
    Finding.HAZARD_FOUND: (_X, _F),
    Finding.HAZARD_KNOWN: (_X, _X),
    Finding.TUNED_LOG_MISS: (_X, _F),
    Finding.SLOWER_EQUALLY_TUNED: (_X, _F),
    Finding.HAZARD_BORDERLINE: (_X, _X),
    Finding.HAZARD_UNDECIDED_BEFORE: (_X, _F),
    Finding.HAZARD_NEW: (_F, _F),
    Finding.HAZARD_WORSE: (_F, _F),
    Finding.HAZARD_FADED: (_P, _P),
    Finding.HAZARD_FIXED: (_P, _F),
    Finding.DISPATCH_DIFFERS: (_P, _P),
    Finding.UNPRUNED_FASTER: (_P, _P),
    Finding.UNCHANGED: (_P, _P),
    Finding.REGRESSION: (_F, _F),
    Finding.MORE_INSTRUCTIONS: (_F, _F),
    Finding.IMPROVED: (_P, _P),
    Finding.FEWER_INSTRUCTIONS: (_P, _P),
    Finding.PLAN_CHANGED: (_P, _F),
    Finding.LESS_EXACT: (_P, _F),
    Finding.NO_BASELINE: (_S, _F),
    Finding.RECORDED: (_P, _P),
    Finding.ADVICE_HOLDS: (_P, _P),
    Finding.ADVICE_BROKEN: (_F, _F),
    Finding.RIGHT: (_P, _P),
    Finding.UNDECIDED: (_S, _F),
    Finding.CHANGE_UNCONFIRMED: (_S, _F),
    Finding.CHANGE_UNDECIDED: (_S, _F),
    Finding.DISTURBED: (_S, _F),
    Finding.OUT_OF_TIME: (_S, _S),
    Finding.INCOMPARABLE: (_S, _F),
    Finding.UNSUPPORTED: (_S, _S),
    Finding.WHOLE_NOT_JUDGED: (_S, _F),
    Finding.DROPPED: (_F, _F),
    Finding.UNAVAILABLE: (_S, _S),
    Finding.CRASHED: (_F, _F),
    Finding.INVALID: (_F, _F),
    Finding.VANISHED: (_F, _F),
    Finding.RULE_KNOWS: (_X, _X),
    Finding.RULE_EXCEEDED: (_F, _F),
    Finding.RULE_HOLDS: (_P, _P),
    Finding.RULE_FIXED: (_P, _F),
    Finding.RULE_STALE: (_P, _F),
    Finding.RULE_SHADOWED: (_P, _F),
    Finding.RULE_EXPIRED: (_P, _F),
    Finding.RULE_IDLE: (_S, _S),
}
UNREMARKABLE = {
    Finding.NOT_SLOWER,
    Finding.UNCHANGED,
    Finding.RECORDED,
    Finding.RIGHT,
    Finding.ADVICE_HOLDS,
    Finding.RULE_HOLDS,
    Finding.RULE_IDLE,
}
"""Findings that the summary need not list."""
BESIDE = {
    Finding.HAZARD_FOUND: "hazard found, not measured with the other library",
    Finding.HAZARD_KNOWN: "hazard of both libraries",
    Finding.HAZARD_BORDERLINE: "slower, but not beyond the other library's interval",
    Finding.HAZARD_UNDECIDED_BEFORE: "slower, and undecided with the other library",
    Finding.HAZARD_NEW: "new hazard",
    Finding.HAZARD_WORSE: "hazard worse than with the other library",
    Finding.HAZARD_FADED: "hazard of the other library, not slower here, but not proved gone",
    Finding.HAZARD_FIXED: "hazard of the other library, gone here",
    Finding.UNCHANGED: "no worse than the other library",
    Finding.REGRESSION: "slower than the other library",
    Finding.MORE_INSTRUCTIONS: "more instructions than the other library",
    Finding.IMPROVED: "faster than the other library",
    Finding.FEWER_INSTRUCTIONS: "fewer instructions than the other library",
    Finding.PLAN_CHANGED: "plan differs from the other library's",
    Finding.LESS_EXACT: "output ten times less exact than the other library's",
    Finding.NO_BASELINE: "nothing of the other library to compare with",
    Finding.CHANGE_UNCONFIRMED: "slower than the other library, not shown again yet",
    Finding.CHANGE_UNDECIDED: "undecided against the other library",
}
"""How findings are listed that compare with another library of the same run, and with no baseline."""


def said(finding: Finding, beside: bool) -> str:
    """Return how a finding is listed; `beside` says that another library was measured in the same run."""
    return BESIDE.get(finding, str(finding)) if beside else str(finding)


def outcome_of(finding: Finding, strict: bool) -> Outcome:
    """Return pytest's outcome for a finding."""
    return TABLE[finding][strict]


def is_hazard(finding: Finding) -> bool:
    """Return whether a finding is a slower layer that no baseline knows: expected to fail, and red when strict."""
    return TABLE[finding] == (Outcome.XFAILED, Outcome.FAILED)


def unmeasured(verdict: Verdict) -> Finding | None:
    """Return the finding of a verdict behind which no usable measurement stands, or None."""
    if verdict.code is Code.UNDECIDED and verdict.reason.code is ReasonCode.TIME_BUDGET:
        return Finding.OUT_OF_TIME
    if verdict.reason.code is ReasonCode.BACKEND_UNAVAILABLE:
        return Finding.UNAVAILABLE
    if verdict.disturbed:
        return Finding.DISTURBED
    return {
        Code.CRASHED: Finding.CRASHED,
        Code.INVALID: Finding.INVALID,
        Code.UNSUPPORTED: Finding.UNSUPPORTED,
        Code.INCOMPARABLE: Finding.INCOMPARABLE,
        Code.NO_BASELINE: Finding.NO_BASELINE,
        Code.UNDECIDED: Finding.UNDECIDED,
    }.get(verdict.code)


def hazard_finding(
    verdict: Verdict,
    known: Known | None,
    change: Verdict | None = None,
    unpruned_change: Verdict | None = None,
    thresholds: Thresholds = STANDARD,
) -> Finding:
    """Return whether the pruned layer is slower than the unpruned one, and whether that is news.

    `known` is the baseline's entry for this comparison; `change` and `unpruned_change` are the verdicts of the two
    layers' own times against the baseline, where they could be judged.
    """
    if finding := unmeasured(verdict):
        return finding
    if verdict.code is Code.CHANGED:  # A dispatch says nothing about time.
        return Finding.DISPATCH_DIFFERS
    was_hazard = known is not None and known.code in (Code.SLOWER, Code.MORE)
    if verdict.code not in (Code.SLOWER, Code.MORE):
        if not was_hazard:
            return Finding.NOT_SLOWER
        return Finding.HAZARD_FADED if known and _overlap(verdict.ratio, known.ratio) else Finding.HAZARD_FIXED
    if known is None or not known.code.measured:
        return {
            ReasonCode.NOT_IN_TUNED_LOG: Finding.TUNED_LOG_MISS,
            ReasonCode.EQUALLY_TUNED: Finding.SLOWER_EQUALLY_TUNED,
        }.get(verdict.reason.code, Finding.HAZARD_FOUND)
    exceeds = beyond(verdict.ratio, known.ratio, thresholds)
    if exceeds and _only_unpruned_faster(change, unpruned_change):
        return Finding.UNPRUNED_FASTER
    if known.code is Code.UNDECIDED:  # Nobody knows whether it was slower then, whatever its interval says.
        return Finding.HAZARD_UNDECIDED_BEFORE
    if was_hazard:
        return Finding.HAZARD_WORSE if exceeds else Finding.HAZARD_KNOWN
    # What the baseline could not exclude is no news: a ratio near the target may be proved both ways.
    return Finding.HAZARD_NEW if exceeds else Finding.HAZARD_BORDERLINE


_RULES_COVER = (
    Finding.HAZARD_FOUND,
    Finding.HAZARD_UNDECIDED_BEFORE,
    Finding.HAZARD_NEW,
    Finding.HAZARD_WORSE,
)
"""What a rule may cover: slower layers that the baseline does not know, or not as slow as they are now."""


def ruled(
    finding: Finding, ratio: Interval | None, covered: tuple[float, float], thresholds: Thresholds = STANDARD
) -> Finding:
    """Return a finding again in the light of the rule that matches: `covered` are the ratios that the rule knows."""
    if finding not in _RULES_COVER:
        return finding
    low, high = covered
    return Finding.RULE_EXCEEDED if beyond(ratio, Interval(high, low, high), thresholds) else Finding.RULE_KNOWS


def _overlap(ratio: Interval | None, known: Interval | None) -> bool:
    """Return whether a ratio is not proved to lie below the stored interval."""
    return ratio is not None and known is not None and ratio.high >= known.low


def _only_unpruned_faster(change: Verdict | None, unpruned_change: Verdict | None) -> bool:
    no_worse = change is not None and change.code in (Code.SAME, Code.FASTER, Code.FEWER)
    return no_worse and unpruned_change is not None and unpruned_change.code in (Code.FASTER, Code.FEWER)


def advice_finding(verdict: Verdict) -> Finding:
    """Return whether an advised layer is faster than what it was advised against: no slower is not enough."""
    if verdict.code in (Code.FASTER, Code.FEWER):
        return Finding.ADVICE_HOLDS
    return unmeasured(verdict) or Finding.ADVICE_BROKEN


def change_finding(change: Verdict, plan_changed: bool) -> Finding:
    """Return whether this channel count is slower than in the baseline; `change` is now against then."""
    if change.code is Code.SLOWER:
        return Finding.REGRESSION
    if change.code is Code.MORE:
        return Finding.MORE_INSTRUCTIONS
    if finding := unmeasured(change):
        if change.reason.code is ReasonCode.BUDGET_ENDED:
            return Finding.CHANGE_UNCONFIRMED
        return Finding.CHANGE_UNDECIDED if finding is Finding.UNDECIDED else finding
    if change.code is Code.CHANGED or plan_changed:
        return Finding.PLAN_CHANGED
    if change.code is Code.FEWER:
        return Finding.FEWER_INSTRUCTIONS
    return Finding.IMPROVED if change.code is Code.FASTER else Finding.UNCHANGED
