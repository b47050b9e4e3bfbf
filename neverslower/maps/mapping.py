"""Maps: the time of layers at every channel count, measured at once, with the plan and the dispatch of each count.

A map is a compressed JSON file whose format docs/maps.md describes. It is measured in one process, in an order that
is shuffled so that drift does not follow the channel count, with the unpruned layer again and again in between; what
each count launches is looked up afterwards, in processes in which nothing is timed.
"""

from __future__ import annotations

import contextlib
import json
import lzma
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from neverslower.campaign.progress import Progress, silent
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError, Unavailable, Unsupported, WorkerDied, WorkerError
from neverslower.evidence.kernels import Kernel, kernels
from neverslower.evidence.observation import Curve, Plan
from neverslower.files import writing
from neverslower.maps.staircase import Staircase
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.problem.networks import Layer
from neverslower.worker.process import DeviceLock, Worker, WorkerSpec

FORMAT, SCHEMA = "never-slower map", 1
CHUNK = 128
"""Counts that are asked of the worker at once; the unpruned layer comes first in each."""
TRIES = 3
"""How often a chunk is measured when the device was disturbed meanwhile."""


@dataclass
class _Mapped:
    """A layer's points in the order in which they were measured, the unpruned layer many times among them."""

    layer: Layer
    counts: list[int] = field(default_factory=list)
    iterations: list[int] = field(default_factory=list)
    rounds: list[list[int]] = field(default_factory=list)
    plans: list[Plan | None] = field(default_factory=list)
    refusals: dict[int, str] = field(default_factory=dict)
    disturbed: list[str] = field(default_factory=list)

    def add(self, found: Curve) -> None:
        """Keep what a chunk brought; rounds as whole nanoseconds, finer than any GPU's event."""
        for count, samples, iterations, plan, refusal in zip(
            found.counts, found.samples, found.iterations, found.plans, found.refusals, strict=True
        ):
            if refusal:
                self.refusals[count] = refusal
                continue
            self.refusals.pop(count, None)  # An earlier try may have ended in a crash.
            self.counts.append(count)
            self.iterations.append(iterations)
            self.rounds.append(np.rint(samples * iterations * 1e9).astype(int).tolist())
            self.plans.append(plan)


