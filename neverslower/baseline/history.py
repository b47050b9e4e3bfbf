"""What a device's baselines say over time: each channel count's time or count, ratio and plan, version by version."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from neverslower.baseline import folders
from neverslower.baseline.entry import Baseline, Entry
from neverslower.errors import BaselineError
from neverslower.evidence.observation import Evidence
from neverslower.judge.verdict import Interval
from neverslower.problem.convolution import ConvProblem

Key = tuple[str, str]


@dataclass(frozen=True)
class Point:
    """One stored comparison in one version: seconds a call or instructions, the ratio to unpruned, and the plan."""

    amount: float | None
    ratio: Interval | None
    plan: str


@dataclass(frozen=True)
class Line:
    """One channel count through the stored versions, None where one does not hold it."""

    layer: str
    kept: int
    whole: int
    format: str
    points: tuple[Point | None, ...]


@dataclass(frozen=True)
class Trend:
    """The stored runs of one backend on one device in one state, in the order in which they were accepted."""

    folder: str
    evidence: Evidence
    runs: tuple[Baseline, ...]
    lines: tuple[Line, ...] = field(default=())


def trends(root: Path, pattern: str = "*") -> list[Trend]:
    """Every device's trend, of layers that match the pattern. Raises BaselineError for a folder without baselines."""
    found = []
    for folder in sorted(path for path in root.glob("*@*") if path.is_dir()):
        loaded = [folders.load(path) for path in folders.stored_files(folder)]
        found += [_trend(folder.name, runs, pattern) for runs in _comparable(loaded)]
    if not found:
        raise BaselineError(f"no baseline in {root}; accept one with pytest --accept-baseline REASON")
    return [one for one in found if one.lines]


def _comparable(loaded: Sequence[Baseline]) -> list[list[Baseline]]:
    """Runs of one device, state and evidence, which alone can stand side by side."""
    groups: list[list[Baseline]] = []
    for one in loaded:
        for group in groups:
            if one.evidence is group[0].evidence and not one.fingerprint.obstacles(group[0].fingerprint):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def _trend(folder: str, runs: Sequence[Baseline], pattern: str) -> Trend:
    entries: dict[Key, Entry] = {}
    for run in runs:
        entries |= {key: entry for key, entry in run.entries.items() if fnmatch.fnmatch(entry.layer, pattern)}
    lines = [_line(entry, tuple(_point(run.entries.get(key)) for run in runs)) for key, entry in entries.items()]
    ordered = sorted(lines, key=lambda one: (_natural(one.layer), one.format, -one.kept))
    return Trend(folder, runs[0].evidence, tuple(runs), tuple(ordered))


def _line(entry: Entry, points: tuple[Point | None, ...]) -> Line:
    reference, candidate = ConvProblem.from_key(entry.reference), ConvProblem.from_key(entry.candidate)
    whole, kept = (one.channels(entry.side) for one in (reference, candidate))
    return Line(entry.layer, kept, whole, f"{candidate.dtype} {candidate.layout} {entry.side}", points)


def _point(entry: Entry | None) -> Point | None:
    if entry is None:
        return None
    amount = math.exp(fmean(entry.levels)) if entry.levels else entry.instructions
    return Point(amount, entry.known.ratio, entry.plan.name)


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """L2 before L10."""
    parts: list[str] = []
    for character in name:
        if parts and parts[-1][-1].isdigit() == character.isdigit():
            parts[-1] += character
        else:
            parts.append(character)
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
