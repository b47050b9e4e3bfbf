"""Answers requests on the worker's side, by one backend on one device, until the channel closes.

A request is (name, arguments, time limit in seconds), an answer (status, value). The values are what execnet can
carry: numbers, texts, bytes, tuples and dictionaries; samples travel as packed float64.
"""

from __future__ import annotations

import faulthandler
import fcntl
import gc
import os
import random
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

import backends
from backends.base import Backend, BackendOptions, Compiler, Counted, Prepared, Profiler, Searcher, Watcher
from neverslower.device.fingerprint import slug
from neverslower.device.readers.host import Host
from neverslower.device.state import State
from neverslower.errors import DeviceLost, NeverSlowerError, OutOfMemory, Unavailable, Unsupported
from neverslower.evidence.observation import Evidence, Examined, Plan
from neverslower.problem import numerics
from neverslower.problem.convolution import ConvProblem
from neverslower.problem.subject import Search, Subject
from neverslower.problem.whole import is_network
from neverslower.worker import bootstrap
from neverslower.worker.checks import OutputChecks
from neverslower.worker.preparations import Preparation, Preparations, require_one_way
from neverslower.worker.sampling import interleave, sweep

LOCK_PATIENCE = 2.0
STDERR = 2


@dataclass(frozen=True)
class Opened:
    """A backend that is open, and what is kept of its problems; `host` says who else computes on this machine."""

    backend: Backend
    evidence: Evidence
    host: Host
    watcher: Watcher | None
    preparations: Preparations
    outputs: OutputChecks

    @property
    def disturbed(self) -> Callable[[], str] | None:
        """Return what says why the device is disturbed, where the backend can say."""
        return self.watcher.disturbed if self.watcher else None


