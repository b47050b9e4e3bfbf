"""Judges what was measured so far: what is decided, what looks slower, and what is left when the time is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from neverslower.campaign.budget import out_of_time
from neverslower.campaign.context import BackendRun
from neverslower.campaign.findings import Identity
from neverslower.evidence.observation import PairedPass
from neverslower.judge.change import in_pairs
from neverslower.judge.failure import Failure
from neverslower.judge.joint import Pooling
from neverslower.judge.paired import decided_early
from neverslower.judge.verdict import Code, Judge, Reason, ReasonCode, Verdict, bad_samples, whether_faster
from neverslower.problem.compared import Compared
from neverslower.problem.whole import is_network


@dataclass(frozen=True)
class Judged:
    """A verdict, and for a SLOWER that a later pass confirmed the verdict before it and that pass."""

    verdict: Verdict
    first: Verdict | None = None
    confirmation: PairedPass | None = None


def settled(judge: Judge, passes: Sequence[PairedPass], family: int) -> Judged | None:
    """Return what is decided by these passes, in the order in which they were taken; None where more may decide it.

    A SLOWER counts once a later process has shown it again: the passes before the last one must prove it, and the last
    one must confirm it. Where it does not, the next pass tries again. No share of the error is spent on that, for what
    is proved at each try is the evidence of all passes, which is valid at all looks together (judge.sequential).
    """
    if not judge.enough(passes, family):
        return None
    verdict = judge(passes, family)
    if verdict.code is not Code.SLOWER:
        return Judged(verdict)
    if confirmed := _confirmed(judge, passes, family):
        return confirmed
    if len(passes) <= judge.most_passes:
        return None
    text = f"it was slower, and no later process confirmed it ({verdict.reason.text})"
    return unconfirmed(verdict, Reason(ReasonCode.NOT_CONFIRMED, text))


def _confirmed(judge: Judge, passes: Sequence[PairedPass], family: int) -> Judged | None:
    """Return the SLOWER that the last pass confirms; None where the passes before do not prove it, or it does not."""
    earlier, later = passes[:-1], passes[-1]
    if not earlier or not judge.enough(earlier, family):
        return None
    first = judge(earlier, family)
    if first.code is not Code.SLOWER:
        return None
    again = judge.confirmed(earlier, later, family)
    return Judged(again, first, later) if again.code is Code.SLOWER else None


def unconfirmed(verdict: Verdict, why: Reason) -> Judged:
    """Return a SLOWER that no later pass has confirmed as what it is: undecided, and proved by the passes so far."""
    return Judged(replace(verdict, code=Code.UNDECIDED, reason=why), verdict)


def settle(run: BackendRun, comparisons: Sequence[Compared]) -> None:
    """Finish every comparison that the passes so far decide, by either judge.

    With another library it takes the planned number of pairs, unless fewer have shown what changed.
    """
    together = pooled(run.pooling, run.library.samples, run.family)
    clear = decided_early(pairs_of(run), layer_of, run.thresholds)
    for comparison in run.library.waiting(comparisons):
        passes = run.library.samples.get(comparison.identity, ())
        if len(passes) < (run.settings.passes if comparison.identity in clear else run.budget.fewest):
            continue
        if judged := decided(run.judge, comparison, passes, run.family, together):
            _finish(run, comparison, judged)


def pairs_of(run: BackendRun) -> dict[Identity, list[float]]:
    """Return the new − old log median of each pair of passes so far, where both libraries were measured.

    A whole network has no channel counts, by which changes are shown.
    """
    if run.other is None or run.other.lost:
        return {}
    both = {
        identity: (run.other.samples[identity], passes)
        for identity, passes in run.library.samples.items()
        if identity in run.other.samples and not is_network(layer_of(identity))
    }
    sound = {identity: each for identity, each in both.items() if not any(bad_samples(one, 1.0) for one in each)}
    return {identity: in_pairs(*each) for identity, each in sound.items()}


def pooled(
    pooling: Pooling | None, samples: Mapping[Identity, Sequence[PairedPass]], family: int
) -> Mapping[Identity, Verdict]:
    """Return what the pooled judge proves of all layers of a backend, where there is one.

    A whole network does not scatter as layers do: it is judged by itself, and its samples say nothing of theirs.
    """
    layers = {identity: passes for identity, passes in samples.items() if not is_network(layer_of(identity))}
    return pooling.verdicts(layers, layer_of, family) if pooling else {}


def layer_of(identity: Identity) -> str:
    """Return what a comparison shares with others: the unpruned problem, which is timed once for all of them."""
    return identity[1]


def decided(
    judge: Judge,
    comparison: Compared,
    passes: Sequence[PairedPass],
    family: int,
    together: Mapping[Identity, Verdict],
) -> Judged | None:
    """Return what its own passes decide of a comparison, or all of them `together`; None where more may decide it.

    The study of tuned logs compares intervals, which must have both their bounds: it takes passes enough for that, and
    nothing of the pooled judge, which may prove only one.
    """
    if not comparison.studied:
        judged = first_of(judge, passes, family, together.get(comparison.identity))
        return None if judged and _may_be_faster(judge, comparison, passes, judged.verdict) else judged
    return settled(judge, passes, family) if len(passes) >= judge.fewest_passes(family) else None


def _may_be_faster(judge: Judge, comparison: Compared, passes: Sequence[PairedPass], verdict: Verdict) -> bool:
    """Return whether more passes may still answer whether the pruned layer is faster, where that is asked."""
    asked = comparison.asks_whether_faster and len(passes) < judge.most_passes
    return asked and verdict.code is Code.SAME and whether_faster(verdict).code is Code.UNDECIDED


def first_of(judge: Judge, passes: Sequence[PairedPass], family: int, by_all: Verdict | None) -> Judged | None:
    """Return what is decided by the judge of these passes, or by that of all comparisons (`by_all`).

    SAME and FASTER come before SLOWER, as they do within a judge: a slowdown below the target need not be found.
    """
    alone = settled(judge, passes, family)
    if by_all is None or (alone is not None and alone.verdict.code in (Code.SAME, Code.FASTER)):
        return alone
    noise, provable = judge.limits(passes, family)
    verdict = replace(by_all, noise_floor=noise, mde=provable)
    return Judged(verdict, verdict, passes[-1]) if verdict.code is Code.SLOWER else Judged(verdict)


def so_far(run: BackendRun, comparison: Compared) -> Verdict:
    """Return what the passes of a comparison show so far, by themselves; a SLOWER may be settled by the next one."""
    return _judged(run, run.library.samples[comparison.identity])


SAME_WORK = "both libraries launch the same kernels from equal code"
"""Why a comparison that is not timed is not missed most; that it is the same is not said, for nobody timed it."""


def end(run: BackendRun, comparisons: Sequence[Compared]) -> None:
    """Finish what has no verdict when the time or the passes are over, the other library's share too."""
    for comparison in run.library.waiting(comparisons):
        passes = run.library.samples.get(comparison.identity)
        if not passes:
            last = SAME_WORK if run.same_work(comparison) else ""
            run.library.fail(comparison, out_of_time("measured", last=last))
            continue
        verdict = _judged(run, passes)
        if verdict.code is Code.SLOWER:
            _finish(run, comparison, unconfirmed(verdict, _budget_ended("confirmed")))
        elif verdict.code is Code.UNDECIDED:
            _finish(run, comparison, Judged(replace(verdict, reason=_budget_ended("measured enough"))))
        else:
            _finish(run, comparison, Judged(verdict))
    _judge_the_other(run, comparisons)


