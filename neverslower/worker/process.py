"""Starts a worker process over execnet, asks it, and outlives whatever happens to it: the coordinator's side."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

import execnet
import numpy as np

from neverslower.device.fingerprint import Fingerprint
from neverslower.device.state import State
from neverslower.errors import (
    DeviceBusy,
    NeverSlowerError,
    OutOfMemory,
    Unavailable,
    Unsupported,
    WorkerDied,
    WorkerError,
)
from neverslower.evidence.observation import Evidence, Examined, PairedPass, Searched
from neverslower.judge.failure import Failure, of_failure
from neverslower.problem.subject import Search
from neverslower.worker import bootstrap
from neverslower.worker.starting import NO_WORKER, Started, from_the_start, why_none

P = TypeVar("P", bound="_Process")
LOCAL = "popen"
START_LIMIT = 120.0
GRACE = 5.0
LAST_BYTES = 1_000_000
"""As much of what a process wrote is read: faulthandler's headline stands before the frames of up to 100 threads."""
LAST_LINES = 8
ENDED = re.compile(r"Timeout \(\d+:\d\d:\d\d(\.\d+)?\)!")
"""The headline that faulthandler writes at a time limit; a library that logs a timeout of its own writes another."""
LEAST_COUNTED = 2
"""Two versions that agree in fewer numbers than these may be two releases."""
# A vendor library's own thread pools would time each other; the adapter sets the threads that it measures with.
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class WorkerSpec:
    """Says where and how a worker runs: a backend by name, an execnet spec, time limits in seconds.

    `named` is what the user calls the place where that is not its spec, such as `pip:apache-tvm==0.25.0`. `expected` is
    the package and the version that its library was installed from, where that is known.
    """

    backend: str
    argument: str = ""
    execnet: str = LOCAL
    threads: int = 1
    time_limit: float = 120.0
    variables: Mapping[str, str] = field(default_factory=dict)
    named: str = ""
    expected: tuple[str, str] = ("", "")

    @property
    def place(self) -> str:
        """Return where it runs, in the words of the user."""
        return self.named or self.execnet

    @property
    def backend_spec(self) -> str:
        """Return the backend as `--backend` takes it: `cudnn:gpu=1`."""
        return f"{self.backend}:{self.argument}" if self.argument else self.backend

    def require_expected(self, fingerprint: Fingerprint) -> None:
        """Raise Unavailable where a worker has loaded another version of its library than the one that is expected."""
        package, version = self.expected
        loaded = [fingerprint.version, *fingerprint.software.values()]
        # A wheel may count further than its library does (9.19.0.56), and a library may name its build (2.9.1+cpu).
        if version and not any(_same_release(version, other) for other in loaded):
            named = ", ".join(f"{name} {other}" for name, other in fingerprint.software.items())
            text = f"{package} {version} was installed for it, and its worker loaded another: {named}"
            raise Unavailable(f"{text}; see which one its loader finds first")


def _same_release(wheel: str, library: str) -> bool:
    """Return whether the version of a wheel and that of a library are one, as far as both count."""
    counted, other = (text.partition("+")[0].split(".") for text in (wheel, library))
    shared = min(len(counted), len(other))
    return shared >= LEAST_COUNTED and counted[:shared] == other[:shared]


@cache
def _sources() -> dict[str, str]:
    """Return both packages as text, by dotted name; see bootstrap.MemoryImporter."""
    root = Path(__file__).resolve().parent.parent.parent
    sources = {}
    for path in sorted([*root.glob("neverslower/**/*.py"), *root.glob("backends/**/*.py")]):
        dotted = ".".join(path.relative_to(root).with_suffix("").parts)
        name = dotted.removesuffix("__init__") if dotted.endswith(".__init__") else dotted
        sources[name] = path.read_text(encoding="utf-8")
    return sources


