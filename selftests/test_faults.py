"""Kills, hangs, lack of memory, stepped clocks, full disks, Ctrl-C: what was reached stays, and nothing turns green."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import faults
from bench.faults import Journalled, Key, judged
from neverslower.campaign import library
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings
from neverslower.campaign.resume import Recorded, load
from neverslower.campaign.settings import Settings
from neverslower.errors import DeviceBusy, JournalError, NeverSlowerError, Unavailable, WorkerDied
from neverslower.files.journal import Journal, replay
from neverslower.outcome.assessment import Assessment
from neverslower.outcome.run_verdict import CANNOT_JUDGE, Asked, Came, cannot_judge
from neverslower.report.progress_line import ProgressLine
from neverslower.worker import holder
from neverslower.worker.pool import ask_all
from neverslower.worker.process import DeviceLock, Worker, WorkerSpec
from selftests import in_process
from selftests.conftest import PROBLEM, ROOT, SuiteRunner
from selftests.support import alive, comparison, eventually, needs_proc, problem, script, scripted

INTERRUPTED, USAGE_ERROR = 2, 4
NEVER_SLOWER = "tests/test_never_slower.py"
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--problem", PROBLEM)
STEADY: dict[str, Any] = {"seconds": 1e-5}
PAIR = [comparison(1), comparison(3)]

# Random kills


@needs_proc
@pytest.mark.slow
def test_random_kills_lose_nothing_and_turn_nothing_green(tmp_path: Path) -> None:
    kinds = faults.kill_and_resume(tmp_path, kills=6, seed=1, jobs=2, ways=[faults.SMALL, faults.IN_TURNS])
    assert sum(one.kills for one in kinds.tallies.values()) == 6
    assert all(one.sound for one in kinds.tallies.values()), "\n".join(faults.table(kinds.tallies))


ONE, OTHER = ("verdict", "now", "r", "1"), ("agreement", "now", "r", "2")
THERE = ("verdict", "before", "r", "1")
Measured = Counter[tuple[Key, int]]
RIGHT = {ONE: "SLOWER", OTHER: "SAME", THERE: "SAME"}


@pytest.mark.parametrize(
    ("held", "now", "code", "crashes", "wrong"),
    [
        ({ONE: "SLOWER"}, RIGHT, 0, False, {}),
        ({ONE: "CRASHED"}, RIGHT, 0, True, {}),
        ({ONE: "CRASHED"}, RIGHT, 0, False, {"changed": 1}),
        ({ONE: "CRASHED", THERE: "UNDECIDED"}, RIGHT, 0, True, {}),
        ({THERE: "UNDECIDED"}, RIGHT, 0, True, {"changed": 1}),
        ({THERE: "CRASHED"}, RIGHT, 0, True, {"changed": 1}),
        ({}, RIGHT | {ONE: "CRASHED", THERE: "UNDECIDED"}, 1, True, {"cost": 2}),
        ({}, RIGHT | {ONE: "CRASHED", THERE: "SLOWER"}, 1, True, {"cost": 1, "changed": 1}),
        ({}, RIGHT | {THERE: "UNDECIDED"}, 1, True, {"changed": 1}),
        ({}, RIGHT | {THERE: "CRASHED"}, 0, True, {"changed": 1, "wrong_greens": 1}),
        ({}, {ONE: "SLOWER", OTHER: "SAME"}, 0, True, {"wrong_greens": 1}),
        ({}, RIGHT | {ONE: "UNDECIDED"}, 1, True, {"changed": 1}),
        ({}, {ONE: "SLOWER"}, 2, False, {}),
        ({}, RIGHT | {ONE: "CRASHED"}, 1, True, {"cost": 1}),
        ({}, RIGHT | {ONE: "CRASHED"}, 1, False, {"changed": 1}),
        ({}, RIGHT | {ONE: "CRASHED"}, 0, True, {"cost": 1, "wrong_greens": 1}),
        ({OTHER: "SAME"}, {ONE: "SLOWER"}, 2, False, {"lost": 1}),
        ({OTHER: "INVALID"}, RIGHT, 0, False, {"changed": 1}),
        ({}, RIGHT | {ONE: "UNDECIDED"}, 1, False, {"changed": 1}),
        ({}, RIGHT | {ONE: "SAME"}, 1, False, {"changed": 1, "wrong_greens": 1}),
        ({}, {ONE: "SLOWER"}, 0, False, {"wrong_greens": 1}),
    ],
)
def test_what_kills_may_do_and_what_not(held, now, code, crashes, wrong) -> None:
    found = judged([Journalled(verdicts=held)], Journalled(verdicts=now), Journalled(verdicts=RIGHT), code, crashes)
    assert {name: count for name, count in vars(found).items() if count and name != "messages"} == wrong


def test_what_is_measured_twice_is_counted() -> None:
    once, twice = Measured({(ONE, 0): 1}), Measured({(ONE, 0): 2})
    for before, now, count in ((once, once, 0), (once, twice, 1), (twice, twice, 0)):
        right = Journalled(measured=once)
        assert judged([Journalled(measured=before)], Journalled(measured=now), right, 1, False).twice == count


@pytest.mark.parametrize(("partner", "twice"), [(0, 0), (1, 1)])
def test_half_a_pair_is_measured_again(partner: int, twice: int) -> None:
    whole = Journalled(measured=Measured({(ONE, 0): 1, (THERE, 0): 1}))
    before, now = Measured({(THERE, 0): 1, (ONE, 0): partner}), Measured({(THERE, 0): 2, (ONE, 0): 1})
    assert judged([Journalled(measured=before)], Journalled(measured=now), whole, 1, False).twice == twice


def died(*arguments: Any) -> WorkerDied:
    return WorkerDied("killed", "")


@pytest.mark.parametrize(
    ("number", "error", "results"), [(0, died, 2), (1, died, 2), (1, Unavailable, 2), (0, Unavailable, 0)]
)
def test_a_worker_killed_as_it_starts_costs_nothing(tmp_path: Path, monkeypatch, number, error, results) -> None:
    """One that never started may be a place that can't be used, which is told at once."""
    failed: list[int] = []

    def start(spec: WorkerSpec, process: int = 0) -> Worker:
        if process == number and not failed:
            failed.append(process)
            raise error("gone")
        return Worker(spec, process)

    monkeypatch.setattr(library, "Worker", start)
    findings = Campaign({"scripted": scripted(tmp_path, rules=[STEADY])}, Settings(blocks=10)).run(PAIR)
    assert [str(one.verdict.code) for one in findings.results.values()] == ["SAME"] * results
    assert bool(findings.unavailable) is not bool(results)


