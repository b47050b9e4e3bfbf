"""The backend on a board that is reached by RPC: kernels are compiled here, and run and timed there."""

from __future__ import annotations

import time
from typing import Any

from backends.base import Prepared as AnyPrepared
from backends.base import Tensor
from backends.tvm.backend import TVM
from backends.tvm.choice import Tracker
from backends.tvm.compiled import Prepared
from backends.tvm.health import Installed
from backends.tvm.kernels import Kernels
from backends.tvm.rpc import BoardApi
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import Unsupported
from neverslower.evidence.observation import Plan, Searched
from neverslower.problem.convolution import ConvProblem, Layout
from neverslower.problem.epilogue import NOTHING, Added
from neverslower.problem.subject import Search, Subject


class Board(TVM):
    """The backend on a board that is reached by RPC: kernels are compiled here, and run and timed there."""

    api: BoardApi
    clock = "TVM's timer on the board"
    elsewhere = True
    offers = ()
    """A board serves one session at a time: no other process may open it, not even to compile."""

    def __init__(self, api: BoardApi, installed: Installed, kernels: Kernels, tracker: Tracker, threads: int) -> None:
        super().__init__(api, installed, kernels, threads)
        self._tracker = tracker
        self.lock_name = f"rpc {tracker} {tracker.key}"

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what is not known of the board."""
        return (f"{self._tracker.board} is timed by TVM's timer there; its clocks, heat and load are not read",)

    def fingerprint(self) -> Fingerprint:
        """Return the board's key and processor, and the versions here, which are checked to be those of the board."""
        api = self.api
        return Fingerprint(
            backend="tvm",
            device=f"{self._tracker.key} {api.cpu} rpc",
            version=api.version,
            build=f"ffi-{self._installed.ffi}",
            hardware={"key": self._tracker.key, "llvm cpu": api.cpu, "triple": api.triple},
            state={"threads": str(self._threads), "schedules": "untuned"},
            software={
                "apache-tvm": api.version,
                "apache-tvm-ffi": self._installed.ffi,
                "tvm build": self._installed.build,
                "llvm": api.llvm,
                "ffi on the board": api.ffi,
            },
        )

    def tune(self, wanted: Search) -> Searched:
        """Raise Unsupported: a search here would time candidates on this machine."""
        raise Unsupported("no schedules are searched for on a board")

    def prepare(
        self, problem: ConvProblem, inputs: Tensor, weights: Tensor, policy: str = "", added: Added = NOTHING
    ) -> AnyPrepared:
        """Do what TVM.prepare does, on the board. Raises DeviceLost where it no longer answers."""
        self.compile(Subject(problem, policy))  # Here and now: whatever fails after this is the board's.
        with self.api.answering():
            return super().prepare(problem, inputs, weights, policy, added)

    def _prepared(self, machine: Any, layout: Layout, kept: list[int], plan: Plan) -> Prepared:
        return OnBoard(self.api, machine, layout, kept, plan)


class OnBoard(Prepared):
    """One compiled convolution with its tensors on a board. Raises DeviceLost where that no longer answers."""

    def __init__(self, api: BoardApi, machine: Any, layout: Layout, kept: list[int], plan: Plan) -> None:
        super().__init__(machine, layout, kept, plan, time.perf_counter)
        self._api = api

    def output(self) -> Tensor:
        """Return one call's result, as Prepared does."""
        with self._api.answering():
            return super().output()

    def run(self, iterations: int) -> float:
        """Return the seconds of that many calls, by the board's timer: nothing of the connection is in them."""
        with self._api.answering():
            return self._api.seconds(self._machine, iterations)
