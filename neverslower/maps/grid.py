"""A layer's time over (input, output) channels: which pairs are measured, and what is known of them afterwards.

Pruning one layer takes input channels from the next one, so what a width costs is known only for pairs. A grid is
measured for planning, by one process a pair: its costs are estimates, and nothing of it is a verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neverslower.campaign.settings import Settings
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.evidence.observation import Evidence
from neverslower.judge.estimate import EstimateJudge
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import IMAGE_CHANNELS, ConvProblem, Side
from neverslower.problem.networks import Layer

Pair = tuple[int, int]
"""(input channels, output channels)."""
STEP, POINTS = 16, 16
NARROW = 8
"""The largest step of an axis that has fewer than four of the usual steps."""
BLOCKS = 4
JUDGE = EstimateJudge()


# What is measured


def axis(channels: int, step: int = STEP, points: int = POINTS, unit: int = 1) -> list[int]:
    """Return the counts of one axis in ascending order: multiples of a step, and the unpruned count last.

    The step is the smallest multiple of `step` that gives at most so many points; of a narrow axis it is 8 at most. It
    is a multiple of `unit` too.
    """
    base = min(step, NARROW) if channels < 4 * step else step
    base = math.lcm(base, unit)
    wide = base * max(1, math.ceil(channels / (base * points)))
    return [*range(wide, channels, wide), channels]


def pairs_of(problem: ConvProblem, step: int = STEP, points: int = POINTS) -> list[Pair]:
    """Return the pairs of a layer's grid: one axis where it is depthwise or reads an image, else all of both axes."""
    if problem.depthwise:
        each = problem.out_channels // problem.groups
        return [(count, count * each) for count in axis(problem.in_channels, step, points)]
    outputs = axis(problem.out_channels, step, points, problem.groups)
    reads_image = problem.groups == 1 and problem.in_channels <= IMAGE_CHANNELS
    inputs = [problem.in_channels] if reads_image else axis(problem.in_channels, step, points, problem.groups)
    return [(count, output) for count in inputs for output in outputs]


def problem_at(problem: ConvProblem, pair: Pair) -> ConvProblem:
    """Return a layer with so many (input, output) channels; a depthwise one has as many groups as input channels."""
    groups = pair[0] if problem.depthwise else problem.groups
    return replace(problem, in_channels=pair[0], out_channels=pair[1], groups=groups)


def unpruned_pair(problem: ConvProblem) -> Pair:
    """Return the (input, output) channels of a layer."""
    return problem.in_channels, problem.out_channels


def comparisons(backend: str, wanted: Mapping[Layer, Sequence[Pair]]) -> list[Comparison]:
    """Return each layer against itself at each of its pairs; where time is short, every fourth pair comes first.

    A layer that has the unpruned pair alone is set against its equal: what it costs is part of every sum.
    """
    return [
        comparison_of(backend, layer, pair, telling=1 if place % 4 == 0 else 2)
        for layer, pairs in wanted.items()
        for place, pair in enumerate(pairs)
        if pair != unpruned_pair(layer.problem) or len(pairs) == 1
    ]


def comparison_of(backend: str, layer: Layer, pair: Pair, telling: int = 0) -> Comparison:
    """Return a layer against itself with so many (input, output) channels."""
    inputs, outputs = pair
    problem = layer.problem
    kept = (inputs == problem.in_channels, outputs == problem.out_channels)
    side = Side.OUT if kept[0] else Side.IN if kept[1] else Side.TOGETHER
    return Comparison(backend, layer, problem_at(problem, pair), side, telling, paired=side is Side.TOGETHER)


def settings_of(time_budget: float | None = None, blocks: int | None = None) -> Settings:
    """Return how a grid is measured: one pass of a few blocks for each pair."""
    return Settings(blocks=blocks or BLOCKS, time_budget=time_budget, explain_budget=0.0, whole=True)


# What is known of it


@dataclass(frozen=True)
class LayerGrid:
    """What a layer costs at the pairs that were measured, the unpruned one among them: seconds, or instructions."""

    name: str
    unpruned: ConvProblem
    costs: Mapping[Pair, float]
    places: tuple[str, ...] = ()

    @property
    def cost(self) -> float:
        """Return what the unpruned layer costs."""
        return self.costs[unpruned_pair(self.unpruned)]

    def extended(self, other: LayerGrid) -> LayerGrid:
        """Return this with further pairs, their ratios to the unpruned layer kept: clocks may differ between runs."""
        scale = self.cost / other.cost
        further = {pair: cost * scale for pair, cost in other.costs.items()}
        return replace(self, costs={**further, **self.costs})


@dataclass(frozen=True)
class Grid:
    """The grids of several layers on one device, by the key of the unpruned problem; `path` names them in messages.

    `ended_early` says why pairs that were asked for are missing, where that is so; `measured` of `asked` have a cost.
    """

    path: Path
    fingerprint: Fingerprint
    layers: Mapping[str, LayerGrid]
    evidence: Evidence = Evidence.DEVICE_TIME
    ended_early: str = ""
    measured: int = 0
    asked: int = 0

    def of(self, layer: Layer) -> LayerGrid:
        """Return the grid of a layer. Raises NeverSlowerError, which names the field in which the nearest one differs.

        Two layers of one shape share a grid.
        """
        if found := self.layers.get(layer.problem.key):
            return found
        remedy = "measure one with `map --grid`"
        if self.ended_early:
            remedy = f"it is a part ({self.ended_early}): measure the rest with the same `map --grid` and --resume"
        raise NeverSlowerError(f"grid {self.path}: {self._why_not(layer)}; {remedy}")

    def _why_not(self, layer: Layer) -> str:
        wanted = layer.problem
        asked = {field: getattr(wanted, field) for field in ("dtype", "layout", "batch", "epilogue")}
        for known in self.layers.values():
            if replace(known.unpruned, **asked) == wanted:
                has = {field: getattr(known.unpruned, field) for field in asked}
                other = [field for field in asked if has[field] != asked[field]]
                theirs = " and ".join(f"{field} {has[field] or 'none'}" for field in other)
                ours = " and ".join(str(asked[field] or "none") for field in other)
                return f"it has {layer.name} with {theirs}, and {ours} {'is' if len(other) == 1 else 'are'} asked for"
        return f"it does not have {layer.name} ({wanted})"

    def extended(self, other: Grid) -> Grid:
        """Return this with what another grid of the same device has."""
        layers = dict(self.layers)
        for key, further in other.layers.items():
            layers[key] = layers[key].extended(further) if key in layers else further
        measured, asked = self.measured + other.measured, self.asked + other.asked
        ended_early = self.ended_early or other.ended_early
        return replace(self, layers=layers, measured=measured, asked=asked, ended_early=ended_early)