def test_a_worker_of_a_pool_killed_as_it_starts_costs_nothing(tmp_path: Path, monkeypatch) -> None:
    failed: list[WorkerSpec] = []

    def start(spec: WorkerSpec) -> Worker:
        if not failed:
            failed.append(spec)
            raise died()
        return Worker(spec)

    monkeypatch.setattr("neverslower.worker.pool.Worker", start)
    keys = [problem(16).key, problem(15).key]
    found = ask_all(scripted(tmp_path), keys, 1, lambda one, key: one.examine(key).wrong, lambda _: None, lambda: False)
    assert (found, len(failed)) == (dict.fromkeys(keys, False), 1)


# What was lost to what


def test_the_summary_counts_what_was_lost_to_what(runner: SuiteRunner) -> None:
    rules: list[dict[str, Any]] = [
        {"when": f"out_channels == {count}", "fault": fault}
        for count, fault in ((15, "crash"), (13, "hang"), (12, "hang_holding_gil"), (9, "out_of_memory"), (8, "error"))
    ]
    result = runner.run({"rules": rules}, NEVER_SLOWER, "--time-limit", "1")
    assert result.ret == 1
    counts = "2 worker died or failed, 2 time limit, 1 out of memory"
    result.stdout.fnmatch_lines([f"without a verdict: 5 of 6: {counts}"])
    result.assert_outcomes(failed=4, skipped=1, passed=1)


