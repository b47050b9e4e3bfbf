"""One side of a campaign: one library on one device, its workers one after another, and what they have told so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Protocol

from neverslower.campaign.findings import Findings, Identity, Result
from neverslower.campaign.resume import Recorded
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError, Unsupported, WorkerDied, WorkerError, WorkerFailure
from neverslower.evidence.observation import Evidence, Examined, PairedPass
from neverslower.judge.failure import Failure, of_failure, or_wrong
from neverslower.judge.verdict import Verdict, explained
from neverslower.problem.comparison import Comparison
from neverslower.worker.pool import Failures, ask_all, compile_all
from neverslower.worker.process import DeviceLock, StartWorker, Worker, WorkerSpec, once_more

SUBJECTS_A_COMPILER = 8
"""A compiling process is worth starting for so many subjects."""
WORTH_A_POOL = 4
"""So many subjects are compiled in processes of their own; fewer where they are prepared."""


class Write(Protocol):
    """Takes one line for the journal."""

    def __call__(self, event: str, fields: Mapping[str, Any]) -> None:
        """Write it."""
        ...


class Library:
    """Asks one library; every answer goes to the journal, and what an earlier run recorded is not asked again.

    `label` marks the other library of a campaign that measures two: without it a campaign goes on. So where its worker
    starts no more it is `lost`, which is its answer from then on, and where one died it is asked once more. Where the
    library under test has no worker, Unavailable, WorkerDied or WorkerError is raised.
    """

    fingerprint: Fingerprint

    def __init__(
        self,
        name: str,
        spec: WorkerSpec,
        findings: Findings,
        recorded: Recorded,
        write: Write,
        label: str = "",
        start: StartWorker | None = None,
    ) -> None:
        self._start: StartWorker = start or Worker
        self.name, self.spec, self.findings = name, spec, findings
        self.recorded, self.label, self._write = recorded, label, write
        self.worker: Worker | None = None
        self.started = 0
        self.offers: frozenset[str] = frozenset()
        self.evidence, self.at_once = Evidence.DEVICE_TIME, 1
        self.examined: dict[str, Examined | Failure] = {}
        self.samples: dict[Identity, list[PairedPass]] = {}
        self.lost: Failure | None = None
        self._lock: DeviceLock | None = None

    # Workers

    def start(self, lock: bool = True) -> Worker:
        """The first worker, which tells what the device is; the device is kept for this run where that matters."""
        worker = self.fresh_worker()
        self.fingerprint, self.offers = worker.fingerprint, worker.offers
        self.evidence, self.at_once = worker.evidence, worker.at_once
        if worker.exclusive and lock:
            self._lock = once_more(lambda: DeviceLock(self.spec, worker.lock_name))
        self.recorded.require_device(worker.fingerprint)
        self.findings.fingerprints[self.name] = worker.fingerprint
        self.write("fingerprint", worker.fingerprint.as_dict() | {"remarks": worker.remarks})
        return worker

    def fresh_worker(self) -> Worker:
        """Another process in place of the one before."""
        self.close_worker()
        if self._lock:
            self._lock = self._lock.kept()
        self.worker = once_more(lambda: self._start(self.spec, process=self.started), self.started > 0)
        self.started += 1
        return self.worker

    def renew(self, nothing_to_ask: bool = False) -> None:
        """A fresh worker for a phase, unless an earlier run has answered all of it."""
        self.close_worker()
        if nothing_to_ask:
            self.started += 1  # The processes of what follows are numbered as they would have been.
        elif not self.lost:
            with self._losing():
                self.fresh_worker()

    @contextmanager
    def _losing(self) -> Iterator[None]:
        """What is done here needs a worker that starts; where that of the other library doesn't, it is lost."""
        try:
            yield
        except WorkerFailure as error:
            if not self.label:
                raise
            self.lost = of_failure(error)
            self.findings.alone[self.name] = str(error)
            self.write("lost", {"reason": str(error)})
            self.close_worker()

    def close_worker(self) -> None:
        """End the worker, if there is one."""
        if self.worker:
            self.worker.close()
            self.worker = None

    def close(self) -> None:
        """End the worker, and let go of the device."""
        self.close_worker()
        if self._lock:
            self._lock.close()
            self._lock = None

    def ask(self, question: Callable[[Worker], Any]) -> Any | Failure:
        """A worker's answer, or why there is none; a dead worker is replaced.

        What may have died by accident is asked once more.
        """
        answer: Any = None
        with self._losing():
            answer = self.lost or self._ask_once(question)
            if self._maybe_an_accident(answer):
                answer = self._ask_once(question)
        if self.lost:
            return self.lost
        return of_failure(answer) if isinstance(answer, WorkerDied) else answer

    def _maybe_an_accident(self, answer: object) -> bool:
        """Whether an answer is a death that says nothing of this side's library until it happens again.

        A crash of the library under test is red, whatever it came from. One of the other library fails nothing, so that
        it must be the library's own.
        """
        return bool(self.label) and isinstance(answer, WorkerDied) and not answer.hung

    def _ask_once(self, question: Callable[[Worker], Any]) -> Any | Failure | WorkerDied:
        worker = self.worker or self.fresh_worker()
        try:
            return question(worker)
        except (Unsupported, WorkerError) as error:
            return of_failure(error)
        except WorkerDied as error:
            self.close_worker()
            return error

    # Questions

    def waiting(self, comparisons: Iterable[Comparison]) -> list[Comparison]:
        """Those that have no verdict on this side yet."""
        return [one for one in comparisons if one.identity not in self.findings.results]

    def finish(
        self,
        comparison: Comparison,
        verdict: Verdict,
        first: Verdict | None = None,
        confirmation: PairedPass | None = None,
    ) -> None:
        """The comparison's one verdict on this side: kept, and written to the journal."""
        reference, candidate = self.seen(comparison)
        verdict = explained(verdict, reference, candidate)
        self.findings.results[comparison.identity] = Result(
            comparison,
            verdict,
            tuple(self.samples.get(comparison.identity, ())),
            reference,
            candidate,
            first=first,
            confirmation=confirmation,
            evidence=self.evidence,
        )
        self.write("verdict", comparison.named | asdict(verdict))

    def examine(self, key: str) -> Examined | Failure:
        """What is found of a subject, or why it can't be timed; asked once."""
        if key not in self.examined:
            known = self.recorded.examined.get((self.name, key))
            found = known or self.ask(lambda worker: worker.examine(key))
            self.examined[key] = or_wrong(found)
            if not known:
                self.write("examined", {"problem": key} | _as_dict(self.examined[key]))
        return self.examined[key]

    def examine_beside(self, keys: Sequence[str], progress: Callable[[int], None], stop: Callable[[], bool]) -> None:
        """Examine every subject, as many beside each other as the library allows; for evidence that is exact."""
        recorded = self.recorded.examined
        self.examined |= {key: or_wrong(known) for key in keys if (known := recorded.get((self.name, key)))}
        waiting = [key for key in keys if key not in self.examined]
        if not waiting:
            return
        answers: dict[str, Any] = {}
        with self._losing():
            answers |= ask_all(self.spec, waiting, self.at_once, self._examine_now, progress, stop, self._start)
            if again := [key for key, one in answers.items() if self._maybe_an_accident(one)]:
                answers |= ask_all(self.spec, again, self.at_once, self._examine_now, progress, stop, self._start)
        failed = {key: of_failure(one) for key, one in answers.items() if isinstance(one, NeverSlowerError)}
        lost = {key: self.lost for key in waiting if self.lost and key not in self.examined}
        self.examined |= failed | lost

    def _examine_now(self, worker: Worker, key: str) -> None:
        """Keep what a worker finds of a subject, in the journal too, at once."""
        found = worker.examine(key)
        self.examined[key] = or_wrong(found)
        self.write("examined", {"problem": key} | asdict(found))

    def compile(self, keys: Sequence[str], progress: Callable[[int, int], None], stop: Callable[[], bool]) -> None:
        """Let a library that compiles do it now, in several processes: never beside a measurement."""
        if "compiles" not in self.offers:
            return
        missing = self.ask(lambda worker: worker.missing(keys))
        if isinstance(missing, Failure) or len(missing) < WORTH_A_POOL:
            return
        begin = time.monotonic()
        cores = int(self.fingerprint.hardware.get("cores", 1))
        processes = min(cores, -(-len(missing) // SUBJECTS_A_COMPILER))
        failures: Failures = {}
        with self._losing():
            failures = compile_all(
                self.spec, missing, processes, lambda done: progress(done, len(missing)), stop, self._start
            )
        # What is left out is compiled where it is prepared.
        failed = {key: error for key, error in failures.items() if not self._maybe_an_accident(error)}
        self.examined |= {key: of_failure(error) for key, error in failed.items()}
        seconds = round(time.monotonic() - begin, 3)
        self.write("compiled", {"subjects": len(missing), "failed": len(failures), "seconds": seconds})

    def seen(self, comparison: Comparison) -> tuple[Examined | None, Examined | None]:
        """What was found of both of a comparison's subjects, as far as they can be timed."""
        reference, candidate = (self.examined.get(key) for key in comparison.keys)
        return (
            reference if isinstance(reference, Examined) else None,
            candidate if isinstance(candidate, Examined) else None,
        )

    def prepare(self, comparison: Comparison) -> Failure | None:
        """Prepare a candidate before the reference that it shares with others; why it can't be, or None."""
        found: Failure | None = self.ask(lambda worker: worker.prepare(comparison.keys[1]))
        return found

    def measure(self, comparison: Comparison, blocks: int, candidate_first: bool = False) -> PairedPass | Failure:
        """Interleaved rounds of both subjects, or why there are none."""
        reference, candidate = comparison.keys
        found: PairedPass | Failure = self.ask(
            lambda worker: worker.measure(reference, candidate, blocks, candidate_first)
        )
        return found

    def measure_afresh(self, reference: str, candidate: str, blocks: int, number: int) -> PairedPass | Failure:
        """The same of both prepared anew in the worker that is there, the other one first in every other pass."""
        found: PairedPass | Failure = self.ask(
            lambda worker: worker.measure(reference, candidate, blocks, number % 2 == 1, afresh=True)
        )
        return found

    # The journal

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        """One line, which names the backend, and the side where there are two."""
        side = {"side": self.label} if self.label else {}
        self._write(event, {"backend": self.name, **side, **fields})

    def write_samples(self, event: str, comparison: Comparison, number: int, found: PairedPass | Failure) -> None:
        """One line with the raw samples of a comparison, or with why there are none."""
        fields = found.record(number) if isinstance(found, PairedPass) else asdict(found.verdict)
        self.write(event, comparison.named | fields)


def _as_dict(answer: Examined | Failure) -> dict[str, Any]:
    """Return the fields of a line of the journal; a failure is told as the verdict that follows from it."""
    return asdict(answer.verdict if isinstance(answer, Failure) else answer)
