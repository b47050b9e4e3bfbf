"""Pair the layers of a pruned model with those of its original: by their names, else by their order.

A pair differs in channels alone. Nothing is guessed: a layer that several others could be has no pair, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from neverslower.enums import StrEnum
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import IMAGE_CHANNELS, ConvProblem, Side
from neverslower.problem.model import Model
from neverslower.problem.networks import Layer

LISTED = 3
"""So many layers that could be the same one a reason names."""


class By(StrEnum):
    """What says that two layers are the same one."""

    NAME = "name"
    ORDER = "order"


@dataclass(frozen=True)
class Pair:
    """A layer of the original, the same layer of the pruned model, and what says that they are the same."""

    original: Layer
    pruned: Layer
    by: By

    @property
    def unchanged(self) -> bool:
        """Return whether nothing was pruned from the layer."""
        return self.original.problem == self.pruned.problem

    @property
    def side(self) -> Side:
        """Return which channels differ; of a depthwise layer, which loses both, the output's count."""
        whole, part = self.original.problem, self.pruned.problem
        if whole.groups != part.groups:
            return Side.OUT if whole.depthwise else Side.TOGETHER
        if whole.in_channels == part.in_channels:
            return Side.OUT
        return Side.IN if whole.out_channels == part.out_channels else Side.TOGETHER

    def matches(self, pattern: str) -> bool:
        """Return whether a shell-style pattern matches the layer as either model names it."""
        return self.original.matches(pattern) or self.pruned.matches(pattern)

    def compared(self, backend: str, places: tuple[str, ...]) -> Comparison:
        """Return the comparison of the pair, which is named after the original's layer."""
        layer = replace(self.original, places=places)
        return Comparison(backend, layer, self.pruned.problem, self.side, telling=1, paired=True)


@dataclass(frozen=True)
class Unpaired:
    """A layer of either model that has no pair, and why."""

    layer: Layer
    why: str


@dataclass(frozen=True)
class Pairing:
    """Two models set against each other: the pairs in the original's order, and what has no pair in either."""

    original: Model
    pruned: Model
    pairs: tuple[Pair, ...]
    unpaired: tuple[Unpaired, ...] = ()

    @property
    def changed(self) -> list[Pair]:
        """Return the pairs that are compared."""
        return [pair for pair in self.pairs if not pair.unchanged]

    @property
    def grown(self) -> list[Pair]:
        """Return the pairs of which the pruned model has more channels than the original."""
        return [pair for pair in self.pairs if _grows(pair.original.problem, pair.pruned.problem)]

    @property
    def empty(self) -> bool:
        """Return whether there is no layer of either model."""
        return not (self.pairs or self.unpaired)

    @property
    def layers(self) -> list[Layer]:
        """Return what is measured: the original's layers of the pairs that differ, and what has no pair."""
        return [pair.original for pair in self.changed] + [left.layer for left in self.unpaired]

    def record(self) -> dict[str, Any]:
        """Return the pairing as plain data, for a journal."""
        return {
            "original": self.original.title,
            "pruned": self.pruned.title,
            "pairs": [
                {"original": pair.original.name, "pruned": pair.pruned.name, "by": str(pair.by)} for pair in self.pairs
            ],
            "unpaired": [{"layer": left.layer.name, "why": left.why} for left in self.unpaired],
        }

    @property
    def only_removed(self) -> bool:
        """Return whether the pruned model is the original without some of its layers, the others being as they were."""
        gone = all(left.layer.network == self.original.name for left in self.unpaired)
        return bool(self.pairs and self.unpaired) and gone and not self.changed

    def matching(self, patterns: Sequence[str]) -> Pairing:
        """Return the part that shell-style patterns match, everything without one."""
        if not patterns:
            return self
        pairs = tuple(pair for pair in self.pairs if any(map(pair.matches, patterns)))
        unpaired = tuple(left for left in self.unpaired if any(map(left.layer.matches, patterns)))
        return replace(self, pairs=pairs, unpaired=unpaired)

    def converted(self, layer: Callable[[Layer], Layer]) -> Pairing:
        """Return the same pairs of layers that are converted by a function, such as to a format."""
        pairs = tuple(replace(pair, original=layer(pair.original), pruned=layer(pair.pruned)) for pair in self.pairs)
        unpaired = tuple(replace(left, layer=layer(left.layer)) for left in self.unpaired)
        return replace(self, pairs=pairs, unpaired=unpaired)

    def comparisons(self, backend: str, every: Pairing) -> Iterator[Comparison]:
        """Yield each pruned layer against its original, which is timed against itself too, as is what has no pair.

        Their places are all those of `every` pair with the same problems, chosen or not.
        """
        alone, together = _places(every)
        for pair in self.changed:
            whole, part = pair.original.problem, pair.pruned.problem
            yield _alone(backend, pair.original, alone)
            yield pair.compared(backend, tuple(together[whole, part]))
        yield from (_alone(backend, left.layer, alone) for left in self.unpaired)


