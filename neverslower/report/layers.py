"""List layers: the name, shape and work of each distinct one, every place of it, and what of a model is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from neverslower.problem.model import Model
from neverslower.problem.networks import Layer, distinct_layers


def lines(layers: Iterable[Layer]) -> Iterator[str]:
    """Yield a line for each distinct layer: its name, descriptor, multiply-accumulates, and places."""
    distinct = distinct_layers(layers)
    names = max((len(layer.name) for layer in distinct), default=0)
    shapes = max((len(layer.problem.descriptor) for layer in distinct), default=0)
    for layer in distinct:
        work = _macs(layer.problem.macs)
        yield f"{layer.name:{names}}  {layer.problem.descriptor:{shapes}}  {work:>14}  {', '.join(layer.places)}"


def model_lines(model: Model) -> Iterator[str]:
    """Yield what a model holds: its counts and remarks, a line for each distinct layer, and one for all left out."""
    yield from model.notes()
    yield from lines(model.layers)
    yield from (f"left out: {left.place}: {left.what}, {_macs(left.macs)}" for left in model.left_out)


def _macs(macs: int) -> str:
    return f"{macs / 1e6:,.2f} MMACs"
