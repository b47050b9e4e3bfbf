"""Gives verdicts on demand: by the same sampler and judge as a campaign's, for one comparison after another.

A campaign knows all its comparisons and divides the error among them. Here nobody knows how many will be asked for, so
the k-th one that is timed is judged at the family's error / (k (k + 1)), which sums to the family's
error however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import TracebackType
from typing import Any, TypeVar

from neverslower.campaign.findings import Identity
from neverslower.campaign.library import as_dict
from neverslower.device.fingerprint import Fingerprint
from neverslower.device.state import State
from neverslower.errors import Unavailable, WorkerFailure
from neverslower.evidence.observation import Evidence, Examined, PairedPass, Plan
from neverslower.files.journal import Journal
from neverslower.judge.failure import Failure, of_failure, or_wrong
from neverslower.judge.sequential import CONFIRMING, STANDARD_PRESET, SequentialJudge, until_enough
from neverslower.judge.verdict import Code, Judge, Reason, ReasonCode, Verdict, explained
from neverslower.problem.comparison import Comparison
from neverslower.worker.holder import Holder
from neverslower.worker.process import StartWorker, Worker, WorkerSpec

T = TypeVar("T")
BLOCKS = STANDARD_PRESET.blocks_at_once


class Oracle:
    """Gives verdicts of one backend in one environment, each asked of a worker once and then remembered.

    To be entered first, which starts a worker and keeps the device: raises Unavailable, WorkerDied or
    WorkerError where that fails. Afterwards a worker that dies is replaced, and failures are verdicts.
    """

    fingerprint: Fingerprint
    remarks: tuple[str, ...]
    evidence: Evidence

    def __init__(
        self,
        spec: WorkerSpec,
        journal: Journal | None = None,
        judge: Judge | None = None,
        start: StartWorker | None = None,
    ) -> None:
        self.spec, self._journal = spec, journal
        self._holder = Holder(spec, start or Worker)
        self._judge: Judge = judge or SequentialJudge()
        self._judged = 0
        self._measured_by: set[tuple[Identity, int]] = set()
        self._samples: dict[Identity, tuple[list[PairedPass], int]] = {}
        self._examined: dict[str, Examined | Failure] = {}
        self._verdicts: dict[Identity, Verdict] = {}
        self._numerics: dict[Identity, Verdict] = {}

    def __enter__(self) -> Oracle:
        try:
            worker = self._holder.open()
            self.fingerprint, self.remarks = worker.fingerprint, worker.remarks
            self.evidence = worker.evidence
            self._holder.keep_device()
        except BaseException:
            self.close()
            raise
        self._write("fingerprint", worker.fingerprint.as_dict() | {"spec": self.spec.backend_spec})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker, and let go of the device."""
        self._holder.close()

    def state(self) -> State:
        """Return the device's state now, by the worker that is open. Raises WorkerFailure."""
        return self._holder.open().state()

    # Verdicts

    def verdict(self, comparison: Comparison) -> Verdict:
        """Return whether the pruned layer takes longer, from the worker that is open."""
        return _remembered(self._verdicts, comparison, self._measured)

    def knows(self, comparison: Comparison) -> bool:
        """Return whether the verdict is remembered, and costs nothing."""
        return comparison.identity in self._verdicts

    def numerics(self, comparison: Comparison) -> Verdict:
        """Return whether the pruned layer's output is right: SAME, or INVALID with the largest deviation."""
        return _remembered(self._numerics, comparison, self._checked)

    def knows_numerics(self, comparison: Comparison) -> bool:
        """Return whether the verdict on the output is remembered, and costs nothing."""
        return comparison.identity in self._numerics

    def confirmed(self, comparison: Comparison) -> Verdict:
        """Return the verdict, which stays SLOWER only if a process that has not timed this comparison shows it too."""
        verdict = self.verdict(comparison)
        if verdict.code is not Code.SLOWER:
            return verdict
        if (comparison.identity, self._holder.started) in self._measured_by:
            self._holder.close_worker()
        passes, family = self._samples[comparison.identity]
        later = self._look("confirmed", comparison, CONFIRMING * BLOCKS, len(passes))
        if isinstance(later, Failure):
            verdict = later.verdict
        else:
            verdict = self._explained(self._judge.confirmed(passes, later, family), comparison)
        self._verdicts[comparison.identity] = verdict
        self._write("verdict", comparison.named | asdict(verdict))
        return verdict

    def plans(self, comparison: Comparison) -> tuple[Plan | None, Plan | None]:
        """Return what the library chose for the unpruned and for the pruned layer, where they were examined."""
        reference, candidate = (self._examined.get(key) for key in comparison.keys)
        return _plan(reference), _plan(candidate)

    # Measuring

    def _measured(self, comparison: Comparison) -> Verdict:
        verdict = self._examined_pair(comparison) or self._timed(comparison)
        self._write("verdict", comparison.named | asdict(verdict))
        return verdict

    def _examined_pair(self, comparison: Comparison) -> Verdict | None:
        """Return why one of both can't be timed, or None; each subject is examined once."""
        for key in comparison.keys:
            if key not in self._examined:
                answer = self._ask(lambda worker, key=key: worker.examine(key))  # type: ignore[misc]
                self._examined[key] = or_wrong(answer)
                self._write("examined", {"problem": key} | as_dict(answer))
            known = self._examined[key]
            if isinstance(known, Failure):
                return known.verdict
        return None

    def _timed(self, comparison: Comparison) -> Verdict:
        """Return the judge's verdict on as many passes as it wants, each with both layers prepared again."""
        self._judged += 1
        family = _share(self._judged)
        passes = until_enough(self._judge, family, lambda number: self._look("drawn", comparison, BLOCKS, number))
        if isinstance(passes, Failure):
            return passes.verdict
        self._samples[comparison.identity] = passes, family
        return self._explained(self._judge(passes, family), comparison)

    def _explained(self, verdict: Verdict, comparison: Comparison) -> Verdict:
        """Return the verdict, which names a miss of the tuned log as the reason of a SLOWER."""
        answers = [self._examined.get(key) for key in comparison.keys]
        reference, candidate = (answer if isinstance(answer, Examined) else None for answer in answers)
        return explained(verdict, reference, candidate)

    def _look(self, event: str, comparison: Comparison, blocks: int, number: int) -> PairedPass | Failure:
        """Take samples of a comparison, which go to the journal; every other time the candidate comes first."""
        reference, candidate = comparison.keys
        answer = self._ask(lambda worker: worker.measure(reference, candidate, blocks, number % 2 == 1, afresh=True))
        if isinstance(answer, PairedPass):
            self._measured_by.add((comparison.identity, self._holder.started))
            self._write(event, comparison.named | answer.record(self._holder.started - 1))
        return answer

    def _checked(self, comparison: Comparison) -> Verdict:
        reference, candidate = comparison.keys
        answer = self._ask(lambda worker: worker.check(reference, candidate))
        verdict = answer.verdict if isinstance(answer, Failure) else _of_deviations(answer)
        self._write("checked", comparison.named | asdict(verdict))
        return verdict

    # The worker

    def _ask(self, question: Callable[[Worker], T]) -> T | Failure:
        """Return a worker's answer, or why there is none; that no worker starts any more is the answer to all."""
        try:
            if not self._holder.lost:
                self._holder.open()
        except WorkerFailure as error:
            return self._holder.lose(error)
        try:
            return self._holder.ask(question)
        except Unavailable as error:
            return of_failure(error)

    def _write(self, event: str, fields: Mapping[str, Any]) -> None:
        if self._journal:
            self._journal.write(event, {"backend": self.spec.backend, **fields})


