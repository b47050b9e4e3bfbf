"""The watch over a device's state: what it reads and when, what it refuses, and what it marks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from neverslower.campaign.findings import Findings
from neverslower.campaign.guard import EVERY, Guard
from neverslower.device.state import State, Trouble, Unsound
from neverslower.errors import Unavailable, WorkerError
from neverslower.evidence.observation import Evidence
from neverslower.outcome.run_verdict import CANNOT_JUDGE
from selftests.conftest import SuiteRunner
from selftests.support import comparison
from selftests.test_plugin import FLAT, LATENCY, NEVER_SLOWER, outcomes

SOUND = State({"clock": "1 GHz"})
FAST = State({"clock": "2 GHz"})
HOT = Unsound(Trouble.HOT, "hot", "wait")
FREE = Unsound(Trouble.CLOCKS, "free clocks", "fix them", grave=False)
THROTTLED = {"trouble": "throttled", "text": "throttled by hand", "remedy": "let go"}
ONE, OTHER, THIRD = (comparison(distance) for distance in (1, 3, 7))


class Device:
    """A worker whose device is in one state after the other, the last one for good."""

    def __init__(self, *states: State | Exception, evidence: Evidence = Evidence.DEVICE_TIME) -> None:
        self._states, self.evidence, self.looks = list(states), evidence, 0

    def state(self) -> State:
        self.looks += 1
        found = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if isinstance(found, Exception):
            raise found
        return found


class Watch:
    """A guard with its findings, its journal and its clock."""

    def __init__(self, refuse: bool = True) -> None:
        self.findings, self.now = Findings(), 0.0
        self.events: list[Mapping[str, Any]] = []
        self.guard = Guard(self.findings, lambda event, fields: self.events.append(fields), refuse, lambda: self.now)


def marked(watch: Watch) -> set[str]:
    return {candidate for _, _, candidate in watch.findings.marked}


def keys(*comparisons: Any) -> set[str]:
    return {one.keys[1] for one in comparisons}


def test_an_unsound_device_is_refused_with_the_command_that_mends_it():
    watch = Watch()
    with pytest.raises(Unavailable, match="hot; fix: wait; or measure anyway: --unsound warn"):
        watch.guard.begin("scripted", Device(State(unsound=(HOT, FREE))))
    assert watch.findings.refused == {"scripted"}


@pytest.mark.parametrize(("refuse", "unsound"), [(False, (HOT,)), (True, (FREE,))])
def test_a_warning_is_told_and_nothing_refused(refuse, unsound):
    watch = Watch(refuse)
    watch.guard.begin("scripted", Device(State(unsound=unsound)))
    assert (watch.findings.unsound, watch.findings.refused) == ({"scripted": unsound}, set())


def test_what_is_exact_is_the_same_in_every_state():
    watch, device = Watch(), Device(State(unsound=(HOT,)), evidence=Evidence.INSTRUCTIONS)
    watch.guard.begin("scripted", device)
    watch.guard.look("scripted", device, "after")
    assert (device.looks, watch.events) == (0, [])


def test_a_change_marks_what_was_measured_since_the_last_sound_look_and_all_that_follows():
    watch, device = Watch(), Device(SOUND, SOUND, FAST, SOUND)
    watch.guard.begin("scripted", device)
    watch.guard.measured(ONE, device)
    watch.guard.look("scripted", device, "between")
    watch.guard.measured(OTHER, device)
    assert marked(watch) == set()
    watch.guard.look("scripted", device, "between")
    watch.guard.measured(THIRD, device)
    assert marked(watch) == keys(OTHER, THIRD)
    assert watch.findings.changed == {"scripted": "state clock: 1 GHz → 2 GHz"}
    watch.guard.look("scripted", device, "after")
    watch.guard.measured(ONE, device)
    assert marked(watch) == keys(ONE, OTHER, THIRD)


def test_a_long_pass_is_looked_at_in_its_middle_but_not_often():
    watch, device = Watch(), Device(SOUND)
    watch.guard.begin("scripted", device)
    for second in range(100):
        watch.now = float(second)
        watch.guard.measured(ONE, device)
    assert device.looks == 1 + 99 // EVERY
    assert {one["when"] for one in watch.events} == {"before", "during"}


def test_a_reader_that_fails_ends_nothing():
    watch, device = Watch(), Device(SOUND, WorkerError("no such file"), FAST)
    watch.guard.begin("scripted", device)
    watch.guard.measured(ONE, device)
    watch.guard.look("scripted", device, "between")
    assert (marked(watch), watch.events[-1]["unknown"]) == (set(), "no such file")


def test_without_a_first_look_nothing_is_marked():
    watch, device = Watch(), Device(WorkerError("no such file"), FAST)
    watch.guard.begin("scripted", device)
    watch.guard.measured(ONE, device)
    watch.guard.look("scripted", device, "after")
    assert watch.findings.marked == {}


def test_each_backend_is_watched_for_itself():
    watch = Watch()
    watch.guard.begin("one", Device(SOUND))
    watch.guard.measured(ONE, Device(SOUND))
    watch.guard.begin("other", Device(FAST))
    watch.guard.look("other", Device(FAST), "after")
    assert (watch.findings.marked, watch.findings.changed) == ({}, {})


# The whole suite, on scripted devices


def test_a_run_on_an_unsound_device_cannot_judge(runner: SuiteRunner) -> None:
    result = runner.run(FLAT | {"states": [{"unsound": [THROTTLED]}]}, NEVER_SLOWER)
    assert (result.ret, outcomes(result)) == (CANNOT_JUDGE, {"skipped": 6})
    result.stdout.fnmatch_lines(["CANNOT JUDGE: scripted: *throttled by hand; fix: let go*--unsound warn*"])


def test_a_hunt_on_an_unsound_device_cannot_judge(runner: SuiteRunner) -> None:
    script = FLAT | {"states": [{"unsound": [THROTTLED]}]}
    result = runner.run(script, "-m", "hunt", "--hunt-budget", "1s", problem="")
    assert (result.ret, outcomes(result)) == (CANNOT_JUDGE, {"passed": 1, "skipped": 1})  # Outputs need no clock.


@pytest.mark.processes
def test_a_user_may_measure_anyway_and_is_told_but_not_accept_it(runner: SuiteRunner) -> None:
    script = FLAT | {"states": [{"unsound": [THROTTLED]}]}
    result = runner.run(script, NEVER_SLOWER, "--unsound", "warn")
    assert (result.ret, outcomes(result)) == (0, {"passed": 6})
    result.stdout.fnmatch_lines(["scripted: UNSOUND: throttled by hand; fix: let go"])
    accepting = runner.run(script, "--unsound", "warn", "--accept-baseline", "why not")
    assert accepting.ret == pytest.ExitCode.USAGE_ERROR
    accepting.stderr.fnmatch_lines(
        ["ERROR: not accepted, *: scripted's device is unsound for timing: throttled by hand*"]
    )


def test_what_was_measured_after_a_change_is_not_compared_with_the_baseline(runner: SuiteRunner) -> None:
    runner.accept(FLAT)
    changing = {"states": [{"settings": {"clock": "1 GHz"}}, {"settings": {"clock": "2 GHz"}, "processes": [1]}]}
    result = runner.run(FLAT | changing, LATENCY, "--benchmark-compare")
    assert outcomes(result) == {"skipped": 7}
    result.stdout.fnmatch_lines(
        [
            "*state changed while it was measured: state clock: 1 GHz → 2 GHz; 7 comparisons marked",
            "not comparable: 7",
        ]
    )
    accepting = runner.run(FLAT | changing, "--accept-baseline", "why not")
    accepting.stdout.fnmatch_lines(["ERROR: not accepted: the state of scripted's device changed*"])


def test_every_look_is_in_the_journal_with_its_time(runner: SuiteRunner) -> None:
    looks = [{"settings": {"clock": "1 GHz"}, "readings": {"gpu °C": 40.0}}]
    runner.run(FLAT | {"states": looks}, NEVER_SLOWER, "--journal", "journal.jsonl", "--passes", "2")
    lines = [json.loads(line) for line in (runner.path / "journal.jsonl").read_text().splitlines()]
    states = [line for line in lines if line["event"] == "state"]
    assert [one["when"] for one in states] == ["before", *["between"] * 3, "after"]
    assert all(one["time"] > 0 and one["readings"] == {"gpu °C": 40.0} for one in states)


# A device that becomes unfit while it measures

BUSY = Unsound(Trouble.BUSY, "busy with make", "wait for it")
BUSIED = {"unsound": [{"trouble": "busy", "text": "busy with make", "remedy": "wait for it"}]}


def test_a_device_that_becomes_unfit_spoils_what_is_measured_then() -> None:
    watch, device = Watch(), Device(SOUND, State(SOUND.settings, unsound=(BUSY,)), SOUND)
    watch.guard.begin("scripted", device)
    watch.guard.measured(ONE, device)
    watch.guard.look("scripted", device, "between")
    assert watch.findings.spoiled["scripted"].why == "busy with make; fix: wait for it"
    assert marked(watch) == keys(ONE)


@pytest.mark.parametrize(
    ("refuse", "states"),
    [
        (True, (SOUND, FAST)),  # Other settings are marked, and make no device unfit.
        (True, (SOUND, State(SOUND.settings, unsound=(HOT,)))),  # It gets hot by working.
        (False, (SOUND, State(SOUND.settings, unsound=(BUSY,)))),  # The user has said to measure anyway.
    ],
)
def test_what_spoils_no_run(refuse: bool, states: tuple[State, ...]) -> None:
    watch, device = Watch(refuse), Device(*states)
    watch.guard.begin("scripted", device)
    watch.guard.measured(ONE, device)
    watch.guard.look("scripted", device, "between")
    assert watch.findings.spoiled == {}


def test_a_device_that_becomes_unfit_when_all_is_measured_spoils_nothing() -> None:
    watch, device = Watch(), Device(SOUND, SOUND, State(SOUND.settings, unsound=(BUSY,)))
    watch.guard.begin("scripted", device)
    watch.guard.measured(ONE, device)
    watch.guard.look("scripted", device, "between")
    watch.guard.look("scripted", device, "after")
    assert watch.findings.spoiled == {}


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--strict-verdicts",), 1)])
def test_a_run_whose_device_becomes_unfit_is_incomplete_and_says_why(
    runner: SuiteRunner, strict: tuple[str, ...], code: int
) -> None:
    script = FLAT | {"states": [{}, BUSIED | {"processes": [1]}]}
    result = runner.run(script, NEVER_SLOWER, "--passes", "2", *strict)
    assert (result.ret, outcomes(result)) == (code, {"passed": 6})
    result.stdout.fnmatch_lines(
        [
            "INCOMPLETE: scripted: its device became unfit in the middle of the run: busy with make; fix: wait *",
            "  measure again what the unfit device spoiled:",
            "    the same command with --resume=*",
        ]
    )


def test_a_run_that_decides_nothing_once_its_device_is_unfit_cannot_judge(runner: SuiteRunner) -> None:
    noisy = {"noise": 0.5, "states": [{}, BUSIED | {"processes": [1]}]}
    result = runner.run(FLAT | noisy, NEVER_SLOWER, "--preset", "quick", "--passes", "2")
    assert result.ret == CANNOT_JUDGE
    result.stdout.fnmatch_lines(["CANNOT JUDGE: scripted: its device became unfit*; nothing was decided after that; *"])


def test_a_hunt_on_a_device_that_becomes_unfit_says_so_next_to_what_it_found(runner: SuiteRunner) -> None:
    script = FLAT | {"rules": [{"when": "out_channels % 2", "times": 2.0}], "states": [{}, BUSIED | {"processes": [1]}]}
    result = runner.run(script, "-m", "hunt", "--hunt-budget", "3s", problem="")
    result.stdout.fnmatch_lines(
        ["HAZARDS: scripted: its device became unfit in the middle of the run: busy with make*"]
    )
