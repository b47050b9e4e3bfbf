"""Follow the channels of an ONNX file through its graph; runs in the child process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from neverslower.errors import NeverSlowerError
from neverslower.models import onnx_graph, onnx_layers
from neverslower.models.channels import Channels, Shape
from neverslower.models.words import Input

_ALIKE = {
    "Relu",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "ThresholdedRelu",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Swish",
    "Mish",
    "Gelu",
    "Tanh",
    "Softplus",
    "Softsign",
    "Erf",
    "Exp",
    "Log",
    "Sqrt",
    "Reciprocal",
    "Abs",
    "Neg",
    "Clip",
    "Identity",
    "Cast",
    "Dropout",
}
"""Operators that give channel c of their output from channel c of their input alone, by the same formula for each."""
_TOGETHER = {"Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Pow"}
_RESHAPES = {"Flatten", "Reshape", "Squeeze", "Unsqueeze"}
_POOLINGS = {"MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"}
_RESIZINGS = {"Resize", "Upsample"}
_REDUCTIONS = {"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"}
_OF_SHAPES = {"Shape", "Size"}
"""Operators whose results depend on no content: the shapes of this very input are what the model is followed with."""
Add = Callable[[Any, Shape], bool]
"""Adds what a node of one output shape does to channels; returns whether it is understood."""


def followed(path: Path, inputs: Sequence[Input]) -> Channels:
    """Return the channels of a file, followed from its inputs to its outputs. Raises NeverSlowerError."""
    graph = onnx_graph.opened(path, inputs).graph
    _require_order(path, graph)
    reader = _Reader(graph)
    for node in graph.node:
        reader.add(node)
    for value in graph.output:
        reader.channels.output(value.name)
    return reader.channels


def _require_order(path: Path, graph: Any) -> None:
    """Refuse nodes that come before those that they read. Raises NeverSlowerError."""
    waiting = {name for node in graph.node for name in node.output if name}
    for node in graph.node:
        if early := [name for name in onnx_graph.reads_of(node) if name in waiting]:
            raise NeverSlowerError(
                f"--onnx {path}: {node.op_type} {node.name} reads {early[0]}, which a later node makes; export it again"
            )
        waiting -= set(node.output)


class _Reader:
    """What reads the nodes of one graph, in their order."""

    def __init__(self, graph: Any) -> None:
        self.channels = Channels()
        self._shapes = onnx_layers.shapes_of(graph)
        self._layers = onnx_layers.layers_of(graph, self._shapes)
        self._biased = {layer.ends: made for made, layer in self._layers.items() if layer.ends != made}
        self._numbers = onnx_graph.whole_numbers_of(graph)
        self._constants = set(onnx_graph.tensors_of(graph))
        self._places = {
            name: place
            for node, place in zip(graph.node, onnx_graph.places_of(graph), strict=True)
            for name in node.output[:1]
        }
        self._users = onnx_layers.users_of(graph)
        for name in self._constants & set(self._shapes):
            self.channels.constant(name, self._shapes[name])
        for value in graph.input:
            if value.name not in self._constants:
                self.channels.input(value.name, self._shapes.get(value.name, ()))

    def add(self, node: Any) -> None:
        """Add what a node does to channels."""
        made, reads = [name for name in node.output if name], onnx_graph.reads_of(node)
        standard = node.domain in onnx_graph.STANDARD
        if standard and (node.op_type in _OF_SHAPES or all(name in self._constants for name in reads)):
            for name in made:
                self._constant(node, name)
        else:
            known = bool(made) and node.output[0] == made[0] and all(name in self._shapes for name in (*reads, made[0]))
            adder = self._adder(node.op_type) if standard and known else None
            if adder and adder(node, self._shapes[made[0]]):
                self._unknown(node, [], made[1:])
            else:
                self._unknown(node, reads, made)

    def _constant(self, node: Any, name: str) -> None:
        if name in self._shapes:
            self._constants.add(name)
            self.channels.constant(name, self._shapes[name])
        else:
            self._unknown(node, [], [name])

    def _adder(self, operator: str) -> Add | None:
        """Return what adds an operator, None for one that is not understood."""
        for operators, adder in (
            (_ALIKE, self._same),
            (_TOGETHER, self._together),
            (_RESHAPES, self._reshaped),
            (_POOLINGS, self._pooled),
            (_RESIZINGS, self._pooled),
            (_REDUCTIONS, self._reduced),
        ):
            if operator in operators:
                return adder
        others: dict[str, Add] = {
            "Conv": self._layer,
            "Gemm": self._layer,
            "MatMul": self._layer,
            "BatchNormalization": self._norm,
            "LayerNormalization": self._layer_norm,
            "Concat": self._concatenation,
            "Transpose": self._transposed,
            "Pad": self._padded,
        }
        return others.get(operator)

    def _layer(self, node: Any, shape: Shape) -> bool:
        """Add a layer; a convolution whose weights are no constants, or not its own alone, is held."""
        layer, place = self._layers.get(node.output[0]), self._places[node.output[0]]
        if layer is None and node.op_type != "Conv":
            return False
        weights, axis = (layer.shape, layer.axis) if layer else (self._shapes[node.input[1]], 1)
        groups = int(onnx_graph.attributes_of(node).get("group", 1))
        self.channels.layer(place, node.input[0], node.output[0], shape, weights, groups, axis)
        others = sorted(self._users[layer.weights] - {place}) if layer else []
        if layer is None:
            self.channels.hold(place, f"the weights or the bias of {place} are no constants of the file")
        elif others:
            self.channels.hold(place, f"the weights of {place} are those of {', '.join(others)} too")
        return True

    def _norm(self, node: Any, shape: Shape) -> bool:
        attributes = onnx_graph.attributes_of(node)
        plain = attributes.get("spatial", 1) and not attributes.get("training_mode") and len(node.output) == 1
        if plain and self._reads_constants(node):
            self.channels.norm(self._places[node.output[0]], node.input[0], node.output[0])
            return True
        return False

    def _layer_norm(self, node: Any, shape: Shape) -> bool:
        axis = onnx_graph.attributes_of(node).get("axis", -1) % len(shape)
        if axis != len(shape) - 1 or axis != self.channels.axis_of(node.input[0]) or not self._reads_constants(node):
            return False
        place = self._places[node.output[0]]
        why = f"{place} normalises over the channels, so that zeros would change its result"
        self.channels.norm(place, node.input[0], node.output[0], -1, why)
        return True

    def _same(self, node: Any, shape: Shape) -> bool:
        if self._reads_constants(node):
            self.channels.same(node.input[0], node.output[0], shape)
            return True
        return False

    def _together(self, node: Any, shape: Shape) -> bool:
        if made := self._biased.get(node.output[0]):
            self.channels.same(made, node.output[0], shape)
        else:
            self.channels.together(_words(node), list(node.input), node.output[0], shape)
        return True

    def _pooled(self, node: Any, shape: Shape) -> bool:
        before = self._shapes[node.input[0]]
        if before[:2] != shape[:2] or not self._reads_constants(node):
            return False
        self.channels.pooled(_words(node), node.input[0], node.output[0], shape, len(shape) - 2)
        return True

    def _reshaped(self, node: Any, shape: Shape) -> bool:
        if not self._reads_constants(node):
            return False
        self.channels.reshaped(_words(node), node.input[0], node.output[0], shape)
        return True

    def _reduced(self, node: Any, shape: Shape) -> bool:
        attributes, axes = onnx_graph.attributes_of(node), self._ints(node, 1, "axes")
        if axes is None or not self._shapes[node.input[0]]:
            return False
        if not axes and attributes.get("noop_with_empty_axes"):
            return self._same(node, shape)
        keep = bool(attributes.get("keepdims", 1))
        self.channels.reduced(_words(node), node.input[0], node.output[0], axes, keep, shape)
        return True

    def _concatenation(self, node: Any, shape: Shape) -> bool:
        along = onnx_graph.attributes_of(node).get("axis", 1)
        self.channels.concatenation(_words(node), list(node.input), node.output[0], shape, along)
        return True

    def _transposed(self, node: Any, shape: Shape) -> bool:
        order = onnx_graph.attributes_of(node).get("perm") or list(range(len(shape)))[::-1]
        self.channels.transposed(node.input[0], node.output[0], order, shape)
        return True

    def _padded(self, node: Any, shape: Shape) -> bool:
        """Add a padding; one of the channels, or of sizes that are computed, is not understood."""
        pads, axes = self._ints(node, 1, "pads"), self._ints(node, 3, "")
        if pads is None or axes is None or not self._reads_constants(node):
            return False
        axes = [axis % len(shape) for axis in axes] or list(range(len(shape)))
        padded = {axis for axis, *each in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True) if any(each)}
        if self.channels.axis_of(node.input[0]) in padded:
            return False
        self.channels.same(node.input[0], node.output[0], shape)
        return True

    def _ints(self, node: Any, place: int, attribute: str) -> list[int] | None:
        """Return whole numbers that a node has as an input or, in older files, as an attribute; None if computed."""
        if len(node.input) > place and node.input[place]:
            return self._numbers.get(node.input[place])
        return list(onnx_graph.attributes_of(node).get(attribute, ()))

    def _reads_constants(self, node: Any) -> bool:
        """Return whether a node reads constants but for its first input."""
        return all(not name or name in self._constants for name in node.input[1:])

    def _unknown(self, node: Any, reads: Sequence[str], made: Sequence[str]) -> None:
        self.channels.unknown(_words(node), reads, [(name, self._shapes.get(name, ())) for name in made])


def _words(node: Any) -> str:
    """Return what messages call a node: its operator, and its name where it has one."""
    operator = node.op_type if node.domain in onnx_graph.STANDARD else f"{node.domain}::{node.op_type}"
    return f"{operator} {node.name}".strip()
