"""Compiling many subjects ahead of any timing, in worker processes of their own, side by side.

A compiler that crashes takes one subject with it: the worker is replaced, and the rest goes on.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Lock

from neverslower.errors import NeverSlowerError
from neverslower.worker import ProblemRefused, Worker, WorkerDied, WorkerSpec

Failures = Mapping[str, NeverSlowerError]


def compile_all(
    spec: WorkerSpec, keys: Sequence[str], processes: int, progress: Callable[[int], None], expired: Callable[[], bool]
) -> Failures:
    """Compile each subject, as far as time goes; what failed, by key, though not what the library refuses.

    A refusal is met again when the subject is prepared. Raises BackendUnavailable where no worker starts.
    """
    return _Pool(spec, keys, progress, expired).run(min(processes, len(keys)))


class _Pool:
    """Threads that each keep one worker busy."""

    def __init__(
        self, spec: WorkerSpec, keys: Sequence[str], progress: Callable[[int], None], expired: Callable[[], bool]
    ) -> None:
        self._spec, self._progress, self._expired = spec, progress, expired
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        for key in keys:
            self._waiting.put(key)
        self._failures: dict[str, NeverSlowerError] = {}
        self._workers: set[Worker] = set()
        self._done, self._lock, self._ended = 0, Lock(), False

    def run(self, processes: int) -> Failures:
        """Start the threads, and leave no worker behind, whatever happens."""
        with ThreadPoolExecutor(processes) as threads:
            try:
                for ended in as_completed([threads.submit(self._work) for _ in range(processes)]):
                    ended.result()  # As they end: an error does not wait for what another compiles.
            finally:
                self._ended = True
                for worker in tuple(self._workers):
                    worker.close()  # An interrupted run ends the compilations that its threads wait for.
        return self._failures

    def _work(self) -> None:
        worker: Worker | None = None
        try:
            while not self._ended and not self._expired():
                try:
                    key = self._waiting.get_nowait()
                except queue.Empty:
                    return
                worker = worker or self._start()
                if not self._ended:  # It may have been interrupted while the worker started.
                    worker = self._compile(worker, key)
        finally:
            self._stop(worker)

    def _start(self) -> Worker:
        worker = Worker(self._spec)
        self._workers.add(worker)
        return worker

    def _stop(self, worker: Worker | None) -> None:
        if worker:
            self._workers.discard(worker)
            worker.close()

    def _compile(self, worker: Worker, key: str) -> Worker | None:
        """The worker, as long as it lives."""
        living: Worker | None = worker
        try:
            worker.compile(key)
        except ProblemRefused:
            pass
        except WorkerDied as error:
            self._failures[key] = error
            self._stop(worker)
            living = None
        except NeverSlowerError as error:
            self._failures[key] = error
        with self._lock:
            self._done += 1
            self._progress(self._done)
        return living
