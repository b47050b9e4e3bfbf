"""Verdicts that no judge gives: what a refusal, a death or a wrong output means."""

from __future__ import annotations

from neverslower.errors import NeverSlowerError, OutOfMemory, Unsupported, WorkerDied
from neverslower.evidence.observation import Examined
from neverslower.judge.verdict import Code, Reason, ReasonCode, Verdict


def of_failure(error: NeverSlowerError) -> Verdict:
    """What a library's refusal, a worker's death or an adapter's failure means for what was asked of it."""
    if isinstance(error, Unsupported):
        code = ReasonCode.OUT_OF_MEMORY if isinstance(error, OutOfMemory) else ReasonCode.LIBRARY_REFUSES
        return Verdict(Code.UNSUPPORTED, Reason(code, str(error)))
    hung = isinstance(error, WorkerDied) and error.hung
    return Verdict(Code.CRASHED, Reason(ReasonCode.TIME_LIMIT if hung else ReasonCode.WORKER_DIED, str(error)))


def of_output(found: Examined) -> Verdict | None:
    """INVALID where the output is wrong, so that its time does not count; None where it may be timed."""
    if not found.wrong:
        return None
    assert found.error is not None
    text = f"wrong output: off by {found.error:.2g} of the largest value (tolerance {found.tolerance:g})"
    if found.compared < 1:
        text += f", compared at {found.compared:.2g} of its values"
    return Verdict(Code.INVALID, Reason(ReasonCode.WRONG_OUTPUT, text))


def or_wrong(found: Examined | Verdict) -> Examined | Verdict:
    """What was found of a subject, or that its output is wrong."""
    return (of_output(found) or found) if isinstance(found, Examined) else found
