"""TVM on a board reached by RPC: what it says when none is there, and a real tracker and server on this machine."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest

from backends.base import BackendOptions
from backends.tvm import open as open_tvm
from backends.tvm import reproduce, rpc, write_script
from backends.tvm.board import Board, OnBoard
from backends.tvm.choice import Tracker, TvmOptions
from backends.tvm.rpc import BoardApi
from neverslower.device.state import State
from neverslower.errors import DeviceLost, Unavailable, Unsupported
from neverslower.evidence.observation import Plan
from neverslower.problem.convolution import Layout, parse_descriptor
from neverslower.problem.subject import Search
from neverslower.worker.far_side import FarSide
from neverslower.worker.process import Worker, WorkerSpec
from selftests.support import eventually, known

TINY = parse_descriptor("mb1_ic16oc16_ih8kh3ph1")
TRACKER = Tracker("127.0.0.1", 9190, "pi4")

# What the argument chooses


def test_a_tracker_has_an_address_and_a_key() -> None:
    assert TvmOptions.parse("rpc=board.local:9190,key=pi4") == TvmOptions(tracker=Tracker("board.local", 9190, "pi4"))
    assert TvmOptions.parse("./rpc=1") == TvmOptions(database="./rpc=1")


@pytest.mark.parametrize("text", ["rpc=", "rpc=board", "rpc=board:9190", "rpc=board:0,key=a", "rpc=:9190,key=a"])
def test_an_address_that_can_t_be_read_is_refused_with_the_way_to_write_it(text: str) -> None:
    with pytest.raises(Unavailable, match="is no tracker with a key; write rpc=HOST:PORT,key=KEY"):
        open_tvm(BackendOptions(text))


def test_a_failure_is_reproduced_on_the_board() -> None:
    options = BackendOptions("rpc=board.local:9190,key=pi4", threads=2)
    python, flag, code = shlex.split(reproduce(TINY, Plan("untuned", (), False), options))
    assert (python, flag) == ("python", "-c")
    for text in (code, write_script(TINY, "", options)):
        compile(text, "<reproduction>", "exec")
        assert "rpc.connect_tracker('board.local',9190).request('pi4')" in text
        assert "'runtime.config_threadpool')(1,2)" in text


# No board


def test_a_tracker_that_is_away_is_named_with_its_remedy() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        away = Tracker("127.0.0.1", free.getsockname()[1], "pi4")
        with pytest.raises(Unavailable) as caught:
            rpc._session(away)
    assert str(caught.value) == (
        f"no RPC tracker answers at {away} (Connection refused); start one there: "
        f"python -m tvm.exec.rpc_tracker --host {away.host} --port {away.port}"
    )


def tracker_of(**free: int) -> Any:
    """Return a stand-in for a tracker that has one server for each key, of which so many are free."""
    summary = {
        "server_info": [{"key": f"server:{key}"} for key in free],
        "queue_info": {key: {"free": number, "pending": 0} for key, number in free.items()},
    }
    return SimpleNamespace(summary=lambda: summary)


def test_a_key_that_nobody_serves_is_named_with_those_that_there_are() -> None:
    with pytest.raises(Unavailable, match=r"no board serves the key 'pi4' at .* \(it has: jetson, pi3\); start one"):
        rpc._wait_for_board(TRACKER, tracker_of(pi3=1, jetson=0))
    rpc._wait_for_board(TRACKER, tracker_of(pi4=1))


def test_a_board_that_another_session_holds_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(rpc, "time", SimpleNamespace(monotonic=lambda: float(next(clock)), sleep=lambda _: None))
    with pytest.raises(Unavailable, match=r"the board 'pi4' at 127\.0\.0\.1:9190 is held by another session"):
        rpc._wait_for_board(TRACKER, tracker_of(pi4=0))
    assert next(clock) == rpc.QUEUE_PATIENCE + 2


def test_another_architecture_needs_its_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert rpc._linker("x86_64") == ""
    with pytest.raises(Unavailable, match=r"the board is aarch64, .* `apt-get install g.*-aarch64-linux-gnu`"):
        rpc._linker("aarch64")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert rpc._linker("aarch64") == "aarch64-linux-gnu-g++"


# On the board


class ScriptedApi(BoardApi):
    """A board whose session answers or not."""

    def __init__(self, answers: bool) -> None:
        self._tracker, self._session, self.device = TRACKER, MagicMock(), "board"
        if not answers:
            self._session.get_function.side_effect = RuntimeError("socket closed")


class Machine:
    """A virtual machine whose timer says 2 ms a call, or which fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure, self.asked = failure, MagicMock()
        self.module = {"invoke_stateful": lambda name: None}

    def time_evaluator(self, *arguments: Any, **numbers: int) -> Callable[[str], Any]:
        if self.failure:
            raise self.failure
        self.asked(*arguments, **numbers)
        return lambda name: SimpleNamespace(results=[2e-3])


