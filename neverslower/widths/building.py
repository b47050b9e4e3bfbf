"""Put the question of widths together: a model's groups, what its grid says, and what its channels are worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from neverslower.judge.verdict import STANDARD
from neverslower.maps.grid import Grid, LayerGrid, Pair, problem_at, unpruned_pair
from neverslower.models.weights import Weights
from neverslower.problem.model import Model
from neverslower.problem.networks import Layer
from neverslower.widths.importance import kept
from neverslower.widths.problem import Choice, Item, Price, Question, Total
from neverslower.widths.structure import Axis, Structure, module_of

TakenBack = AbstractSet[tuple[str, Pair]]
"""Layers, by the key of their unpruned problem, at pairs that are not to be planned with."""


@dataclass(frozen=True)
class Known:
    """What is known of a model: its structure, its estimates, its weights, and the worth of each group's channels.

    Every group keeps at least the share `floor` of its channels.
    """

    model: Model
    structure: Structure
    grid: Grid
    weights: Mapping[str, Weights]
    worth: Mapping[str, list[float]]
    floor: float = 0.0


def question_of(known: Known, taken_back: TakenBack = frozenset()) -> Question:
    """Return the question of widths. Raises NeverSlowerError where the grid does not have a layer.

    What the grid estimates to be slower than the unpruned layer has no price, and neither has what was taken back, nor
    what was not measured.
    """
    grids = {layer.place: known.grid.of(layer) for layer in known.model.layers}
    choices = tuple(_choices(known, grids))
    totals, items = [], []
    for layer in known.model.layers:
        inputs, outputs = known.structure.axes_of(layer)
        costs = _costs(grids[layer.place], taken_back)
        if len(inputs.parts) > 1:
            gone = {pair for key, pair in taken_back if key == layer.problem.key}
            total = _total(layer, inputs, grids[layer.place], gone)
            totals.append(total)
            costs |= _between(grids[layer.place], costs, gone)
            items.append(_of_total(layer, total, outputs, costs, choices))
            bias = _once(layer, _bias(layer, known.weights))
            items += _linear_items(layer.place, inputs, outputs, _unit_of(layer), bias, choices)
        else:
            items.append(_of_layer(layer, inputs, outputs, costs, choices, known.weights))
    items += _others(known, choices)
    return Question(choices, tuple(items), tuple(totals), _fixed(known))


def _fixed(known: Known) -> Price:
    """Return the price of what is neither a convolution nor a linear layer of a group."""
    counted = {module_of(layer.place) for layer in known.model.layers} | set(_linear(known))
    params = sum(one.parameters for name, one in known.weights.items() if name not in counted)
    macs = sum(left.macs for left in known.model.left_out if module_of(left.place) not in counted)
    return Price(params=params, macs=macs)


def work_of(known: Known, widths: Mapping[str, int]) -> Price:
    """Return the weights and biases, and the multiply-accumulates, of a model at any widths; its latency is left 0.

    Weights are those of convolutions and linear layers, as in `question_of`.
    """
    work = _fixed(known)
    for layer in known.model.layers:
        part = problem_at(layer.problem, known.structure.pair_at(layer, widths))
        params = math.prod(part.weight_shape) + _bias(layer, known.weights) * part.out_channels
        work += Price(params=_once(layer, params), macs=part.macs)
    for module, (inputs, outputs) in _linear(known).items():
        ins, outs, weights = inputs.at(widths), outputs.at(widths), known.weights[module]
        share = ins * outs / math.prod(weights.shape)
        work += Price(params=ins * outs + outs * weights.bias, macs=_macs_of(known, module) * share)
    return work


def _costs(grid: LayerGrid, taken_back: TakenBack) -> dict[Pair, float]:
    """Return what a layer costs at the pairs that may be planned with."""
    most, key = grid.cost * (1 + STANDARD.target), grid.unpruned.key
    return {pair: cost for pair, cost in grid.costs.items() if cost <= most and (key, pair) not in taken_back}


def _choices(known: Known, grids: Mapping[str, LayerGrid]) -> Iterator[Choice]:
    """Yield each group that may change with the widths that all of its layers were measured at."""
    for name, group in known.structure.free.items():
        widths = set(range(1, group.channels + 1))
        for layer in known.model.layers:
            for side, axis in enumerate(known.structure.axes_of(layer)):
                if len(axis.parts) == 1 and axis.parts[0][0] == name:
                    each = axis.parts[0][1]
                    counts = {pair[side] - axis.constant for pair in grids[layer.place].costs}
                    widths &= {count // each for count in counts if count % each == 0}
        wide = {width for width in widths if width >= known.floor * group.channels}
        yield Choice(name, tuple(sorted(wide | {group.channels})), kept(known.worth[name]))


# Convolutions


def _of_layer(
    layer: Layer,
    inputs: Axis,
    outputs: Axis,
    costs: Mapping[Pair, float],
    choices: Iterable[Choice],
    weights: Mapping[str, Weights],
) -> Item:
    """Return a layer that depends on two groups at most: on each pair of widths that was measured."""

    def price(pair: Pair) -> Price | None:
        if pair not in costs:
            return None
        part = problem_at(layer.problem, pair)
        params = math.prod(part.weight_shape) + _bias(layer, weights) * part.out_channels
        return Price(costs[pair], _once(layer, params), part.macs)

    return _item(layer.place, inputs, outputs, choices, lambda first, second: price((first, second)))


def _once(layer: Layer, params: int) -> int:
    """Return the parameters of a layer where it runs for the first time, and nothing where it runs again."""
    return params if layer.place == module_of(layer.place) else 0


def _bias(layer: Layer, weights: Mapping[str, Weights]) -> int:
    known = weights.get(module_of(layer.place))
    return int(known is not None and known.bias)


def _item(
    name: str, inputs: Axis, outputs: Axis, choices: Iterable[Choice], price: Callable[[int, int], Price | None]
) -> Item:
    """Return an item by a price for (input, output) channels, None where there is none."""
    groups = tuple(dict.fromkeys(group for axis in (inputs, outputs) for group, _ in axis.parts))
    options = {choice.name: choice.widths for choice in choices if choice.name in groups}
    prices: dict[tuple[int, ...], Price] = {}
    for widths in _combinations([options[group] for group in groups]):
        at = dict(zip(groups, widths, strict=True))
        if (known := price(inputs.at(at), outputs.at(at))) is not None:
            prices[widths] = known
    return Item(name, groups, prices)


def _combinations(options: list[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    if not options:
        yield ()
        return
    for first in options[0]:
        for rest in _combinations(options[1:]):
            yield (first, *rest)


# Layers that read several groups side by side


def _total(layer: Layer, inputs: Axis, grid: LayerGrid, gone: Iterable[Pair]) -> Total:
    """Return the total of a layer's input channels; what is `gone` splits the counts that were rounded up together."""
    groups = tuple(name for name, each in inputs.parts for _ in range(each))
    counts = sorted({pair[0] for pair in (*grid.costs, *gone)})
    return Total(f"the input of {layer.place}", groups, inputs.constant, tuple(counts))


