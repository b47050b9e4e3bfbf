"""Holds one worker after another of one library, and its device for as long as a run needs it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import backends
from neverslower.device.fingerprint import Fingerprint
from neverslower.device.readers import limits
from neverslower.errors import Unavailable, Unsupported, WorkerDied, WorkerError, WorkerFailure
from neverslower.evidence.observation import Evidence
from neverslower.judge.failure import Failure, of_failure
from neverslower.worker.process import LOCAL, DeviceLock, StartWorker, Worker, WorkerSpec, once_more
from neverslower.worker.starting import Loading

T = TypeVar("T")
MOST_AHEAD = 8
"""Workers that load at once: one that examines, six that decide nearly all comparisons, one that looks for causes."""
AGAIN = 3
"""So many more are started where these did not do."""
BYTES_A_WORKER = 4_000_000_000
"""Memory of a machine on which one worker may wait."""
APART = 0.5
"""Seconds between the starts of two workers, so that nothing which lasts less can be common to both."""


class Holder:
    """Holds a worker, numbers those that it starts, and replaces one that died when the next question comes.

    Once `lost` is set, that is the answer to every question, and nothing is started any more for one. `company` holds
    the workers of another library that is measured on the same device.
    """

    def __init__(self, spec: WorkerSpec, start: StartWorker) -> None:
        self.spec, self._start = spec, start
        self.worker: Worker | None = None
        self.started = 0
        self.lost: Failure | None = None
        self.company: Holder | None = None
        self._lock: DeviceLock | None = None
        self._ahead: deque[Future[Worker]] = deque()
        self._loading = Loading()
        self._threads: ThreadPoolExecutor | None = None
        self._most = 0

    @property
    def ahead(self) -> int:
        """Return for how many turns to come a worker was started ahead."""
        return len(self._ahead)

    def open(self) -> Worker:
        """Return the worker that is there, or another. Raises WorkerFailure where none starts."""
        return self.worker or self.fresh()

    def fresh(self, starts_more: bool = True) -> Worker:
        """Put another process in place of the one before. Raises WorkerFailure where none starts.

        Where those that were started ahead are used up, a few more are started, unless no others will be needed.
        """
        self.close_worker()
        if self._lock:
            self._lock = self._lock.kept()
        ahead = self._next_ahead(starts_more, first=not self.started)
        self.worker = ahead or once_more(lambda: self._start(self.spec, process=self.started), self.started > 0)
        self.started += 1
        return self.worker

    def start_ahead(self, count: int) -> None:
        """Start the next workers now until `count` wait, each APART from the one before.

        What takes seconds is loading the library. Each waits for its turn in the thread that started it, for a worker
        dies with that thread.
        """
        waiting = len(self._ahead)
        if count > waiting:
            self._threads = self._threads or ThreadPoolExecutor(MOST_AHEAD, initializer=self._loading.here)
            self._most = max(self._most, count)
            for place in range(count - waiting):
                number = self.started + waiting + place
                self._ahead.append(self._threads.submit(self._start_later, number, place * APART))

    def _start_later(self, number: int, seconds: float) -> Worker:
        if self._loading.ended.wait(seconds):
            raise Unavailable("it is needed no more")
        return self._start(self.spec, process=number)

    def wait_ahead(self) -> None:
        """Wait until no worker is loading any more, of the other library either: that would disturb what is timed."""
        wait([*self._ahead, *(self.company._ahead if self.company else ())])

    def _next_ahead(self, starts_more: bool = False, first: bool = False) -> Worker | None:
        """Return the worker that was started ahead for this turn; None where there is none, or it lives no more.

        Raises WorkerFailure where the `first` one finds that none can be had.
        """
        if starts_more and not self._ahead:
            self.start_ahead(min(AGAIN, self._most))
        if not self._ahead:
            return None
        wait([self._ahead[0]])  # Where this is interrupted, it is still among those that are ended.
        try:
            worker = self._ahead.popleft().result()
        except WorkerDied as error:
            if first and error.hung:
                raise
            return None  # Its death may be an accident, or shows again where one is started that is waited for.
        except WorkerFailure:
            if first:
                raise
            return None
        if worker.alive:
            return worker
        worker.close()
        return None

    def skip(self) -> None:
        """Close the worker and count a process that is not needed: those that follow keep their numbers."""
        self.close_worker()
        if unneeded := self._next_ahead():
            unneeded.close()
        self.started += 1

    def keep_device(self) -> None:
        """Keep the device of the worker that is there for this run, where that matters. Raises DeviceBusy."""
        worker = self.open()
        if worker.exclusive:
            self._lock = once_more(lambda: DeviceLock(self.spec, worker.lock_name))

    def lose(self, error: WorkerFailure) -> Failure:
        """Ask no more from now on, and return what is the answer instead; nobody else will close what waits ahead."""
        self.lost = of_failure(error)
        self.close()
        return self.lost

    def ask(self, question: Callable[[Worker], T], tries: int = 1) -> T | Failure:
        """Return a worker's answer, or why there is none.

        A question whose worker died is asked `tries` times in all: what no time limit ended may be an accident.
        Raises WorkerFailure where no worker starts, and Unavailable where the worker says that it can't go on.
        """
        if self.lost:
            return self.lost
        while True:
            worker = self.open()
            tries -= 1
            try:
                return question(worker)
            except (Unsupported, WorkerError) as error:
                return of_failure(error)
            except WorkerDied as error:
                self.close_worker()
                if error.hung or tries < 1:
                    return of_failure(error)

    def close_worker(self) -> None:
        """End the worker, if there is one."""
        if self.worker:
            self.worker.close()
            self.worker = None

    def close(self) -> None:
        """End the worker and those that wait or still load, and let go of the device."""
        self.close_worker()
        self._loading.end()
        while self._ahead:
            if unneeded := self._next_ahead():
                unneeded.close()
        if self._threads:
            self._threads.shutdown()
            self._threads, self._loading = None, Loading()
        if self._lock:
            self._lock.close()
            self._lock = None


def how_many_ahead(spec: WorkerSpec, memory: int, cores: int) -> int:
    """Return how many workers may load at once where a process may have so many bytes of memory and cores.

    Where a worker runs elsewhere neither is known, and one is started; none where a library's threads would spin, where
    it does not load `ahead`, or where it may have evidence that takes one process.
    """
    capabilities = backends.capabilities(spec.backend, spec.argument)
    if spec.threads > 1 or not capabilities.ahead or capabilities.evidence != {Evidence.DEVICE_TIME}:
        return 0
    return min(MOST_AHEAD, memory // BYTES_A_WORKER, cores + 1) if spec.execnet.startswith(LOCAL) else 1


def how_many_compile(spec: WorkerSpec, device: Fingerprint, problems: int) -> int:
    """Return how many workers should compile so many problems at once, 0 where they are too few to start any for.

    There are as many as the cores that a device names, else as this machine can hold.
    """
    worth = backends.capabilities(spec.backend, spec.argument).compiles_worth
    if 2 * problems < worth:
        return 0
    here = max(1, min(limits.cores(), limits.memory() // BYTES_A_WORKER)) if spec.execnet.startswith(LOCAL) else 1
    return min(int(device.hardware.get("cores", here)), -(-problems // worth))
