"""Find the convolutions of an ONNX file; runs in the child process. Large tensors are never looked at."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from neverslower.counted import counted
from neverslower.errors import NeverSlowerError
from neverslower.models.epilogues import Graph, Kind, Operation
from neverslower.models.found import Found, same_padding
from neverslower.models.words import Input

_LARGEST_KEPT = 1024
"""Tensors of so many numbers or fewer keep their content, for they may be shapes; weights lose theirs."""
_QUANTISED = {"ConvInteger", "QLinearConv"}
_PRODUCTS = {"MatMul", "Gemm", "MatMulInteger", "QLinearMatMul"}
NORMALISATIONS = {"BatchNormalization", "LayerNormalization"}
STANDARD = {"", "ai.onnx"}
"""The domains of ONNX's own operators."""
Shapes = Mapping[str, tuple[int | str, ...]]


def find(path: Path, inputs: Sequence[Input]) -> Found:
    """Return what an ONNX file consists of. Raises NeverSlowerError, naming the file and what to do."""
    model = opened(path, inputs)
    found, shapes = Found(), shapes_of(model.graph)
    makers = {output: node for node in model.graph.node for output in node.output}
    graph, operations = _graph(model.graph, shapes)
    for index, (node, place) in enumerate(zip(model.graph.node, places_of(model.graph), strict=True)):
        if node.domain not in STANDARD:
            continue
        if node.op_type == "Conv":
            _add_convolution(found, path, model, node, place, shapes, makers, str(graph.epilogue(operations[index])))
        elif node.op_type == "ConvTranspose":
            size, filters = (_known(path, model, node, name, shapes) for name in node.input[:2])
            found.leave_out(place, "transposed convolution", prod(size) * prod(filters[1:]))
        elif node.op_type in _QUANTISED:
            weights = shapes.get(node.input[1 if node.op_type == "ConvInteger" else 3], ())
            found.leave_out(
                place, "quantised convolution", _product(shapes.get(node.output[0], ())) * _product(weights[1:])
            )
        elif node.op_type in _PRODUCTS:
            first = shapes.get(node.input[0], ())
            inner = first[0 if node.op_type == "Gemm" and attributes_of(node).get("transA") else -1] if first else 0
            found.leave_out(place, "matrix product", _product((*shapes.get(node.output[0], ()), inner)))
        for attribute in node.attribute:
            for inside in _convolutions_within(attribute):
                found.leave_out(f"{place}/{inside}", f"convolution inside {node.op_type}", 0)
    custom = sorted({f"{node.domain}::{node.op_type}" for node in model.graph.node if node.domain not in STANDARD})
    if custom:
        found.remarks.append(f"has custom operators, whose work is not counted: {', '.join(custom[:5])}")
    return found


def opened(path: Path, inputs: Sequence[Input]) -> Any:
    """Return the model of a file without its weights, its shapes inferred. Raises NeverSlowerError."""
    model = loaded(path)
    _require_known_opset(path, model)
    _drop_weights(model)
    model = inlined(model)
    _require_whole_nodes(path, model)
    _bind(path, model.graph, inputs)
    return _inferred(path, model, [] if inputs else _made_by_custom(model))


def loaded(path: Path) -> Any:
    """Return the model of a file as it is, without the weights in other files. Raises NeverSlowerError."""
    try:
        import onnx
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise NeverSlowerError("--onnx needs the onnx package; `pip install onnx` brings it") from None
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith((b"PK", b"\x80")):
        raise NeverSlowerError(
            f"--onnx {path}: this is a pickle of torch.save, and no pickle is ever loaded; export it"
        )
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # noqa: BLE001  (protobuf's own errors differ from version to version)
        raise NeverSlowerError(
            f"--onnx {path}: not a whole ONNX file ({type(error).__name__}); copy or export it again"
        ) from None
    if not model.graph.node:
        raise NeverSlowerError(f"--onnx {path}: not an ONNX model, or an empty one; export it again")
    return model


def _require_known_opset(path: Path, model: Any) -> None:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if opset.domain in STANDARD and opset.version > newest:
            raise NeverSlowerError(
                f"--onnx {path}: opset {opset.version} is newer than {newest}, the newest that onnx {onnx.__version__} "
                "knows; `pip install -U onnx`, or export with an older opset_version"
            )


def inlined(model: Any) -> Any:
    """Return a model with the bodies of its own functions in the place of their calls."""
    if not model.functions:
        return model
    from onnx import inliner  # The package does not import it by itself.

    return inliner.inline_local_functions(model)


