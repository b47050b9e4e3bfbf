"""The hunts as a user runs them, `-m hunt`, on a script: what pytest makes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from selftests.conftest import SuiteRunner

NEVER_SLOWER, OUTPUTS = (
    "tests/test_drawn.py::test_drawn_layers_are_never_slower",
    "tests/test_drawn.py::test_drawn_outputs_are_right",
)
# So common that a slow machine meets it in a short hunt; how small hazards get is test_hunt's to prove.
HAZARD = {"when": "out_channels % 2 == 1", "times": 40, "plan": "odd"}


def hunt(runner: SuiteRunner, script: Mapping[str, Any], *arguments: str, test: str = NEVER_SLOWER) -> pytest.RunResult:
    """Hunt for a few seconds; a hazard that every shrinking meets needs no more."""
    return runner.run({"noise": 0.0, **script}, test, "-m", "hunt", "--hunt-budget", "4s", *arguments, problem="")


def test_by_default_nothing_is_drawn(runner: SuiteRunner) -> None:
    result = runner.run({}, "tests/test_drawn.py", problem="")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_where_nothing_is_slower_the_hunt_passes_and_is_counted(runner: SuiteRunner) -> None:
    result = hunt(runner, {})
    assert result.ret == 0
    result.stdout.fnmatch_lines(["scripted, never-slower: * drawn, * measured*"])


@pytest.mark.processes
def test_a_hazard_is_xfailed_kept_and_told_with_the_command(runner: SuiteRunner) -> None:
    result = hunt(runner, {"rules": [HAZARD]})
    result.assert_outcomes(xfailed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["*SLOWER *: * of * output channels", "*again: pytest tests --backend scripted:* --keep *"]
    )
    (kept,) = (runner.path / ".neverslower" / "examples").iterdir()
    assert json.loads(kept.read_text(encoding="utf-8").splitlines()[0])["verdict"] == "SLOWER"


def test_a_hazard_fails_with_the_strict_option(runner: SuiteRunner) -> None:
    assert hunt(runner, {"rules": [HAZARD]}, "--strict-verdicts").ret == 1


@pytest.mark.parametrize("test", [NEVER_SLOWER, OUTPUTS])
def test_a_wrong_output_fails(runner: SuiteRunner, test: str) -> None:
    result = hunt(runner, {"rules": [{"fault": "wrong"}]}, test=test)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["INVALID: *"])


def test_a_backend_that_is_unavailable_can_not_be_judged(runner: SuiteRunner) -> None:
    result = hunt(runner, {"unavailable": "no board is there"})
    assert result.ret == 6
    result.stdout.fnmatch_lines(["CANNOT JUDGE: *", "scripted is unavailable: no board is there"])


def test_an_example_that_can_not_be_kept_is_one_clear_line(runner: SuiteRunner) -> None:
    (runner.path / ".neverslower").mkdir()
    (runner.path / ".neverslower" / "examples").write_text("in the way", encoding="utf-8")
    result = hunt(runner, {"rules": [HAZARD]})
    assert result.ret == 1
    assert "Traceback" not in result.stdout.str()
    result.stdout.fnmatch_lines(["*examples*can't be*"])
