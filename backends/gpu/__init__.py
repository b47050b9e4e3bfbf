"""What the adapters of libraries on an NVIDIA GPU share: the GPU and its state, where tensors lie on it, and its clock.

No adapter owns this folder, and it imports none of them. torch gives memory, streams and CUDA graphs, and is passed in.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from backends.base import Offsets
from backends.shared import first_line, not_installed, python_version
from neverslower.device.fingerprint import Fingerprint
from neverslower.device.readers import host, jetson, load
from neverslower.device.readers.nvml import Nvml
from neverslower.device.state import State
from neverslower.errors import DeviceLost, OutOfMemory, Unavailable, Unsupported
from neverslower.problem.convolution import ConvProblem, DType

HOT, COLD = "hot", "cold"
CACHES = (HOT, COLD)
"""Whether calls find their tensors in the L2 cache."""
COLD_FACTOR = 2
"""The size of all cold buffers that are used in turn, as a multiple of the L2 cache."""
MOST_COPIES = 2048
"""The most copies of a problem's tensors that are used in turn; a smaller problem can't be measured cold."""
ALIGNMENT, SPAN = 256, 65_536
"""A tensor begins a multiple of the first number of bytes behind the beginning of its memory, below the second."""
_STREAMS: dict[int, Any] = {}
"""One stream for each GPU, whoever uses it in this process: on another one a graph would be captured empty."""
_BRINGS_CUDA = (
    "a CUDA build of torch is needed: on x86-64 `pip install --force-reinstall torch`, "
    "on a Jetson see docs/howto/jetson.md"
)


def load_torch() -> Any:
    """Import torch, which brings CUDA's libraries into the process. Raises Unavailable where it can't be."""
    try:
        return importlib.import_module("torch")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise not_installed("torch") from error
    except (ImportError, OSError) as error:
        raise Unavailable(f"torch can't be loaded: {first_line(error)}") from error


def require_gpu(torch: Any, index: int) -> None:
    """Raise Unavailable where torch can't use the GPU of that index, with the driver's words."""
    if torch.version.cuda is None:
        raise Unavailable(f"torch {torch.__version__} is a CPU build; {_BRINGS_CUDA}")
    try:
        torch.cuda.init()
        count = torch.cuda.device_count()
    except (RuntimeError, AssertionError) as error:
        raise Unavailable(f"no usable NVIDIA GPU: {first_line(error)}") from error
    if index >= count:
        raise Unavailable(f"gpu={index}: there are {count}, counted from 0 (CUDA_VISIBLE_DEVICES hides others)")


@contextlib.contextmanager
def unusable_is_unavailable() -> Iterator[None]:
    """Turn an error of torch's into Unavailable, while a GPU is looked at for the first time."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        raise Unavailable(f"the GPU can't be used: {first_line(error)}") from error


