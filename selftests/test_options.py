"""The words of the command line: what is read, and what a mistake is answered with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neverslower import option_values as read
from neverslower.errors import NeverSlowerError
from neverslower.option_table import GROUPS, OPTIONS
from selftests.conftest import SuiteRunner

WRITE_A_SPEC = (
    "not an execnet spec; write ../old/bin/python for a Python on this machine, or "
    "ssh=HOST//python=python3 for another machine"
)


@pytest.mark.parametrize(
    ("reader", "flag", "text", "answer"),
    [
        (read.counts, "", "abc", "--keep 'abc': a channel count such as 96, or a range such as 92-97"),
        (read.counts, "", "-3", "--keep '-3': a channel count such as 96, or a range such as 92-97"),
        (read.counts, "", "50-40", "--keep 50-40: the smaller count comes first, so write --keep 40-50"),
        (read.counts, "", "1-5000", "--keep 1-5000: 5000 channel counts; 1000 at most"),
        (read.whole, "--passes", "two", "--passes 'two': a whole number from 1 to 1000"),
        (read.whole, "--passes", "0", "--passes 0: from 1 to 1000"),
        (read.chance, "--family-error", "1", "--family-error '1': a probability such as 0.01, above 0 and at most 0.1"),
        (read.chance, "--family-error", "x", "--family-error 'x': a probability such as 0.01, above 0 and at most 0.1"),
        (read.share, "--least-decided", "120%", "--least-decided '120%': a share such as 95%, from 0% to 100%"),
        (read.limit, "--time-limit", "25h", "--time-limit 25h: a day (24h) at most"),
        (read.limit, "--time-limit", "0", "--time-limit: '0' is not a duration such as 90s, 5m or 1h30m"),
        (
            read.spec,
            "--against",
            "../old/bin/python",
            "--against ../old/bin/python: no such file; name a Python on this machine, or write an execnet spec",
        ),
        (
            read.spec,
            "--against",
            "python3.10",
            "--against python3.10: not an execnet spec; for that Python write --against popen//python=python3.10",
        ),
        (read.spec, "--against", "/", "--against /: a directory; name the Python in it, such as /bin/python"),
        (read.spec, "--worker", "board7", f"--worker board7: {WRITE_A_SPEC}"),
        (read.spec, "--worker", "=", f"--worker =: {WRITE_A_SPEC}"),
        (read.spec, "--against", " ", "--against needs an execnet spec, such as popen//python=../old/bin/python"),
    ],
)
def test_a_mistake_is_answered_with_the_form_that_is_right(reader: Any, flag: str, text: str, answer: str) -> None:
    with pytest.raises(NeverSlowerError) as caught:
        reader(flag, text) if flag else reader(text)
    assert str(caught.value) == answer


@pytest.mark.parametrize("text", ["0s", "0m", "00", "0h0m", "0.0s"])
def test_a_budget_of_no_time_may_mean_two_things_and_is_asked_about(text: str) -> None:
    with pytest.raises(NeverSlowerError, match=r"^--explain-budget '.*': write 0 for no limit, or a duration such as"):
        read.budget("--explain-budget", text, 60.0)


def test_a_budget_is_given_without_limit_or_left_to_its_default() -> None:
    budgets = [read.budget("--time-budget", text, 60.0) for text in (None, "0", "90s", "10m")]
    assert budgets == [60.0, None, 90.0, 600.0]


@pytest.mark.parametrize(("text", "numbers"), [("96", (96,)), ("92-94", (92, 93, 94)), ("7-7", (7,))])
def test_counts_are_one_or_a_range(text: str, numbers: tuple[int, ...]) -> None:
    assert read.counts(text) == numbers


@pytest.mark.parametrize("text", ["0.01", "1%", " 1e-2 "])
def test_a_chance_is_a_number_or_per_cent(text: str) -> None:
    assert read.chance("--family-error", text) == pytest.approx(0.01)


@pytest.mark.parametrize("text", ["popen", "popen//python=x", "ssh=board//python=python3", "socket=host:8888"])
def test_specs_are_left_as_they_are(text: str) -> None:
    assert read.spec("--worker", text) == text


def test_the_path_of_a_python_is_a_spec_even_with_a_space(tmp_path: Path) -> None:
    python = tmp_path / "old one" / "python"
    python.parent.mkdir()
    python.touch()
    assert read.spec("--against", str(python)) == f"popen//python='{python}'"


def test_the_help_lists_groups_and_begins_with_the_five_that_people_need(runner: SuiteRunner) -> None:
    lines = runner.pytester.runpytest_inprocess("-h").outlines
    titles = [line.removesuffix(":") for line in lines if line.startswith("never-slower")]
    assert titles == [group.title for group in GROUPS]
    assert len(GROUPS[0].options) == 5


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.key)
def test_the_help_of_each_option_states_its_default(option: Any) -> None:
    assert "; default: " in option.help


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["--keep", "abc"], "--keep 'abc': a channel count such as 96*"),
        (["--side", "left"], "--side 'left': unknown (known: out, in, both, together)"),
        (["--passes", "x"], "--passes 'x': a whole number from 1 to 1000"),
        (["--against", "../old/bin/python"], "--against ../old/bin/python: no such file; name a Python*"),
    ],
)
def test_a_mistake_is_one_line_without_usage_and_broken_for_bisecting(
    runner: SuiteRunner, arguments: list[str], answer: str
) -> None:
    result = runner.run({}, *arguments)
    assert result.ret == 4
    assert "usage:" not in result.stderr.str()
    result.stderr.fnmatch_lines([f"ERROR: {answer}"])
    assert runner.run({}, "--exit-codes", "bisect", *arguments).ret > 127


def test_the_command_that_measures_again_repeats_what_decides(runner: SuiteRunner) -> None:
    hazard = {"fixed": 1e-4, "per_mac": 0.0, "rules": [{"when": "out_channels == 15", "times": 2.0}]}
    options = ("--baselines=mine", "--preset", "quick", "--strict-verdicts")
    result = runner.run(hazard, "tests/test_never_slower.py", *options)
    (again,) = [line for line in result.outlines if line.startswith("  again ")]
    assert all(words in again for words in ("--baselines=mine", "--preset=quick", "--strict-verdicts"))


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["--layr", "resnet50.L16"], "--layer (for --layr)"),
        (["--bakend=onednn", "--strict-verdict"], "--backend (for --bakend), --strict-verdicts (for --strict-verdict)"),
        (["--tracebak"], ""),
    ],
)
def test_an_unknown_option_is_answered_with_the_one_that_is_close(
    runner: SuiteRunner, arguments: list[str], meant: str
) -> None:
    result = runner.run({}, *arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*unrecognized arguments: {arguments[0]}*"])
    said = [line.strip() for line in result.stderr.lines if "did you mean" in line]
    assert said == ([f"did you mean: {meant}"] if meant else [])
