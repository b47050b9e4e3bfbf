"""The JUnit file: a case a verdict, with what machines need to compare runs."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from selftests.conftest import SuiteRunner
from selftests.test_plugin import FLAT, HAZARD, NEVER_SLOWER


def cases(runner: SuiteRunner, script: dict[str, Any], *arguments: str) -> dict[str, dict[str, str]]:
    """Each case's properties, by its name."""
    runner.run(script, *arguments, "--junitxml", "junit.xml")
    found = ElementTree.parse(runner.path / "junit.xml").iter("testcase")
    return {one.get("name", ""): {p.get("name", ""): p.get("value", "") for p in one.iter("property")} for one in found}


def test_each_verdict_is_a_case_with_its_properties(runner: SuiteRunner) -> None:
    script = FLAT | {"rules": [HAZARD | {"plan": "padded"}], "state": {"governor": "performance"}}
    found = cases(runner, script, NEVER_SLOWER)
    assert len(found) == 6
    one = found["test_never_slower[scripted-mb1_ic4oc16_ih6kh3ph1-float32-NCHW-out15]"]
    low, ratio, high = (float(one.pop(name)) for name in ("ratio low", "ratio", "ratio high"))
    assert 1.9 < low <= ratio <= high < 2.1
    assert one == {
        "finding": "hazard found, not known to a baseline yet",
        "verdict": "SLOWER",
        "reason": "proved",
        "problem": "mb1_g1ic4oc15_ih6oh6kh3sh1ph1-float32-NCHW",
        "layer": "mb1_ic4oc16_ih6kh3ph1",
        "plan of the reference": "plain",
        "plan": "padded",
        "cause": "unknown",
        "backend": "scripted",
        "version": "1.0",
        "build": "0",
        "device": "scripted",
        "state governor": "performance",
    }


def test_what_was_not_measured_is_a_case_without_a_ratio(runner: SuiteRunner) -> None:
    found = cases(runner, FLAT | {"rules": [{"when": "out_channels == 15", "fault": "crash"}]}, NEVER_SLOWER)
    crashed = [one for one in found.values() if one["verdict"] == "CRASHED"]
    assert len(crashed) == 1
    assert "ratio" not in crashed[0]


def test_a_change_of_state_is_a_property(runner: SuiteRunner) -> None:
    looks = [{"settings": {"clock": "1 GHz"}}, {"settings": {"clock": "2 GHz"}, "processes": [1]}]
    found = cases(runner, FLAT | {"states": looks}, NEVER_SLOWER)
    assert {one["state changed"] for one in found.values()} == {"state clock: 1 GHz → 2 GHz"}
