"""Asks many subjects of worker processes side by side: compiling ahead of any timing, and counting, which company
does not disturb.

A subject that crashes its worker takes none with it: the worker is replaced, and the rest goes on.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Lock
from typing import Any

from neverslower.errors import NeverSlowerError, Unavailable, Unsupported, WorkerDied, WorkerFailure
from neverslower.worker.process import StartWorker, Worker, WorkerSpec, once_more
from neverslower.worker.starting import Loading

Failures = Mapping[str, NeverSlowerError]
Question = Callable[[Worker, str], Any]


def compile_all(
    spec: WorkerSpec,
    keys: Sequence[str],
    processes: int,
    progress: Callable[[int], None],
    expired: Callable[[], bool],
    start: StartWorker | None = None,
) -> Failures:
    """Compile each subject while time is left, and return what failed, by key, though not what the library refuses.

    A refusal is met again when the subject is prepared. Raises Unavailable where no worker starts.
    """
    answers = ask_all(spec, keys, processes, lambda worker, key: worker.compile(key), progress, expired, start)
    return {
        key: answer
        for key, answer in answers.items()
        if isinstance(answer, NeverSlowerError) and not isinstance(answer, Unsupported)
    }


def ask_all(
    spec: WorkerSpec,
    keys: Sequence[str],
    processes: int,
    question: Question,
    progress: Callable[[int], None],
    expired: Callable[[], bool],
    start: StartWorker | None = None,
) -> dict[str, Any]:
    """Return the answer of each subject, or the error that it ended in, while time is left.

    Raises Unavailable where no worker starts.
    """
    return _Pool(spec, keys, question, progress, expired, start).run(min(processes, len(keys)))


class _Pool:
    """Runs threads that each keep one worker busy."""

    def __init__(
        self,
        spec: WorkerSpec,
        keys: Sequence[str],
        question: Question,
        progress: Callable[[int], None],
        expired: Callable[[], bool],
        start: StartWorker | None,
    ) -> None:
        self._start: StartWorker = start or Worker
        self._spec, self._question, self._progress, self._expired = spec, question, progress, expired
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        for key in keys:
            self._waiting.put(key)
        self._answers: dict[str, Any] = {}
        self._workers: set[Worker] = set()
        self._done, self._lock, self._ended = 0, Lock(), False
        self._alive = 0  # Workers, those that are being started among them.

    def run(self, processes: int) -> dict[str, Any]:
        """Start the threads, and leave no worker behind, whatever happens."""
        loading = Loading()
        with ThreadPoolExecutor(processes, initializer=loading.here) as threads:
            try:
                for ended in as_completed([threads.submit(self._work) for _ in range(processes)]):
                    ended.result()  # As they end: an error does not wait for what others do.
            finally:
                self._ended = True
                loading.end()
                for worker in tuple(self._workers):
                    worker.close()  # An interrupted run ends what its threads wait for.
        return self._answers

    def _work(self) -> None:
        """Keep one worker busy; where it does not start, others that did do its share."""
        worker: Worker | None = None
        try:
            while not self._ended and not self._expired():
                try:
                    key = self._waiting.get_nowait()
                except queue.Empty:
                    return
                worker = worker or self._started(key)
                if worker is None:
                    return
                if not self._ended:  # It may have been interrupted while the worker started.
                    worker = self._ask(worker, key)
        finally:
            self._stop(worker)

    def _started(self, key: str) -> Worker | None:
        """Return a worker for this subject, or none where others may go on with it. Raises Unavailable for the last."""
        with self._lock:
            self._alive += 1
        try:
            worker = once_more(lambda: self._start(self._spec))
        except Unavailable:
            self._waiting.put(key)
            with self._lock:
                self._alive -= 1
                if self._alive:
                    return None
            raise
        self._workers.add(worker)
        return worker

    def _stop(self, worker: Worker | None) -> None:
        if worker:
            self._workers.discard(worker)
            worker.close()
            with self._lock:
                self._alive -= 1

    def _ask(self, worker: Worker, key: str) -> Worker | None:
        """Ask the worker, and return it as long as it lives."""
        living: Worker | None = worker
        try:
            self._answers[key] = self._question(worker, key)
        except (WorkerFailure, Unsupported) as error:
            self._answers[key] = error
            if isinstance(error, WorkerDied):
                self._stop(worker)
                living = None
        with self._lock:
            self._done += 1
            self._progress(self._done)
        return living
