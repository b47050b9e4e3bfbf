"""Follow the channels of an ONNX file through its graph; runs in the child process. Weights are never looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neverslower.models import onnx_graph
from neverslower.models.channels import Channels, Shape
from neverslower.models.words import Input

_ALIKE = {
    "Relu",
    "Sigmoid",
    "Tanh",
    "Gelu",
    "Elu",
    "Selu",
    "Celu",
    "Mish",
    "LeakyRelu",
    "HardSwish",
    "HardSigmoid",
    "Softplus",
    "Swish",
    "Clip",
    "Dropout",
    "Identity",
    "Cast",
    "Neg",
    "Abs",
    "Sqrt",
    "Exp",
    "Erf",
}
"""Operations that give channel c of their output from channel c of their input alone, by the same formula for each."""
_POOLS = {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"}
_TOGETHER = {"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum"}
_RESHAPES = {"Flatten", "Reshape", "Squeeze", "Unsqueeze"}
_REDUCTIONS = {"ReduceMean", "ReduceSum", "ReduceMax"}


def followed(path: Path, inputs: Sequence[Input]) -> Channels:
    """Return the channels of a file's graph, followed from its inputs to its outputs. Raises NeverSlowerError."""
    model = onnx_graph.opened(path, inputs)
    reader = _Reader(model.graph)
    for index, node in enumerate(model.graph.node):
        reader.add(node, index)
    for value in model.graph.output:
        reader.channels.output(value.name)
    return reader.channels


class _Reader:
    """What reads the nodes of one graph."""

    def __init__(self, graph: Any) -> None:
        self.channels = Channels()
        self._shapes = onnx_graph.shapes_of(graph)
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._numbers = dict(self._weights)
        for name in self._weights:
            self.channels.constant(name, self._shape(name) or ())
        for value in graph.input:
            if value.name not in self._weights:
                self.channels.input(value.name, self._shape(value.name) or ())

    def add(self, node: Any, index: int) -> None:
        """Add what a node does to channels."""
        reads, shape = [name for name in node.input if name], self._shape(node.output[0])
        words = f"{node.op_type} in {onnx_graph.place_of(node, f'{node.op_type}_{index}')}"
        if node.op_type == "Constant":
            self._numbers[node.output[0]] = next((one.t for one in node.attribute if one.name == "value"), None)
        if node.op_type == "Shape" or all(self.channels.is_constant(name) for name in reads):
            for name in filter(None, node.output):  # A shape is the same for every input, too.
                self.channels.constant(name, self._shape(name) or ())
        elif shape is None or node.domain not in onnx_graph.STANDARD or not self._add(node, reads, words, shape, index):
            writes = [(name, self._shape(name) or ()) for name in node.output if name]
            self.channels.unknown(words, reads, writes)

    def _add(self, node: Any, reads: Sequence[str], words: str, shape: Shape, index: int) -> bool:
        """Add an operation that is understood; return whether it is."""
        kind, written, attributes = node.op_type, node.output[0], onnx_graph.attributes_of(node)
        place = onnx_graph.place_of(node, f"{kind}_{index}")
        if kind in ("Conv", "Gemm", "MatMul"):
            return self._layer(node, reads, place, shape, attributes)
        if kind == "BatchNormalization" and not attributes.get("training_mode"):
            # By the node: exporters keep equal numbers of several normalisations once, under the name of one of them.
            self.channels.norm(node.name or f"{kind}_{index}", reads[0], written)
        elif kind in _POOLS:
            self.channels.pooled(words, reads[0], written, shape, len(shape) - 2)
        elif kind in _ALIKE and all(self._one_number(name) for name in reads[1:]):
            self.channels.same(reads[0], written, shape)
        elif kind in ("Resize", "Pad"):
            return self._same_channels(reads[0], written, shape)
        elif kind in _TOGETHER:
            self.channels.together(words, reads, written, shape)
        elif kind == "Concat":
            self.channels.concatenation(words, reads, written, shape, attributes["axis"])
        elif kind in _RESHAPES:
            self.channels.reshaped(words, reads[0], written, shape)
        elif kind == "Transpose":
            order = attributes.get("perm") or list(reversed(range(len(shape))))
            self.channels.transposed(reads[0], written, order, shape)
        elif kind in _REDUCTIONS:
            axes = attributes.get("axes") or (self._integers(reads[1]) if len(reads) > 1 else [])
            if axes is None:
                return False
            self.channels.reduced(words, reads[0], written, axes, bool(attributes.get("keepdims", 1)), shape)
        else:
            return False
        return True

    def _layer(self, node: Any, reads: Sequence[str], place: str, shape: Shape, attributes: dict[str, Any]) -> bool:
        weights = self._shape(reads[1])
        if weights is None or not all(name in self._weights for name in reads[1:]):
            return False
        if node.op_type != "Conv":
            if len(weights) != 2 or attributes.get("transA"):
                return False
            weights = weights if attributes.get("transB") else (weights[1], weights[0])
        axis = 1 if node.op_type == "Conv" else -1
        groups = int(attributes.get("group", 1))
        self.channels.layer(place, reads[0], node.output[0], shape, weights, groups, axis)
        return True

    def _same_channels(self, read: str, written: str, shape: Shape) -> bool:
        axis, before = self.channels.axis_of(read), self._shape(read)
        if axis is not None and (before is None or before[axis] != shape[axis]):
            return False
        self.channels.same(read, written, shape)
        return True

    def _shape(self, name: str) -> Shape | None:
        """Return the shape of a tensor, None where a size of it is not known."""
        shape = self._shapes.get(name)
        if shape is None or not all(isinstance(size, int) for size in shape):
            return None
        return tuple(int(size) for size in shape)

    def _one_number(self, name: str) -> bool:
        """Return whether a tensor holds one number, such as the bound of a Clip."""
        return self.channels.is_constant(name) and self._shape(name) in ((), (1,))

    def _integers(self, name: str) -> list[int] | None:
        """Return the numbers of a constant tensor, None where they are not in the file."""
        tensor = self._numbers.get(name)
        return onnx_graph.integers_of(tensor) if tensor is not None else None
