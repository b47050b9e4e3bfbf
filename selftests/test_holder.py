"""Workers that are started ahead: whose turn it is, what becomes of those that failed, died or are not needed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from neverslower.campaign.findings import Findings
from neverslower.campaign.library import Library
from neverslower.campaign.resume import Recorded
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import Unavailable, WorkerDied
from neverslower.worker.holder import AGAIN, APART, MOST_AHEAD, Holder, how_many_ahead, how_many_compile
from neverslower.worker.process import Worker, WorkerSpec
from selftests import in_process
from selftests.support import children, comparison, eventually, needs_proc, scripted


class Fake:
    """Stands in for a worker."""

    def __init__(self, number: int, alive: bool = True) -> None:
        self.number, self.alive, self.closed, self.thread = number, alive, False, threading.current_thread()

    def close(self) -> None:
        self.closed = True


class Starter:
    """Starts fakes, notes their order, and fails for the numbers that it is told."""

    def __init__(self, fails: dict[int, Exception] | None = None, dead: set[int] | None = None) -> None:
        self.fails, self.dead = fails or {}, dead or set()
        self.started: list[Fake] = []

    def __call__(self, spec: WorkerSpec, process: int = 0) -> Worker:
        if error := self.fails.pop(process, None):
            raise error
        fake = Fake(process, process not in self.dead)
        self.dead.discard(process)
        self.started.append(fake)
        return cast(Worker, fake)


def holder(starter: Starter) -> Holder:
    return Holder(WorkerSpec("fake"), starter)


def number(worker: Any) -> int:
    return cast(Fake, worker).number


def test_each_turn_gets_the_worker_that_was_started_for_it() -> None:
    starter = Starter()
    held = holder(starter)
    first = held.fresh()
    held.start_ahead(2)
    assert [number(worker) for worker in (first, held.fresh(), held.fresh())] == [0, 1, 2]
    assert sorted(fake.number for fake in starter.started) == [0, 1, 2]
    held.close()
    assert all(fake.closed for fake in starter.started)


def test_the_thread_that_started_a_worker_lives_as_long_as_the_holder() -> None:
    """The kernel ends a worker with the thread that started it."""
    starter = Starter()
    held = holder(starter)
    held.fresh()
    held.start_ahead(2)
    held.fresh()
    threads = [fake.thread for fake in starter.started if fake.number]
    assert all(thread.is_alive() for thread in threads)
    held.close()
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize(("ahead", "again"), [(2, 2), (AGAIN + 2, AGAIN)])
def test_when_all_are_used_up_a_few_are_started_again(ahead: int, again: int) -> None:
    starter = Starter()
    held = holder(starter)
    held.fresh()
    held.start_ahead(ahead)
    assert [number(held.fresh()) for _ in range(ahead + 1)] == list(range(1, ahead + 2))
    held.wait_ahead()
    assert sorted(fake.number for fake in starter.started) == list(range(1 + ahead + again))
    held.close()
    assert all(fake.closed for fake in starter.started)


def test_for_a_few_more_no_batch_is_started() -> None:
    starter = Starter()
    held = holder(starter)
    held.fresh()
    held.start_ahead(2)
    assert [number(held.fresh(starts_more=False)) for _ in range(3)] == [1, 2, 3]
    assert len(starter.started) == 4
    held.close()


def test_nobody_loads_any_more_once_that_was_waited_for() -> None:
    """A worker that loads while another one is timed disturbs it."""
    slow = threading.Event()

    def start(spec: WorkerSpec, process: int = 0) -> Worker:
        if process:
            slow.wait(5.0)
        return cast(Worker, Fake(process))

    held = Holder(WorkerSpec("fake"), start)
    held.fresh()
    held.start_ahead(2)
    threading.Timer(0.05, slow.set).start()
    held.wait_ahead()
    assert slow.is_set()
    assert all(future.done() for future in held._ahead)
    held.close()


def test_the_other_librarys_workers_are_waited_for_too() -> None:
    slow = threading.Event()

    def start(spec: WorkerSpec, process: int = 0) -> Worker:
        slow.wait(5.0)
        return cast(Worker, Fake(process))

    held, other = holder(Starter()), Holder(WorkerSpec("fake"), start)
    held.company = other
    other.start_ahead(1)
    threading.Timer(0.05, slow.set).start()
    held.wait_ahead()
    assert slow.is_set()
    other.close()


def test_what_waits_ahead_of_a_library_that_is_lost_is_closed() -> None:
    starter = Starter()
    held = holder(starter)
    held.start_ahead(2)
    held.wait_ahead()
    held.lose(Unavailable("it is gone"))
    assert not held.ahead
    assert all(worker.closed for worker in starter.started)


def test_what_is_not_needed_is_closed_and_counted() -> None:
    starter = Starter()
    held = holder(starter)
    held.fresh()
    held.start_ahead(3)
    held.skip()
    assert number(held.fresh()) == 2
    held.wait_ahead()
    held.close()
    assert {fake.number for fake in starter.started if fake.closed} == {0, 1, 2, 3}


@pytest.mark.parametrize("error", [Unavailable("gone"), WorkerDied("killed while it started", "")])
def test_one_that_did_not_start_is_started_again_when_it_is_waited_for(error: Exception) -> None:
    starter = Starter(fails={1: error})
    held = holder(starter)
    held.fresh()
    held.start_ahead(2)
    assert [number(held.fresh()), number(held.fresh())] == [1, 2]
    held.close()


def test_one_that_died_while_it_waited_is_replaced() -> None:
    starter = Starter(dead={1})
    held = holder(starter)
    held.fresh()
    held.start_ahead(1)
    assert number(held.fresh()) == 1
    assert [fake.closed for fake in starter.started] == [True, True, False]
    held.close()


def test_as_many_wait_as_are_wanted_and_none_is_started_twice() -> None:
    starter = Starter()
    held = holder(starter)
    held.start_ahead(0)
    held.start_ahead(2)
    held.fresh()
    held.start_ahead(3)
    held.start_ahead(1)
    held.wait_ahead()
    assert sorted(fake.number for fake in starter.started) == [0, 1, 2, 3]
    held.close()


def test_the_first_worker_is_the_first_of_those_that_are_started_ahead() -> None:
    starter = Starter()
    held = holder(starter)
    held.start_ahead(2)
    assert [number(held.fresh()), number(held.fresh())] == [0, 1]
    assert len(starter.started) == 2
    held.close()


def test_what_can_t_be_had_is_not_waited_for_twice() -> None:
    """A missing device is found by the first worker, and another one would not find it."""
    starter = Starter(fails={number: Unavailable("no such device") for number in range(2)})
    held = holder(starter)
    held.start_ahead(2)
    with pytest.raises(Unavailable, match="no such device"):
        held.fresh()
    assert starter.started == []
    held.close()


def test_a_first_worker_that_was_killed_is_started_once_more() -> None:
    held = holder(Starter(fails={0: WorkerDied("killed while it started", "")}))
    held.start_ahead(1)
    assert number(held.fresh()) == 0
    held.close()


def test_no_two_workers_start_together() -> None:
    """What lasts a moment must not be common to two processes, of which each counts by itself."""
    starts: list[float] = []

    def start(spec: WorkerSpec, process: int = 0) -> Worker:
        starts.append(time.monotonic())
        return cast(Worker, Fake(process))

    held = Holder(WorkerSpec("fake"), start)
    held.start_ahead(3)
    held.wait_ahead()
    held.close()
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert len(gaps) == 2
    assert min(gaps) > 0.8 * APART


@pytest.mark.parametrize(
    ("spec", "memory", "cores", "number"),
    [
        (WorkerSpec("onednn"), 64_000_000_000, 16, MOST_AHEAD),
        (WorkerSpec("onednn"), 64_000_000_000, 2, 3),
        (WorkerSpec("onednn"), 4_000_000_000, 6, 1),
        (WorkerSpec("onednn"), 2_000_000_000, 6, 0),
        (WorkerSpec("onednn", threads=2), 64_000_000_000, 16, 0),
        (WorkerSpec("onednn", execnet="ssh=board"), 64_000_000_000, 16, 1),
        (WorkerSpec("acl"), 64_000_000_000, 16, 0),
        (WorkerSpec("tvm"), 64_000_000_000, 16, 0),
        (WorkerSpec("tvm", "cuda,gpu=1"), 64_000_000_000, 16, MOST_AHEAD),
    ],
)
def test_as_many_load_at_once_as_the_machine_holds(spec: WorkerSpec, memory: int, cores: int, number: int) -> None:
    assert how_many_ahead(spec, memory, cores) == number


@pytest.mark.parametrize(
    ("name", "cores", "problems", "number"),
    [
        ("tvm", "4", 3, 0),
        ("tvm", "4", 4, 1),
        ("tvm", "4", 100, 4),
        ("tvm:cuda", "16", 16, 6),
        ("tvm:cuda", "16", 237, 16),
        ("tvm:cuda,warm", "16", 7, 1),
        ("cudnn", "16", 31, 0),
        ("cudnn", "16", 1200, 16),
    ],
)
def test_as_many_compile_at_once_as_are_worth_starting(name: str, cores: str, problems: int, number: int) -> None:
    backend, _, argument = name.partition(":")
    device = Fingerprint(backend, "device", "1.0", "", hardware={"cores": cores})
    assert how_many_compile(WorkerSpec(backend, argument), device, problems) == number


def test_a_board_that_names_no_cores_compiles_with_one_worker() -> None:
    device = Fingerprint("cudnn", "Orin", "9.0", "")
    assert how_many_compile(WorkerSpec("cudnn", execnet="ssh=board"), device, 1000) == 1


def test_nothing_is_timed_in_a_process_that_profiled(tmp_path: Path) -> None:
    spec = scripted(tmp_path, rules=[{"seconds": 1e-5}])
    library = Library("scripted", spec, Findings(), Recorded(), lambda event, fields: None, start=in_process.start)
    library.start()
    library.offers |= {"profiles"}
    library.examiner.examine(comparison(1).keys[0])
    library.leave_profiler()
    assert library.started == 2
    library.leave_profiler()
    assert library.started == 2
    library.close()


TIMED: dict[str, Callable[[Library], Any]] = {
    "sweep": lambda library: library.sweep(comparison(1).keys[0], [comparison(1).keys[1]], 2, "seed"),
    "measure": lambda library: library.measure(comparison(1), 2),
    "measure_afresh": lambda library: library.measure_afresh(*comparison(1).keys, 2, 0),
}


def loading(folder: Path) -> tuple[Library, threading.Event]:
    """A library with a worker that waits, and one that loads until the event, which is set soon."""
    loaded = threading.Event()

    def start(spec: WorkerSpec, process: int = 0) -> Worker:
        if process:
            assert loaded.wait(5)
        return in_process.start(spec, process)

    spec = scripted(folder, rules=[{"seconds": 1e-5}])
    library = Library("scripted", spec, Findings(), Recorded(), lambda event, fields: None, start=start)
    library.holder.start_ahead(2)
    threading.Timer(0.2, loaded.set).start()
    return library, loaded


def test_first_calls_are_compared_once_nobody_loads_any_more(tmp_path: Path) -> None:
    library, loaded = loading(tmp_path)
    library.holder.company = holder(Starter())
    library.examiner.examine(comparison(1).keys[0])
    assert loaded.is_set()
    library.close()


@pytest.mark.parametrize("name", TIMED)
def test_nothing_is_timed_while_a_worker_loads(name: str, tmp_path: Path) -> None:
    library, loaded = loading(tmp_path)
    TIMED[name](library)
    assert loaded.is_set()
    library.close()


# Interrupted


def ended(held: Holder) -> bool:
    """Whether a holder closes while its workers would load for minutes; one that waits for them is left to itself."""
    closing = threading.Thread(target=held.close, daemon=True)
    closing.start()
    closing.join(20.0)
    return not closing.is_alive()


def hanging(folder: Path, when: str) -> WorkerSpec:
    """A worker whose Python hangs, or whose library does when it is loaded."""
    if when == "python":
        python = folder / "python"
        python.write_text("#!/bin/sh\nexec sleep 100\n", encoding="utf-8")
        python.chmod(0o755)
        return WorkerSpec("scripted", execnet=f"popen//python={python}")
    pipe = folder / "script.json"
    os.mkfifo(pipe)  # Nobody writes to it: who reads it waits.
    return WorkerSpec("scripted", str(pipe))


@needs_proc
@pytest.mark.processes
@pytest.mark.parametrize("when", ["python", "library"])
def test_what_hangs_while_it_loads_is_ended_with_the_holder(tmp_path: Path, when: str) -> None:
    before = children(os.getpid())
    held = Holder(hanging(tmp_path, when), Worker)
    held.start_ahead(2)
    assert eventually(lambda: len(children(os.getpid()) - before) == 2)
    assert ended(held)
    assert eventually(lambda: not children(os.getpid()) - before)


def test_what_is_still_to_be_started_is_not_started_any_more() -> None:
    starter = Starter()
    held = holder(starter)
    held.start_ahead(6)
    assert number(held.fresh()) == 0
    held.close()
    assert len(starter.started) < 6
    assert all(fake.closed for fake in starter.started)


def test_an_interrupted_wait_for_a_worker_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(futures: Any) -> None:
        raise KeyboardInterrupt

    starter = Starter()
    held = holder(starter)
    held.start_ahead(1)
    monkeypatch.setattr("neverslower.worker.holder.wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        held.fresh()
    monkeypatch.undo()
    held.close()
    assert all(fake.closed for fake in starter.started)