class Gpu:
    """One GPU, on which this process computes from now on, on a stream of its own."""

    clock = "cudaEventElapsedTime"
    shortest_round = 400e-6
    refusals: tuple[type[Exception], ...] = ()
    """Errors by which a library refuses a problem, other than RuntimeError."""

    def __init__(self, torch: Any, index: int) -> None:
        self.torch, self.index = torch, index
        self.offsets = Offsets("")
        torch.cuda.set_device(index)
        self.properties = torch.cuda.get_device_properties(index)
        self.nvml, self._why_blind = find_nvml(self.properties, index)
        neighbours = self.nvml.neighbours() if self.nvml else []
        self._neighbours = [neighbour for neighbour in neighbours if neighbour.process not in own_run()]
        if index not in _STREAMS:
            _STREAMS[index] = torch.cuda.Stream()
        self.stream = _STREAMS[index]
        torch.cuda.set_stream(self.stream)

    @property
    def lock_name(self) -> str:
        """Return the name of this GPU's lock, also among several GPUs of one model."""
        return f"{self.properties.name} {getattr(self.properties, 'uuid', self.index)}"

    @property
    def disturbances(self) -> tuple[str, ...]:
        """Return who else uses the GPU, and what can't be noticed here."""
        remarks = [f"{neighbour} is on this GPU too, and may change the times" for neighbour in self._neighbours]
        if self._why_blind:
            remarks.append(f"throttling can't be detected: {self._why_blind}")
        return tuple(remarks)

    def fingerprint_of(
        self, backend: str, version: str, build: str, state: Mapping[str, str], software: Mapping[str, str]
    ) -> Fingerprint:
        """Return the fingerprint of a library on this GPU.

        `state` and `software` are the library's own; the GPU, its settings, and what surrounds the library are found
        here.
        """
        torch, gpu = self.torch, self.properties
        on_jetson = jetson.is_jetson()
        hardware = {
            "gpu": gpu.name,
            "sms": str(gpu.multi_processor_count),
            "compute capability": f"{gpu.major}.{gpu.minor}",
            "l2": f"{gpu.L2_cache_size // 2**20} MiB",
        }
        settings = dict(state)
        around = {"cuda": str(torch.version.cuda), "torch": str(torch.__version__), "python": python_version()}
        if self.nvml:
            hardware |= self.nvml.hardware()
            settings |= self.nvml.settings()
            around["driver"] = self.nvml.driver()
        if on_jetson:
            hardware["module"] = jetson.module()
            settings |= host.settings()
            around["jetson linux"] = jetson.jetpack()
        device = jetson.module() if on_jetson else str(gpu.name)
        return Fingerprint(backend, device, version, build, hardware, settings, {**software, **around})

    def disturbed(self) -> str:
        """Return why the GPU is being slowed down at this moment."""
        return ", ".join(self.nvml.slowdowns()) if self.nvml else ""

    def state(self, machine: State) -> State:
        """Return the machine's state joined with the GPU's; on a Jetson they are one."""
        return machine.joined(self.nvml.look(own_run())) if self.nvml else machine

    def require_device(self, error: Exception | None = None) -> None:
        """Raise DeviceLost where an error stays with the device, of which `error` may be a sign."""
        try:
            self.torch.cuda.synchronize()
        except RuntimeError as lost:
            raise DeviceLost(first_line(lost)) from error

    @contextlib.contextmanager
    def errors_translated(self, size: int) -> Iterator[None]:
        """Turn CUDA's and torch's errors into what they mean; after an error that stays, the device is lost.

        `size` is the bytes of the tensors that are used meanwhile.
        """
        torch = self.torch
        refused: tuple[type[Exception], ...] = (RuntimeError, *self.refusals)
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            text = f"{size / 1e9:.2f} GB of tensors, and workspace: {first_line(error)}"
            raise OutOfMemory(text) from error
        except refused as error:
            self.require_device(error)
            raise Unsupported(first_line(error)) from error

    def copies(self, problem: ConvProblem, cache: str) -> int:
        """Return how many sets of tensors are used in turn. Raises Unsupported where that would be too many."""
        if cache == HOT:
            return 1
        # One more, so that there are at least two: a call must not find what the call before it left.
        copies = -(-COLD_FACTOR * int(self.properties.L2_cache_size) // problem.bytes) + 1
        if copies > MOST_COPIES:
            raise Unsupported(f"too small to be measured cold: {copies} copies would be rotated, {MOST_COPIES} at most")
        return copies

    def share(self, problem: ConvProblem, copies: int) -> float:
        """Return the bytes of so many sets of tensors, divided by those of the L2 cache."""
        return round(float(copies * problem.bytes / self.properties.L2_cache_size), 3)

    def empty(self, shape: tuple[int, ...], strides: tuple[int, ...], dtype: DType) -> Any:
        """Return a tensor that begins at a drawn place in memory of its own, aligned to ALIGNMENT bytes."""
        torch = self.torch
        kind = {DType.FLOAT16: torch.float16, DType.BFLOAT16: torch.bfloat16}.get(dtype, torch.float32)
        offset = self.offsets.draw(ALIGNMENT, SPAN)
        memory = torch.empty(math.prod(shape) + offset // kind.itemsize, dtype=kind, device="cuda")
        return memory.as_strided(shape, strides, offset // kind.itemsize)


def own_run() -> set[int]:
    """Return the processes of this run, whose other workers wait or load on the same GPU."""
    return {os.getpid()} | load.family(load.processes(), os.getpid())


def find_nvml(properties: Any, index: int) -> tuple[Nvml | None, str]:
    """Return (the reader of this GPU's state, why it is missing or sees nothing)."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return None, "nvidia-ml-py is not installed; `pip install nvidia-ml-py` installs it"
    try:
        nvml = Nvml(pynvml, f"GPU-{properties.uuid}" if hasattr(properties, "uuid") else "", index)
        return nvml, "NVML reports neither the clocks of this GPU nor why they change" if nvml.blind else ""
    except pynvml.NVMLError as error:
        return None, f"NVML does not answer here ({error})"
