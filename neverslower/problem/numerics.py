"""Check whether an output is right: deterministic tensors, a float64 reference in numpy, a tolerance for each dtype."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from neverslower.problem.convolution import ConvProblem, DType, kept_channels
from neverslower.problem.epilogue import NOTHING, Added, applied
from neverslower.problem.reference import convolve_at, sample_of

Array = NDArray[np.float32]
Double = NDArray[np.float64]

TOLERANCES = {
    # Largest deviation as a fraction of the largest output. Sums of uniform values in [-1, 1] stay far below their
    # worst case, so these leave room for Winograd and for half-precision accumulation, and none for a wrong result.
    DType.FLOAT32: 1e-4,
    DType.TF32: 5e-3,
    DType.FLOAT16: 1e-2,
    DType.BFLOAT16: 2e-2,
}
_SEED = 20190103
HELD_BYTES = 256_000_000
"""The bytes of recently drawn tensors that are kept; as many bytes of float64 references are kept too."""
DRAWN_AT_ONCE = 1 << 24
"""Values that are drawn at once."""
K = TypeVar("K", bound=Hashable)
BYTES_EACH = 24
"""Bytes that each number of a problem takes while its output is checked: padded float64 tensors and float32 ones."""
BYTES_EACH_SAMPLED = 8
"""The same where a sample of the output is checked: a float32 tensor, and what the library makes of it."""


def tensors(problem: ConvProblem) -> tuple[Array, Array]:
    """Return (inputs, weights) of `input_shape` and `weight_shape`, in values that the dtype holds.

    TF32 rounds by itself. A pruned layer's weights are the first of the unpruned layer's. Raises MemoryError.
    """
    _require_memory(problem)
    inputs = _DRAWN.take(_SEED, problem.input_shape, problem.dtype)
    return inputs, _DRAWN.take(_SEED + 1, problem.weight_shape, problem.dtype)


def added_tensors(problem: ConvProblem) -> Added:
    """Return what the epilogue of a problem adds, in values that the dtype holds; see Added for the shapes.

    What is added to a pruned layer is the first of what is added to the unpruned one.
    """
    # As large as the outputs, or a bias that a library forgets would be lost in the tolerance of a deep layer.
    size = 2 * typical_output(problem)

    def drawn(number: int, *shape: int) -> Array:
        return quantise(size * _DRAWN.take(_SEED + number, shape, problem.dtype), problem.dtype)

    batch, channels, height, width = problem.output_shape
    bias = drawn(2, channels) if problem.epilogue.bias else None
    # Channels first, since the first values of a sequence go to the first channels.
    residual = drawn(3, channels, batch, height, width).swapaxes(0, 1) if problem.epilogue.residual else None
    return Added(bias, None if residual is None else np.ascontiguousarray(residual))


class _Recent(Generic[K]):
    """Arrays by key, those used last, as long as they fit together; the latest stays however large it is."""

    def __init__(self) -> None:
        self._held: OrderedDict[K, NDArray[Any]] = OrderedDict()
        self._bytes = 0  # A sum over thousands of arrays would be taken anew for each that is kept.

    def __iter__(self) -> Iterator[K]:
        return iter(self._held)

    def get(self, key: K) -> NDArray[Any] | None:
        """Return an array, which then is the one used last, or None."""
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key]

    def keep(self, key: K, array: NDArray[Any]) -> None:
        """Keep an array, and drop the least recently used ones until the rest fits."""
        self._bytes += array.nbytes - (self._held[key].nbytes if key in self._held else 0)
        self._held[key] = array
        self._held.move_to_end(key)
        while len(self._held) > 1 and self._bytes > HELD_BYTES:
            self._bytes -= self._held.popitem(last=False)[1].nbytes


class _Drawn:
    """Recently drawn values; a tensor with a smaller first size is the beginning of a larger one."""

    def __init__(self) -> None:
        self._held: _Recent[tuple[int, tuple[int, ...], DType]] = _Recent()

    def take(self, seed: int, shape: tuple[int, ...], dtype: DType) -> Array:
        """Return the first values of a seed's sequence in that shape; the caller must not write to them."""
        # numpy fills an array row by row, so one seed gives a pruned layer the first filters of the unpruned one.
        key = seed, shape[1:], dtype
        held = self._held.get(key)
        if held is None or len(held) < shape[0]:
            held = _draw(np.random.default_rng(seed), shape, dtype)
            self._held.keep(key, held)
        return held[: shape[0]]


