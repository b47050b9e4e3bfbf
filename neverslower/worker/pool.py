"""Asks many subjects of worker processes side by side: compiling ahead of any timing, and counting, which company
does not disturb.

A subject that crashes its worker takes none with it: the worker is replaced, and the rest goes on.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Lock
from typing import Any

from neverslower.errors import Unavailable, Unsupported, WorkerDied, WorkerFailure
from neverslower.worker.process import StartWorker, Worker, WorkerSpec, once_more
from neverslower.worker.starting import Loading

Question = Callable[[Worker, str], Any]


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
    return Pool(spec, keys, question, progress, expired, start).run(processes)


class Pool:
    """Runs threads that each keep one worker busy; see ask_all. What another thread runs can be ended."""

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
        self._loading = Loading()
        self._alive = 0  # Workers, those that are being started among them.

    def run(self, processes: int) -> dict[str, Any]:
        """Start a thread for each process, for each subject at most, and leave no worker behind, whatever happens."""
        number = min(processes, self._waiting.qsize())
        with ThreadPoolExecutor(number, initializer=self._loading.here) as threads:
            try:
                for ended in as_completed([threads.submit(self._work) for _ in range(number)]):
                    ended.result()  # As they end: an error does not wait for what others do.
            finally:
                self.end()
        return self._answers

    def end(self) -> None:
        """Ask nothing more, and end the workers, also those that the threads wait for."""
        self._ended = True
        self._loading.end()
        for worker in tuple(self._workers):
            worker.close()

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
