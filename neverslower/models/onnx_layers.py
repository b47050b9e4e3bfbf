"""The layers of an ONNX file that have weights of their own, and the weights; runs in the child process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from neverslower.errors import NeverSlowerError
from neverslower.models import onnx_graph
from neverslower.models.onnx_graph import STANDARD
from neverslower.models.words import Input

Shape = tuple[int, ...]
_LAYERS = {"Conv", "Gemm", "MatMul"}


@dataclass(frozen=True)
class OnnxLayer:
    """A convolution, or a product with weights of its own.

    `weights` names the constant that holds them, of `shape` (out, in / groups, …), which is turned over where the file
    has (in, out). Its channels are on `axis` of what it makes. `ends` names what it makes with its bias, which may be
    added by a node of its own.
    """

    place: str
    weights: str
    shape: Shape
    axis: int
    turned: bool
    bias: bool
    ends: str


def shapes_of(graph: Any) -> dict[str, Shape]:
    """Return the shapes of the tensors of a graph that are known with all their sizes."""
    return {
        name: tuple(size for size in shape if isinstance(size, int))
        for name, shape in onnx_graph.shapes_of(graph).items()
        if all(isinstance(size, int) for size in shape)
    }


def layers_of(graph: Any, shapes: Mapping[str, Shape]) -> dict[str, OnnxLayer]:
    """Return the layers of a graph by the name of what they make."""
    constants, readers = _constants_of(graph), _readers_of(graph)
    found = {}
    for node, place in zip(graph.node, onnx_graph.places_of(graph), strict=True):
        of_layers = node.domain in STANDARD and node.op_type in _LAYERS
        if of_layers and (layer := _layer(node, place, shapes, constants)):
            (made,) = node.output
            found[made] = _with_bias(layer, made, readers.get(made, ()), shapes, constants)
    return found


def users_of(graph: Any) -> dict[str, set[str]]:
    """Return the places of the nodes that read each constant, or a copy of it."""
    constants, copies = _constants_of(graph), set(_constants_of(graph)) - set(onnx_graph.tensors_of(graph))
    found: dict[str, set[str]] = {}
    for node, place in zip(graph.node, onnx_graph.places_of(graph), strict=True):
        if not copies & set(node.output):
            for name in set(onnx_graph.reads_of(node)) & set(constants):
                found.setdefault(constants[name], set()).add(place)
    return found


def filters(path: Path, inputs: Sequence[Input]) -> dict[str, Any]:
    """Return the shape of each layer's weights, the L1 norm of each filter, and whether there is a bias.

    Raises NeverSlowerError, also where weights lie in a file that is not there.
    """
    graph = onnx_graph.opened(path, inputs).graph
    layers = layers_of(graph, shapes_of(graph)).values()
    tensors = onnx_graph.tensors_of(onnx_graph.inlined(onnx_graph.loaded(path)).graph)
    found: dict[str, Any] = dict(_transposed(graph))
    for layer in layers:
        numbers = _numbers(path, tensors[layer.weights])
        numbers = numbers.T if layer.turned else numbers
        norms = np.abs(numbers).reshape(len(numbers), -1).sum(axis=1).tolist()
        found[layer.place] = {"shape": list(layer.shape), "norms": norms, "bias": layer.bias}
    return found


def _transposed(graph: Any) -> Iterator[tuple[str, Any]]:
    """Yield the transposed convolutions, whose channels are held: of their weights the number alone counts."""
    tensors = onnx_graph.tensors_of(graph)
    for node, place in zip(graph.node, onnx_graph.places_of(graph), strict=True):
        if node.op_type == "ConvTranspose" and node.input[1] in tensors:
            yield place, {"shape": list(tensors[node.input[1]].dims), "norms": [], "bias": len(node.input) > 2}


def _numbers(path: Path, tensor: Any) -> Any:
    from onnx import numpy_helper

    try:
        return np.asarray(numpy_helper.to_array(tensor, base_dir=str(path.parent))).astype(np.float64)
    except Exception as error:  # noqa: BLE001  (onnx raises its own, protobuf's and Python's)
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise NeverSlowerError(
            f"--onnx {path}: the weights {tensor.name} can't be read ({why}); where they are in a file of their own, "
            "put it next to this one"
        ) from None


def _constants_of(graph: Any) -> dict[str, str]:
    """Return the constants of a graph, each with the tensor that it is a copy of."""
    found = {name: name for name in onnx_graph.tensors_of(graph)}
    for node in graph.node:
        if node.domain in STANDARD and node.op_type in ("Identity", "Cast") and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _readers_of(graph: Any) -> dict[str, list[Any]]:
    """Return the nodes that read each tensor, with None for the user, who gets the graph's outputs."""
    found: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in onnx_graph.reads_of(node):
            found.setdefault(name, []).append(node)
    for value in graph.output:
        found.setdefault(value.name, []).append(None)
    return found


def _layer(node: Any, place: str, shapes: Mapping[str, Shape], constants: Mapping[str, str]) -> OnnxLayer | None:
    """Return the layer that a node is, None where its weights or its bias are computed or of an unusual form."""
    weights, bias = node.input[1], node.input[2] if len(node.input) > 2 else ""
    attributes, shape = onnx_graph.attributes_of(node), shapes.get(weights, ())
    convolves = node.op_type == "Conv"
    if weights not in constants or not shape or (bias and bias not in constants):
        return None
    if not convolves and (len(shape) != 2 or attributes.get("transA")):
        return None
    turned = not convolves and not attributes.get("transB")
    shape = shape[::-1] if turned else shape
    if bias and shapes.get(bias, (0,)) not in ((), (1,), (1, 1), shape[:1], (1, shape[0])):
        return None
    axis = 1 if convolves else -1
    return OnnxLayer(place, constants[weights], shape, axis, turned, bool(bias), node.output[0])


def _with_bias(
    layer: OnnxLayer, made: str, readers: Sequence[Any], shapes: Mapping[str, Shape], constants: Mapping[str, str]
) -> OnnxLayer:
    """Return a layer with the bias that the only reader of what it makes adds to it, where there is one."""
    if layer.bias or len(readers) != 1 or readers[0] is None or made not in shapes:
        return layer
    (reader,) = readers
    added = [name for name in reader.input if name != made]
    if reader.domain not in STANDARD or reader.op_type != "Add" or len(added) != 1 or added[0] not in constants:
        return layer
    size, behind = shapes.get(added[0], ()), len(shapes[made]) - layer.axis % len(shapes[made])
    if len(size) >= behind and size[-behind] == prod(size) == layer.shape[0]:
        return replace(layer, bias=True, ends=reader.output[0])
    return layer
