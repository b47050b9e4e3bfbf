"""The extremes of curves: the worst slowdown of light pruning, and what an advised count gains over its neighbours.

Both follow Radu et al. (2019). They are read from records and are no verdicts of their own: each compares two medians.
Every kind of evidence has its own amount: seconds, instructions, or the work-items that a dispatch launches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from neverslower.evidence.observation import Evidence
from neverslower.judge.verdict import STANDARD, Code
from neverslower.maps.advice import advised_channels
from neverslower.maps.exact_advice import as_even, same_kernels
from neverslower.maps.staircase import WORSE, Staircase
from neverslower.problem.convolution import Side

SHAPES = "shapes"
LIGHT, NEAR = 0.12, 0.10
"""The share of its channels that light pruning takes from a layer at the most, and how far a neighbour is away."""


@dataclass(frozen=True)
class Worst:
    """The count that costs most after light pruning: its ratio to the unpruned layer, which has `of` channels."""

    ratio: float
    layer: str
    count: int
    of: int


@dataclass(frozen=True)
class Gain:
    """What an advised count gains over the dearest near one that is not advised: the ratio of both costs."""

    ratio: float
    layer: str
    advised: int
    other: int


@dataclass(frozen=True)
class Headline:
    """The extremes of one layer or of several: of so many pruned `counts` that have a ratio, so many are `worse`
    and so many are `undecided`.

    `worst` is None where no count is worse after light pruning, `gain` where no advised count has a dearer neighbour.
    """

    name: str
    layers: int
    counts: int
    worse: int
    undecided: int
    worst: Worst | None
    gain: Gain | None


def headlines(staircases: Iterable[Staircase]) -> list[Headline]:
    """Return a headline for each network, in the order in which they first appear; shapes of no network are one."""
    networks: dict[str, list[Staircase]] = {}
    for staircase in staircases:
        networks.setdefault(staircase.network if "." in staircase.name else SHAPES, []).append(staircase)
    return [headline_of(name, members) for name, members in networks.items()]


def headline_of(name: str, members: Sequence[Staircase]) -> Headline:
    """Return the extremes of some layers together, under a name."""
    worst = [worst for member in members if (worst := worst_of(member))]
    gains = [gain for member in members if (gain := gain_of(member))]
    return Headline(
        name,
        layers=len({member.name for member in members}),
        counts=sum(len(member.counts) - 1 for member in members),
        worse=sum(len(worse_places(member)) for member in members),
        undecided=sum(stored.code is Code.UNDECIDED for member in members for stored in member.verdicts),
        worst=max(worst, key=lambda one: one.ratio, default=None),
        gain=max(gains, key=lambda one: one.ratio, default=None),
    )


def titled(staircase: Staircase) -> str:
    """Return the name of a layer, with the side on which it is pruned unless that is its output channels."""
    return staircase.name if staircase.side is Side.OUT else f"{staircase.name}, {staircase.side}"


def worse_places(staircase: Staircase) -> tuple[int, ...]:
    """Return the positions of the counts that are worse than the unpruned layer: of dispatches, those that differ."""
    if staircase.evidence is not Evidence.DISPATCH:
        return staircase.hazards
    codes = [verdict.code for verdict in staircase.verdicts]
    return tuple(place for place, code in enumerate(codes) if code is Code.CHANGED)


def worst_of(staircase: Staircase) -> Worst | None:
    """Return the worst count with at most 12 % of the channels pruned, None where none there is worse.

    Where the record has verdicts they say which counts are worse; a survey's are those that cost more.
    """
    whole, ratios, comparable = staircase.counts[-1], staircase.ratios, _comparable(staircase)
    near = [place for place in comparable if staircase.counts[place] >= (1 - LIGHT) * whole]
    if staircase.verdicts and staircase.evidence is not Evidence.DISPATCH:
        near = [place for place in near if staircase.verdicts[place].code in WORSE]
    place = max(near, key=lambda place: ratios[place], default=None)
    if place is None or ratios[place] <= 1:
        return None
    return Worst(float(ratios[place]), titled(staircase), staircase.counts[place], whole)


def gain_of(staircase: Staircase) -> Gain | None:
    """Return what an advised count gains most over a pruned count within ±10 % of its channels that is not advised.

    Where the record has intervals, the advised count must be proved to take less than the other's median.
    """
    advised = set(advised_of(staircase))
    counts, costs = np.asarray(staircase.counts), staircase.costs
    others = np.array([place for place in _comparable(staircase) if staircase.counts[place] not in advised], dtype=int)
    best: Gain | None = None
    for place in (place for place, count in enumerate(staircase.counts) if count in advised):
        near = others[np.abs(counts[others] - counts[place]) <= NEAR * counts[place]]
        if not len(near):
            continue
        dearest = near[np.argmax(costs[near])]
        if not _proved_below(staircase, place, dearest):
            continue
        gain = Gain(float(costs[dearest] / costs[place]), titled(staircase), int(counts[place]), int(counts[dearest]))
        best = gain if gain.ratio > (best.ratio if best else 1.0) else best
    return best


def _proved_below(staircase: Staircase, place: int, other: int) -> bool:
    """Return whether a count's whole interval lies below another's median; what is exact or surveyed has none.

    The other's interval says less: of a count that is not slower often the upper bound alone is proved.
    """
    if not staircase.verdicts or staircase.evidence is not Evidence.DEVICE_TIME:
        return True
    proved = staircase.verdicts[place].ratio
    return proved is not None and bool(staircase.ratios[other] > proved.high)


def _comparable(staircase: Staircase) -> list[int]:
    """Return the positions of the pruned counts whose costs can be compared.

    Those are what has been decided, where there are verdicts; of dispatches those of the unpruned layer's kernels.
    """
    pruned = range(len(staircase.counts) - 1)
    if staircase.evidence is Evidence.DISPATCH:
        return [place for place in pruned if same_kernels(staircase.plans[-1], staircase.plans[place])]
    verdicts = staircase.verdicts
    return [place for place in pruned if not verdicts or verdicts[place].code is not Code.UNDECIDED]


def advised_of(staircase: Staircase) -> list[int]:
    """Return the counts that a curve advises, in descending order, by what its evidence can show."""
    if staircase.evidence is Evidence.DISPATCH:
        return _even(staircase)
    margin = STANDARD.instructions if staircase.evidence is Evidence.INSTRUCTIONS else STANDARD.target
    return advised_channels(staircase, margin)


def _even(staircase: Staircase) -> list[int]:
    """Return the counts that are dispatched evenly, and launch fewer work-items than every larger even one."""
    advised, least = list[int](), float(staircase.costs[-1])
    for place in range(len(staircase.counts) - 2, -1, -1):
        if as_even(staircase.plans[-1], staircase.plans[place]) and staircase.costs[place] < least:
            advised.append(staircase.counts[place])
            least = float(staircase.costs[place])
    return advised
