"""Small models as data for the selftests of widths: their layers, groups and weights, and grids of invented costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from neverslower.device.fingerprint import Fingerprint
from neverslower.maps.grid import Grid, LayerGrid, Pair, unpruned_pair
from neverslower.models.coupling import Group, Member
from neverslower.models.weights import Weights
from neverslower.problem.convolution import ConvProblem, parse_descriptor
from neverslower.problem.model import LeftOut, Model
from neverslower.problem.networks import Layer
from neverslower.widths.building import Known
from neverslower.widths.importance import normalised, of_group
from neverslower.widths.structure import structure_of, wanted_pairs

PRINT = Fingerprint("scripted", "board", "1.0", "b")


@dataclass(frozen=True)
class Small:
    """A model with the groups of its channels, and the shape of each linear layer that it has."""

    model: Model
    groups: tuple[Group, ...]
    linear: tuple[tuple[str, tuple[int, int]], ...] = ()


def _layer(place: str, descriptor: str) -> Layer:
    return Layer("m", None, place, parse_descriptor(descriptor))


CHAIN = Small(
    Model(
        "m",
        (_layer("first", "mb1_ic3oc64_ih6kh3ph1"), _layer("second", "mb1_ic64oc64_ih6kh3ph1")),
        (LeftOut("head", "matrix product", 640),),
        ("--model", "m.py:build", "--input", "1x3x6x6"),
    ),
    (
        Group("image", 3, (Member("first", "in", 0),), "it reads the model's input"),
        Group("first", 64, (Member("first", "out", 0), Member("second", "in", 0)), norms=(Member("bn1", "out", 0),)),
        Group("second", 64, (Member("second", "out", 0), Member("head", "in", 0))),
        Group("head", 10, (Member("head", "out", 0),), "it is an output of the model"),
    ),
    (("head", (10, 64)),),
)
DEPTHWISE = Small(
    Model(
        "m",
        (
            _layer("expand", "mb1_ic16oc64_ih6kh1"),
            _layer("depthwise", "mb1_g64ic64oc64_ih6kh3ph1"),
            _layer("project", "mb1_ic64oc16_ih6kh1"),
        ),
    ),
    (
        Group("stem", 16, (Member("expand", "in", 0),), "it reads the model's input"),
        Group(
            "expand",
            64,
            (
                Member("expand", "out", 0),
                Member("depthwise", "in", 0),
                Member("depthwise", "out", 0),
                Member("project", "in", 0),
            ),
        ),
        Group("project", 16, (Member("project", "out", 0),), "it is an output of the model"),
    ),
)
CONCATENATED = Small(
    Model(
        "m",
        (
            _layer("left", "mb1_ic3oc32_ih6kh3ph1"),
            _layer("right", "mb1_ic3oc32_ih6kh3ph1"),
            _layer("join", "mb1_ic64oc64_ih6kh1"),
            _layer("out", "mb1_ic64oc8_ih6kh1"),
        ),
    ),
    (
        Group("left", 32, (Member("left", "out", 0), Member("join", "in", 0))),
        Group("right", 32, (Member("right", "out", 0), Member("join", "in", 32))),
        Group("join", 64, (Member("join", "out", 0), Member("out", "in", 0))),
    ),
)
PARTLY_HELD = Small(
    Model("m", (_layer("left", "mb1_ic3oc32_ih6kh3ph1"), _layer("sum", "mb1_ic3oc48_ih6kh3ph1"))),
    (
        Group("left", 32, (Member("left", "out", 0), Member("sum", "out", 0))),
        Group("sum[32:48]", 16, (Member("sum", "out", 32),), "it is an output of the model"),
    ),
)

Cost = Callable[[ConvProblem, Pair], "float | None"]


def by_work(problem: ConvProblem, pair: Pair) -> float:
    """Seconds that grow with both counts."""
    return 1e-6 * (1 + pair[0] * pair[1] / prod(unpruned_pair(problem)))


def grid_by(small: Small, cost: Cost = by_work) -> Grid:
    """A grid whose costs a function gives, None where a pair was not measured."""
    wanted = wanted_pairs(small.model, structure_of(small.model, small.groups), 16, 16)
    layers = {}
    for layer, pairs in wanted.items():
        all_pairs = dict.fromkeys([*pairs, unpruned_pair(layer.problem)])
        costs = {pair: value for pair in all_pairs if (value := cost(layer.problem, pair)) is not None}
        layers[layer.problem.key] = LayerGrid(layer.name, layer.problem, costs)
    return Grid(Path("g.json.xz"), PRINT, layers)


def weights_of(small: Small) -> dict[str, Weights]:
    """The weights of each module, all filters alike, each module with a bias."""
    shapes: dict[str, tuple[int, ...]] = {layer.place: layer.problem.weight_shape for layer in small.model.layers}
    shapes |= dict(small.linear)
    return {name: Weights(shape, (1.0,) * shape[0], True) for name, shape in shapes.items()}


def known_of(small: Small, cost: Cost = by_work) -> Known:
    """All that planning needs of a model."""
    structure, weights = structure_of(small.model, small.groups), weights_of(small)
    scores = normalised({name: one.norms for name, one in weights.items()})
    worth = {name: of_group(group, scores) for name, group in structure.free.items()}
    return Known(small.model, structure, grid_by(small, cost), weights, worth)
