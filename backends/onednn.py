"""oneDNN through torch on the CPU: torch's own oneDNN convolution, forced, so that no other kernel is chosen.

torch's eager convolution picks oneDNN or one of its own kernels by shape and thread count. This adapter calls the
operator behind that choice, `torch.mkldnn_convolution`, with plain weights. So it measures what eager torch runs
whenever it picks oneDNN: the convolution and the reorders around it, including the weights'. The plan lists them
as oneDNN itself reports them in its verbose mode.

`onednn:torch` calls `torch.conv2d` instead, and so what torch picks, which is not always oneDNN. The plan names what
ran, as torch's own profiler saw it: small images at one thread take `_slow_conv2d_forward`, for example.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from backends.base import BackendOptions, Capabilities, Offsets, Tensor
from backends.shared import cpu_fingerprint, first_line, not_installed, read_argument
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError, OutOfMemory, Unavailable, Unsupported
from neverslower.evidence.observation import Cache, Plan
from neverslower.models import whole
from neverslower.problem.convolution import ConvProblem, DType, Layout
from neverslower.problem.whole import Network

CAPABILITIES = Capabilities(
    dtypes=frozenset({DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16}),
    layouts=frozenset(Layout),
    asymmetric_padding=False,
    modules=("torch",),
    waits=True,
    ahead=True,
    networks=True,
)
_BENCHDNN_TYPES = {DType.FLOAT32: "f32", DType.FLOAT16: "f16", DType.BFLOAT16: "bf16"}
_DIRECTIONS = {"forward_training": "FWD_D", "forward_inference": "FWD_I"}
_SETTINGS = ("MAX_CPU_ISA", "CPU_ISA_HINTS", "DEFAULT_FPMATH_MODE")
"""Settings by which a user restricts oneDNN (its manual, "CPU Dispatcher Control", "Floating-point Math Mode")."""

THROUGH_TORCH = "torch"
"""The argument by which torch's own choice is measured."""
_ONEDNNS_OPERATOR = "mkldnn_convolution"
_ON_THE_WAY = {"conv2d", "convolution", "_convolution"}
"""Operators that only hand on to the one that torch chose."""
_PADS = {"constant_pad_nd"}

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
    prefix = f"OMP_NUM_THREADS={options.threads} benchdnn --mode=P"
    steps = [Step.read(text) for text in plan.steps]
    main = next((step for step in steps if step.primitive == "convolution"), Step("convolution", "unknown", ()))
    steps = steps if main in steps else [main]
    dtype = _BENCHDNN_TYPES[problem.dtype]
    lines = []
    for position, step in enumerate(steps):
        if step is main:
            layouts = " ".join(f"--{name[0]}tag={main.tag(name)}" for name in ("src", "wei", "dst"))
            direction = _DIRECTIONS.get(main.tag("prop"), "FWD_D")
            types = f"--dt={dtype}:{dtype}:{dtype}"
            lines.append(f"{prefix} --conv --dir={direction} {types} {layouts} {problem.descriptor}")
        elif step.primitive == "reorder":
            tags = f"--stag={step.tag('src')} --dtag={step.tag('dst')}"
            shape = _reordered(problem, step, main, after=position > steps.index(main))
            lines.append(f"{prefix} --reorder --sdt={dtype} --ddt={dtype} {tags} {shape}")
    return "\n".join(lines)


def write_script(problem: ConvProblem, plan: str, options: BackendOptions) -> str:
    """Return a script that times `problem` with nothing but torch; torch chooses, so `plan` changes nothing."""
    top, bottom, left, right = problem.padding
    stride, dilation = problem.stride, problem.dilation
    if not _through_torch(options.argument):
        CAPABILITIES.require(problem)
        call = f"torch.mkldnn_convolution(x, w, None, {(top, left)}, {stride}, {dilation}, {problem.groups})"
    elif problem.symmetric_padding:
        call = f"torch.conv2d(x, w, None, {stride}, {(top, left)}, {dilation}, {problem.groups})"
    else:
        padded = f"torch.nn.functional.pad(x, {(left, right, top, bottom)})"
        call = f"torch.conv2d({padded}, w, None, {stride}, 0, {dilation}, {problem.groups})"
    return _SCRIPT.format(
        problem=problem,
        threads=options.threads,
        input_shape=problem.input_shape,
        weight_shape=problem.weight_shape,
        dtype=problem.dtype,
        order="channels_last" if problem.layout is Layout.NHWC else "contiguous_format",
        call=call,
    )


