"""What Hypothesis draws: layers shaped like those of networks and beyond them, each with a pruning.

Whatever is drawn, the same choices are made in the same order, and each is then cut to what is left of the space;
nothing is filtered. So a choice keeps its meaning while Hypothesis makes others simpler: a layer of a network becomes
a free one with the same counts, and these come down one by one.
"""

from __future__ import annotations

import itertools
from dataclasses import astuple, dataclass
from functools import cache
from math import isqrt
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from neverslower.problem.comparison import STANDARD_DISTANCES, Comparison
from neverslower.problem.convolution import ConvProblem, DType, Layout, Side
from neverslower.problem.networks import NETWORKS, Layer, distinct_layers, network

T = TypeVar("T")
LARGEST_TENSOR = 2_000_000
"""Elements of a drawn input or output; networks at batch 1 have fewer where their multiplications are as few."""
AMPLE = 10**9
"""What is drawn up to this and then cut to a network's own count mostly is that count."""

_DENSE, _DEPTHWISE, _GROUPED = range(3)
_UNLIKE = ((False, False), (False, False), (False, False), (True, False), (False, True))
"""Whether the axes are unlike, and whether the padding at both ends of an axis is."""
_DILATIONS = (1, 1, 1, 2, 3)
_BATCHES = (1, 1, 1, 1, 1, 1, 2, 3, 4)
_NEAR_STANDARD = sorted({max(1, one + offset) for one in STANDARD_DISTANCES for offset in (-1, 0, 1)}, reverse=True)


@dataclass(frozen=True)
class Space:
    """What may be drawn: a backend's capabilities, the sides to prune, the most multiply-accumulates of a layer."""

    dtypes: tuple[DType, ...] = (DType.FLOAT32,)
    layouts: tuple[Layout, ...] = (Layout.NCHW,)
    sides: tuple[Side, ...] = (Side.OUT,)
    groups: bool = True
    dilation: bool = True
    asymmetric_padding: bool = True
    largest_macs: int = 30_000_000

    def __post_init__(self) -> None:
        if not (self.dtypes and self.layouts and self.sides and self.largest_macs >= 2):
            raise ValueError(f"{self}: nothing that could be pruned lies in there")


@cache
def _one_of(choices: tuple[T, ...]) -> SearchStrategy[T]:
    """One of several, made once: building strategies takes longer than drawing from them."""
    return st.sampled_from(choices) if len(choices) > 1 else st.just(choices[0])


@dataclass(frozen=True)
class _Limits:
    """The largest counts of a layer. Those of a network's layer are `typical`, which is to say mostly reached."""

    kernel: int
    stride: int
    padding: int
    grouping: int
    groups: int
    in_channels: int
    out_channels: int
    size: int
    typical: bool

    def up_to(self, draw: DrawFn, most: int, least: int = 1) -> int:
        """A count that shrinks towards the least."""
        return _cut(draw, AMPLE, most, least) if self.typical else draw(st.integers(least, most))

    def mostly(self, draw: DrawFn, most: int, drawn: int, least: int = 1) -> int:
        """A count that often is `most` in free layers too: there it is cut from what is `drawn` at most."""
        return _cut(draw, AMPLE if self.typical else drawn, most, least)


def _cut(draw: DrawFn, drawn: int, most: int, least: int = 1) -> int:
    """A count that is drawn from a wide range and cut: `most` is likely, and each count shrinks towards the least."""
    return min(draw(st.integers(least, drawn)), most)


@dataclass(frozen=True)
class _Axis:
    """One spatial axis; padding stays below what one window spans, so that one output can always be had."""

    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def least(self) -> int:
        """The input size that gives one output."""
        return (self.kernel - 1) * self.dilation + 1 - self.before - self.after

    def size(self, wanted: int, outputs: int) -> int:
        """The input size nearest to the wanted one that gives from 1 to `outputs` outputs."""
        return max(self.least, min(wanted, outputs * self.stride - 1 + self.least))

    def outputs(self, size: int) -> int:
        """Output pixels of an input of this size."""
        return (size - self.least) // self.stride + 1