def _alone(backend: str, layer: Layer, places: dict[ConvProblem, list[str]]) -> Comparison:
    return Comparison(backend, replace(layer, places=tuple(places[layer.problem])), layer.problem, telling=5)


def _places(
    pairing: Pairing,
) -> tuple[dict[ConvProblem, list[str]], dict[tuple[ConvProblem, ConvProblem], list[str]]]:
    """Return the names of the places at which each problem occurs alone, and each pair of problems."""
    alone: dict[ConvProblem, list[str]] = {}
    together: dict[tuple[ConvProblem, ConvProblem], list[str]] = {}
    for layer in [*(pair.original for pair in pairing.pairs), *(left.layer for left in pairing.unpaired)]:
        alone.setdefault(layer.problem, []).append(layer.name)
    for pair in pairing.pairs:
        together.setdefault((pair.original.problem, pair.pruned.problem), []).append(pair.original.name)
    return alone, together


# How layers are paired


def pair_models(original: Model, pruned: Model) -> Pairing:
    """Return the pairs of two models: the layers of equal name, then of the others those that only one order allows."""
    brought = (*original.source, *pruned.source[:2])
    wholes, parts = ([replace(layer, source=brought) for layer in model.layers] for model in (original, pruned))
    by_name = {part.place: number for number, part in enumerate(parts)}
    named = {number: by_name[whole.place] for number, whole in enumerate(wholes) if whole.place in by_name}
    pairs: dict[int, Pair] = {}
    why: dict[str, str] = {}
    for i, j in named.items():
        if text := difference(wholes[i].problem, parts[j].problem):
            why[wholes[i].name] = why[parts[j].name] = f"the layers of this name differ in more than channels: {text}"
        else:
            pairs[i] = Pair(wholes[i], parts[j], By.NAME)
    ordered, could_be = _by_order(wholes, parts)
    pairs |= {i: Pair(wholes[i], parts[j], By.ORDER) for i, j in ordered}
    paired = {layer.name for pair in pairs.values() for layer in (pair.original, pair.pruned)}
    unpaired = tuple(
        Unpaired(layer, why.get(layer.name) or _no_pair(other, could_be.get(layer.name, [])))
        for layers, other in ((wholes, pruned), (parts, original))
        for layer in layers
        if layer.name not in paired
    )
    return Pairing(original, pruned, tuple(pairs[i] for i in sorted(pairs)), unpaired)


def _no_pair(other: Model, could_be: Sequence[str]) -> str:
    """Return why a layer has no pair in another model, of which it `could_be` these by order."""
    if not could_be:
        return f"{other.name} has no layer of this name, nor one that can be it by order"
    listed = " or ".join(could_be[:LISTED]) + (" or …" if len(could_be) > LISTED else "")
    return f"{other.name} has no layer of this name, and the order leaves open whether it is {listed}"


def difference(whole: ConvProblem, part: ConvProblem) -> str:
    """Return in what two problems differ besides channels, such as `kernel 3×3 → 1×1`; nothing where they are a pair.

    Groups may be fewer where whole groups went: then as many channels of each are left as there were.
    """
    fields: dict[str, tuple[object, object]]
    fields = {
        "images": (whole.batch, part.batch),
        "image": ((whole.height, whole.width), (part.height, part.width)),
        "kernel": (whole.kernel, part.kernel),
        "stride": (whole.stride, part.stride),
        "padding": (whole.padding, part.padding),
        "dilation": (whole.dilation, part.dilation),
        "what follows": (str(whole.epilogue) or "nothing", str(part.epilogue) or "nothing"),
    }
    if whole.groups != part.groups and _widths(whole) != _widths(part):
        fields["groups"] = (whole.groups, part.groups)
    return ", ".join(f"{name} {_shown(one)} → {_shown(other)}" for name, (one, other) in fields.items() if one != other)


