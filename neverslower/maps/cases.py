"""What a map or a journal says of each pruned layer, as cases from which rules are mined."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from neverslower.judge.verdict import Code
from neverslower.maps import map_file
from neverslower.maps.map_file import Map
from neverslower.maps.staircase import WORSE
from neverslower.problem.comparison import Comparison
from neverslower.problem.networks import Layer
from neverslower.rules.mining import Case

HARMLESS = (Code.SAME, Code.FASTER, Code.FEWER)


def of_map(read: Map) -> Iterator[Case]:
    """Yield a case for each count that was decided; in a survey, which proves nothing, for each that was measured."""
    for staircase in read.staircases:
        hazards = set(staircase.hazards)
        layer = Layer("", None, staircase.name, staircase.unpruned)
        for index, count in enumerate(staircase.counts[:-1]):
            if staircase.verdicts and staircase.verdicts[index].code not in (*WORSE, *HARMLESS):
                continue
            candidate = staircase.unpruned.prune(staircase.unpruned.out_channels - count)
            comparison = Comparison(read.fingerprint.backend, layer, candidate)
            yield Case(comparison, float(staircase.ratios[index]), index in hazards)


def is_map(path: Path) -> bool:
    """Return whether a file's name is that of a map."""
    return path.name.endswith(".json.xz")


def inferred(path: Path) -> int:
    """Return how many counts of a record were not timed: none but those of a map of few timings."""
    return sum(len(staircase.inferred) for staircase in map_file.load(path).staircases) if is_map(path) else 0


def load(path: Path) -> tuple[Map, list[Case]]:
    """Return a map and its cases. Raises NeverSlowerError."""
    read = map_file.load(path)
    return read, list(of_map(read))