class _Process:
    """Keeps a process on the far side of an execnet spec; a context manager that leaves no process behind."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec
        try:
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `close`)
        except OSError as error:
            raise NeverSlowerError(f"no worker can be started: {error}; make room there, or set TMPDIR") from None
        self._started = Started(self._stderr)
        self._group = execnet.Group()
        self._group.set_execmodel(self._started)
        self._pid: int | None = None
        self._channel: Any = None
        try:
            self._start()
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """Make the first request."""

    def _start(self) -> None:
        with self._started.within(START_LIMIT):
            self._reach()
            try:
                status, answer = self._receive(START_LIMIT)
            except WorkerDied as died:
                if self._started.late:
                    raise self._too_late() from None
                if not died.last_words.startswith("ModuleNotFoundError"):
                    raise
                text = f"the Python of {self.spec.place!r} can't run a worker: {died.last_words}; install it there"
                raise Unavailable(text) from None
        if status == "unavailable":
            raise Unavailable(f"the Python of {self.spec.place!r} can't run a worker: {answer}")
        pid, its_parent = answer
        # Only a child of this process shares its process numbers: inside a container or over ssh they mean others.
        self._pid = pid if self.spec.execnet.startswith(LOCAL) and its_parent == os.getpid() else None

    def _reach(self) -> None:
        """Start the process, and send it what it is to run."""
        try:
            parent = os.getpid() if self.spec.execnet == LOCAL else 0
            gateway = self._group.makegateway(from_the_start(self.spec.execnet))
            self._channel = gateway.remote_exec(bootstrap)
            self._channel.send((_sources(), parent, ENVIRONMENT | dict(self.spec.variables)))
        except NO_WORKER as error:
            killed = self._started.let_go()
            if self._started.late:
                raise self._too_late() from None
            if killed:
                raise WorkerDied("the worker process was killed as it started", self._last_words()) from None
            why = (self._last_words().splitlines() or [why_none(error)])[-1]
            text = f"no worker at {self.spec.place!r}: {why}; a place is an execnet spec, such as ssh=HOST"
            raise Unavailable(text) from None

    def _too_late(self) -> Unavailable:
        """Return why a process is none that can be asked: nothing was asked of it yet that could take so long."""
        return Unavailable(f"no worker at {self.spec.place!r}: it did not answer within {START_LIMIT:g} s")

    def _ask(self, name: str, *arguments: Any, limit: float | None = None, subjects: int = 1) -> Any:
        """Return the answer to a request, which may take `limit` seconds for each of its subjects."""
        limit = limit or self.spec.time_limit
        try:
            self._channel.send((name, arguments, limit))
        except OSError:
            raise self._died(limit) from None
        return answered(*self._receive(limit, subjects))

    def _receive(self, limit: float, subjects: int = 1) -> tuple[str, Any]:
        try:
            status, value = self._channel.receive(limit * subjects + GRACE)
        except (EOFError, OSError):
            raise self._died(limit) from None
        except self._channel.TimeoutError:
            raise WorkerDied(f"no answer within {limit:g} s", self._last_words(), hung=True) from None
        except execnet.RemoteError as error:
            raise WorkerDied("the worker failed", str(error).strip().splitlines()[-1]) from None
        return status, value

    def _died(self, limit: float) -> WorkerDied:
        written = self._written()
        words = last_words(written)
        hung = any(map(ENDED.fullmatch, words.splitlines()))
        silent = (
            "the worker process died without a message; the kernel kills a process so when memory runs out (see dmesg)"
        )
        why = "the worker process died" if words else silent
        if hung:
            why = f"ended at its time limit of {limit:g} s"
        return WorkerDied(why, words, hung, subject_of(written))

    def _last_words(self) -> str:
        return last_words(self._written())

    def _written(self) -> str:
        """Return the end of what the process wrote to stderr."""
        time.sleep(0.05)  # What a dying process wrote may still be on its way.
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - LAST_BYTES))
        return self._stderr.read().decode(errors="replace")

    def close(self) -> None:
        """End the worker and everything that it started."""
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)
            self._pid = None
        self._group.terminate(timeout=2.0)
        self._started.kill()
        self._stderr.close()

    def __enter__(self: P) -> P:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Worker(_Process):
    """Asks one backend in a process of its own."""

    def __init__(self, spec: WorkerSpec, process: int = 0) -> None:
        self._number = process
        self.started = time.time()
        super().__init__(spec)

    def _open(self) -> None:
        spec = self.spec
        limit = max(START_LIMIT, spec.time_limit)
        asked = (spec.backend, spec.argument, spec.threads, self._number, os.getcwd())
        opened = self._ask("open", *asked, limit=limit)
        self.fingerprint = Fingerprint.from_dict(opened["fingerprint"])
        self.clock: str = opened["clock"]
        self.exclusive: bool = opened["exclusive"]
        self.evidence = Evidence(opened["evidence"])
        self.at_once: int = opened["at_once"]
        self.shortest_round: float = opened["shortest_round"]
        self.offers = frozenset[str](opened["offers"])
        self.lock_name: str = opened["lock"]
        self.remarks: tuple[str, ...] = tuple(opened["remarks"])

    def examine(self, key: str) -> Examined:
        """Prepare one subject and check its output."""
        return Examined.from_dict(self._ask("examine", key))

    def examine_together(self, keys: Sequence[str]) -> list[Examined | Failure]:
        """Prepare several subjects and check their outputs, in one request; each has its answer, or why it has none."""
        answers = self._ask("examine_together", tuple(keys), subjects=len(keys))
        return [_examined(status, value) for status, value in answers]

    @property
    def alive(self) -> bool:
        """Return whether the process is still there, as its connection shows."""
        return bool(self._channel.gateway.hasreceiver())

    def state(self) -> State:
        """Return the state of the device now, for which a few files are read."""
        return State.from_dict(self._ask("state"))

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return those subjects, by key, that are yet to be compiled."""
        return list(self._ask("missing", tuple(keys)))

    def compile(self, key: str) -> None:
        """Compile one subject, for whichever process of that device prepares it next."""
        self._ask("compile", key)

    def tune(self, search: Search, limit: float) -> Searched:
        """Search for a schedule, for `limit` seconds at most."""
        return Searched(**self._ask("tune", str(search), limit=limit))

    def prepare(self, key: str) -> None:
        """Prepare a candidate ahead of the reference that it shares with others."""
        self._ask("prepare", key)

    def measure(
        self, reference: str, candidate: str, blocks: int, candidate_first: bool = False, afresh: bool = False
    ) -> PairedPass:
        """Take interleaved rounds of two problems, by key, one or the other prepared first; see far_side.FarSide."""
        found = self._ask("measure", reference, candidate, blocks, candidate_first, afresh)
        seconds = np.frombuffer(found.pop("seconds"), dtype=np.float64).reshape(-1, 2, 2)
        return PairedPass(seconds, tuple(found.pop("iterations")), self.clock, started=self.started, **found)

    def sweep(
        self, reference: str, candidates: Sequence[str], sweeps: int, seed: str, expected: Sequence[float] = ()
    ) -> list[PairedPass]:
        """Time a layer's candidates together around one reference, all by key; a pass of each, in their order.

        All of them are prepared again, in an order drawn from `seed`; see far_side.FarSide.sweep.
        """
        limit = self.spec.time_limit * max(1, len(candidates))
        found = self._ask("sweep", reference, tuple(candidates), sweeps, seed, tuple(expected), limit=limit)
        seconds = np.frombuffer(found["seconds"], dtype=np.float64).reshape(1 + len(candidates), -1, 2)
        rest = {"started": self.started} | {name: found[name] for name in ("discarded", "why_discarded")}
        arms = zip(seconds[1:], found["iterations"][1:], found["caches"][1:], found["offsets"][1:], strict=True)
        first, where = found["iterations"][0], found["offsets"][0]
        return [
            PairedPass(
                np.stack([seconds[0], arm], axis=1), (first, calls), self.clock, cache, offsets=(where, offsets), **rest
            )
            for arm, calls, cache, offsets in arms
        ]

    def agree(self, unpruned: str, pruned: str) -> tuple[float, float]:
        """Return (deviation, tolerance) of the pruned layer's output from the kept channels of the unpruned one's."""
        error, tolerance = self._ask("agree", unpruned, pruned)
        return error, tolerance

    def check(self, unpruned: str, pruned: str) -> dict[str, tuple[float, float]]:
        """Return (deviation, tolerance) of the pruned output from `float64`, the `slice` and what is `zero-padded`.

        These are the reference in numpy, the kept channels of the unpruned layer's output, and the same of the
        unpruned layer computed with the pruned one's tensors, zeros in the place of what was removed.
        """
        return {name: (error, tolerance) for name, (error, tolerance) in self._ask("check", unpruned, pruned).items()}


