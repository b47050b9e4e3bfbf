"""The shape of a staircase: its treads, spikes and teeth, and the name by which it is known. Functions of arrays.

Every function takes the cost of each count, in ascending order of the counts. A step is the difference of two
neighbours' log costs; what is below `STEP` is noise or slope, and makes no edge.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neverslower.enums import StrEnum

Costs = NDArray[np.float64]

STEP = math.log(1.05)
"""The least step that is an edge, as a log ratio."""
SPIKE = math.log(1.10)
"""By how much a spike rises above both its neighbours, at the least."""
PERIODS = (2, 4, 8, 16, 32, 64)
"""Numbers of channels that hardware and kernels are aligned to."""
EXPLAINED, WELL_EXPLAINED = 0.7, 0.85
"""The share of the variance around the local level that a period must explain, and the share that is enough."""
FALLING = 0.05
"""The share of a staircase's edges at which the cost may fall instead of rising."""
SPIKY = 0.02
"""The share of counts that are spikes in a curve that is called spiky."""
LONG_TREAD = 3.0
"""Counts on a usual tread of a staircase; with fewer the cost follows the count."""


class Name(StrEnum):
    """What a curve looks like."""

    FLAT = "flat"
    STAIRCASE = "staircase"
    PARALLEL = "two parallel staircases"
    ALTERNATING = "alternating levels"
    TOOTHED = "toothed"
    SPIKY = "spiky"
    LINEAR = "linear"


@dataclass(frozen=True)
class Tread:
    """Neighbouring counts that cost about the same, from `first` to the edge `last`; `cost` is their median."""

    first: int
    last: int
    cost: float


@dataclass(frozen=True)
class Shape:
    """What a curve is made of: its name, treads and spikes (counts), and the period of its teeth, 0 without any."""

    name: Name
    treads: tuple[Tread, ...]
    spikes: tuple[int, ...]
    period: int

    @property
    def edges(self) -> tuple[int, ...]:
        """Return the last count of each tread."""
        return tuple(tread.last for tread in self.treads)


def shape_of(counts: Sequence[int], costs: Costs) -> Shape:
    """Return the shape of a curve of at least one count."""
    treads = treads_of(counts, costs)
    period, levels = (0, []) if _rises(treads, len(counts)) else _period(counts, costs)
    spikes = [] if period else spikes_of(costs)
    calm = without(costs, spikes)
    treads = treads_of(counts, calm) if spikes else treads
    name = _name(calm, len(spikes), treads, period, levels)
    return Shape(name, tuple(treads), tuple(counts[place] for place in spikes), period)


def _rises(treads: Sequence[Tread], counts: int) -> bool:
    """Return whether treads are long and rise, as those of a regular staircase do, which has a period too."""
    steps = np.diff([tread.cost for tread in treads])
    return counts / len(treads) >= LONG_TREAD and int(np.sum(steps < 0)) <= FALLING * len(steps)


def spikes_of(costs: Costs) -> list[int]:
    """Return the positions of counts that cost more than both neighbours, by `SPIKE` or more."""
    logs = np.log(costs)
    above = logs[1:-1] - np.maximum(logs[:-2], logs[2:])
    return [int(place) + 1 for place in np.flatnonzero(above >= SPIKE)]


def without(costs: Costs, spikes: Sequence[int]) -> Costs:
    """Return the costs with each spike replaced by the mean of its neighbours."""
    calm = np.array(costs)
    for place in spikes:
        calm[place] = math.sqrt(costs[place - 1] * costs[place + 1])
    return calm


def treads_of(counts: Sequence[int], costs: Costs) -> list[Tread]:
    """Return the treads: one ends where the next count costs a step more or less than it, or than the tread so far."""
    treads: list[Tread] = []
    first = 0
    for place in range(1, len(counts) + 1):
        if place < len(counts) and not _ends(costs, first, place):
            continue
        treads.append(Tread(counts[first], counts[place - 1], float(np.median(costs[first:place]))))
        first = place
    return treads


def _ends(costs: Costs, first: int, place: int) -> bool:
    """Return whether the tread from `first` ends before `place`."""
    step = abs(math.log(costs[place] / costs[place - 1]))
    return step >= STEP or abs(math.log(costs[place] / float(np.median(costs[first:place])))) >= STEP


def _period(counts: Sequence[int], costs: Costs) -> tuple[int, list[int]]:
    """Return the period that explains how costs vary around their local level, and the level of each residue.

    It is the smallest that explains it well, else the one that explains most. Levels are numbered from 0, the cheapest.
    (0, []) where no period explains it.
    """
    if len(counts) < 3 * PERIODS[0]:
        return 0, []
    places = np.asarray(counts)
    logs = np.log(costs / _trend(places, costs))
    found: dict[int, tuple[float, Costs]] = {}
    for period in PERIODS:
        if len(counts) < 3 * period:
            break
        inner = slice(period // 2, len(logs) - period + period // 2 + 1)
        around = logs[inner] - np.convolve(logs, np.ones(period) / period, mode="valid")
        residues = places[inner] % period
        effects = np.array([np.median(around[residues == residue]) for residue in range(period)])
        if (total := float(np.var(around))) > 0 and np.ptp(effects) >= STEP:
            found[period] = 1 - float(np.var(around - effects[residues])) / total, effects
    best = max((share for share, _ in found.values()), default=0.0)
    if best < EXPLAINED:
        return 0, []
    period = next(period for period, (share, _) in found.items() if share >= min(best, WELL_EXPLAINED))
    return period, _levels(found[period][1])


def _trend(places: NDArray[np.intp], costs: Costs) -> Costs:
    """Return a straight line through the costs, nowhere below a tenth of their median."""
    slope, level = np.polyfit(places, costs, 1)
    return np.asarray(np.maximum(level + slope * places, 0.1 * float(np.median(costs))))


def _levels(effects: Costs) -> list[int]:
    """Return the number of each residue's level; levels are a step apart."""
    order = np.argsort(effects)
    level, levels = 0, [0] * len(effects)
    for before, place in itertools.pairwise(order):
        level += bool(effects[place] - effects[before] >= STEP)
        levels[place] = level
    return levels


def _name(calm: Costs, spikes: int, treads: Sequence[Tread], period: int, levels: Sequence[int]) -> Name:
    if period:
        return _periodic(levels)
    if spikes >= max(2, SPIKY * len(calm)):
        return Name.SPIKY
    if len(treads) == 1:
        return Name.FLAT
    if len(calm) / len(treads) >= LONG_TREAD and not _slopes(calm):
        return Name.STAIRCASE
    return Name.LINEAR


def _slopes(calm: Costs) -> bool:
    """Return whether the cost grows from count to count, and not at edges: few steps are many times the usual one."""
    steps = np.abs(np.diff(np.log(calm)))
    return float(np.sum(steps[steps >= STEP])) < 0.5 * abs(math.log(calm[-1] / calm[0]))


def _periodic(levels: Sequence[int]) -> Name:
    """Name what repeats: teeth where multiples of the period alone are cheap, else by how the levels follow each other.

    On two parallel staircases neighbours mostly share a level, and change it together; levels that alternate do not.
    """
    cheap = [residue for residue, level in enumerate(levels) if level == 0]
    if cheap == [0]:
        return Name.TOOTHED
    changes = sum(level != levels[place - 1] for place, level in enumerate(levels))
    parallel = max(levels) == 1 and changes <= len(levels) / 2 and len(levels) > 2
    return Name.PARALLEL if parallel else Name.ALTERNATING