_SCRIPT = '''\
"""{problem} on the CPU, by torch.

Prints the median time of a call in microseconds, and what oneDNN says that it ran.
"""
import statistics
import time

import torch

torch.manual_seed(0)
torch.set_num_threads({threads})


def tensor(shape):
    return torch.rand(shape).to(torch.{dtype}).contiguous(memory_format=torch.{order})


x, w = tensor({input_shape}), tensor({weight_shape})


def call():
    return {call}


def seconds(calls):
    begin = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - begin


with torch.inference_mode():
    seconds(3)
    calls = max(1, round(2e-3 / max(seconds(3) / 3, 1e-9)))
    times = [seconds(calls) / calls for _ in range(30)]
    print(f"{{statistics.median(times) * 1e6:.2f}} us a call")
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        call()
'''


def _reordered(problem: ConvProblem, step: Step, main: Step, after: bool) -> str:
    """Return the dimensions of what a reorder moves: the output after the convolution, else weights or input."""
    if after:
        dimensions: tuple[int, ...] = problem.output_shape
    elif step.tag("dst") == main.tag("wei"):
        filters, *rest = problem.weight_shape
        dimensions = (filters, *rest) if problem.groups == 1 else (problem.groups, filters // problem.groups, *rest)
    else:
        dimensions = problem.input_shape
    return "x".join(map(str, dimensions))


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

    def prepare(self, problem: ConvProblem, inputs: Tensor, weights: Tensor, policy: str = "") -> Prepared:
        """Make tensors in the problem's layout, and call once. Raises Unsupported or OutOfMemory in oneDNN's words."""
        if policy:
            raise Unsupported(f"onednn chooses by itself, it has no policy {policy!r}")
        # torch pads by itself where the padding is uneven.
        able = replace(CAPABILITIES, asymmetric_padding=True) if self._through_torch else CAPABILITIES
        able.require(problem)
        torch = self._torch
        kind = ThroughTorch if self._through_torch else Prepared
        try:
            prepared = kind(self, problem, self._tensor(inputs, problem), self._tensor(weights, problem))
            with torch.inference_mode():
                prepared.call()
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
        try:
            return CpuNetwork(self, whole.build(self._torch, network, "cpu"))
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

    def __init__(self, backend: OneDNN, problem: ConvProblem, inputs: Any, weights: Any) -> None:
        self._backend = backend
        top, _, left, _ = problem.padding
        self._function = backend._torch.mkldnn_convolution
        self._arguments = (
            inputs,
            weights,
            None,
            [top, left],
            list(problem.stride),
            list(problem.dilation),
            problem.groups,
        )

    def call(self) -> Any:
        """Run one convolution."""
        return self._function(*self._arguments)

    def plan(self) -> Plan:
        """Return the primitives of one call as oneDNN reports them, named after the convolution's implementation."""
        with self._backend._torch.inference_mode():
            steps = parse_steps(self._backend._verbose_text(self.call))
        main = next((step for step in steps if step.primitive == "convolution"), None)
        return Plan(main.implementation if main else "none reported", tuple(str(step) for step in steps))

    def output(self) -> Tensor:
        """Return one call's result as float32, in NCHW order whatever the layout."""
        with self._backend._torch.inference_mode():
            return np.ascontiguousarray(self.call().float().numpy())

    def run(self, iterations: int) -> float:
        """Return the seconds of that many calls; a CPU's calls are done when they return."""
        with self._backend._torch.inference_mode():
            return _seconds_of(iterations, self._function, self._arguments, self._backend._now)


class ThroughTorch(Prepared):
    """One convolution as torch dispatches it."""

    def __init__(self, backend: OneDNN, problem: ConvProblem, inputs: Any, weights: Any) -> None:
        super().__init__(backend, problem, inputs, weights)
        torch, (top, bottom, left, right) = backend._torch, problem.padding
        conv2d, pad = torch.conv2d, torch.nn.functional.pad
        self._function = conv2d
        if not problem.symmetric_padding:
            self._function = lambda inputs, *others: conv2d(pad(inputs, (left, right, top, bottom)), *others)
        padding = [top, left] if problem.symmetric_padding else [0, 0]
        geometry = (list(problem.stride), padding, list(problem.dilation), problem.groups)
        self._arguments = (inputs, weights, None, *geometry)

    def plan(self) -> Plan:
        """Return oneDNN's plan where torch chose it, else the operator that ran; the operators are steps."""
        plan, operators = super().plan(), self._operators()
        chosen = next((name for name in reversed(operators) if "conv" in name), "none reported")
        name = plan.name if chosen == _ONEDNNS_OPERATOR else chosen
        return Plan(name, (*(f"torch {operator}" for operator in operators), *plan.steps))

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
        self._backend, self._call, self.bytes = backend, built.call, built.bytes

    def plan(self) -> Plan:
        """Return how the network is run: torch chooses a plan for each of its layers."""
        return Plan(f"torch {self.way}")

    def run(self, iterations: int) -> float:
        """Return the seconds of that many calls."""
        with self._backend._torch.no_grad():
            return _seconds_of(iterations, self._call, (), self._backend._now)


@dataclass(frozen=True)
class Step:
    """One primitive that oneDNN ran: its kind, its implementation, and the layouts it works on."""

    primitive: str
    implementation: str
    details: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.primitive, self.implementation, *self.details))

    @classmethod
    def read(cls, text: str) -> Step:
        """Read what `str` wrote."""
        primitive, implementation, *details = text.split()
        return cls(primitive, implementation, tuple(details))

    def tag(self, name: str) -> str:
        """Return the layout of `src`, `wei` or `dst`, or the `prop`agation kind; `any` if it was not reported."""
        return next((text.partition(":")[2] for text in self.details if text.startswith(f"{name}:")), "any")