@st.composite
def comparisons(draw: DrawFn, backend: str, space: Space) -> Comparison:
    """Layers within `space`, each against itself with some channels pruned; two thirds like those of networks."""
    dtype, layout = draw(_one_of(space.dtypes)), draw(_one_of(space.layouts))
    side = draw(_one_of(space.sides))
    limits = draw(_limits(space))
    down, across = _axes(draw, space, limits)
    room = space.largest_macs // (down.kernel * across.kernel)
    removed, (groups, in_channels, out_channels) = _channels(draw, limits, side, room)
    pixels = room // (in_channels * out_channels // groups)
    batch, height, width = _extents(draw, limits, (down, across), max(in_channels, out_channels), pixels)
    problem = ConvProblem(
        batch=batch,
        groups=groups,
        in_channels=in_channels,
        out_channels=out_channels,
        height=height,
        width=width,
        kernel=(down.kernel, across.kernel),
        stride=(down.stride, across.stride),
        dilation=(down.dilation, across.dilation),
        padding=(down.before, down.after, across.before, across.after),
        dtype=dtype,
        layout=layout,
    )
    step = problem.prune_step(side)
    distance = step * min(-(-removed // step), problem.channels(side) // step - 1)
    return Comparison(backend, Layer("", 0, problem.descriptor, problem), problem.prune(distance, side), side)


@cache
def _limits(space: Space) -> SearchStrategy[_Limits]:
    """Free limits, the widest first since a count shrinks by itself, then twice as many of networks' layers."""
    groupings = (_GROUPED, _GROUPED, _DEPTHWISE, _DENSE) if space.groups else (_DENSE,)
    every = itertools.product(groupings, (512, 128, 32, 8), (7, 5, 3, 3, 1, 1), (3, 2, 1, 1))
    free = [_free(*counts) for counts in every]
    layers = distinct_layers([layer for name in NETWORKS for layer in network(name)])
    problems = [layer.problem for layer in layers if space.groups or layer.problem.groups == 1]
    fitting = {_typical(one) for one in problems if 2 * one.kernel[0] * one.kernel[1] <= space.largest_macs}
    plain = sorted(fitting, key=lambda one: (one.grouping, one.kernel, one.stride, one.out_channels, astuple(one)))
    return st.sampled_from([*free, *(one for one in plain for _ in range(2 * len(free) // len(plain)))])


def _free(grouping: int, channels: int, kernel: int, stride: int) -> _Limits:
    """Beyond networks: up to 32 groups and 56×56 pixels."""
    return _Limits(kernel, stride, 3, grouping, 32, channels, channels, 56, typical=False)


def _typical(problem: ConvProblem) -> _Limits:
    """A network's layer, all of which are square, and dense or depthwise."""
    return _Limits(
        kernel=problem.kernel[0],
        stride=problem.stride[0],
        padding=problem.padding[0],
        grouping=_DEPTHWISE if problem.depthwise else _DENSE,
        groups=problem.groups,
        in_channels=problem.in_channels,
        out_channels=problem.out_channels,
        size=problem.height,
        typical=True,
    )


def _axes(draw: DrawFn, space: Space, limits: _Limits) -> tuple[_Axis, _Axis]:
    """Both axes, mostly the same one twice; of others the kernels differ, and with them what padding they can have."""
    oblong, asymmetric = draw(_one_of(_UNLIKE if space.asymmetric_padding else _UNLIKE[:4]))
    oblong = oblong and not limits.typical
    down, across = (limits.mostly(draw, limits.kernel, 7) for _ in range(2))
    stride, dilation = limits.mostly(draw, limits.stride, 3), draw(_one_of(_DILATIONS if space.dilation else (1,)))
    dilation = 1 if limits.typical else dilation
    before = limits.up_to(draw, limits.padding, least=0)
    after = draw(st.integers(0, 3)) if space.asymmetric_padding else before
    widest = isqrt(space.largest_macs // 2)

    def axis(kernel: int) -> _Axis:
        span = (kernel - 1) * dilation
        first = min(before, span // 2)
        last = min(after, span - first) if asymmetric else first
        return _Axis(kernel, stride, dilation if span else 1, first, last)

    first = axis(min(down, widest))
    return first, axis(min(across, widest)) if oblong else first


def _channels(draw: DrawFn, limits: _Limits, side: Side, room: int) -> tuple[int, tuple[int, int, int]]:
    """(channels to remove, (groups, input channels, output channels)) of at most `room` multiplications a pixel.

    What is kept is drawn, not what there was, since what makes a pruned layer slow is mostly found in itself.
    """
    most, most_others = limits.out_channels, limits.in_channels
    if side is Side.IN:
        most, most_others = most_others, most
    removed = _cut(draw, max(1, most - 1), draw(_farthest(most)))
    kept = limits.up_to(draw, most)
    pruned = min(removed + kept, max(2, most)) if limits.typical else removed + kept
    others = limits.up_to(draw, most_others)
    grouping = limits.mostly(draw, limits.grouping, 2 * _GROUPED, least=_DENSE)
    groups = limits.up_to(draw, limits.groups, least=2)
    if grouping == _DEPTHWISE:
        groups = min(pruned, room)
        return removed, (groups, groups, groups)
    pruned = min(pruned, room)
    # Rounded down, so that without groups there are as many channels at the least.
    groups = max(1, min(groups, pruned // 2)) if grouping == _GROUPED else 1
    pruned //= groups
    others = max(1, min(others // groups, room // (groups * pruned)))
    ins, outs = (others, pruned) if side is Side.OUT else (pruned, others)
    return removed, (groups, groups * ins, groups * outs)


@cache
def _farthest(channels: int) -> SearchStrategy[int]:
    """The most channels to remove of so many: all but one, or what is near a standard distance."""
    standard = [one for one in _NEAR_STANDARD if one < channels - 1]
    return st.sampled_from([max(1, channels - 1), *standard])


def _extents(
    draw: DrawFn, limits: _Limits, axes: tuple[_Axis, _Axis], channels: int, pixels: int
) -> tuple[int, int, int]:
    """(batch, height, width) with at most so many output pixels in all, and tensors that are not too large."""
    down, across = axes
    elements = max(1, LARGEST_TENSOR // channels)
    batch = min(draw(_one_of(_BATCHES)), pixels, elements)
    pixels, elements = min(pixels, elements) // batch, elements // batch
    height, width = (limits.up_to(draw, limits.size) for _ in range(2))
    height = down.size(min(height, isqrt(elements)), isqrt(pixels))
    if across is down:
        return batch, height, height
    return batch, height, across.size(min(width, max(1, elements // height)), pixels // down.outputs(height))
