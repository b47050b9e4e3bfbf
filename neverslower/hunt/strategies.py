"""Draw layers with Hypothesis: shaped like those of networks, or freely, each with some of its channels pruned.

Every example makes the same choices in the same order; each choice is then cut to what is left of the space, and
nothing is filtered. So a choice keeps its meaning while Hypothesis simplifies the others: a network's layer becomes a
free one with the same counts, and these come down one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cache
from math import isqrt, prod
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from neverslower.errors import NeverSlowerError
from neverslower.problem.comparison import STANDARD_DISTANCES, Comparison
from neverslower.problem.convolution import ConvProblem, DType, Layout, Side
from neverslower.problem.epilogue import PLAIN, Epilogue
from neverslower.problem.networks import NETWORKS, Layer, distinct_layers, network

T = TypeVar("T")
LARGEST_TENSOR = 2_000_000
"""Elements of a drawn input or output at most; networks' layers with as few multiplications have fewer at batch 1."""
AMPLE = 10**9
"""Counts are drawn up to this and then cut to a network's own: nearly all lie above that one, and so become it."""

MODULUS = 32
"""Drawn layers keep counts of each remainder modulo this about equally often, where they have so many channels."""
_AS_DRAWN = -1

_DENSE, _DEPTHWISE, _GROUPED = range(3)
_UNLIKE = ((False, False), (False, False), (False, False), (True, False), (False, True))
"""Choices of (the axes differ, the padding at both ends of an axis differs); mostly neither does."""
_DILATIONS = (1, 1, 1, 2, 3)
_BATCHES = (1, 1, 1, 1, 1, 1, 2, 3, 4)
_NEAR_STANDARD = sorted(
    {max(1, distance + offset) for distance in STANDARD_DISTANCES for offset in (-1, 0, 1)}, reverse=True
)


@dataclass(frozen=True)
class Space:
    """The space to draw from: a backend's capabilities, the sides to prune, the most multiply-accumulates of a layer.

    Every drawn layer has the same `epilogue`.

    Raises ValueError where no layer in it could be pruned.
    """

    dtypes: tuple[DType, ...] = (DType.FLOAT32,)
    layouts: tuple[Layout, ...] = (Layout.NCHW,)
    sides: tuple[Side, ...] = (Side.OUT,)
    groups: bool = True
    dilation: bool = True
    asymmetric_padding: bool = True
    largest_macs: int = 30_000_000
    epilogue: Epilogue = PLAIN

    def __post_init__(self) -> None:
        if not (self.dtypes and self.layouts and self.sides and self.largest_macs >= 2):
            raise ValueError(f"{self}: nothing in it can be pruned")

    def holds(self, comparison: Comparison) -> bool:
        """Return whether a comparison is of this space's formats and sides, and its layer is no larger than allowed."""
        problem = comparison.reference
        of_its_kind = problem.dtype in self.dtypes and problem.layout in self.layouts and comparison.side in self.sides
        tensors = (prod(problem.input_shape), prod(problem.output_shape))
        small = problem.macs <= self.largest_macs and max(tensors) <= LARGEST_TENSOR
        return of_its_kind and small and problem.epilogue == self.epilogue


@cache
def _one_of(choices: tuple[T, ...]) -> SearchStrategy[T]:
    """Return a strategy for one of several, cached because building strategies takes longer than drawing from them."""
    return st.sampled_from(choices) if len(choices) > 1 else st.just(choices[0])


@dataclass(frozen=True)
class _Limits:
    """The largest counts of a layer. Those of a network's layer are `typical`: mostly the largest count is drawn."""

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
        """Draw a count that shrinks towards the least."""
        return _cut(draw, AMPLE, most, least) if self.typical else draw(st.integers(least, most))

    def mostly(self, draw: DrawFn, most: int, drawn: int, least: int = 1) -> int:
        """Draw a count that is often `most`, in free layers too: there it is cut from a count up to `drawn`."""
        return _cut(draw, AMPLE if self.typical else drawn, most, least)


def _cut(draw: DrawFn, drawn: int, most: int, least: int = 1) -> int:
    """Draw a count up to `drawn` and cut it to `most`, which becomes likely; the count shrinks towards the least."""
    return min(draw(st.integers(least, drawn)), most)


@dataclass(frozen=True)
class _Axis:
    """One spatial axis; its padding is smaller than what a window spans, so that one output is always possible."""

    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def least(self) -> int:
        """Return the input size that gives one output."""
        return (self.kernel - 1) * self.dilation + 1 - self.before - self.after

    def size(self, wanted: int, outputs: int) -> int:
        """Return the input size nearest to the wanted one that gives from 1 to `outputs` outputs."""
        return max(self.least, min(wanted, outputs * self.stride - 1 + self.least))

    def outputs(self, size: int) -> int:
        """Return the number of output pixels of an input of this size."""
        return (size - self.least) // self.stride + 1


