"""Failures: what a refusal, a death, a wrong output or the end of the time leaves instead of an answer, and why."""

from __future__ import annotations

from dataclasses import dataclass

from neverslower.errors import NeverSlowerError, OutOfMemory, Unsupported, WorkerDied
from neverslower.evidence.observation import Examined
from neverslower.judge.verdict import Code, Reason, ReasonCode, Verdict


@dataclass(frozen=True)
class Failure:
    """What was asked for could not be examined or measured, and why; no judge has seen it.

    `subject` is the key of what a process was preparing when it died, where that is known.
    """

    code: Code
    reason: Reason
    subject: str = ""

    @property
    def verdict(self) -> Verdict:
        """The verdict that follows for whatever rests on it."""
        return Verdict(self.code, self.reason)


def of_failure(error: NeverSlowerError) -> Failure:
    """Return what a library's refusal, a worker's death or an adapter's error means for what was asked of it."""
    if isinstance(error, Unsupported):
        code = ReasonCode.OUT_OF_MEMORY if isinstance(error, OutOfMemory) else ReasonCode.LIBRARY_REFUSES
        return Failure(Code.UNSUPPORTED, Reason(code, str(error)))
    hung = isinstance(error, WorkerDied) and error.hung
    subject = error.subject if isinstance(error, WorkerDied) else ""
    why = Reason(ReasonCode.TIME_LIMIT if hung else ReasonCode.WORKER_DIED, str(error))
    return Failure(Code.CRASHED, why, subject)


def of_output(examined: Examined) -> Failure | None:
    """Return INVALID for a wrong output, whose time does not count; None where it may be timed."""
    if not examined.wrong:
        return None
    assert examined.error is not None
    text = f"wrong output: off by {examined.error:.2g} of the largest value (tolerance {examined.tolerance:g})"
    if examined.compared < 1:
        text += f", compared at {examined.compared:.2g} of its values"
    return Failure(Code.INVALID, Reason(ReasonCode.WRONG_OUTPUT, text))


def or_wrong(answer: Examined | Failure) -> Examined | Failure:
    """Return what was found of a subject, or that its output is wrong."""
    return (of_output(answer) or answer) if isinstance(answer, Examined) else answer
