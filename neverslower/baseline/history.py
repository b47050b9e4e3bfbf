"""Follow each channel count through a device's baselines: time or instructions, ratio and plan, by version."""

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
    """One channel count through the stored versions: `kept` of `whole` channels, and None in a version without it."""

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
    """Return the trends below `root`, of layers that match the pattern; a device has one for each state and evidence.

    Raises BaselineError where no folder holds a baseline, or one can't be read.
    """
    every = []
    for folder in sorted(path for path in root.glob("*@*") if path.is_dir()):
        loaded = [folders.load(path) for path in folders.stored_files(folder)]
        every += [_trend(folder.name, runs, pattern) for runs in _comparable(loaded)]
    if not every:
        raise BaselineError(f"no baseline in {root}; accept one with pytest --accept-baseline REASON")
    return [trend for trend in every if trend.lines]


def _comparable(loaded: Sequence[Baseline]) -> list[list[Baseline]]:
    """Group the runs by device, state and evidence: only runs that share all three can be compared."""
    groups: list[list[Baseline]] = []
    for run in loaded:
        for group in groups:
            if run.evidence is group[0].evidence and not run.fingerprint.obstacles(group[0].fingerprint):
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


def _trend(folder: str, runs: Sequence[Baseline], pattern: str) -> Trend:
    entries: dict[Key, Entry] = {}
    for run in runs:
        entries |= {key: entry for key, entry in run.entries.items() if fnmatch.fnmatch(entry.layer, pattern)}
    lines = [_line(entry, tuple(_point(run.entries.get(key)) for run in runs)) for key, entry in entries.items()]
    ordered = sorted(lines, key=lambda line: (_natural(line.layer), line.format, -line.kept))
    return Trend(folder, runs[0].evidence, tuple(runs), tuple(ordered))


def _line(entry: Entry, points: tuple[Point | None, ...]) -> Line:
    reference, candidate = ConvProblem.from_key(entry.reference), ConvProblem.from_key(entry.candidate)
    whole, kept = reference.channels(entry.side), candidate.channels(entry.side)
    return Line(entry.layer, kept, whole, f"{candidate.dtype} {candidate.layout} {entry.side}", points)


def _point(entry: Entry | None) -> Point | None:
    if entry is None:
        return None
    amount = math.exp(fmean(entry.levels)) if entry.levels else entry.instructions
    return Point(amount, entry.known.ratio, entry.plan.name)


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sorting key by which L2 comes before L10."""
    parts: list[str] = []
    for character in name:
        if parts and parts[-1][-1].isdigit() == character.isdigit():
            parts[-1] += character
        else:
            parts.append(character)
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
