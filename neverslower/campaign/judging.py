"""Judges what was measured so far: whether it is enough, what looks slower, and what is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from neverslower.campaign.budget import out_of_time
from neverslower.campaign.context import BackendRun
from neverslower.campaign.findings import Result
from neverslower.evidence.observation import PairedPass
from neverslower.judge.failure import Failure
from neverslower.judge.verdict import Code, Reason, Verdict
from neverslower.problem.comparison import Comparison

Suspect = tuple[Comparison, Verdict]
"""What looks slower, and is to be confirmed."""


def enough(run: BackendRun, comparison: Comparison) -> bool:
    """Return whether a comparison was measured as often as it must be, and the judge wants no more."""
    passes = run.library.samples.get(comparison.identity, ())
    # The study of tuned logs sets intervals against each other, which must have both their bounds.
    least = max(run.budget.fewest, run.judge.fewest_passes(run.family) if comparison.studied else 1)
    return len(passes) >= least and run.judge.enough(passes, run.family)


def suspected(run: BackendRun, comparisons: Sequence[Comparison]) -> int:
    """Return how many look slower so far."""
    samples = run.library.samples
    waiting = run.library.waiting(comparisons)
    measured = [samples[comparison.identity] for comparison in waiting if comparison.identity in samples]
    return sum(_judged(run, passes).code is Code.SLOWER for passes in measured)


def judge(run: BackendRun, comparisons: Sequence[Comparison]) -> list[Suspect]:
    """Finish what is judged now, and return what looks SLOWER and is still to be confirmed."""
    suspects = []
    for comparison in run.library.waiting(comparisons):
        verdict = _verdict(run, comparison)
        if verdict.code is Code.SLOWER:
            suspects.append((comparison, verdict))
            run.library.write("suspect", comparison.named | asdict(verdict))
        else:
            run.library.finish(comparison, verdict)
    _judge_the_other(run, comparisons)
    return suspects


def _verdict(run: BackendRun, comparison: Comparison) -> Verdict:
    """Return the library's own verdict, which tells where the time left it undecided."""
    passes = run.library.samples.get(comparison.identity)
    verdict = _judged(run, passes) if passes else out_of_time("measured").verdict
    if verdict.code is Code.UNDECIDED and not enough(run, comparison):
        return replace(verdict, reason=out_of_time("measured enough").reason)
    return verdict


def _judge_the_other(run: BackendRun, comparisons: Sequence[Comparison]) -> None:
    """Finish what the other library was measured on; a SLOWER of it is not confirmed."""
    if run.other is None:
        return
    for comparison in run.other.waiting(comparisons):
        if passes := run.other.samples.get(comparison.identity):
            run.other.finish(comparison, _judged(run, passes))
        else:
            here = run.findings.results.get(comparison.identity)
            run.other.fail(comparison, run.other.lost or _why_unpaired(here))


def _judged(run: BackendRun, passes: Sequence[PairedPass]) -> Verdict:
    return run.judge(passes, run.family)


def _why_unpaired(here: Result | None) -> Failure:
    """Return why the other library was not measured where it could have been."""
    if here is None or here.verdict.code.measured:
        return out_of_time("measured")
    text = f"this library failed first: {here.verdict.reason.text}"
    return Failure(Code.UNDECIDED, Reason(here.verdict.reason.code, text))
