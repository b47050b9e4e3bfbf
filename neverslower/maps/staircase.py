"""Staircases: a layer's time over its channel count, and which counts it advises against. Functions of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from neverslower.evidence.observation import Evidence, Plan
from neverslower.judge.cause import Cause, Explanation, explain
from neverslower.judge.verdict import STANDARD, Code, Interval
from neverslower.problem.convolution import ConvProblem, Side

WORSE = (Code.SLOWER, Code.MORE)


@dataclass(frozen=True)
class Stored:
    """A map's verdict on one channel count, with the ratio to the unpruned layer where it has one."""

    code: Code
    ratio: Interval | None


@dataclass(frozen=True, eq=False)
class Staircase:
    """What each number of filters costs, or of input channels by `side`, ascending up to the unpruned layer.

    Each has its plan.

    `costs` are seconds of a call, or instructions of one, as `evidence` says. `verdicts` are those of all counts but
    the last, which is the unpruned layer; a survey has none. `places` are the titles of all layers of this shape.
    `inferred` are the costs of other counts, which nobody timed: they have no verdict, and none is advised.
    """

    name: str
    unpruned: ConvProblem
    counts: tuple[int, ...]
    costs: NDArray[np.float64]
    plans: tuple[Plan, ...]
    verdicts: tuple[Stored, ...] = ()
    evidence: Evidence = Evidence.DEVICE_TIME
    places: tuple[str, ...] = ()
    side: Side = Side.OUT
    inferred: Mapping[int, float] = field(default_factory=dict)

    def answers_to(self, name: str) -> bool:
        """Return whether a layer of this shape has that name, such as `resnet50.L7` or `resnet50.layer1.1.conv3`."""
        names = {self.name, *(place.partition(" ")[0] for place in self.places)}
        return name in names | {f"{self.network}.{place.partition(' ')[2]}" for place in self.places}

    @property
    def network(self) -> str:
        """Return the name of the network that the layer belongs to."""
        return self.name.partition(".")[0]

    @property
    def curve(self) -> tuple[list[int], NDArray[np.float64]]:
        """Return all counts, ascending, with their costs, whether they were timed or inferred."""
        costs = {**self.inferred, **dict(zip(self.counts, self.costs.tolist(), strict=True))}
        return sorted(costs), np.array([costs[count] for count in sorted(costs)])

    @cached_property
    def ratios(self) -> NDArray[np.float64]:
        """Return each count's cost over that of the unpruned layer, an array as long as `counts`."""
        return np.asarray(self.costs / self.costs[-1])

    @cached_property
    def hazards(self) -> tuple[int, ...]:
        """Return the positions of the counts that are proved slower than the unpruned layer, or take more instructions.

        In a survey these are the counts whose ratio is the target or more, which proves nothing.
        """
        if self.verdicts:
            return tuple(index for index, verdict in enumerate(self.verdicts) if verdict.code in WORSE)
        return tuple(int(index) for index in np.flatnonzero(self.ratios[:-1] >= 1 + STANDARD.target))

    def explained(self, index: int, processors: int = 0) -> Explanation:
        """Explain from both dispatches alone why the count at this position is slower than the unpruned layer.

        `processors` is the number of the GPU's multiprocessors, 0 where it is unknown.
        """
        return explain(self.plans[-1], self.plans[index], None, processors)

    def causes(self, processors: int = 0) -> dict[int, Cause]:
        """Return the cause of each hazard, by position."""
        return {index: self.explained(index, processors).cause for index in self.hazards}