class FarSide:
    """Answers each request with the method of its name; all but `lock` are about the backend that `open` opens."""

    def __init__(self, note: Callable[[str], None] | None = None, restart: Callable[[], None] | None = None) -> None:
        self._note, self._restart = note or (lambda _: None), restart or (lambda: None)
        self._opened: Opened | None = None
        self._lock: int | None = None

    @property
    def opened(self) -> Opened:
        """Return what `open` opened."""
        if self._opened is None:
            raise RuntimeError("the first request must be `open`")
        return self._opened

    @property
    def backend(self) -> Backend:
        """Return the opened backend."""
        return self.opened.backend

    def open(self, name: str, argument: str, threads: int, process: int, directory: str = "") -> dict[str, Any]:
        """Load the vendor library, and say what is there; `directory` is that of the run, by which files are named."""
        module = backends.load(name)
        host = Host(threads)  # Who else computes is counted from now on.
        backend = module.open(BackendOptions(argument, threads, process))
        preparations = Preparations(backend, directory, f"process {process}")
        fingerprint = backend.fingerprint()
        exclusive = getattr(backend, "exclusive", module.CAPABILITIES.exclusive)
        evidence = getattr(backend, "evidence", Evidence.DEVICE_TIME)
        # What a library leaves when it is loaded lives as long as the process: collecting before each pair of rounds
        # would look through all of it each time, for 40 ms with torch.
        gc.collect()
        gc.freeze()
        offers = getattr(backend, "offers", module.CAPABILITIES.offers)
        watcher = cast(Watcher, backend) if "watches" in offers else None
        self._opened = Opened(backend, evidence, host, watcher, preparations, OutputChecks(backend))
        return {
            "fingerprint": fingerprint.as_dict(),
            "clock": backend.clock,
            "exclusive": exclusive,
            "evidence": str(evidence),
            "at_once": getattr(backend, "at_once", 1),
            "shortest_round": backend.shortest_round,
            "remarks": backend.remarks,
            "offers": offers,
            "lock": getattr(backend, "lock_name", fingerprint.device),
        }

    def state(self) -> dict[str, Any]:
        """Return the state of the device now; see state.State."""
        opened = self.opened
        machine = State() if getattr(opened.backend, "elsewhere", False) else opened.host.look()
        return (opened.watcher.state(machine) if opened.watcher else machine).as_dict()

    def lock(self, device: str) -> None:
        """Keep a device until this process ends; no other request is needed for it."""
        self._lock = lock_device(device)

    @property
    def _compiler(self) -> Compiler:
        return cast(Compiler, self.backend)

    def missing(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Return the keys of those subjects that are yet to be compiled."""
        return tuple(one.key for one in self._compiler.missing([Subject.from_key(key) for key in keys]))

    def compile(self, key: str) -> None:
        """Compile one subject, for whichever process prepares it next."""
        self._compiler.compile(Subject.from_key(key))

    def tune(self, search: str) -> dict[str, Any]:
        """Search for a schedule; see observation.Searched."""
        return asdict(cast(Searcher, self.backend).tune(Search.parse(search)))

    def examine(self, key: str) -> dict[str, Any]:
        """Return what is found of one subject (see observation.Examined); the output of a problem is checked here."""
        if is_network(key):
            return self._examine_network(key)
        prepared, found = self._look_at(key)
        return asdict(found(prepared.plan()))

    def examine_together(self, keys: Sequence[str]) -> list[tuple[str, Any]]:
        """Return what `examine` would answer of each subject, as (status, value); see `answer`.

        The request's time limit is that of one subject. A library that looks up many plans at once does so here (see
        backends.base.Profiler).
        """
        looked: list[tuple[str, Any]] = []
        for key in keys:
            self._note(key)
            self._restart()
            looked.append(answer(self, "_look_at", (key,)))
        self._note("")
        self._restart()
        prepared = [value[0] for status, value in looked if status == "ok"]
        plans = iter(self._plans(prepared))
        answers = [(status, asdict(value[1](next(plans))) if status == "ok" else value) for status, value in looked]
        del looked, prepared
        # What did not fit next to the others may fit alone.
        pairs = zip(keys, answers, strict=True)
        return [answer(self, "examine", (key,)) if one[0] == "out_of_memory" else one for key, one in pairs]

    def _plans(self, prepared: Sequence[Prepared]) -> list[Plan]:
        if hasattr(self.backend, "plans"):
            return cast(Profiler, self.backend).plans(prepared)
        return [each.plan() for each in prepared]

    def _look_at(self, key: str) -> tuple[Prepared, Callable[[Plan], Examined]]:
        """Prepare a subject and check its output; return it, and what makes an Examined of its plan."""
        opened = self.opened
        subject = Subject.from_key(key)
        problem = subject.problem
        tensors = numerics.tensors(problem)
        begin = time.perf_counter()
        prepared = opened.preparations.make(subject, tensors)
        tolerance = numerics.TOLERANCES[problem.dtype]
        if opened.evidence is Evidence.DISPATCH:
            return prepared, lambda plan: Examined(plan, None, tolerance, 0.0)
        output = prepared.output()
        first = time.perf_counter() - begin
        error, compared = opened.outputs.error(subject, tensors, output)
        if opened.evidence is Evidence.INSTRUCTIONS:
            count = cast(Counted, prepared).instructions()
            return prepared, lambda plan: Examined(plan, error, tolerance, 0.0, instructions=count, compared=compared)
        seconds = opened.preparations.keep((key, 0), problem.bytes, prepared).seconds_per_call
        return prepared, lambda plan: Examined(
            plan, error, tolerance, seconds, prepared.cache, compared=compared, first_call=first
        )

    def _examine_network(self, key: str) -> dict[str, Any]:
        """Return what is found of a whole network; what a pruned one computes can be compared with nothing."""
        evidence = self.opened.evidence
        if evidence.exact:
            raise Unsupported(f"a whole network is measured in times alone, and this backend gives {evidence}")
        network = self.opened.preparations.take((key, 0))
        return asdict(Examined(network.prepared.plan(), None, 0.0, network.seconds_per_call, network.prepared.cache))

    def prepare(self, key: str) -> None:
        """Prepare a candidate ahead of the reference, which is then prepared once, after all that share it."""
        self.opened.preparations.take((key, 0))

    def measure(
        self, reference: str, candidate: str, blocks: int, candidate_first: bool = False, afresh: bool = False
    ) -> dict[str, Any]:
        """Return packed samples of shape (blocks, 2, 2), and the other fields of observation.PairedPass.

        Equal keys get buffers of their own. The reference is prepared before the candidate, or after it: on some
        devices what is prepared later lies worse. `afresh` drops what was prepared before.
        """
        if afresh:
            self.opened.preparations.clear()
        one, other = self._pair(reference, candidate, candidate_first)
        require_one_way(one, other)
        iterations = (one.iterations, other.iterations)
        seconds, discarded, why = interleave(one.prepared, other.prepared, iterations, blocks, self.opened.disturbed)
        cache = other.prepared.cache.kind
        rest = {"iterations": iterations, "cache": cache, "discarded": discarded, "why_discarded": why}
        rest["offsets"] = one.offsets, other.offsets
        return {"seconds": seconds.tobytes(), **rest}

    def _pair(self, reference: str, candidate: str, candidate_first: bool) -> tuple[Preparation, Preparation]:
        """Return both sides, the one prepared after the other."""
        take = self.opened.preparations.take
        names = (reference, 0), (candidate, 1 if candidate == reference else 0)
        if candidate_first:
            other = take(names[1])
            return take(names[0], other.number), other
        one = take(names[0])
        return one, take(names[1], one.number)

    def sweep(
        self, reference: str, candidates: Sequence[str], sweeps: int, seed: str, expected: Sequence[float] = ()
    ) -> dict[str, Any]:
        """Prepare a layer's arms again, in an order drawn from `seed`, and time them together.

        Where their tensors begin is drawn too, if the backend makes them itself. Returns packed samples of shape
        (1 + candidates, sweeps, 2), the reference's first, and the other fields of observation.PairedPass, those of
        each arm listed. A candidate that equals the reference gets buffers of its own. `expected` are the seconds that
        a call of each arm took before, the reference first, where that is known.
        """
        names = [(reference, 0), *((key, 1 if key == reference else 0) for key in candidates)]
        chance = random.Random(seed)
        preparations = self.opened.preparations
        preparations.clear()
        preparations.draw_offsets(f"{seed}/offsets")
        calls = dict(zip(names, expected, strict=True)) if expected else {}
        taken = {}
        for name in chance.sample(names, len(names)):
            self._note(name[0])
            taken[name] = preparations.take(name, together=len(names), expected=calls.get(name, 0.0))
        self._note("")
        arms = [taken[name] for name in names]
        require_one_way(*arms)
        iterations = tuple(arm.iterations for arm in arms)
        prepared = [arm.prepared for arm in arms]
        seconds, discarded, why = sweep(prepared, iterations, sweeps, chance, self.opened.disturbed)
        caches = tuple(arm.prepared.cache.kind for arm in arms)
        rest = {"iterations": iterations, "caches": caches, "discarded": discarded, "why_discarded": why}
        rest["offsets"] = tuple(arm.offsets for arm in arms)
        return {"seconds": np.ascontiguousarray(seconds.swapaxes(0, 1)).tobytes(), **rest}

    def agree(self, unpruned: str, pruned: str) -> tuple[float, float]:
        """Return what OutputChecks.agree does, of two problems by their keys."""
        return self.opened.outputs.agree(ConvProblem.from_key(unpruned), ConvProblem.from_key(pruned))

    def check(self, unpruned: str, pruned: str) -> dict[str, tuple[float, float]]:
        """Return what OutputChecks.check does, of two problems by their keys; nothing is timed."""
        return self.opened.outputs.check(ConvProblem.from_key(unpruned), ConvProblem.from_key(pruned))


def _write(text: str) -> None:
    os.write(STDERR, text.encode())


def lock_device(device: str) -> int:
    """Hold the device's lock until this process ends. Raises Unavailable while another run holds it."""
    path = Path(tempfile.gettempdir()) / f"never-slower-{slug(device)}.lock"
    # Another user's file in a sticky folder may be opened, and locked, but not with O_CREAT.
    flags = os.O_RDONLY if path.exists() else os.O_RDONLY | os.O_CREAT
    descriptor = os.open(path, flags, 0o644)
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                text = f"another never-slower run is using {device}; wait for it to end (lock {path})"
                raise Unavailable(text) from None
            time.sleep(0.05)


