"""The worker in the test's own process: it answers as a real one does, and real ones start where it could not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neverslower.errors import OutOfMemory, Unavailable, Unsupported, WorkerError
from neverslower.evidence.observation import Examined
from neverslower.worker.process import StartWorker, Worker, WorkerSpec
from selftests.in_process import InProcess, needs_process, start
from selftests.support import problem, script, scripted

WHOLE, PART = problem(16).key, problem(15).key
BOTH = pytest.mark.parametrize("kind", [Worker, InProcess])


def told(kind: StartWorker, spec: WorkerSpec) -> list[Any]:
    """What a worker says of one pair, and of itself."""
    with kind(spec, 2) as worker:
        measured = worker.measure(WHOLE, PART, 4)
        fields = [worker.fingerprint, worker.clock, worker.offers, worker.remarks, worker.state(), worker.at_once]
        return [
            *fields,
            worker.examine(PART),
            worker.agree(WHOLE, PART),
            measured.iterations,
            measured.seconds.tolist(),
        ]


def test_it_says_what_a_process_says(tmp_path: Path) -> None:
    spec = scripted(tmp_path, noise=0.01, process_effect=0.01, remarks=["one"], rules=[{"seconds": 1e-5}])
    assert told(InProcess, spec) == told(Worker, spec)


@BOTH
@pytest.mark.parametrize(
    ("fault", "error"), [("unsupported", Unsupported), ("out_of_memory", OutOfMemory), ("error", WorkerError)]
)
def test_errors_are_those_of_a_process(tmp_path: Path, kind: StartWorker, fault: str, error: type[Exception]) -> None:
    with kind(scripted(tmp_path, rules=[{"fault": fault}])) as worker, pytest.raises(error, match="scripted"):
        worker.examine(PART)


@BOTH
def test_what_can_t_be_opened_is_unavailable(tmp_path: Path, kind: StartWorker) -> None:
    with pytest.raises(Unavailable, match="no such board"):
        kind(scripted(tmp_path, unavailable="no such board"))


@BOTH
def test_what_execnet_can_t_carry_is_not_asked(tmp_path: Path, kind: StartWorker) -> None:
    with kind(scripted(tmp_path)) as worker, pytest.raises(Exception, match=r"can't serialize .*numpy"):
        worker.measure(WHOLE, PART, np.int64(2))


def test_each_has_a_far_side_of_its_own(tmp_path: Path) -> None:
    spec = scripted(tmp_path, noise=0.01)
    with InProcess(spec) as one, InProcess(spec) as other:
        first = one.measure(WHOLE, PART, 2)
        assert np.array_equal(other.measure(WHOLE, PART, 2).seconds, first.seconds)
        assert not np.array_equal(one.measure(WHOLE, PART, 2).seconds, first.seconds)


@pytest.mark.parametrize(
    ("fault", "execnet", "needed"),
    [
        ("wrong", "popen", False),
        ("crash", "popen", True),
        ("hang", "popen", True),
        ("hang_holding_gil", "popen", True),
        ("wrong", "popen//python=python3", True),
        ("wrong", "popen//chdir=/", True),
        ("wrong", "ssh=board", True),
        ("wrong", "=", True),
    ],
)
def test_a_process_starts_where_it_is_needed(tmp_path: Path, fault: str, execnet: str, needed: bool) -> None:
    path = script(tmp_path, rules=[{"fault": fault}])
    assert needs_process(WorkerSpec("scripted", str(path), execnet)) is needed
    assert needs_process(WorkerSpec("onednn"))


def test_a_script_may_be_named_by_the_spec_s_variable(tmp_path: Path) -> None:
    path = script(tmp_path, version="2.0")
    spec = WorkerSpec("scripted", execnet=f"popen//env:NEVERSLOWER_SCRIPT={path}")
    with start(spec) as worker:
        assert isinstance(worker, InProcess)
        assert worker.fingerprint.version == "2.0"


def test_what_is_asked_for_together_is_answered_in_the_order_of_the_question(tmp_path: Path) -> None:
    rules = [{"when": f"out_channels == {channels}", "plan": f"for {channels}"} for channels in (16, 15, 8)]
    keys = [problem(channels).key for channels in (16, 8, 15)]
    with start(scripted(tmp_path, rules=rules)) as worker:
        answers = worker.examine_together(keys)
    assert [answer.plan.name for answer in answers if isinstance(answer, Examined)] == ["for 16", "for 8", "for 15"]
