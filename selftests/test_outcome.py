import pytest

from neverslower.baseline.entry import Known
from neverslower.judge.verdict import Code, Interval, Reason, ReasonCode, Verdict
from neverslower.outcome.table import (
    TABLE,
    Finding,
    Outcome,
    change_finding,
    hazard_finding,
    outcome_of,
    said,
    unmeasured,
)

P, F, X, S = Outcome.PASSED, Outcome.FAILED, Outcome.XFAILED, Outcome.SKIPPED


def verdict(code: Code, low: float = 1.0, high: float = 1.0, reason: ReasonCode = ReasonCode.PROVED) -> Verdict:
    return Verdict(code, Reason(reason, ""), Interval((low + high) / 2, low, high))


SLOWER = verdict(Code.SLOWER, 1.4, 1.6)
NEAR = verdict(Code.SLOWER, 1.03, 1.05)
SAME = verdict(Code.SAME)
FASTER = verdict(Code.FASTER, 0.4, 0.5)
FADED, FIXED = Finding.HAZARD_FADED, Finding.HAZARD_FIXED
BORDERLINE, UNDECIDED_BEFORE = Finding.HAZARD_BORDERLINE, Finding.HAZARD_UNDECIDED_BEFORE
KNOWN = Known(Code.SLOWER, Interval(1.5, 1.4, 1.6))


@pytest.mark.parametrize(
    ("finding", "lenient", "strict"),
    [
        (Finding.NOT_SLOWER, P, P),
        (Finding.HAZARD_FOUND, X, F),
        (Finding.HAZARD_KNOWN, X, X),
        (Finding.HAZARD_UNDECIDED_BEFORE, X, F),
        (Finding.HAZARD_NEW, F, F),
        (Finding.HAZARD_WORSE, F, F),
        (Finding.HAZARD_FIXED, P, F),
        (Finding.HAZARD_FADED, P, P),
        (Finding.REGRESSION, F, F),
        (Finding.MORE_INSTRUCTIONS, F, F),
        (Finding.PLAN_CHANGED, P, F),
        (Finding.LESS_EXACT, P, F),
        (Finding.NO_BASELINE, S, F),
        (Finding.IMPROVED, P, P),
        (Finding.FEWER_INSTRUCTIONS, P, P),
        (Finding.DISPATCH_DIFFERS, P, P),
        (Finding.UNPRUNED_FASTER, P, P),
        (Finding.UNDECIDED, S, F),
        (Finding.CHANGE_UNDECIDED, S, F),
        (Finding.CHANGE_UNCONFIRMED, S, F),
        (Finding.HAZARD_BORDERLINE, X, X),
        (Finding.INCOMPARABLE, S, F),
        (Finding.OUT_OF_TIME, S, S),
        (Finding.UNSUPPORTED, S, S),
        (Finding.CRASHED, F, F),
        (Finding.INVALID, F, F),
        (Finding.VANISHED, F, F),
    ],
)
def test_outcomes_are_those_of_the_table(finding: Finding, lenient: Outcome, strict: Outcome) -> None:
    assert (outcome_of(finding, strict=False), outcome_of(finding, strict=True)) == (lenient, strict)


def test_every_finding_has_an_outcome() -> None:
    assert set(TABLE) == set(Finding)


@pytest.mark.parametrize("finding", [one for one in Finding if one is not Finding.VANISHED], ids=str)
def test_next_to_another_library_nothing_is_about_a_baseline(finding: Finding) -> None:
    assert "baseline" not in said(finding, beside=True)
    assert "known" not in said(finding, beside=True)
    assert said(finding, beside=False) == str(finding)


