"""A worker that is killed or stopped while it starts, at every step of that: no run waits for it for ever."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from neverslower.campaign.campaign import Campaign
from neverslower.campaign.settings import Settings
from neverslower.errors import Unavailable, WorkerDied
from neverslower.worker.process import Worker, WorkerSpec
from selftests.support import alive, children, comparison, eventually, needs_proc, script

pytestmark = [pytest.mark.processes, needs_proc]
LIMIT = 1.5
TAKING = "import os, signal; os.kill(os.getpid(), signal.{name}); channel.receive()"
READY = """
import os, signal
def serve(channel):
    os.kill(os.getpid(), signal.{name})
"""
PYTHON = """\
#!/bin/sh
# Runs Python, but for the one whose turn it is: that one gets a signal before execnet has greeted it.
echo >> {started}
test $(wc -l < {started}) = {turn} && kill -{name} $$
exec {python} "$@"
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neverslower.worker.process.START_LIMIT", LIMIT)


@pytest.fixture(autouse=True)
def no_child_left() -> Iterator[None]:
    """End what the code under test waits for without a limit, so that its test fails and does not hang."""
    before = children(os.getpid())
    rescued: list[int] = []

    def rescue() -> None:
        rescued.extend(filter(alive, children(os.getpid()) - before))
        for pid in rescued:
            os.kill(pid, signal.SIGKILL)

    rescuer = threading.Timer(10 * LIMIT, rescue)
    rescuer.start()
    yield
    rescuer.cancel()
    assert not rescued
    assert eventually(lambda: children(os.getpid()) <= before)


def python(folder: Path, name: str, turn: int = 1) -> str:
    """The execnet spec of a Python of which one gets a signal before it runs, in whose turn it is."""
    path = folder / "python"
    path.write_text(PYTHON.format(started=folder / "started", turn=turn, name=name, python=sys.executable))
    path.chmod(0o755)
    return f"popen//python={path}"


def test_one_that_is_stopped_before_it_is_greeted_is_unavailable_in_time(tmp_path: Path) -> None:
    spec = python(tmp_path, "STOP")
    with pytest.raises(Unavailable) as caught:
        Worker(WorkerSpec("scripted", execnet=spec))
    assert str(caught.value) == f"no worker at {spec!r}: it did not answer within {LIMIT:g} s"


def test_one_that_is_killed_before_it_is_greeted_died_by_accident(tmp_path: Path) -> None:
    with pytest.raises(WorkerDied, match="killed as it started") as caught:
        Worker(WorkerSpec("scripted", execnet=python(tmp_path, "KILL")))
    assert not caught.value.hung


@pytest.mark.parametrize(("name", "error"), [("SIGSTOP", Unavailable), ("SIGKILL", WorkerDied)])
def test_one_that_takes_no_code_any_more_ends_in_time(monkeypatch: pytest.MonkeyPatch, name: str, error: type) -> None:
    """What is sent to it is more than a pipe holds."""
    monkeypatch.setattr("neverslower.worker.process.bootstrap", TAKING.format(name=name))
    monkeypatch.setattr("neverslower.worker.process.last_words", lambda written: "")
    monkeypatch.setattr("neverslower.worker.process._sources", lambda: {"large": "x" * 1_000_000})
    with pytest.raises(error):
        Worker(WorkerSpec("scripted"))


@pytest.mark.parametrize(("name", "error"), [("SIGSTOP", Unavailable), ("SIGKILL", WorkerDied)])
def test_one_that_never_gets_ready_ends_in_time(monkeypatch: pytest.MonkeyPatch, name: str, error: type) -> None:
    far_side = {"neverslower.": "", "neverslower.worker.": "", "neverslower.worker.far_side": READY.format(name=name)}
    monkeypatch.setattr("neverslower.worker.process._sources", lambda: far_side)
    with pytest.raises(error):
        Worker(WorkerSpec("scripted"))


@pytest.mark.parametrize(("name", "turn"), [("KILL", 1), ("KILL", 2), ("STOP", 2)])
def test_a_run_loses_no_verdict_to_one_that_is_killed_or_stopped_as_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, turn: int
) -> None:
    monkeypatch.setattr("neverslower.worker.process.START_LIMIT", 3 * LIMIT)  # The others must start in it.
    spec = WorkerSpec("scripted", str(script(tmp_path, rules=[{"seconds": 1e-5}])), python(tmp_path, name, turn))
    findings = Campaign({"scripted": spec}, Settings(blocks=10)).run([comparison(1), comparison(3)])
    assert [str(result.verdict.code) for result in findings.results.values()] == ["SAME", "SAME"]
    assert len((tmp_path / "started").read_text().splitlines()) > turn


def test_a_place_whose_first_worker_is_stopped_is_named_and_not_waited_for(tmp_path: Path) -> None:
    spec = WorkerSpec("scripted", str(script(tmp_path)), python(tmp_path, "STOP"))
    findings = Campaign({"scripted": spec}, Settings(blocks=10)).run([comparison(1)])
    assert not findings.results
    assert "did not answer within" in findings.unavailable["scripted"]
