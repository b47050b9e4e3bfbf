"""What the commands that advise by a grid share: it is measured or read, refined, and what they choose is verified."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from neverslower import cli_grid
from neverslower.campaign.resume import Recorded
from neverslower.cli_advise import in_round
from neverslower.cli_maps import (
    SeveralCampaigns,
    StoredScatter,
    campaign_of,
    fingerprint_here,
    recorded_in,
)
from neverslower.cli_shared import step_on_stderr
from neverslower.device.fingerprint import Fingerprint, differences
from neverslower.errors import NeverSlowerError
from neverslower.files.journal import Journal
from neverslower.judge.verdict import Verdict
from neverslower.maps import grid_file, mapping
from neverslower.maps.grid import Grid, Pair
from neverslower.maps.mapping import reasons_of
from neverslower.problem.comparison import Comparison
from neverslower.problem.networks import Layer
from neverslower.worker.process import WorkerSpec

GRIDS_SHARE = 0.5
"""The share of the time left that measuring a grid, or refining it, may take."""


class OnGrid(SeveralCampaigns):
    """One command from a grid to advice; what refines the grid and what verifies have journals of their own."""

    def __init__(self, options: argparse.Namespace, spec: WorkerSpec, layers: Iterable[Layer], word: str) -> None:
        super().__init__(options, spec, word, "the advice")
        self.verifying, self.refining = (self.beside(word) for word in ("verified", "refined"))
        self._distinct, self._rounds = len({layer.problem for layer in layers}), 0

    def grid(self, wanted: Mapping[Layer, Sequence[Pair]]) -> Grid:
        """Return the grid that the user names, else one of the wanted pairs, which is measured.

        Raises KeyboardInterrupt, and NeverSlowerError where the named one is of another backend or device, or nothing
        of a layer could be measured.
        """
        if self.options.grid:
            return self._stored()
        return self._measured(wanted, self.journal, recorded_in(self.options.resume, self.spec.backend))

    def refined(self, wanted: Mapping[Layer, Sequence[Pair]], grid: Grid) -> Grid:
        """Return a grid of further pairs, measured on the device of another grid."""
        return self._measured(wanted, self.refining, self.recorded(self.refining), grid)

    def verify(
        self, comparisons: Sequence[Comparison], journal: Journal, grid: Grid, what: str
    ) -> Mapping[tuple[str, str], Verdict]:
        """Measure one round of comparisons on the device of the grid, and return the verdicts."""
        self._rounds += 1
        # By the number of all layers, for rounds of one journal must have passes of one length.
        settings = mapping.settings_of(self._distinct, self.left(), self.options.blocks)
        recorded = self.recorded(self.verifying)
        reviewer = _OfTheGrid(self.journal.parent, settings.blocks, recorded, grid)
        step_on_stderr(f"round {self._rounds}: {len(comparisons)} {what}")
        campaign = campaign_of(self.options, self.spec, settings, journal, reviewer, in_round(self._rounds))
        findings = campaign.run(comparisons)
        findings.require(self.spec.backend)
        self.note(findings)
        return {identity[1:]: verdict for identity, verdict in findings.verdicts.items()}

    def _stored(self) -> Grid:
        if self.options.resume and not (self.verifying.exists() or self.refining.exists()):
            nothing = f"neither {self.refining} nor {self.verifying} is there"
            raise NeverSlowerError(f"--resume {self.journal}: {nothing}; name another, or leave --resume out")
        grid = grid_file.load(self.options.grid)
        if grid.fingerprint.backend != self.spec.backend:
            theirs = f"a grid of {grid.fingerprint.backend}, and --backend is {self.spec.backend}"
            raise NeverSlowerError(f"--grid {grid.path}: {theirs}; name one of it, or leave --grid out to measure one")
        _require_measured_here(grid, fingerprint_here(self.spec))
        return grid

    def _measured(
        self, wanted: Mapping[Layer, Sequence[Pair]], path: Path, recorded: Recorded | None, like: Grid | None = None
    ) -> Grid:
        """Measure pairs of layers, on the device of another grid where there is one."""
        left = self.left()
        budget = None if left is None else left * GRIDS_SHARE
        with closing(Journal(path)) as journal:
            reviewer = _OfTheGrid(path.parent, 0, recorded, like)
            mapped = cli_grid.measured(self.options, self.spec, wanted, journal, reviewer, budget)
        if mapped.ended_early == mapping.INTERRUPTED:
            mapped.require_measured()
            raise KeyboardInterrupt
        if like is None and (lost := mapped.unmeasured()):  # What is refined has its times already.
            remedy = f"; give it more time, and {self.go_on}" if mapped.ended_early else ""
            raise NeverSlowerError(f"no advice without the times of all layers: {reasons_of(lost)}{remedy}")
        self.note(mapped.findings)
        document = grid_file.document_of(mapped, self.options.step, self.options.points)
        return grid_file.of_document(Path("that was measured"), document)


class _OfTheGrid(StoredScatter):
    """Refuses, before anything is measured, a device, a state or a version that is not that of the grid."""

    def __init__(self, folder: Path, blocks: int, recorded: Recorded | None, grid: Grid | None) -> None:
        super().__init__(folder, blocks, recorded)
        self._grid = grid

    def identified(self, fingerprint: Fingerprint) -> None:
        """Raise NeverSlowerError with each field that differs."""
        if self._grid:
            _require_measured_here(self._grid, fingerprint)


def _require_measured_here(grid: Grid, fingerprint: Fingerprint) -> None:
    stored = grid.fingerprint
    build = differences("library", {"build": stored.build}, {"build": fingerprint.build})
    if changes := fingerprint.changes(stored) or build:
        raise NeverSlowerError(
            f"grid {grid.path}: it was measured elsewhere or by other software (grid → here): "
            f"{'; '.join(changes)}; measure one here with `map --grid`, or leave --grid out"
        )