def _remembered(
    memory: dict[Identity, Verdict], comparison: Comparison, ask: Callable[[Comparison], Verdict]
) -> Verdict:
    if comparison.identity not in memory:
        memory[comparison.identity] = ask(comparison)
    return memory[comparison.identity]


def _share(k: int) -> int:
    """Return as how many comparisons the k-th counts, when the error is divided among any number of them."""
    return k * (k + 1)


def _plan(answer: Examined | Failure | None) -> Plan | None:
    return answer.plan if isinstance(answer, Examined) else None


_MEANT = {
    "float64": "the float64 reference",
    "slice": "the slice of the unpruned layer",
    "zero-padded": "the layer padded with zeros",
}


def _of_deviations(deviations: Mapping[str, tuple[float, float]]) -> Verdict:
    """Return SAME if each deviation is within its tolerance; a NaN is not."""
    for name, (error, tolerance) in deviations.items():
        if not error <= tolerance:
            text = f"off from {_MEANT[name]} by {error:.2g} of the largest value (tolerance {tolerance:g})"
            return Verdict(Code.INVALID, Reason(ReasonCode.WRONG_OUTPUT, text))
    largest = max(error for error, _ in deviations.values())
    return Verdict(Code.SAME, Reason(ReasonCode.PROVED, f"equal to {largest:.2g} of the largest value"))
