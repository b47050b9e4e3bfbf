"""Find the convolutions of a torch module; runs in the child process, the only place that imports the user's code.

torch.export on the meta device traces the module without computing anything or holding a weight. Where its control
flow depends on data, one real run on the CPU is watched instead.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import inspect
import operator
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

from neverslower.errors import NeverSlowerError
from neverslower.models import content
from neverslower.models.epilogues import Graph, Kind, Operation
from neverslower.models.found import Found, same_padding
from neverslower.models.words import Input, ModelName

_PRODUCTS = {"linear", "addmm", "mm", "bmm", "matmul", "baddbmm"}
_CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}
_TRANSPOSED = {"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
_ATTENTION = "scaled_dot_product_attention"
_UNCOUNTED = {
    "einsum",
    "lstm",
    "gru",
    "rnn_tanh",
    "rnn_relu",
    "native_multi_head_attention",
    "multi_head_attention_forward",
}
"""Operations that multiply too, of which only the name is told."""
_SHAPES_NEED_NONE = "the model wants a GPU, and shapes need none: build it without .cuda() or device='cuda'"


class UsersError(NeverSlowerError):
    """The user's code failed: what it was doing, its own traceback, and the remedy; `wants_gpu` is that of no GPU."""

    def __init__(self, doing: str, error: BaseException, remedy: str = "", wants_gpu: str = _SHAPES_NEED_NONE) -> None:
        lines = _users_traceback(error)
        if "CUDA" in lines[-1] or "NVIDIA" in lines[-1] or "cuda" in lines[-1]:
            remedy = wants_gpu
        text = "\n".join(f"  {line}" for line in lines)
        super().__init__(f"{doing}:\n{text}" + (f"\n{remedy}" if remedy else ""))


def find(name: ModelName, inputs: Sequence[Input]) -> Found:
    """Return what a model consists of. Raises NeverSlowerError, with the user's traceback where their code failed."""
    import torch  # noqa: F401  (its modules are none of the user's)

    before = set(sys.modules)
    found = _found(name, inputs)
    found.content += content.sources(before)
    return found


def _found(name: ModelName, inputs: Sequence[Input]) -> Found:
    import torch

    build = load(name)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        with torch.device("meta"):
            model = _built(name, build)
    except UsersError:
        model = _built(name, build)  # It may need numbers where a meta tensor has none; what fails again is told.
    shown = "without an --input" if not inputs else f"with --input {', '.join(one.shape_words for one in inputs)}"
    try:
        return _exported(model, inputs)
    except Exception as error:  # noqa: BLE001  (torch.export fails in many ways; a real run decides)
        why = _short(error)
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        model = _built(name, build)
    try:
        found = _watched(model, inputs)
    except Exception as error:  # noqa: BLE001  (whatever the user's code raises is told)
        remedy = "give the shape that the model takes, such as --input 1x3x224x224; repeat it for several inputs"
        raise UsersError(f"{name.flag} failed when it was run {shown}", error, remedy) from None
    found.remarks.append(f"found by a run on the CPU, since torch.export could not trace it ({why})")
    return found


def traced(name: ModelName, inputs: Sequence[Input]) -> Any:
    """Return the program that torch.export makes of a model. Raises NeverSlowerError where it can't."""
    import torch

    build = load(name)
    warnings.simplefilter("ignore")
    try:
        with torch.device("meta"):
            model = _built(name, build)
    except UsersError:
        model = _built(name, build)
    try:
        return _program(model, inputs)
    except Exception as error:  # noqa: BLE001  (torch.export fails in many ways)
        raise NeverSlowerError(
            f"{name.flag}: torch.export can't trace it ({_short(error)}), and only its trace says how layers are "
            "connected; check --input, write its forward without branches on data, or export it to ONNX"
        ) from None


def load(name: ModelName) -> Callable[[], Any] | Any:
    """Return the callable, or the module, that a name stands for. Raises NeverSlowerError."""
    try:
        module = _from_file(name.path) if name.path else importlib.import_module(name.module)
    except ModuleNotFoundError as error:
        if not name.path and error.name and (name.module == error.name or name.module.startswith(f"{error.name}.")):
            where = "it is looked for where pytest is started, and among what is installed"
            raise NeverSlowerError(f"{name.flag}: there is no module {error.name}; {where}") from None
        raise UsersError(f"{name.flag} can't be imported", error) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever the user's code raises is told)
        raise UsersError(f"{name.flag} can't be imported", error) from None
    found: Any = module
    for part in name.attribute.split("."):
        if not hasattr(found, part):
            offered = ", ".join(sorted(_builders(module))[:8]) or "no function"
            raise NeverSlowerError(f"{name.flag}: no {name.attribute} there; it has {offered}")
        found = getattr(found, part)
    return found


