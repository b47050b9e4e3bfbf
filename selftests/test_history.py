"""`python -m neverslower history`: stored versions side by side, from baselines alone."""

from __future__ import annotations

import json
import re

import pytest

from neverslower import cli
from neverslower.baseline.history import trends
from selftests.conftest import SuiteRunner
from selftests.support import ROOT
from selftests.test_plugin import FLAT, HAZARD

SHAPE = "mb1_ic4oc16_ih6kh3ph1"


def told(runner: SuiteRunner, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    capsys.readouterr()
    assert cli.main(["history", *arguments, "--baselines", str(runner.path / "baselines")]) == 0
    return capsys.readouterr().out.splitlines()


def test_versions_stand_side_by_side_with_time_ratio_and_plan(runner: SuiteRunner, capsys) -> None:
    first = runner.accept(FLAT | {"version": "1.0"})
    second = runner.accept(FLAT | {"version": "1.1", "rules": [HAZARD | {"plan": "padded"}]})
    lines = told(runner, capsys)
    assert lines[:4] == [
        "scripted@scripted, device_time",
        f"  (1) {first.name}: scripted 1.0 (0)",
        f"  (2) {second.name}: scripted 1.1 (0)",
        f"  {SHAPE} float32 NCHW out",
    ]
    times = r"100 µs [01]\.\d+× plain  →  {} µs {}\.\d+×( padded)?$"
    assert re.match(rf"       15 of 16: {times.format(200, '[12]')}", lines[5])
    assert re.match(rf"       13 of 16: {times.format(100, '[01]')}", lines[6])
    assert "padded" in lines[5]
    assert "padded" not in lines[6]


def test_a_layer_is_chosen_by_its_name(runner: SuiteRunner, capsys) -> None:
    runner.accept(FLAT)
    assert len(told(runner, capsys, "mb1_*")) == 3 + 7
    assert cli.main(["history", "vgg16.*", "--baselines", str(runner.path / "baselines")]) == 2
    assert "holds vgg16.*" in capsys.readouterr().err


def test_another_state_is_a_trend_of_its_own(runner: SuiteRunner, capsys) -> None:
    runner.accept(FLAT | {"state": {"governor": "powersave"}})
    runner.accept(FLAT | {"state": {"governor": "performance"}})
    assert told(runner, capsys).count("scripted@scripted, device_time") == 2


def test_what_a_version_does_not_hold_is_said(runner: SuiteRunner, capsys) -> None:
    runner.accept(FLAT | {"version": "1.0"}, "--keep", "15")
    runner.accept(FLAT | {"version": "1.1"}, "--keep", "13")
    lines = told(runner, capsys)
    assert next(line for line in lines if "15 of 16" in line).endswith("  →  not stored")
    assert "not stored  →" in next(line for line in lines if "13 of 16" in line)


def test_counts_are_instructions(runner: SuiteRunner, capsys) -> None:
    counted = {"evidence": "instructions", "rules": [{"when": "1", "instructions": 1234567}]}
    runner.accept(counted)
    lines = told(runner, capsys)
    assert lines[0] == "scripted@scripted, instructions"
    assert "1,234,567 instructions 1.000×" in lines[-1]


def test_nothing_stored_is_told(tmp_path, capsys) -> None:
    assert cli.main(["history", "--baselines", str(tmp_path)]) == 2
    assert "accept one with pytest --accept-baseline" in capsys.readouterr().err


def test_a_baseline_that_cant_be_read_is_told(runner: SuiteRunner, capsys) -> None:
    path = runner.accept(FLAT)
    path.write_text(json.dumps({}))
    assert cli.main(["history", "--baselines", str(runner.path / "baselines")]) == 2
    assert str(path) in capsys.readouterr().err


def test_the_committed_baselines_have_a_history() -> None:
    found = {one.folder: one for one in trends(ROOT / "baselines", "resnet50.L16")}
    assert "onednn@intel-xeon-processor-2c" in found
    assert all(len(line.points) == len(one.runs) for one in found.values() for line in one.lines)
