"""Asks one library on one device, by one worker after another, and keeps what it has told so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from neverslower.campaign.findings import Findings, Identity, ResultOf
from neverslower.campaign.resume import Recorded
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError, WorkerDied, WorkerFailure
from neverslower.evidence.observation import Evidence, Examined, PairedPass
from neverslower.judge.failure import Failure, of_failure, or_wrong
from neverslower.judge.verdict import Verdict, explained
from neverslower.problem.compared import Compared
from neverslower.worker.holder import Holder
from neverslower.worker.pool import Failures, ask_all, compile_all
from neverslower.worker.process import StartWorker, Worker, WorkerSpec

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
        self.holder = Holder(spec, self._start)
        self.name, self.spec, self.findings = name, spec, findings
        self.recorded, self.label, self._write = recorded, label, write
        # A crash of the library under test is red, whatever it came from. One of the other library fails nothing, so
        # that it must be the library's own: it counts where it happens again.
        self._tries = 2 if label else 1
        self.offers: frozenset[str] = frozenset()
        self.evidence, self.at_once, self.shortest_round = Evidence.DEVICE_TIME, 1, 0.0
        self.examined: dict[str, Examined | Failure] = {}
        self.samples: dict[Identity, list[PairedPass]] = {}

    # Workers

    @property
    def worker(self) -> Worker | None:
        """Return the worker that is open, if there is one."""
        return self.holder.worker

    @property
    def started(self) -> int:
        """Return how many workers were started by now."""
        return self.holder.started

    @property
    def lost(self) -> Failure | None:
        """Return why this library is asked no more, or None."""
        return self.holder.lost

    def start(self, lock: bool = True) -> Worker:
        """Start the first worker, which tells what the device is, and keep the device for this run where that matters.

        Raises WorkerFailure where it does not start, and NeverSlowerError where an earlier run had another device.
        """
        worker = self.holder.fresh()
        self.fingerprint, self.offers = worker.fingerprint, worker.offers
        self.evidence, self.at_once = worker.evidence, worker.at_once
        self.shortest_round = worker.shortest_round
        if lock:
            self.holder.keep_device()
        self.recorded.require_device(worker.fingerprint)
        self.findings.identify(self.name, worker.fingerprint)
        self.write("fingerprint", worker.fingerprint.as_dict() | {"remarks": worker.remarks})
        return worker

    def renew(self, nothing_to_ask: bool = False) -> None:
        """Start a fresh worker for a phase, unless an earlier run has answered all of it."""
        self.close_worker()
        if nothing_to_ask:
            self.holder.skip()
        elif not self.lost:
            try:
                self.holder.fresh()
            except WorkerFailure as error:
                self._lose(error)

    def close_worker(self) -> None:
        """End the worker, if there is one."""
        self.holder.close_worker()

    def close(self) -> None:
        """End the worker, and let go of the device."""
        self.holder.close()

    def ask(self, question: Callable[[Worker], Any]) -> Any | Failure:
        """Return a worker's answer, or why there is none; of the other library, also once it is lost."""
        try:
            return self.holder.ask(question, self._tries)
        except WorkerFailure as error:
            return self._lose(error)

    def _lose(self, error: WorkerFailure) -> Failure:
        """Go on without the other library, and return why; raise the error again where it is the one under test."""
        if not self.label:
            raise error
        self.findings.lose(self.name, str(error))
        self.write("lost", {"reason": str(error)})
        return self.holder.lose(error)

    def _maybe_an_accident(self, answer: object) -> bool:
        """Return whether an answer of a pool is a death that is worth another try."""
        return self._tries > 1 and isinstance(answer, WorkerDied) and not answer.hung

    # Questions

    def taken(self, comparison: Compared) -> int:
        """Return how many passes of a comparison there are by now."""
        return len(self.samples.get(comparison.identity, ()))

    def known(self, comparison: Compared) -> PairedPass | None:
        """Return the next pass of a comparison where an earlier run has measured it, or None."""
        return self.recorded.passes.get((comparison.identity, self.taken(comparison)))

    def waiting(self, comparisons: Iterable[Compared]) -> list[Compared]:
        """Return those that have no verdict of this library yet."""
        return [comparison for comparison in comparisons if not self.findings.has(comparison)]

    def finish(
        self,
        comparison: Compared,
        verdict: Verdict,
        first: Verdict | None = None,
        confirmation: PairedPass | None = None,
    ) -> None:
        """Keep the comparison's one verdict of this library, and write it to the journal."""
        reference, candidate = self.seen(comparison)
        verdict = explained(verdict, reference, candidate)
        result = ResultOf(
            comparison,
            verdict,
            tuple(self.samples.get(comparison.identity, ())),
            reference,
            candidate,
            first=first,
            confirmation=confirmation,
            evidence=self.evidence,
        )
        self.findings.finish(result)
        self.write("verdict", comparison.named | asdict(verdict))

    def fail(self, comparison: Compared, failure: Failure) -> None:
        """Give a comparison the verdict that follows from a failure."""
        self.finish(comparison, failure.verdict)

    def examine(self, key: str) -> Examined | Failure:
        """Return what is found of a subject, or why it can't be timed; asked once."""
        if key not in self.examined:
            known = self.recorded.examined.get((self.name, key))
            answer = known or self.ask(lambda worker: worker.examine(key))
            self.examined[key] = or_wrong(answer)
            if not known:
                self.write("examined", {"problem": key} | as_dict(self.examined[key]))
        return self.examined[key]

    def examine_beside(self, keys: Sequence[str], progress: Callable[[int], None], stop: Callable[[], bool]) -> None:
        """Examine every subject, as many beside each other as the library allows; for evidence that is exact."""
        recorded = self.recorded.examined
        self.examined |= {key: or_wrong(known) for key in keys if (known := recorded.get((self.name, key)))}
        waiting = [key for key in keys if key not in self.examined]
        if not waiting:
            return
        try:
            answers = self._ask_beside(waiting, progress, stop)
        except WorkerFailure as error:
            lost = self._lose(error)
            self.examined |= {key: lost for key in waiting if key not in self.examined}
        else:
            errors = {key: error for key, error in answers.items() if isinstance(error, NeverSlowerError)}
            self.examined |= {key: of_failure(error) for key, error in errors.items()}

    def _ask_beside(
        self, keys: Sequence[str], progress: Callable[[int], None], stop: Callable[[], bool]
    ) -> dict[str, Any]:
        """Return the errors among the answers by key; what was found of the others is kept as it comes."""

        def ask(keys: Sequence[str]) -> dict[str, Any]:
            return ask_all(self.spec, keys, self.at_once, self._examine_now, progress, stop, self._start)

        answers = ask(keys)
        if again := [key for key, answer in answers.items() if self._maybe_an_accident(answer)]:
            answers |= ask(again)
        return answers

    def _examine_now(self, worker: Worker, key: str) -> None:
        """Keep what a worker finds of a subject, in the journal too, at once."""
        examined = worker.examine(key)
        self.examined[key] = or_wrong(examined)
        self.write("examined", {"problem": key} | asdict(examined))

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
        try:
            failures = compile_all(
                self.spec, missing, processes, lambda done: progress(done, len(missing)), stop, self._start
            )
        except WorkerFailure as error:
            self._lose(error)
        # What is left out is compiled where it is prepared.
        failed = {key: error for key, error in failures.items() if not self._maybe_an_accident(error)}
        self.examined |= {key: of_failure(error) for key, error in failed.items()}
        seconds = round(time.monotonic() - begin, 3)
        self.write("compiled", {"subjects": len(missing), "failed": len(failures), "seconds": seconds})

    def seen(self, comparison: Compared) -> tuple[Examined | None, Examined | None]:
        """Return what was found of the reference and of the candidate; None for one that can't be timed."""
        reference, candidate = (self.examined.get(key) for key in comparison.keys)
        return (
            reference if isinstance(reference, Examined) else None,
            candidate if isinstance(candidate, Examined) else None,
        )

    def prepare(self, comparison: Compared) -> Failure | None:
        """Prepare a candidate before the reference that it shares with others; return why it can't be, or None."""
        failure: Failure | None = self.ask(lambda worker: worker.prepare(comparison.keys[1]))
        return failure

    def measure(self, comparison: Compared, blocks: int, candidate_first: bool = False) -> PairedPass | Failure:
        """Return interleaved rounds of both subjects, or why there are none."""
        reference, candidate = comparison.keys
        self.holder.wait_ahead()
        answer: PairedPass | Failure = self.ask(
            lambda worker: worker.measure(reference, candidate, blocks, candidate_first)
        )
        return answer

    def sweep(self, comparisons: Sequence[Compared], sweeps: int, seed: str) -> list[PairedPass] | Failure:
        """Return a pass of each comparison of one layer, all of them timed together, or why there is none of any."""
        reference, candidates = comparisons[0].keys[0], [comparison.keys[1] for comparison in comparisons]
        self.holder.wait_ahead()
        answer: list[PairedPass] | Failure = self.ask(lambda worker: worker.sweep(reference, candidates, sweeps, seed))
        return answer

    def measure_afresh(self, reference: str, candidate: str, blocks: int, number: int) -> PairedPass | Failure:
        """Return the same of both prepared anew in the worker that is there, the other first in every other pass."""
        self.holder.wait_ahead()
        answer: PairedPass | Failure = self.ask(
            lambda worker: worker.measure(reference, candidate, blocks, number % 2 == 1, afresh=True)
        )
        return answer

    # The journal

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        """Write one line, which names the backend, and which library it is of where there are two."""
        side = {"side": self.label} if self.label else {}
        self._write(event, {"backend": self.name, **side, **fields})

    def write_samples(self, event: str, comparison: Compared, number: int, answer: PairedPass | Failure) -> None:
        """Write one line with the raw samples of a comparison, or with why there are none."""
        fields = answer.record(number) if isinstance(answer, PairedPass) else as_dict(answer)
        self.write(event, comparison.named | fields)


def as_dict(answer: Any | Failure) -> dict[str, Any]:
    """Return an answer's fields for a line of the journal; a failure is told as the verdict that follows from it."""
    return asdict(answer.verdict if isinstance(answer, Failure) else answer)
