"""Make the parts of an account from a map: a case for every channel count of every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neverslower.counted import counted
from neverslower.evidence.observation import PairedPass
from neverslower.files.shown import shown
from neverslower.judge.verdict import Code
from neverslower.maps import map_file
from neverslower.maps.map_file import Map
from neverslower.maps.staircase import Staircase
from neverslower.page import again
from neverslower.page.account import UNJUDGED, Case, Cause, Kind, Source
from neverslower.page.numbers import Processes, ratio_of, rounded, sampled
from neverslower.page.of_journal import Parts
from neverslower.problem.convolution import Side
from neverslower.problem.subject import Subject

SURVEYED = "surveyed once, in one process, and not judged"
OPEN = "neither slower nor not slower was proved; a map does not keep why"


def add(parts: Parts, path: Path) -> None:
    """Add a map. Raises NeverSlowerError where it can't be read."""
    content = map_file.content_of(path)
    stored, processes, number = map_file.of_document(path, content), Processes(), len(parts.sources)
    rows = {str(row["name"]): row for row in content["layers"]}
    for staircase in stored.staircases:
        passes = _passes_of(rows[staircase.name], content)
        parts.cases += [
            _case(parts, stored, staircase, place, passes[place] if passes else [], processes, number)
            for place in range(len(staircase.counts) - 1)
        ]
    parts.sources.append(_source(stored, content, processes))


def _source(stored: Map, content: Mapping[str, Any], processes: Processes) -> Source:
    return Source.of(
        stored.fingerprint,
        name=shown(stored.path),
        kind=Kind.MAP,
        evidence=stored.evidence,
        remarks=(*content.get("remarks", ()), *([SURVEYED] if stored.survey else []), *_inferred(stored)),
        clock=content.get("clock", ""),
        cache=content.get("cache", ""),
        processes=len(processes),
        seconds=stored.seconds,
    )


def _inferred(stored: Map) -> list[str]:
    """Return how many counts were not timed: a page shows none of them."""
    left = sum(len(staircase.inferred) for staircase in stored.staircases)
    return [f"{counted(left, 'other channel count')} not timed, and so without a verdict and not shown"] if left else []


def _case(
    parts: Parts,
    stored: Map,
    staircase: Staircase,
    place: int,
    passes: Sequence[PairedPass],
    processes: Processes,
    number: int,
) -> Case:
    whole = staircase.unpruned
    part = whole.prune(whole.out_channels - staircase.counts[place])
    reference, candidate = Subject(whole), Subject(part)
    verdict = staircase.verdicts[place] if staircase.verdicts else None
    plan = staircase.plans[place]
    fingerprint = stored.fingerprint
    return Case(
        source=number,
        id=f"{fingerprint.backend}-{staircase.name}-{whole.dtype}-{whole.layout}-out{part.out_channels}",
        layer=staircase.name,
        problem=part.key,
        unpruned=whole.key,
        dtype=str(whole.dtype),
        layout=str(whole.layout),
        side=str(Side.OUT),
        channels=part.out_channels,
        whole=whole.out_channels,
        code=str(verdict.code) if verdict else str(Code.UNDECIDED),
        reason="" if verdict else UNJUDGED,
        text=_text(verdict.code if verdict else None),
        ratio=_ratio(staircase, place),
        cause=_cause(staircase, place, int(fingerprint.hardware.get("sms", 0))),
        reference_plan=parts.plan(staircase.plans[-1]),
        plan=parts.plan(plan),
        reference_amount=rounded(float(staircase.costs[-1])),
        amount=rounded(float(staircase.costs[place])),
        samples=sampled(passes, processes),
        again=again.measure_again(fingerprint, staircase.name, reference, candidate, Side.OUT),
        alone=again.script_alone(fingerprint, candidate, plan.name),
    )


def _text(code: Code | None) -> str:
    """Return what is said of a verdict, which a map stores without its reason; None is that of a survey."""
    if code is None:
        return SURVEYED
    return OPEN if code is Code.UNDECIDED else ""


def _ratio(staircase: Staircase, place: int) -> tuple[float, float, float] | None:
    if staircase.verdicts:
        return ratio_of(staircase.verdicts[place].ratio)
    once = rounded(float(staircase.ratios[place]))
    return once, once, once


def _cause(staircase: Staircase, place: int, processors: int) -> Cause | None:
    """Return the cause of a hazard from both dispatches alone; in a survey, of what looks like one."""
    if place not in staircase.hazards:
        return None
    why = staircase.explained(place, processors)
    return Cause(str(why.cause), why.evidence)


def _passes_of(row: Mapping[str, Any], content: Mapping[str, Any]) -> list[list[PairedPass]]:
    """Return the passes of each count of a layer; a survey has none that compare both sides."""
    starts, clock, cache = content.get("processes", ()), content.get("clock", ""), content.get("cache", "hot")
    return [[_pass(stored, starts, clock, cache) for stored in passes] for passes in row.get("passes", ())]


def _pass(stored: Sequence[Any], starts: Sequence[float], clock: str, cache: str) -> PairedPass:
    """Read [process, iterations of both sides, nanoseconds of their rounds]; see docs/reference/maps.md."""
    process, calls, *rounds = stored
    sides = [np.asarray(side, float).reshape(-1, 2) / count / 1e9 for side, count in zip(rounds, calls, strict=True)]
    return PairedPass(np.stack(sides, axis=1), (calls[0], calls[1]), clock, cache, started=starts[process])