def _examined(status: str, value: Any) -> Examined | Failure:
    """Return what was found of one of several subjects, or why nothing was. Raises Unavailable."""
    try:
        return Examined.from_dict(answered(status, value))
    except (Unsupported, WorkerError) as error:
        return of_failure(error)


def answered(status: str, value: Any) -> Any:
    """Return what a far side answered, or raise the error that its status names."""
    if status == "ok":
        return value
    if status == "unavailable":
        raise Unavailable(value)
    if status in ("unsupported", "out_of_memory"):
        raise (OutOfMemory if status == "out_of_memory" else Unsupported)(value)
    raise WorkerError(value.strip())


class StartWorker(Protocol):
    """Starts a worker of a spec: Worker itself, or what stands in for it where no process is wanted."""

    def __call__(self, spec: WorkerSpec, process: int = 0) -> Worker:
        """Return a worker that is ready; `process` is its number in this run. Raises WorkerFailure."""
        ...


class DeviceLock(_Process):
    """Keeps a device for one run, next to the device, from its first worker to its last.

    A worker can't: it ends between two passes, and another run would slip in. Raises Unavailable while
    another run keeps the device.
    """

    def __init__(self, spec: WorkerSpec, device: str) -> None:
        self._device = device
        super().__init__(spec)

    def _open(self) -> None:
        try:
            self._ask("lock", self._device)
        except Unavailable as error:
            raise DeviceBusy(str(error)) from None

    def kept(self) -> DeviceLock:
        """Return this one, or another where its process was killed. Raises DeviceBusy if another run came between."""
        if self._channel.gateway.hasreceiver():
            return self
        self.close()
        return DeviceLock(self.spec, self._device)


