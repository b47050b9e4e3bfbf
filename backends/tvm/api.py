"""TVM's interface, reduced to what this adapter needs, and the same for releases 0.25 to 0.27.

Differences between releases live here: 0.27 calls TensorType what 0.25 calls TensorStructInfo, and 0.25 has another
TensorType.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.shared import last_line
from neverslower.problem.convolution import ConvProblem, DType, Layout

MAIN = "main"


@contextlib.contextmanager
def without_torch() -> Iterator[None]:
    """Keep tvm's ffi from importing torch, which takes five seconds and is of no use here."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # Python's own mark for what must not be imported.
    try:
        yield
    finally:
        del sys.modules["torch"]


class Api:
    """An imported tvm and its target: this very CPU, with `threads` cores.

    `retune` is what to do with a database of another target.
    """

    retune = "tune here, or with the same --threads"

    def __init__(self, threads: int) -> None:
        os.environ["TVM_NUM_THREADS"] = str(threads)
        with without_torch():
            self.tvm: Any = importlib.import_module("tvm")
            self.relax: Any = importlib.import_module("tvm.relax")
        # `{"mcpu": "native"}` silently means a generic CPU; so ask LLVM which one this is.
        self.cpu = str(self.tvm.get_global_func("target.llvm_get_system_cpu")())
        self.target: Any = self.tvm.target.Target({"kind": "llvm", "mcpu": self.cpu, "num-cores": threads})
        self.device: Any = self.tvm.cpu()

    @cached_property
    def meta_schedule(self) -> Any:
        """Return the tuner, which not every use needs."""
        with without_torch():
            return importlib.import_module("tvm.s_tir.meta_schedule")

    @property
    def derived_object(self) -> Any:
        """Return the decorator of Python classes that TVM calls; it moved between releases, its use here did not."""
        return importlib.import_module("tvm.s_tir.meta_schedule.runner.local_runner").derived_object

    @property
    def version(self) -> str:
        """Return TVM's own version."""
        return str(self.tvm.__version__)

    @property
    def llvm(self) -> str:
        """Return the version of LLVM that TVM generates code with."""
        major = self.tvm.get_global_func("target.llvm_version_major")()
        return str(major)

    def module(self, problem: ConvProblem) -> Any:
        """Return the relax module of one convolution, after the passes that come before scheduling.

        Half precisions accumulate in float32 and round once, as in TVM's own mixed-precision pass.
        """
        relax = self.relax
        tensor = getattr(relax, "TensorStructInfo", None) or relax.TensorType
        dtype = str(problem.dtype)
        inputs = relax.Var("inputs", tensor(arranged(problem.input_shape, problem.layout), dtype))
        weights = relax.Var("weights", tensor(arranged(problem.weight_shape, problem.layout), dtype))
        builder = relax.BlockBuilder()
        with builder.function(MAIN, [inputs, weights]):
            with builder.dataflow():
                output = builder.emit(self._convolution(problem, inputs, weights))
                if problem.dtype is not DType.FLOAT32:
                    output = builder.emit(relax.op.astype(output, dtype))
                output = builder.emit_output(output)
            builder.emit_func_output(output)
        return builder.get()

    def _convolution(self, problem: ConvProblem, inputs: Any, weights: Any) -> Any:
        top, bottom, left, right = problem.padding
        nhwc = problem.layout is Layout.NHWC
        return self.relax.op.nn.conv2d(
            inputs,
            weights,
            strides=problem.stride,
            padding=(top, left, bottom, right),
            dilation=problem.dilation,
            groups=problem.groups,
            data_layout="NHWC" if nhwc else "NCHW",
            kernel_layout="OHWI" if nhwc else "OIHW",
            out_dtype="float32",
        )

    def lowered(self, problem: ConvProblem, database: Any = None) -> Any:
        """Return the module as loops that can be compiled, scheduled as far as this target needs it."""
        return self.loops(problem, database)

    def loops(self, problem: ConvProblem, database: Any = None) -> Any:
        """Return the module as loops; `database` schedules those of which it has a record."""
        with contextlib.ExitStack() as stack:
            for context in (self.target, database):
                if context is not None:
                    stack.enter_context(context)
            return self.relax.get_pipeline("zero")(self.module(problem))

    def functions(self, lowered: Any) -> Mapping[str, bool]:
        """Return for each loop function, by name, whether a record scheduled it."""
        primitive = self.tvm.tirx.PrimFunc
        return {
            str(name.name_hint): bool(function.attrs.get("tirx.is_scheduled", False))
            for name, function in lowered.functions.items()
            if isinstance(function, primitive)
        }

    def built(self, lowered: Any) -> tuple[Any, dict[str, Any]]:
        """Return (what was compiled, which can be exported as a shared library, and what a plan tells of it)."""
        return self.tvm.compile(lowered, target=self.target), dict(self.functions(lowered))

    def together(self, builds: Sequence[Callable[[], object]]) -> AbstractContextManager[None]:
        """Return a context in which these builds take less time, where that can be had."""
        return contextlib.nullcontext()

    def alone(self) -> AbstractContextManager[None]:
        """Return a context in which no other search times its candidates, where several may run side by side."""
        return contextlib.nullcontext()

    def named(self, target: Any) -> str:
        """Return what identifies a target, by which records of another one are refused."""
        return str(target)

    def words(self, error: BaseException) -> str:
        """Return a line of what the compiler says."""
        return last_line(error)

    def export(self, compiled: Any, path: Path) -> None:
        """Write what was compiled as a shared library."""
        compiled.export_library(str(path))

    def load(self, path: Path) -> Any:
        """Load a compiled library into a virtual machine."""
        return self.relax.VirtualMachine(self.tvm.runtime.load_module(str(path)), self.device)

    def tensor(self, values: NDArray[np.float32], problem: ConvProblem) -> Any:
        """Return values in NCHW or OIHW order as a tensor of the problem's dtype and layout, with memory of its own."""
        ordered = values.transpose(0, 2, 3, 1) if problem.layout is Layout.NHWC else values
        return self.tvm.runtime.tensor(np.ascontiguousarray(ordered, dtype=str(problem.dtype)), self.device)


def arranged(shape: tuple[int, int, int, int], layout: Layout) -> tuple[int, int, int, int]:
    """Return a shape, given as (outermost, channels, height, width), in the order of a layout."""
    first, channels, height, width = shape
    return (first, height, width, channels) if layout is Layout.NHWC else shape
