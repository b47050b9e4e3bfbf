"""The commands about every channel count: measure a map, draw a staircase of it, tabulate it, advise."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import backends
from neverslower.calibration import scatter
from neverslower.campaign import resume
from neverslower.campaign.campaign import Campaign, NoBaselines
from neverslower.campaign.resume import Recorded
from neverslower.cli_shared import StepsOnStderr, require_installed, require_suffix, step_on_stderr, write_picture
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.files import writing
from neverslower.files.journal import Journal, new_journal
from neverslower.judge.pooled import Scatter
from neverslower.judge.verdict import Verdict
from neverslower.maps import map_file, mapping
from neverslower.maps.advice import Advice, verified
from neverslower.maps.staircase import Staircase
from neverslower.option_values import MOST, duration
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import DType, Layout
from neverslower.problem.networks import Layer
from neverslower.problem.selection import Format, Selection
from neverslower.report.advice import advice_document, advice_lines
from neverslower.report.headline import headline_table
from neverslower.report.mapped import mapped_lines
from neverslower.report.staircase import staircase_picture
from neverslower.worker.process import LOCAL, Worker, WorkerSpec

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

ROOT = Path(__file__).resolve().parent.parent
LEAST_BLOCKS, MOST_BLOCKS = 2, 64


def add(commands: Commands) -> None:
    """Describe these commands to the parser."""
    for add_command in (_add_map, _add_staircase, _add_headline, _add_advise):
        add_command(commands)


def _add_map(commands: Commands) -> None:
    parser = commands.add_parser(
        "map",
        help="measure layers at every channel count, with a verdict on each, and store it",
        description="Compares each layer with itself pruned to every number of filters, in one campaign: every count "
        "gets a verdict, as in a run of the tests. Default: ResNet-50 in the backend's own format.",
    )
    parser.add_argument("output", type=Path, metavar="OUTPUT.json.xz")
    parser.add_argument("--backend", default="cudnn", metavar="NAME", help="as pytest's; default cudnn")
    _add_measuring(parser)
    parser.set_defaults(run=_map)


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is measured, where, and for how long."""
    parser.add_argument("--network", action="append", default=[], metavar="NAME", help="map all its layers")
    parser.add_argument("--layer", action="append", default=[], metavar="NAME", help="map these layers (repeatable)")
    parser.add_argument("--problem", action="append", default=[], metavar="DESCRIPTOR", help="map it (repeatable)")
    parser.add_argument("--dtype", type=DType, default=None, choices=list(DType), help="default: the backend's own")
    parser.add_argument("--layout", type=Layout, default=None, choices=list(Layout), help="default: the backend's own")
    parser.add_argument("--blocks", type=int, metavar="N", help="blocks of a pass; default 8, of many layers 4")
    parser.add_argument("--time-budget", default=None, metavar="TIME", help="such as 8m; default: until all is decided")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads; default 1")
    parser.add_argument("--worker", default=LOCAL, metavar="SPEC", help="where it runs, as an execnet spec")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="raw samples; default: in .neverslower")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on with the map of this journal")
    parser.add_argument(
        "--unsound", choices=["refuse", "warn"], default="refuse", help="what to do on an unsound device; see pytest -h"
    )


def _map(options: argparse.Namespace) -> None:
    require_suffix(options.output, ".json.xz", "a map")
    spec, layers = _spec(options), _layers_to_map(options)
    map_file.probe(options.output)
    journal = Journal(options.resume or options.journal or new_journal(ROOT, "map"))
    step_on_stderr(f"journal: {journal.path}")
    try:
        campaign = _campaign(options, spec, len(layers), journal)
        mapped = mapping.measure(campaign, spec.backend, layers)
    finally:
        journal.close()
    mapped.require_measured()
    map_file.save(options.output, map_file.document_of(mapped))
    scatter.save(journal.path.parent, mapped.findings, mapped.settings.blocks)
    print("\n".join(mapped_lines(options.output, mapped)))
    if mapped.ended_early:
        raise NeverSlowerError(
            f"{mapped.ended_early}: {options.output} holds what was measured until then; go on with the same command "
            f"and --resume {journal.path}"
        )


