"""Say which channel counts exact evidence advises, in its own words: fewest instructions, or even dispatch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from neverslower.counted import counted
from neverslower.evidence.enqueue import Enqueue
from neverslower.evidence.observation import Evidence
from neverslower.maps.exact_advice import Exactly, Recorded, known_groups, work_items
from neverslower.problem.convolution import Side

_TITLES = {Evidence.INSTRUCTIONS: "fewest instructions", Evidence.DISPATCH: "even dispatch"}
_COSTS = {Evidence.INSTRUCTIONS: "instructions", Evidence.DISPATCH: "work-items launched"}


def exact_lines(recorded: Recorded, evidence: Evidence, advised: Sequence[Exactly]) -> Iterator[str]:
    """Yield a Markdown table of a layer's advised counts, the unpruned one first."""
    side = "input" if recorded.side is Side.IN else "output"
    pruned = len(recorded.descending)
    counts = counted(pruned, f"{side} channel count")
    yield f"{recorded.name}: {_TITLES[evidence]}: {len(advised)} of {counts}; this is not time"
    if not advised:
        yield _nothing(evidence, recorded)
        return
    dispatched = " kernels, work-items by groups |" if evidence is Evidence.DISPATCH else ""
    yield f"| channels | {_COSTS[evidence]} | of unpruned |{dispatched}"
    yield f"|---|---|---|{'---|' if dispatched else ''}"
    whole = recorded.whole.plan
    unpruned = recorded.whole.instructions or work_items(whole)
    rows = [Exactly(recorded.unpruned.channels(recorded.side), unpruned, tuple(known_groups(whole))), *advised]
    for row in rows:
        listed = f" {'; '.join(map(_kernel, row.enqueued))} |" if dispatched else ""
        yield f"| {row.count} | {row.cost:,} | {row.cost / unpruned:.2f} |{listed}"


def _nothing(evidence: Evidence, recorded: Recorded) -> str:
    count = recorded.unpruned.channels(recorded.side)
    if evidence is Evidence.INSTRUCTIONS:
        return f"no pruned count takes fewer instructions than the unpruned {count} channels"
    if not known_groups(recorded.whole.plan):
        return "the driver chooses all groups, so that no dispatch is known to be even"
    return f"no pruned count is dispatched evenly with fewer work-items than the unpruned {count} channels"


def _kernel(enqueue: Enqueue) -> str:
    items = "×".join(map(str, enqueue.items))
    groups = "×".join(map(str, enqueue.group or ()))
    return f"{enqueue.name} {items} by {groups}"