def _from_file(path: Path) -> Any:
    sys.path.insert(0, str(path.parent))  # As for a script, so that it finds its neighbours.
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise NeverSlowerError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _builders(module: Any) -> Iterator[str]:
    for name, value in vars(module).items():
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", "") == module.__name__:
            yield name


def built(name: ModelName) -> Any:
    """Return a module of its own that a name stands for, ready for inference. Raises NeverSlowerError."""
    found = load(name)
    model = _built(name, found)
    return copy.deepcopy(model) if model is found else model


def _built(name: ModelName, build: Any) -> Any:
    """Return the module that a callable makes, ready for inference. Raises NeverSlowerError."""
    import torch

    if isinstance(build, torch.nn.Module):
        model: Any = build
    elif not callable(build):
        raise NeverSlowerError(f"{name.flag}: {name.attribute} is a {type(build).__name__}, not a callable")
    else:
        _require_no_arguments(name, build)
        try:
            model = build()
        except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever the user's code raises is told)
            raise UsersError(f"{name.flag} failed when it was called", error) from None
    if not isinstance(model, torch.nn.Module):
        raise NeverSlowerError(
            f"{name.flag}: what it returned is no torch.nn.Module but of the type {type(model).__name__}"
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise NeverSlowerError(
            f"{name.flag}: it returned TorchScript, whose modules can't be looked into; name the Python that "
            "it was made of, or export that to ONNX"
        )
    return model.eval()


def _require_no_arguments(name: ModelName, build: Any) -> None:
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):  # A built-in; calling it will tell.
        return
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [one.name for one in parameters if one.default is inspect.Parameter.empty and one.kind not in variable]
    if needed:
        raise NeverSlowerError(
            f"{name.flag}: {name.attribute} needs arguments ({', '.join(needed)}); write a function that needs "
            f"none, such as `def build(): return {name.attribute.rpartition('.')[2]}(…)`, and name that"
        )


def _tensors(inputs: Sequence[Input], device: Any) -> tuple[Any, ...]:
    import torch

    kinds = [(one.shape, getattr(torch, one.dtype)) for one in inputs]
    return tuple(torch.zeros(shape, dtype=dtype, device=device) for shape, dtype in kinds)


def filters(name: ModelName) -> dict[str, Any]:
    """Return the shape of each module's weights, the L1 norm of each filter, and whether there is a bias.

    Weights that the user's callable draws are drawn as in every worker. Raises NeverSlowerError.
    """
    import torch

    torch.manual_seed(0)
    found = {}
    for place, module in built(name).named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.nn.Parameter) and weight.dim() > 1 and not weight.is_meta:
            norms = weight.detach().double().abs().flatten(1).sum(1).tolist()
            bias = getattr(module, "bias", None) is not None
            found[place] = {"shape": list(weight.shape), "norms": norms, "bias": bias}
    return found


# By torch.export


def _program(model: Any, inputs: Sequence[Input]) -> Any:
    import torch

    if not all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        model = copy.deepcopy(model).to("meta")  # A run on the CPU may need its numbers yet.
    return torch.export.export(model, _tensors(inputs, "meta"))


def _exported(model: Any, inputs: Sequence[Input]) -> Found:
    program = _program(model, inputs)
    found, (graph, operations) = Found(), _graph(program.graph.nodes)
    found.content += content.operations(program)
    for node in program.graph.nodes:
        if node.op == "call_function" and hasattr(node.target, "_schema"):
            values = arguments(node)
            shaped = {name: shape_of(value) for name, value in values.items()}
            namespace, _, operation = node.target._schema.name.partition("::")
            made = operations[node.name]
            epilogue = str(graph.epilogue(made)) if made.kind in _KINDS_OF_CONVOLUTION else None
            _add(found, place_of(node), namespace, operation, values, shaped, shape_of(node), epilogue)
    return found


