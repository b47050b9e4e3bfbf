"""Verdicts on exact evidence: instructions and dispatches are the same in every process, so one look decides.

Counts know nothing of caches and stalls, and a dispatch nothing of time: neither is ever called slower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neverslower.evidence.enqueue import Enqueue, enqueues
from neverslower.evidence.observation import Evidence, Examined, Plan
from neverslower.judge.verdict import STANDARD, Code, Interval, Reason, ReasonCode, Thresholds, Verdict

MORE_WASTE = 0.05
"""The rise in the share of work-items that only fill groups, over the unpruned layer's, that is reported."""


def judge_pruned(
    evidence: Evidence, reference: Examined, candidate: Examined, thresholds: Thresholds = STANDARD
) -> Verdict:
    """Return the verdict on a pruned layer: MORE, SAME or FEWER instructions; CHANGED or SAME for its dispatch."""
    if evidence is Evidence.INSTRUCTIONS:
        return _counted(reference.instructions, candidate.instructions, thresholds)
    return _dispatched(reference.plan, candidate.plan)


def judge_since(
    evidence: Evidence, before: Plan, instructions: int | None, now: Examined, thresholds: Thresholds = STANDARD
) -> Verdict:
    """Return the verdict on what an upgrade did to one problem; any other dispatch is CHANGED, whatever the cause."""
    if evidence is Evidence.INSTRUCTIONS:
        return _or_other_plan(_counted(instructions, now.instructions, thresholds), before, now.plan)
    if not (enqueues(before) and enqueues(now.plan)):  # Nothing seen twice would look like no change.
        return _NOTHING
    differing = list(_differences(before, now.plan))
    if differing:
        return Verdict(Code.CHANGED, Reason(ReasonCode.PLAN_CHANGED, "; ".join(differing)))
    return Verdict(Code.SAME, Reason(ReasonCode.COUNTED, "dispatched as before"))


def _counted(before: int | None, now: int | None, thresholds: Thresholds) -> Verdict:
    if not before or not now:
        return Verdict(Code.INVALID, Reason(ReasonCode.BAD_SAMPLES, "no instructions were counted"))
    ratio, tolerance = now / before, thresholds.instructions
    # Within the tolerance: an upgrade of the compiler moves every count a little, and nobody can act on that.
    code = Code.MORE if ratio > 1 + tolerance else Code.FEWER if ratio < 1 - tolerance else Code.SAME
    text = f"{now:,} instructions against {before:,} (tolerance {tolerance:.1%})"
    return Verdict(code, Reason(ReasonCode.COUNTED, text), Interval(ratio, ratio, ratio))


_NOTHING = Verdict(Code.INVALID, Reason(ReasonCode.BAD_SAMPLES, "no kernel was seen to be enqueued"))


def _or_other_plan(verdict: Verdict, before: Plan, now: Plan) -> Verdict:
    """Return the verdict on counts, or CHANGED where another plan needs no more instructions."""
    if before.name == now.name or verdict.code not in (Code.SAME, Code.FEWER):
        return verdict
    text = f"{before.name} became {now.name}: {verdict.reason.text}"
    return Verdict(Code.CHANGED, Reason(ReasonCode.PLAN_CHANGED, text), verdict.ratio)


def _dispatched(reference: Plan, candidate: Plan) -> Verdict:
    """Compare a pruned layer's dispatch with the unpruned one's; nothing is claimed where the driver chooses groups."""
    before, after = enqueues(reference), enqueues(candidate)
    if not (before and after):
        return _NOTHING
    if [enqueue.name for enqueue in before] != [enqueue.name for enqueue in after]:
        text = f"{_names(before)} became {_names(after)}"
        return Verdict(Code.CHANGED, Reason(ReasonCode.PLAN_CHANGED, text))
    worse = [difference for pair in zip(before, after, strict=True) for difference in _worse(*pair)]
    if worse:
        return Verdict(Code.CHANGED, Reason(worse[0][0], "; ".join(text for _, text in worse)))
    return Verdict(Code.SAME, Reason(ReasonCode.COUNTED, "the same kernels, no more uneven and no more work-items"))


def _worse(before: Enqueue, after: Enqueue) -> Iterator[tuple[ReasonCode, str]]:
    """Yield how the pruned layer's kernel is dispatched worse than the unpruned one's, where both groups are known."""
    if not (before.group and after.group):
        return  # The driver may choose another group for each size, so there is nothing to compare.
    if newly := "".join(name for name in after.uneven if name not in before.uneven):
        text = f"{after.name}: {_groups(after)} is uneven in {newly}, {_groups(before)} of the unpruned layer is not"
        yield ReasonCode.UNEVEN_DISPATCH, text
    if after.launched > before.launched:
        text = f"{after.name}: {after.launched:,} work-items with filling, {before.launched:,} of the unpruned layer"
        yield ReasonCode.MORE_WORK_ITEMS, text
    elif after.waste > before.waste + MORE_WASTE:
        text = (
            f"{after.name}: {after.waste:.0%} of the work-items only fill groups, "
            f"{before.waste:.0%} in the unpruned layer"
        )
        yield ReasonCode.MORE_WASTE, text


def _differences(before: Plan, now: Plan) -> Iterator[str]:
    """Yield how two plans differ, one text each."""
    if before.name != now.name:
        yield f"{before.name} became {now.name}"
    then, after = enqueues(before), enqueues(now)
    if [enqueue.name for enqueue in then] != [enqueue.name for enqueue in after]:
        gone = [enqueue for enqueue in then if enqueue not in after]
        come = [enqueue for enqueue in after if enqueue not in then]
        yield f"{_listed(gone)} became {_listed(come)}"
        return
    for old, new in zip(then, after, strict=True):
        if old != new:
            yield f"{old.name}: {_groups(old)} became {_groups(new)}"
    # Options are reported only where the launches are equal: other launches say enough by themselves.
    if then == after and before.options != now.options:
        yield f"built with other options: {_other_options(before, now)}"


def _other_options(before: Plan, now: Plan) -> str:
    """Name the build options that only one of two plans has."""
    then, after = (set(" ".join(plan.options).split()) for plan in (before, now))
    return " ".join(
        [*sorted(f"without {option}" for option in then - after), *sorted(f"with {option}" for option in after - then)]
    )


def _groups(enqueue: Enqueue) -> str:
    """Describe work-items and those of a group, without trailing ones: `24×196 by 8×8`."""
    size = max(number for number, items in enumerate(enqueue.items, start=1) if items != 1 or number == 1)
    items = "×".join(map(str, enqueue.items[:size]))
    launched = f" of {'×'.join(map(str, enqueue.whole[:size]))} launched" if enqueue.whole else ""
    return f"{items}{launched} by {'×'.join(map(str, enqueue.group[:size])) if enqueue.group else 'the driver'}"


def _names(launched: Sequence[Enqueue]) -> str:
    return " and ".join(dict.fromkeys(enqueue.name for enqueue in launched)) or "nothing"


def _listed(launched: Sequence[Enqueue]) -> str:
    return " and ".join(f"{enqueue.name} ({_groups(enqueue)})" for enqueue in launched) or "nothing"
