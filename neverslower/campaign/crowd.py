"""Asks a library many things at once, by several workers of their own: compiling ahead, and looking at what is exact.

Nothing is timed meanwhile. What a worker answers is kept as if the library's own one had been asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from neverslower.campaign.library import Library
from neverslower.errors import NeverSlowerError, WorkerDied, WorkerFailure
from neverslower.judge.failure import Failure, of_failure, or_wrong
from neverslower.worker.holder import how_many_compile
from neverslower.worker.pool import Failures, ask_all, compile_all
from neverslower.worker.process import Worker


def examine_all(
    library: Library, keys: Sequence[str], progress: Callable[[int], None], stop: Callable[[], bool]
) -> None:
    """Examine every subject, as many at a time as the library allows; for evidence that is exact."""
    recorded = library.recorded.examined
    library.examined |= {key: or_wrong(known) for key in keys if (known := recorded.get((library.name, key)))}
    waiting = [key for key in keys if key not in library.examined]
    if not waiting:
        return
    try:
        answers = _ask_all(library, waiting, progress, stop)
    except WorkerFailure as error:
        lost = library.lose(error)
        library.examined |= {key: lost for key in waiting if key not in library.examined}
    else:
        errors = {key: error for key, error in answers.items() if isinstance(error, NeverSlowerError)}
        library.examined |= {key: of_failure(error) for key, error in errors.items()}


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
    library.examined[key] = or_wrong(examined)
    library.write("examined", {"problem": key} | asdict(examined))


def compile_missing(
    library: Library, keys: Sequence[str], progress: Callable[[int, int], None], stop: Callable[[], bool]
) -> None:
    """Let a library that compiles do it now, in several processes: never beside a measurement."""
    if "compiles" not in library.offers:
        return
    missing = library.ask(lambda worker: worker.missing(keys))
    if isinstance(missing, Failure):
        return
    processes = how_many_compile(library.spec, library.fingerprint, len(missing))
    if not processes:  # They are compiled where they are prepared.
        return
    begin = time.monotonic()
    failures: Failures = {}
    try:
        failures = compile_all(
            library.spec, missing, processes, lambda done: progress(done, len(missing)), stop, library.start_worker
        )
    except WorkerFailure as error:  # Its own worker lives, and what is left out is compiled where it is prepared.
        library.write("compiled", {"subjects": len(missing), "failed": len(missing), "reason": str(error)})
        return
    failed = {key: error for key, error in failures.items() if not _maybe_an_accident(library, error)}
    library.examined |= {key: of_failure(error) for key, error in failed.items()}
    seconds = round(time.monotonic() - begin, 3)
    library.write("compiled", {"subjects": len(missing), "failed": len(failures), "seconds": seconds})


def _maybe_an_accident(library: Library, answer: object) -> bool:
    """Return whether an answer is a death that is worth another try."""
    return library.tries > 1 and isinstance(answer, WorkerDied) and not answer.hung
