"""The channel counts worth pruning a layer to: each faster than every larger one of them, on the edge of a tread.

Advice is drawn from a map, and then measured: each count against the next larger one, as a comparison of its own, until
it is proved faster or proved not to be; "no slower" (SAME) alone is not enough. What is not proved faster when the
passes or the time are used up is taken back, and the next smaller count has to be faster than the larger one instead.
Where several neighbours are not proved faster one after the other, the largest alone is taken back in each round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from neverslower.counted import counted
from neverslower.errors import NeverSlowerError
from neverslower.judge.verdict import STANDARD, Code, Verdict, whether_faster
from neverslower.maps.staircase import Staircase
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.problem.networks import Layer

BETTER = (Code.FASTER, Code.FEWER)
Verdicts = Mapping[tuple[str, str], Verdict]
"""Verdicts by the keys of both problems, the larger one first."""
Measure = Callable[[Sequence[Comparison]], Verdicts]
"""Measures comparisons, and returns their verdicts by the keys of both problems, the larger one first."""

C = TypeVar("C")
"""A channel count, or a pair of them."""


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
    """Return the advice that maps give on layers, by name, as far as it is proved count against count."""
    drafts = [_draft(staircase, layers[staircase.name], backend) for staircase in staircases]
    verdicts = proved(drafts, measure)
    return [_advice(staircase, draft, verdicts) for staircase, draft in zip(staircases, drafts, strict=True)]


def proved(drafts: Sequence[Draft[Any]], measure: Measure) -> Verdicts:
    """Measure drafts and take back from them until all that is left is proved faster; return the verdicts.

    All that is to be measured at once is measured in one campaign, which controls the error over all of it.
    """
    verdicts: dict[tuple[str, str], Verdict] = {}
    # Until nothing is taken back: where a pair goes, a smaller one may be left not faster and have nothing to measure.
    changed = True
    while changed:
        if asked := [comparison for draft in drafts for comparison in draft.unknown(verdicts)]:
            verdicts |= _measured(asked, measure)
        changed = bool([draft for draft in drafts if draft.take_back(verdicts)])
    return verdicts


def _measured(asked: Sequence[Comparison], measure: Measure) -> dict[tuple[str, str], Verdict]:
    """Return the verdicts on comparisons as answers to whether they are faster. Raises NeverSlowerError without one."""
    verdicts = {keys: whether_faster(verdict) for keys, verdict in measure(asked).items()}
    missing = [comparison.identity for comparison in asked if comparison.identity[1:] not in verdicts]
    if missing:
        without = f"{len(missing)} of {counted(len(asked), 'comparison')}"
        raise NeverSlowerError(f"without a verdict: {without}, such as {missing[0][2]}")
    return verdicts


class Draft(Generic[C]):
    """The advice on one layer while it is measured: the counts that are left, and what was taken back.

    `neighbours` gives (larger, smaller) of what has to be compared among counts, `compare` the comparison of one such.
    """

    def __init__(
        self,
        counts: Sequence[C],
        neighbours: Callable[[Sequence[C]], Sequence[tuple[C, C]]],
        compare: Callable[[C, C], Comparison],
    ) -> None:
        self.counts, self._neighbours, self._compare = list(counts), neighbours, compare
        self.taken_back: list[tuple[C, C, Verdict]] = []

    def unknown(self, verdicts: Verdicts) -> list[Comparison]:
        """Return the comparisons of each count with the next larger ones that have no verdict yet."""
        comparisons = [self._compare(*pair) for pair in self._neighbours(self.counts)]
        return [comparison for comparison in comparisons if comparison.identity[1:] not in verdicts]

    def take_back(self, verdicts: Verdicts) -> bool:
        """Leave out the largest count of each run of neighbours that are not proved faster than the next larger one.

        Return whether there was one. The smaller ones of the run may still be faster than the count before it, with
        which they are compared next.
        """
        failed = [(*pair, verdict) for pair, verdict in self.judged(verdicts) if verdict.code not in BETTER]
        not_faster = {smaller for _, smaller, _ in failed}
        first = [(larger, smaller, verdict) for larger, smaller, verdict in failed if larger not in not_faster]
        self.taken_back += first
        gone = {smaller for _, smaller, _ in first}
        self.counts = [count for count in self.counts if count not in gone]
        return bool(gone)

    def judged(self, verdicts: Verdicts) -> list[tuple[tuple[C, C], Verdict]]:
        """Return the verdict of each count against the next larger ones, as ((larger, smaller), verdict)."""
        keys = {pair: self._compare(*pair).identity[1:] for pair in self._neighbours(self.counts)}
        return [(pair, verdicts[key]) for pair, key in keys.items()]


def _draft(staircase: Staircase, layer: Layer, backend: str) -> Draft[int]:
    return Draft(
        advised_channels(staircase),
        lambda counts: pairs_of(layer.problem, counts, staircase.side),
        lambda larger, smaller: comparison_of(layer, backend, larger, smaller, staircase.side),
    )


def _advice(staircase: Staircase, draft: Draft[int], verdicts: Verdicts) -> Advice:
    """Return what is left of a draft, with its verdicts."""
    costs = dict(zip(staircase.counts, staircase.costs, strict=True))
    steps = [
        Step(smaller, float(costs[smaller]), larger, verdict) for (larger, smaller), verdict in draft.judged(verdicts)
    ]
    return Advice(staircase, tuple(steps), tuple(draft.taken_back))


def pairs_of(problem: ConvProblem, advised: Sequence[int], side: Side = Side.OUT) -> list[tuple[int, int]]:
    """Return (larger, smaller) of each advised count and the next larger one, the unpruned layer before the first."""
    return list(zip([problem.channels(side), *advised], advised, strict=False))


def comparison_of(layer: Layer, backend: str, larger: int, smaller: int, side: Side = Side.OUT) -> Comparison:
    """Return the layer at one advised count against itself at a smaller one."""
    problem, channels = layer.problem, layer.problem.channels(side)
    whole = problem if larger == channels else problem.prune(channels - larger, side)
    part = problem.prune(channels - smaller, side)
    return Comparison(backend, replace(layer, problem=whole), part, side, asks_whether_faster=True)