def _require_whole_nodes(path: Path, model: Any) -> None:
    """Refuse standard nodes that lack an input or an output that they must have. Raises NeverSlowerError."""
    import onnx

    version = max((one.version for one in model.opset_import if one.domain in STANDARD), default=1)
    for node in model.graph.node:
        if node.domain not in STANDARD or not onnx.defs.has(node.op_type):
            continue
        try:
            schema = onnx.defs.get_schema(node.op_type, version)
        except onnx.defs.SchemaError:  # The operator is newer than the file's opset.
            continue
        wanted = ("inputs", node.input, schema.min_input), ("outputs", node.output, schema.min_output)
        for words, has, least in wanted:
            if len(has) < least:
                what = " ".join(filter(None, [node.op_type, node.name]))
                raise NeverSlowerError(f"--onnx {path}: {what} has {len(has)} of its {least} {words}; export it again")


def _drop_weights(model: Any) -> None:
    """Forget the content of large tensors, which no shape depends on, so that inferring shapes copies none of it."""
    for tensor in model.graph.initializer:
        if prod(tensor.dims) > _LARGEST_KEPT or tensor.external_data:
            for name in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                tensor.ClearField(name)
    for node in model.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.HasField("t") and prod(attribute.t.dims) > _LARGEST_KEPT:
                attribute.t.ClearField("raw_data")


def _bind(path: Path, graph: Any, inputs: Sequence[Input]) -> None:
    """Write the user's shapes into the graph's inputs. Raises NeverSlowerError for one that is not there."""
    weights = {tensor.name for tensor in graph.initializer}
    own = {value.name: value for value in graph.input if value.name not in weights}
    listed = ", ".join(f"{name} {_words(value)}" for name, value in own.items())
    if len(inputs) > len(own):
        raise NeverSlowerError(f"--onnx {path}: {counted(len(inputs), 'input')} given, and it has {len(own)}: {listed}")
    unnamed = iter(own.values())
    for given in inputs:
        value = own.get(given.name) if given.name else next(unnamed)
        if value is None:
            raise NeverSlowerError(
                f"--input {given.name}={given.shape_words}: {path} has no such input; it has {listed}"
            )
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and len(dims) != len(given.shape):
            raise NeverSlowerError(f"--input {given.shape_words} is of rank {len(given.shape)}; {path} takes {listed}")
        fixed = [dim.dim_value for dim in dims]
        if any(size and size != wanted for size, wanted in zip(fixed, given.shape, strict=False)):
            raise NeverSlowerError(
                f"--input {given.shape_words} contradicts the file's fixed shape; {path} takes {listed}"
            )
        del dims[:]
        for size in given.shape:
            dims.add().dim_value = size


def _words(value: Any) -> str:
    dims = value.type.tensor_type.shape.dim
    return "x".join(str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims)


def _fixed(value: Any) -> bool:
    """Return whether all sizes of an input are known."""
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)


def _made_by_custom(model: Any) -> list[Any]:
    """Return the shapes, as far as the file has them, of what custom operators make: nobody else knows them."""
    made = {name for node in model.graph.node if node.domain not in STANDARD for name in node.output}
    return [copy.deepcopy(value) for value in model.graph.value_info if value.name in made]


def _inferred(path: Path, model: Any, known: Sequence[Any]) -> Any:
    """Return the model with the shapes that follow from its inputs and from `known` ones."""
    import onnx

    try:
        while True:
            # Shapes that the exporter wrote are those of its own example; the batch that was bound may be another.
            del model.graph.value_info[:]
            model.graph.value_info.extend(known)
            model = onnx.shape_inference.infer_shapes(model, data_prop=True)
            if not _divided(model.graph):
                return model
    except Exception as error:  # noqa: BLE001  (onnx raises several kinds)
        words = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NeverSlowerError(f"--onnx {path}: onnx can't infer its shapes: {words}") from None


