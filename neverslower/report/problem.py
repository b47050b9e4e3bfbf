"""One problem explained: its shape, its work, and the channel counts that it is pruned to."""

from __future__ import annotations

from collections.abc import Iterator

from neverslower.problem.comparison import pruning_distances
from neverslower.problem.convolution import ConvProblem, Side

_PRUNED = {
    Side.OUT: "pruned output channels",
    Side.IN: "pruned input channels",
    Side.TOGETHER: "pruned together, output and input channels",
}


def lines(problem: ConvProblem) -> Iterator[str]:
    """Yield the lines that explain a problem."""
    yield str(problem)
    yield f"  input {problem.input_shape}, weights {problem.weight_shape}, output {problem.output_shape}"
    yield f"  {problem.macs:,} multiply-accumulates, {problem.bytes:,} bytes"
    for side in Side:
        pruned = [problem.prune(distance, side) for distance, _ in pruning_distances(problem, side)]
        counts = [str(part.channels(side)) for part in pruned]
        if side is Side.TOGETHER:
            counts = [f"{part.out_channels} and {part.in_channels}" for part in pruned]
        yield f"  {_PRUNED[side]}: {', '.join(counts) or 'none'}"
