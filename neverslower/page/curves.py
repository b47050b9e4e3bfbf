"""Read any record as curves: what each layer costs at the channel counts that were measured, the unpruned one last.

A map has its curves. Of a journal or a baseline they are made of its cases: of times a cost is the ratio to the
unpruned layer that the record proved or estimated, of instructions their number, of dispatches the work-items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neverslower.evidence.observation import Evidence, Plan
from neverslower.files.shown import shown
from neverslower.judge.verdict import Code, Interval
from neverslower.maps import grid_file, map_file
from neverslower.maps.cases import is_map
from neverslower.maps.exact_advice import work_items
from neverslower.maps.staircase import Staircase, Stored
from neverslower.page.account import Account, Case, Source
from neverslower.page.of_map import SURVEYED
from neverslower.page.reading import account_of
from neverslower.problem.convolution import Side
from neverslower.problem.subject import Subject


@dataclass(frozen=True)
class Curves:
    """The curves of one backend of one record. A `survey` has no verdicts: each count was measured once."""

    record: str
    device: str
    policy: str
    evidence: Evidence
    staircases: tuple[Staircase, ...]
    survey: bool = False


def curves_of(path: Path) -> list[Curves]:
    """Return the curves of a record, a member for each backend in it; a grid has none, for it proves nothing.

    Raises NeverSlowerError where it is no record.
    """
    if not is_map(path):
        return curves_in(account_of([path]))
    content = map_file.content_of(path)
    if grid_file.is_grid(content):
        return []
    stored = map_file.of_document(path, content)
    fingerprint, policy = stored.fingerprint, stored.fingerprint.state.get("policy", "")
    return [Curves(shown(path), fingerprint.device, policy, stored.evidence, stored.staircases, stored.survey)]


def curves_in(account: Account) -> list[Curves]:
    """Return the curves that the cases of an account make, a member for each of its sources."""
    return [
        Curves(
            source.name,
            f"{source.device} ({source.version})" if source.before else source.device,
            source.state.get("policy", ""),
            source.evidence,
            _staircases(account, number, source),
            SURVEYED in source.remarks,
        )
        for number, source in enumerate(account.sources)
    ]


def _staircases(account: Account, number: int, source: Source) -> tuple[Staircase, ...]:
    """Return a source's curves. Cases under another policy, or of another unpruned layer, are another curve."""
    rows: dict[tuple[object, ...], dict[int, Case]] = {}
    for case in account.cases:
        if case.source == number and case.channels < case.whole:
            rows.setdefault((case.layer, case.unpruned, case.side, case.policies), {})[case.channels] = case
    judged = SURVEYED not in source.remarks
    made = (
        _staircase([row[count] for count in sorted(row)], account.plans, source.evidence, judged)
        for row in rows.values()
    )
    return tuple(staircase for staircase in made if staircase)


def _staircase(row: Sequence[Case], plans: Sequence[Plan], evidence: Evidence, judged: bool) -> Staircase | None:
    """Return the curve of cases in ascending order of their counts, None where nothing of it was measured."""
    first = row[0]
    whole = _plan(plans, first.reference_plan)
    unpruned = _whole_cost(first, whole, evidence)
    measured = [(case, cost) for case in row if (cost := _cost(case, plans, unpruned, evidence)) is not None]
    if not measured:
        return None
    verdicts = [Stored(Code(case.code), Interval(*case.ratio) if case.ratio else None) for case, _ in measured]
    return Staircase(
        first.layer,
        Subject.from_key(first.unpruned).problem,
        (*(case.channels for case, _ in measured), first.whole),
        np.array([*(cost for _, cost in measured), unpruned]),
        (*(_plan(plans, case.plan) for case, _ in measured), whole),
        tuple(verdicts) if judged else (),
        evidence,
        side=Side(first.side),
    )


def _whole_cost(case: Case, whole: Plan, evidence: Evidence) -> float:
    """Return what the unpruned layer costs: 1 of times, and where the driver chooses the groups of a dispatch."""
    if evidence is Evidence.INSTRUCTIONS:
        return case.reference_amount or 1.0
    return float(work_items(whole) or 1) if evidence is Evidence.DISPATCH else 1.0


def _cost(case: Case, plans: Sequence[Plan], unpruned: float, evidence: Evidence) -> float | None:
    """Return what a count costs, None where that is not known."""
    if not Code(case.code).measured:
        return None
    if evidence is Evidence.DISPATCH:
        return float(work_items(_plan(plans, case.plan))) if unpruned > 1 else 1.0
    if evidence is Evidence.INSTRUCTIONS:
        return case.amount
    return case.ratio[0] if case.ratio else None


def _plan(plans: Sequence[Plan], number: int | None) -> Plan:
    return Plan("") if number is None else plans[number]