class MapMaker:
    """Measures maps on one backend that `maps`."""

    def __init__(
        self, spec: WorkerSpec, rounds: int = 25, seed: int = 0, lookers: int = 3, progress: Progress = silent
    ) -> None:
        self._spec, self._rounds, self._seed, self._lookers = spec, rounds, seed, lookers
        self._progress = progress
        self._worker: Worker | None = None
        self.ended_early = ""
        self._seconds = 0.0
        self._done = self._total = 0

    def run(self, layers: Sequence[Layer]) -> dict[str, Any]:
        """The map of these layers as plain data; what was measured until then, where it `ended_early`.

        Raises Unavailable, or NeverSlowerError where the backend can't map.
        """
        mapped = [_Mapped(layer) for layer in layers]
        begin = time.monotonic()
        self._total = sum(len(countable(layer.problem)) for layer in layers)
        with self._start() as first, DeviceLock(self._spec, first.lock_name):
            fingerprint, remarks = first.fingerprint, first.remarks
            if "maps" not in first.offers:
                raise NeverSlowerError(f"{self._spec.backend} can't map whole layers; cudnn can")
            self._worker = first
            dispatched: dict[tuple[str, int], Plan] = {}
            began = datetime.now(timezone.utc).isoformat(timespec="seconds")
            try:
                for one in mapped:
                    self._map(one)
                self._worker.close()
                dispatched = self._look(mapped)
            except KeyboardInterrupt:
                self.ended_early = "interrupted"
            except (Unavailable, WorkerDied) as error:  # No worker starts any more.
                self.ended_early = str(error)
            finally:
                self._worker.close()
        document = self._document(fingerprint, began, mapped, dispatched)
        return document | {"remarks": list(remarks), "wall_seconds": round(time.monotonic() - begin, 3)}

    def _start(self) -> Worker:
        return Worker(self._spec)

    def _map(self, mapped: _Mapped) -> None:
        problem = mapped.layer.problem
        counts = countable(problem)
        random.Random(f"{self._seed}/{problem.key}").shuffle(counts)
        for first in range(0, len(counts), CHUNK):
            chunk = counts[first : first + CHUNK]
            for _ in range(TRIES):
                found = list(self._measured(mapped, [problem.out_channels, *chunk]))
                disturbed = [one.disturbed for one in found if one.disturbed]
                if not disturbed:
                    break
                mapped.disturbed += disturbed
            else:
                mapped.refusals |= dict.fromkeys(chunk, f"the device was disturbed: {mapped.disturbed[-1]}")
                found = []
            for one in found:
                mapped.add(one)
            self._done += len(chunk)
            self._progress(f"map {mapped.layer.name}", self._done, self._total, None)

    def _measured(self, mapped: _Mapped, counts: Sequence[int]) -> Iterator[Curve]:
        """The curve of some counts, in halves where the worker dies, until the one that kills it is found."""
        assert self._worker is not None
        try:
            found = self._worker.curve(mapped.layer.problem.key, counts, self._rounds)
            self._seconds += found.seconds
            yield found
        except Unsupported as error:  # The layer's own tensors do not fit, or its format is beyond the policy.
            mapped.refusals |= dict.fromkeys(counts, str(error))
        except (WorkerDied, WorkerError) as error:
            self._worker.close()
            self._worker = self._start()
            if len(counts) == 1:
                mapped.refusals[counts[0]] = f"crashed: {error}"
                return
            middle = len(counts) // 2
            yield from self._measured(mapped, counts[:middle])
            yield from self._measured(mapped, counts[middle:])

    def _look(self, mapped: Sequence[_Mapped]) -> dict[tuple[str, int], Plan]:
        """What each count launches, looked up by several processes side by side; nothing is timed any more."""
        tasks = [
            (one.layer.problem.key, sorted(set(one.counts))[first : first + CHUNK])
            for one in mapped
            for first in range(0, len(set(one.counts)), CHUNK)
        ]
        shares = [tasks[number :: self._lookers] for number in range(self._lookers)]
        found: dict[tuple[str, int], Plan] = {}
        with ThreadPoolExecutor(self._lookers) as threads:
            for part in threads.map(self._look_up, [share for share in shares if share]):
                found |= part
        return found

    def _look_up(self, tasks: Sequence[tuple[str, Sequence[int]]]) -> dict[tuple[str, int], Plan]:
        """As far as the worker lives: a map without some of it is worth more than none."""
        found: dict[tuple[str, int], Plan] = {}
        with contextlib.suppress(WorkerDied, WorkerError, Unsupported, Unavailable), self._start() as worker:
            for key, counts in tasks:
                plans = worker.dispatches(key, counts)
                found |= {(key, count): plan for count, plan in zip(counts, plans, strict=True) if plan}
        return found

    def _document(
        self,
        fingerprint: Fingerprint,
        began: str,
        mapped: Sequence[_Mapped],
        dispatched: Mapping[tuple[str, int], Plan],
    ) -> dict[str, Any]:
        plans, dispatches, names = _Interned(), _Interned(), _Interned()
        layers = []
        for one in mapped:
            key = one.layer.problem.key
            looked = [
                _same(plan, dispatched.get((key, count))) for plan, count in zip(one.plans, one.counts, strict=True)
            ]
            layers.append(
                {
                    "name": one.layer.name,
                    "places": list(one.layer.places),
                    "unpruned": key,
                    "counts": one.counts,
                    "iterations": one.iterations,
                    "round_nanoseconds": one.rounds,
                    "plan": [plan and plans.number(_plan_row(plan)) for plan in one.plans],
                    "dispatch": [plan and dispatches.number(_launch_rows(plan, names)) for plan in looked],
                    "refusals": {str(count): text for count, text in sorted(one.refusals.items())},
                    "disturbed": one.disturbed,
                }
            )
        busy = sum(sum(map(sum, one.rounds)) for one in mapped) / 1e9
        return {
            "format": FORMAT,
            "schema": SCHEMA,
            "fingerprint": fingerprint.as_dict(),
            "settings": {"rounds": self._rounds, "seed": self._seed, "chunk": CHUNK},
            "began": began,
            "points": sum(len(set(one.counts)) for one in mapped),
            "seconds": round(self._seconds, 3),
            "busy_seconds": round(busy, 3),
            "kernels": names.rows,
            "plans": plans.rows,
            "dispatches": dispatches.rows,
            "layers": layers,
        }


def _same(measured: Plan | None, looked_up: Plan | None) -> Plan | None:
    """What was looked up, unless the library chose another plan then: a search for the best may."""
    if measured and looked_up and looked_up.name.partition(":")[0] == measured.name.partition(":")[0]:
        return looked_up
    return None


