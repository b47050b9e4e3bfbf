"""The command that advises: draw channel counts from a map, and measure each against the next larger one."""

from __future__ import annotations

import argparse
import fnmatch
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from neverslower.baseline import exact
from neverslower.campaign.resume import Recorded
from neverslower.cli_maps import (
    SeveralCampaigns,
    StoredScatter,
    add_measuring,
    campaign_of,
    layers_to_map,
    recorded_in,
    spec_of,
)
from neverslower.cli_shared import require_suffix, step_on_stderr
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.files import writing
from neverslower.files.journal import Journal
from neverslower.judge.verdict import STANDARD, Thresholds, Verdict
from neverslower.maps import exact_advice, map_file, mapping
from neverslower.maps.advice import Advice, verified
from neverslower.maps.map_file import Map
from neverslower.maps.mapping import reasons_of
from neverslower.maps.pairs import BOTH
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import Side
from neverslower.problem.networks import Layer
from neverslower.report.advice import advice_document, advice_lines
from neverslower.report.exact_advice import exact_lines
from neverslower.worker.process import WorkerSpec

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

MAPS_SHARE = 0.5
"""The share of the time budget that measuring the map may take; what it leaves is for verifying."""


def add(commands: Commands) -> None:
    """Describe this command to the parser."""
    parser = commands.add_parser(
        "advise",
        help="the channel counts worth pruning layers to: each measured against the next larger one",
        description="Draws the counts from a map, which it measures first where none is given, and measures each "
        "against the next larger one. A count that is not proved faster is taken back.",
    )
    parser.add_argument("--map", type=Path, metavar="MAP.json.xz", help="draw from this map; default: measure one")
    parser.add_argument(
        "--side",
        choices=[Side.OUT.value, Side.IN.value, BOTH],
        default=Side.OUT.value,
        help="advise on output channels, on input channels, which the layer before loses, or on pairs; default out",
    )
    parser.add_argument(
        "--record",
        type=Path,
        metavar="RECORD.jsonl",
        help="advise from this record of instructions or dispatches, and measure nothing",
    )
    parser.add_argument("--output", type=Path, metavar="ADVICE.json", help="also write the advice as JSON")
    parser.add_argument("--backend", default="cudnn", metavar="NAME", help="as pytest's; default cudnn")
    add_measuring(parser)
    parser.set_defaults(run=_advise)


def _advise(options: argparse.Namespace) -> None:
    if options.record:
        _from_record(options)
        return
    if not (options.layer or options.problem or options.network):
        raise NeverSlowerError("advise on which layers? name them: --layer resnet50.L16")
    if options.output:
        require_suffix(options.output, ".json", "advice")
        map_file.probe(options.output)
    advising = _Advising(options, spec_of(options), layers_to_map(options))
    step_on_stderr(f"journal: {advising.journal}, and of what verifies the advice: {advising.verifying}")
    try:
        advised, fingerprint = advising.advice()
    except KeyboardInterrupt:
        raise NeverSlowerError(f"interrupted; {advising.go_on}") from None
    for advice in advised:
        print("\n".join(advice_lines(advice)))
    print("".join(f"{line}\n" for line in advising.device), end="")
    if options.output:
        text = json.dumps(advice_document(fingerprint, advised), indent=1) + "\n"
        writing.write_whole(options.output, text)
        print(options.output)
    if advising.lost:
        raise NeverSlowerError(f"no advice on layers that could not be measured: {reasons_of(advising.lost)}")


def _from_record(options: argparse.Namespace) -> None:
    """Print what a record of exact evidence advises, which is proved by the record itself."""
    if unused := [word for word in ("map", "output", "network", "problem", "resume") if getattr(options, word)]:
        raise NeverSlowerError(f"--record advises from what it holds: leave out --{unused[0]}")
    record = exact.load(options.record)
    found = exact_advice.layers_of(record)
    on_side = [layer for layer in found if layer.side == options.side]
    patterns = options.layer or ["*"]
    chosen = [layer for layer in on_side if any(fnmatch.fnmatch(layer.name, pattern) for pattern in patterns)]
    if not chosen:
        listed = ", ".join(layer.name for layer in on_side) or f"none whose {options.side}put channels are pruned"
        raise NeverSlowerError(f"--record {options.record}: no such layer in it; it has {listed}")
    for layer in chosen:
        print("\n".join(exact_lines(layer, record.evidence, exact_advice.advised_of(layer, record.evidence))))
    print(f"{record.fingerprint.backend} {record.fingerprint.version} on {record.fingerprint.device}: {options.record}")


