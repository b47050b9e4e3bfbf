"""The float64 reference of a convolution at a sample of its outputs, for a problem of which the whole takes too long.

A sample has the first and the last image, channel, row and column, where mistakes of indexing show, and others spread
between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neverslower.problem.convolution import ConvProblem
from neverslower.problem.epilogue import NOTHING, Added, applied

Indices = NDArray[np.intp]
Double = NDArray[np.float64]

WHOLE_MACS = 2_000_000_000
"""Multiply-accumulates up to which the whole output is computed: half a second on one core."""
SAMPLED_MACS = 200_000_000
"""Multiply-accumulates that a sample takes."""
MOST_IMAGES, MOST_CHANNELS = 2, 32


@dataclass(frozen=True, eq=False)
class Sample:
    """Where an output is compared: the indices of images, channels, rows and columns, every combination of them."""

    images: Indices
    channels: Indices
    rows: Indices
    columns: Indices

    def of(self, output: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return an output of shape (batch, out_channels, out_height, out_width) at the sample."""
        return np.asarray(output[np.ix_(self.images, self.channels, self.rows, self.columns)])

    def of_added(self, added: Added) -> Added:
        """Return what an epilogue adds at the sample."""
        residual = None if added.residual is None else self.of(added.residual).astype(np.float32)
        return Added(None if added.bias is None else added.bias[self.channels], residual)

    def share(self, problem: ConvProblem) -> float:
        """Return the fraction of the problem's outputs that is compared."""
        here = math.prod(map(len, (self.images, self.channels, self.rows, self.columns)))
        return here / math.prod(problem.output_shape)


def sample_of(problem: ConvProblem) -> Sample | None:
    """Return where the problem's output is compared, None where all of it is."""
    if problem.macs <= WHOLE_MACS:
        return None
    images, channels, height, width = problem.output_shape
    images, channels = min(images, MOST_IMAGES), min(channels, MOST_CHANNELS)
    _, depth, kernel_h, kernel_w = problem.weight_shape
    pixels = max(4, SAMPLED_MACS // (depth * kernel_h * kernel_w * images * channels))
    rows = min(height, max(2, math.isqrt(pixels)))
    columns = min(width, max(2, pixels // rows))
    counts = zip((images, channels, rows, columns), problem.output_shape, strict=True)
    return Sample(*(_spread(count, size) for count, size in counts))


def _spread(count: int, size: int) -> Indices:
    """Return `count` indices from the first to the last of `size`, evenly spread."""
    return np.unique(np.linspace(0, size - 1, count).round().astype(np.intp))


def convolve_at(
    problem: ConvProblem,
    inputs: NDArray[np.floating],
    weights: NDArray[np.floating],
    at: Sample,
    added: Added = NOTHING,
) -> Double:
    """Return the convolution and its epilogue in float64 at a sample, of shape (images, channels, rows, columns)."""
    per_in, per_out = problem.in_channels // problem.groups, problem.out_channels // problem.groups
    output = np.empty((len(at.images), len(at.channels), len(at.rows), len(at.columns)))
    for group in np.unique(at.channels // per_out):
        mine = np.flatnonzero(at.channels // per_out == group)
        image = inputs[at.images, group * per_in : (group + 1) * per_in]
        seen = _windows(problem, image, at).reshape(-1, per_in * math.prod(problem.kernel))
        filters = weights[at.channels[mine]].reshape(len(mine), -1).astype(np.float64)
        values = (seen @ filters.T).reshape(len(at.images), len(at.rows), len(at.columns), len(mine))
        output[:, mine] = np.moveaxis(values, 3, 1)
    return applied(problem.epilogue, output, at.of_added(added))


def _windows(problem: ConvProblem, image: NDArray[np.floating], at: Sample) -> Double:
    """Return what the sampled pixels see, of shape (images, rows, columns, channels, kernel height, kernel width)."""
    top, _, left, _ = problem.padding
    axes = zip((at.rows, at.columns), problem.stride, problem.dilation, problem.kernel, (top, left), strict=True)
    down, across = (
        pixels[:, None] * stride + np.arange(taps)[None, :] * dilation - before
        for pixels, stride, dilation, taps, before in axes
    )
    inside_h, inside_w = (down >= 0) & (down < problem.height), (across >= 0) & (across < problem.width)
    clipped_h, clipped_w = np.clip(down, 0, problem.height - 1), np.clip(across, 0, problem.width - 1)
    seen = image[:, :, clipped_h[:, None, :, None], clipped_w[None, :, None, :]].astype(np.float64)
    seen *= inside_h[:, None, :, None] & inside_w[None, :, None, :]
    return np.ascontiguousarray(np.moveaxis(seen, 1, 3))
