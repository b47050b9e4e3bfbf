"""A board that TVM's RPC tracker hands out: compiled for it here, uploaded, and timed there by TVM's own timer.

RPC has no authentication: whoever reaches a tracker or a server can run programs there. So only the address that the
user names is ever contacted. A board serves one session at a time, and this process keeps its own until it ends.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from backends.shared import last_line
from backends.tvm.api import MAIN, Api
from backends.tvm.choice import Tracker
from neverslower.errors import DeviceLost, Unavailable, Unsupported

PATIENCE = 5.0
"""Seconds to wait for a tracker's answer."""
QUEUE_PATIENCE = 30.0
"""Seconds to wait for a board that another session holds; a server needs a few until it is free again."""
FFI_VERSION = "TVMFFIGetVersion"
"""The function of TVM's C interface that every version has, and that writes the three numbers of its version."""


class BoardApi(Api):
    """TVM's interface with a board as its device: what is compiled here, for the board's CPU, is loaded there."""

    def __init__(self, threads: int, tracker: Tracker) -> None:
        super().__init__(threads)
        self._tracker = tracker
        self._numbers = itertools.count()
        self._session = _session(tracker)
        self.cpu = str(self._ask("target.llvm_get_system_cpu"))
        self.triple = str(self._ask("target.llvm_get_system_triple"))
        self._ask("runtime.config_threadpool", 1, threads)  # 1: the big cores first, where there are two kinds.
        self._linker = _linker(self.triple.partition("-")[0])
        here, self.device = self.device, self._session.cpu(0)
        described = {"kind": "llvm", "mcpu": self.cpu, "num-cores": threads}
        if self._linker:
            described["mtriple"] = self._linker.removesuffix("-g++")
        self.target = self.tvm.target.Target(described)
        self.ffi = self._require_same_ffi(here)

    def _ask(self, name: str, *arguments: Any) -> Any:
        """Call a function of the board's TVM. Raises Unavailable where it has none of that name."""
        try:
            return self._session.get_function(name)(*arguments)
        except Exception as error:
            raise Unavailable(
                f"{self._tracker.board}: its TVM has no {name} ({last_line(error)}); install "
                f"apache-tvm=={self.version} there, which includes the compiler"
            ) from error

    def _require_same_ffi(self, here: Any) -> str:
        """Return the version of the board's ffi. Raises Unavailable where the device `here` has another one."""
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder) / "version.so"
            _version_program(self, self.tvm.target.Target({"kind": "llvm"})).export_library(str(program))
            mine = _version(self, self.tvm.runtime.load_module(str(program)), here)
            self.export(_version_program(self, self.target), program)
            there = _version(self, self._uploaded(program), self.device)
        if mine != there:
            raise Unavailable(
                f"{self._tracker.board}: its TVM has the ffi {there}, this machine's has {mine}; install "
                f"apache-tvm=={self.version} there, with the apache-tvm-ffi that is here"
            )
        return there

    def export(self, compiled: Any, path: Path) -> None:
        """Write what was compiled as a shared library for the board, with a cross-compiler where it needs one."""
        if not self._linker:
            super().export(compiled, path)
            return
        compilers = importlib.import_module("tvm.support.cc")
        compiled.export_library(str(path), fcompile=compilers.cross_compiler(self._linker))

    def _uploaded(self, path: Path) -> Any:
        """Return a shared library as it was loaded on the board, where its file is then removed."""
        name = f"never-slower-{next(self._numbers)}.so"
        self._session.upload(str(path), name)
        module = self._session.load_module(name)
        self._session.remove(name)
        return module

    def load(self, path: Path) -> Any:
        """Load a compiled library into a virtual machine on the board."""
        return self.relax.VirtualMachine(self._uploaded(path), self.device)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Turn an error of the board's into DeviceLost where it no longer answers, else into Unsupported."""
        try:
            yield
        except (DeviceLost, Unsupported):
            raise
        except Exception as error:
            try:
                self._session.get_function("target.llvm_version_major")()
            except Exception:  # noqa: BLE001  Whatever is raised means that no answer came.
                raise DeviceLost(f"{self._tracker.board} no longer answers: {last_line(error)}") from None
            raise Unsupported(f"{self._tracker.board} does not run it: {last_line(error)}") from error

    def seconds(self, machine: Any, iterations: int) -> float:
        """Return the seconds of that many calls on the board, by TVM's timer there."""
        timer = machine.time_evaluator("invoke_stateful", self.device, number=iterations, repeat=1)
        return float(timer(MAIN).results[0]) * iterations


