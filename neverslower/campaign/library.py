"""Asks one library on one device, by one worker after another, and keeps what it has told so far."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from neverslower.campaign.examiner import Examiner
from neverslower.campaign.findings import Findings, Identity, ResultOf
from neverslower.campaign.resume import Recorded
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import WorkerFailure
from neverslower.evidence.observation import Evidence, Examined, PairedPass
from neverslower.judge.failure import Failure
from neverslower.judge.verdict import Verdict, explained
from neverslower.problem.compared import Compared
from neverslower.worker.holder import Holder
from neverslower.worker.process import StartWorker, Worker, WorkerSpec


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
        self.start_worker: StartWorker = start or Worker
        self.holder = Holder(spec, self.start_worker)
        self.name, self.spec, self.findings = name, spec, findings
        self.recorded, self.label, self._write = recorded, label, write
        # A crash of the library under test is red, whatever it came from. One of the other library fails nothing, so
        # that it must be the library's own: it counts where it happens again.
        self.tries = 2 if label else 1
        self.offers: frozenset[str] = frozenset()
        self.evidence, self.at_once, self.shortest_round = Evidence.DEVICE_TIME, 1, 0.0
        examined = {key: answer for (backend, key), answer in recorded.examined.items() if backend == name}
        self.examiner = Examiner(self._profiled, self.write_examined, examined)
        self.samples: dict[Identity, list[PairedPass]] = {}
        self._profiler: Worker | None = None

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
        self.spec.require_expected(worker.fingerprint)
        self.fingerprint, self.offers = worker.fingerprint, worker.offers
        self.evidence, self.at_once = worker.evidence, worker.at_once
        self.shortest_round = worker.shortest_round
        if lock:
            self.holder.keep_device()
        self.recorded.require_device(worker.fingerprint)
        self.findings.identify(self.name, worker.fingerprint)
        self.write(
            "fingerprint", worker.fingerprint.as_dict() | {"remarks": worker.remarks, "spec": self.spec.backend_spec}
        )
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
                self.lose(error)

    def leave_profiler(self) -> None:
        """See that the worker is one in which nothing was profiled, for such a process is slower."""
        if self.holder.worker is None or self.holder.worker is self._profiler:
            self.holder.fresh(starts_more=False)

    def close_worker(self) -> None:
        """End the worker, if there is one."""
        self.holder.close_worker()

    def close(self) -> None:
        """End the worker, and let go of the device."""
        self.holder.close()

    def ask(self, question: Callable[[Worker], Any]) -> Any | Failure:
        """Return a worker's answer, or why there is none; of the other library, also once it is lost."""
        try:
            return self.holder.ask(question, self.tries)
        except WorkerFailure as error:
            return self.lose(error)

    def _profiled(self, question: Callable[[Worker], Any]) -> Any | Failure:
        """Ask what attaches a profiler where the library profiles, and remember in which worker."""
        if self.holder.company:  # First calls of both libraries are compared, and loading would slow down some of them.
            self.holder.wait_ahead()
        answer = self.ask(question)
        if "profiles" in self.offers:
            self._profiler = self.worker
        return answer

    def lose(self, error: WorkerFailure) -> Failure:
        """Go on without the other library, and return why; raise the error again where it is the one under test."""
        if not self.label:
            raise error
        self.findings.lose(self.name, str(error))
        self.write("lost", {"reason": str(error)})
        return self.holder.lose(error)

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

    def seen(self, comparison: Compared) -> tuple[Examined | None, Examined | None]:
        """Return what was found of the reference and of the candidate; None for one that can't be timed."""
        reference, candidate = comparison.keys
        return self.examiner.found(reference), self.examiner.found(candidate)

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

    def sweep(self, reference: str, candidates: Sequence[str], sweeps: int, seed: str) -> list[PairedPass] | Failure:
        """Return a pass of each candidate of one layer, all of them timed together, or why there is none of any."""
        self.holder.wait_ahead()
        found = [self.examiner.found(key) for key in (reference, *candidates)]
        seconds = [examined.seconds_per_call if examined else 0.0 for examined in found]
        answer: list[PairedPass] | Failure = self.ask(
            lambda worker: worker.sweep(reference, candidates, sweeps, seed, seconds)
        )
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

    def write_examined(self, key: str, answer: Examined | Failure) -> None:
        """Write one line with what was found of a subject, or with why it can't be timed."""
        self.write("examined", {"problem": key} | as_dict(answer))

    def write_samples(self, event: str, comparison: Compared, number: int, answer: PairedPass | Failure) -> None:
        """Write one line with the raw samples of a comparison, or with why there are none."""
        fields = answer.record(number) if isinstance(answer, PairedPass) else as_dict(answer)
        self.write(event, comparison.named | fields)


def as_dict(answer: Any | Failure) -> dict[str, Any]:
    """Return an answer's fields for a line of the journal; a failure is told as the verdict that follows from it."""
    return asdict(answer.verdict if isinstance(answer, Failure) else answer)
