"""The command that measures every channel count of layers: a map."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import backends
from neverslower.calibration import scatter
from neverslower.campaign import resume
from neverslower.campaign.campaign import Campaign, NoBaselines
from neverslower.campaign.context import Choose
from neverslower.campaign.findings import Findings
from neverslower.campaign.resume import Recorded
from neverslower.campaign.settings import Settings
from neverslower.cli_shared import StepsOnStderr, require_installed, require_suffix, step_on_stderr
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.files.journal import Journal, new_journal
from neverslower.judge.pooled import Scatter
from neverslower.judge.verdict import STANDARD, Judge, Thresholds
from neverslower.maps import map_file, mapping
from neverslower.maps.choosing import Chooser
from neverslower.models import reading
from neverslower.option_values import MOST, duration
from neverslower.problem.convolution import DType, Layout
from neverslower.problem.networks import Layer
from neverslower.problem.selection import Format, Selection
from neverslower.report.headline import headline_lines
from neverslower.report.mapped import device_lines, mapped_lines
from neverslower.worker.process import LOCAL, Worker, WorkerSpec

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

ROOT = Path(__file__).resolve().parent.parent
LEAST_BLOCKS, MOST_BLOCKS = 2, 64


def add(commands: Commands) -> None:
    """Describe this command to the parser."""
    parser = commands.add_parser(
        "map",
        help="measure layers at every channel count, with a verdict on each, and store it",
        description="Compares each layer with itself pruned to every number of filters, in one campaign: every count "
        "gets a verdict, as in a run of the tests. Default: ResNet-50 in the backend's own format.",
    )
    parser.add_argument("output", type=Path, metavar="OUTPUT.json.xz")
    parser.add_argument("--backend", default="cudnn", metavar="NAME", help="as pytest's; default cudnn")
    add_measuring(parser)
    parser.add_argument(
        "--adaptive",
        action="store_true",
        help="time the counts at which plans and dispatch let the time change, and some to audit that; the others are "
        "inferred, and have no verdict",
    )
    parser.set_defaults(run=_map)


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is measured, where, and for how long."""
    parser.add_argument("--network", action="append", default=[], metavar="NAME", help="map all its layers")
    parser.add_argument("--layer", action="append", default=[], metavar="NAME", help="map these layers (repeatable)")
    parser.add_argument("--problem", action="append", default=[], metavar="DESCRIPTOR", help="map it (repeatable)")
    add_running(parser)


def add_running(parser: argparse.ArgumentParser) -> None:
    """Add the options that say in which format, where, and for how long something is measured."""
    parser.add_argument("--dtype", type=DType, default=None, choices=list(DType), help="default: the backend's own")
    parser.add_argument("--layout", type=Layout, default=None, choices=list(Layout), help="default: the backend's own")
    parser.add_argument("--blocks", type=int, metavar="N", help="blocks of a pass; default 8, of many layers 2")
    parser.add_argument("--time-budget", default=None, metavar="TIME", help="such as 8m; default: until all is decided")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads; default 1")
    parser.add_argument("--worker", default=LOCAL, metavar="SPEC", help="where it runs, as an execnet spec")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="raw samples; default: in .neverslower")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="go on with what this journal holds")
    parser.add_argument(
        "--unsound", choices=["refuse", "warn"], default="refuse", help="what to do on an unsound device; see pytest -h"
    )


def _map(options: argparse.Namespace) -> None:
    require_suffix(options.output, ".json.xz", "a map")
    spec, layers = spec_of(options), layers_to_map(options)
    map_file.probe(options.output)
    journal = Journal(options.resume or options.journal or new_journal(ROOT, "map"))
    step_on_stderr(f"journal: {journal.path}")
    try:
        settings = mapping.settings_of(len(layers), budget_of(options), options.blocks)
        reviewer = StoredScatter(journal.path.parent, settings.blocks, recorded_in(options.resume, spec.backend))
        choose = Chooser() if options.adaptive else None
        campaign = campaign_of(options, spec, settings, journal, reviewer, choose=choose)
        mapped = mapping.measure(campaign, spec.backend, layers)
    finally:
        journal.close()
    mapped.require_measured()
    document = map_file.document_of(mapped)
    map_file.save(options.output, document)
    scatter.save(journal.path.parent, mapped.findings, mapped.settings.blocks)
    print("\n".join(mapped_lines(options.output, mapped)))
    print("\n".join(headline_lines(map_file.of_document(options.output, document).staircases)))
    if mapped.ended_early:
        raise NeverSlowerError(
            f"{mapped.ended_early}: {options.output} holds what was measured until then; go on with the same command "
            f"and --resume {journal.path}"
        )


def budget_of(options: argparse.Namespace) -> float | None:
    """Return the seconds of --time-budget, None without it."""
    return duration("--time-budget", options.time_budget) if options.time_budget else None