def _widths(problem: ConvProblem) -> tuple[int, int]:
    """Return the input and output channels of one group."""
    return problem.in_channels // problem.groups, problem.out_channels // problem.groups


def _shown(value: object) -> str:
    if isinstance(value, tuple) and len(value) == 4 and len(set(value)) == 1:  # The same padding all around.
        return str(value[0])
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _grows(whole: ConvProblem, part: ConvProblem) -> bool:
    return part.in_channels > whole.in_channels or part.out_channels > whole.out_channels


def _by_order(wholes: Sequence[Layer], parts: Sequence[Layer]) -> tuple[list[tuple[int, int]], dict[str, list[str]]]:
    """Return the (original, pruned) indices that every way to align the layers without equal names has in common.

    Aligned are as many as possible, in the order of both models, without passing a layer of equal names. Where the
    ways differ, the layers that each could be are returned by its name.
    """
    common = {whole.place for whole in wholes} & {part.place for part in parts}
    before_whole, before_part = _passed(wholes, common), _passed(parts, common)
    rows = [i for i, whole in enumerate(wholes) if whole.place not in common]
    columns = [j for j, part in enumerate(parts) if part.place not in common]
    fits = [
        [before_whole[i] == before_part[j] and _could_be(wholes[i].problem, parts[j].problem) for j in columns]
        for i in rows
    ]
    by_rank: dict[int, list[tuple[int, int]]] = {}
    for rank, row, column in _longest(fits):
        by_rank.setdefault(rank, []).append((rows[row], columns[column]))
    could_be: dict[str, list[str]] = {}
    for i, j in (cell for cells in by_rank.values() for cell in cells if len(cells) > 1):
        could_be.setdefault(wholes[i].name, []).append(parts[j].name)
        could_be.setdefault(parts[j].name, []).append(wholes[i].name)
    return [cells[0] for cells in by_rank.values() if len(cells) == 1], could_be


def _passed(layers: Sequence[Layer], common: Collection[str]) -> list[frozenset[str]]:
    """Return for each layer the `common` places that come before it."""
    passed, before = [], frozenset[str]()
    for layer in layers:
        passed.append(before)
        before |= {layer.place} & set(common)
    return passed


def _could_be(whole: ConvProblem, part: ConvProblem) -> bool:
    """Return whether a layer can have come of another by pruning alone, whatever their names.

    An image loses no channel, so a layer that reads one comes of one that reads the same.
    """
    reads_image = min(whole.in_channels, part.in_channels) <= IMAGE_CHANNELS
    if reads_image and whole.in_channels != part.in_channels:
        return False
    return not difference(whole, part) and not _grows(whole, part)


def _longest(fits: Sequence[Sequence[bool]]) -> Iterator[tuple[int, int, int]]:
    """Yield (rank, row, column) of each fit that lies on some longest chain of fits, down and to the right.

    Every longest chain has one fit of each rank. So a fit that is the only one of its rank is part of all of them.
    """
    rows, columns = len(fits), len(fits[0]) if fits else 0
    ahead = _chains(fits)
    behind = _chains([row[::-1] for row in fits[::-1]])
    for row in range(rows):
        for column in range(columns):
            before, after = ahead[row][column], behind[rows - 1 - row][columns - 1 - column]
            if fits[row][column] and before + 1 + after == ahead[rows][columns]:
                yield before, row, column


def _chains(fits: Sequence[Sequence[bool]]) -> list[list[int]]:
    """Return the length of the longest chain of fits within the first `row` rows and `column` columns, for each."""
    columns = len(fits[0]) if fits else 0
    lengths = [[0] * (columns + 1)]
    for fitting in fits:
        above, line = lengths[-1], [0]
        for column, fit in enumerate(fitting):
            line.append(max(line[-1], above[column + 1], above[column] + fit))
        lengths.append(line)
    return lengths
