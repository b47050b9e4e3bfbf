"""Asks a library many things at once, by several workers of their own: compiling ahead, and looking at what is exact.

Nothing is timed meanwhile. What a worker answers is kept as if the library's own one had been asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from threading import Condition
from typing import Any

from neverslower.campaign.library import Library
from neverslower.errors import NeverSlowerError, Unsupported, WorkerDied, WorkerFailure
from neverslower.judge.failure import Failure, of_failure, or_wrong
from neverslower.worker.holder import how_many_compile
from neverslower.worker.pool import Pool, ask_all
from neverslower.worker.process import Worker


def examine_all(
    library: Library, keys: Sequence[str], progress: Callable[[int], None], stop: Callable[[], bool]
) -> None:
    """Examine every subject, as many at a time as the library allows; for evidence that is exact."""
    examined = library.examiner.examined
    waiting = library.examiner.recall(keys)
    if not waiting:
        return
    try:
        answers = _ask_all(library, waiting, progress, stop)
    except WorkerFailure as error:
        lost = library.lose(error)
        examined |= {key: lost for key in waiting if key not in examined}
    else:
        errors = {key: error for key, error in answers.items() if isinstance(error, NeverSlowerError)}
        examined |= {key: of_failure(error) for key, error in errors.items()}


def _ask_all(
    library: Library, keys: Sequence[str], progress: Callable[[int], None], stop: Callable[[], bool]
) -> dict[str, Any]:
    """Return the errors among the answers by key; what was found of the others is kept as it comes."""

    def ask(keys: Sequence[str]) -> dict[str, Any]:
        examine = partial(_examine, library)
        return ask_all(library.spec, keys, library.at_once, examine, progress, stop, library.start_worker)

    answers = ask(keys)
    if again := [key for key, answer in answers.items() if _maybe_an_accident(library, answer)]:
        answers |= ask(again)
    return answers


def _examine(library: Library, worker: Worker, key: str) -> None:
    """Keep what a worker finds of a subject, in the journal too, at once."""
    examined = worker.examine(key)
    library.examiner.examined[key] = or_wrong(examined)
    library.write_examined(key, examined)


class Compiling:
    """Compiles what a library has not compiled yet, in several processes and in the order given.

    Nothing is timed meanwhile. Used as a context, which ends the processes. In it, `wait` returns once some subjects
    are compiled, or given up: what is found of one that failed is that, and what is left out is compiled where it is
    prepared.
    """

    def __init__(
        self, library: Library, keys: Sequence[str], progress: Callable[[int, int], None], stop: Callable[[], bool]
    ) -> None:
        self._library, self._begin = library, time.monotonic()
        self._missing, self._processes = _to_compile(library, keys)
        total = len(self._missing)
        self._pool = Pool(
            library.spec, self._missing, self._compile, lambda done: progress(done, total), stop, library.start_worker
        )
        self._failures: dict[str, NeverSlowerError] = {}
        self._left = set(self._missing)
        self._changed = Condition()
        self._thread: Future[dict[str, Any]] | None = None

    def __enter__(self) -> Compiling:
        if self._missing:
            threads = ThreadPoolExecutor(1)
            self._thread = threads.submit(self._pool.run, self._processes)
            self._thread.add_done_callback(lambda _: self._done(*self._missing))
            threads.shutdown(wait=False)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._thread is None:
            return
        if kind:
            self._pool.end()
            wait([self._thread])
        else:
            self.wait()
            self._write(self._thread.exception())

    def wait(self, keys: Iterable[str] | None = None) -> None:
        """Wait until these subjects are compiled, or given up; without any, until all are."""
        asked = set(self._missing if keys is None else keys)
        with self._changed:
            self._changed.wait_for(lambda: not asked & self._left)
        self._take_in(asked)

    def _compile(self, worker: Worker, key: str) -> None:
        try:
            worker.compile(key)
        except Unsupported:
            raise  # It is refused again when it is prepared.
        except NeverSlowerError as error:
            self._failures[key] = error
            raise
        finally:
            self._done(key)

    def _done(self, *keys: str) -> None:
        with self._changed:
            self._left.difference_update(keys)
            self._changed.notify_all()

    def _take_in(self, keys: Iterable[str]) -> None:
        """Keep why some failed as what was found of them, but for a death that may be an accident."""
        failed = {key: error for key in keys if (error := self._failures.get(key))}
        self._library.examiner.examined |= {
            key: of_failure(error) for key, error in failed.items() if not _maybe_an_accident(self._library, error)
        }

    def _write(self, error: BaseException | None) -> None:
        """Write down how that went. Raises what is not a worker's failure: without one its own worker still lives."""
        fields: dict[str, Any] = {"subjects": len(self._missing), "failed": len(self._failures)}
        if isinstance(error, WorkerFailure):
            fields |= {"failed": len(self._missing), "reason": str(error)}
        elif error:
            raise error
        self._library.write("compiled", fields | {"seconds": round(time.monotonic() - self._begin, 3)})


def _to_compile(library: Library, keys: Sequence[str]) -> tuple[list[str], int]:
    """Return what a library has yet to compile, and by how many processes; nothing where that is worth none."""
    if "compiles" not in library.offers:
        return [], 0
    missing = library.ask(lambda worker: worker.missing(keys))
    if isinstance(missing, Failure):
        return [], 0
    processes = how_many_compile(library.spec, library.fingerprint, len(missing))
    return (missing, processes) if processes else ([], 0)


def _maybe_an_accident(library: Library, answer: object) -> bool:
    """Return whether an answer is a death that is worth another try."""
    return library.tries > 1 and isinstance(answer, WorkerDied) and not answer.hung
