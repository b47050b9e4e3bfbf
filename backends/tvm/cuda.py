"""TVM on an NVIDIA GPU: kernels compiled for it by dlight's rules or a database, called directly in CUDA graphs.

A convolution is one loop function, of one or more kernels. It is called without TVM's virtual machine, which would
allocate outputs of its own in each call, with tensors that torch allocated, on torch's stream.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backends.base import Tensor
from backends.gpu import Gpu
from backends.gpu.replay import Replay
from backends.shared import last_line
from backends.tvm.api import Api, arranged
from backends.tvm.compiled import Compiled
from backends.tvm.intrinsics import import_intrinsics
from backends.tvm.launches import grid_and_block
from backends.tvm.lowering import Lowering, kernels_of
from backends.tvm.together import compiled_together
from neverslower.device.fingerprint import slug
from neverslower.errors import Unavailable, Unsupported
from neverslower.evidence.kernels import Kernel
from neverslower.evidence.observation import Cache, Plan
from neverslower.problem.convolution import ConvProblem, DType, Layout

RULES = ("Matmul", "GEMV", "Reduction", "GeneralReduction", "Fallback")
"""dlight's rules, in the order of TVM's own pipeline for CUDA: the first that applies schedules a function."""
RULE = "never_slower.rule"
"""The attribute that names the rule by which a function was scheduled."""
Tensors = tuple[Any, ...]
SHARED_BYTES, THREADS, WARP = 49_152, 1024, 32
"""What a block may have on every NVIDIA GPU, as TVM's own targets of that name say."""


@dataclass(frozen=True)
class Setup:
    """The GPU that is measured, whether calls find their tensors in its cache, and what compiles kernels for it."""

    gpu: Gpu
    cache: str
    compiler: str


class CudaApi(Api):
    """TVM's interface with one NVIDIA GPU as its target, of which no driver is needed until `require_device`."""

    retune = "tune on a GPU of this architecture"

    def __init__(self, threads: int, index: int, arch: str, lock_name: str) -> None:
        os.environ.setdefault("TVM_FFI_DISABLE_TORCH_C_DLPACK", "1")  # It would compile an extension of torch's.
        with contextlib.suppress(OSError):  # TVM 0.25 does not say that it needs the driver's library.
            ctypes.CDLL("libcuda.so.1", mode=ctypes.RTLD_GLOBAL)
        super().__init__(threads)
        self.device = self.tvm.cuda(index)
        described = {
            "kind": "cuda",
            "arch": arch,
            "max_shared_memory_per_block": SHARED_BYTES,
            "max_threads_per_block": THREADS,
            "thread_warp_size": WARP,
        }
        # A host of any kind: records of a database are of the GPU, whichever processor called it.
        host = self.tvm.target.Target({"kind": "llvm"})
        self.target = self.tvm.target.Target(described).with_host(host)
        self.arch, self._lock_name = arch, lock_name
        self._lowering = Lowering(self, "never_slower_cuda")

    def require_device(self) -> None:
        """Raise Unavailable where TVM sees no GPU: it would compile all the same, and make no kernels."""
        libraries = getattr(importlib.import_module("tvm.base"), "_LOADED_LIBS", {})  # None in 0.25: one library.
        if libraries and "tvm_runtime_cuda" not in libraries:
            raise Unavailable(f"tvm {self.version} has no CUDA runtime that loads here: {_why_not(libraries)}")
        if not self.device.exist:
            raise Unavailable(f"tvm {self.version} sees no NVIDIA GPU (tvm.cuda().exist is false)")

    def follow(self, stream: int) -> None:
        """Let this thread launch kernels on a stream from now on, given by its handle."""
        ffi = importlib.import_module("tvm_ffi")
        self._following = ffi.use_raw_stream(ffi.device("cuda", self.device.index), stream)
        self._following.__enter__()

    def lowered(self, problem: ConvProblem, database: Any = None) -> Any:
        """Return the module as loops: `database` schedules those of which it has a record, dlight's rules the rest."""
        if problem.dtype is DType.FLOAT16:
            import_intrinsics()  # Rules and records for tensor cores need them.
        module = self.loops(problem, database)
        dlight = importlib.import_module("tvm.s_tir.dlight")
        with self.target:
            for rule in RULES:
                waiting = {name for name, scheduled in self.functions(module).items() if not scheduled}
                module = dlight.ApplyDefaultSchedule(getattr(dlight.gpu, rule)())(module)
                done = {name for name, scheduled in self.functions(module).items() if scheduled}
                for name in waiting & done:
                    module.update_func(module.get_global_var(name), module[name].with_attr(RULE, rule))
        return module

    def built(self, lowered: Any) -> tuple[Any, dict[str, Any]]:
        """Compile the one loop function; see Api.built. Raises Unsupported where there are more, or no rule applies."""
        functions = self.functions(lowered)
        if len(functions) != 1:
            raise Unsupported(f"tvm makes {len(functions)} functions of it ({', '.join(functions)}), not one")
        ((name, scheduled),) = functions.items()
        if not scheduled:
            raise Unsupported(f"none of dlight's rules ({', '.join(RULES)}) applies to {name}")
        function = lowered[name]
        module = self.tvm.IRModule({name: function.with_attr("global_symbol", name)})
        with self.target:  # NVRTC is given its architecture.
            compiled = self.tvm.compile(module, target=self.target, tir_pipeline=self._lowering.pipeline)
        kernels = self._lowering.kernels("cuda")
        launched = [str(Kernel(kernel, *grid_and_block(kernels[kernel]))) for kernel in kernels_of(name, kernels)]
        return compiled, {"function": name, "rule": str(function.attrs.get(RULE, "")), "kernels": launched}

    def together(self, builds: Sequence[Callable[[], object]]) -> AbstractContextManager[None]:
        """Return a context in which NVRTC has compiled the sources of these builds, on all cores."""
        return compiled_together(self.target, builds)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until no other search of this user times candidates on this GPU; they draw and compile side by side."""
        path = Path(tempfile.gettempdir()) / f"never-slower-search-{os.getuid()}-{slug(self._lock_name)}.lock"
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def named(self, target: Any) -> str:
        """Return what identifies a GPU, without the processor that calls it: TVM says that in some places alone."""
        described = json.loads(str(target))
        return json.dumps({name: value for name, value in described.items() if value and name != "host"})

    def words(self, error: BaseException) -> str:
        """Return NVRTC's first error, where it made one; else the last line, which a traceback precedes."""
        lines = [line.strip() for line in str(error).splitlines()]
        return next((line for line in lines if " error: " in line or "error:" in line.split(" ")), last_line(error))

    def load(self, path: Path) -> Any:
        """Load a compiled library."""
        return self.tvm.runtime.load_module(str(path))