def seconds_left(deadline: float | None, options: argparse.Namespace, what: str, go_on: str) -> float | None:
    """Return the seconds of --time-budget that are left, None for as long as it takes.

    Raises NeverSlowerError where none are, with how to `go_on`: `what` was to be verified in them.
    """
    if deadline is None:
        return None
    if (left := deadline - time.monotonic()) <= 0:
        ended = f"--time-budget {options.time_budget} ended before {what} was verified"
        raise NeverSlowerError(f"{ended}; give it more time, and {go_on}")
    return left


def recorded_in(path: Path | None, backend: str) -> Recorded | None:
    """Return what the journal of --resume holds of a backend, None without one."""
    if path is None:
        return None
    recorded = resume.load(path)
    recorded.require_backends([backend])
    return recorded


def campaign_of(
    options: argparse.Namespace,
    spec: WorkerSpec,
    settings: Settings,
    journal: Journal,
    reviewer: StoredScatter,
    thresholds: Thresholds = STANDARD,
    judge: Judge | None = None,
    choose: Choose | None = None,
) -> Campaign:
    """Return the campaign that one of these commands runs; the reviewer knows what was recorded before."""
    return Campaign(
        {spec.backend: spec},
        settings,
        journal,
        progress=StepsOnStderr(),
        reviewer=reviewer,
        recorded=reviewer.recorded,
        refuse_unsound=options.unsound == "refuse",
        judge=judge,
        thresholds=thresholds,
        start=Worker,
        choose=choose,
    )


class StoredScatter(NoBaselines):
    """Reviews nothing, but knows how far processes scattered in an earlier run or map: one layer is judged by that."""

    def __init__(self, folder: Path, blocks: int, recorded: Recorded | None) -> None:
        self._folder, self._blocks, self.recorded = folder, blocks, recorded

    def scatter(self, fingerprint: Fingerprint) -> Scatter | None:
        """Return what an earlier run of this device and software has left; a resumed one has that of its journal."""
        if self.recorded:
            return self.recorded.pooled.get(fingerprint.backend)
        return scatter.load(self._folder, fingerprint, self._blocks)


def spec_of(options: argparse.Namespace) -> WorkerSpec:
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


def fingerprint_here(spec: WorkerSpec) -> Fingerprint:
    """Return the device, the state and the software of a backend. Raises NeverSlowerError where it can't be started."""
    with Worker(spec) as worker:
        return worker.fingerprint


def layers_to_map(options: argparse.Namespace) -> list[Layer]:
    """Return the layers that were named, else those of ResNet-50; a missing dtype or layout is the backend's own.

    Without a pattern those of a model of the user's are all of its layers.
    """
    models = reading.models(vars(options))
    named = options.network or options.layer or options.problem or models
    networks = tuple(options.network) if named else ("resnet50",)
    layers, problems = tuple(options.layer), tuple(options.problem)
    selection = Selection(networks=networks, layers=layers, problems=problems, models=models)
    return selection.distinct([format_of(options)])


def format_of(options: argparse.Namespace) -> Format:
    """Return the dtype and the layout that were named; what was not is the backend's own."""
    own: Format = backends.load(options.backend.partition(":")[0]).CAPABILITIES.formats[0]
    return options.dtype or own[0], options.layout or own[1]


class SeveralCampaigns:
    """One command of several campaigns, which end at one deadline; what is resumed is resumed in all of their journals.

    `word` is in the name of a new journal, `result` is what the command is for. `device` holds what its
    device is like.
    """

    def __init__(self, options: argparse.Namespace, spec: WorkerSpec, word: str, result: str) -> None:
        self.options, self.spec, self._result = options, spec, result
        self.journal: Path = options.resume or options.journal or new_journal(ROOT, word)
        self.device: list[str] = []
        self.budget = budget_of(options)
        self._deadline = None if self.budget is None else time.monotonic() + self.budget

    def beside(self, word: str) -> Path:
        """Return the journal of that word next to the command's own."""
        return self.journal.with_name(f"{self.journal.stem}-{word}{self.journal.suffix}")

    @property
    def go_on(self) -> str:
        """Return how to go on with what is measured already."""
        return f"go on with the same command and --resume {self.journal}"

    def left(self) -> float | None:
        """Return the seconds that are left, None for as long as it takes. Raises NeverSlowerError where none are."""
        return seconds_left(self._deadline, self.options, self._result, self.go_on)

    def out_of_time(self) -> bool:
        """Return whether the deadline has passed."""
        return self._deadline is not None and self._deadline <= time.monotonic()

    def recorded(self, path: Path) -> Recorded | None:
        """Return what a journal of the command that this one goes on with has, None where there is nothing of that."""
        return resume.read_if_any(path) if self.options.resume else None

    def note(self, findings: Findings) -> None:
        """Keep what is to be said of the device, each line once."""
        self.device = list(dict.fromkeys([*self.device, *device_lines(self.spec.backend, findings)]))