def _campaign(options: argparse.Namespace, spec: WorkerSpec, layers: int, journal: Journal) -> Campaign:
    budget = duration("--time-budget", options.time_budget) if options.time_budget else None
    settings = mapping.settings_of(layers, budget, options.blocks)
    recorded = Recorded()
    if options.resume:
        recorded = resume.load(options.resume)
        recorded.require_backends([spec.backend])
    return Campaign(
        {spec.backend: spec},
        settings,
        journal,
        progress=StepsOnStderr(),
        reviewer=_StoredScatter(journal.path.parent, settings.blocks, recorded if options.resume else None),
        recorded=recorded,
        refuse_unsound=options.unsound == "refuse",
        start=Worker,
    )


class _StoredScatter(NoBaselines):
    """Reviews nothing, but knows how far processes scattered in an earlier run or map: one layer is judged by that."""

    def __init__(self, folder: Path, blocks: int, recorded: Recorded | None) -> None:
        self._folder, self._blocks, self._recorded = folder, blocks, recorded

    def scatter(self, fingerprint: Fingerprint) -> Scatter | None:
        """Return what an earlier run of this device and software has left; a resumed one has that of its journal."""
        if self._recorded:
            return self._recorded.pooled.get(fingerprint.backend)
        return scatter.load(self._folder, fingerprint, self._blocks)


def _spec(options: argparse.Namespace) -> WorkerSpec:
    """Return how the backend runs, with the options checked that need no layer."""
    name, _, argument = options.backend.partition(":")
    backends.load(name)
    if options.blocks is not None and not LEAST_BLOCKS <= options.blocks <= MOST_BLOCKS:
        raise NeverSlowerError(f"--blocks {options.blocks}: from {LEAST_BLOCKS} to {MOST_BLOCKS}")
    if not 1 <= options.threads <= MOST:
        raise NeverSlowerError(f"--threads {options.threads}: from 1 to {MOST}")
    if options.resume and options.journal:
        raise NeverSlowerError("--resume goes on with its own journal: leave out --journal")
    if options.worker == LOCAL:
        require_installed(name)
    return WorkerSpec(name, argument, options.worker, options.threads)


def _layers_to_map(options: argparse.Namespace) -> list[Layer]:
    """Return the layers that were named, else those of ResNet-50; a missing dtype or layout is the backend's own."""
    own: Format = backends.load(options.backend.partition(":")[0]).CAPABILITIES.formats[0]
    networks = tuple(options.network) if options.network or options.layer or options.problem else ("resnet50",)
    selection = Selection(networks=networks, layers=tuple(options.layer), problems=tuple(options.problem))
    return selection.distinct([(options.dtype or own[0], options.layout or own[1])])


def _add_staircase(commands: Commands) -> None:
    parser = commands.add_parser("staircase", help="draw a layer of a map as an SVG file, hazards by their cause")
    parser.add_argument("map", type=Path, metavar="MAP.json.xz")
    parser.add_argument("layer", metavar="LAYER", help="such as resnet50.L16")
    parser.add_argument("output", type=Path, metavar="OUTPUT.svg")
    parser.set_defaults(run=_staircase)


def _staircase(options: argparse.Namespace) -> None:
    read = map_file.load(options.map)
    write_picture(options.output, staircase_picture(read.staircase(options.layer), read.fingerprint))
    print(options.output)


def _add_headline(commands: Commands) -> None:
    parser = commands.add_parser("headline", help="the worst slowdown and the best gain in maps, network by network")
    parser.add_argument("maps", type=Path, nargs="+", metavar="MAP.json.xz")
    parser.set_defaults(run=_headline)


