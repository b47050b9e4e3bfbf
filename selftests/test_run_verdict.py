"""The run's verdict, from data alone: which row of its table holds, its exit codes, and what its first line counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neverslower.baseline.acceptance import Proposal, unfit
from neverslower.baseline.scope import Scope
from neverslower.campaign.findings import Agreement, Findings, Result, Spoiled
from neverslower.evidence.observation import Plan
from neverslower.judge.cause import Cause, explain
from neverslower.judge.verdict import Code, Interval, Reason, ReasonCode, Verdict
from neverslower.outcome.assessment import Assessment
from neverslower.outcome.run_verdict import Asked, Came, RunCode, RunVerdict, judge_run
from neverslower.outcome.tally import Lot, Question, Questions, Tally
from neverslower.outcome.upgrade import Change
from neverslower.report.run_verdict import headline
from selftests.support import comparison, fake_passes

ONE, OTHER, THIRD = comparison(1), comparison(3), comparison(7)
RATIO = Interval(1.2, 1.1, 1.3)


def verdict(code: Code, reason: ReasonCode = ReasonCode.PROVED) -> Verdict:
    return Verdict(code, Reason(reason, "why"), RATIO)


SLOWER, SAME = verdict(Code.SLOWER), verdict(Code.SAME)
NOISY = verdict(Code.UNDECIDED, ReasonCode.TOO_NOISY)
LEFT_OUT = verdict(Code.UNDECIDED, ReasonCode.TIME_BUDGET)
BUDGET_ENDED = verdict(Code.UNDECIDED, ReasonCode.BUDGET_ENDED)
CRASHED = verdict(Code.CRASHED, ReasonCode.WORKER_DIED)


def findings(*verdicts: Verdict) -> Findings:
    pairs = zip((ONE, OTHER, THIRD), verdicts, strict=False)
    return Findings({c.identity: Result(c, one, tuple(fake_passes())) for c, one in pairs})


def judged(found: Findings, strict: bool = False, ending: RunCode | None = None, checked: bool = False) -> RunVerdict:
    asked = (ONE, OTHER, THIRD)[: len(found.results)]
    questions = Questions(slower=asked, checked=asked if checked else ())
    return judge_run(Asked(questions, strict=strict), Came(Assessment(found, {}), ending=ending))


@pytest.mark.parametrize(
    ("verdicts", "strict", "code", "exits", "bisects"),
    [
        ((SAME, SAME), False, RunCode.GREEN, 0, 0),
        ((SLOWER, SAME, NOISY), False, RunCode.HAZARDS, 0, 0),
        ((SLOWER, SAME), True, RunCode.RED, 1, 1),
        ((CRASHED, SLOWER), False, RunCode.RED, 1, 1),
        ((SAME, NOISY), False, RunCode.INCOMPLETE, 0, 125),
        ((SAME, LEFT_OUT), True, RunCode.INCOMPLETE, 1, 125),
        ((SAME, BUDGET_ENDED), True, RunCode.RED, 1, 1),
        ((NOISY, LEFT_OUT), False, RunCode.CANNOT_JUDGE, 6, 125),
        ((LEFT_OUT, LEFT_OUT), True, RunCode.CANNOT_JUDGE, 6, 125),
    ],
)
def test_the_first_row_that_holds_counts(verdicts, strict, code, exits, bisects) -> None:
    made = judged(findings(*verdicts), strict)
    assert (made.code, made.exit_code, made.bisect_code) == (code, exits, bisects)


def test_right_outputs_do_not_stand_in_for_times() -> None:
    found = findings(LEFT_OUT)
    found.agreements[ONE.identity] = Agreement(SAME, 0.0, 1.0)
    made = judged(found, strict=True, checked=True)
    assert (made.code, made.exit_code) == (RunCode.CANNOT_JUDGE, 6)


@pytest.mark.parametrize(
    ("verdicts", "decided_before", "code"),
    [
        ((SAME, SAME), 1, RunCode.INCOMPLETE),
        ((SLOWER, SAME), 1, RunCode.HAZARDS),
        ((SAME, NOISY), 1, RunCode.CANNOT_JUDGE),
        ((SLOWER, NOISY), 1, RunCode.CANNOT_JUDGE),
        ((CRASHED, NOISY), 1, RunCode.RED),
    ],
)
def test_a_device_that_becomes_unfit_leaves_no_run_green(verdicts, decided_before, code) -> None:
    found = findings(*verdicts)
    found.spoiled["scripted"] = Spoiled("busy; fix: wait", frozenset(list(found.results)[:decided_before]))
    made = judged(found)
    assert made.code is code
    assert ("busy; fix: wait" in headline(made)) is (code is not RunCode.RED)


def test_a_refused_baseline_is_not_green() -> None:
    made = judged(findings(SAME), ending=RunCode.NOT_ACCEPTED)
    assert (headline(made).partition(":")[0], made.exit_code, made.bisect_code) == ("NOT ACCEPTED", 4, 132)


def test_what_is_proved_and_not_confirmed_is_counted_apart() -> None:
    noisy = replace(BUDGET_ENDED, ratio=Interval(1.05, 0.99, 1.1))
    made = judged(findings(BUDGET_ENDED, verdict(Code.UNDECIDED, ReasonCode.NOT_CONFIRMED), noisy))
    assert made.code is RunCode.CANNOT_JUDGE
    assert "2 slower (0 confirmed), 0 not slower, 1 undecided, of 3" in headline(made)


@pytest.mark.parametrize(
    ("code", "lot", "bisects"),
    [
        (RunCode.HAZARDS, Lot.UNCONFIRMED, 125),
        (RunCode.HAZARDS, Lot.UNDECIDED, 0),
        (RunCode.RED, Lot.UNCONFIRMED, 1),
    ],
)
def test_a_commit_that_may_have_made_something_slower_is_not_good(code: RunCode, lot: Lot, bisects: int) -> None:
    made = RunVerdict(code, tallies=(Tally(Question.TIMES, {Lot.SLOWER: 1}), Tally(Question.BESIDE, {lot: 1})))
    assert made.bisect_code == bisects


def test_an_incomplete_run_has_not_decided_all_of_its_questions() -> None:
    nearly = Tally(Question.BESIDE, {Lot.NOT_SLOWER: 240, Lot.UNDECIDED: 1})
    assert headline(RunVerdict(RunCode.INCOMPLETE, tallies=(nearly,))).endswith("; 99% of 241 questions decided")
    exactly = Tally(Question.BESIDE, {Lot.NOT_SLOWER: 29, Lot.LEFT_OUT: 71})  # 100 × 0.29 is a little less than 29.
    assert headline(RunVerdict(RunCode.INCOMPLETE, tallies=(exactly,))).endswith("; 29% of 100 questions decided")


def test_nothing_stored_counts_only_where_comparing_was_asked_for() -> None:
    for comparing, code in ((False, RunCode.GREEN), (True, RunCode.INCOMPLETE)):
        came = Came(Assessment(findings(SAME), {}, comparing))
        assert judge_run(Asked(Questions(recorded=(ONE,))), came).code is code


def test_an_invalid_verdict_is_no_baseline() -> None:
    wrong = verdict(Code.INVALID, ReasonCode.WRONG_OUTPUT)

    def trouble(found: Findings) -> str | None:
        return unfit(Proposal((ONE, OTHER), {ONE.identity: "a", OTHER.identity: "b"}, found, Scope({}, {}), 1, {}))

    assert trouble(findings(SAME, SAME)) is None
    assert "is INVALID" in (trouble(findings(SAME, wrong)) or "")
    outputs = findings(SAME, SAME)
    outputs.agreements[OTHER.identity] = Agreement(wrong, 1.0, 0.1)
    assert "its output" in (trouble(outputs) or "")


@pytest.mark.parametrize("before", Code)
def test_what_was_not_decided_before_is_no_new_hazard(before: Code) -> None:
    change = Change("", "", 1, 2, Code.SAME, "", None, before, None, Code.SLOWER, None, "")
    assert change.new_hazard is (before in (Code.SAME, Code.FASTER, Code.FEWER))


@pytest.mark.parametrize("best", [Code.UNDECIDED, Code.SLOWER])
def test_only_a_best_plan_that_is_proved_fast_is_a_heuristic_miss(best: Code) -> None:
    assert explain(Plan("a"), Plan("b"), verdict(best)).cause is not Cause.HEURISTIC_MISS