def _budget_ended(what: str) -> Reason:
    """Return why something is undecided that was begun before the time budget ended."""
    return Reason(ReasonCode.BUDGET_ENDED, f"the time budget ended before this was {what}")


def _finish(run: BackendRun, comparison: Compared, judged: Judged) -> None:
    run.library.finish(comparison, judged.verdict, judged.first, judged.confirmation)


def _judge_the_other(run: BackendRun, comparisons: Sequence[Compared]) -> None:
    """Finish what the other library was measured on; a SLOWER of it is not confirmed."""
    if run.other is None:
        return
    for comparison in run.other.waiting(comparisons):
        if passes := run.other.samples.get(comparison.identity):
            run.other.finish(comparison, _judged(run, passes))
        else:
            here = run.findings.verdicts.get(comparison.identity)
            run.other.fail(comparison, run.other.lost or _why_unpaired(here))


def _judged(run: BackendRun, passes: Sequence[PairedPass]) -> Verdict:
    return run.judge(passes, run.family)


def _why_unpaired(here: Verdict | None) -> Failure:
    """Return why the other library was not measured where it could have been."""
    if here is None or here.code.measured:
        return out_of_time("measured")
    text = f"this library failed first: {here.reason.text}"
    return Failure(Code.UNDECIDED, Reason(here.reason.code, text))