def _between(grid: LayerGrid, costs: Mapping[Pair, float], gone: AbstractSet[Pair]) -> dict[Pair, float]:
    """Return what the counts between those of the grid cost: as the next larger one, and nothing for what is gone."""
    found: dict[Pair, float] = {}
    known = {first for first, _ in grid.costs}
    for count in {first for first, _ in gone} - known:
        above = min(first for first in known if first >= count)
        found |= {
            (count, second): cost
            for (first, second), cost in costs.items()
            if first == above and (count, second) not in gone
        }
    return found


def _of_total(
    layer: Layer, total: Total, outputs: Axis, costs: Mapping[Pair, float], choices: Iterable[Choice]
) -> Item:
    """Return the time of a layer by the total of its input channels, rounded up to one that was measured."""
    reads = Axis(0, ((total.name, 1),))
    own = Choice(total.name, total.counts, ())

    def price(first: int, second: int) -> Price | None:
        return Price(latency=costs[first, second]) if (first, second) in costs else None

    return _item(layer.place, reads, outputs, [*choices, own], price)


def _unit_of(layer: Layer) -> Price:
    """Return the price of one input channel and one output channel together, without a bias."""
    pairs = math.prod(unpruned_pair(layer.problem))
    return Price(params=_once(layer, math.prod(layer.problem.weight_shape)) / pairs, macs=layer.problem.macs / pairs)


def _linear_items(
    name: str, inputs: Axis, outputs: Axis, unit: Price, bias: int, choices: Iterable[Choice]
) -> Iterator[Item]:
    """Yield what each input group adds to a layer whose price is proportional to both of its axes, and its bias."""

    def price(first: int, second: int) -> Price:
        return Price(params=unit.params * first * second, macs=unit.macs * first * second)

    for part in inputs.parts:
        yield _item(name, Axis(0, (part,)), outputs, choices, price)
    if inputs.constant:
        yield _item(name, Axis(inputs.constant), outputs, choices, price)
    if bias:
        yield _item(name, Axis(0), outputs, choices, lambda _, second: Price(params=second))


# What is not a convolution


def _linear(known: Known) -> dict[str, tuple[Axis, Axis]]:
    """Return the (input, output) axes of the linear layers that a group has a part in."""
    convolutions = {module_of(layer.place) for layer in known.model.layers}
    found = {}
    for module, (inputs, outputs) in known.structure.axes.items():
        weights = known.weights.get(module)
        if module not in convolutions and weights is not None and len(weights.shape) == 2:
            outs, ins = weights.shape
            found[module] = (
                Axis(ins - _size(inputs, known), inputs.parts),
                Axis(outs - _size(outputs, known), outputs.parts),
            )
    return found


def _others(known: Known, choices: Iterable[Choice]) -> Iterator[Item]:
    """Yield the linear layers that a group has a part in; nobody times them, so they have no latency."""
    for module, (inputs, outputs) in _linear(known).items():
        weights = known.weights[module]
        unit = Price(params=1.0, macs=_macs_of(known, module) / math.prod(weights.shape))
        yield from _linear_items(module, inputs, outputs, unit, int(weights.bias), choices)


def _macs_of(known: Known, module: str) -> int:
    return sum(left.macs for left in known.model.left_out if module_of(left.place) == module)


def _size(axis: Axis, known: Known) -> int:
    """Return the channels of an axis that groups have, unpruned."""
    return axis.at({name: known.structure.free[name].channels for name, _ in axis.parts}) - axis.constant