def test_what_the_other_library_lost_is_told_and_fails_nothing(runner: SuiteRunner) -> None:
    folder = runner.path / "other"
    folder.mkdir()
    other = script(folder, noise=0.002, rules=[{"when": "out_channels in (15, 13)", "fault": "crash"}])
    result = runner.run({}, "tests/test_latency.py", "--against", f"popen//env:NEVERSLOWER_SCRIPT={other}")
    assert result.ret == 0
    result.assert_outcomes(passed=5, skipped=2)
    lost = "the other library: without a verdict: 2 of 7: 2 worker died or failed"
    result.stdout.fnmatch_lines(["  *the other library has no time to compare with: CRASHED: *", lost])


def test_what_has_all_its_verdicts_says_nothing_of_losses(runner: SuiteRunner) -> None:
    result = runner.run({}, NEVER_SLOWER)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*without a verdict*")


def test_ctrl_c_in_the_campaign_tells_what_was_measured_and_accepts_nothing(
    runner: SuiteRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ctrl_c(self: ProgressLine, phase: str, done: int, total: int, seconds_left: float | None) -> None:
        if phase.endswith("pass 7"):
            raise KeyboardInterrupt

    page = runner.path / "page.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    # The sixth pass confirms two; the third of them it hides, so that the seventh has to.
    hidden = {"when": "out_channels == 13", "times": 0.5, "processes": [5]}
    backend = runner.script(rules=[{"when": "out_channels in (15, 13, 12)", "times": 2.0}, hidden])
    arguments = ["--backend", backend, "--problem", PROBLEM, "--journal=run.jsonl", "-p", "no:cacheprovider"]
    with monkeypatch.context() as patched:
        patched.setattr(ProgressLine, "__call__", ctrl_c)
        run = runner.pytester.runpytest_inprocess
        result = run(*arguments, "--accept-baseline=x", no_reraise_ctrlc=True)
    assert result.ret == INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            "INTERRUPTED: 2 slower (2 confirmed), 3 not slower, 1 left out, of 6",
            "without a verdict: 1 of 13: 1 interrupted",
            "ended early: what was measured so far is in the journal",
            "    the same command with --resume=run.jsonl",
        ]
    )
    assert not list(runner.path.glob("baselines/*/*.json*"))
    assert "## never-slower: INTERRUPTED" in page.read_text(encoding="utf-8")
    again = runner.run({"rules": [{"when": "out_channels in (15, 13, 12)", "times": 2.0}]}, "--resume", "run.jsonl")
    assert again.ret == 0
    assert max(Journalled.read(runner.path / "run.jsonl").measured.values()) == 1


def test_a_run_without_all_its_verdicts_cannot_judge() -> None:
    came = Came(Assessment(Findings(wanted=Counter(scripted=3)), {}))
    assert cannot_judge(Asked(), came, ()) == "the run ended before 3 of 3 verdicts"


def test_a_run_that_lost_the_other_library_cannot_judge() -> None:
    before = Findings(alone={"scripted": "the image is gone"})
    came = Came(Assessment(Findings(), {}, before=before))
    asked = Asked(against=("scripted",))
    assert cannot_judge(asked, came, ()) == "scripted: the other library was lost: the image is gone"


# A full disk


