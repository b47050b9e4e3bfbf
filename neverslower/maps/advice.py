"""The channel counts worth pruning a layer to: each faster than every larger one of them, on the edge of a tread.

Advice is drawn from a map, and then measured: each count against the next larger one, as a comparison of its own. One
that is not proved faster there is taken back, and the next smaller count has to be faster than the larger one instead.
Where several neighbours are not proved faster one after the other, the largest alone is taken back in each round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from neverslower.errors import NeverSlowerError
from neverslower.judge.verdict import STANDARD, Code, Verdict
from neverslower.maps.staircase import Staircase
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.problem.networks import Layer

BETTER = (Code.FASTER, Code.FEWER)
Measure = Callable[[Sequence[Comparison]], Mapping[tuple[str, str], Verdict]]
"""Measures comparisons, and returns their verdicts by the keys of both problems, the larger one first."""


@dataclass(frozen=True)
class Step:
    """One advised count: what it costs by the map, and the verdict on it against the next larger advised one."""

    count: int
    cost: float
    larger: int
    verdict: Verdict


@dataclass(frozen=True)
class Advice:
    """The advised counts of a layer in descending order, and the (larger, smaller) ones that were taken back."""

    staircase: Staircase
    steps: tuple[Step, ...]
    taken_back: tuple[tuple[int, int, Verdict], ...]


def advised_channels(staircase: Staircase, margin: float = STANDARD.target) -> list[int]:
    """Return the counts worth pruning to by a map, in descending order, without the unpruned one.

    Each costs less than every larger one that is advised, and than the unpruned layer, by more than `margin`. None is a
    hazard, and where the map has verdicts each is proved better than the unpruned layer. Of the counts on a tread the
    largest is advised: fewer channels for the same time are no gain.
    """
    advised: list[int] = []
    level = float(staircase.costs[-1])
    for place in range(len(staircase.counts) - 2, -1, -1):
        proved = not staircase.verdicts or staircase.verdicts[place].code in BETTER
        if proved and place not in staircase.hazards and staircase.costs[place] < level * (1 - margin):
            advised.append(staircase.counts[place])
            level = float(staircase.costs[place])
    return advised


def verified(
    staircases: Sequence[Staircase], layers: Mapping[str, Layer], backend: str, measure: Measure
) -> list[Advice]:
    """Return the advice that maps give on layers, by name, as far as it is proved count against count.

    All that is to be measured at once is measured in one campaign, which controls the error over all of it.
    """
    drafts = [_Draft(staircase, layers[staircase.name], advised_channels(staircase)) for staircase in staircases]
    verdicts: dict[tuple[str, str], Verdict] = {}
    while asked := [comparison for draft in drafts for comparison in draft.unknown(backend, verdicts)]:
        verdicts |= measure(asked)
        missing = [comparison.identity for comparison in asked if comparison.identity[1:] not in verdicts]
        if missing:
            raise NeverSlowerError(
                f"{len(missing)} of {len(asked)} comparisons have no verdict, such as {missing[0][2]}"
            )
        for draft in drafts:
            draft.take_back(backend, verdicts)
    return [draft.advice(backend, verdicts) for draft in drafts]


class _Draft:
    """The advice on one layer while it is measured."""

    def __init__(self, staircase: Staircase, layer: Layer, counts: list[int]) -> None:
        self._staircase, self._layer, self._counts = staircase, layer, counts
        self._taken_back: list[tuple[int, int, Verdict]] = []

    def unknown(self, backend: str, verdicts: Mapping[tuple[str, str], Verdict]) -> list[Comparison]:
        """Return the comparisons of each count with the next larger one that have no verdict yet."""
        comparisons = [self._comparison(backend, *pair) for pair in self._pairs]
        return [comparison for comparison in comparisons if comparison.identity[1:] not in verdicts]

    def take_back(self, backend: str, verdicts: Mapping[tuple[str, str], Verdict]) -> None:
        """Leave out the largest count of each run of neighbours that are not proved faster than the next larger one.

        The smaller ones of the run may still be faster than the count before it, with which they are compared next.
        """
        failed = [(*pair, verdict) for pair, verdict in self._judged(backend, verdicts) if verdict.code not in BETTER]
        not_faster = {smaller for _, smaller, _ in failed}
        first = [(larger, smaller, verdict) for larger, smaller, verdict in failed if larger not in not_faster]
        self._taken_back += first
        gone = {smaller for _, smaller, _ in first}
        self._counts = [count for count in self._counts if count not in gone]

    def advice(self, backend: str, verdicts: Mapping[tuple[str, str], Verdict]) -> Advice:
        """Return what is left, with its verdicts."""
        costs = dict(zip(self._staircase.counts, self._staircase.costs, strict=True))
        steps = [
            Step(smaller, float(costs[smaller]), larger, verdict)
            for (larger, smaller), verdict in self._judged(backend, verdicts)
        ]
        return Advice(self._staircase, tuple(steps), tuple(self._taken_back))

    @property
    def _pairs(self) -> list[tuple[int, int]]:
        return pairs_of(self._layer.problem, self._counts, self._staircase.side)

    def _comparison(self, backend: str, larger: int, smaller: int) -> Comparison:
        return comparison_of(self._layer, backend, larger, smaller, self._staircase.side)

    def _judged(
        self, backend: str, verdicts: Mapping[tuple[str, str], Verdict]
    ) -> list[tuple[tuple[int, int], Verdict]]:
        keys = {pair: self._comparison(backend, *pair).identity[1:] for pair in self._pairs}
        return [(pair, verdicts[key]) for pair, key in keys.items()]


def pairs_of(problem: ConvProblem, advised: Sequence[int], side: Side = Side.OUT) -> list[tuple[int, int]]:
    """Return (larger, smaller) of each advised count and the next larger one, the unpruned layer before the first."""
    return list(zip([problem.channels(side), *advised], advised, strict=False))


def comparison_of(layer: Layer, backend: str, larger: int, smaller: int, side: Side = Side.OUT) -> Comparison:
    """Return the layer at one advised count against itself at a smaller one."""
    problem, channels = layer.problem, layer.problem.channels(side)
    whole = problem if larger == channels else problem.prune(channels - larger, side)
    return Comparison(backend, replace(layer, problem=whole), problem.prune(channels - smaller, side), side)