def _draw(chance: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    """Return the first values of a sequence; drawn in slices, for in float64 all of them may not fit in memory."""
    drawn = np.empty(shape, np.float32)
    step = max(1, DRAWN_AT_ONCE // math.prod(shape[1:]))
    for first in range(0, len(drawn), step):
        part = drawn[first : first + step]
        part[...] = quantise(chance.uniform(-1, 1, part.shape), dtype)
    return drawn


_DRAWN = _Drawn()


def _require_memory(problem: ConvProblem) -> None:
    """Raise MemoryError for what this machine can't hold, before the kernel kills other processes for it."""
    each = BYTES_EACH if sample_of(problem) is None else BYTES_EACH_SAMPLED
    needed, there = problem.elements * each, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise MemoryError(f"tensors and reference take {needed / 1e9:,.0f} GB, this machine has {there / 1e9:.0f} GB")


def quantise(values: NDArray[np.floating], dtype: DType) -> Array:
    """Round to values that the dtype can hold, kept as float32."""
    if dtype is DType.FLOAT16:
        return values.astype(np.float16).astype(np.float32)
    single = values.astype(np.float32)
    if dtype is DType.BFLOAT16:
        # numpy has no bfloat16. It is the upper half of a float32, rounded to nearest, ties to even: add half a unit of
        # the half that stays, less one where its last bit is 0, and cut.
        bits = single.view(np.uint32)
        rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        return np.asarray((rounded & np.uint32(0xFFFF0000)).view(np.float32))
    return single


def convolve(problem: ConvProblem, inputs: Array, weights: Array, added: Added = NOTHING) -> Double:
    """Return the convolution and its epilogue in float64, of shape `problem.output_shape`.

    It takes one matrix product for each tap and group. Raises ValueError where `added` does not fit the epilogue.
    """
    top, bottom, left, right = problem.padding
    padded = np.pad(inputs.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    taps = weights.astype(np.float64)
    _, out_channels, rows, columns = problem.output_shape
    per_in, per_out = problem.in_channels // problem.groups, out_channels // problem.groups
    # Tap by tap needs no im2col buffer, which is kernel area times the input, and leaves the work to BLAS.
    output = np.zeros((problem.batch, problem.groups, per_out, rows * columns))
    for i in range(problem.kernel[0]):
        for j in range(problem.kernel[1]):
            window = _window(padded, problem, i, j).reshape(problem.batch, problem.groups, per_in, -1)
            tap = np.ascontiguousarray(taps[:, :, i, j]).reshape(problem.groups, per_out, per_in)
            # With one input channel per group the product is an outer one, which broadcasting does.
            output += tap @ window if per_in > 1 else tap * window
    return applied(problem.epilogue, output.reshape(problem.output_shape), added)


def _window(padded: Double, problem: ConvProblem, i: int, j: int) -> Double:
    """Return the pixels that tap (i, j) sees at each output pixel, of shape (batch, in_channels, rows, columns)."""
    (stride_h, stride_w), (dilation_h, dilation_w) = problem.stride, problem.dilation
    top, left = i * dilation_h, j * dilation_w
    bottom = top + (problem.out_height - 1) * stride_h + 1
    right = left + (problem.out_width - 1) * stride_w + 1
    return np.ascontiguousarray(padded[:, :, top:bottom:stride_h, left:right:stride_w])


def deviation(output: NDArray[np.floating], expected: NDArray[np.floating], typical: float = 0.0) -> float:
    """Return the largest absolute difference over the largest expected value; infinite for NaN or a wrong shape.

    `typical` is the least divisor, for outputs of so few values that all of them may be sums that cancel.
    """
    if output.shape != expected.shape:
        return float("inf")
    scale = max(float(np.max(np.abs(expected))), typical) or 1.0
    error = float(np.max(np.abs(output - expected))) / scale
    return error if np.isfinite(error) else float("inf")


def typical_output(problem: ConvProblem) -> float:
    """Return the standard deviation of an output of `tensors`: each tap adds a product of two uniforms in [-1, 1]."""
    _, depth, kernel_h, kernel_w = problem.weight_shape
    return float(np.sqrt(depth * kernel_h * kernel_w)) / 3


class References:
    """Float64 references of recent layers; a pruned layer's reference is the first channels of the unpruned layer's."""

    def __init__(self) -> None:
        self._held: _Recent[ConvProblem] = _Recent()

    def error(
        self, problem: ConvProblem, inputs: Array, weights: Array, output: NDArray[np.floating]
    ) -> tuple[float, float]:
        """Return (the deviation of an output of `tensors` and `added_tensors`, the fraction of it that was compared).

        Where the whole reference would take long, a sample is compared; a value that is no number is wrong anywhere.
        """
        typical = typical_output(problem)
        at = sample_of(problem)
        if at is None:
            return deviation(output, self.expected(problem, inputs, weights), typical), 1.0
        if output.shape != problem.output_shape or not np.isfinite(output).all():
            return float("inf"), 1.0
        expected = convolve_at(problem, inputs, weights, at, added_tensors(problem))
        return deviation(at.of(output), expected, typical), at.share(problem)

    def expected(self, problem: ConvProblem, inputs: Array, weights: Array) -> Double:
        """Return the float64 output of `tensors` and `added_tensors`, of shape `problem.output_shape`."""
        layer = next((layer for layer in self._held if _begins(layer, problem)), problem)
        held = self._held.get(layer)
        if held is None:
            held = convolve(problem, inputs, weights, added_tensors(problem))
            self._held.keep(layer, held)
        return held[:, : problem.out_channels]


class Outputs:
    """A library's own outputs of `tensors`, those seen last: what was computed once need not be computed again."""

    def __init__(self) -> None:
        self._held: _Recent[ConvProblem] = _Recent()

    def keep(self, problem: ConvProblem, output: Array) -> None:
        """Keep the output of `tensors(problem)`."""
        self._held.keep(problem, output)

    def of_same_tensors(self, unpruned: ConvProblem, pruned: ConvProblem) -> tuple[Array, Array] | None:
        """Return both outputs, where they are there and `tensors` of the one are the beginning of the other's."""
        both = self._held.get(unpruned), self._held.get(pruned)
        if both[0] is None or both[1] is None or unpruned == pruned or not _begins(unpruned, pruned):
            return None
        return both[0], both[1]


def _begins(held: ConvProblem, problem: ConvProblem) -> bool:
    """Return whether `problem`'s output is the beginning of `held`'s: ungrouped, and alike but for fewer filters."""
    # In a grouped layer fewer filters per group are not the first filters of the whole.
    alike = replace(problem, out_channels=held.out_channels) == held if problem.groups == 1 else problem == held
    return alike and problem.out_channels <= held.out_channels


def pruned_tensors(unpruned: ConvProblem, pruned: ConvProblem) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return tensors under which `pruned` must give the kept channels of `unpruned`'s output.

    They come as ((inputs, weights) of the unpruned layer, the same of the pruned one). Input channels that pruning
    removes are zero for the unpruned layer, which is what a pruned producer means to its consumer.
    """
    kept_in, kept_out = kept_channels(unpruned, pruned)
    inputs, weights = tensors(unpruned)
    visible = np.zeros_like(inputs)
    visible[:, kept_in] = inputs[:, kept_in]
    filters = weights[kept_out]
    # With fewer groups (depthwise) each filter keeps its depth; with as many, it loses the pruned input channels.
    if pruned.groups == unpruned.groups:
        filters = filters[:, : pruned.weight_shape[1]]
    return (visible, weights), (np.ascontiguousarray(inputs[:, kept_in]), np.ascontiguousarray(filters))


def pruned_added_tensors(unpruned: ConvProblem, pruned: ConvProblem) -> tuple[Added, Added]:
    """Return what the epilogues of both layers add where the tensors are `pruned_tensors`."""
    whole = added_tensors(unpruned)
    return whole, whole.kept(kept_channels(unpruned, pruned)[1])


def padded_tensors(unpruned: ConvProblem, pruned: ConvProblem, tensors: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return the pruned layer's (inputs, weights) in the unpruned layer's shapes, zero at the removed channels."""
    kept_in, kept_out = kept_channels(unpruned, pruned)
    inputs = np.zeros(unpruned.input_shape, np.float32)
    weights = np.zeros(unpruned.weight_shape, np.float32)
    inputs[:, kept_in] = tensors[0]
    weights[kept_out, : pruned.weight_shape[1]] = tensors[1]
    return inputs, weights
