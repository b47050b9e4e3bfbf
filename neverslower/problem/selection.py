"""Turn the user's words into comparisons: which layers, formats and pruning distances a run asks for."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from neverslower.errors import UnknownName
from neverslower.problem.comparison import Comparison, pruning_distances
from neverslower.problem.convolution import DType, Layout, Side, parse_descriptor
from neverslower.problem.networks import NETWORKS, Layer, distinct_layers, network

Format = tuple[DType, Layout]


@dataclass(frozen=True)
class Profile:
    """How much a run measures: the networks when none is named, and the samples of each comparison.

    `preset` limits how long each comparison is measured (see sequential.Preset). Where times are set against another
    run's, now or later, each is measured in at least `passes` fresh processes. `few` lets a slow backend measure a few
    layers only. `time_budget` is in seconds; None means no limit.
    """

    name: str
    networks: tuple[str, ...]
    preset: str
    passes: int
    every_format: bool
    few: bool
    time_budget: float | None


PROFILES = {
    "quick": Profile("quick", ("resnet50",), "standard", passes=4, every_format=False, few=True, time_budget=270.0),
    "full": Profile("full", tuple(NETWORKS), "standard", passes=6, every_format=True, few=False, time_budget=None),
}


@dataclass(frozen=True)
class Selection:
    """The user's choice; empty tuples mean the profile's or the backend's default.

    `keep` lists the channel counts to prune to, instead of those at the standard distances; it holds for the layers
    that have more channels.
    """

    profile: Profile = PROFILES["quick"]
    networks: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    formats: tuple[Format, ...] = ()
    sides: tuple[Side, ...] = (Side.OUT,)
    keep: tuple[int, ...] = ()

    @property
    def names_nothing(self) -> bool:
        """Return whether the user left it to the profile and the backend what to measure."""
        return not (self.networks or self.layers or self.problems)

    def places(self) -> list[Layer]:
        """Return every chosen place, before equal shapes are joined. Raises UnknownName or DescriptorError."""
        chosen = [layer for name in self.networks for layer in network(name)]
        chosen += [layer for pattern in self.layers for layer in _matching(pattern)]
        chosen += [Layer("", 0, text, parse_descriptor(text)) for text in self.problems]
        if self.names_nothing:
            chosen = [layer for name in self.profile.networks for layer in network(name)]
        return chosen

    def distinct(self, formats: Iterable[Format]) -> list[Layer]:
        """Return the distinct chosen layers in each format, each with all its places in the networks touched."""
        chosen = self.places()
        touched = dict.fromkeys(layer.network for layer in chosen if layer.network)
        # A layer is named after its first chosen place but lists every place of its shape, chosen or not: its result
        # holds for all of them.
        every = distinct_layers([place for name in touched for place in network(name)])
        places = {layer.problem: layer.places for layer in every}
        layers = [replace(layer, places=places.get(layer.problem, layer.places)) for layer in distinct_layers(chosen)]
        return [layer.with_format(*chosen_format) for chosen_format in formats for layer in layers]

    def comparisons(self, backend: str, formats: Iterable[Format]) -> list[Comparison]:
        """Return each chosen layer against its pruned selves and against itself, without repetition."""
        comparisons: dict[tuple[str, str, str], Comparison] = {}
        for layer in self.distinct(formats):
            for comparison in _of_layer(backend, layer, self.sides, self.keep):
                # Two layers may meet in one pruned problem; the first one names it.
                comparisons.setdefault(comparison.identity, comparison)
        return list(comparisons.values())


def _of_layer(backend: str, layer: Layer, sides: Iterable[Side], keep: Sequence[int]) -> Iterator[Comparison]:
    """Yield the comparisons of one layer; none where `keep` is given and the layer can keep none of it."""
    distances = {side: _distances(layer, side, keep) for side in sides}
    if keep and not any(distances.values()):
        return
    # Against itself: no result but the noise floor, so it yields to the most telling distances when time is short.
    yield Comparison(backend, layer, layer.problem, telling=5)
    for side, ranked in distances.items():
        for distance, rank in ranked:
            yield Comparison(backend, layer, layer.problem.prune(distance, side), side, rank)


def _distances(layer: Layer, side: Side, keep: Sequence[int]) -> list[tuple[int, int]]:
    """Return (distance, telling rank) of the counts in `keep` that the layer can keep, else the standard ones."""
    if not keep:
        return pruning_distances(layer.problem, side)
    whole = layer.problem.channels(side)
    return [(whole - count, rank) for rank, count in enumerate(to_keep(layer, side, keep), start=1)]


def to_keep(layer: Layer, side: Side, keep: Sequence[int]) -> list[int]:
    """Return those of the channel counts in `keep` to which a layer can be pruned."""
    whole, step = layer.problem.channels(side), layer.problem.prune_step(side)
    return [count for count in keep if 0 < count < whole and count % step == 0]


def keepable(layer: Layer, side: Side) -> str:
    """Return in words to what a layer can be pruned: `resnet50.L16 has 128 output channels, and can keep 1 to 127`."""
    whole, step = layer.problem.channels(side), layer.problem.prune_step(side)
    possible = f"1 to {whole - 1}" if step == 1 else f"multiples of {step} below {whole}"
    return f"{layer.name} has {whole} {side}put channels, and can keep {possible if whole > step else 'none fewer'}"


def _matching(pattern: str) -> list[Layer]:
    """Return layers whose name (`resnet50.L16`) or place (`resnet50.layer2.1.conv2`) matches a shell-style pattern."""
    every = [layer for name in NETWORKS for layer in network(name)]
    matching = [
        layer
        for layer in every
        if fnmatch.fnmatchcase(layer.name, pattern) or fnmatch.fnmatchcase(f"{layer.network}.{layer.place}", pattern)
    ]
    if not matching:
        net = pattern.split(".", maxsplit=1)[0]
        known = (
            f"{net} has {net}.L0 to {net}.L{len(network(net)) - 1}"
            if net in NETWORKS
            else f"networks: {', '.join(NETWORKS)}"
        )
        raise UnknownName(f"no layer matches {pattern!r} ({known}; `python -m neverslower layers` lists them)")
    return matching
