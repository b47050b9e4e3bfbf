"""Advice from exact evidence: counts of the fewest instructions, and counts whose dispatch is even.

Neither is time, and neither is called faster. One look decides, so nothing is left to verify: the record is the proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from neverslower.baseline.entry import Baseline, Entry
from neverslower.evidence.enqueue import Enqueue, enqueues
from neverslower.evidence.observation import Evidence, Plan
from neverslower.judge.verdict import STANDARD
from neverslower.problem.convolution import ConvProblem, Side


@dataclass(frozen=True)
class Recorded:
    """What a record holds of one layer pruned on one side: an entry for each channel count, the unpruned one too."""

    name: str
    unpruned: ConvProblem
    side: Side
    entries: Mapping[int, Entry]

    @property
    def whole(self) -> Entry:
        """Return the entry of the unpruned layer."""
        return self.entries[self.unpruned.channels(self.side)]

    @property
    def descending(self) -> list[int]:
        """Return the pruned counts, the largest first."""
        return sorted((count for count in self.entries if count < self.unpruned.channels(self.side)), reverse=True)


@dataclass(frozen=True)
class Exactly:
    """One advised count: its instructions, or the work-items that are launched, and the kernels of a dispatch."""

    count: int
    cost: int
    enqueued: tuple[Enqueue, ...] = ()


def layers_of(record: Baseline) -> list[Recorded]:
    """Return each layer of a record on each side, where the unpruned layer and a pruned count are there."""
    rows: dict[tuple[str, Side], dict[int, Entry]] = {}
    names: dict[str, str] = {}
    whole: dict[str, Entry] = {}
    for entry in record.entries.values():
        names.setdefault(entry.reference, entry.layer)
        if entry.reference == entry.candidate:
            whole[entry.reference] = entry
        else:
            count = ConvProblem.from_key(entry.candidate).channels(entry.side)
            rows.setdefault((entry.reference, entry.side), {})[count] = entry
    found = []
    for (key, side), entries in rows.items():
        unpruned = ConvProblem.from_key(key)
        if key in whole:
            found.append(Recorded(names[key], unpruned, side, {**entries, unpruned.channels(side): whole[key]}))
    return found


def advised_of(recorded: Recorded, evidence: Evidence) -> list[Exactly]:
    """Return the advised counts of one layer, in descending order."""
    return fewest_instructions(recorded) if evidence is Evidence.INSTRUCTIONS else even_dispatches(recorded)


def fewest_instructions(recorded: Recorded) -> list[Exactly]:
    """Return the counts that take fewer instructions than every larger advised one, by more than the tolerance.

    Of counts that take as many, up to the tolerance, it is the largest.
    """
    least, advised = recorded.whole.instructions or 0, []
    for count in recorded.descending:
        taken = recorded.entries[count].instructions
        if taken and taken < least * (1 - STANDARD.instructions):
            advised.append(Exactly(count, taken))
            least = taken
    return advised


def even_dispatches(recorded: Recorded) -> list[Exactly]:
    """Return the counts that are dispatched evenly and launch fewer work-items than every larger even one.

    A count is even where the unpruned layer's kernels run, and their groups divide the work-items in every dimension
    in which those of the unpruned layer do. Kernels whose groups the driver chooses say nothing.
    """
    whole = recorded.whole.plan
    least, advised = work_items(whole), []
    for count in recorded.descending:
        plan = recorded.entries[count].plan
        if as_even(whole, plan) and (launched := work_items(plan)) < least:
            advised.append(Exactly(count, launched, tuple(known_groups(plan))))
            least = launched
    return advised


def known_groups(plan: Plan) -> list[Enqueue]:
    """Return the kernels of a plan whose groups the library chooses."""
    return [enqueue for enqueue in enqueues(plan) if enqueue.group]


def same_kernels(whole: Plan, plan: Plan) -> bool:
    """Return whether two plans enqueue the same kernels, so that their work-items can be compared."""
    return [enqueue.name for enqueue in enqueues(whole)] == [enqueue.name for enqueue in enqueues(plan)]


def as_even(whole: Plan, plan: Plan) -> bool:
    """Return whether a plan runs the unpruned layer's kernels, each as evenly as there; see `even_dispatches`."""
    if not same_kernels(whole, plan):
        return False
    pairs = zip(enqueues(whole), enqueues(plan), strict=True)
    known = [pair for pair in pairs if pair[0].group or pair[1].group]
    return all(new.group and old.group and set(new.uneven) <= set(old.uneven) for old, new in known)


def work_items(plan: Plan) -> int:
    """Return the work-items that the kernels of known groups launch, those that only fill groups among them."""
    return sum(enqueue.launched for enqueue in known_groups(plan))