def _divided(graph: Any) -> bool:
    """Make constants of what divisions of known sizes give, and of what is computed from that, as in `chunk`.

    onnx infers what is made of sizes otherwise. Return whether there was any.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    computes: dict[str, Any] = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Gather": np.take}
    computes["Div"] = lambda one, other: np.trunc(one / other).astype(np.int64)
    shapes, made = shapes_of(graph), set[str]()
    known = {
        name: numpy_helper.to_array(tensor)
        for name, tensor in tensors_of(graph).items()
        if tensor.data_type == TensorProto.INT64 and list(tensor.dims) in ([], [1])  # Larger ones are no sizes.
    }
    for node in graph.node:
        shape = shapes.get(node.input[0], ("?",)) if node.op_type == "Shape" and not node.attribute else ("?",)
        if all(isinstance(size, int) for size in shape):
            known[node.output[0]] = np.array(shape)
        elif node.op_type in computes and all(name in known for name in node.input):
            known[node.output[0]] = value = computes[node.op_type](*(known[name] for name in node.input))
            if node.op_type == "Div" or made & set(node.input):
                made |= set(node.output)
                held = numpy_helper.from_array(np.asarray(value))
                node.CopyFrom(helper.make_node("Constant", [], list(node.output), node.name, value=held))
    return bool(made)


def shapes_of(graph: Any) -> Shapes:
    """Return the shapes of the tensors of a graph, as far as they are known."""
    known: dict[str, tuple[int | str, ...]] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape") and value.name not in known:
            dims = value.type.tensor_type.shape.dim
            known[value.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in dims
            )
    for node in graph.node:
        if node.op_type == "Constant":
            known |= {name: tuple(one.t.dims) for name in node.output for one in node.attribute if one.name == "value"}
    return known


def tensors_of(graph: Any) -> dict[str, Any]:
    """Return the constant tensors of a graph by name."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found |= {name: one.t for name in node.output for one in node.attribute if one.name == "value"}
    return found


def whole_numbers_of(graph: Any) -> dict[str, list[int]]:
    """Return the content of the small constants that hold whole numbers, which are axes, pads and shapes, by name."""
    from onnx import TensorProto, numpy_helper

    found = {}
    for name, tensor in tensors_of(graph).items():
        small = prod(tensor.dims) <= _LARGEST_KEPT and not tensor.external_data
        if small and tensor.data_type in (TensorProto.INT32, TensorProto.INT64):
            found[name] = [int(value) for value in numpy_helper.to_array(tensor).ravel()]
    for node in graph.node:
        if node.op_type == "Constant":
            found |= {
                name: list(one.ints) for name in node.output for one in node.attribute if one.name == "value_ints"
            }
    return found


def reads_of(node: Any) -> list[str]:
    """Return the tensors that a node reads, those that graphs inside it take from outside among them."""
    found = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            for inner in graph.node:
                found += reads_of(inner)
            found += [value.name for value in graph.output]
    return found


def _known(path: Path, model: Any, node: Any, name: str, shapes: Shapes) -> tuple[int, ...]:
    """Return the shape of a tensor that must be known. Raises NeverSlowerError with what hides it."""
    shape = shapes.get(name)
    if shape and all(isinstance(size, int) for size in shape):
        return tuple(int(size) for size in shape)
    custom = sorted({f"{one.domain}::{one.op_type}" for one in model.graph.node if one.domain not in STANDARD})
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if custom:
        why = (
            f"custom operators hide it ({', '.join(custom[:3])}): export the model without them, or with the shapes of "
            "what they make, and without --input"
        )
    elif all(_fixed(value) for value in inputs):
        why = (
            "onnx can't infer it, though the inputs are fixed: export the model with torch.onnx.export(…, "
            "dynamo=True), or simplify the file with onnxscript.optimizer"
        )
    else:
        listed = ", ".join(f"{value.name} {_words(value)}" for value in inputs)
        why = f"bind its dynamic axes with --input NAME=SHAPE ({listed})"
    raise NeverSlowerError(f"--onnx {path}: the shape of {node.name or node.op_type}'s input {name} is unknown; {why}")


def _add_convolution(
    found: Found,
    path: Path,
    model: Any,
    node: Any,
    place: str,
    shapes: Shapes,
    makers: Mapping[str, Any],
    epilogue: str,
) -> None:
    inputs, weights = (_known(path, model, node, name, shapes) for name in node.input[:2])
    maker = makers.get(node.input[1])
    if maker is not None and maker.op_type == "DequantizeLinear":
        found.leave_out(place, "quantised convolution", _product(shapes.get(node.output[0], ())) * prod(weights[1:]))
        return
    attributes, axes = attributes_of(node), len(weights) - 2
    stride, dilation = (attributes.get(name) or [1] * axes for name in ("strides", "dilations"))
    pads = attributes.get("pads") or [0] * (2 * axes)
    padding = list(zip(pads[:axes], pads[axes:], strict=True))
    kind = attributes.get("auto_pad", b"NOTSET").decode()
    if kind.startswith("SAME"):
        sizes = zip(inputs[2:], weights[2:], stride, dilation, strict=True)
        padding = [same_padding(*axis, more_first=kind == "SAME_LOWER") for axis in sizes]
    elif kind == "VALID":
        padding = [(0, 0)] * axes
    found.convolution(place, inputs, weights, stride, padding, dilation, int(attributes.get("group", 1)), epilogue)


