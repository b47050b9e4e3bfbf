"""Look at each backend: can it be measured here, is its device sound, which baseline fits. Nothing is timed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from neverslower.baseline import folders
from neverslower.baseline.folders import BaselineChoice
from neverslower.calibration.stored import Standing, standing
from neverslower.device.fingerprint import Fingerprint
from neverslower.device.state import State
from neverslower.errors import BaselineError, WorkerFailure
from neverslower.judge.verdict import Code, Reason, ReasonCode, Verdict
from neverslower.worker.process import Worker, WorkerSpec


@dataclass(frozen=True)
class Checkup:
    """One backend: why it is `missing`, or what its worker reported.

    `state` and `standing` are None where the evidence is exact, since that does not depend on the device's state.
    """

    backend: str
    missing: str = ""
    fingerprint: Fingerprint | None = None
    remarks: tuple[str, ...] = ()
    state: State | None = None
    choice: BaselineChoice | None = None
    standing: Standing | None = None
    argument: str = ""

    @property
    def sound(self) -> bool:
        """Tell whether it can measure here and now, on a device whose state does not spoil what it measures."""
        return self.fingerprint is not None and not (self.state and self.state.grave)


def examine(specs: Iterable[WorkerSpec], missing: Callable[[str], str], root: Path) -> list[Checkup]:
    """Look at each backend in turn; `root` holds the baselines.

    `missing` returns why a backend, given by name, can't even be started, or an empty string.
    """
    return [
        Checkup(spec.backend, missing=why) if (why := missing(spec.backend)) else _started(spec, root) for spec in specs
    ]


def _started(spec: WorkerSpec, root: Path) -> Checkup:
    try:
        with Worker(spec) as worker:
            exact = worker.evidence.exact
            return Checkup(
                spec.backend,
                fingerprint=worker.fingerprint,
                remarks=worker.remarks,
                state=None if exact else worker.state(),
                choice=_fitting(root, worker.fingerprint),
                standing=None if exact else standing(root, worker.fingerprint),
                argument=spec.argument,
            )
    except WorkerFailure as error:
        return Checkup(spec.backend, missing=str(error))


def _fitting(root: Path, fingerprint: Fingerprint) -> BaselineChoice:
    """Return the baseline that a run would be compared with; one that can't be read is reported as its absence."""
    try:
        return folders.choose(root, fingerprint, upgrade=True)
    except BaselineError as error:
        return BaselineChoice(None, Verdict(Code.NO_BASELINE, Reason(ReasonCode.NOT_IN_BASELINE, str(error))))
