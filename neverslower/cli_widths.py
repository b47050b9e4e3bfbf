"""What `advise --model` and `--onnx` add to the command `advise`: the widths of a whole model for a budget."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import backends
from neverslower import cli_grid
from neverslower.campaign import resume
from neverslower.campaign.findings import Findings
from neverslower.campaign.resume import Recorded
from neverslower.cli_advise import in_round
from neverslower.cli_maps import (
    ROOT,
    StoredScatter,
    budget_of,
    campaign_of,
    fingerprint_here,
    recorded_in,
    seconds_left,
    spec_of,
)
from neverslower.cli_shared import refuse_out_of_place, require_suffix, step_on_stderr
from neverslower.device.fingerprint import Fingerprint, differences
from neverslower.errors import NeverSlowerError
from neverslower.files import writing
from neverslower.files.journal import Journal, new_journal
from neverslower.judge.verdict import Verdict
from neverslower.maps import grid_file, map_file, mapping
from neverslower.maps.grid import Grid, Pair
from neverslower.maps.mapping import reasons_of
from neverslower.models import reading
from neverslower.models.coupling import coupled_groups
from neverslower.models.weights import weights_of
from neverslower.problem.comparison import Comparison
from neverslower.problem.model import Model
from neverslower.problem.networks import Layer
from neverslower.report import widths as report
from neverslower.report.mapped import device_lines
from neverslower.report.widths import WidthAdvice
from neverslower.widths import budget, importance, solving
from neverslower.widths.budget import Budget, Resource
from neverslower.widths.building import Known, question_of
from neverslower.widths.problem import Plan, Question
from neverslower.widths.solving import Goal
from neverslower.widths.structure import Structure, pairs_at, structure_of, wanted_pairs
from neverslower.widths.verifying import ROUNDS, around, verified
from neverslower.worker.process import WorkerSpec

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

OF_A_MODEL = ("--csv", "--scores", "--floor", "--solve-time", "--rounds", *cli_grid.AXES)
OF_LAYERS = ("--side", "--record")
"""The options that only one of both modes has a use for."""
FINEST = 8
"""The finest multiple that a grid is refined to around the widths that were chosen."""
GRIDS_SHARE = 0.5
"""The share of the time left that measuring a grid, or refining it, may take."""


def add(commands: Commands) -> None:
    """Add the options of a model's widths to the command `advise`, which must be described already."""
    parser = commands.choices["advise"]
    of_layers = parser.get_default("run")
    cli_grid.add_models(parser)
    parser.description = (
        f"{parser.description} With --model or --onnx, without --layer: advises the widths of groups of "
    )
    parser.description += "coupled channels for a budget, and measures every layer that they change."
    add = parser.add_argument
    share = "at most this share of the unpruned model's latency, params or macs (repeatable)"
    add("--budget", action="append", default=[], metavar="latency=0.7x", help=f"{share}; default {budget.DEFAULT}")
    add("--grid", type=Path, metavar="GRID.json.xz", help="of a model: plan with it; default: measure one")
    cli_grid.add_axes(parser)
    add("--scores", type=Path, metavar="SCORES.json", help="what filters are worth; default: their L1 norms")
    add("--floor", type=float, default=0.0, metavar="SHARE", help="of each group's channels at least; default 0")
    add("--csv", type=Path, metavar="WIDTHS.csv", help="of a model: also write the widths as CSV")
    limit = solving.TIME_LIMIT
    add("--solve-time", type=float, default=limit, metavar="SECONDS", help=f"for each plan; default {limit:.0f}")
    add("--rounds", type=int, default=ROUNDS, metavar="N", help=f"of planning and measuring; default {ROUNDS}")

    def run(options: argparse.Namespace) -> None:
        if _of_a_model(options):
            refuse_out_of_place(parser, options, OF_LAYERS, "a whole model is advised on; name --layer for its layers")
            _run(options)
            return
        why = "layers are advised on by themselves; for the widths of a model name it and no --layer"
        refuse_out_of_place(parser, options, OF_A_MODEL, why)
        of_layers(options)

    parser.set_defaults(run=run)


