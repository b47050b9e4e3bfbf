"""A study: a staircase from few timings. Plans and dispatch change where the curve does, and asking for them is cheap.

No command uses this: a count that is estimated has no verdict. `bench/adaptive.py` sets it against recorded maps.

Counts that are launched alike (one plan, the same kernels, the same grids of those that compute) form a branch, whose
counts need not be neighbours: multiples of 8 may be one, the others between them another. Along a branch the cost is
taken to be a straight line in pieces. A short branch is timed once. A long one is timed at both ends and audited in the
middle; where the audit finds another cost than the line has there, or the line is steep, each half is treated in the
same way, until the piece that hides the step is two neighbours of the branch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neverslower.evidence.kernels import kernels, main_kernels
from neverslower.evidence.observation import Plan

Costs = NDArray[np.float64]
Time = Callable[[int], float]
"""Times the count at a position, and returns its cost."""

OFF = math.log(1.025)
"""By how much a cost may lie off the line, as a log ratio: half of the least step that is an edge."""
STEEP = math.log(1.10)
"""A line that rises or falls by so much is halved even where its middle fits: an edge may lie there by chance."""
SHORT = 10
"""Counts of a branch up to which one of them stands for all."""


@dataclass(frozen=True)
class Estimate:
    """The cost of every count, and the positions of those that were timed, in the order of timing."""

    costs: Costs
    timed: tuple[int, ...]


def estimate(counts: Sequence[int], plans: Sequence[Plan], time: Time) -> Estimate:
    """Return every count's cost, timing as few of them as their plans allow."""
    timing = _Timing(counts, time)
    for branch in branches(plans):
        if len(branch) <= SHORT:
            timing.flat(branch)
        else:
            timing.line(branch)
    return Estimate(timing.costs, tuple(timing.known))


def branches(plans: Sequence[Plan]) -> list[list[int]]:
    """Return the positions of counts that are launched alike, in ascending order, a list for each way."""
    alike: dict[Hashable, list[int]] = {}
    for position, plan in enumerate(plans):
        alike.setdefault(signature(plan), []).append(position)
    return list(alike.values())


def signature(plan: Plan) -> Hashable:
    """Return what counts that are launched alike share: helpers by name, for their grids follow every channel.

    Of a plan whose steps are no kernels it is the name and the steps.
    """
    launched = kernels(plan)
    if not launched:
        return plan.name, plan.steps
    computing = main_kernels(launched)
    helpers = tuple(kernel.name for kernel in launched if kernel not in computing)
    return plan.name.partition(":")[0], tuple(map(str, computing)), helpers


class _Timing:
    """Times counts once each, and fills in the costs between them."""

    def __init__(self, counts: Sequence[int], time: Time) -> None:
        self._counts, self._time = counts, time
        self.known: dict[int, float] = {}
        self.costs = np.full(len(counts), np.nan)

    def flat(self, branch: Sequence[int]) -> None:
        """Let the middle one stand for all."""
        self.costs[list(branch)] = self._of(branch[len(branch) // 2])

    def line(self, branch: Sequence[int]) -> None:
        """Draw a line from the first to the last; where the middle lies off it, draw one through each half."""
        first, last = self._of(branch[0]), self._of(branch[-1])
        places = [self._counts[position] for position in branch]
        self.costs[list(branch)] = np.exp(np.interp(places, [places[0], places[-1]], [math.log(first), math.log(last)]))
        if len(branch) <= 2:
            return
        half = len(branch) // 2
        expected = float(self.costs[branch[half]])
        if abs(math.log(self._of(branch[half]) / expected)) > OFF or abs(math.log(last / first)) > STEEP:
            self.line(branch[: half + 1])
            self.line(branch[half:])

    def _of(self, position: int) -> float:
        if position not in self.known:
            self.known[position] = self._time(position)
        return self.known[position]