@pytest.mark.parametrize(
    ("now", "known", "change", "unpruned_change", "finding"),
    [
        (SAME, None, None, None, Finding.NOT_SLOWER),
        (verdict(Code.CHANGED), None, None, None, Finding.DISPATCH_DIFFERS),
        (verdict(Code.MORE), None, None, None, Finding.HAZARD_FOUND),
        (
            verdict(Code.MORE, 1.02, 1.02),
            Known(Code.SAME, Interval(0.995, 0.995, 0.995)),
            SAME,
            verdict(Code.FEWER),
            Finding.UNPRUNED_FASTER,
        ),
        (FASTER, Known(Code.SAME, None), None, None, Finding.NOT_SLOWER),
        (SLOWER, None, None, None, Finding.HAZARD_FOUND),
        (SLOWER, Known(Code.UNSUPPORTED, None), None, None, Finding.HAZARD_FOUND),
        (SLOWER, KNOWN, None, None, Finding.HAZARD_KNOWN),
        (verdict(Code.SLOWER, 1.61, 1.7), KNOWN, None, None, Finding.HAZARD_KNOWN),  # within the tolerance of 1 %
        (verdict(Code.SLOWER, 1.63, 1.7), KNOWN, None, None, Finding.HAZARD_WORSE),
        (SLOWER, Known(Code.SAME, Interval(1.0, 0.98, 1.02)), None, None, Finding.HAZARD_NEW),
        (SLOWER, Known(Code.UNDECIDED, Interval(1.4, 0.9, 1.8)), None, None, UNDECIDED_BEFORE),
        (verdict(Code.SLOWER, 1.012, 1.06), Known(Code.SAME, Interval(1.0, 0.98, 1.02)), None, None, BORDERLINE),
        (verdict(Code.SLOWER, 1.04, 1.06), Known(Code.SAME, Interval(1.0, 0.98, 1.02)), None, None, Finding.HAZARD_NEW),
        (SLOWER, Known(Code.UNDECIDED, Interval(1.0, 0.95, 1.05)), None, None, UNDECIDED_BEFORE),
        (SLOWER, Known(Code.UNDECIDED, Interval(1.0, 0.95, 1.05)), SAME, FASTER, Finding.UNPRUNED_FASTER),
        (NEAR, Known(Code.UNDECIDED, Interval(1.0, 0.99, 1.015)), None, None, UNDECIDED_BEFORE),
        (SAME, KNOWN, None, None, Finding.HAZARD_FIXED),
        (FASTER, KNOWN, None, None, Finding.HAZARD_FIXED),
        (verdict(Code.SAME, 0.99, 1.02), Known(Code.SLOWER, Interval(1.03, 1.011, 1.05)), None, None, FADED),
        (verdict(Code.SAME, 0.99, 1.01), Known(Code.SLOWER, Interval(1.03, 1.011, 1.05)), None, None, FIXED),
        (verdict(Code.UNDECIDED), KNOWN, None, None, Finding.UNDECIDED),
        (SLOWER, Known(Code.SAME, Interval(1.0, 0.98, 1.02)), SAME, FASTER, Finding.UNPRUNED_FASTER),
        (SLOWER, Known(Code.SAME, Interval(1.0, 0.98, 1.02)), SAME, SAME, Finding.HAZARD_NEW),
        (SLOWER, Known(Code.SAME, Interval(1.0, 0.98, 1.02)), verdict(Code.UNDECIDED), FASTER, Finding.HAZARD_NEW),
        (SLOWER, Known(Code.SAME, Interval(1.0, 0.98, 1.02)), SLOWER, FASTER, Finding.HAZARD_NEW),
        (verdict(Code.MORE, 1.4, 1.4), Known(Code.MORE, Interval(1.4, 1.4, 1.4)), None, None, Finding.HAZARD_KNOWN),
    ],
)
def test_what_a_hazard_means_depends_on_what_is_known(
    now: Verdict, known: Known | None, change: Verdict | None, unpruned_change: Verdict | None, finding: Finding
) -> None:
    assert hazard_finding(now, known, change, unpruned_change) is finding


@pytest.mark.parametrize(
    ("change", "plan_changed", "finding"),
    [
        (SLOWER, True, Finding.REGRESSION),
        (verdict(Code.MORE), False, Finding.MORE_INSTRUCTIONS),
        (SAME, False, Finding.UNCHANGED),
        (SAME, True, Finding.PLAN_CHANGED),
        (FASTER, True, Finding.PLAN_CHANGED),
        (FASTER, False, Finding.IMPROVED),
        (verdict(Code.FEWER), False, Finding.FEWER_INSTRUCTIONS),
        (verdict(Code.CHANGED), False, Finding.PLAN_CHANGED),
        (verdict(Code.UNDECIDED), True, Finding.CHANGE_UNDECIDED),
        (verdict(Code.INCOMPARABLE), True, Finding.INCOMPARABLE),
    ],
)
def test_what_a_change_means(change: Verdict, plan_changed: bool, finding: Finding) -> None:
    assert change_finding(change, plan_changed) is finding


@pytest.mark.parametrize(
    ("code", "reason", "finding"),
    [
        (Code.UNDECIDED, ReasonCode.TIME_BUDGET, Finding.OUT_OF_TIME),
        (Code.UNDECIDED, ReasonCode.BACKEND_UNAVAILABLE, Finding.UNAVAILABLE),
        (Code.UNDECIDED, ReasonCode.NOT_CONFIRMED, Finding.UNDECIDED),
        (Code.CRASHED, ReasonCode.TIME_LIMIT, Finding.CRASHED),
        (Code.INVALID, ReasonCode.WRONG_OUTPUT, Finding.INVALID),
        (Code.UNSUPPORTED, ReasonCode.OUT_OF_MEMORY, Finding.UNSUPPORTED),
        (Code.INCOMPARABLE, ReasonCode.ENVIRONMENT_DIFFERS, Finding.INCOMPARABLE),
        (Code.SLOWER, ReasonCode.PROVED, None),
    ],
)
def test_what_stands_for_no_measurement(code: Code, reason: ReasonCode, finding: Finding | None) -> None:
    assert unmeasured(verdict(code, reason=reason)) is finding
