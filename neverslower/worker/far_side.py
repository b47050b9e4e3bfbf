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
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

import backends
from backends.base import (
    Backend,
    BackendOptions,
    Compiler,
    Counted,
    NetworkRunner,
    Offsets,
    Placer,
    Prepared,
    PreparedNetwork,
    Profiler,
    Searcher,
    Tensor,
    Timed,
    Watcher,
)
from neverslower.device.fingerprint import slug
from neverslower.device.readers.host import Host
from neverslower.device.state import State
from neverslower.errors import DeviceLost, NeverSlowerError, OutOfMemory, Unavailable, Unsupported
from neverslower.evidence.observation import Evidence, Examined, Plan
from neverslower.problem import numerics
from neverslower.problem.convolution import ConvProblem, kept_channels
from neverslower.problem.epilogue import Added
from neverslower.problem.subject import Search, Subject
from neverslower.problem.whole import Network, is_network
from neverslower.worker import bootstrap
from neverslower.worker.sampling import calibrate, interleave, sweep

CACHE_BYTES, CACHED = 256_000_000, 64
"""Prepared problems are kept up to this many bytes of tensors, and this many: each may hold a loaded library too."""
LOCK_PATIENCE = 2.0
STDERR = 2
P = TypeVar("P")


@dataclass(frozen=True)
class Held:
    """Holds what was prepared and what its calibration found; `number` counts what this process prepared.

    `bytes` is what its tensors take. `offsets` are the bytes behind the beginning of their memory at which the first of
    them begin. `way` says how a whole network is called, and is empty for a problem.
    """

    number: int
    bytes: int
    prepared: Timed
    iterations: int
    seconds_per_call: float
    offsets: tuple[int, ...] = ()
    way: str = ""


