"""The backend on an NVIDIA GPU: kernels are called in CUDA graphs there, and timed by its clock."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from backends.base import Offsets, Tensor
from backends.base import Prepared as AnyPrepared
from backends.gpu import Gpu
from backends.tvm import cuda
from backends.tvm.backend import TVM
from backends.tvm.capabilities import ON_CUDA
from backends.tvm.compiled import Compiled
from backends.tvm.health import Installed
from backends.tvm.kernels import Kernels
from neverslower.device.fingerprint import Fingerprint
from neverslower.device.readers import limits
from neverslower.errors import Unsupported
from neverslower.evidence.observation import Cache, Plan, Searched
from neverslower.problem.subject import Search, Subject, TunedLog

TOGETHER = 16
"""Fewer kernels than this are compiled for a GPU by the process that waits for them, and no other one is started."""
A_CORE = 2
"""How many kernels a core compiles at most before the process answers."""


class Cuda(TVM):
    """The backend on an NVIDIA GPU: kernels are called in CUDA graphs there, and timed by its clock."""

    api: cuda.CudaApi
    clock = Gpu.clock
    shortest_round = Gpu.shortest_round
    offers = ON_CUDA.offers

    def __init__(
        self, api: cuda.CudaApi, installed: Installed, kernels: Kernels, threads: int, setup: cuda.Setup
    ) -> None:
        super().__init__(api, installed, kernels, threads)
        self._setup, self._gpu = setup, setup.gpu
        self.lock_name = self._gpu.lock_name
        self.disturbed, self.state = self._gpu.disturbed, self._gpu.state
        self._waiting: list[Subject] = []

    @property
    def offsets(self) -> Offsets:
        """Return from where it is drawn where tensors begin."""
        return self._gpu.offsets

    @offsets.setter
    def offsets(self, offsets: Offsets) -> None:
        self._gpu.offsets = offsets

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what a user has to know of the database, and who else uses the GPU."""
        return (*super().remarks, *self._gpu.disturbances)

    def fingerprint(self) -> Fingerprint:
        """Return the GPU, its state and how it is measured; tvm, its ffi, what compiles kernels, and what is around."""
        return self._gpu.fingerprint_of(
            "tvm",
            version=self.api.version,
            build=f"ffi-{self._installed.ffi}",
            state={
                "schedules": self._schedules,
                "cache": self._setup.cache,
                "target": self.api.arch,
            },
            software={
                "apache-tvm": self.api.version,
                "apache-tvm-ffi": self._installed.ffi,
                "tvm build": self._installed.build,
                "kernel compiler": self._setup.compiler,
            },
        )

    def tune(self, wanted: Search) -> Searched:
        """Search as TVM.tune does, on the GPU. Raises DeviceLost where a candidate left it in an error."""
        with self._gpu.errors_translated(wanted.problem.bytes):
            try:
                found = super().tune(wanted)
            except Unsupported as error:
                self._gpu.require_device(error)
                raise
            self._gpu.require_device()  # Else the next search would be blamed for a candidate of this one.
            return found

    def missing(self, subjects: list[Subject]) -> list[Subject]:
        """Return the subjects that are yet to be compiled, if there are many; of a few the first takes all along."""
        waiting = super().missing(subjects)
        if len(waiting) >= TOGETHER:
            return waiting
        self._waiting = waiting
        return []

    def compile(self, subject: Subject) -> Path:
        """Do what TVM.compile does; NVRTC compiles side by side what is known to be missing, some for each core."""
        if subject in self._waiting and not self._kernels.find(subject):
            ordered = [subject, *(each for each in self._waiting if each != subject)]
            many = A_CORE * limits.cores()  # All at once could take longer on few cores than an answer may.
            batch, self._waiting = ordered[:many], ordered[many:]
            with self.api.together([partial(self._kernels.built, each) for each in batch]):
                for each in batch:
                    with suppress(Unsupported):  # It is refused again when it is asked for.
                        super().compile(each)
        return super().compile(subject)

    def _plan(self, about: Mapping[str, Any], log: TunedLog | None) -> Plan:
        database = self._kernels.database_of(log)
        name, padded = database.hash if database else "", bool(log and log.padded)
        return cuda.plan_of(about, name, self.api.arch, padded)

    def _loaded(self, work: Compiled, inputs: Tensor, weights: Tensor) -> AnyPrepared:
        gpu, cache = self._gpu, self._setup.cache
        with gpu.errors_translated(work.shape.bytes):
            function = self.api.load(work.path)[work.about["function"]]
            copies = gpu.copies(work.shape, cache)
            sets = [cuda.placed(gpu, work.shape, inputs, weights) for _ in range(copies)]
            return cuda.Prepared(gpu, function, sets, work, Cache(cache, gpu.share(work.shape, copies)))
