"""What TVM would dispatch to an OpenCL GPU that is not here: its own program for such a target, compiled and read.

The wheel generates OpenCL and has no runtime for it. So nothing runs and nothing is timed: the kernels, their groups
and work-items are read from the program as TVM lowered it, by the default schedules of its rules (dlight).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from backends.base import Capabilities, Tensor
from backends.shared import last_line
from backends.tvm import health
from backends.tvm.api import Api
from backends.tvm.launches import Launch, NotUnderstood, launch_of
from backends.tvm.lowering import Lowering, kernels_of, sources
from neverslower.device.fingerprint import Fingerprint
from neverslower.device.readers import limits
from neverslower.errors import Unsupported
from neverslower.evidence.observation import Cache, Evidence, Plan, Searched
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.epilogue import NOTHING, Added
from neverslower.problem.subject import Search

PLAN = "dlight"
"""The rules that schedule what nobody tuned."""


class OpenCL:
    """The backend: one tvm and the OpenCL GPU that it generates code for."""

    clock = "none"
    shortest_round = 1e-3
    evidence = Evidence.DISPATCH
    exclusive = False
    offers = ("waits",)
    remarks = ("what would be dispatched is shown, nothing is computed",)

    def __init__(self, api: Api, installed: health.Installed, gpu: str, capabilities: Capabilities) -> None:
        self._api, self._installed, self._gpu, self._capabilities = api, installed, gpu, capabilities
        self._compiler = Compiler(api, gpu)
        self.at_once = limits.cores()

    def fingerprint(self) -> Fingerprint:
        """Return the GPU that code is generated for, and the versions of tvm and its ffi."""
        return Fingerprint(
            backend="tvm",
            device=f"opencl {self._gpu} recorded",
            version=self._api.version,
            build=f"ffi-{self._installed.ffi}",
            hardware={"gpu": self._gpu},
            state={"evidence": str(self.evidence), "target": "opencl", "method": PLAN},
            software={
                "apache-tvm": self._api.version,
                "apache-tvm-ffi": self._installed.ffi,
                "tvm build": self._installed.build,
                "target": self._compiler.words,
            },
        )

    def tune(self, wanted: Search) -> Searched:
        """Raise Unsupported: no GPU is here on which candidates could be timed."""
        raise Unsupported("no schedules are searched for where no GPU is")

    def prepare(
        self, problem: ConvProblem, inputs: Tensor, weights: Tensor, policy: str = "", added: Added = NOTHING
    ) -> Prepared:
        """Compile the problem and read its kernels. Raises Unsupported with TVM's words, or for any policy."""
        if policy:
            raise Unsupported(f"an OpenCL dispatch has the default schedules alone, not the policy {policy!r}")
        self._capabilities.require(problem)
        return Prepared(self._compiler.compile(problem))


@dataclass(frozen=True)
class Program:
    """One convolution compiled for an OpenCL GPU: its kernels in the order of the calls, and their source."""

    launches: tuple[Launch, ...]
    source: str

    def plan(self) -> Plan:
        """Return the kernels as the steps of a plan."""
        steps = tuple(str(launch.enqueue) for launch in self.launches)
        return Plan(PLAN, steps, options=tuple(launch.options for launch in self.launches))


class Compiler:
    """Compiles convolutions for one OpenCL target, and keeps what TVM lowered on the way."""

    def __init__(self, api: Api, gpu: str) -> None:
        self._api = api
        described = api.tvm.target.Target({"kind": "opencl", "device": gpu})
        self.words = str(described)
        self.target: Any = described.with_host(api.tvm.target.Target({"kind": "llvm"}))
        self._scheduled: Any = None
        self._lowering = Lowering(api, "never_slower_opencl")

    def _schedule(self, module: Any) -> Any:
        self._scheduled = self._api.relax.get_default_pipeline(self.target)(module)
        return self._scheduled

    def compile(self, problem: ConvProblem) -> Program:
        """Return the program of a problem. Raises Unsupported with TVM's words, or with ours where it can't be read."""
        self._scheduled = None
        try:
            with self.target:
                built = self._api.tvm.compile(
                    self._api.module(problem),
                    target=self.target,
                    relax_pipeline=self._schedule,
                    tir_pipeline=self._lowering.pipeline,
                )
        except Exception as error:
            raise Unsupported(f"tvm does not compile it: {last_line(error)}") from error
        source = "\n".join(sources(built.mod, "opencl", "cl"))
        try:
            launches = tuple(self._launches(source))
        except NotUnderstood as error:
            raise Unsupported(f"what tvm compiled can't be read as a dispatch: {error}") from error
        return Program(launches, source)

    def _launches(self, source: str) -> Iterator[Launch]:
        """Yield the launches in the order of the calls. Raises NotUnderstood, also where the source has other ones."""
        kernels = self._lowering.kernels("opencl")
        called = [name for function in self._called() for name in kernels_of(function, kernels)]
        if sorted({*re.findall(r"__kernel void (\w+)", source)}) != sorted(called):
            raise NotUnderstood(f"its source has other kernels than {', '.join(called) or 'none'}")
        yield from (launch_of(name, kernels[name]) for name in called)

    def _called(self) -> Iterator[str]:
        """Yield the names of the loop functions that the scheduled module calls, in order."""
        for block in self._scheduled["main"].body.blocks:
            for binding in block.bindings:
                name = getattr(getattr(binding.value, "op", None), "name_hint", None)
                if name is not None:
                    yield str(name)


class Prepared:
    """One convolution whose dispatch is known."""

    cache = Cache()
    least_iterations = 1

    def __init__(self, program: Program) -> None:
        self._program = program

    def plan(self) -> Plan:
        """Return the kernels that a call would enqueue, in order."""
        return self._program.plan()

    def output(self) -> Tensor:
        """Raise Unsupported: nothing is computed where a dispatch is recorded."""
        raise Unsupported("nothing is computed where a dispatch is recorded")

    def run(self, iterations: int) -> float:
        """Raise Unsupported: no GPU is here, so nothing can be timed."""
        raise Unsupported("no GPU is here, so nothing can be timed")