def parse_steps(verbose: str) -> list[Step]:
    """Return the executed primitives in oneDNN's verbose output, in order.

    A line reads `onednn_verbose[,v1],[primitive,]exec,ENGINE,PRIMITIVE,IMPLEMENTATION,PROPAGATION,MEMORY,…`;
    implementations of Arm Compute Library end in `:acl` (oneDNN's documentation, "Verbose Mode").
    """
    steps = []
    for line in verbose.splitlines():
        fields = line.split(",")
        if not fields[0].endswith("_verbose") or "exec" not in fields[:4]:
            continue
        rest = fields[fields.index("exec") + 2 :]
        if len(rest) < 4:
            continue
        primitive, implementation, propagation, memory = rest[:4]
        # Memory reads `src:f32:a:blocked:aBcd16b::f0` today and `src_f32::blocked:aBcd16b:f0` before oneDNN 3.1.
        tags = re.findall(r"\b(src|wei|dst)[_:]\w+:\w*:blocked:(\w+)", memory)
        algorithm = [field for field in rest[4:] if field.startswith("alg:")]
        details = [f"{name}:{tag}" for name, tag in tags] + algorithm
        if propagation.startswith("forward"):
            details.append(f"prop:{propagation}")
        steps.append(Step(primitive, implementation, tuple(details)))
    return steps


def settings(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the oneDNN settings that environment variables make, by their newer names."""
    chosen = {f"ONEDNN_{name}": variables.get(f"ONEDNN_{name}") or variables.get(f"DNNL_{name}") for name in _SETTINGS}
    return {name: value for name, value in chosen.items() if value}


def parse_info(verbose: str) -> dict[str, str]:
    """Return version, commit and instruction set from the lines that oneDNN prints first in verbose mode."""
    info = {}
    if match := re.search(r"info,(?:oneDNN|DNNL) v(\S+) \(commit (\w+)\)", verbose):
        info["version"], info["commit"] = match.groups()
    if match := re.search(r"info,cpu,isa:(.+)", verbose):
        info["isa"] = match.group(1).strip()
    return info
