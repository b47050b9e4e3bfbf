"""Verdicts on demand: what is asked of a worker and how often, what a failure means, and how the error is shared."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from neverslower.errors import Unavailable, WorkerDied
from neverslower.evidence.observation import PairedPass
from neverslower.files.journal import Journal
from neverslower.hunt import oracle as module
from neverslower.hunt.oracle import Oracle
from neverslower.judge.sequential import SequentialJudge
from neverslower.judge.verdict import Judge, Verdict
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.problem.networks import Layer
from neverslower.worker import holder
from neverslower.worker.process import DeviceLock, StartWorker, Worker, WorkerSpec
from selftests import in_process
from selftests.support import children, comparison, eventually, needs_proc, problem, scripted

STEADY = {"seconds": 1e-5}
SLOW = {"when": "out_channels == 15", "times": 2.0}


class Recorder(Journal):
    """Keeps the events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def write(self, event: str, fields: Any) -> None:
        self.events.append(json.loads(json.dumps({"event": event, **fields})))

    def named(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.events if one["event"] == name]


@pytest.fixture
def journal() -> Recorder:
    return Recorder()


class Starts:
    """Starts workers, and keeps their numbers."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def __call__(self, spec: WorkerSpec, process: int = 0) -> Worker:
        self.numbers.append(process)
        return in_process.start(spec, process)


@pytest.fixture
def starts() -> Starts:
    return Starts()


def oracle_on(
    spec: WorkerSpec, journal: Journal | None = None, judge: Judge | None = None, start: StartWorker = in_process.start
) -> Oracle:
    return Oracle(spec, journal, judge, start)


class Recording(SequentialJudge):
    """A judge that records what it is asked."""

    asked: ClassVar[list[tuple[int, int]]] = []

    def __call__(self, passes: Sequence[PairedPass], comparisons: int) -> Verdict:
        self.asked.append((sum(len(one.seconds) for one in passes), comparisons))
        return super().__call__(passes, comparisons)


@pytest.fixture
def judge() -> Recording:
    Recording.asked.clear()
    return Recording()


def seen(verdict: Verdict) -> str:
    return f"{verdict.code} {verdict.reason.code}"


def test_a_verdict_is_measured_once_and_then_remembered(tmp_path: Path, journal: Recorder) -> None:
    with oracle_on(scripted(tmp_path, noise=0.01, rules=[STEADY, SLOW]), journal) as oracle:
        assert not oracle.knows(comparison(1))
        first = oracle.verdict(comparison(1))
        assert oracle.knows(comparison(1))
        assert oracle.verdict(comparison(1)) is first
        assert seen(oracle.verdict(comparison(3))) == "SAME within_target"
        assert seen(first) == "SLOWER proved"
        assert [str(plan) for plan in oracle.plans(comparison(1))] == ["plain", "plain"]
    assert [one["problem"] for one in journal.named("examined")] == [problem(n).key for n in (16, 15, 13)]
    assert len(journal.named("verdict")) == 2


def test_what_is_clear_takes_few_passes(tmp_path: Path, journal: Recorder, judge: Recording) -> None:
    with oracle_on(scripted(tmp_path, noise=0.005, rules=[STEADY, SLOW]), journal, judge) as oracle:
        for distance in (3, 1):
            oracle.verdict(comparison(distance))
    assert judge.asked == [(24, 2), (32, 6)]
    samples = journal.named("drawn")
    assert [len(one["seconds"]) for one in samples] == [8] * 7
    assert (samples[-1]["reference"], samples[-1]["candidate"]) == (problem(16).key, problem(15).key)
    assert len({tuple(np.ravel(one["seconds"])) for one in samples}) == 7


def test_every_pass_is_a_fresh_preparation_and_either_is_first_by_turns(tmp_path: Path) -> None:
    asked: list[tuple[bool, bool]] = []

    class Noted(in_process.InProcess):
        def measure(self, reference: str, candidate: str, blocks: int, candidate_first=False, afresh=False):
            asked.append((candidate_first, afresh))
            return super().measure(reference, candidate, blocks, candidate_first, afresh)

    with oracle_on(scripted(tmp_path, noise=0.01, rules=[STEADY]), start=Noted) as oracle:
        oracle.verdict(comparison(1))
    assert asked == [(False, True), (True, True), (False, True)]


def test_however_many_are_judged_their_errors_sum_to_the_familys(tmp_path: Path, judge: Recording) -> None:
    with oracle_on(
        scripted(tmp_path, rules=[STEADY, {"when": "out_channels < 16", "times": 2.0}]), None, judge
    ) as oracle:
        for distance in (1, 2, 3):
            oracle.verdict(comparison(distance))
    assert [comparisons for _, comparisons in judge.asked] == [2, 6, 12]
    assert sum(1 / module._share(k) for k in range(1, 10_000)) < 1


def test_a_late_hazard_can_still_be_proved(tmp_path: Path) -> None:
    with oracle_on(scripted(tmp_path, noise=0.01, rules=[STEADY, SLOW])) as oracle:
        oracle._judged = 10_000
        assert seen(oracle.verdict(comparison(1))) == "SLOWER proved"


# Failures


def test_a_refusal_or_a_wrong_output_is_a_verdict(tmp_path: Path, starts: Starts) -> None:
    expected = {
        "wrong": "INVALID wrong_output",
        "nan": "INVALID wrong_output",
        "unsupported": "UNSUPPORTED library_refuses",
        "out_of_memory": "UNSUPPORTED out_of_memory",
        "error": "CRASHED worker_died",
    }
    rules = [{"when": f"out_channels == {n}", "fault": fault} for n, fault in enumerate(expected, start=1)]
    with oracle_on(scripted(tmp_path, rules=[STEADY, *rules]), start=starts) as oracle:
        asked = [comparison(16 - n) for n in range(1, len(expected) + 1)]
        assert [seen(oracle.verdict(one)) for one in asked] == list(expected.values())
        assert [oracle.plans(one)[1] for one in asked] == [None] * len(expected)
        assert seen(oracle.verdict(comparison(3))) == "SAME within_target"
    assert starts.numbers == [0]


@pytest.mark.parametrize(("fault", "reason"), [("crash", "worker_died"), ("hang", "time_limit")])
def test_after_a_death_the_next_question_is_answered_by_another_worker(
    tmp_path: Path, starts: Starts, fault: str, reason: str
) -> None:
    rules = [STEADY, {"when": "out_channels == 15", "fault": fault}]
    spec = scripted(tmp_path, 0.5 if fault == "hang" else 30.0, rules=rules)
    with oracle_on(spec, start=starts) as oracle:
        assert seen(oracle.verdict(comparison(1))) == f"CRASHED {reason}"
        assert seen(oracle.verdict(comparison(3))) == "SAME within_target"
        assert seen(oracle.verdict(comparison(1))) == f"CRASHED {reason}"
    assert starts.numbers == [0, 1]


def test_where_no_worker_starts_any_more_none_is_tried_again(tmp_path: Path) -> None:
    tried: list[int] = []

    def start(spec: WorkerSpec, process: int = 0) -> Worker:
        tried.append(process)
        if process:
            raise WorkerDied("no process", "")
        return in_process.start(spec, process)

    rules = [STEADY, {"when": "out_channels == 15", "fault": "crash"}]
    with oracle_on(scripted(tmp_path, rules=rules), start=start) as oracle:
        assert [seen(oracle.verdict(comparison(n))) for n in (1, 2, 3)] == ["CRASHED worker_died"] * 3
    assert tried == [0, 1, 1]  # Once more, for it may have been killed; then never again.


def test_an_unavailable_backend_is_told_on_entering(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no board"), oracle_on(scripted(tmp_path, unavailable="no board")):
        pass


@needs_proc
def test_no_process_outlives_an_oracle(tmp_path: Path) -> None:
    before = children(os.getpid())

    def interrupted() -> None:
        with oracle_on(scripted(tmp_path, rules=[STEADY]), start=Worker) as oracle:
            oracle.verdict(comparison(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert eventually(lambda: children(os.getpid()) <= before)


def test_an_exclusive_device_is_kept_from_the_first_question_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[str] = []

    class Lock(DeviceLock):
        def __init__(self, spec: WorkerSpec, device: str) -> None:
            kept.append(device)

        def kept(self) -> DeviceLock:
            return self

        def close(self) -> None:
            kept.append("let go")

    class Exclusive(in_process.InProcess):
        def _open(self) -> None:
            super()._open()
            self.exclusive = True

    monkeypatch.setattr(holder, "DeviceLock", Lock)
    spec = scripted(tmp_path, device="board", rules=[STEADY, SLOW])
    with oracle_on(spec, start=Exclusive) as oracle:
        oracle.confirmed(comparison(1))
        assert kept == ["board"]
    assert kept == ["board", "let go"]


# Confirmation


def test_a_hazard_that_a_fresh_process_shows_is_confirmed(tmp_path: Path, journal: Recorder, starts: Starts) -> None:
    slow = {"when": "out_channels < 16", "times": 2.0}
    with oracle_on(scripted(tmp_path, noise=0.01, rules=[STEADY, slow]), journal, start=starts) as oracle:
        for one in (comparison(1), comparison(3)):
            oracle.verdict(one)
        for one in (comparison(1), comparison(3)):
            verdict = oracle.confirmed(one)
            assert verdict.code == "SLOWER"
            assert "confirmed in a fresh process" in verdict.reason.text
    assert starts.numbers == [0, 1]
    assert [(one["pass"], len(one["seconds"])) for one in journal.named("confirmed")] == [(1, 16), (1, 16)]


def test_a_hazard_that_a_fresh_process_does_not_show_is_undecided_from_then_on(tmp_path: Path) -> None:
    with oracle_on(scripted(tmp_path, noise=0.01, rules=[STEADY, SLOW | {"processes": [0]}])) as oracle:
        assert seen(oracle.verdict(comparison(1))) == "SLOWER proved"
        assert seen(oracle.confirmed(comparison(1))) == "UNDECIDED not_confirmed"
        assert seen(oracle.verdict(comparison(1))) == "UNDECIDED not_confirmed"


def test_what_is_not_slower_needs_no_confirmation(tmp_path: Path, starts: Starts) -> None:
    with oracle_on(scripted(tmp_path, rules=[STEADY]), start=starts) as oracle:
        assert seen(oracle.confirmed(comparison(1))) == "SAME within_target"
    assert starts.numbers == [0]


# Outputs

GROUPED = ConvProblem(in_channels=4, height=3, width=3, out_channels=6, kernel=(3, 3), groups=2)
DEPTHWISE = ConvProblem(in_channels=4, height=3, width=3, out_channels=8, kernel=(1, 1), groups=4)


def test_a_right_output_is_right_on_all_three_accounts(tmp_path: Path) -> None:
    with in_process.start(scripted(tmp_path)) as worker:
        for unpruned, side in itertools.product((problem(16), GROUPED, DEPTHWISE), Side):
            found = worker.check(unpruned.key, unpruned.prune(unpruned.prune_step(side), side).key)
            assert list(found) == ["float64", "slice", "zero-padded"]
            assert all(0 <= error < tolerance for error, tolerance in found.values())


@pytest.mark.parametrize(("channels", "said"), [(15, "float64 reference"), (16, "slice of the unpruned layer")])
def test_a_wrong_output_is_found_whichever_layer_it_is_of(tmp_path: Path, channels: int, said: str) -> None:
    rules = [{"when": f"out_channels == {channels}", "fault": "wrong_first"}]
    with oracle_on(scripted(tmp_path, rules=rules)) as oracle:
        verdict = oracle.numerics(comparison(1))
        assert seen(verdict) == "INVALID wrong_output"
        assert said in verdict.reason.text
        assert (
            seen(oracle.numerics(Comparison("scripted", Layer("", 0, "other", problem(12)), problem(11))))
            == "SAME proved"
        )


def test_a_layer_that_is_wrong_only_when_padded_with_zeros_is_wrong() -> None:
    found = {"float64": (1e-6, 1e-4), "slice": (1e-6, 2e-4), "zero-padded": (3e-4, 2e-4)}
    verdict = module._of_deviations(found)
    assert seen(verdict) == "INVALID wrong_output"
    assert "padded with zeros by 0.0003" in verdict.reason.text
    assert seen(module._of_deviations(found | {"zero-padded": (float("nan"), 2e-4)})) == "INVALID wrong_output"


def test_outputs_are_checked_once_and_apart_from_the_timing(tmp_path: Path, journal: Recorder) -> None:
    with oracle_on(scripted(tmp_path, rules=[STEADY, SLOW]), journal) as oracle:
        assert not oracle.knows_numerics(comparison(1))
        assert seen(oracle.numerics(comparison(1))) == "SAME proved"
        assert oracle.knows_numerics(comparison(1))
        assert not oracle.knows(comparison(1))
        oracle.numerics(comparison(1))
    assert [one["event"] for one in journal.events] == ["fingerprint", "checked"]
