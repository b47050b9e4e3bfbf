"""What `map --grid` adds to the command `map`: a layer's time over (input, output) channels."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from neverslower.cli_maps import (
    ROOT,
    StoredScatter,
    budget_of,
    campaign_of,
    layers_to_map,
    recorded_in,
    spec_of,
)
from neverslower.cli_shared import refuse_out_of_place, require_suffix, step_on_stderr
from neverslower.counted import counted
from neverslower.errors import NeverSlowerError
from neverslower.files.journal import Journal, new_journal
from neverslower.maps import grid, grid_file, map_file, mapping
from neverslower.maps.grid import Pair
from neverslower.maps.mapping import Mapped
from neverslower.option_table import OPTIONS
from neverslower.option_values import MOST
from neverslower.problem.networks import Layer
from neverslower.report.grid import grid_lines
from neverslower.worker.process import WorkerSpec

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


AXES = ("--step", "--points")
"""The options that say how fine a grid is."""


def add(commands: Commands) -> None:
    """Add the options of a grid to the command `map`, which must be described already."""
    parser = commands.choices["map"]
    of_counts = parser.get_default("run")
    parser.add_argument("--grid", action="store_true", help="measure pairs of (input, output) channels, for planning")
    add_axes(parser)
    add_models(parser)

    def run(options: argparse.Namespace) -> None:
        if options.grid:
            refuse_out_of_place(parser, options, ["--adaptive"], "a grid times every pair of its axes; leave out one")
            _map_grid(options)
            return
        refuse_out_of_place(parser, options, AXES, "without --grid every channel count is measured; add --grid")
        of_counts(options)

    parser.set_defaults(run=run)


def add_axes(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how fine a grid is."""
    parser.add_argument("--step", type=int, default=grid.STEP, metavar="N", help=f"of an axis; default {grid.STEP}")
    parser.add_argument(
        "--points", type=int, default=grid.POINTS, metavar="N", help=f"at most so many an axis; default {grid.POINTS}"
    )


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the user's own model."""
    for option in (option for option in OPTIONS if option.key in ("model", "onnx", "input")):
        parser.add_argument(option.flag, help=f"as pytest's {option.flag}", **option.keywords)


def require_axes(options: argparse.Namespace) -> None:
    """Refuse a step or a number of points that gives no grid. Raises NeverSlowerError."""
    for flag, value, least in (("--step", options.step, 1), ("--points", options.points, 2)):
        if not least <= value <= MOST:
            raise NeverSlowerError(f"{flag} {value}: from {least} to {MOST}")


def _map_grid(options: argparse.Namespace) -> None:
    require_suffix(options.output, ".json.xz", "a grid")
    require_axes(options)
    spec, layers = spec_of(options), layers_to_map(options)
    map_file.probe(options.output)
    journal = Journal(options.resume or options.journal or new_journal(ROOT, "grid"))
    step_on_stderr(f"journal: {journal.path}")
    wanted = {layer: grid.pairs_of(layer.problem, options.step, options.points) for layer in layers}
    try:
        reviewer = StoredScatter(journal.path.parent, 0, recorded_in(options.resume, spec.backend))
        mapped = measured(options, spec, wanted, journal, reviewer, budget_of(options))
    finally:
        journal.close()
    mapped.require_measured()
    document = grid_file.document_of(mapped, options.step, options.points)
    map_file.save(options.output, document)
    print("\n".join(grid_lines(options.output, mapped, document)))
    if mapped.ended_early:
        part = f"{mapped.ended_early}: {options.output} holds what was measured until then; "
        part += f"go on with the same command and --resume {journal.path}"
        if mapped.ended_early == mapping.INTERRUPTED:
            raise NeverSlowerError(part)
        print(part)


def measured(
    options: argparse.Namespace,
    spec: WorkerSpec,
    wanted: Mapping[Layer, Sequence[Pair]],
    journal: Journal,
    reviewer: StoredScatter,
    budget: float | None,
) -> Mapped:
    """Measure pairs of layers in one pass; a part of them where the user interrupts, or the budget of seconds ends."""
    settings = grid.settings_of(budget, options.blocks)
    asked = grid.comparisons(spec.backend, wanted)
    step_on_stderr(f"grid: {counted(len(asked), 'pair')} of {counted(len(wanted), 'layer')}")
    campaign = campaign_of(options, spec, settings, journal, reviewer, judge=grid.JUDGE)
    mapped = mapping.measure(campaign, spec.backend, list(wanted), asked)
    if not mapped.ended_early and mapped.findings.left_out:
        return replace(mapped, ended_early=mapping.OUT_OF_TIME)
    return mapped
