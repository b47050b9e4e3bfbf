"""Accuracy is an upgrade too: what counts as less exact, and what is listed because a library needs more of it."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from neverslower import cli
from neverslower.baseline.entry import entry_of
from neverslower.baseline.folders import BaselineChoice
from neverslower.campaign.budget import out_of_time
from neverslower.campaign.findings import Findings, Result
from neverslower.campaign.schedule import Schedule
from neverslower.device.fingerprint import Fingerprint
from neverslower.evidence.observation import Examined, Plan
from neverslower.judge.accuracy import LESS_EXACT, growths, less_exact
from neverslower.judge.verdict import Code
from neverslower.outcome.assessment import Assessment
from neverslower.outcome.beside import baseline_of
from neverslower.outcome.table import Finding
from neverslower.outcome.upgrade import Change
from neverslower.report import upgrade
from selftests.conftest import SuiteRunner
from selftests.test_against import FOUR, OLD, beside, rule

INEXACT = OLD | {"rules": [{"seconds": 1e-5}, rule(15, fault="wrong", off=3e-5)]}
"""An output that is within the tolerance of float32, and far from as exact as it was."""


@pytest.mark.parametrize(
    ("before", "now", "dtype", "less"),
    [
        (3e-7, 3e-4, "float32", True),
        (3e-7, 2e-6, "float32", False),
        (3e-7, 3e-6, "float32", True),
        (0.0, 5e-7, "float32", False),
        (0.0, 7e-7, "float32", True),
        (1e-4, 9e-4, "float16", False),
        (1e-4, 5e-3, "float16", True),
        (1e-7, math.nan, "float32", True),
        (None, 1.0, "float32", False),
        (1e-7, None, "float32", False),
    ],
)
def test_ten_times_the_error_is_less_exact_and_rounding_is_not(
    before: float | None, now: float | None, dtype: str, less: bool
) -> None:
    assert less_exact(before, now, dtype) is less


def examined(workspace: int | None, first: float | None) -> Examined:
    return Examined(Plan("p", workspace=workspace), 0.0, 1.0, 1.0, first_call=first)


def test_what_needs_more_than_twice_as_much_is_listed() -> None:
    before = examined(10**6, 0.1)
    assert growths(before, examined(10**6, 0.15)) == []
    assert growths(before, examined(3 * 10**6, 0.3)) == [
        "workspace 1.0 MB became 3.0 MB",
        "first call 0.100 s became 0.300 s",
    ]
    assert growths(examined(0, 0.001), examined(2**19, 0.01)) == []
    assert growths(examined(0, None), examined(2**21, 1.0)) == ["workspace 0.0 MB became 2.1 MB"]
    assert growths(examined(None, 1.0), examined(2**21, None)) == []


def test_a_less_exact_output_is_a_finding_of_its_own_and_red_when_strict(
    runner: SuiteRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    result = beside(runner, INEXACT, "--journal", "run.jsonl", "tests/test_latency.py")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "output ten times less exact than the other library's: 1",
            "  output less exact: error * became 3.0e-05 of the largest value",
            "    *out15",
            "outputs that are 10 times less exact, or more: 1",
            "  *out15: output less exact: error * became 3.0e-05 of the largest value",
        ]
    )
    capsys.readouterr()
    assert cli.main(["upgrade", str(runner.path / "run.jsonl")]) == 0
    assert "outputs that are 10 times less exact, or more: 1" in capsys.readouterr().out
    result = beside(runner, INEXACT, "--strict-verdicts", "tests/test_latency.py")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["  accuracy  output less exact: error * became 3.0e-05 of the largest value"])


def unmeasured(error: float) -> Result:
    """What is left of a comparison whose outputs were examined, and whose timing the time budget left out."""
    seen = replace(examined(None, None), error=error)
    return Result(FOUR[1], out_of_time("measured").verdict, reference=seen, candidate=seen)


def test_an_output_whose_timing_was_left_out_is_judged_all_the_same() -> None:
    here = Fingerprint("scripted", "Example Board", "1", "0")
    now, before = (
        Findings(results={FOUR[1].identity: unmeasured(error)}, fingerprints={"scripted": here})
        for error in (3e-5, 1e-7)
    )
    choices = {"scripted": BaselineChoice(baseline_of(before, "scripted", "popen"))}
    assessed = Assessment(now, choices, True, before).no_regression(FOUR[1])
    assert (assessed.finding, assessed.also) == (Finding.OUT_OF_TIME, (Finding.LESS_EXACT,))
    assert assessed.errors == (1e-7, 3e-5)
    assert Assessment(before, choices, True, before).no_regression(FOUR[1]).also == ()


def test_what_both_libraries_examined_is_kept_of_both_when_the_time_is_over() -> None:
    failed: list[tuple[str, str]] = []
    seen = examined(None, None)
    library = SimpleNamespace(fail=lambda one, _: failed.append(("new", one.id)))
    other = SimpleNamespace(
        fail=lambda one, _: failed.append(("old", one.id)),
        seen=lambda one: (seen, seen) if one is FOUR[1] else (seen, None),
        lost=None,
    )
    run: Any = SimpleNamespace(
        library=library, other=other, budget=SimpleNamespace(planned_passes=1), phase=dict, same_work=lambda _: False
    )
    Schedule(run, FOUR[:2]).leave_out()
    assert failed == [("new", FOUR[0].id), ("new", FOUR[1].id), ("old", FOUR[1].id)]


def test_a_stored_baseline_knows_how_exact_an_output_was(runner: SuiteRunner) -> None:
    runner.accept(OLD)
    result = runner.run(INEXACT, "tests/test_latency.py", "--benchmark-compare")
    result.stdout.fnmatch_lines(["output ten times less exact than the baseline's: 1"])


@pytest.mark.parametrize("error", [-1, "1e-7", True, math.inf])
def test_a_stored_error_that_is_none_is_refused(error: Any) -> None:
    verdict = {"code": "SAME", "reason": "proved", "text": "", "ratio": None}
    key = "mb1_g1ic8oc16_ih6oh6kh3ph1-float32-NCHW"
    info = {"layer": "x", "unpruned": key, "problem": key, "side": "out", "verdict": verdict}
    assert entry_of({**info, "output_error": 1e-7}, "x", Plan("p")).error == 1e-7
    assert entry_of(info, "x", Plan("p")).error is None
    with pytest.raises(ValueError, match="output_error is"):
        entry_of({**info, "output_error": error}, "x", Plan("p"))


def test_a_long_list_is_cut_and_says_so() -> None:
    change = Change("id", "l", 1, 2, Code.SAME, "", None, Code.SAME, None, Code.SAME, None, "", "worse")
    printed = list(upgrade.beyond_time([change] * 12 + [replace(change, less_exact="", grew=("more",))]))
    assert printed[0] == f"outputs that are {LESS_EXACT:g} times less exact, or more: 12"
    assert printed[11] == "  … and 2 more"
    assert printed[12] == "more than 2 times the workspace, or the time of the first call: 1"
    assert printed[13] == "  id: more"


def test_only_equal_code_is_the_same_work() -> None:
    plan = Plan("p", ("k",), code="1")
    assert plan.same_work(replace(plan))
    assert not plan.same_work(replace(plan, code="2"))
    assert not plan.same_work(replace(plan, steps=("other",)))
    assert not replace(plan, code="").same_work(replace(plan, code=""))
