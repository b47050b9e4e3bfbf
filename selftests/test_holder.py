"""Workers that are started ahead: whose turn it is, what becomes of those that failed, died or are not needed."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from neverslower.errors import Unavailable, WorkerDied
from neverslower.worker.holder import Holder
from neverslower.worker.process import Worker, WorkerSpec


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


def test_when_all_are_used_up_as_many_are_started_again() -> None:
    starter = Starter()
    held = holder(starter)
    held.fresh()
    held.start_ahead(2)
    assert [number(held.fresh()) for _ in range(3)] == [1, 2, 3]
    assert sorted(fake.number for fake in starter.started) == [0, 1, 2, 3, 4]
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


def test_what_is_not_needed_is_closed_and_counted() -> None:
    starter = Starter()
    held = holder(starter)
    held.fresh()
    held.start_ahead(3)
    held.skip()
    assert number(held.fresh()) == 2
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


def test_nothing_is_started_twice_ahead() -> None:
    starter = Starter()
    held = holder(starter)
    held.fresh()
    held.start_ahead(0)
    held.start_ahead(1)
    held.start_ahead(5)
    held.close()
    assert len(starter.started) == 2
