"""Measure a calibration: a few layers against themselves, again and again, into a journal from which it can go on.

Every pass prepares the layer twice, in buffers of its own; a process serves for some passes, and then a fresh one
starts. Reference and candidate alternate in being prepared first. Nothing is judged here: see figures.py.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence

from neverslower.calibration.recording import Recording, Scheme, Taken, scheme_fields, taken_fields
from neverslower.campaign.findings import Findings
from neverslower.campaign.guard import Guard
from neverslower.campaign.progress import Progress, silent
from neverslower.errors import CalibrationError, Unsupported, WorkerDied, WorkerError
from neverslower.evidence.observation import Examined
from neverslower.files.journal import Journal
from neverslower.judge.units import LONGEST_BLOCK
from neverslower.problem.networks import Layer
from neverslower.worker.process import DeviceLock, StartWorker, Worker, WorkerSpec

LAYERS = 6
"""How many layers are measured unless the user names some; they are spread over the durations of those selected."""
TURNS = 4
"""Passes of each layer in one process: enough to be worth its start."""
LEAST_PROCESSES = 2
"""So many processes are measured however short the time: fewer show nothing of how processes differ."""
STRETCHES = 2
"""Processes in which each layer also has one long pass, which shows how neighbouring blocks depend on each other."""
STRETCH = 8 * LONGEST_BLOCK
"""Blocks of such a long pass: eight units of the longest block length that is looked for."""


class Calibrator:
    """Measures until `budget` seconds are over, and goes on where a recording ends.

    `blocks` are the blocks of a pass; `refuse_unsound` says whether an unsound device ends it.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        journal: Journal,
        blocks: int,
        budget: float,
        refuse_unsound: bool = True,
        recorded: Recording | None = None,
        progress: Progress = silent,
        clock: Callable[[], float] = time.monotonic,
        start: StartWorker | None = None,
    ) -> None:
        self._start: StartWorker = start or Worker
        self.spec, self.blocks, self.budget = spec, blocks, budget
        self._journal, self._recorded, self._progress, self._clock = journal, recorded, progress, clock
        self._guard = Guard(Findings(), journal.write, refuse_unsound, clock)
        self._layers: dict[str, str] = {}
        self._begin = self._longest = 0.0
        self._passes = 0

    def run(self, layers: Sequence[Layer], most: int | None = LAYERS) -> None:
        """Measure `most` of these layers (None: all of them), or those of the recording where there is one.

        Raises NeverSlowerError where the device can't be calibrated; what was measured until then is in the journal.
        """
        self._begin = self._clock()
        number = self._recorded.processes if self._recorded else 0
        with self._start(self.spec, number) as first, self._lock(first):
            self._identified(first)
            self._layers = dict(self._known() or self._chosen(first, layers, most))
            first.close()  # What examining leaves in a process must not lie next to what is timed.
            least = max(LEAST_PROCESSES, number + 1)
            while number < least or not self._spent():
                self._process(number)
                number += 1

    def _lock(self, worker: Worker) -> contextlib.AbstractContextManager[object]:
        return DeviceLock(self.spec, worker.lock_name) if worker.exclusive else contextlib.nullcontext()

    def _identified(self, worker: Worker) -> None:
        if worker.evidence.exact:
            text = f"{self.spec.backend} gives {worker.evidence} here, which are exact"
            raise CalibrationError(f"{text}: there is no noise to calibrate")
        if self._recorded:
            self._recorded.require_device(worker.fingerprint)
        else:
            self._journal.write("fingerprint", worker.fingerprint.as_dict())
        self._guard.begin(self.spec.backend, worker)

    def _known(self) -> Mapping[str, str]:
        """Return the layers that the recording measured without a failure, keys by name; none without a recording."""
        if self._recorded is None or self._recorded.scheme is None:
            return {}
        layers, failed = self._recorded.scheme.layers, self._recorded.failures
        return {name: key for name, key in layers.items() if name not in failed}

    # Choosing

    def _chosen(self, worker: Worker, layers: Sequence[Layer], most: int | None) -> dict[str, str]:
        """Examine the layers, choose `most` of them, and write the scheme to the journal; return keys by name.

        Raises CalibrationError where none can be measured.
        """
        seconds: dict[str, float] = {}
        failures: dict[str, str] = {}
        for done, layer in enumerate(layers, start=1):
            examined = self._examined(worker, layer)
            if isinstance(examined, str):
                failures[layer.name] = examined
            else:
                seconds[layer.name] = examined
            self._progress(f"{self.spec.backend}: examine", done, len(layers), None)
        if not seconds:
            why = next(iter(failures.items()), ("nothing", "no layer was selected"))
            raise CalibrationError(f"no layer can be calibrated: {why[0]}: {why[1]}")
        names = spread(seconds, len(seconds) if most is None else most)
        chosen = {layer.name: layer.problem.key for layer in layers if layer.name in names}
        spec = self.spec
        scheme = Scheme(spec.backend, spec.argument, spec.threads, self.blocks, chosen)
        self._journal.write("calibration", scheme_fields(scheme))
        return chosen

    def _examined(self, worker: Worker, layer: Layer) -> float | str:
        """Return the seconds of a call, or why the layer can't be measured."""
        try:
            examined: Examined = worker.examine(layer.problem.key)
        except (Unsupported, WorkerError) as error:
            return _one_line(error)
        return f"its output is off by {examined.error:.2g}" if examined.wrong else examined.seconds_per_call

    # Measuring

    def _spent(self) -> bool:
        """Tell whether another turn like the longest so far would end too late."""
        return self._clock() + self._longest > self._begin + self.budget

    def _process(self, number: int) -> None:
        """Take the passes of a fresh process, each layer in turn, while time is left.

        Where the worker dies its layer is left out, and the next process goes on with the others.
        """
        with self._start(self.spec, number) as worker:
            try:
                for turn in range(TURNS):
                    if turn and self._spent():
                        break
                    begin = self._clock()
                    for name in self._shuffled(f"{number}/{turn}"):
                        self._take(worker, "pass", name, number, self.blocks, bool((number * TURNS + turn) % 2))
                        self._passes += 1
                    self._longest = max(self._longest, self._clock() - begin)
                if number < STRETCHES:
                    for name in self._shuffled(f"{number}/stretch"):
                        self._take(worker, "stretch", name, number, STRETCH, False)
                self._guard.look(self.spec.backend, worker, "between")
            except WorkerDied:
                if not self._layers:
                    raise
        spent = min(round(self._clock() - self._begin), math.floor(self.budget))
        self._progress(f"{self.spec.backend}: {self._passes} A/A passes, second", spent, round(self.budget), None)

    def _shuffled(self, seed: str) -> list[str]:
        names = list(self._layers)
        random.Random(seed).shuffle(names)
        return names

    def _take(self, worker: Worker, event: str, name: str, number: int, blocks: int, candidate_first: bool) -> None:
        """Measure one pass of a layer and write it to the journal; a layer that fails is left out from then on.

        Raises WorkerDied, and CalibrationError where no layer is left.
        """
        key = self._layers[name]
        try:
            paired = worker.measure(key, key, blocks, candidate_first, afresh=True)
        except (Unsupported, WorkerError, WorkerDied) as error:
            del self._layers[name]
            self._journal.write("failed", {"layer": name, "reason": _one_line(error)})
            if isinstance(error, WorkerDied):
                raise
            if not self._layers:
                raise CalibrationError(f"no layer is left to calibrate: {name}: {_one_line(error)}") from error
            return
        self._journal.write(event, taken_fields(Taken(name, number, time.time(), paired)))


def spread(seconds: Mapping[str, float], most: int) -> list[str]:
    """Return at most `most` names, whose durations are spread evenly over the ratio of the longest to the shortest."""
    left = dict(sorted(seconds.items(), key=lambda item: item[1]))
    if most >= len(left):
        return list(left)
    shortest, longest = (math.log(max(end, 1e-12)) for end in (min(left.values()), max(left.values())))
    names = []
    for step in range(most):
        wanted = shortest + (longest - shortest) * (step / max(1, most - 1))
        nearest = min(left, key=lambda name: abs(math.log(max(left[name], 1e-12)) - wanted))
        names.append(nearest)
        del left[nearest]
    return names


def _one_line(error: Exception) -> str:
    """Return what went wrong in one line: why a process died, or the last line of a traceback."""
    if isinstance(error, WorkerDied):
        return error.why
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
