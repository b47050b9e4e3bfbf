"""Measure a map: the time of layers at every channel count, with the plan and the dispatch of each count.

One process measures all of it, in an order that is shuffled so that drift does not follow the channel count, and
measures the unpruned layer again and again in between. What each count launches is looked up afterwards, in processes
in which nothing is timed.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

from neverslower.campaign.progress import Progress, silent
from neverslower.errors import NeverSlowerError, Unavailable, Unsupported, WorkerDied, WorkerError
from neverslower.evidence.observation import Curve, Plan
from neverslower.maps.map_file import MappedLayer, document_of
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.problem.networks import Layer
from neverslower.worker.process import DeviceLock, Worker, WorkerSpec

CHUNK = 128
"""Counts that the worker measures in one call; the unpruned layer comes first in each."""
TRIES = 3
"""How often a chunk is measured at most, where the device is disturbed meanwhile."""


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
        """Measure a map of these layers, and return it as plain data; a part of it where it `ended_early`.

        Raises Unavailable, or NeverSlowerError where the backend can't map.
        """
        mapped = [MappedLayer(layer) for layer in layers]
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
                for layer in mapped:
                    self._map(layer)
                self._worker.close()
                dispatched = self._look(mapped)
            except KeyboardInterrupt:
                self.ended_early = "interrupted"
            except (Unavailable, WorkerDied) as error:  # No worker starts any more.
                self.ended_early = str(error)
            finally:
                self._worker.close()
        settings = {"rounds": self._rounds, "seed": self._seed, "chunk": CHUNK}
        document = document_of(fingerprint, settings, began, mapped, dispatched, self._seconds)
        return document | {"remarks": list(remarks), "wall_seconds": round(time.monotonic() - begin, 3)}

    def _start(self) -> Worker:
        return Worker(self._spec)

    def _map(self, mapped: MappedLayer) -> None:
        """Measure a layer at every count, chunk by chunk; a chunk on a disturbed device is measured again, or refused.

        Raises Unavailable or WorkerDied where no worker starts any more.
        """
        problem = mapped.layer.problem
        counts = countable(problem)
        random.Random(f"{self._seed}/{problem.key}").shuffle(counts)
        for first in range(0, len(counts), CHUNK):
            chunk = counts[first : first + CHUNK]
            for _ in range(TRIES):
                curves = list(self._measured(mapped, [problem.out_channels, *chunk]))
                disturbed = [curve.disturbed for curve in curves if curve.disturbed]
                if not disturbed:
                    break
                mapped.disturbed += disturbed
            else:
                mapped.refusals |= dict.fromkeys(chunk, f"the device was disturbed: {mapped.disturbed[-1]}")
                curves = []
            for curve in curves:
                mapped.add(curve)
            self._done += len(chunk)
            self._progress(f"map {mapped.layer.name}", self._done, self._total, None)

    def _measured(self, mapped: MappedLayer, counts: Sequence[int]) -> Iterator[Curve]:
        """Yield the curve of these counts, or of halves of them where the worker dies.

        Halving goes on until the count that kills the worker stands alone; only that one is refused.
        """
        assert self._worker is not None
        try:
            curve = self._worker.curve(mapped.layer.problem.key, counts, self._rounds)
            self._seconds += curve.seconds
            yield curve
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

    def _look(self, mapped: Sequence[MappedLayer]) -> dict[tuple[str, int], Plan]:
        """Look up what each count launches, by the layer's key and count; several processes share the work.

        They may work at the same time, since nothing is timed any more.
        """
        tasks = [
            (layer.layer.problem.key, sorted(set(layer.counts))[first : first + CHUNK])
            for layer in mapped
            for first in range(0, len(set(layer.counts)), CHUNK)
        ]
        shares = [tasks[number :: self._lookers] for number in range(self._lookers)]
        dispatched: dict[tuple[str, int], Plan] = {}
        with ThreadPoolExecutor(self._lookers) as threads:
            for part in threads.map(self._look_up, [share for share in shares if share]):
                dispatched |= part
        return dispatched

    def _look_up(self, tasks: Sequence[tuple[str, Sequence[int]]]) -> dict[tuple[str, int], Plan]:
        """Look up a share in one worker, as long as it lives: a map without some dispatches is worth more than none."""
        dispatched: dict[tuple[str, int], Plan] = {}
        with contextlib.suppress(WorkerDied, WorkerError, Unsupported, Unavailable), self._start() as worker:
            for key, counts in tasks:
                plans = worker.dispatches(key, counts)
                dispatched |= {(key, count): plan for count, plan in zip(counts, plans, strict=True) if plan}
        return dispatched


def countable(problem: ConvProblem) -> list[int]:
    """Return the numbers of filters that a layer can be pruned to, ascending; none for a layer with groups."""
    step = problem.prune_step(Side.OUT)
    return [] if problem.groups > 1 else list(range(step, problem.out_channels, step))
