"""Whole networks of a user: named from the models that were read, and built where they are timed, in a worker."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neverslower.errors import NeverSlowerError, OutOfMemory
from neverslower.models import torch_module
from neverslower.models.surroundings import Surroundings
from neverslower.models.torch_module import UsersError
from neverslower.models.words import Input, ModelName
from neverslower.problem.convolution import DType, Layout
from neverslower.problem.model import Model
from neverslower.problem.whole import Network, WholeComparison, structure_of

_DEVICES = {"cpu": "CPU", "cuda": "GPU"}
_NO_MEMORY = ("allocate memory", "not enough memory")
"""How torch says on the CPU that memory ran out."""

# What is compared


def comparisons(
    backend: str,
    original: Model,
    pruned: Model,
    formats: Iterable[tuple[DType, Layout]],
    batches: Sequence[int] = (),
) -> list[WholeComparison]:
    """Return the pruned model against its original in each format, for each number of images; both come from Python."""
    options = (*original.source, *pruned.source[:2])
    images = Input.parse(original.source[3]).shape[0]
    chosen = [batch if batch != images else None for batch in batches]
    return [
        WholeComparison(
            backend,
            original.name,
            _network(original, batch, dtype, layout),
            _network(pruned, batch, dtype, layout),
            (*options, "--batch", str(batch)) if batch else options,
            batch,
        )
        for dtype, layout in formats
        for batch in chosen or (None,)
    ]


def runs_from_python(model: Model) -> bool:
    """Return whether a model is built by Python, and so can be run: of an ONNX file only the shapes are read."""
    return bool(model.source) and model.source[0] != "--onnx" and not model.source[1].lower().endswith(".onnx")


def _network(model: Model, batch: int | None, dtype: DType, layout: Layout) -> Network:
    _, text, *given = model.source
    name = ModelName.parse(text)
    shapes = [Input.parse(shape) for shape in given[1::2]]
    inputs = tuple(
        _words(shape if batch is None else _with_batch(shape, shapes[0].shape[0], batch)) for shape in shapes
    )
    builder = f"{_from_here(name.path) if name.path else name.module}:{name.attribute}"
    return Network(builder, inputs, structure_of(model), dtype, layout, model.macs)


def _from_here(path: Path) -> Path:
    """Return a path relative to the directory of the run where it lies below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _with_batch(given: Input, images: int, batch: int) -> Input:
    """Return an input for so many images, if its first axis counts them, as many as the first input has."""
    return replace(given, shape=(batch, *given.shape[1:])) if given.shape[0] == images else given


def _words(given: Input) -> str:
    """Return an input as --input takes it."""
    dtype = f":{given.dtype}" if given.dtype != "float32" else ""
    return f"{f'{given.name}=' if given.name else ''}{given.shape_words}{dtype}"


# Where it is timed


@dataclass(frozen=True)
class BuiltNetwork:
    """A network on its device: what makes one call of it, and the bytes of its parameters, buffers and inputs.

    Calls are made within `running`, which costs more than a call of a small network: enter it once for many.
    """

    call: Callable[[], object]
    bytes: int
    running: Callable[[], AbstractContextManager[None]]


def build(torch: Any, network: Network, device: str) -> BuiltNetwork:
    """Build a network, in eval mode and with random inputs, and call it once.

    Raises UsersError with the user's own traceback, OutOfMemory, or NeverSlowerError where its Python is not there.
    """
    name = _name_of(network)
    surroundings = Surroundings(torch, name.path.parent if name.path else None)
    torch.manual_seed(0)  # Weights are as random in each process, and the same.
    with surroundings.inside():
        module = torch_module.built(name)
        with _errors_translated(torch, network, device):
            module, inputs = _on_device(torch, module, network, device)

    @contextlib.contextmanager
    def running() -> Iterator[None]:
        with surroundings.inside(), _errors_translated(torch, network, device):
            yield

    tensors = (*module.parameters(), *module.buffers(), *inputs)
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return BuiltNetwork(lambda: module(*inputs), size, running)


def _name_of(network: Network) -> ModelName:
    """Return what builds a network. Raises NeverSlowerError where its file is not there, with the machine's name."""
    place = network.builder.rpartition(":")[0]
    if place.endswith(".py") and not Path(place).exists():
        here = f"is not on the machine that runs it ({socket.gethostname()})"
        raise NeverSlowerError(
            f"{place} {here}; copy its folder to the same path there, or leave whole networks out with "
            "--ignore=tests/test_whole_network.py"
        )
    return ModelName.parse(network.builder, option="")


def _on_device(torch: Any, module: Any, network: Network, device: str) -> tuple[Any, list[Any]]:
    """Return a module in the network's format on a device, where it was called once, and its inputs."""
    dtype = getattr(torch, "float32" if network.dtype is DType.TF32 else str(network.dtype))
    module = module.to(device=device, dtype=dtype)
    if network.layout is Layout.NHWC:
        module = module.to(memory_format=torch.channels_last)
    chance = torch.Generator(device).manual_seed(0)  # Torch's own may still be held by a capture that failed.
    inputs = [_input(torch, Input.parse(text), dtype, network.layout, chance) for text in network.inputs]
    with torch.no_grad():
        module(*inputs)
    return module, inputs


@contextlib.contextmanager
def _errors_translated(torch: Any, network: Network, device: str) -> Iterator[None]:
    """Raise OutOfMemory or UsersError for whatever the user's code raises, at the first call or at a later one."""
    try:
        yield
    except (Exception, SystemExit) as error:
        if _out_of_memory(torch, error):
            raise OutOfMemory(str(error).strip().splitlines()[0]) from error
        on_cpu = "the model wants a GPU, and this backend runs it on the CPU; measure it with --backend cudnn"
        doing = f"{network.builder} failed when it was run from end to end on the {_DEVICES[device]}"
        raise UsersError(doing, error, wants_gpu=on_cpu) from error


def _input(torch: Any, given: Input, dtype: Any, layout: Layout, chance: Any) -> Any:
    """Return one input: random numbers, for zeros would let a device work cooler; of indices and masks the simplest."""
    own, device = getattr(torch, given.dtype), chance.device
    if not own.is_floating_point:
        return (torch.ones if own is torch.bool else torch.zeros)(given.shape, dtype=own, device=device)
    image = torch.randn(given.shape, device=device, generator=chance).to(dtype if own is torch.float32 else own)
    nhwc = layout is Layout.NHWC and image.dim() == 4
    return image.contiguous(memory_format=torch.channels_last) if nhwc else image


def _out_of_memory(torch: Any, error: BaseException) -> bool:
    words = str(error)
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or any(sign in words for sign in _NO_MEMORY)