class _Interned:
    """Rows that are stored once, and named by their number."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self._numbers: dict[str, int] = {}

    def number(self, row: Any) -> int:
        """The number of a row, a new one where it was not seen before."""
        text = json.dumps(row)
        if text not in self._numbers:
            self._numbers[text] = len(self.rows)
            self.rows.append(row)
        return self._numbers[text]


def _plan_row(plan: Plan) -> list[Any]:
    return [plan.name, plan.rank, plan.offered, plan.workspace]


def _launch_rows(plan: Plan, names: _Interned) -> list[list[int]]:
    """Each launch as [kernel, grid x, y, z, block x, y, z]."""
    return [[names.number(one.name), *one.grid, *one.block] for one in kernels(plan)]


def countable(problem: ConvProblem) -> list[int]:
    """The numbers of filters that a layer can be pruned to, ascending; a depthwise layer loses whole groups."""
    step = problem.prune_step(Side.OUT)
    return [] if problem.groups > 1 else list(range(step, problem.out_channels, step))


def probe(path: Path) -> None:
    """Make sure, before anything is measured, that a map can be written there. Raises NeverSlowerError."""
    try:
        writing.probe(path.parent)
    except OSError as error:
        raise NeverSlowerError(f"{path} can't be written: {error.strerror}; name another file") from error


def save(path: Path, document: Mapping[str, Any]) -> None:
    """Write a map, whole or not at all. Raises NeverSlowerError."""
    data = lzma.compress(json.dumps(document, separators=(",", ":")).encode(), preset=9)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writing.write_whole(path, data)
    except OSError as error:
        raise NeverSlowerError(f"{path} can't be written: {error.strerror}; name another file") from error


@dataclass(frozen=True)
class Map:
    """A stored map; a layer whose unpruned self was not measured is not among its staircases."""

    path: Path
    fingerprint: Fingerprint
    staircases: tuple[Staircase, ...]
    seconds: float
    busy_seconds: float

    def staircase(self, name: str) -> Staircase:
        """One layer's. Raises NeverSlowerError that lists what there is."""
        for one in self.staircases:
            if one.name == name:
                return one
        raise NeverSlowerError(f"{self.path} has no {name} (has {', '.join(one.name for one in self.staircases)})")


def load(path: Path) -> Map:
    """Read a map. Raises NeverSlowerError that names the file and what is wrong in it."""
    try:
        content = json.loads(lzma.decompress(path.read_bytes()))
    except OSError as error:
        raise NeverSlowerError(f"map {path}: {error.strerror}") from error
    except (lzma.LZMAError, ValueError) as error:
        raise NeverSlowerError(f"map {path}: not a compressed JSON file ({error}); measure it again") from None
    try:
        if content["format"] != FORMAT:
            raise NeverSlowerError(f"map {path}: not a map of never-slower's")
        if content["schema"] > SCHEMA:
            raise NeverSlowerError(
                f"map {path}: schema {content['schema']} is newer than {SCHEMA}; update never-slower"
            )
        fingerprint = Fingerprint.from_dict(content["fingerprint"])
        whole = [layer for layer in content["layers"] if _has_unpruned(layer)]
        staircases = tuple(_staircase(layer, content) for layer in whole)
        return Map(path, fingerprint, staircases, float(content["seconds"]), float(content["busy_seconds"]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise NeverSlowerError(f"map {path}: {type(error).__name__} {error}; measure it again") from None


def _has_unpruned(layer: Mapping[str, Any]) -> bool:
    """Whether there is something to set a layer's counts against; an interrupted map, or a refusal, leaves none."""
    return ConvProblem.from_key(layer["unpruned"]).out_channels in layer["counts"]


def _staircase(layer: Mapping[str, Any], content: Mapping[str, Any]) -> Staircase:
    """A layer's points by ascending count, the repeated ones joined: all rounds of a count, per call."""
    rounds: dict[int, list[float]] = {}
    plans: dict[int, Plan] = {}
    rows = zip(
        layer["counts"], layer["iterations"], layer["round_nanoseconds"], layer["plan"], layer["dispatch"], strict=True
    )
    for count, iterations, nanoseconds, plan, dispatch in rows:
        rounds.setdefault(count, []).extend(one / iterations / 1e9 for one in nanoseconds)
        plans[count] = _plan(content, plan, dispatch)
    counts = sorted(rounds)
    seconds = np.array([np.median(rounds[count]) for count in counts])
    if not counts or not np.all(np.isfinite(seconds)) or np.any(seconds <= 0):
        raise ValueError(f"{layer['name']} has a time that is none")
    problem = ConvProblem.from_key(layer["unpruned"])
    return Staircase(str(layer["name"]), problem, tuple(counts), seconds, tuple(plans[count] for count in counts))


def _plan(content: Mapping[str, Any], plan: int, dispatch: int | None) -> Plan:
    name, rank, offered, workspace = content["plans"][plan]
    launches = content["dispatches"][dispatch] if dispatch is not None else []
    steps = [
        str(Kernel(content["kernels"][kernel], (gx, gy, gz), (bx, by, bz)))
        for kernel, gx, gy, gz, bx, by, bz in launches
    ]
    return Plan(name, tuple(steps), rank=rank, offered=offered, workspace=workspace)