_KINDS_OF_CONVOLUTION = (Kind.CONVOLUTION, Kind.BIASED_CONVOLUTION)
_KINDS = {"relu": Kind.RELU, "silu": Kind.SILU, "sigmoid": Kind.SIGMOID, "mul": Kind.PRODUCT}


def arguments(node: Any) -> dict[str, Any]:
    """Return the arguments of a call of torch by name, with the defaults of its schema."""
    schema = node.target._schema.arguments
    values = {argument.name: argument.default_value for argument in schema}
    names = [argument.name for argument in schema]
    return {**values, **dict(zip(names, node.args, strict=False)), **node.kwargs}


def _graph(nodes: Iterable[Any]) -> tuple[Graph, dict[str, Operation]]:
    """Return a graph of torch.export as one of our own, and its operations by the names of the nodes."""
    operations: dict[str, Operation] = {}
    returned: list[str] = []
    renamed: dict[str, str] = {}
    for node in nodes:
        reads = [renamed.get(read.name, read.name) for read in node.all_input_nodes]
        if node.op == "output":
            returned = reads
        elif node.target is operator.getitem and node.args[1] == 0:
            # Older versions of torch normalise into three tensors, of which the first counts.
            renamed[node.name] = reads[0]
        elif node.op == "call_function":
            operations[node.name] = Operation(_kind(node), tuple(reads), (node.name,))
    return Graph(list(operations.values()), returned), operations


def _kind(node: Any) -> Kind:
    """Return the kind of a node that calls a function."""
    if not hasattr(node.target, "_schema"):
        return Kind.OTHER
    values, operation = arguments(node), node.target._schema.name.removeprefix("aten::").strip("_")
    if operation in _CONVOLUTIONS or (operation == "convolution" and not values["transposed"]):
        return Kind.CONVOLUTION if values["bias"] is None else Kind.BIASED_CONVOLUTION
    if operation == "batch_norm":
        return Kind.OTHER if values["training"] else Kind.NORMALISATION
    if operation == "native_batch_norm_legit_no_training":
        return Kind.NORMALISATION
    if operation == "add":
        shapes = [shape_of(values[name]) for name in ("self", "other")]
        # A node lists what it reads once: `x + x` is no sum of two tensors.
        alike = values["alpha"] == 1 and len(node.all_input_nodes) == 2 and shapes[0] == shapes[1]
        return Kind.ADD if alike else Kind.OTHER
    return _KINDS.get(operation, Kind.OTHER)


def place_of(node: Any) -> str:
    """Return the name of the module in which a node runs."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    name = str(stack[-1][0]) if stack else ""
    return name.removeprefix("L['self'].") or str(node.name)


def shape_of(node: Any) -> tuple[int, ...] | None:
    """Return the shape of the tensor that a node makes, None where it makes no tensor or several."""
    value = node.meta.get("val") if hasattr(node, "meta") else node
    return tuple(int(size) for size in value.shape) if hasattr(value, "shape") else None


def _add(
    found: Found,
    place: str,
    namespace: str,
    operation: str,
    values: dict[str, Any],
    shapes: dict[str, Any],
    output: tuple[int, ...] | None,
    epilogue: str | None = None,
) -> None:
    """Add what one operation of torch is, by its schema's names of arguments."""
    outputs = prod(output or (0,))
    if namespace != "aten":
        if "conv" in operation:
            found.leave_out(place, f"{namespace} convolution", 0)  # Its weights may be of any form.
        return
    if operation == "convolution" and values["transposed"]:
        operation = "conv_transpose2d"
    if operation in _CONVOLUTIONS or operation == "convolution":
        _add_convolution(found, place, values, shapes, epilogue)
    elif operation in _TRANSPOSED:
        found.leave_out(place, "transposed convolution", prod(shapes["input"]) * prod(shapes["weight"][1:]))
    elif operation in _PRODUCTS:
        inner = next(shapes[name] for name in ("batch1", "mat1", "input", "self") if shapes.get(name))
        found.leave_out(place, "matrix product", outputs * inner[-1])
    elif operation == _ATTENTION:
        query, key, value = (shapes[name] for name in ("query", "key", "value"))
        found.leave_out(place, "attention", prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))
    elif operation.strip("_") in _UNCOUNTED:
        found.remark(f"has {operation.strip('_')}, whose work is not counted")