@st.composite
def comparisons(draw: DrawFn, backend: str, space: Space, spread: bool = True) -> Comparison:
    """Draw a layer within `space` and the same layer with some channels pruned; two in three are like networks'.

    Unless `spread` is false, the channels kept are mostly moved to a remainder modulo MODULUS that is drawn by itself:
    networks' layers pruned by standard distances have few different ones.
    """
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
        epilogue=space.epilogue,
    )
    step = problem.prune_step(side)
    distance = step * min(-(-removed // step), problem.channels(side) // step - 1)
    if spread:
        distance = _moved(problem.channels(side), distance, step, draw(_REMAINDERS))
    return Comparison(backend, Layer("", 0, problem.descriptor, problem), problem.prune(distance, side), side)


_REMAINDERS = st.sampled_from((_AS_DRAWN, *range(MODULUS)))


def _moved(channels: int, distance: int, step: int, remainder: int) -> int:
    """Return the distance nearest to this one that leaves a count of this remainder, this one where there is none."""
    reach = step * MODULUS
    within = range(max(step, distance - reach), min(channels, distance + reach + 1), step)
    fitting = [near for near in within if (channels - near) % MODULUS == remainder]
    return min(fitting, key=lambda near: abs(near - distance), default=distance)


_STEPS = (-1, 1, -2, 2, -4, 4, -8, 8, -16, 16)
_KEPT, _REMOVED, _OTHERS, _SIZE = range(4)


@st.composite
def near(draw: DrawFn, earlier: tuple[Comparison, ...], space: Space) -> Comparison:
    """Draw what differs from an earlier example in a number or two; where that fits nowhere, draw the example."""
    known: Comparison = draw(_one_of(earlier))
    changes = [0, 0, 0, 0]
    for _ in range(draw(_one_of((1, 1, 2)))):
        changes[draw(st.integers(_KEPT, _SIZE))] = draw(_one_of(_STEPS))
    if known.reference.groups > 1:  # Channels of groups go together: their size alone is changed.
        changes[:_SIZE] = [0, 0, 0]
    drawn = _changed(known, changes)
    return drawn if drawn and space.holds(drawn) else known


def _changed(known: Comparison, changes: Sequence[int]) -> Comparison | None:
    """Return a comparison with these changes of its numbers, None where nothing valid is left."""
    problem, side = known.reference, known.side
    pruned, others = changes[_KEPT] + changes[_REMOVED], changes[_OTHERS]
    outs, ins = (pruned, others) if side is Side.OUT else (others, pruned)
    try:
        changed = replace(
            problem,
            out_channels=problem.out_channels + outs,
            in_channels=problem.in_channels + ins,
            height=problem.height + changes[_SIZE],
            width=problem.width + changes[_SIZE],
        )
        candidate = changed.prune(known.distance + changes[_REMOVED], side)
    except NeverSlowerError:
        return None
    return Comparison(known.backend, Layer("", 0, changed.descriptor, changed), candidate, side)


@cache
def _limits(space: Space) -> SearchStrategy[_Limits]:
    """Return a strategy for limits: free ones first, then about twice as many of networks' layers.

    Hypothesis shrinks towards the first, which are the widest: there each count can still come down by itself.
    """
    groupings = (_GROUPED, _GROUPED, _DEPTHWISE, _DENSE) if space.groups else (_DENSE,)
    every = itertools.product(groupings, (512, 128, 32, 8), (7, 5, 3, 3, 1, 1), (3, 2, 1, 1))
    free = [_free(*counts) for counts in every]
    layers = distinct_layers([layer for name in NETWORKS for layer in network(name)])
    problems = [layer.problem for layer in layers if space.groups or layer.problem.groups == 1]
    fitting = {
        _typical(problem) for problem in problems if 2 * problem.kernel[0] * problem.kernel[1] <= space.largest_macs
    }
    plain = sorted(fitting, key=_complexity)
    return st.sampled_from([*free, *(limits for limits in plain for _ in range(2 * len(free) // len(plain)))])


def _complexity(limits: _Limits) -> tuple[object, ...]:
    """Return a key that sorts plain layers first, since Hypothesis shrinks towards them."""
    return limits.grouping, limits.kernel, limits.stride, limits.out_channels, astuple(limits)


def _free(grouping: int, channels: int, kernel: int, stride: int) -> _Limits:
    """Return the limits of a layer unlike those of networks: up to 32 groups and 56×56 pixels."""
    return _Limits(kernel, stride, 3, grouping, 32, channels, channels, 56, typical=False)


def _typical(problem: ConvProblem) -> _Limits:
    """Return the limits of a network's layer; all of these are square, and dense or depthwise."""
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
    """Draw both axes, mostly the same one twice; otherwise their kernels differ, and so does the padding they allow."""
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
    """Draw (channels to remove, (groups, input channels, output channels)) of at most `room` multiplications a pixel.

    The channels kept are drawn, not those of the unpruned layer, since a pruned layer is mostly slow for its own count.
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
    """Return a strategy for the number of channels to remove: at most all but one, or close to a standard distance."""
    standard = [distance for distance in _NEAR_STANDARD if distance < channels - 1]
    return st.sampled_from([max(1, channels - 1), *standard])


def _extents(
    draw: DrawFn, limits: _Limits, axes: tuple[_Axis, _Axis], channels: int, pixels: int
) -> tuple[int, int, int]:
    """Draw (batch, height, width) with at most `pixels` output pixels in all, and tensors that are not too large."""
    down, across = axes
    elements = max(1, LARGEST_TENSOR // channels)
    batch = min(draw(_one_of(_BATCHES)), pixels, elements)
    pixels, elements = min(pixels, elements) // batch, elements // batch
    height, width = (limits.up_to(draw, limits.size) for _ in range(2))
    height = down.size(min(height, isqrt(elements)), isqrt(pixels))
    if across is down:
        return batch, height, height
    return batch, height, across.size(min(width, max(1, elements // height)), pixels // down.outputs(height))
