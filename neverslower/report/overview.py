"""Everything that a run's summary says, as data for the forms that it is written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neverslower.baseline.folders import BaselineChoice
from neverslower.calibration.stored import Standing
from neverslower.campaign.findings import Findings
from neverslower.hunt.hunting import Hunted
from neverslower.outcome.assessment import Assessed
from neverslower.outcome.run_verdict import RunVerdict
from neverslower.outcome.upgrade import Change
from neverslower.outcome.whole import AssessedWhole
from neverslower.report import drawn
from neverslower.worker.process import WorkerSpec


@dataclass(frozen=True)
class Overview:
    """Everything that a run's summary says; see Run for each.

    `journal` is its path as it is shown; `again` gives the command that measures a drawn layer again; `standings` are
    those worth a word. `remarks` are about what was selected and reused, `unpaired` counts layers of a pruned model and
    its original that have no pair, `beyond` names what --benchmark-compare-fail refuses, `verbose` asks for every
    layer's times, and `storable` says that the run recorded all that it selected, as a baseline must.
    """

    verdict: RunVerdict
    findings: Findings
    before: Findings
    assessed: Sequence[Assessed]
    choices: Mapping[str, BaselineChoice]
    changes: Sequence[Change]
    wholes: Sequence[AssessedWhole]
    standings: Mapping[str, Standing]
    specs: Mapping[str, WorkerSpec]
    hunts: Mapping[str, Hunted]
    kept: Sequence[str]
    acceptance: Sequence[str]
    journal: str
    strict: bool
    again: drawn.Again
    remarks: Sequence[str] = ()
    unpaired: int = 0
    beyond: Sequence[str] = ()
    verbose: bool = False
    storable: bool = False

    @property
    def failing(self) -> bool:
        """Whether some finding fails its item."""
        return bool(self.verdict.failing)