def once_more(start: Callable[[], P], worked: bool = False) -> P:
    """Return a process; started once more where it was killed as it started, which is no fault of what is asked.

    `worked` says that one like it has started before: then whatever hinders it now may be over at the second try.
    """
    try:
        return start()
    except WorkerDied as error:
        if error.hung:
            raise
    except DeviceBusy:
        raise
    except Unavailable:
        if not worked:
            raise
    return start()


def subject_of(stderr: str) -> str:
    """Return the key of what a worker said last that it was preparing, empty where it was done with that."""
    said = [line for line in stderr.splitlines() if line.startswith(bootstrap.PREPARING)]
    return said[-1].removeprefix(bootstrap.PREPARING) if said else ""


def last_words(stderr: str) -> str:
    """Return the telling lines of what a worker wrote: from faulthandler's headline on, or the last ones.

    The frames of execnet's own threads are left out, and so is a thread of which nothing else remains.
    """
    noise = re.compile(rf"{bootstrap.PREPARING}|Extension modules|.*[/\\]execnet[/\\]|.*<string>")
    lines = [line.rstrip() for line in stderr.splitlines() if line.strip() and not noise.match(line)]
    kept = [
        line
        for line, after in zip(lines, [*lines[1:], ""], strict=False)
        if not (line.startswith("Thread 0x") and not after.startswith("  "))
    ]
    headlines = [i for i, line in enumerate(kept) if line.startswith("Fatal Python error") or ENDED.fullmatch(line)]
    first = max(0, headlines[-1] - 2) if headlines else max(0, len(kept) - LAST_LINES)
    return "\n".join(kept[first : first + LAST_LINES])
