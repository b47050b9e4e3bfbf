"""Staircases: a layer's time over its channel count, and what it says about pruning. Functions of arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from neverslower.evidence.observation import Plan
from neverslower.judge.cause import Cause, Explanation, explain
from neverslower.judge.verdict import STANDARD
from neverslower.problem.convolution import ConvProblem


@dataclass(frozen=True, eq=False)
class Staircase:
    """Median seconds of a call at each number of filters, ascending up to the unpruned layer, each with its plan.

    A map of every count is a survey: its times have no verdicts. What it calls slower lies above the target.
    """

    name: str
    unpruned: ConvProblem
    counts: tuple[int, ...]
    seconds: NDArray[np.float64]
    plans: tuple[Plan, ...]

    @property
    def network(self) -> str:
        """The network that the layer belongs to."""
        return self.name.partition(".")[0]

    @cached_property
    def ratios(self) -> NDArray[np.float64]:
        """Each count's time over that of the unpruned layer."""
        return np.asarray(self.seconds / self.seconds[-1])

    @cached_property
    def hazards(self) -> tuple[int, ...]:
        """Positions of the counts that are slower than the unpruned layer by the target or more."""
        return tuple(int(index) for index in np.flatnonzero(self.ratios[:-1] >= 1 + STANDARD.target))

    def worst(self, share: float = 0.12) -> tuple[float, int]:
        """(ratio, count) of the slowest among those with at most this share of the channels pruned."""
        least = (1 - share) * self.counts[-1]
        near = [index for index, count in enumerate(self.counts[:-1]) if count >= least]
        if not near:
            return 1.0, self.counts[-1]
        index = max(near, key=lambda one: self.ratios[one])
        return float(self.ratios[index]), self.counts[index]

    def best_gain(self, within: float = 0.10) -> tuple[float, int, int]:
        """(gain, count, the other): the most that a count gains over the slowest one within that share of it."""
        counts = np.asarray(self.counts)
        best = (1.0, self.counts[-1], self.counts[-1])
        for index, count in enumerate(self.counts):
            near = np.flatnonzero(np.abs(counts - count) <= within * count)
            slowest = near[np.argmax(self.seconds[near])]
            gain = float(self.seconds[slowest] / self.seconds[index])
            if gain > best[0]:
                best = (gain, count, self.counts[slowest])
        return best

    def explained(self, index: int, processors: int = 0) -> Explanation:
        """Why the count at this position is slower than the unpruned layer, from both dispatches alone."""
        return explain(self.plans[-1], self.plans[index], None, processors)

    def causes(self, processors: int = 0) -> dict[int, Cause]:
        """The cause of each hazard, by position."""
        return {index: self.explained(index, processors).cause for index in self.hazards}


@dataclass(frozen=True)
class Headline:
    """What a network's staircases say at most: the worst of light pruning, and the best that a good count gains."""

    network: str
    counts: int
    slower: int
    worst: tuple[float, str, int, int]
    gain: tuple[float, str, int, int]


def headlines(staircases: Iterable[Staircase]) -> list[Headline]:
    """A headline for each network; `worst` is (ratio, layer, count, of), `gain` (ratio, layer, count, the slow one)."""
    networks: dict[str, list[Staircase]] = {}
    for one in staircases:
        networks.setdefault(one.network, []).append(one)
    found = []
    for name, members in networks.items():
        worst = max(((*one.worst(), one) for one in members), key=lambda row: row[0])
        gain = max(((*one.best_gain(), one) for one in members), key=lambda row: row[0])
        found.append(
            Headline(
                name,
                sum(len(one.counts) for one in members),
                sum(len(one.hazards) for one in members),
                (worst[0], worst[2].name, worst[1], worst[2].counts[-1]),
                (gain[0], gain[3].name, gain[1], gain[2]),
            )
        )
    return found