def on_board(machine: Machine, answers: bool = True) -> OnBoard:
    return OnBoard(ScriptedApi(answers), machine, Layout.NCHW, [], Plan("untuned"))


def test_a_round_takes_what_the_board_s_timer_says_for_all_its_calls() -> None:
    machine = Machine()
    assert on_board(machine).run(7) == pytest.approx(14e-3)
    machine.asked.assert_called_once_with("invoke_stateful", "board", number=7, repeat=1)


def test_a_board_that_no_longer_answers_is_lost_and_one_that_does_has_refused() -> None:
    machine = Machine(RuntimeError("trace\nsession closed"))
    with pytest.raises(DeviceLost, match=r"the board 'pi4' at 127\.0\.0\.1:9190 no longer answers: session closed"):
        on_board(machine, answers=False).run(1)
    with pytest.raises(Unsupported, match=r"the board 'pi4' at 127\.0\.0\.1:9190 does not run it: session closed"):
        on_board(machine).run(1)


def test_no_other_process_compiles_searches_or_looks_at_this_machine() -> None:
    board = Board(ScriptedApi(True), MagicMock(), MagicMock(), TRACKER, 1)
    assert board.offers == ()
    with pytest.raises(Unsupported, match="no schedules are searched for on a board"):
        board.tune(Search(TINY, 4, 0))
    far_side = FarSide()
    far_side._opened = MagicMock(backend=board, watcher=None)
    assert far_side.state() == State().as_dict()
    cast(MagicMock, far_side.opened.host).look.assert_not_called()


# A real tracker and server


def listening(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """Serve this machine as a board called `here`; return the argument that asks for it."""
    for module in ("tvm", "tornado", "cloudpickle", "psutil"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed, which TVM's tracker and server need")
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        port, other = (each.getsockname()[1] for each in (first, second))
    started: list[subprocess.Popen[bytes]] = []

    def start(module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"tvm.exec.{module}", "--host", "127.0.0.1", *arguments]
        silent = subprocess.DEVNULL
        started.append(subprocess.Popen(command, start_new_session=True, stdout=silent, stderr=silent))

    try:
        start("rpc_tracker", "--port", str(port), "--port-end", str(port + 1))
        assert eventually(lambda: listening(port), patience=60.0)
        address = ("--port", str(other), "--port-end", str(other + 1))
        start("rpc_server", "--tracker", f"127.0.0.1:{port}", "--key", "here", *address)
        assert eventually(lambda: listening(other), patience=60.0)
        yield f"rpc=127.0.0.1:{port},key=here"
    finally:
        for process in started:  # By its group: a server leaves its workers.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.slow
def test_a_board_runs_what_is_compiled_here(served: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    own_cache = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    spec = WorkerSpec("tvm", served, time_limit=100.0, variables=own_cache)
    for _ in range(2):  # The second session begins when the first has left the board.
        with Worker(spec) as worker:
            assert worker.fingerprint.hardware["key"] == "here"
            assert worker.clock == "TVM's timer on the board"
            assert worker.offers == frozenset()
            found = worker.examine(TINY.key)
            assert known(found.error) <= found.tolerance
            assert found.seconds_per_call > 0
            assert worker.measure(TINY.key, TINY.prune(1).key, 2).seconds.shape == (2, 2, 2)
    with pytest.raises(Unavailable, match=r"no board serves the key 'there' .* \(it has: here\)"):
        Worker(WorkerSpec("tvm", served.replace("key=here", "key=there"), variables=own_cache))
