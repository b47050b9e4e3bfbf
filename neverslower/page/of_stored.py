"""Make the parts of an account from an accepted baseline, of times or of exact evidence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neverslower.baseline import folders
from neverslower.baseline.entry import Baseline, Entry
from neverslower.calibration.stored import standing
from neverslower.evidence.observation import PairedPass
from neverslower.files.shown import shown
from neverslower.judge.cause import Remedy
from neverslower.judge.verdict import Interval, Reason, ReasonCode, Verdict
from neverslower.page import again
from neverslower.page.account import Case, Cause, Kind, Source
from neverslower.page.calibrated import with_calibration
from neverslower.page.numbers import Processes, medians, ratio_of, rounded, sampled
from neverslower.page.of_journal import Parts, named_in, proved_by
from neverslower.problem.subject import Subject


def add(parts: Parts, path: Path) -> None:
    """Add the baselines that a file holds, one for each backend, with their calibrations. Raises BaselineError."""
    first, root = len(parts.sources), path.resolve().parent.parent
    _add(parts, path)
    parts.sources[first:] = [
        with_calibration(source, standing(root, source.fingerprint)) for source in parts.sources[first:]
    ]


def _add(parts: Parts, path: Path) -> None:
    if path.suffix == ".jsonl":
        add_baseline(parts, folders.load(path), {})
        return
    baseline = folders.load(path)
    content = json.loads(path.read_text(encoding="utf-8"))  # It was loaded, and so checked, above.
    for name in content["never_slower"]["fingerprints"]:
        own = baseline if name == baseline.fingerprint.backend else folders.load(path, name)
        rows = {row["fullname"]: row for row in content["benchmarks"]}
        add_baseline(parts, own, rows)


def add_baseline(parts: Parts, baseline: Baseline, rows: Mapping[str, Any]) -> None:
    """Add one backend's baseline; `rows` are the benchmarks of its file, by name, of times."""
    processes, fingerprint, number = Processes(), baseline.fingerprint, len(parts.sources)
    references = _references(baseline, parts)
    passes_of = {name: _passes(rows[name]) for entry in baseline.entries.values() if (name := entry.name) in rows}
    for entry in baseline.entries.values():
        passes = passes_of.get(entry.name, [])
        case = _case(parts, baseline, entry, number)
        amounts = medians(passes)
        parts.cases.append(
            replace(
                case,
                reference_plan=references.get(entry.reference, (None, None))[0],
                reference_amount=amounts[0] or references.get(entry.reference, (None, None))[1],
                amount=amounts[1] or case.amount,
                samples=sampled(passes, processes),
                **_of_row(rows.get(entry.name), entry),
            )
        )
    every = [taken for passes in passes_of.values() for taken in passes]
    parts.sources.append(
        Source.of(
            fingerprint,
            name=shown(baseline.path),
            kind=Kind.BASELINE,
            evidence=baseline.evidence,
            clock=next((taken.clock for taken in every if taken.clock), ""),
            cache=every[0].cache if every else "",
            processes=len(processes),
            discarded=sum(row["extra_info"].get("discarded") or 0 for row in rows.values() if _is_of(row, fingerprint)),
        )
    )


def _is_of(row: Mapping[str, Any], fingerprint: Any) -> bool:
    return bool(row["extra_info"].get("backend") == fingerprint.backend)


def _references(baseline: Baseline, parts: Parts) -> dict[str, tuple[int | None, float | None]]:
    """Return each unpruned layer's plan and what it takes, by its key, where it was stored."""
    own = [entry for entry in baseline.entries.values() if entry.reference == entry.candidate]
    return {entry.reference: (parts.plan(entry.plan), _amount(entry)) for entry in own}


def _amount(entry: Entry) -> float | None:
    """Return the seconds of a call, or its instructions."""
    return rounded(float(np.exp(np.mean(entry.levels)))) if entry.levels else entry.instructions


def _case(parts: Parts, baseline: Baseline, entry: Entry, number: int) -> Case:
    reference, candidate = Subject.from_key(entry.reference), Subject.from_key(entry.candidate)
    layer, _ = named_in(entry.label, baseline.fingerprint.backend, candidate)
    name, side, fingerprint = entry.layer or layer, entry.side, baseline.fingerprint
    command = "" if entry.paired else again.measure_again(fingerprint, name, reference, candidate, side)
    return Case(
        source=number,
        id=entry.label or entry.name,
        layer=name,
        problem=entry.candidate,
        unpruned=entry.reference,
        dtype=str(candidate.problem.dtype),
        layout=str(candidate.problem.layout),
        side=str(side),
        channels=candidate.problem.channels(side),
        whole=reference.problem.channels(side),
        code=str(entry.known.code),
        ratio=ratio_of(entry.known.ratio),
        plan=parts.plan(entry.plan),
        amount=_amount(entry),
        again=command,
        alone=again.script_alone(fingerprint, candidate, entry.plan.name),
    )


def _passes(row: Mapping[str, Any]) -> list[PairedPass]:
    """Return the passes of a stored benchmark; its samples follow each other as observation.PairedPass has them."""
    info, data = row["extra_info"], row["stats"]["data"]
    blocks, starts = info["blocks"], info.get("started") or [None] * len(info["blocks"])
    iterations = info.get("iterations") or [[1, 1]] * len(blocks)
    sides = np.stack([np.asarray(info["reference_seconds"]), np.asarray(data)]).reshape(2, -1, 2)
    ends = np.cumsum(blocks)[:-1]
    parts = np.split(sides.transpose(1, 0, 2), ends)
    clock, cache = info.get("clock") or "", info.get("cache") or "hot"
    return [
        PairedPass(part, (calls[0], calls[1]), clock, cache, started=started)
        for part, calls, started in zip(parts, iterations, starts, strict=True)
    ]


def _of_row(row: Mapping[str, Any] | None, entry: Entry) -> dict[str, Any]:
    """Return what a stored benchmark says beyond its entry: the verdict in words, its limits, and the cause."""
    if row is None:
        return {}
    verdict, why = row["extra_info"]["verdict"], row["extra_info"].get("explanation")
    limits = {name: verdict[name] and rounded(verdict[name]) for name in ("noise_floor", "mde") if name in verdict}
    words = {"reason": str(verdict.get("reason", "")), "text": str(verdict.get("text", ""))}
    return {**words, **limits, "proved": _proved(entry, words), "cause": _cause(why) if why else None}


def _proved(entry: Entry, words: Mapping[str, str]) -> str:
    """Return what the passes of an undecided entry prove, though no later process confirmed it."""
    if words["reason"] not in tuple(ReasonCode):
        return ""
    reason = Reason(ReasonCode(words["reason"]), words["text"])
    return proved_by(Verdict(entry.known.code, reason, entry.known.ratio))


def _cause(why: Mapping[str, Any]) -> Cause:
    best, padded = why.get("best"), why.get("padded")
    remedy = str(Remedy(why["pad_to"], Interval(*padded), why.get("pad_inputs_to"))) if padded else ""
    ratio = (rounded(best[0]), rounded(best[1]), rounded(best[2])) if best else None
    return Cause(str(why["cause"]), tuple(map(str, why["evidence"])), ratio, remedy)
