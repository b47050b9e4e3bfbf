"""Advice that is kept: asserted on the scripted backend, from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neverslower.errors import AdviceError
from neverslower.judge.verdict import Code, Interval, Reason, ReasonCode, Verdict, whether_faster
from neverslower.maps.advice_file import load
from neverslower.outcome.run_verdict import CANNOT_JUDGE
from selftests.conftest import SuiteRunner

HALF = {"when": "out_channels <= 8", "times": 0.5}
RULES: list[dict[str, Any]] = [{"seconds": 1e-5}, HALF]
EMPTY: dict[str, Any] = {"hardware": {}, "state": {}, "software": {}}
PROBLEM = "mb1_ic4oc16_ih6kh3ph1-float32-NCHW"


def advice(folder: Path, **changes: Any) -> Path:
    """A file that advises to keep 8 of 16 channels, and 4 of these."""
    rows = [{"channels": 8, "against": 16}, {"channels": 4, "against": 8}]
    layer = {"name": "net.first", "problem": PROBLEM, "advised": rows[:1]} | changes.pop("layer", {})
    fingerprint = {"backend": "scripted", "device": "scripted", "version": "1.0", "build": "0"}
    whole = {"format": "never-slower advice", "schema": 1, "fingerprint": fingerprint | EMPTY, "layers": [layer]}
    path = folder / "advice.json"
    path.write_text(json.dumps(whole | changes), encoding="utf-8")
    return path


def run(runner: SuiteRunner, path: Path, rules: list[dict[str, Any]], *arguments: str, **script: Any):
    return runner.run(
        {"rules": rules} | script, "tests/test_advised.py", "--advised", str(path), *arguments, problem=""
    )


def test_a_count_that_is_faster_passes(runner: SuiteRunner) -> None:
    result = run(runner, advice(runner.path), RULES)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*GREEN: advised counts: 0 no faster, 1 faster, of 1*"])


def widths(folder: Path, **changes: Any) -> Path:
    """A file with the widths of a model: a layer at 8 of 16 filters, and one that was not proved faster."""
    pruned = PROBLEM.replace("oc16", "oc8")
    rows = [{"name": "net.first", "unpruned": PROBLEM, "advised": pruned, "verdict": "FASTER"} | changes]
    rows += [{"name": "net.other", "unpruned": PROBLEM, "advised": PROBLEM.replace("oc16", "oc12"), "verdict": "SAME"}]
    return advice(folder, format="never-slower widths", layers=rows, groups=[])


def test_the_widths_of_a_model_are_asserted_against_the_unpruned_layers(runner: SuiteRunner) -> None:
    result = run(runner, widths(runner.path), RULES)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*GREEN: advised counts: 0 no faster, 1 faster, of 1*"])
    result = run(runner, widths(runner.path), RULES[:1])
    result.assert_outcomes(failed=1)


def test_widths_that_are_no_pruned_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AdviceError, match=r"net\.first: .* is no pruned form of"):
        load(widths(tmp_path, advised=PROBLEM.replace("ih6", "ih5")))
    with pytest.raises(AdviceError, match="verdict"):
        load(widths(tmp_path, verdict=3))


@pytest.mark.parametrize("times", [1.0, 1.2])
def test_a_count_that_is_no_faster_is_red_without_strict(runner: SuiteRunner, times: float) -> None:
    result = run(runner, advice(runner.path), [RULES[0], {"when": "out_channels == 8", "times": times}])
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "RED: 1 × advised, and no faster *; *1 no faster*",
            "*advised, and no faster than the wider layer*",
        ]
    )
    assert "--advised" in result.stdout.str()
    assert result.ret == 1


STILL_FASTER = [RULES[0], {"when": "out_channels == 8", "times": 0.944}]


def test_a_count_that_is_still_a_little_faster_is_measured_until_that_is_proved(runner: SuiteRunner) -> None:
    result = run(runner, advice(runner.path), STILL_FASTER, noise=0.02)
    result.assert_outcomes(passed=1)


def test_a_count_that_may_be_faster_is_undecided_and_not_red(runner: SuiteRunner) -> None:
    rules = [RULES[0], {"when": "out_channels == 8", "times": 0.97}]
    result = run(runner, advice(runner.path), rules, "-rs", "--preset", "quick", noise=0.1)
    result.assert_outcomes(skipped=1)
    assert "no slower, but neither below 0.99× nor above it could be proved" in result.stdout.str()


def test_no_slower_answers_whether_it_is_faster_only_where_faster_is_excluded() -> None:
    reason = Reason(ReasonCode.WITHIN_TARGET, "proved below 1.03×")
    for low, code in ((0.7, Code.UNDECIDED), (0.989, Code.UNDECIDED), (0.99, Code.SAME), (1.0, Code.SAME)):
        verdict = Verdict(Code.SAME, reason, Interval(max(low, 0.95), low, 1.02))
        assert whether_faster(verdict).code is code
    for code in (Code.FASTER, Code.SLOWER, Code.UNDECIDED):
        verdict = Verdict(code, reason, Interval(0.98, 0.7, 1.02))
        assert whether_faster(verdict) is verdict


def test_advice_of_another_device_is_not_judged(runner: SuiteRunner) -> None:
    result = run(runner, advice(runner.path), [RULES[0]], device="another")
    result.assert_outcomes(skipped=1)
    assert "the advice is of another device or state: device name: scripted" in result.stdout.str()


def test_without_advice_nothing_is_collected_unless_it_is_named(runner: SuiteRunner) -> None:
    result = runner.run({"rules": RULES}, "--collect-only", "-q")
    assert "test_advised" not in result.stdout.str()
    result = runner.run({"rules": RULES}, "tests/test_advised.py", "-rs")
    assert "CANNOT JUDGE: no advice is named; name a file of it: --advised ADVICE.json" in result.stdout.str()
    assert result.ret == CANNOT_JUDGE


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"layer": {"advised": []}}, "it advises no channel count on scripted; advise again"),
        ({"layers": []}, "it advises no channel count on scripted; advise again"),
        (
            {"fingerprint": {"backend": "cudnn", "device": "NVIDIA H100", "version": "9.19.0", "build": "0"} | EMPTY},
            "advice for cudnn, which this run does not measure; add --backend cudnn",
        ),
    ],
)
@pytest.mark.parametrize("strict", [(), ("--strict-verdicts",)])
def test_advice_that_nobody_judges_is_no_success(
    runner: SuiteRunner, changes: dict[str, Any], why: str, strict: tuple[str, ...]
) -> None:
    path = advice(runner.path, **changes)
    result = run(runner, path, RULES, *strict)
    assert f"CANNOT JUDGE: --advised {path}: {why}" in result.stdout.str()
    assert result.ret == CANNOT_JUDGE


def test_the_half_of_the_advice_that_is_not_measured_is_named(runner: SuiteRunner) -> None:
    there = advice(runner.path).rename(runner.path / "there.json")
    elsewhere = {"backend": "cudnn", "device": "NVIDIA H100", "version": "9.19.0", "build": "0"} | EMPTY
    result = run(runner, advice(runner.path, fingerprint=elsewhere), RULES, "--advised", str(there))
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*CANNOT JUDGE: *advice for cudnn, which this run does not measure*"])
    assert result.ret == CANNOT_JUDGE


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": "another"}, "it is no advice of never-slower"),
        ({"schema": 9}, "schema 9 is newer than 3; update never-slower"),
        ({"fingerprint": {}}, "backend"),
        ({"layers": [1]}, "a layer is no object"),
        ({"layer": {"problem": "nonsense"}}, "is not a problem's key"),
        ({"layer": {"advised": [{"channels": 8, "against": 8}]}}, "net.first: 8 channels against 8 of 16"),
        ({"layer": {"advised": [{"channels": 8}]}}, "against"),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(AdviceError, match=why) as raised:
        load(advice(tmp_path, **changes))
    assert "\n" not in str(raised.value)
    assert str(tmp_path) in str(raised.value)
