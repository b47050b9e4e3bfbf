"""Accepts a run as its devices' baselines: what can be known is refused before anything is measured."""

from __future__ import annotations

from neverslower.baseline.acceptance import Proposal, accept, narrowing, not_run
from neverslower.errors import BaselineError, WorkerFailure
from neverslower.files import writing
from neverslower.run import Run
from neverslower.worker.process import DeviceLock, WorkerSpec

NOT_ACCEPTED = "ERROR: not accepted: "
"""How the reason begins why a run was not accepted."""


def require_storable(run: Run) -> None:
    """Make sure, before anything is measured, that a baseline could be stored. Raises BaselineError."""
    writing.require_storable(run.root, "baseline")


def require_acceptable(run: Run) -> None:
    """Make sure, before anything is measured, that a run can be accepted.

    Raises BaselineError where it selects more than it runs, where a backend or its device is not fit, or where a
    baseline holds more than it selects.
    """
    trouble = not_run(run.plan.comparisons, run.recorded)
    trouble = trouble or next(filter(None, (_unfit_before(run, spec) for spec in run.plan.backends.values())), None)
    if trouble:
        raise BaselineError(f"not accepted, and so not measured: {trouble}")


def _unfit_before(run: Run, spec: WorkerSpec) -> str | None:
    """Return why a backend's run could not be accepted, whatever it measures, or None."""
    try:
        with run.start(spec) as worker:
            if worker.exclusive:
                DeviceLock(spec, worker.lock_name).close()
            state = None if worker.evidence.exact else worker.state()
            if state and state.grave:
                return f"{spec.backend}'s device is unsound for timing: {'; '.join(map(str, state.grave))}"
            return narrowing(run.root, worker.fingerprint, run.plan.scope)
    except WorkerFailure as error:
        return f"{spec.backend} is unavailable ({error})"


def accept_run(run: Run, reason: str) -> bool:
    """Store a run as each backend's baseline, if it is fit; `acceptance` says what changes, or why it is not."""
    plan = run.plan
    settings = plan.settings_fields(run.thresholds)
    proposal = Proposal(plan.comparisons, run.recorded, run.findings, plan.scope, plan.settings.passes, settings)
    try:
        run.acceptance.extend(accept(run.root, proposal, reason))
    except BaselineError as error:
        run.acceptance.append(f"{NOT_ACCEPTED}{error}")
        return False
    return True
