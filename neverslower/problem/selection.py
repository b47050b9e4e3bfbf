"""Turn the user's words into comparisons: which layers, formats and pruning distances a run asks for."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from neverslower.counted import counted
from neverslower.errors import CannotPrune, InvalidProblem, UnknownName
from neverslower.problem.comparison import Comparison, pruning_distances
from neverslower.problem.convolution import ConvProblem, DType, Layout, Side, parse_descriptor
from neverslower.problem.descriptor import descriptor_name
from neverslower.problem.epilogue import Epilogue, PostOp
from neverslower.problem.model import Model
from neverslower.problem.networks import NETWORKS, Layer, distinct_layers, network
from neverslower.problem.pairing import Pairing, pair_models

Format = tuple[DType, Layout]
LISTED = 3
"""So many layers a message names."""


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
class Keep:
    """Channel counts to prune to instead of the standard distances: of the layers that match, or wherever they fit."""

    counts: tuple[int, ...]
    pattern: str = ""

    def __str__(self) -> str:
        """Return what the option --keep takes: `48`, `92-97`, `layer1.0.conv1=48,56`."""
        runs: list[list[int]] = []
        for count in self.counts:
            if runs and count == runs[-1][-1] + 1:
                runs[-1].append(count)
            else:
                runs.append([count])
        listed = ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
        return f"{self.pattern}={listed}" if self.pattern else listed


@dataclass(frozen=True)
class Selection:
    """The user's choice; empty tuples mean the profile's or the backend's default.

    `keep` replaces the standard distances. Where there are `models`, the patterns of `layers` choose among theirs
    first. `pruned` is the pruned version of the one model that there then is. `batches` replace each layer's own, and
    so do `post_ops` where they are not None; `bias` gives all one.
    """

    profile: Profile = PROFILES["quick"]
    networks: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    models: tuple[Model, ...] = ()
    pruned: Model | None = None
    batches: tuple[int, ...] = ()
    bias: bool = False
    post_ops: tuple[PostOp, ...] | None = None
    formats: tuple[Format, ...] = ()
    sides: tuple[Side, ...] = (Side.OUT,)
    keep: tuple[Keep, ...] = ()

    @property
    def names_nothing(self) -> bool:
        """Return whether the user left it to the profile and the backend what to measure."""
        return not (self.networks or self.layers or self.problems or self.models)

    @cached_property
    def pairing(self) -> Pairing | None:
        """The pruned model's layers set against those of its original, where there is one.

        Layers are paired with the epilogues that they are measured with, for one that is replaced tells none apart.
        """
        return pair_models(self._followed(self.models[0]), self._followed(self.pruned)) if self.pruned else None

    def _followed(self, model: Model) -> Model:
        """Return a model whose layers have the chosen epilogue."""
        layers = (layer.with_epilogue(self._epilogue_of(layer.problem)) for layer in model.layers)
        return replace(model, layers=tuple(layers))

    def places(self) -> list[Layer]:
        """Return every chosen place, before equal shapes are joined. Raises UnknownName or InvalidProblem."""
        if self.pairing:
            return self._as_chosen(self._chosen_of(self.pairing).layers)
        own = [layer for model in self.models for layer in model.layers]
        chosen = [layer for name in self.networks for layer in network(name)]
        chosen += [layer for pattern in self.layers for layer in _matching(pattern, own)]
        chosen += [_described(text) for text in self.problems]
        chosen += [] if self.layers else own
        if self.names_nothing:
            chosen = [layer for name in self.profile.networks for layer in network(name)]
        _require_one_problem_a_name(chosen)
        return self._as_chosen(chosen)

    def _chosen_of(self, pairing: Pairing) -> Pairing:
        """Return the part of a pairing that the patterns choose. Raises UnknownName for one that matches nothing."""
        for pattern in self.layers:
            if pairing.matching([pattern]).empty:
                raise _unknown(pattern, [*pairing.original.layers, *pairing.pruned.layers])
        return pairing.matching(self.layers)

    def _as_chosen(self, layers: Sequence[Layer]) -> list[Layer]:
        """Return the layers with the chosen epilogue, in each chosen batch."""
        layers = [layer.with_epilogue(self._epilogue_of(layer.problem)) for layer in layers]
        if not self.batches:
            return layers
        return [layer.with_batch(batch) for batch in self.batches for layer in layers]

    def _epilogue_of(self, problem: ConvProblem) -> Epilogue:
        """Return the epilogue with which a problem is measured: its own, changed as the user chose."""
        own = problem.epilogue
        return Epilogue(self.bias or own.bias, own.post_ops if self.post_ops is None else self.post_ops)

    def distinct(self, formats: Iterable[Format]) -> list[Layer]:
        """Return the distinct chosen layers in each format, each with all its places in the networks touched."""
        chosen = self.places()
        # A layer is named after its first chosen place but lists every place of its shape, chosen or not: its result
        # holds for all of them.
        names = dict.fromkeys(layer.network for layer in chosen if layer.network and layer.index is not None)
        touched = [layer for name in names for layer in network(name)]
        touched += [layer for model in self.models for layer in model.layers]
        every = distinct_layers(self._as_chosen(touched))
        places = {layer.problem: layer.places for layer in every}
        layers = [replace(layer, places=places.get(layer.problem, layer.places)) for layer in distinct_layers(chosen)]
        return [layer.with_format(*chosen_format) for chosen_format in formats for layer in layers]

    def comparisons(self, backend: str, formats: Iterable[Format]) -> list[Comparison]:
        """Return each chosen layer against its pruned selves and against itself, without repetition."""
        comparisons: dict[tuple[str, str, str], Comparison] = {}
        pairing = self.pairing
        made = self._of_pairs(pairing, backend, formats) if pairing else self._of_layers(backend, formats)
        for comparison in made:
            # Two layers may meet in one pruned problem; the first one names it.
            comparisons.setdefault(comparison.identity, comparison)
        return list(comparisons.values())

    def _of_pairs(self, every: Pairing, backend: str, formats: Iterable[Format]) -> Iterator[Comparison]:
        chosen = self._chosen_of(every)
        for (dtype, layout), batch in itertools.product(formats, self.batches or (None,)):
            measured = partial(self._measured, dtype=dtype, layout=layout, batch=batch)
            yield from chosen.converted(measured).comparisons(backend, every.converted(measured))

    def _measured(self, layer: Layer, dtype: DType, layout: Layout, batch: int | None) -> Layer:
        """Return a layer of a pair in a format, and for another batch unless that is None."""
        layer = layer.with_format(dtype, layout)
        return layer.with_batch(batch) if batch else layer

    def _of_layers(self, backend: str, formats: Iterable[Format]) -> Iterator[Comparison]:
        for layer in self.distinct(formats):
            yield from self._of_layer(backend, layer)

    def _of_layer(self, backend: str, layer: Layer) -> Iterator[Comparison]:
        """Yield the comparisons of one layer; none where it can keep none of the counts that hold for it."""
        distances = {side: self.distances(layer, side) for side in self.sides}
        if self.kept(layer) and not any(distances.values()):
            return
        # Against itself: no result but the noise floor, so it yields to the most telling distances when time is short.
        yield Comparison(backend, layer, layer.problem, telling=5)
        for side, ranked in distances.items():
            for distance, rank in ranked:
                yield Comparison(backend, layer, layer.problem.prune(distance, side), side, rank)

    def distances(self, layer: Layer, side: Side) -> list[tuple[int, int]]:
        """Return (distance, telling rank) of each pruned self of a layer: at the counts to keep, or the usual ones."""
        fitting = self.kept_where_it_fits(layer, side)
        if fitting is None:
            return pruning_distances(layer.problem, side)
        return [(layer.problem.channels(side) - count, rank) for rank, count in enumerate(fitting, start=1)]

    def kept_where_it_fits(self, layer: Layer, side: Side) -> tuple[int, ...] | None:
        """Return the counts of `kept` that a layer can be pruned to."""
        counts = self.kept(layer)
        return counts and tuple(count for count in counts if _fits(layer.problem, count, side))

    def kept(self, layer: Layer) -> tuple[int, ...] | None:
        """Return the counts to which a layer is to be pruned: those that name it, else those for all; else None."""
        own = [
            count for keep in self.keep if keep.pattern and self._names(keep.pattern, layer) for count in keep.counts
        ]
        counts = own or [count for keep in self.keep if not keep.pattern for count in keep.counts]
        return tuple(dict.fromkeys(counts)) or None

    def _names(self, pattern: str, layer: Layer) -> bool:
        """Return whether a pattern matches a layer, or another chosen place of its shape, which is measured with it."""
        plain = replace(layer.problem, dtype=DType.FLOAT32, layout=Layout.NCHW)
        return any(place.matches(pattern) for place in self._sharing.get(plain, [layer]))

    @cached_property
    def _sharing(self) -> dict[ConvProblem, list[Layer]]:
        """The chosen places of each shape."""
        sharing: dict[ConvProblem, list[Layer]] = {}
        for place in self.places():
            sharing.setdefault(place.problem, []).append(place)
        return sharing

    def require_kept(self, layers: Sequence[Layer]) -> None:
        """Raise for a `keep` that holds for none of the layers: UnknownName, or CannotPrune with what they can keep.


        A layer that is named must be able to keep every count; of a bare range, some layer one count.
        """
        for keep in self.keep if layers else ():
            meant = self._meant(keep, layers)
            if keep.pattern and not meant:
                raise UnknownName(f"--keep {keep}: no chosen layer matches {keep.pattern!r}")
            if keep.pattern:
                unfit = [layer for layer in meant if not all(self._fits(layer, count) for count in keep.counts)]
                what = f"{len(unfit)} of {counted(len(meant), 'layer')} that match can't keep"
            else:
                unfit = [] if any(self._fits(layer, count) for layer in meant for count in keep.counts) else meant
                what = "no chosen layer can keep"
            if unfit:
                possible = dict.fromkeys(_possible(layer, side) for layer in unfit for side in self.sides)
                listed = "; ".join(list(possible)[:LISTED]) + ("; …" if len(possible) > LISTED else "")
                raise CannotPrune(f"--keep {keep}: {what} that ({listed})")

    def _meant(self, keep: Keep, layers: Iterable[Layer]) -> list[Layer]:
        """Return the layers for which counts hold: those that match, or those that have none of their own."""
        if keep.pattern:
            return [layer for layer in layers if self._names(keep.pattern, layer)]
        patterns = [other.pattern for other in self.keep if other.pattern]
        return [layer for layer in layers if not any(self._names(pattern, layer) for pattern in patterns)]

    def _fits(self, layer: Layer, count: int) -> bool:
        return any(_fits(layer.problem, count, side) for side in self.sides)

    def notes(self, layers: Sequence[Layer]) -> list[str]:
        """Return what a user has to know of the models, and which of the layers a bare `keep` does not fit."""
        notes = [line for model in (*self.models, self.pruned) if model for line in model.notes()]
        for keep in self.keep:
            meant = [] if keep.pattern else self._meant(keep, layers)
            for side in self.sides:
                unfit = [
                    f"{layer.name} ({layer.problem.channels(side)})"
                    for layer in meant
                    if not all(_fits(layer.problem, count, side) for count in keep.counts)
                ]
                if unfit:
                    listed = ", ".join(unfit[:LISTED]) + (f" and {len(unfit) - LISTED} more" if unfit[LISTED:] else "")
                    counts = f"{'each of ' if keep.counts[1:] else ''}{keep} {_noun(side)} channels"
                    unable = f"{len(unfit)} of {counted(len(meant), 'layer')}"
                    notes.append(f"--keep {keep}: {unable} can't keep {counts}: {listed}")
        return notes


def _described(text: str) -> Layer:
    """Return the layer that a descriptor describes, by its free name if it has one. Raises InvalidProblem."""
    name = descriptor_name(text)
    source = ("--problem", text) if name else ()
    return Layer("", None if name else 0, name or text, parse_descriptor(text), source=source)


def _require_one_problem_a_name(layers: Sequence[Layer]) -> None:
    """Raise InvalidProblem where two problems share a name, since nothing would tell their results apart."""
    named: dict[str, ConvProblem] = {}
    for layer in layers:
        if named.setdefault(layer.name, layer.problem) != layer.problem:
            raise InvalidProblem(
                f"{layer.name} names two problems, {named[layer.name]} and {layer.problem}; give one another name"
            )


def _fits(problem: ConvProblem, count: int, side: Side) -> bool:
    return problem.can_prune(problem.channels(side) - count, side)


def _noun(side: Side) -> str:
    return "input" if side is Side.IN else "output"


def _possible(layer: Layer, side: Side) -> str:
    """Return in words to what a layer can be pruned: `resnet50.L16 has 128 output channels, and can keep 1 to 127`."""
    problem = layer.problem
    whole, step = problem.channels(side), problem.prune_step(side)
    possible = "can keep " + (f"1 to {whole - 1}" if step == 1 else f"multiples of {step} below {whole}")
    if not any(problem.can_prune(distance, side) for distance in range(step, whole, step)):
        possible = f"--side {side} prunes none of them"
    return f"{layer.name} has {whole} {_noun(side)} channels, and {possible}"


def _matching(pattern: str, own: Sequence[Layer] = ()) -> list[Layer]:
    """Return layers whose name (`resnet50.L16`) or place (`resnet50.layer2.1.conv2`) matches a shell-style pattern.

    Those of the user's own models answer first, to their places alone too (`layer2.1.conv2`).
    """
    every = [layer for name in NETWORKS for layer in network(name)]
    matching = [layer for layer in own if layer.matches(pattern)] or [
        layer for layer in every if layer.matches(pattern)
    ]
    if not matching:
        if own:
            raise _unknown(pattern, own)
        net = pattern.split(".", maxsplit=1)[0]
        known = (
            f"{net} has {net}.L0 to {net}.L{len(network(net)) - 1}"
            if net in NETWORKS
            else f"networks: {', '.join(NETWORKS)}"
        )
        raise UnknownName(f"no layer matches {pattern!r} ({known}; `python -m neverslower layers` lists them)")
    return matching


def _unknown(pattern: str, own: Sequence[Layer]) -> UnknownName:
    places = list(dict.fromkeys(layer.place for layer in own))  # Of two models both may have one of a name.
    close = difflib.get_close_matches(pattern, places, n=3, cutoff=0)
    return UnknownName(f"no layer matches {pattern!r}; the model has such as {', '.join(close)}")
