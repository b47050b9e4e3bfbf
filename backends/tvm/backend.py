"""The backend on this very CPU, which those on other devices are made from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from backends.base import Prepared as AnyPrepared
from backends.base import Tensor
from backends.shared import cpu_fingerprint
from backends.tvm.api import MAIN, Api
from backends.tvm.capabilities import CAPABILITIES
from backends.tvm.compiled import Compiled, Prepared
from backends.tvm.health import Installed
from backends.tvm.kernels import KERNEL, Kernels, computed, read
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import OutOfMemory
from neverslower.evidence.observation import Plan, Searched
from neverslower.problem import numerics
from neverslower.problem.convolution import ConvProblem, Layout
from neverslower.problem.epilogue import NOTHING, Added
from neverslower.problem.subject import Search, Subject, TunedLog


class TVM:
    """The backend: one tvm, and the kernels that it compiled in this run or an earlier one."""

    clock = "time.perf_counter"
    shortest_round = 1e-3

    def __init__(self, api: Api, installed: Installed, kernels: Kernels, threads: int) -> None:
        self.api, self._installed, self._kernels, self._threads = api, installed, kernels, threads

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what a user has to know of the database."""
        database = self._kernels.database
        return database.remarks if database else ()

    @property
    def _schedules(self) -> str:
        """Return which database schedules what is compiled, for the fingerprint."""
        return self._kernels.database.hash if self._kernels.database else "untuned"

    def fingerprint(self) -> Fingerprint:
        """Return the processor, its governor, threads and database; tvm, its ffi, which build of them, and LLVM."""
        return cpu_fingerprint(
            "tvm",
            version=self.api.version,
            build=f"ffi-{self._installed.ffi}",
            state={"threads": str(self._threads), "schedules": self._schedules},
            software={
                "apache-tvm": self.api.version,
                "apache-tvm-ffi": self._installed.ffi,
                "tvm build": self._installed.build,
                "llvm": self.api.llvm,
                # LLVM's name of the CPU: another release may call the same one otherwise.
                "llvm cpu": self.api.cpu,
            },
        )

    def tune(self, wanted: Search) -> Searched:
        """Search for a schedule, unless the same search was made before. Raises Unsupported."""
        CAPABILITIES.require(wanted.problem)
        return self._kernels.searches.make(wanted)

    def missing(self, subjects: list[Subject]) -> list[Subject]:
        """Return the subjects that are yet to be compiled."""
        return [subject for subject in subjects if not self._kernels.find(subject)]

    def compile(self, subject: Subject) -> Path:
        """Return the folder of the compiled subject, kept or made now. Raises Unsupported with TVM's words."""
        CAPABILITIES.require(subject.problem)
        return self._kernels.compile(subject)

    def prepare(
        self, problem: ConvProblem, inputs: Tensor, weights: Tensor, policy: str = "", added: Added = NOTHING
    ) -> AnyPrepared:
        """Compile or find the kernel, load it and give it tensors; a padded subject gets its zero filters here."""
        subject = Subject(problem, policy)
        shape = computed(subject)
        folder = self.compile(subject)
        about, code = read(folder)
        plan = replace(self._plan(about, TunedLog.parse(policy)), code=code)
        tensors = numerics.padded_tensors(shape, problem, (inputs, weights))
        try:
            return self._loaded(Compiled(folder / KERNEL, plan, problem, shape, about), *tensors)
        except MemoryError as error:
            raise OutOfMemory(f"{problem.bytes / 1e6:.0f} MB of tensors do not fit") from error

    def _loaded(self, work: Compiled, inputs: Tensor, weights: Tensor) -> AnyPrepared:
        """Load a compiled subject and give it tensors."""
        machine = self.api.load(work.path)
        machine.set_input(MAIN, *(self.api.tensor(tensor, work.shape) for tensor in (inputs, weights)))
        return self._prepared(machine, work.problem.layout, work.kept_channels, work.plan)

    def _prepared(self, machine: Any, layout: Layout, kept: list[int], plan: Plan) -> Prepared:
        return Prepared(machine, layout, kept, plan, time.perf_counter)

    def _plan(self, functions: Mapping[str, bool], log: TunedLog | None) -> Plan:
        """Return a plan that is `untuned`, or `tuned` by the database of that hash.

        Its steps name each function and, if scheduled, its record's database and target.
        """
        database = self._kernels.database_of(log)
        tuned = all(functions.values())  # One loop that fell back to untuned can dominate the others.
        name = f"tuned {database.hash}" if tuned and database else "untuned"
        if log and log.padded:
            name = f"{name}, padded"
        origin = f" from {database.hash}, {self.api.target}" if database else ""
        steps = (
            f"{function} {f'tuned{origin}' if scheduled else 'untuned'}" for function, scheduled in functions.items()
        )
        return Plan(name, tuple(steps), tuned=tuned)