def _headline(options: argparse.Namespace) -> None:
    print("\n".join(headline_table(map_file.load(path) for path in options.maps)))


def _add_advise(commands: Commands) -> None:
    parser = commands.add_parser(
        "advise",
        help="the channel counts worth pruning layers to: each measured against the next larger one",
        description="Draws the counts from a map, which it measures first where none is given, and measures each "
        "against the next larger one. A count that is not proved faster is taken back.",
    )
    parser.add_argument("--map", type=Path, metavar="MAP.json.xz", help="draw from this map; default: measure one")
    parser.add_argument("--output", type=Path, metavar="ADVICE.json", help="also write the advice as JSON")
    parser.add_argument("--backend", default="cudnn", metavar="NAME", help="as pytest's; default cudnn")
    _add_measuring(parser)
    parser.set_defaults(run=_advise)


def _advise(options: argparse.Namespace) -> None:
    if not (options.layer or options.problem or options.network):
        raise NeverSlowerError("advise on which layers? name them: --layer resnet50.L16")
    if options.output:
        require_suffix(options.output, ".json", "advice")
        map_file.probe(options.output)
    spec, layers = _spec(options), _layers_to_map(options)
    journal = Journal(options.resume or options.journal or new_journal(ROOT, "advice"))
    step_on_stderr(f"journal: {journal.path}")
    try:
        advised, fingerprint = _advice(options, spec, layers, journal)
    except KeyboardInterrupt:
        raise NeverSlowerError(f"interrupted; go on with the same command and --resume {journal.path}") from None
    finally:
        journal.close()
    for advice in advised:
        print("\n".join(advice_lines(advice)))
    if options.output:
        text = json.dumps(advice_document(fingerprint, advised), indent=1) + "\n"
        writing.write_whole(options.output, text)
        print(options.output)


def _advice(
    options: argparse.Namespace, spec: WorkerSpec, layers: Sequence[Layer], journal: Journal
) -> tuple[list[Advice], Fingerprint]:
    """Return the advice on each layer, and the device's fingerprint, which must be the one of the map."""
    staircases, fingerprint = _staircases(options, spec, layers, journal)

    def measure(comparisons: Sequence[Comparison]) -> dict[tuple[str, str], Verdict]:
        campaign = _campaign(options, spec, len(comparisons), journal)
        findings = campaign.run(comparisons)
        if spec.backend in findings.unavailable:
            raise NeverSlowerError(f"{spec.backend} can't be measured: {findings.unavailable[spec.backend]}")
        if obstacles := fingerprint.obstacles(findings.fingerprints[spec.backend]):
            raise NeverSlowerError(f"--map {options.map}: it was measured elsewhere: {'; '.join(obstacles)}")
        return {identity[1:]: result.verdict for identity, result in findings.results.items()}

    named = {layer.name: layer for layer in layers}
    asked = {staircase.name: named[staircase.name] for staircase in staircases}
    return verified(staircases, asked, spec.backend, measure), fingerprint


def _staircases(
    options: argparse.Namespace, spec: WorkerSpec, layers: Sequence[Layer], journal: Journal
) -> tuple[list[Staircase], Fingerprint]:
    """Return each layer's staircase and the device's fingerprint, of the map that is named or of one measured now."""
    if options.map:
        read = map_file.load(options.map)
        staircases = [read.staircase(layer.name) for layer in layers]
        for layer, staircase in zip(layers, staircases, strict=True):
            if staircase.unpruned != layer.problem:
                raise NeverSlowerError(
                    f"--map {options.map}: {layer.name} is {staircase.unpruned}, not {layer.problem}"
                )
        return staircases, read.fingerprint
    mapped = mapping.measure(_campaign(options, spec, len(layers), journal), spec.backend, layers)
    mapped.require_measured()
    if mapped.ended_early:
        raise KeyboardInterrupt
    read = map_file.of_document(Path("the map"), map_file.document_of(mapped))
    return list(read.staircases), read.fingerprint