class _Advising(SeveralCampaigns):
    """One command from the map to advice.

    What verifies the advice has a journal of its own: the samples that selected a count must not be those that prove
    it, after an interruption either. All campaigns share one chance of a wrong verdict. `lost` holds why layers could
    not be mapped.
    """

    def __init__(self, options: argparse.Namespace, spec: WorkerSpec, layers: Sequence[Layer]) -> None:
        super().__init__(options, spec, "advice", "the advice")
        self._layers, self._rounds = layers, 0
        self.verifying = self.beside("verified")
        self.lost: Mapping[str, str] = {}

    def advice(self) -> tuple[list[Advice], Fingerprint]:
        """Return the advice on each layer that could be measured, and the fingerprint of the device.

        Raises NeverSlowerError where no layer could be measured, or the time budget ended before all was verified.
        """
        read = self._stored() if self.options.map else self._measured()
        layers = {layer.name: layer for layer in self._layers if layer.name not in self.lost}
        staircases = [read.staircase(name) for name in layers]
        for staircase in staircases:
            if staircase.unpruned != layers[staircase.name].problem:
                other = f"{staircase.unpruned}, not {layers[staircase.name].problem}"
                raise NeverSlowerError(f"--map {read.path}: {staircase.name} is {other}")
        with closing(Journal(self.verifying)) as journal:

            def measure(comparisons: Sequence[Comparison]) -> dict[tuple[str, str], Verdict]:
                return self._verify(comparisons, journal, read.fingerprint)

            return verified(staircases, layers, self.spec.backend, measure), read.fingerprint

    def _stored(self) -> Map:
        """Return the map that the user names. Raises NeverSlowerError where it is another backend's."""
        if self.options.side != Side.OUT:
            raise NeverSlowerError("--map holds output channels: leave it out to measure --side in")
        read = map_file.load(self.options.map)
        if read.fingerprint.backend != self.spec.backend:
            theirs = f"a map of {read.fingerprint.backend}, and --backend is {self.spec.backend}"
            raise NeverSlowerError(f"--map {read.path}: {theirs}; name a map of it, or leave --map out to measure one")
        if self.options.resume and not self.verifying.exists():
            nothing = f"{self.verifying} is not there, which would hold what was verified"
            raise NeverSlowerError(f"--resume {self.journal}: {nothing}; name another, or leave --resume out")
        return read

    def _measured(self) -> Map:
        """Measure a map. Raises NeverSlowerError where nothing of it could be measured."""
        budget = None if self.budget is None else self.budget * MAPS_SHARE
        settings = mapping.settings_of(len(self._layers), budget, self.options.blocks)
        recorded = recorded_in(self.options.resume, self.spec.backend)
        reviewer = StoredScatter(self.journal.parent, settings.blocks, recorded)
        with closing(Journal(self.journal)) as journal:
            campaign = campaign_of(self.options, self.spec, settings, journal, reviewer)
            asked = mapping.comparisons(self.spec.backend, self._layers, Side(self.options.side))
            mapped = mapping.measure(campaign, self.spec.backend, self._layers, asked)
        mapped.require_measured()
        if mapped.ended_early:
            raise KeyboardInterrupt
        self.lost = mapped.unmeasured()
        self.note(mapped.findings)
        return map_file.of_document(Path("the map"), map_file.document_of(mapped))

    def _verify(
        self, comparisons: Sequence[Comparison], journal: Journal, fingerprint: Fingerprint
    ) -> dict[tuple[str, str], Verdict]:
        """Measure one round of comparisons on the device of the map, and return the verdicts."""
        self._rounds += 1
        # By the number of layers, as the map: rounds of one journal must have passes of one length.
        settings = mapping.settings_of(len(self._layers), self.left(), self.options.blocks)
        reviewer = _SameDevice(
            self.journal.parent, settings.blocks, self.recorded(self.verifying), fingerprint, self.options.map
        )
        thresholds = in_round(self._rounds)
        campaign = campaign_of(self.options, self.spec, settings, journal, reviewer, thresholds)
        findings = campaign.run(comparisons)
        findings.require(self.spec.backend)
        self.note(findings)
        return {identity[1:]: verdict for identity, verdict in findings.verdicts.items()}


class _SameDevice(StoredScatter):
    """Refuses, before anything is measured, a device that is not the one of the map."""

    def __init__(
        self, folder: Path, blocks: int, recorded: Recorded | None, fingerprint: Fingerprint, path: Path | None
    ) -> None:
        super().__init__(folder, blocks, recorded)
        self._of_the_map, self._path = fingerprint, path

    def identified(self, fingerprint: Fingerprint) -> None:
        """Raise NeverSlowerError where the device or its state is another than that of the map."""
        if obstacles := self._of_the_map.obstacles(fingerprint):
            named = f"--map {self._path}: it" if self._path else "the map"
            raise NeverSlowerError(f"{named} was measured elsewhere: {'; '.join(obstacles)}")


def in_round(number: int) -> Thresholds:
    """Return the thresholds of a round of verifying, from 1 on: 1/2, 1/6, 1/12 … of the error, which are 1 in all."""
    return replace(STANDARD, family_error=STANDARD.family_error / (number * (number + 1)))