def _version_program(api: Api, target: Any) -> Any:
    """Return a compiled program whose function `version` writes the version of the ffi that it runs under."""
    tvm = api.tvm
    numbers = tvm.te.extern(
        (3,),
        [],
        lambda _, outputs: tvm.tirx.call_extern("int32", FFI_VERSION, outputs[0].data),
        dtype="int32",
        name="version",
    )
    function = tvm.te.create_prim_func([numbers]).with_attr("global_symbol", "version")
    return tvm.compile(tvm.IRModule({"version": function}), target=target)


def _version(api: Api, program: Any, device: Any) -> str:
    numbers = api.tvm.runtime.tensor(np.zeros(3, dtype="int32"), device)
    program["version"](numbers)
    return ".".join(map(str, numbers.numpy()))


def _linker(architecture: str) -> str:
    """Return the cross-compiler for a board, or nothing where it is like this machine. Raises Unavailable."""
    if architecture == platform.machine():
        return ""
    compiler = f"{architecture}-linux-gnu-g++"
    if not shutil.which(compiler):
        package = f"g++-{architecture.replace('_', '-')}-linux-gnu"
        raise Unavailable(f"the board is {architecture}, and {compiler} is missing; `apt-get install {package}`")
    return compiler


def _session(tracker: Tracker) -> Any:
    """Return a session on a board. Raises Unavailable: no tracker there, nobody serves the key, or all are taken."""
    _require_listener(tracker)
    rpc = importlib.import_module("tvm.rpc")
    try:
        known = rpc.connect_tracker(tracker.host, tracker.port)
        _wait_for_board(tracker, known)
        return known.request(tracker.key, max_retry=1)
    except Unavailable:
        raise
    except Exception as error:
        raise Unavailable(f"the RPC tracker {tracker} gives no board: {last_line(error)}") from error


def _require_listener(tracker: Tracker) -> None:
    """Raise Unavailable where nothing listens; TVM itself would try for a minute."""
    try:
        socket.create_connection((tracker.host, tracker.port), PATIENCE).close()
    except OSError as error:
        raise Unavailable(
            f"no RPC tracker answers at {tracker} ({error.strerror or error}); start one there: "
            f"python -m tvm.exec.rpc_tracker --host {tracker.host} --port {tracker.port}"
        ) from error


def _wait_for_board(tracker: Tracker, known: Any) -> None:
    """Return when a board is free. Raises Unavailable where nobody serves the key, or none is free in time."""
    end = time.monotonic() + QUEUE_PATIENCE
    while True:
        summary = known.summary()
        keys = {str(server["key"]).partition(":")[2] for server in summary["server_info"]}
        if tracker.key not in keys:
            raise Unavailable(
                f"no board serves the key {tracker.key!r} at the RPC tracker {tracker} (it has: "
                f"{', '.join(sorted(keys)) or 'none'}); start one on the board: "
                f"python -m tvm.exec.rpc_server --tracker {tracker} --key {tracker.key}"
            )
        if summary["queue_info"].get(tracker.key, {}).get("free"):
            return
        if time.monotonic() > end:
            raise Unavailable(f"{tracker.board} is held by another session; wait until that ends")
        time.sleep(0.5)