def _why_not(libraries: dict[str, Any]) -> str:
    """Return the loader's words on TVM's CUDA runtime, of which TVM says nothing."""
    path = Path(libraries["tvm_runtime"]._name).resolve().with_name("libtvm_runtime_cuda.so")
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        return last_line(error)
    return f"{path} loads by itself, but not within tvm"


def plan_of(about: Mapping[str, Any], database: str, target: str, padded: bool) -> Plan:
    """Return a plan that is `dlight RULE`, or `tuned` by the database of that hash.

    Its steps name the function with its rule, or with its record's database and target, and each kernel with grid and
    block.
    """
    rule = about["rule"]
    name = f"dlight {rule}" if rule else f"tuned {database}"
    origin = f"by dlight's {rule}" if rule else f"tuned from {database}, {target}"
    steps = (f"{about['function']} {origin}", *about["kernels"])
    return Plan(f"{name}, padded" if padded else name, steps, tuned=not rule)


class Prepared:
    """One convolution on the GPU; the excess of a padded one is cut from its output, outside timing.

    `function` takes the inputs, weights and output of each of `sets` in turn, which are torch's tensors.
    """

    def __init__(self, gpu: Gpu, function: Any, sets: Sequence[Tensors], work: Compiled, cache: Cache) -> None:
        self._gpu, self._sets, self._work, self.cache = gpu, sets, work, cache
        view = importlib.import_module("tvm").runtime.from_dlpack
        arguments = [tuple(map(view, tensors)) for tensors in sets]
        self.call: Callable[[int], None] = lambda number: function(*arguments[number])
        for number in range(len(sets)):
            self.call(number)  # The first call loads the kernel, and must be neither captured nor timed.
        self._replay = Replay(gpu.torch, gpu.stream, self.call, len(sets))
        self.least_iterations = len(sets)

    def plan(self) -> Plan:
        """Return how the function was scheduled, and its kernels."""
        return self._work.plan

    def output(self) -> Tensor:
        """Return the result of one call in a graph, as float32, in NCHW order whatever the layout.

        It is the graph's own: if kernels were launched past it, a graph of nothing would be timed, and is seen here.
        """
        output = self._sets[0][-1]
        with self._gpu.errors_translated(self._work.shape.bytes):
            self._replay.captured(self.least_iterations)
            output.fill_(float("nan"))  # Launches past the capture have written it by now.
            self._replay.run(self.least_iterations)
            values = output.float().cpu().numpy()
        ordered = values.transpose(0, 3, 1, 2) if self._work.shape.layout is Layout.NHWC else values
        return np.ascontiguousarray(ordered[:, self._work.kept_channels])

    def run(self, iterations: int) -> float:
        """Return the seconds of that many calls, by the GPU's clock."""
        with self._gpu.errors_translated(self._work.shape.bytes):
            return self._replay.run(iterations)


def placed(gpu: Gpu, problem: ConvProblem, inputs: Tensor, weights: Tensor) -> Tensors:
    """Return (inputs, weights, output) on the GPU, each at a drawn place, in the order of the problem's layout."""
    shapes = (problem.input_shape, problem.weight_shape, problem.output_shape)
    tensors = [_empty(gpu, arranged(shape, problem.layout), problem.dtype) for shape in shapes]
    for tensor, values in zip(tensors, (inputs, weights), strict=False):
        ordered = values.transpose(0, 2, 3, 1) if problem.layout is Layout.NHWC else values
        tensor.copy_(gpu.torch.from_numpy(np.ascontiguousarray(ordered)))
    tensors[-1].fill_(float("nan"))  # A kernel that writes only a part of its output is seen to be wrong.
    return tuple(tensors)


def _empty(gpu: Gpu, shape: tuple[int, int, int, int], dtype: DType) -> Any:
    _, second, third, fourth = shape
    return gpu.empty(shape, (second * third * fourth, third * fourth, fourth, 1), dtype)