_KINDS = {
    "BatchNormalization": Kind.NORMALISATION,
    "Relu": Kind.RELU,
    "Swish": Kind.SILU,
    "Sigmoid": Kind.SIGMOID,
    "Mul": Kind.PRODUCT,
}


def _graph(graph: Any, shapes: Shapes) -> tuple[Graph, list[Operation]]:
    """Return the graph of a file as one of our own, and its operations in the order of its nodes."""
    operations = [
        Operation(_kind(node, shapes), tuple(filter(None, node.input)), tuple(filter(None, node.output)))
        for node in graph.node
    ]
    return Graph(operations, (value.name for value in graph.output)), operations


def _kind(node: Any, shapes: Shapes) -> Kind:
    if node.domain not in STANDARD:
        return Kind.OTHER
    if node.op_type == "Conv":
        return Kind.BIASED_CONVOLUTION if len(node.input) > 2 and node.input[2] else Kind.CONVOLUTION
    if node.op_type == "Add":
        first, second = node.input
        alike = first != second and shapes.get(first, 1) == shapes.get(second, 2)
        return Kind.ADD if alike else Kind.OTHER
    if node.op_type == "Swish" and attributes_of(node).get("alpha", 1.0) != 1.0:
        return Kind.OTHER
    if node.op_type == "BatchNormalization" and attributes_of(node).get("training_mode"):
        return Kind.OTHER
    return _KINDS.get(node.op_type, Kind.OTHER)


def attributes_of(node: Any) -> dict[str, Any]:
    """Return the attributes of a node by name."""
    import onnx

    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _product(shape: Sequence[int | str]) -> int:
    """Return the product of the sizes that are known."""
    return prod(size for size in shape if isinstance(size, int)) if shape else 0


def _convolutions_within(attribute: Any) -> Iterator[str]:
    """Yield the names of convolutions in the graphs that an attribute holds, those of If and Loop."""
    for graph in [attribute.g, *attribute.graphs]:
        for node in graph.node:
            if node.op_type in ("Conv", "ConvTranspose", *_QUANTISED):
                yield node.name or node.op_type
            for inner in node.attribute:
                yield from _convolutions_within(inner)


def places_of(graph: Any) -> list[str]:
    """Return what each node is called, in their order; of two layers of one name but other weights one gets a number.

    So what has one name has one set of weights.
    """
    constants, weights, found = tensors_of(graph), dict[tuple[bool, str], str](), []
    for index, node in enumerate(graph.node):
        place = place_of(node, f"{node.op_type}_{index}")
        read = node.input[1] if len(node.input) > 1 else ""
        has_own = node.op_type in ("Gemm", "MatMul") and read in constants
        if has_own or node.op_type in {"Conv", "ConvTranspose", *NORMALISATIONS}:
            norm = node.op_type in NORMALISATIONS
            while weights.setdefault((norm, place), read) != read:
                place = f"{place}_{index}"
        found.append(place)
    return found


def place_of(node: Any, default: str) -> str:
    """Return the name of the torch module that a node comes from where the exporter wrote it, else the node's own."""
    # The weights first: where the exporter folded a normalisation into a convolution, the scopes are the former's.
    # Normalisations of equal numbers may share them, so theirs come last.
    named = [_of_weights(node), _of_scopes(node)]
    ordered = reversed(named) if node.op_type in NORMALISATIONS else named
    place = next(filter(None, ordered), node.name or default)
    return str(place).replace("#", "_")  # Behind a # stands which time a layer runs.


def _of_weights(node: Any) -> str:
    weights = node.input[1] if len(node.input) > 1 else ""
    return str(weights.removesuffix(".weight")) if weights.endswith(".weight") else ""


def _of_scopes(node: Any) -> str:
    """Return the module that the exporter wrote down with a node, or in its name; empty without one."""
    scopes = next((prop.value for prop in node.metadata_props if prop.key == "pkg.torch.onnx.name_scopes"), "")
    if scopes:
        try:
            names = [str(name) for name in ast.literal_eval(scopes)]
        except (ValueError, SyntaxError):
            names = []
        if len(names) > 1 and names[-2]:
            return names[-2]
    return _scope(node.name) if node.name.startswith("/") else ""


def _scope(name: str) -> str:
    """Return `layer1.0.conv1` for `/layer1/layer1.0/conv1/Conv`, as torch's older exporter names nodes."""
    path: list[str] = []
    for part in name.split("/")[1:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path.pop()
        path.append(part)
    return ".".join(path)
