"""The channel counts to which a model may be padded, and the layers' shapes that come of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from neverslower.models.coupling import OUT, Group, Member
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.networks import Layer

MULTIPLES = (8, 16, 32)
"""Padding is tried to the next multiple of each: libraries make tiles and vectors of such sizes."""
FULL_PRODUCT = 2
"""Up to so many groups that meet in a layer, every combination of their counts is tried; else equal multiples."""
Widths = Mapping[str, int]
"""The channels of each group that is padded, by its name; the others are as they are."""


@dataclass(frozen=True)
class Padding:
    """What a model may be padded to: its layers, its groups, and the counts that are tried for each of them.

    `advised` are counts that a file of advice names, by layer.
    """

    layers: tuple[Layer, ...]
    groups: tuple[Group, ...]
    advised: Mapping[str, Sequence[int]]

    @cached_property
    def choices(self) -> dict[str, list[int]]:
        """Return the counts that are tried for each group that may be padded, ascending, by its name."""
        return {group.name: counts for group in self.groups if not self._why_not(group) and (counts := self._of(group))}

    @property
    def left(self) -> dict[str, str]:
        """Return why a group that heads layers is not tried, by its name."""
        reasons = {}
        for group in self.groups:
            if group.members_on(OUT) and group.name not in self.choices:
                reasons[group.name] = self._why_not(group) or f"a multiple of {MULTIPLES[-1]} already"
        return reasons

    def _why_not(self, group: Group) -> str:
        unmeasured = [one.layer for one in group.members_on(OUT) if one.layer not in self._places]
        if not group.members_on(OUT):
            return "no layer makes it"
        return group.held or group.unpaddable or (f"{unmeasured[0]} is not measured" if unmeasured else "")

    @cached_property
    def _places(self) -> set[str]:
        return {module_of(layer) for layer in self.layers}

    def _of(self, group: Group) -> list[int]:
        rounded = {rounded_up(group.channels, size) for size in MULTIPLES}
        named = {count for member in group.members_on(OUT) for count in self.advised.get(member.layer, ())}
        return sorted(count for count in rounded | named if count > group.channels)

    def problem(self, layer: Layer, widths: Widths) -> ConvProblem:
        """Return what a layer is asked for where groups have these widths."""
        grown = {"out": 0, "in": 0}
        for group, member in self._touching[module_of(layer)]:
            grown[member.axis] += (widths.get(group.name, group.channels) - group.channels) * member.width
        problem = layer.problem
        inputs = problem.in_channels + grown["in"]
        groups = inputs if problem.depthwise else problem.groups
        return replace(problem, in_channels=inputs, out_channels=problem.out_channels + grown["out"], groups=groups)

    def groups_of(self, layer: Layer) -> list[str]:
        """Return the names of the groups that may be padded and have channels of a layer."""
        return list(dict.fromkeys(g.name for g, _ in self._touching[module_of(layer)] if g.name in self.choices))

    @cached_property
    def _touching(self) -> dict[str, list[tuple[Group, Member]]]:
        found: dict[str, list[tuple[Group, Member]]] = {place: [] for place in self._places}
        for group in self.groups:
            for member in group.members:
                if member.layer in found:
                    found[member.layer].append((group, member))
        return found

    def changed(self, widths: Widths) -> Iterator[tuple[Layer, ConvProblem]]:
        """Yield each layer that these widths change, with what it is asked for then."""
        for layer in self.layers:
            if (problem := self.problem(layer, widths)) != layer.problem:
                yield layer, problem

    def tried(self) -> Iterator[tuple[Layer, ConvProblem]]:
        """Yield every layer with every shape that it is timed at."""
        for layer in self.layers:
            names = self.groups_of(layer)
            shapes = {self.problem(layer, widths): None for widths in self._combinations(names)}
            yield from ((layer, problem) for problem in shapes if problem != layer.problem)

    def _combinations(self, names: Sequence[str]) -> Iterator[Widths]:
        if len(names) > FULL_PRODUCT:
            yield from (self.rounded(size, names) for size in MULTIPLES)
            return
        counts = [[(name, count) for count in self.choices[name]] for name in names]
        for chosen in itertools.product(*([None, *one] for one in counts)):
            yield dict(one for one in chosen if one)

    def rounded(self, size: int, names: Sequence[str] | None = None) -> Widths:
        """Return the widths at which every group, or each of some, is the next multiple of a size."""
        channels = {group.name: group.channels for group in self.groups}
        wide = {name: rounded_up(channels[name], size) for name in self.choices if names is None or name in names}
        return {name: width for name, width in wide.items() if width > channels[name]}

    def added(self, widths: Widths) -> dict[str, dict[str, list[list[int]]]]:
        """Return what is added to each module, as models/padding.py takes it."""
        found: dict[str, dict[str, list[list[int]]]] = {}
        for group in self.groups:
            if extra := widths.get(group.name, group.channels) - group.channels:
                axes = [(one, one.axis) for one in group.members] + [(one, "norm") for one in group.norms]
                for member, axis in axes:
                    place = member.offset + group.channels * member.width
                    found.setdefault(member.layer, {}).setdefault(axis, []).append([place, extra * member.width])
        return found


def rounded_up(count: int, size: int) -> int:
    """Return the next multiple of a size, the count itself where it is one."""
    return -(-count // size) * size


def module_of(layer: Layer) -> str:
    """Return the module in which a layer is: one that runs more than once has `#2` and so on behind its place."""
    return layer.place.partition("#")[0]
