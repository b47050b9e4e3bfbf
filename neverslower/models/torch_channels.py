"""Follow the channels of a torch module through the graph of torch.export; runs in the child process."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from neverslower.models import torch_module
from neverslower.models.channels import Channels, Shape
from neverslower.models.words import Input, ModelName

_ALIKE = {
    "relu",
    "relu6",
    "silu",
    "sigmoid",
    "tanh",
    "gelu",
    "elu",
    "selu",
    "celu",
    "mish",
    "leaky_relu",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "softplus",
    "dropout",
    "feature_dropout",
    "alpha_dropout",
    "clone",
    "contiguous",
    "detach",
    "alias",
    "lift_fresh_copy",
    "to",
    "_to_copy",
    "neg",
    "abs",
    "pow",
    "sqrt",
    "square",
    "exp",
    "erf",
    "clamp",
    "clamp_min",
    "clamp_max",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool2d",
    "max_pool2d_with_indices",
    "upsample_nearest2d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
}
"""Operations that give channel c of their output from channel c of their input alone, by the same formula for each."""
_TOGETHER = {"add", "sub", "rsub", "mul", "div", "maximum", "minimum"}
_RESHAPES = {"flatten", "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze", "unflatten"}
_CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}
_REDUCTIONS = {"mean", "sum", "amax"}


def followed(name: ModelName, inputs: Sequence[Input]) -> Channels:
    """Return the channels of a module, followed from its inputs to its outputs. Raises NeverSlowerError."""
    program = torch_module.traced(name, inputs)
    reader = _Reader(program.graph_signature)
    for node in program.graph.nodes:
        reader.add(node)
    return reader.channels


class _Reader:
    """What reads the nodes of one program."""

    def __init__(self, signature: Any) -> None:
        self.channels = Channels()
        self._weights: Mapping[str, str] = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self._inputs = set(signature.user_inputs)
        self._turned: dict[str, str] = {}

    def add(self, node: Any) -> None:
        """Add what a node does to channels."""
        if node.op == "placeholder":
            shape = torch_module.shape_of(node)
            if shape is not None:
                (self.channels.input if node.name in self._inputs else self.channels.constant)(node.name, shape)
        elif node.op == "output":
            for read in node.all_input_nodes:
                self.channels.output(read.name)
        elif node.target is operator.getitem:
            self._pick(node)
        elif node.op == "call_function" and _shapes(node.meta.get("val")):
            self._call(node)

    def _pick(self, node: Any) -> None:
        """Add the choice of one of several results; those of what is not understood have the node's name and number."""
        of, place = node.args
        shape = torch_module.shape_of(node)
        if shape is not None:
            self.channels.same(f"{of.name}#{place}" if place else of.name, node.name, shape)

    def _call(self, node: Any) -> None:
        if hasattr(node.target, "_schema"):
            namespace, _, operation = node.target._schema.name.partition("::")
            add = self._adder(operation.strip("_"), node) if namespace == "aten" else None
            if add is not None:
                values = torch_module.arguments(node)
                add(node, values, _shapes(node.meta["val"])[0])
                return
        self._unknown(node)

    def _adder(self, operation: str, node: Any) -> Callable[[Any, dict[str, Any], Shape], None] | None:
        """Return what adds an operation, None for one that is not understood."""
        if operation in _CONVOLUTIONS or operation in ("convolution", "linear"):
            return self._layer
        if operation in ("t", "permute", "transpose") and node.all_input_nodes[0].name in self._weights:
            return self._turn
        if operation in _ALIKE:
            return self._same
        if operation in _TOGETHER and not _rounds(node):
            return self._together
        if operation in _RESHAPES:
            return self._reshaped
        if operation in _REDUCTIONS and "dim" in torch_module.arguments(node):
            return self._reduced
        others = {
            "batch_norm": self._norm,
            "native_batch_norm_legit_no_training": self._norm,
            "addmm": self._product,
            "mm": self._product,
            "layer_norm": self._layer_norm,
            "cat": self._concatenation,
            "permute": self._permuted,
            "transpose": self._transposed,
            "pad": self._padded,
            "constant_pad_nd": self._padded,
        }
        return others.get(operation)

    def _layer(self, node: Any, values: dict[str, Any], shape: Shape) -> None:
        weight, bias = values["weight"], values["bias"]
        name, weights = self._module_of(weight, "weight"), torch_module.shape_of(weight) or ()
        if not name or (bias is not None and self._module_of(bias, "bias") != name):
            self._unknown(node, "whose weights are no parameters of its own")
            return
        if values.get("transposed"):
            self._unknown(node)
            return
        axis = len(shape) - len(weights) + 1 if "groups" in values else -1  # A convolution may read one image alone.
        self.channels.layer(name, values["input"].name, node.name, shape, weights, int(values.get("groups", 1)), axis)

    def _turn(self, node: Any, values: dict[str, Any], shape: Shape) -> None:
        """Add weights that are turned over, as older versions of torch have those of a linear layer."""
        self._turned[node.name] = self._weights[node.all_input_nodes[0].name]
        self.channels.constant(node.name, shape)

    def _product(self, node: Any, values: dict[str, Any], shape: Shape) -> None:
        read, bias = (values["mat1"], values["self"]) if "mat1" in values else (values["self"], None)
        turned = values["mat2"]
        name = self._turned.get(turned.name, "").removesuffix(".weight")
        if not name or (bias is not None and self._module_of(bias, "bias") != name):
            self._unknown(node)
            return
        features, channels = torch_module.shape_of(turned) or ()
        self.channels.layer(name, read.name, node.name, shape, (channels, features), 1, -1)

    def _norm(self, node: Any, values: dict[str, Any], shape: Shape) -> None:
        named = [(part, values[part]) for part in ("weight", "bias", "running_mean", "running_var")]
        names = {self._module_of(read, part) for part, read in named if read is not None}
        if len(names) > 1 or names == {""} or (values.get("training") and values["running_mean"] is not None):
            self._unknown(node, "whose numbers are no parameters of its own")
        elif names:
            self.channels.norm(names.pop(), values["input"].name, node.name)
        else:
            self.channels.same(values["input"].name, node.name, shape)

    def _layer_norm(self, node: Any, values: dict[str, Any], shape: Shape) -> None:
        read, weight = values["input"].name, values["weight"]
        axis = self.channels.axis_of(read)
        if len(values["normalized_shape"]) != 1 or weight is None or axis != len(shape) - 1:
            self._unknown(node)
        else:
            name = self._module_of(weight, "weight")
            why = f"{name} normalises over the channels, so that zeros would change its result"
            self.channels.norm(name, read, node.name, -1, why) if name else self._unknown(node)

    def _same(self, node: Any, values: dict[str, Any], shape: Shape) -> None:
        operation = node.target._schema.name
        if len(node.all_input_nodes) > 1:
            self._unknown(node)
        elif over := re.search(r"(?:pool|nearest|linear|bilinear|bicubic)([123])d", operation):
            self.channels.pooled(self._words(node), node.all_input_nodes[0].name, node.name, shape, int(over[1]))
        else:
            self.channels.same(node.all_input_nodes[0].name, node.name, shape)

    def _together(self, node: Any, values: dict[str, Any], shape: Shape) -> None:
        self.channels.together(self._words(node), [read.name for read in node.all_input_nodes], node.name, shape)

    def _reshaped(self, node: Any, values: dict[str, Any], shape: Shape) -> None:
        self.channels.reshaped(self._words(node), values["self"].name, node.name, shape)

    def _reduced(self, node: Any, values: dict[str, Any], shape: Shape) -> None:
        axes, read = values["dim"] or [], values["self"].name
        axes = [axes] if isinstance(axes, int) else axes
        self.channels.reduced(self._words(node), read, node.name, axes, bool(values["keepdim"]), shape)

    def _concatenation(self, node: Any, values: dict[str, Any], shape: Shape) -> None:
        reads = [read.name for read in values["tensors"]]
        self.channels.concatenation(self._words(node), reads, node.name, shape, values["dim"])

    def _permuted(self, node: Any, values: dict[str, Any], shape: Shape) -> None:
        self.channels.transposed(values["self"].name, node.name, values["dims"], shape)

    def _transposed(self, node: Any, values: dict[str, Any], shape: Shape) -> None:
        order = list(range(len(shape)))
        first, second = values["dim0"], values["dim1"]
        order[first], order[second] = order[second], order[first]
        self.channels.transposed(values["self"].name, node.name, order, shape)

    def _padded(self, node: Any, values: dict[str, Any], shape: Shape) -> None:
        read = values["self"]
        axis, before = self.channels.axis_of(read.name), torch_module.shape_of(read) or ()
        if axis is not None and before[axis] != shape[axis]:
            self._unknown(node)
        else:
            self.channels.same(read.name, node.name, shape)

    def _unknown(self, node: Any, why: str = "") -> None:
        shapes = _shapes(node.meta.get("val"))
        names = [node.name, *(f"{node.name}#{place}" for place in range(1, len(shapes)))]
        what = f"{self._words(node)}, {why}" if why else self._words(node)
        self.channels.unknown(what, [read.name for read in node.all_input_nodes], zip(names, shapes, strict=True))

    def _words(self, node: Any) -> str:
        """Return what messages call a node: its operation, the module it is in, and the parameters that it reads."""
        operation = getattr(node.target, "_schema", None)
        name = operation.name.removeprefix("aten::").strip("_") if operation else getattr(node.target, "__name__", "?")
        place = torch_module.place_of(node)
        weights = [self._weights[read.name] for read in node.all_input_nodes if read.name in self._weights]
        with_weights = f" with {', '.join(weights)}" if weights else ""
        return f"{name}{with_weights}{f' in {place}' if place and place != node.name else ''}"

    def _module_of(self, node: Any, part: str) -> str:
        """Return the module whose parameter of this name a node is, empty where it is something else."""
        name = self._weights.get(getattr(node, "name", ""), "")
        return name.removesuffix(f".{part}") if name.endswith(f".{part}") else ""


def _rounds(node: Any) -> bool:
    return torch_module.arguments(node).get("rounding_mode") is not None


def _shapes(value: Any) -> list[Shape]:
    """Return the shapes of the tensors that a node makes."""
    return list(_each_shape(value))


def _each_shape(value: Any) -> Iterator[Shape]:
    for part in value if isinstance(value, (tuple, list)) else [value]:
        if hasattr(part, "shape"):
            yield tuple(int(size) for size in part.shape)