class FarSide:
    """Asks one backend, opened once, and holds the problems prepared on it; the least recently used goes first."""

    def __init__(self, note: Callable[[str], None] | None = None, restart: Callable[[], None] | None = None) -> None:
        self._note, self._restart = note or (lambda _: None), restart or (lambda: None)
        self._backend: Backend | None = None
        self._held: OrderedDict[tuple[str, int], Held] = OrderedDict()
        self._count = 0
        self._offsets = Offsets("")
        self._references = numerics.References()
        self._outputs = numerics.Outputs()
        self._lock: int | None = None
        self._watcher: Watcher | None = None
        self._evidence = Evidence.DEVICE_TIME
        self._host: Host | None = None
        self._directory = ""

    @property
    def backend(self) -> Backend:
        """Return the opened backend."""
        if self._backend is None:
            raise RuntimeError("the first request must be `open`")
        return self._backend

    def open(self, name: str, argument: str, threads: int, process: int, directory: str = "") -> dict[str, Any]:
        """Load the vendor library, and say what is there; `directory` is that of the run, by which files are named."""
        self._directory = directory
        module = backends.load(name)
        self._host = Host(threads)  # Who else computes is counted from now on.
        self._backend = module.open(BackendOptions(argument, threads, process))
        self._draw_offsets(f"process {process}")
        fingerprint = self._backend.fingerprint()
        exclusive = getattr(self._backend, "exclusive", module.CAPABILITIES.exclusive)
        self._evidence = getattr(self._backend, "evidence", Evidence.DEVICE_TIME)
        # What a library leaves when it is loaded lives as long as the process: collecting before each pair of rounds
        # would look through all of it each time, for 40 ms with torch.
        gc.collect()
        gc.freeze()
        offers = getattr(self._backend, "offers", module.CAPABILITIES.offers)
        self._watcher = cast(Watcher, self._backend) if "watches" in offers else None
        return {
            "fingerprint": fingerprint.as_dict(),
            "clock": self._backend.clock,
            "exclusive": exclusive,
            "evidence": str(self._evidence),
            "at_once": getattr(self._backend, "at_once", 1),
            "shortest_round": self._backend.shortest_round,
            "remarks": self._backend.remarks,
            "offers": offers,
            "lock": getattr(self._backend, "lock_name", fingerprint.device),
        }

    def _draw_offsets(self, seed: str) -> None:
        """Let tensors begin from now on where this seed says, if the backend makes them itself."""
        self._offsets = Offsets(seed)
        if hasattr(self.backend, "offsets"):
            cast(Placer, self.backend).offsets = self._offsets

    def state(self) -> dict[str, Any]:
        """Return the state of the device now; see state.State."""
        assert self._host is not None, "the first request must be `open`"
        machine = State() if getattr(self.backend, "elsewhere", False) else self._host.look()
        return (self._watcher.state(machine) if self._watcher else machine).as_dict()

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
        subject = Subject.from_key(key)
        problem = subject.problem
        inputs, weights = numerics.tensors(problem)
        begin = time.perf_counter()
        prepared = self._make(subject, (inputs, weights))
        tolerance = numerics.TOLERANCES[problem.dtype]
        if self._evidence is Evidence.DISPATCH:
            return prepared, lambda plan: Examined(plan, None, tolerance, 0.0)
        output = prepared.output()
        first = time.perf_counter() - begin
        if not subject.policy:
            self._outputs.keep(problem, output)
        error, compared = self._references.error(problem, inputs, weights, output)
        if self._evidence is Evidence.INSTRUCTIONS:
            count = cast(Counted, prepared).instructions()
            return prepared, lambda plan: Examined(plan, error, tolerance, 0.0, instructions=count, compared=compared)
        seconds = self._hold((key, 0), problem.bytes, prepared).seconds_per_call
        return prepared, lambda plan: Examined(
            plan, error, tolerance, seconds, prepared.cache, compared=compared, first_call=first
        )

    def _examine_network(self, key: str) -> dict[str, Any]:
        """Return what is found of a whole network; what a pruned one computes can be compared with nothing."""
        if self._evidence.exact:
            raise Unsupported(f"a whole network is measured in times alone, and this backend gives {self._evidence}")
        held = self._prepared((key, 0))
        return asdict(Examined(held.prepared.plan(), None, 0.0, held.seconds_per_call, held.prepared.cache))

    def prepare(self, key: str) -> None:
        """Prepare a candidate ahead of the reference, which is then prepared once, after all that share it."""
        self._prepared((key, 0))

    def measure(
        self, reference: str, candidate: str, blocks: int, candidate_first: bool = False, afresh: bool = False
    ) -> dict[str, Any]:
        """Return packed samples of shape (blocks, 2, 2), and the other fields of observation.PairedPass.

        Equal keys get buffers of their own. The reference is prepared before the candidate, or after it: on some
        devices what is prepared later lies worse. `afresh` drops what was prepared before.
        """
        names = (reference, 0), (candidate, 1 if candidate == reference else 0)
        if afresh:
            self._held.clear()
        if candidate_first:
            other = self._prepared(names[1])
            one = self._prepared(names[0], other.number)
        else:
            one = self._prepared(names[0])
            other = self._prepared(names[1], one.number)
        _require_one_way(one, other)
        iterations = (one.iterations, other.iterations)
        seconds, discarded, why = interleave(one.prepared, other.prepared, iterations, blocks, self._disturbed)
        cache = other.prepared.cache.kind
        rest = {"iterations": iterations, "cache": cache, "discarded": discarded, "why_discarded": why}
        rest["offsets"] = one.offsets, other.offsets
        return {"seconds": seconds.tobytes(), **rest}

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
        self._held.clear()
        self._draw_offsets(f"{seed}/offsets")
        calls = dict(zip(names, expected, strict=True)) if expected else {}
        held = {}
        for name in chance.sample(names, len(names)):
            self._note(name[0])
            held[name] = self._prepared(name, together=len(names), expected=calls.get(name, 0.0))
        self._note("")
        arms = [held[name] for name in names]
        _require_one_way(*arms)
        iterations = tuple(arm.iterations for arm in arms)
        prepared = [arm.prepared for arm in arms]
        taken, discarded, why = sweep(prepared, iterations, sweeps, chance, self._disturbed)
        caches = tuple(arm.prepared.cache.kind for arm in arms)
        rest = {"iterations": iterations, "caches": caches, "discarded": discarded, "why_discarded": why}
        rest["offsets"] = tuple(arm.offsets for arm in arms)
        return {"seconds": np.ascontiguousarray(taken.swapaxes(0, 1)).tobytes(), **rest}

    @property
    def _disturbed(self) -> Callable[[], str] | None:
        """Return why the device is disturbed, where the backend can say."""
        return self._watcher.disturbed if self._watcher else None

    def agree(self, unpruned: str, pruned: str) -> tuple[float, float]:
        """(deviation, tolerance) of the pruned layer's output from the kept channels of the unpruned one's."""
        whole, part = ConvProblem.from_key(unpruned), ConvProblem.from_key(pruned)
        if both := self._outputs.of_same_tensors(whole, part):
            return self._deviation_of(both[1], both[0], whole, part)
        whole_tensors, part_tensors = numerics.pruned_tensors(whole, part)
        whole_added, part_added = numerics.pruned_added_tensors(whole, part)
        output = self._output(part, part_tensors, part_added)
        return self._deviation_of(output, self._output(whole, whole_tensors, whole_added), whole, part)

    def check(self, unpruned: str, pruned: str) -> dict[str, tuple[float, float]]:
        """(deviation, tolerance) of the pruned layer's output from each thing that it must equal; nothing is timed."""
        whole, part = ConvProblem.from_key(unpruned), ConvProblem.from_key(pruned)
        whole_tensors, part_tensors = numerics.pruned_tensors(whole, part)
        whole_added, part_added = numerics.pruned_added_tensors(whole, part)
        output = self._output(part, part_tensors, part_added)
        expected = numerics.convolve(part, *part_tensors, part_added)
        error = numerics.deviation(output, expected, numerics.typical_output(part))
        kept, padded = (
            self._deviation_of(output, self._output(whole, tensors, whole_added), whole, part)
            for tensors in (whole_tensors, numerics.padded_tensors(whole, part, part_tensors))
        )
        return {
            "float64": (error, numerics.TOLERANCES[part.dtype]),
            "slice": kept,
            "zero-padded": padded,
        }

    @staticmethod
    def _deviation_of(output: Tensor, unpruned: Tensor, whole: ConvProblem, part: ConvProblem) -> tuple[float, float]:
        """Return (deviation, tolerance) of `part`'s output from the channels of `whole`'s that it keeps."""
        expected = unpruned[:, kept_channels(whole, part)[1]]
        error = numerics.deviation(output, expected, numerics.typical_output(part))
        # Both sides may be off by the tolerance, in opposite directions.
        return error, 2 * numerics.TOLERANCES[part.dtype]

    def _output(self, problem: ConvProblem, tensors: tuple[Tensor, Tensor], added: Added) -> Tensor:
        return self.backend.prepare(problem, *tensors, added=added).output()

    def _prepared(self, name: tuple[str, int], after: int = 0, together: int = 2, expected: float = 0.0) -> Held:
        """Return what is held under a name, if it was prepared after that; else prepare it now.

        It is one of those that are measured `together`: these stay, however large they are. A call of it is `expected`
        to take so many seconds, 0 where that is unknown.
        """
        if name in self._held and self._held[name].number > after:
            self._held.move_to_end(name)
            return self._held[name]
        self._held.pop(name, None)
        if is_network(name[0]):
            network = self._make_network(Network.from_key(name[0]))
            return self._hold(name, network.bytes, network, together, network.way)
        subject = Subject.from_key(name[0])
        prepared = self._make(subject, numerics.tensors(subject.problem))
        return self._hold(name, subject.problem.bytes, prepared, together, expected=expected)

    def _make(self, subject: Subject, tensors: tuple[Tensor, Tensor]) -> Prepared:
        """Prepare a subject; where it does not fit next to what is held, once more without that."""
        added = numerics.added_tensors(subject.problem)
        return self._with_room(lambda: self.backend.prepare(subject.problem, *tensors, subject.policy, added))

    def _make_network(self, network: Network) -> PreparedNetwork:
        return self._with_room(
            lambda: cast(NetworkRunner, self.backend).prepare_network(network.found_from(self._directory))
        )

    def _with_room(self, prepare: Callable[[], P]) -> P:
        """Return what is prepared; what is held makes room for it where both do not fit."""
        try:
            return prepare()
        except OutOfMemory:
            if not self._held:
                raise
            self._held.clear()
            return prepare()

    def _held_bytes(self) -> int:
        return sum(one.bytes for one in self._held.values())

    def _hold(
        self,
        name: tuple[str, int],
        size: int,
        prepared: Timed,
        together: int = 2,
        way: str = "",
        expected: float = 0.0,
    ) -> Held:
        self._count += 1
        calibrated = calibrate(prepared, self.backend.shortest_round, prepared.least_iterations, expected)
        self._held[name] = held = Held(self._count, size, prepared, *calibrated, offsets=self._offsets.take(), way=way)
        while len(self._held) > together and (len(self._held) > CACHED or self._held_bytes() > CACHE_BYTES):
            self._held.popitem(last=False)
        return held


def _require_one_way(*arms: Held) -> None:
    """Raise Unsupported where networks are called in different ways, for then their times tell that and not more."""
    if len(ways := dict.fromkeys(arm.way for arm in arms)) > 1:
        raise Unsupported(f"one network runs {' and the other '.join(ways)}, so their times can't be compared")


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