def test_a_disk_that_fills_up_keeps_what_was_reached(runner: SuiteRunner) -> None:
    script = {"rules": [{"when": "out_channels == 13", "times": 2.0}]}
    journal, whole = runner.path / "run.jsonl", runner.path / "whole.jsonl"
    assert runner.run(script, NEVER_SLOWER, f"--journal={whole}").ret == 0
    lines = whole.read_bytes().splitlines(keepends=True)
    second = [number for number, line in enumerate(lines) if b'"event":"verdict"' in line][1]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(b"".join(lines[:second])) + 100, limits[1]))
    try:
        result = runner.run(script, NEVER_SLOWER, f"--journal={journal}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.ret == USAGE_ERROR
    why = f"the journal {journal} can't be written: File too large; fix that and go on with --resume {journal}"
    result.stderr.fnmatch_lines([f"ERROR: {why}, or name another with --journal"])
    result.stdout.fnmatch_lines(["without a verdict: * journal not writable", "ended early: *"])
    kept = Journalled.read(journal)
    assert len(kept.verdicts) == 1
    assert not journal.read_bytes().endswith(b"\n")
    assert runner.run(script, NEVER_SLOWER, f"--resume={journal}").ret == 0
    now = Journalled.read(journal)
    assert now.verdicts == Journalled.read(whole).verdicts
    assert max(now.measured.values()) == 1


def test_after_a_failed_write_nothing_is_added_to_a_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.write("first", {})
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))
    try:
        with pytest.raises(JournalError, match="File too large"):
            journal.write("second", {"text": "long enough"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(JournalError, match="File too large"):
        journal.write("end", {})
    journal.close()
    assert path.stat().st_size == size + 20


def test_a_line_cut_at_any_byte_is_left_out_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.write("first", {})
    begin = path.stat().st_size
    journal.write(
        "cut", {"reason": {"code": "x", "text": "y"}, "ratio": {"low": 1.0}, "deep": [[{"a": 1}, {}]], "b": 2}
    )
    journal.close()
    whole = path.read_bytes()
    for end in range(begin, len(whole)):
        path.write_bytes(whole[:end])
        for event in ("then", "last"):  # Gone on with twice: the part lies in the middle.
            opened = Journal(path)
            opened.write(event, {})
            opened.close()
        found: list[str] = []
        replay(path, lambda line, found=found: found.append(line["event"]))  # type: ignore[misc]
        assert [one for one in found if one != "cut"] == ["first", "then", "last"]
        assert ("cut" in found) == (end == len(whole) - 1)


@pytest.mark.processes
def test_no_room_for_a_workers_last_words_is_one_clear_line(runner: SuiteRunner, monkeypatch) -> None:
    def no_room() -> None:
        raise OSError(28, "No space left on device", "there")

    monkeypatch.setattr(tempfile, "TemporaryFile", no_room)
    result = runner.run({}, NEVER_SLOWER)
    assert result.ret == USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: no worker can be started: *No space left on device: 'there'; *TMPDIR"])


# A stepped clock

STEPPED = """
import itertools, time
_now, _steps = time.time, itertools.cycle((0, 86400, -86400, 3e8))
time.time = lambda: _now() + next(_steps)
"""


def test_a_clock_that_is_set_changes_no_verdict(runner: SuiteRunner) -> None:
    script = {"rules": [{"when": "out_channels == 13", "times": 2.0}]}
    budgets = ("--time-budget=5m", "--explain-budget=5m")
    assert runner.run(script, *budgets, "--journal=steady.jsonl").ret == 0
    (runner.path / "sitecustomize.py").write_text(STEPPED, encoding="utf-8")
    result = subprocess.run(
        [*PYTEST, "--backend", runner.script(**script), *budgets, "--journal=stepped.jsonl"],
        cwd=runner.path,
        env=os.environ | {"PYTHONPATH": f"{runner.path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    steady, stepped = (Journalled.read(runner.path / f"{name}.jsonl") for name in ("steady", "stepped"))
    assert steady.verdicts == stepped.verdicts
    assert steady.measured == stepped.measured
    times = [json.loads(line)["time"] for line in (runner.path / "stepped.jsonl").read_text().splitlines()]
    assert times != sorted(times)  # The clock was set indeed.


# Two runs on one device


@pytest.fixture
def first(runner: SuiteRunner, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """Another run, which has an exclusive device and hangs."""
    monkeypatch.setenv("TMPDIR", str(runner.path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    backend = runner.script(device="board", exclusive=True, rules=[{"fault": "hang"}])
    process = subprocess.Popen(
        [*PYTEST, "--backend", backend, "--journal=first.jsonl", NEVER_SLOWER],
        cwd=runner.path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield process
    process.kill()
    process.wait()


@needs_proc
@pytest.mark.processes
def test_of_two_runs_on_one_device_the_second_says_so(runner: SuiteRunner, first: subprocess.Popen[bytes]) -> None:
    assert eventually(lambda: Journalled.read(runner.path / "first.jsonl").begun)
    second = runner.run({"device": "board", "exclusive": True}, NEVER_SLOWER)
    assert second.ret == CANNOT_JUDGE
    lock = runner.path / "never-slower-board.lock"
    why = f"another never-slower run is using board; wait for it to end (lock {lock})"
    second.stdout.fnmatch_lines([f"CANNOT JUDGE: scripted: {why}; *"])
    second.stdout.no_fnmatch_line("*is unavailable: *")  # The reason is said once.
    second.assert_outcomes(skipped=6)
    assert first.poll() is None
    first.kill()
    assert runner.run({"device": "board", "exclusive": True}, NEVER_SLOWER).ret == 0


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch) -> list[DeviceLock]:
    """The locks that a campaign takes."""
    taken: list[DeviceLock] = []

    class Noted(DeviceLock):
        def __init__(self, spec: WorkerSpec, device: str) -> None:
            super().__init__(spec, device)
            taken.append(self)

        def kept(self) -> DeviceLock:
            again = super().kept()
            if again is not self:
                taken.append(again)
            return again

    monkeypatch.setattr(holder, "DeviceLock", Noted)
    return taken


def kill_lock(lock: DeviceLock) -> None:
    pid = lock._pid
    assert pid is not None
    os.kill(pid, 9)
    assert eventually(lambda: not alive(pid) and not lock._channel.gateway.hasreceiver())


@needs_proc
@pytest.mark.parametrize("another", [False, True], ids=["and the device is free", "and another run took the device"])
def test_a_lock_that_is_killed_is_taken_again(tmp_path: Path, locks: list[DeviceLock], another: bool) -> None:
    spec = scripted(tmp_path, device=f"a board of the lock's test {another}", exclusive=True, rules=[STEADY])
    others: list[DeviceLock] = []

    def progress(phase: str, done: int, total: int, seconds_left: float | None) -> None:
        if phase.endswith("pass 1"):  # Both are timed together, so that this is one step.
            kill_lock(locks[0])
            if another:
                others.append(DeviceLock(spec, locks[0]._device))
        elif phase.endswith("pass 2"):
            with pytest.raises(DeviceBusy, match="another never-slower run is using"):
                DeviceLock(spec, locks[0]._device)

    findings = Campaign({"scripted": spec}, Settings(blocks=10), progress=progress).run(PAIR)
    for one in others:
        one.close()
    assert len(locks) == 1 + (not another)
    assert len(findings.results) == (0 if another else 2)
    assert findings.refused == ({"scripted"} if another else set())
    assert findings.lost.total() == (2 if another else 0)


# A device whose state changes


def test_what_was_measured_after_a_change_of_state_is_measured_again(tmp_path: Path) -> None:
    """A run marks it, and the one that goes on with its journal must not take it for sound."""
    steady, boosted = {"settings": {"clock": "1 GHz"}}, {"settings": {"clock": "2 GHz"}, "processes": [1, 2]}
    path = tmp_path / "journal"
    others: dict[str, Any] = {"rules": [STEADY, {"when": "out_channels == 15", "times": 2.0}]}
    first = campaign_on(scripted(tmp_path, states=[steady, boosted], **others), path)
    assert set(first.findings.marked) == {one.identity for one in PAIR}
    lines = path.read_bytes().count(b'"measured"')
    changed = scripted(tmp_path, states=[{"settings": {"clock": "2 GHz"}}], **others)
    with pytest.raises(NeverSlowerError, match="the device was in another state: state clock: 1 GHz → 2 GHz"):
        campaign_on(changed, path, load(path))
    recorded = load(path)
    again = campaign_on(scripted(tmp_path, states=[steady], **others), path, recorded)
    assert {number for _, number in recorded.passes} == {0}
    assert not again.findings.marked
    assert path.read_bytes().count(b'"measured"') == lines + 5  # Two passes of both, and the one that confirms.
    whole = load(path)
    whole.drop_doubtful()
    passes = {identity: len(taken) for identity, taken in whole.in_order.items()}
    assert passes == {PAIR[0].identity: 4, PAIR[1].identity: 3}  # The fourth confirms.


def campaign_on(spec: WorkerSpec, path: Path, recorded: Recorded | None = None) -> Campaign:
    journal = Journal(path)
    campaign = Campaign({"scripted": spec}, Settings(blocks=10), journal, recorded=recorded, start=in_process.start)
    try:
        campaign.run(PAIR)
    finally:
        journal.close()
    return campaign
