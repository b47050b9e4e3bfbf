"""Chooses which channel counts of a campaign are timed, and draws those that were not from those that were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neverslower.campaign.library import Library
from neverslower.evidence.observation import PairedPass, Plan
from neverslower.judge.joint import log_ratio
from neverslower.maps.adaptive import Drawn, draw
from neverslower.maps.shape import Costs
from neverslower.problem.compared import Compared
from neverslower.problem.comparison import Comparison


@dataclass(frozen=True, eq=False)
class Inferred:
    """The counts of a layer that were not timed, ascending: their plans, and their costs over the unpruned layer's."""

    counts: tuple[int, ...]
    ratios: Costs
    plans: tuple[Plan, ...]


class Chooser:
    """Chooses the counts of each layer that are to be timed next, by the plans of all and the times of some.

    What it was asked last is what `inferred` draws from.
    """

    def __init__(self) -> None:
        self._curves: dict[str, _Curve] = {}

    def __call__(self, library: Library, examined: Sequence[Compared]) -> list[Compared]:
        """Return the comparisons that are to be measured, those of a layer in ascending order of its counts."""
        layers: dict[str, list[Comparison]] = {}
        for comparison in examined:
            if isinstance(comparison, Comparison) and not _failed(library, comparison):
                layers.setdefault(comparison.keys[0], []).append(comparison)
        self._curves = {key: _Curve.of(library, row) for key, row in layers.items()}
        return [comparison for curve in self._curves.values() for comparison in curve.chosen]

    def inferred(self) -> dict[str, Inferred]:
        """Return what was not timed of each layer, by the key of its problem; nothing of a curve with gaps."""
        found = {key: curve.inferred for key, curve in self._curves.items() if not curve.drawn.missing}
        return {key: inferred for key, inferred in found.items() if inferred.counts}


@dataclass(frozen=True, eq=False)
class _Curve:
    """One layer: its comparisons in ascending order of their counts, the plan of each, and what was timed."""

    comparisons: tuple[Comparison, ...]
    counts: tuple[int, ...]
    plans: tuple[Plan, ...]
    known: Mapping[int, float]
    drawn: Drawn

    @classmethod
    def of(cls, library: Library, row: Sequence[Comparison]) -> _Curve:
        """Return the curve of what a library has shown so far; the unpruned layer, whose ratio is 1, is the last."""
        ordered = tuple(sorted(row, key=_count))
        plans = (*(_plan(library, one.keys[1]) for one in ordered), _plan(library, ordered[0].keys[0]))
        counts = (*map(_count, ordered), ordered[0].reference.channels(ordered[0].side))
        known = {len(ordered): 1.0}
        for position, comparison in enumerate(ordered):
            if ratios := _ratios(library.samples.get(comparison.identity, ())):
                known[position] = float(np.exp(np.median(ratios)))
        return cls(ordered, counts, plans, known, draw(counts, plans, known))

    @property
    def chosen(self) -> list[Comparison]:
        """Return the comparisons that are timed, or to be timed next."""
        wanted = {*self.drawn.missing, *self.known} - {len(self.comparisons)}
        return [self.comparisons[position] for position in sorted(wanted)]

    @property
    def inferred(self) -> Inferred:
        """Return the counts that were not timed."""
        left = [position for position in range(len(self.counts)) if position not in self.known]
        plans = tuple(self.plans[position] for position in left)
        return Inferred(tuple(self.counts[position] for position in left), self.drawn.costs[left], plans)


def _count(comparison: Comparison) -> int:
    return comparison.candidate.channels(comparison.side)


def _plan(library: Library, key: str) -> Plan:
    found = library.examiner.found(key)
    return found.plan if found else Plan("")


def _ratios(passes: Sequence[PairedPass]) -> list[float]:
    """Return the log ratio of each pass of which a block was kept."""
    return [log_ratio(pass_) for pass_ in passes if len(pass_.seconds)]


def _failed(library: Library, comparison: Comparison) -> bool:
    """Return whether a count has its verdict without a measurement, as after a crash: it says nothing of the curve."""
    return library.findings.has(comparison) and not library.samples.get(comparison.identity)
