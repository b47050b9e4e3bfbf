"""The study of tuned logs end to end on scripted searches, and an ordinary run beside a log."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neverslower.campaign import preparing as module
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings
from neverslower.campaign.settings import Settings
from neverslower.judge.verdict import ReasonCode
from neverslower.outcome.run_verdict import CANNOT_JUDGE
from neverslower.outcome.tuned_log import Case, cases, verdict_of
from neverslower.problem.convolution import Side
from neverslower.problem.networks import Layer
from neverslower.problem.subject import Search
from selftests import in_process
from selftests.conftest import PROBLEM, SuiteRunner
from selftests.support import problem, scripted
from selftests.test_plugin import outcomes

STUDY = ("-m", "tuned_log", "--passes", "1")
ORDINARY = ("tests/test_never_slower.py", "--passes", "1")
FLAT = {"fixed": 1e-4, "per_mac": 0.0, "noise": 0.0}
OF_THE_UNPRUNED, OF_15 = "log:*oc16_*", "log:*oc15_*"
TUNED = {"policy": "log:*", "tuned": True, "plan": "tuned"}
MISS = {"policy": OF_THE_UNPRUNED, "when": "out_channels < 16", "times": 20, "tuned": False, "plan": "untuned"}
NAME = f"scripted-{PROBLEM}-float32-NCHW"
Rule = dict[str, Any]


@pytest.fixture
def study(runner: SuiteRunner) -> Callable[..., pytest.RunResult]:
    """Runs the study on a flat script with some rules."""

    def run(*arguments: str, rules: tuple[Rule, ...] = (TUNED, MISS), **script: Any) -> pytest.RunResult:
        return runner.run(FLAT | {"rules": list(rules)} | script, *STUDY, *arguments)

    return run


def events(runner: SuiteRunner, name: str) -> list[dict[str, Any]]:
    lines = (runner.path / "run.jsonl").read_text(encoding="utf-8").splitlines()
    return [one for one in map(json.loads, lines) if one["event"] == name]


def test_a_default_run_has_no_part_of_it(runner: SuiteRunner) -> None:
    result = runner.run(FLAT | {"rules": [{"policy": "tune", "fault": "crash"}]}, "--collect-only", "-q")
    result.stdout.no_fnmatch_line("*tuned_log*")
    result.stdout.fnmatch_lines(["*test_never_slower*", "*tests collected (* deselected)*"])


def test_misses_are_told_and_the_remedies_beside_them(runner: SuiteRunner, study: Callable[..., Any]) -> None:
    result = study("--journal=run.jsonl")
    assert (result.ret, outcomes(result)) == (0, {"xfailed": 4, "passed": 4})
    result.stdout.fnmatch_lines(
        [
            f"tuned log of {PROBLEM}, *: 16 trials each, best 1 ms (seed 0), 1 ms (seed 1), 1 ms (seed 2); *",
            "  15 channels: miss 20.*×*; padded *×*; tuned *×*",
            "  9 channels: miss 20.*×*; padded *×*; tuned *×*",
            "  13 channels: miss 20.*×*",
            "  1 channels: miss 20.*×*",
            "missed by the tuned log, so untuned and slower: 4",
            "  a miss: the tuned log has no record of this shape*",
            f"    20.*×*  {NAME}-out15-miss",
            "searches for schedules: 9, in *",
        ]
    )
    for words in ("*of 6*", "*slower though tuned equally*", "*hazard found*", "CANNOT JUDGE*"):
        result.stdout.no_fnmatch_line(words)
    assert len(events(runner, "tuned")) == len({one["search"] for one in events(runner, "tuned")}) == 9
    assert len(events(runner, "verdict")) == 4 + 2 + 2 * 3 + 2


def test_ci_fails_on_misses_and_the_command_selects_the_item_again(
    runner: SuiteRunner, study: Callable[..., Any]
) -> None:
    result = study("--strict-verdicts", "--trials", "5", "-k", "miss")
    assert (result.ret, outcomes(result)) == (1, {"failed": 4})
    result.stdout.fnmatch_lines(
        [
            f"missed by the tuned log, so untuned and slower: {PROBLEM} on scripted, 15 of 16 output channels*",
            "  SLOWER 20.*×*: a miss: *confirmed in a fresh process*",
            "*unpruned*16 channels: 100 µs*plan tuned",
            "*pruned*15 channels: 2 ms*plan untuned",
        ]
    )
    again = [line.partition("again")[2].strip() for line in result.stdout.lines if " again " in line]
    assert len(again) == 4
    for kept, command in zip((15, 9, 13, 1), again, strict=True):
        selects_only(runner, command, f"test_tuned_log[{NAME}-out{kept}-miss]")


def selects_only(runner: SuiteRunner, command: str, item: str) -> None:
    """Run a printed command, though only to collect."""
    program, *arguments = shlex.split(command)
    assert program == "pytest"
    result = runner.pytester.runpytest_inprocess(*arguments, "--collect-only", "-q", "-p", "no:cacheprovider")
    assert result.ret == 0, command
    assert [line for line in result.stdout.lines if "::" in line] == [f"tests/test_tuned_log.py::{item}"]


@pytest.mark.parametrize(("kept", "kind"), [(13, "padded"), (12, "miss")])
def test_a_count_that_was_named_is_named_again(
    runner: SuiteRunner, study: Callable[..., Any], kept: int, kind: str
) -> None:
    """Of a standard distance that has no such case by itself, and of one that is not studied by itself."""
    every = {"when": f"out_channels == {kept}", "times": 2.0}
    result = study("--keep", str(kept), "--strict-verdicts", "-k", f"out{kept}-{kind}", rules=(TUNED, every))
    assert outcomes(result) == {"failed": 1}
    (again,) = [line.partition("again")[2].strip() for line in result.stdout.lines if " again " in line]
    selects_only(runner, again, f"test_tuned_log[{NAME}-out{kept}-{kind}]")


def test_slower_in_every_search_is_another_finding_than_a_miss(study: Callable[..., Any]) -> None:
    slow = {"policy": OF_15, "times": 1.5}
    result = study("--strict-verdicts", rules=(TUNED, MISS, slow))
    assert (result.ret, outcomes(result)) == (1, {"failed": 5, "passed": 3})
    result.stdout.fnmatch_lines(
        [
            "slower though tuned equally: * 15 of 16 output channels (distance 1)",
            "  SLOWER 1.500×*: slower though tuned equally: each of 3 searches of each shape (by luck alone 1 in 20)",
            "*pruned*15 channels: 150 µs*",
            "missed by the tuned log, so untuned and slower: 4",
            "slower though tuned equally: 1",
            "  slower though tuned equally: each of 3 searches of each shape*",
            f"    1.500×*  {NAME}-out15-tuned",
        ]
    )


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"policy": f"{OF_THE_UNPRUNED}/16/1", "times": 3.0}, "*luck of the search*"),
        ({"policy": f"{OF_15}/16/1", "tuned": False}, "*a search left its own shape untuned*"),
    ],
    ids=["an unlucky search of the unpruned layer", "a search without a schedule"],
)
def test_an_unlucky_search_makes_no_slower_layer(study: Callable[..., Any], rule: Rule, words: str) -> None:
    slow = {"policy": OF_15, "times": 2.0}
    result = study("-k", "out15-tuned", rules=(TUNED, slow, rule))
    assert outcomes(result) == {"skipped": 1}
    result.stdout.fnmatch_lines([words])
    result.stdout.no_fnmatch_line("*slower though tuned equally: *")


def test_a_padded_layer_that_is_slower_is_a_hazard(study: Callable[..., Any]) -> None:
    padded = {"policy": "padded:*", "times": 1.2, "tuned": True}
    result = study("-k", "padded", rules=(TUNED, MISS, padded))
    assert outcomes(result) == {"xfailed": 2}
    result.stdout.fnmatch_lines(["hazard found, not known to a baseline yet: 2"])


# What goes wrong


@pytest.mark.parametrize(
    ("fault", "outcome", "words"),
    [
        ("crash", "failed", ["crashed: 1", "  the worker process died*", f"    {NAME}-out15-tuned"]),
        ("error", "failed", ["*RuntimeError: scripted error*", "crashed: 1"]),
        ("unsupported", "skipped", ["unsupported: 1", "*scripted refusal of * channels*"]),
    ],
)
def test_a_search_that_fails_costs_what_rests_on_it_only(
    study: Callable[..., Any], fault: str, outcome: str, words: list[str]
) -> None:
    broken = {"policy": "tune", "when": "out_channels < 16", "fault": fault}
    result = study("-k", "out15", rules=(TUNED, MISS, broken))
    assert outcomes(result) == {"xfailed": 1, "passed": 1, outcome: 1}
    result.stdout.fnmatch_lines(words)


def test_without_the_unpruned_layers_search_nothing_can_be_said(study: Callable[..., Any]) -> None:
    result = study(rules=(TUNED, {"policy": "tune", "when": "out_channels == 16", "fault": "unsupported"}))
    assert (result.ret, outcomes(result)) == (CANNOT_JUDGE, {"skipped": 8})
    result.stdout.fnmatch_lines(["CANNOT JUDGE: nothing*", "tuned log of *: no search was made", "unsupported: 8"])


def test_a_search_that_hangs_is_ended_at_its_own_limit(
    study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRIAL_LIMIT", 1.0 / 16)
    hanging = {"policy": "tune", "when": "out_channels == 15", "fault": "hang_holding_gil", "processes": [0]}
    result = study("-k", "out15-tuned or out9-miss", rules=(TUNED, MISS, hanging))
    assert outcomes(result) == {"xfailed": 1, "failed": 1}
    result.stdout.fnmatch_lines(["*ended at its time limit of 1 s*"])


def test_a_search_that_the_tuning_budget_cut_is_left_out_and_did_not_crash(study: Callable[..., Any]) -> None:
    hanging = {"policy": "tune", "when": "out_channels == 15", "fault": "hang"}
    result = study("--tuning-budget", "1s", "-k", "out15-tuned", "--strict-verdicts", rules=(TUNED, hanging))
    assert outcomes(result) == {"skipped": 1}
    result.stdout.fnmatch_lines(["left out by the time budget: 1"])


def of_the_campaign(folder: Path, settings: Settings) -> tuple[Findings, list[Case]]:
    """The study on a clock that moves 5 seconds a search and stands still otherwise."""
    layer = Layer("", 0, "tiny", problem())
    found = cases("scripted", layer, Side.OUT, trials=16)
    now = [1000.0]

    def progress(phase: str, done: int, total: int, seconds_left: float | None) -> None:
        now[0] += 5.0 * ("tune" in phase)

    spec = scripted(folder, rules=[{"seconds": 1e-5}])
    campaign = Campaign({"scripted": spec}, settings, clock=lambda: now[0], progress=progress, start=in_process.start)
    return campaign.run(one for case in found for one in case.comparisons), found


def test_what_the_tuning_budget_did_not_last_for_is_left_out(tmp_path: Path) -> None:
    findings, found = of_the_campaign(tmp_path, Settings(tuning_budget=12.0))
    assert list(findings.searches) == [Search(problem(), 16, 0), Search(problem(15), 16, 0), Search(problem(15), 16, 1)]
    verdicts = {case.id.partition("NCHW-")[2]: verdict_of(case, findings.results) for case in found}
    left_out = {name for name, one in verdicts.items() if one and one.reason.code is ReasonCode.TIME_BUDGET}
    assert left_out == {"out15-tuned", "out9-tuned"}
    assert {str(one.code) for name, one in verdicts.items() if one and name not in left_out} == {"SAME"}
    assert all(verdicts.values())


def test_the_time_for_tuning_is_beside_the_time_for_measuring(tmp_path: Path) -> None:
    findings, found = of_the_campaign(tmp_path, Settings(time_budget=20.0))
    assert (findings.tuning_seconds, findings.left_out) == (45.0, 0)
    assert findings.measured == len({one.identity for case in found for one in case.comparisons})


def test_a_backend_that_searches_for_nothing_is_skipped_with_the_reason(runner: SuiteRunner) -> None:
    result = runner.pytester.runpytest_inprocess(
        "--backend", "onednn", "--problem", PROBLEM, "-m", "tuned_log", "-rs", "-p", "no:cacheprovider"
    )
    assert outcomes(result) == {"skipped": 1}
    result.stdout.fnmatch_lines(["*no chosen backend searches for schedules; tvm does*"])


def test_a_study_is_no_baseline(runner: SuiteRunner, study: Callable[..., Any]) -> None:
    result = study("--accept-baseline", "a study", "-k", "out15-miss")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: not accepted, and so not measured: *was selected, but not run*"])
    assert not list(runner.path.glob("baselines/*/*.json"))


@pytest.mark.processes
def test_a_study_leaves_the_baseline_as_it_is(runner: SuiteRunner, study: Callable[..., Any]) -> None:
    runner.accept(FLAT | {"rules": [{"when": "out_channels == 15", "times": 2.0}]}, "--passes", "1")
    result = study("-k", "out15-miss")
    assert outcomes(result) == {"xfailed": 1}
    result.stdout.fnmatch_lines(["missed by the tuned log, so untuned and slower: 1", "*baseline 0001_1.0+0.json*"])


# An ordinary run beside a log


def test_remarks_of_a_backend_are_printed(runner: SuiteRunner) -> None:
    remarks = ["DIR: tvm can't open it; its 2 shapes fall back to untuned"]
    result = runner.run(FLAT | {"remarks": remarks}, *ORDINARY, "--journal=run.jsonl")
    result.stdout.fnmatch_lines([f"scripted: {remarks[0]}"])
    assert events(runner, "fingerprint")[0]["remarks"] == remarks


def test_a_pruned_layer_that_misses_the_users_database_is_told_from_any_other_hazard(runner: SuiteRunner) -> None:
    rules = [
        {"tuned": True, "plan": "tuned"},
        {"when": "out_channels == 15", "tuned": False, "times": 30.0, "plan": "untuned"},
        {"when": "out_channels == 13", "times": 2.0},
    ]
    result = runner.run(FLAT | {"rules": rules}, *ORDINARY, "--journal=run.jsonl")
    assert outcomes(result) == {"passed": 4, "xfailed": 2}
    result.stdout.fnmatch_lines(
        [
            "HAZARDS: 2 slower (2 confirmed), 4 not slower, of 6",
            "hazard found, not known to a baseline yet: 1",
            "missed by the tuned log, so untuned and slower: 1",
            "  a miss: the tuned log has no record of this shape*",
            f"    30.*×*  {NAME}-out15",
        ]
    )
    slower = {one["id"]: one["reason"]["code"] for one in events(runner, "verdict") if one["code"] == "SLOWER"}
    assert slower == {f"{NAME}-out15": "not_in_tuned_log", f"{NAME}-out13": "proved"}