def _of_a_model(options: argparse.Namespace) -> bool:
    """Return whether the widths of a model are asked for, and not the counts of its layers by themselves."""
    return bool(options.budget or options.grid or ((options.model or options.onnx) and not options.layer))


def _run(options: argparse.Namespace) -> None:
    _check(options)
    budgets = budget.parse(options.budget)
    spec, model = spec_of(options), _model(options)
    command = _Advising(options, spec, model, budgets)
    journals = f"{command.journal}, of its refinement: {command.refining}, of what verifies: {command.verifying}"
    step_on_stderr(f"journal of the grid: {journals}")
    try:
        advice = command.advice()
    except KeyboardInterrupt:
        raise NeverSlowerError(f"interrupted; {command.go_on}") from None
    print("\n".join(report.lines(advice)))
    print("".join(f"{line}\n" for line in command.device), end="")
    if advice.known.grid.ended_early and not options.grid:
        print(f"to plan with the whole grid, give it more time, and {command.go_on}")
    _write(options, advice)


def _check(options: argparse.Namespace) -> None:
    """Refuse what can't be done before anything is measured. Raises NeverSlowerError."""
    if len([*(options.model or ()), *(options.onnx or ())]) != 1:
        named = "--model FILE.py:FUNCTION --input SHAPE, or --onnx FILE.onnx"
        raise NeverSlowerError(f"advise on the widths of which model? name one: {named}")
    for flag, given in (("--layer", options.layer), ("--network", options.network), ("--problem", options.problem),
                        ("--map", options.map)):  # fmt: skip
        if given:
            raise NeverSlowerError(f"{flag} has no place next to --budget or --grid, which are about a whole model")
    cli_grid.require_axes(options)
    if not options.rounds >= 1 or not options.solve_time > 0:
        raise NeverSlowerError("--rounds is 1 or more, --solve-time more than 0")
    if not 0 <= options.floor <= 1:
        raise NeverSlowerError(f"--floor {options.floor:g}: from 0 to 1, a share of a group's channels")
    for path, suffix in ((options.output, ".json"), (options.csv, ".csv")):
        if path:
            require_suffix(path, suffix, "widths")
            map_file.probe(path)


def _model(options: argparse.Namespace) -> Model:
    """Return the user's model in the format that is measured."""
    (model,) = reading.models(vars(options))
    own = backends.load(options.backend.partition(":")[0]).CAPABILITIES.formats[0]
    chosen = options.dtype or own[0], options.layout or own[1]
    return replace(model, layers=tuple(layer.with_format(*chosen) for layer in model.layers))


def _write(options: argparse.Namespace, advice: WidthAdvice) -> None:
    rows = report.modules(advice.known, advice.advised.plan.widths)
    if options.output:
        writing.write_whole(options.output, json.dumps(report.document(advice), indent=1) + "\n")
        print(options.output)
    if options.csv:
        writing.write_whole(options.csv, report.table(rows))
        print(options.csv)


