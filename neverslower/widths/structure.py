"""How a model's layers hang on its groups of coupled channels: what decides each layer's input and output channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from neverslower.maps import grid
from neverslower.maps.grid import Pair
from neverslower.models.coupling import Group
from neverslower.problem.model import Model
from neverslower.problem.networks import Layer, distinct_layers


@dataclass(frozen=True)
class Axis:
    """One axis of a layer: `constant` channels, and for each channel of a group so many (group, how many)."""

    constant: int
    parts: tuple[tuple[str, int], ...] = ()

    def at(self, widths: Mapping[str, int]) -> int:
        """Return the channels of this axis at widths of the groups."""
        return self.constant + sum(widths[group] * each for group, each in self.parts)


@dataclass(frozen=True)
class Structure:
    """The groups that may change, why the others may not, and the (input, output) axes of each layer by its module.

    Layers that run several times have one module, and so one entry. `groups` are all groups, free or held.
    """

    groups: tuple[Group, ...]
    free: Mapping[str, Group]
    held: Mapping[str, str]
    axes: Mapping[str, tuple[Axis, Axis]]

    def axes_of(self, layer: Layer) -> tuple[Axis, Axis]:
        """Return the (input, output) axes of a layer; one that no group knows keeps its channels."""
        inputs, outputs = grid.unpruned_pair(layer.problem)
        return self.axes.get(module_of(layer.place), (Axis(inputs), Axis(outputs)))

    def groups_of(self, place: str) -> list[Group]:
        """Return the groups, free or held, that the layer at a place reads or makes."""
        module = module_of(place)
        return [group for group in self.groups if any(member.layer == module for member in group.members)]

    def pair_at(self, layer: Layer, widths: Mapping[str, int]) -> Pair:
        """Return the (input, output) channels of a layer at widths of the groups."""
        inputs, outputs = self.axes_of(layer)
        return inputs.at(widths), outputs.at(widths)


def module_of(place: str) -> str:
    """Return the module that runs at a place: without the `#2` of one that runs a second time."""
    return place.partition("#")[0]


def structure_of(model: Model, groups: Sequence[Group]) -> Structure:
    """Return how a model hangs on its groups; what can't be planned for is held, with the reason."""
    held = {group.name: group.held for group in groups if group.held}
    sizes = _sizes(model, groups)
    while more := _unplannable(sizes, groups, held):
        held |= more
    free = {group.name: group for group in groups if group.name not in held}
    axes = {
        module: (_axis(module, "in", size[0], free.values()), _axis(module, "out", size[1], free.values()))
        for module, size in sizes.items()
    }
    return Structure(tuple(groups), free, held, axes)


def _sizes(model: Model, groups: Iterable[Group]) -> dict[str, Pair]:
    """Return the (input, output) channels of each convolution, and of each other layer that a group has in it."""
    sizes = {module_of(layer.place): grid.unpruned_pair(layer.problem) for layer in model.layers}
    members = [(member, group) for group in groups for member in group.members]
    for member, group in members:
        end = member.offset + group.channels * member.width
        if not any(member.layer == module_of(layer.place) for layer in model.layers):
            inputs, outputs = sizes.get(member.layer, (0, 0))
            reads = member.axis == "in"
            sizes[member.layer] = (max(inputs, end if reads else 0), max(outputs, 0 if reads else end))
    return sizes


def _axis(module: str, axis: str, channels: int, free: Iterable[Group]) -> Axis:
    parts = [
        (group.name, member.width, group.channels)
        for group in free
        for member in group.members_on(axis)
        if member.layer == module
    ]
    constant = channels - sum(width * size for _, width, size in parts)
    return Axis(constant, tuple((name, width) for name, width, _ in parts))


def _unplannable(sizes: Mapping[str, Pair], groups: Iterable[Group], held: Mapping[str, str]) -> dict[str, str]:
    """Return the groups that must be held although they may change: their layer writes several of them side by side."""
    free = [group for group in groups if group.name not in held]
    more: dict[str, str] = {}
    for module, (_, outputs) in sizes.items():
        axis = _axis(module, "out", outputs, free)
        if len(axis.parts) > 1:
            more |= {name: f"{module} writes several groups side by side" for name, _ in axis.parts}
        if axis.constant < 0:
            more |= {name: f"{module} has fewer channels than its groups" for name, _ in axis.parts}
    return more


# What has to be measured


def wanted_pairs(model: Model, structure: Structure, step: int, points: int) -> dict[Layer, list[Pair]]:
    """Return the pairs that a grid of a model needs: of each distinct layer, by what its groups let it have.

    A layer that can't change is measured as it is.
    """
    options = {name: grid.axis(group.channels, step, points) for name, group in structure.free.items()}
    return pairs_at(model, structure, options, step, points)


def pairs_at(
    model: Model,
    structure: Structure,
    options: Mapping[str, Sequence[int]],
    step: int = grid.STEP,
    points: int = grid.POINTS,
) -> dict[Layer, list[Pair]]:
    """Return the pairs of each distinct layer where each group has one of its `options`.

    The input of a layer that reads several groups side by side has the usual counts of a grid.
    """
    found: dict[str, dict[Pair, None]] = {}
    for layer in model.layers:
        inputs, outputs = structure.axes_of(layer)
        pairs = _pairs(layer, inputs, outputs, options, step, points)
        found.setdefault(layer.problem.key, {}).update(dict.fromkeys(pairs))
    return {layer: list(found[layer.problem.key]) for layer in distinct_layers(model.layers)}


def _pairs(
    layer: Layer, inputs: Axis, outputs: Axis, options: Mapping[str, Sequence[int]], step: int, points: int
) -> list[Pair]:
    names = {name for name, _ in (*inputs.parts, *outputs.parts)}
    if len(names) <= 1:
        each = [dict.fromkeys(names, width) for name in names for width in options[name]] or [{}]
        return [(inputs.at(widths), outputs.at(widths)) for widths in each]
    firsts = _counts(inputs, layer.problem.in_channels, options, step, points)
    seconds = _counts(outputs, layer.problem.out_channels, options, step, points)
    return [(first, second) for first in firsts for second in seconds]


def _counts(axis: Axis, channels: int, options: Mapping[str, Sequence[int]], step: int, points: int) -> list[int]:
    """Return the counts of one axis; of one that reads several groups those that a grid usually has."""
    if len(axis.parts) > 1:
        return grid.axis(channels, step, points)
    if not axis.parts:
        return [channels]
    name = axis.parts[0][0]
    return [axis.at({name: width}) for width in options[name]]