def _add_convolution(
    found: Found, place: str, values: dict[str, Any], shapes: dict[str, Any], epilogue: str | None
) -> None:
    inputs, weights = shapes["input"], shapes["weight"]
    axes = len(weights) - 2
    inputs = inputs if len(inputs) == axes + 2 else (1, *inputs)
    stride, dilation = (_each(values[name], axes) for name in ("stride", "dilation"))
    padding = values["padding"]
    if padding == "same":
        sizes = zip(inputs[2:], weights[2:], stride, dilation, strict=True)
        both = [same_padding(*axis) for axis in sizes]
    else:
        both = [(pad, pad) for pad in _each(0 if padding == "valid" else padding, axes)]
    found.convolution(place, inputs, weights, stride, both, dilation, int(values["groups"]), epilogue)


def _each(value: Any, axes: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return [int(one) for one in (values * axes if len(values) == 1 else values)]


# By a run on the CPU


def _watched(model: Any, inputs: Sequence[Input]) -> Found:
    """Return what one real run calls: torch's functions, each in the module that was entered last."""
    import torch
    from torch.overrides import TorchFunctionMode

    found, entered = Found(), [""]
    operations = _CONVOLUTIONS | _TRANSPOSED | _PRODUCTS | {_ATTENTION}

    class Watcher(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            operation = getattr(function, "__name__", "").strip("_")
            if getattr(function, "_qualified_op_name", "").startswith("quantized::conv"):
                found.leave_out(entered[-1] or operation, "quantised convolution", _packed_macs(args[1], result))
            elif operation in _UNCOUNTED:
                found.remark(f"has {operation}, whose work is not counted")
            elif operation in operations and hasattr(result, "shape"):
                values = _bound(operation, args, kwargs or {})
                shapes = {name: shape_of(value) for name, value in values.items()}
                _add(found, entered[-1] or operation, "aten", operation, values, shapes, tuple(result.shape))
            return result

    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: entered.append(name))
        module.register_forward_hook(lambda _module, _inputs, _output: entered.pop() and None, always_call=True)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with torch.no_grad(), Watcher():
        model(*_tensors(inputs, device))
    return found


def _packed_macs(packed: Any, result: Any) -> int:
    """Return the multiply-accumulates of a quantised convolution, whose weights torch keeps in an object of its own."""
    weights = packed.unpack()[0]
    return int(prod(result.shape) * prod(weights.shape[1:]))


_ARGUMENTS = {
    "convolution": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "transposed": ("input", "weight"),
    "product": ("input", "mat2", "mat3"),
    _ATTENTION: ("query", "key", "value"),
}


def _bound(operation: str, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, with the defaults of torch's convolutions."""
    kind = {_ATTENTION: _ATTENTION} | dict.fromkeys(_CONVOLUTIONS, "convolution")
    kind |= dict.fromkeys(_TRANSPOSED, "transposed") | dict.fromkeys(_PRODUCTS, "product")
    defaults = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    bound = defaults | dict(zip(_ARGUMENTS[kind[operation]], args, strict=False)) | kwargs
    if operation in ("addmm", "baddbmm"):  # The first argument is what is added.
        bound["input"] = bound["mat2"]
    return bound


# What the user's code said


def _users_traceback(error: BaseException) -> list[str]:
    """Return the lines of a traceback with the user's own frames, and the one in which it happened."""
    told = traceback.TracebackException.from_exception(error)
    # In a worker this module comes from memory, and has no __file__.
    root = Path(os.path.realpath(_users_traceback.__code__.co_filename)).parent.parent.parent
    others = (f"{root / 'neverslower'}{os.sep}", f"{root / 'backends'}{os.sep}", "importlib", "contextlib.py")
    # A path may lead through `..`, where a checkout is on Python's path by another folder's.
    theirs = [frame for frame in told.stack if not any(place in os.path.realpath(frame.filename) for place in others)]
    frames = [frame for frame in theirs if f"{os.sep}torch{os.sep}" not in frame.filename or frame is theirs[-1]]
    told.stack = traceback.StackSummary.from_list(frames)
    told.__cause__ = told.__context__ = None
    return "".join(told.format()).rstrip().splitlines()


def _short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0][:120]}"