@dataclass
class _Advising:
    """One command from the model to advice; what refines the grid and what verifies have journals of their own."""

    options: argparse.Namespace
    spec: WorkerSpec
    model: Model
    budgets: tuple[Budget, ...]
    device: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        options = self.options
        self.journal: Path = options.resume or options.journal or new_journal(ROOT, "widths")
        self.verifying, self.refining = (self._beside(word) for word in ("verified", "refined"))
        self._rounds = 0
        whole = budget_of(options)
        self._deadline = None if whole is None else time.monotonic() + whole

    def _beside(self, word: str) -> Path:
        return self.journal.with_name(f"{self.journal.stem}-{word}{self.journal.suffix}")

    @property
    def go_on(self) -> str:
        """Return how to go on with what is measured already."""
        return f"go on with the same command and --resume {self.journal}"

    def advice(self) -> WidthAdvice:
        """Return the advice on the model. Raises NeverSlowerError where there is none."""
        known, criterion = self._known()
        plan = self._choose(question := question_of(known))
        options = around(known.structure, question, plan, FINEST)
        wanted = pairs_at(self.model, known.structure, options, self.options.step, self.options.points)
        further = {
            layer: [pair for pair in pairs if pair not in known.grid.of(layer).costs] for layer, pairs in wanted.items()
        }
        if further := {layer: pairs for layer, pairs in further.items() if pairs}:
            step_on_stderr(f"refining the grid around {_shown(plan)}")
            more = self._measured(further, self.refining, self._recorded(self.refining), known.grid)
            known = replace(known, grid=known.grid.extended(more))
        with closing(Journal(self.verifying)) as journal:

            def measure(comparisons: Sequence[Comparison]) -> Mapping[tuple[str, str], Verdict]:
                return self._verify(comparisons, journal, known.grid)

            limit = self._limits(question).get(Resource.LATENCY, math.inf)
            advised = verified(known, self.spec.backend, self._choose, measure, self.options.rounds, limit)
        return WidthAdvice(known, advised, self.budgets, criterion, known.grid.fingerprint)

    @cached_property
    def _structure(self) -> Structure:
        return structure_of(self.model, coupled_groups(self.model))

    def _known(self) -> tuple[Known, str]:
        """Return what planning needs, and the words for what channels are worth."""
        structure, weights = self._structure, weights_of(self.model)
        if not structure.free:
            held = "; ".join(report.held_lines(structure.held))
            raise NeverSlowerError(f"{self.model.title}: no group of channels may change: {held}")
        path = self.options.scores
        norms = {name: one.norms for name, one in weights.items()}
        scores = importance.load(path) if path else importance.normalised(norms)
        importance.require_known(scores, [*weights, *(group.name for group in structure.groups)])
        worth = importance.of_groups(structure.free.values(), scores)
        grid = self._stored() if self.options.grid else self._whole_grid(structure)
        known = Known(self.model, structure, grid, weights, worth, self.options.floor)
        return known, f"scores of {path}" if path else importance.BY_NORMS

    def _stored(self) -> Grid:
        """Return the grid that the user names. Raises NeverSlowerError where it is of another backend or device."""
        if self.options.resume and not (self.verifying.exists() or self.refining.exists()):
            nothing = f"neither {self.refining} nor {self.verifying} is there"
            raise NeverSlowerError(f"--resume {self.journal}: {nothing}; name another, or leave --resume out")
        grid = grid_file.load(self.options.grid)
        if grid.fingerprint.backend != self.spec.backend:
            theirs = f"a grid of {grid.fingerprint.backend}, and --backend is {self.spec.backend}"
            raise NeverSlowerError(f"--grid {grid.path}: {theirs}; name one of it, or leave --grid out to measure one")
        _require_measured_here(grid, fingerprint_here(self.spec))
        return grid

    def _whole_grid(self, structure: Structure) -> Grid:
        wanted = wanted_pairs(self.model, structure, self.options.step, self.options.points)
        return self._measured(wanted, self.journal, recorded_in(self.options.resume, self.spec.backend))

    def _measured(
        self, wanted: Mapping[Layer, Sequence[Pair]], path: Path, recorded: Recorded | None, like: Grid | None = None
    ) -> Grid:
        """Measure pairs of layers, on the device of another grid where there is one.

        Raises KeyboardInterrupt, and NeverSlowerError where nothing of a layer could be measured.
        """
        left = self._left()
        budget = None if left is None else left * GRIDS_SHARE
        with closing(Journal(path)) as journal:
            reviewer = _OfTheGrid(path.parent, 0, recorded, like)
            mapped = cli_grid.measured(self.options, self.spec, wanted, journal, reviewer, budget)
        if mapped.ended_early == mapping.INTERRUPTED:
            mapped.require_measured()
            raise KeyboardInterrupt
        if like is None and (lost := mapped.unmeasured()):  # What is refined has its times already.
            remedy = f"; give it more time, and {self.go_on}" if mapped.ended_early else ""
            raise NeverSlowerError(f"no plan without the times of all layers: {reasons_of(lost)}{remedy}")
        self._note(mapped.findings)
        document = grid_file.document_of(mapped, self.options.step, self.options.points)
        return grid_file.of_document(Path("that was measured"), document)

    def _choose(self, question: Question) -> Plan:
        """Return the plan within the budgets. Raises NeverSlowerError that names the least, and what holds it up."""
        left = self._left()
        seconds = self.options.solve_time if left is None else min(self.options.solve_time, left)
        step_on_stderr(f"planning: {len(question.choices)} groups, at most {seconds:g} s")
        if plan := solving.solve(question, Goal(self._limits(question)), seconds):
            return plan
        reasons = "; ".join(_least(self._structure, question, one, seconds) for one in self.budgets)
        raise NeverSlowerError(f"no widths fit the budget: {reasons}")

    def _limits(self, question: Question) -> dict[Resource, float]:
        """Return the most of each resource that the budgets allow."""
        whole = question.price_at(question.unpruned)
        return {one.resource: one.share * whole.of(one.resource) for one in self.budgets}

    def _verify(
        self, comparisons: Sequence[Comparison], journal: Journal, grid: Grid
    ) -> Mapping[tuple[str, str], Verdict]:
        """Measure one round of comparisons on the device of the grid, and return the verdicts."""
        self._rounds += 1
        # By the number of the model's layers, for rounds of one journal must have passes of one length.
        layers = len({layer.problem for layer in self.model.layers})
        settings = mapping.settings_of(layers, self._left(), self.options.blocks)
        recorded = self._recorded(self.verifying)
        reviewer = _OfTheGrid(self.journal.parent, settings.blocks, recorded, grid)
        step_on_stderr(f"round {self._rounds}: {len(comparisons)} layers against their unpruned selves")
        campaign = campaign_of(self.options, self.spec, settings, journal, reviewer, in_round(self._rounds))
        findings = campaign.run(comparisons)
        findings.require(self.spec.backend)
        self._note(findings)
        return {identity[1:]: verdict for identity, verdict in findings.verdicts.items()}

    def _left(self) -> float | None:
        """Return the seconds that are left, None for as long as it takes. Raises NeverSlowerError where none are."""
        return seconds_left(self._deadline, self.options, "the advice", self.go_on)

    def _recorded(self, path: Path) -> Recorded | None:
        """Return what the command that this one goes on with has measured, None where there is nothing of that."""
        return resume.read_if_any(path) if self.options.resume else None

    def _note(self, findings: Findings) -> None:
        """Keep what is to be said of the device, each line once."""
        self.device = list(dict.fromkeys([*self.device, *device_lines(self.spec.backend, findings)]))


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
    if changes := fingerprint.changes(stored) or differences(
        "library", {"build": stored.build}, {"build": fingerprint.build}
    ):
        raise NeverSlowerError(
            f"grid {grid.path}: it was measured elsewhere or by other software (grid → here): "
            f"{'; '.join(changes)}; measure one here with `map --grid`, or leave --grid out"
        )


def _least(structure: Structure, question: Question, wanted: Budget, seconds: float) -> str:
    """Say whether a budget can be met alone, with the least of its resource and what takes most of that."""
    resource, best = wanted.resource, solving.least(question, wanted.resource, seconds)
    share = best.price.of(resource) / question.price_at(question.unpruned).of(resource)
    met = "can be met alone" if share <= wanted.share else "can't be met"
    most = report.least_line(structure, question, best, resource)
    return f"{wanted} {met}: the least is {resource}={share:.3f}x, of which {most}"


def _shown(plan: Plan) -> str:
    widths = list(plan.widths.items())
    listed = ", ".join(f"{name} {width}" for name, width in widths[:4])
    return f"{listed}, …" if len(widths) > 4 else listed
