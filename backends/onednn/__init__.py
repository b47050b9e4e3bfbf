"""oneDNN through torch on the CPU: torch's own oneDNN convolution, forced, so that no other kernel is chosen.

torch's eager convolution picks oneDNN or one of its own kernels by shape and thread count. This adapter calls the
operator behind that choice, `torch.mkldnn_convolution`, with plain weights. So it measures what eager torch runs
whenever it picks oneDNN: the convolution and the reorders around it, including the weights'. The plan lists them
as oneDNN itself reports them in its verbose mode.

`onednn:torch` calls `torch.conv2d` instead, and so what torch picks, which is not always oneDNN. The plan names what
ran, as torch's own profiler saw it: small images at one thread take `_slow_conv2d_forward`, for example.

An epilogue goes through the operators that torch.compile puts in a graph, `torch.ops.mkldnn._convolution_pointwise`.
What they do not fuse is refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from backends.base import BackendOptions, Capabilities, Offsets, Tensor
from backends.identity import code_of_loaded
from backends.onednn.script import ACTIVATIONS, benchdnn, script
from backends.onednn.verbose import parse_info, parse_steps, settings
from backends.shared import cpu_fingerprint, first_line, not_installed, read_argument
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError, OutOfMemory, Unavailable, Unsupported
from neverslower.evidence.observation import Cache, Plan
from neverslower.models import whole
from neverslower.problem.convolution import ConvProblem, DType, Layout
from neverslower.problem.epilogue import NOTHING, Added, PostOp
from neverslower.problem.whole import Network

CAPABILITIES = Capabilities(
    dtypes=frozenset({DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16}),
    layouts=frozenset(Layout),
    asymmetric_padding=False,
    epilogues=True,
    modules=("torch",),
    waits=True,
    ahead=True,
    networks=True,
)

THROUGH_TORCH = "torch"
"""The argument by which torch's own choice is measured."""
_ONEDNNS_OPERATOR = "mkldnn_convolution"
_ON_THE_WAY = {"conv2d", "convolution", "_convolution"}
"""Operators that only hand on to the one that torch chose."""
_PADS = {"constant_pad_nd"}

LIBRARIES = ("libtorch_cpu.", "libdnnl.", "libmkldnn.", "libarm_compute", "libmkl_", "libopenblas", "libblas.")
"""Files that hold oneDNN, torch's own kernels, and what these call; a wheel's torch for x86-64 holds all of it."""
CACHE_LINE, SPAN = 64, 65_536
"""Tensors begin on a cache line, as torch's own do, within so many bytes: sixteen pages."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's mallopt (malloc.h)."""


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, so that each call's output lands in memory that is there already.

    By default glibc gives large blocks back to the system and asks for them again, or not, depending on all that was
    allocated before. The page faults of a 3 MB output then take longer than the convolution, and a layer's ratio
    depends on which layers were measured before it: 255 of 256 channels were 1.13× or 1.24×, 241 were 1.20× or 1.54×.
    """
    with contextlib.suppress(AttributeError):  # Not glibc.
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def open(options: BackendOptions) -> OneDNN:
    """Load torch. Raises Unavailable where it is missing or built without oneDNN."""
    keep_freed_memory()
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise not_installed("torch") from error
    if not torch.backends.mkldnn.is_available():
        raise Unavailable("this torch was built without oneDNN; a torch from PyPI has it")
    return OneDNN(torch, options.threads, time.perf_counter, _through_torch(options.argument))


def _require(problem: ConvProblem, through_torch: bool) -> None:
    """Raise Unsupported, in words, for what is not measured; torch pads by itself where the padding is uneven."""
    able = replace(CAPABILITIES, asymmetric_padding=True) if through_torch else CAPABILITIES
    able.require(problem)
    epilogue = problem.epilogue
    activation, last = epilogue.activation, epilogue.post_ops[-1:] == (PostOp.SUM,)
    refusals = (
        (
            through_torch and epilogue.post_ops,
            "torch's eager convolution takes a bias and no post-ops; leave out :torch",
        ),
        (activation and last, "torch fuses no residual (sum) behind an activation"),
        (epilogue.residual and activation is PostOp.SWISH, "torch fuses no swish:1 behind a residual (sum)"),
        (epilogue.residual and problem.layout is Layout.NCHW, "torch fuses a residual (sum) in NHWC alone"),
    )
    if why := next((why for refused, why in refusals if refused), None):
        raise Unsupported(why)


def _through_torch(argument: str) -> bool:
    """Return whether torch's own choice is measured. Raises Unavailable for any other word."""

    def read(argument: str) -> bool:
        if argument not in ("", THROUGH_TORCH):
            raise ValueError(f"{argument!r} is not {THROUGH_TORCH}, the one word that onednn takes")
        return argument == THROUGH_TORCH

    return read_argument("onednn", argument, read)