def serve(channel: Any) -> None:
    """Answer requests until the other side closes; a request that outlasts its limit ends this process.

    The limit is kept by faulthandler's watchdog, a thread that needs no interpreter lock: it writes where the call
    hangs, which are the last words that the coordinator shows.
    """
    faulthandler.enable(file=STDERR)
    limit = 0.0

    def restart() -> None:
        faulthandler.dump_traceback_later(limit, exit=True, file=STDERR)

    session = FarSide(lambda key: _write(f"{bootstrap.PREPARING}{key}\n"), restart)
    channel.send(("ready", (os.getpid(), os.getppid())))
    while True:
        try:
            name, arguments, limit = channel.receive()
        except EOFError:
            return
        restart()
        reply = answer(session, name, arguments)
        faulthandler.cancel_dump_traceback_later()
        channel.send(reply)


def answer(session: FarSide, name: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    """Return (status, value) of one request; see process.answered for what the statuses mean."""
    try:
        return "ok", getattr(session, name)(*arguments)
    except Unavailable as error:
        return "unavailable", str(error)
    except DeviceLost as error:
        # Whatever this process asks of the device from now on fails: the next one may find it well.
        os.write(STDERR, f"device lost: {error}\n".encode())
        os._exit(1)
    except (OutOfMemory, MemoryError) as error:
        return "out_of_memory", str(error)
    except Unsupported as error:
        return "unsupported", str(error)
    except NeverSlowerError as error:
        return "error", str(error)
    except Exception:  # noqa: BLE001  Whatever an adapter raises is reported, and the next request is served.
        return "error", traceback.format_exc()
