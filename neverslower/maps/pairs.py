"""The pairs of (input, output) channels worth pruning a layer to: each faster than every larger one of them.

A pair is larger than another one that has no more channels on either side. Advice on pairs is drawn from a grid, whose
costs are estimates, and then measured as that on counts is: each pair against the next larger ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from neverslower.judge.verdict import STANDARD, Verdict
from neverslower.maps.advice import Draft, Measure, proved
from neverslower.maps.grid import Grid, LayerGrid, Pair, problem_at, unpruned_pair
from neverslower.maps.grid import comparison_of as against_unpruned
from neverslower.problem.comparison import Comparison
from neverslower.problem.networks import Layer

BOTH = "both"
"""What files and commands call advice on pairs, where that on counts has a side."""


@dataclass(frozen=True)
class PairStep:
    """One advised pair: what it costs by the grid, and the verdicts on it against the next larger advised ones."""

    pair: Pair
    cost: float
    against: tuple[tuple[Pair, Verdict], ...]


@dataclass(frozen=True)
class PairAdvice:
    """The advised pairs of a layer, larger ones first, and the (larger, smaller) ones that were taken back."""

    layer: Layer
    grid: LayerGrid
    steps: tuple[PairStep, ...]
    taken_back: tuple[tuple[Pair, Pair, Verdict], ...]


def larger(one: Pair, other: Pair) -> bool:
    """Return whether a pair is larger than another one: no fewer channels on either side, and more on one."""
    return one != other and one[0] >= other[0] and one[1] >= other[1]


def advised_pairs(grid: LayerGrid, margin: float = STANDARD.target) -> list[Pair]:
    """Return the pairs worth pruning to by a grid, larger ones first, without the unpruned one.

    Each costs less than every larger one that is advised, and than the unpruned layer, by more than `margin`. Of pairs
    that cost as much the largest is advised: fewer channels for the same time are no gain.
    """
    whole = unpruned_pair(grid.unpruned)
    advised = [whole]
    for pair in sorted(grid.costs, key=lambda pair: (-sum(pair), pair)):
        level = min((grid.costs[other] for other in advised if larger(other, pair)), default=0.0)
        if grid.costs[pair] < level * (1 - margin):
            advised.append(pair)
    return advised[1:]


def neighbours(whole: Pair, pairs: Sequence[Pair]) -> list[tuple[Pair, Pair]]:
    """Return (larger, smaller) of each pair and the next larger ones, the unpruned one where there is no other."""
    found = []
    for pair in pairs:
        above = [other for other in (whole, *pairs) if larger(other, pair)]
        found += [(other, pair) for other in above if not any(larger(other, between) for between in above)]
    return found


def verified(grid: Grid, layers: Sequence[Layer], backend: str, measure: Measure) -> list[PairAdvice]:
    """Return the advice that a grid gives on layers as far as it is proved, pair against pair.

    Raises NeverSlowerError where the grid does not have a layer.
    """
    drafts = [_draft(layer, grid.of(layer), backend) for layer in layers]
    verdicts = proved(drafts, measure)
    found = []
    for layer, draft in zip(layers, drafts, strict=True):
        against: dict[Pair, list[tuple[Pair, Verdict]]] = {}
        for (above, pair), verdict in draft.judged(verdicts):
            against.setdefault(pair, []).append((above, verdict))
        costs = grid.of(layer).costs
        steps = tuple(PairStep(pair, costs[pair], tuple(against[pair])) for pair in draft.counts)
        found.append(PairAdvice(layer, grid.of(layer), steps, tuple(draft.taken_back)))
    return found


def comparison_of(backend: str, layer: Layer, above: Pair, pair: Pair) -> Comparison:
    """Return the layer at one advised pair against itself at a smaller one, until that is proved faster or not."""
    reference = replace(layer, problem=problem_at(layer.problem, above))
    # The id names the kept channels of one side alone, and a pair is compared with several.
    label = f"in{pair[0]}xout{pair[1]}-than-in{above[0]}xout{above[1]}"
    return replace(against_unpruned(backend, reference, pair), label=label, asks_whether_faster=True)


def _draft(layer: Layer, grid: LayerGrid, backend: str) -> Draft[Pair]:
    whole = unpruned_pair(grid.unpruned)
    return Draft(
        advised_pairs(grid),
        lambda pairs: neighbours(whole, pairs),
        lambda above, pair: comparison_of(backend, layer, above, pair),
    )