def reproduce(problem: ConvProblem, plan: Plan, options: BackendOptions) -> str:
    """Return benchdnn commands that time each primitive of `plan` without never-slower, one a line, in order."""
    if _through_torch(options.argument):
        words = ["python", "-m", "neverslower", "script", "--backend", f"onednn:{THROUGH_TORCH}", problem.key]
        threads = ["--threads", str(options.threads)] if options.threads != 1 else []
        return f"{' '.join([*words, *threads])} > repro.py && python repro.py"
    return benchdnn(problem, plan, options.threads)


def write_script(problem: ConvProblem, plan: str, options: BackendOptions) -> str:
    """Return a script that times `problem` with nothing but torch; torch chooses, so `plan` changes nothing."""
    through_torch = _through_torch(options.argument)
    _require(problem, through_torch)
    return script(problem, options.threads, through_torch)


def vendor_command(problem: ConvProblem, plan: Plan, checks: bool, options: BackendOptions) -> str:
    """Return benchdnn's commands for the primitives of `plan`, an empty string where none of them convolves."""
    if not any(step.startswith("convolution ") for step in plan.steps):
        return ""
    return benchdnn(problem, plan, options.threads, "C" if checks else "P")


class OneDNN:
    """The backend; `torch` is passed in so that this module imports without it."""

    clock = "time.perf_counter"
    shortest_round = 1e-3
    remarks = ()

    def __init__(self, torch: Any, threads: int, clock: Callable[[], float], through_torch: bool = False) -> None:
        self._torch, self._threads, self._now, self._through_torch = torch, threads, clock, through_torch
        self.offsets = Offsets("")
        torch.set_num_threads(threads)
        # oneDNN prints its version and instruction set once, with the first primitive that runs in verbose mode.
        self._info = parse_info(self._verbose_text(self._smallest_convolution))

    def fingerprint(self) -> Fingerprint:
        """Return the processor, its governor, threads and settings, oneDNN's version and commit, torch around it."""
        torch = self._torch
        return cpu_fingerprint(
            "onednn",
            version=self._info.get("version", "0"),
            build=self._info.get("commit", "unknown"),
            state=settings(os.environ) | {"threads": str(self._threads)} | self._chooses(),
            software={
                "onednn": f"{self._info.get('version')} ({self._info.get('commit')})",
                # What oneDNN makes of the processor: 3.12 calls the same one AVX10.1 that 3.7 calls AVX-512 with
                # float16, and another release may see more in it.
                "onednn isa": self._info.get("isa", torch.backends.cpu.get_cpu_capability()),
                "torch": str(torch.__version__),
                "torch git": str(torch.version.git_version),
            },
        )

    def _chooses(self) -> dict[str, str]:
        return {"chooses": THROUGH_TORCH} if self._through_torch else {}

    def prepare(
        self, problem: ConvProblem, inputs: Tensor, weights: Tensor, policy: str = "", added: Added = NOTHING
    ) -> Prepared:
        """Make tensors in the problem's layout, and call once. Raises Unsupported or OutOfMemory in oneDNN's words."""
        if policy:
            raise Unsupported(f"onednn chooses by itself, it has no policy {policy!r}")
        _require(problem, self._through_torch)
        torch = self._torch
        kind = ThroughTorch if self._through_torch else Fused if problem.epilogue.post_ops else Prepared
        try:
            drawn = self._tensor(inputs, problem), self._tensor(weights, problem)
            prepared = kind(self, problem, *drawn, *self._added(added, problem))
            with torch.inference_mode():
                prepared.begin()
        except RuntimeError as error:
            words = first_line(error)
            if "allocate" in words or "memory" in words:
                raise OutOfMemory(f"{words} ({problem.bytes / 1e6:.0f} MB of tensors)") from error
            raise Unsupported(words) from error
        return prepared

    def prepare_network(self, network: Network) -> CpuNetwork:
        """Build a network, which torch runs as it chooses, and call it once.

        Raises Unsupported, with the user's own traceback where their code failed, or OutOfMemory.
        """
        with self._users_errors():
            return CpuNetwork(self, whole.build(self._torch, network, "cpu"))

    @contextlib.contextmanager
    def _users_errors(self) -> Iterator[None]:
        """Refuse a network whose code fails."""
        try:
            yield
        except OutOfMemory:
            raise
        except NeverSlowerError as error:
            raise Unsupported(str(error)) from error
        finally:
            self._torch.set_num_threads(self._threads)  # A module that sets them for itself sets them for the layers.

    def _tensor(self, values: Tensor, problem: ConvProblem) -> Any:
        torch = self._torch
        dtype = {DType.FLOAT32: torch.float32, DType.FLOAT16: torch.float16, DType.BFLOAT16: torch.bfloat16}
        order = torch.channels_last if problem.layout is Layout.NHWC else torch.contiguous_format
        given = torch.from_numpy(np.ascontiguousarray(values))
        # A copy: a layer against itself must also differ in where its tensors lie, as two layers do.
        return self._placed(given.to(dtype[problem.dtype]).contiguous(memory_format=order))

    def _added(self, added: Added, problem: ConvProblem) -> tuple[Any, Any]:
        """Return (bias, residual) as tensors, None where there is none."""
        # Four axes, as every other tensor here.
        bias = None if added.bias is None else self._tensor(added.bias[None, :, None, None], problem).reshape(-1)
        return bias, None if added.residual is None else self._tensor(added.residual, problem)

    def _placed(self, tensor: Any) -> Any:
        """Return the tensor in memory of its own, a drawn number of cache lines behind the beginning of one."""
        offset, size = self.offsets.draw(CACHE_LINE, SPAN), tensor.element_size()
        memory = self._torch.empty(tensor.numel() + (offset + CACHE_LINE) // size, dtype=tensor.dtype)
        first = (-memory.data_ptr() % CACHE_LINE + offset) // size
        return memory.as_strided(tensor.shape, tensor.stride(), first).copy_(tensor)

    def _smallest_convolution(self) -> None:
        ones = self._torch.ones(1, 1, 1, 1)
        with self._torch.inference_mode():
            self._torch.mkldnn_convolution(ones, ones, None, [0, 0], [1, 1], [1, 1], 1)

    def _verbose_text(self, call: Callable[[], Any]) -> str:
        """Return what oneDNN prints while `call` runs; it writes to file descriptor 1, behind Python's back.

        What torch's profiler writes to descriptor 2 meanwhile lands there too, among lines that nobody reads.
        """
        mkldnn = self._torch.backends.mkldnn
        sys.stdout.flush()
        with tempfile.TemporaryFile() as captured:
            saved = [os.dup(descriptor) for descriptor in (1, 2)]
            for descriptor in (1, 2):
                os.dup2(captured.fileno(), descriptor)
            try:
                with mkldnn.verbose(mkldnn.VERBOSE_ON):
                    call()
            finally:
                ctypes.CDLL(None).fflush(None)  # C's buffer is not Python's, and would be written after the switch.
                for descriptor, old in zip((1, 2), saved, strict=True):
                    os.dup2(old, descriptor)
                    os.close(old)
            captured.seek(0)
            return captured.read().decode(errors="replace")


def _seconds_of(
    iterations: int, function: Callable[..., object], arguments: Sequence[Any], now: Callable[[], float]
) -> float:
    """Return the seconds of that many calls back to back."""
    begin = now()
    for _ in range(iterations):
        function(*arguments)
    return now() - begin


class Prepared:
    """One convolution with its tensors."""

    cache = Cache()
    least_iterations = 1

    def __init__(
        self, backend: OneDNN, problem: ConvProblem, inputs: Any, weights: Any, bias: Any = None, residual: Any = None
    ) -> None:
        self._backend, self._problem = backend, problem
        top, _, left, _ = problem.padding
        self._function = backend._torch.mkldnn_convolution
        self._arguments: tuple[Any, ...] = (
            inputs,
            weights,
            bias,
            [top, left],
            list(problem.stride),
            list(problem.dilation),
            problem.groups,
        )

    def begin(self) -> None:
        """Make the first call, which is not timed."""
        self.call()

    def call(self) -> Any:
        """Run one convolution."""
        return self._function(*self._arguments)

    def plan(self) -> Plan:
        """Return the primitives of one call as oneDNN reports them, named after the convolution's implementation."""
        with self._backend._torch.inference_mode():
            steps = parse_steps(self._backend._verbose_text(self.call))
        main = next((step for step in steps if step.primitive == "convolution"), None)
        name, code = main.implementation if main else "none reported", code_of_loaded(LIBRARIES)
        return Plan(name, tuple(str(step) for step in steps), code=code)

    def output(self) -> Tensor:
        """Return one call's result as float32, in NCHW order whatever the layout."""
        with self._backend._torch.inference_mode():
            return np.ascontiguousarray(self.call().float().numpy())

    def run(self, iterations: int) -> float:
        """Return the seconds of that many calls; a CPU's calls are done when they return."""
        with self._backend._torch.inference_mode():
            return _seconds_of(iterations, self._function, self._arguments, self._backend._now)


class Fused(Prepared):
    """One convolution with post-ops in the same call, by the operators that torch.compile puts in a graph."""

    def __init__(
        self, backend: OneDNN, problem: ConvProblem, inputs: Any, weights: Any, bias: Any = None, residual: Any = None
    ) -> None:
        super().__init__(backend, problem, inputs, weights, bias)
        operators, activation = backend._torch.ops.mkldnn, ACTIVATIONS.get(problem.epilogue.activation)
        self._residual, self._sum = residual, None if residual is None else backend._placed(residual)
        if residual is None:
            self._function = operators._convolution_pointwise
            self._arguments = (*self._arguments, activation, [], "")
        else:
            # In place, as torch.compile does where nothing else reads the residual, and as benchdnn defines a sum. So
            # each call adds to what the last one left, which changes the numbers and not the work.
            self._function = operators._convolution_pointwise_
            self._arguments = (self._sum, *self._arguments, "add", 1.0, activation, [], None)

    def begin(self) -> None:
        """Make the first call. Raises Unsupported where torch computes the post-ops behind the convolution instead."""
        steps = parse_steps(self._backend._verbose_text(self.call))
        if not any(step.primitive == "convolution" and step.tag("post-ops") != "any" for step in steps):
            raise Unsupported(f"torch does not fuse {self._problem.epilogue} into this convolution")

    def output(self) -> Tensor:
        """Return the result of one call on the residual as it was given."""
        if self._sum is not None:
            self._sum.copy_(self._residual)
        return np.array(super().output())


class ThroughTorch(Prepared):
    """One convolution as torch dispatches it."""

    def __init__(
        self, backend: OneDNN, problem: ConvProblem, inputs: Any, weights: Any, bias: Any = None, residual: Any = None
    ) -> None:
        super().__init__(backend, problem, inputs, weights, bias, residual)
        torch, (top, bottom, left, right) = backend._torch, problem.padding
        conv2d, pad = torch.conv2d, torch.nn.functional.pad
        self._function = conv2d
        if not problem.symmetric_padding:
            self._function = lambda inputs, *others: conv2d(pad(inputs, (left, right, top, bottom)), *others)
        padding = [top, left] if problem.symmetric_padding else [0, 0]
        geometry = (list(problem.stride), padding, list(problem.dilation), problem.groups)
        self._arguments = (inputs, weights, bias, *geometry)

    def plan(self) -> Plan:
        """Return oneDNN's plan where torch chose it, else the operator that ran; the operators are steps."""
        plan, operators = super().plan(), self._operators()
        chosen = next((name for name in reversed(operators) if "conv" in name), "none reported")
        name = plan.name if chosen == _ONEDNNS_OPERATOR else chosen
        return replace(plan, name=name, steps=(*(f"torch {operator}" for operator in operators), *plan.steps))

    def _operators(self) -> list[str]:
        """Return the operators of one call that compute, by torch's profiler."""
        torch = self._backend._torch
        seen: list[str] = []

        def watched() -> None:
            with torch.autograd.profiler.profile(use_kineto=False) as profile:
                self.call()
            seen.extend(event.name.removeprefix("aten::") for event in profile.function_events)

        with torch.inference_mode():
            self._backend._verbose_text(watched)
        return [name for name in seen if name in _PADS or ("conv" in name and name not in _ON_THE_WAY)]


class CpuNetwork:
    """A whole network, as torch runs it eagerly."""

    cache = Cache()
    least_iterations = 1
    way = "call by call"

    def __init__(self, backend: OneDNN, built: whole.BuiltNetwork) -> None:
        self._backend, self._built, self.bytes = backend, built, built.bytes

    def plan(self) -> Plan:
        """Return how the network is run: torch chooses a plan for each of its layers."""
        return Plan(f"torch {self.way}")

    def run(self, iterations: int) -> float:
        """Return the seconds of that many calls. Raises Unsupported where the user's code fails, or OutOfMemory."""
        with self._backend._users_errors(), self._built.running(), self._backend._torch.no_grad():
            return _seconds_of(iterations, self._built.call, (), self._backend._now)
