"""What `advise --model` and `--onnx` add to the command `advise`: the widths of a whole model for a budget."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import backends
from neverslower import cli_grid
from neverslower.cli_gridded import OnGrid
from neverslower.cli_maps import spec_of
from neverslower.cli_shared import refuse_out_of_place, require_suffix, step_on_stderr
from neverslower.counted import counted
from neverslower.errors import NeverSlowerError
from neverslower.files import writing
from neverslower.files.journal import Journal
from neverslower.judge.verdict import Verdict
from neverslower.maps import map_file
from neverslower.models import reading
from neverslower.models.coupling import coupled_groups
from neverslower.models.weights import weights_of
from neverslower.problem.comparison import Comparison
from neverslower.problem.model import Model
from neverslower.report import widths as report
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


def add(commands: Commands) -> None:
    """Add the options of a model's widths to the command `advise`, which must be described already."""
    parser = commands.choices["advise"]
    of_layers = parser.get_default("run")
    cli_grid.add_models(parser)
    parser.description = f"{parser.description} With --model or --onnx, without --layer: advises the widths of groups "
    parser.description += "of coupled channels for a budget, and measures every layer that they change."
    add = parser.add_argument
    share = "at most this share of the unpruned model's latency, params or macs (repeatable)"
    add("--budget", action="append", default=[], metavar="latency=0.7x", help=f"{share}; default {budget.DEFAULT}")
    add("--grid", type=Path, metavar="GRID.json.xz", help="of a model, or for pairs: use it; default: measure one")
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
            about = "which are about a whole model; --side both takes a grid of layers"
            raise NeverSlowerError(f"{flag} has no place next to --budget or --grid, {about}")
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


class _Advising(OnGrid):
    """One command from the model to advice on its widths."""

    def __init__(
        self, options: argparse.Namespace, spec: WorkerSpec, model: Model, budgets: tuple[Budget, ...]
    ) -> None:
        super().__init__(options, spec, model.layers, "widths")
        self.model, self.budgets = model, budgets

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
            more = self.refined(further, known.grid)
            known = replace(known, grid=known.grid.extended(more))
        with closing(Journal(self.verifying)) as journal:

            def measure(comparisons: Sequence[Comparison]) -> Mapping[tuple[str, str], Verdict]:
                return self.verify(comparisons, journal, known.grid, "layers against their unpruned selves")

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
        grid = self.grid(wanted_pairs(self.model, structure, self.options.step, self.options.points))
        known = Known(self.model, structure, grid, weights, worth, self.options.floor)
        return known, f"scores of {path}" if path else importance.BY_NORMS

    def _choose(self, question: Question) -> Plan:
        """Return the plan within the budgets. Raises NeverSlowerError that names the least, and what holds it up."""
        left = self.left()
        seconds = self.options.solve_time if left is None else min(self.options.solve_time, left)
        step_on_stderr(f"planning: {counted(len(question.choices), 'group')}, at most {seconds:g} s")
        if plan := solving.solve(question, Goal(self._limits(question)), seconds):
            return plan
        reasons = "; ".join(_least(self._structure, question, one, seconds) for one in self.budgets)
        raise NeverSlowerError(f"no widths fit the budget: {reasons}")

    def _limits(self, question: Question) -> dict[Resource, float]:
        """Return the most of each resource that the budgets allow."""
        whole = question.price_at(question.unpruned)
        return {one.resource: one.share * whole.of(one.resource) for one in self.budgets}


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
