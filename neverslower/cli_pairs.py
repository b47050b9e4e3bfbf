"""What `advise --side both` adds to the command `advise`: the (input, output) channels worth pruning a layer to."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from neverslower import cli_grid
from neverslower.cli_gridded import OnGrid
from neverslower.cli_maps import layers_to_map, spec_of
from neverslower.cli_shared import refuse_out_of_place, require_suffix, step_on_stderr
from neverslower.errors import NeverSlowerError
from neverslower.files import writing
from neverslower.files.journal import Journal
from neverslower.judge.verdict import Verdict
from neverslower.maps import grid, map_file
from neverslower.maps.grid import Grid
from neverslower.maps.pairs import BOTH, PairAdvice, verified
from neverslower.problem.comparison import Comparison
from neverslower.problem.networks import Layer
from neverslower.report.pair_advice import grid_line, pair_document, pair_lines

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

OF_OTHERS = ("--map", "--record", "--budget", "--csv", "--scores", "--floor", "--solve-time", "--rounds")
"""The options that pairs of channels have no use for."""


def add(commands: Commands) -> None:
    """Add the advice on pairs to the command `advise`, which must be described already with all of its options."""
    parser = commands.choices["advise"]
    of_others = parser.get_default("run")

    def run(options: argparse.Namespace) -> None:
        if options.side == BOTH:
            why = f"--side {BOTH} advises on pairs of channels, which are drawn from a grid; leave it out"
            refuse_out_of_place(parser, options, OF_OTHERS, why)
            if options.grid:
                why = "the grid that is named has its own pairs; leave it out"
                refuse_out_of_place(parser, options, cli_grid.AXES, why)
            _run(options)
        else:
            of_others(options)

    parser.set_defaults(run=run)


def _run(options: argparse.Namespace) -> None:
    if not (options.layer or options.problem or options.network):
        example = "--layer '*', or some of the model" if options.model or options.onnx else "--layer resnet50.L16"
        raise NeverSlowerError(f"advise on which layers? name them: {example}")
    cli_grid.require_axes(options)
    if options.output:
        require_suffix(options.output, ".json", "advice")
        map_file.probe(options.output)
    layers = layers_to_map(options)
    command = OnGrid(options, spec_of(options), layers, "pairs")
    step_on_stderr(f"journal of the grid: {command.journal}, and of what verifies the advice: {command.verifying}")
    try:
        advised, drawn_from = _advice(command, layers)
    except KeyboardInterrupt:
        raise NeverSlowerError(f"interrupted; {command.go_on}") from None
    for advice in advised:
        print("\n".join(pair_lines(advice, drawn_from)))
    print("".join(f"{line}\n" for line in (*grid_line(drawn_from), *command.device)), end="")
    if options.output:
        writing.write_whole(options.output, json.dumps(pair_document(drawn_from, advised), indent=1) + "\n")
        print(options.output)


def _advice(command: OnGrid, layers: Sequence[Layer]) -> tuple[list[PairAdvice], Grid]:
    """Return the advice on each layer, and the grid that it is drawn from. Raises NeverSlowerError."""
    options = command.options
    drawn_from = command.grid({layer: grid.pairs_of(layer.problem, options.step, options.points) for layer in layers})
    with closing(Journal(command.verifying)) as journal:

        def measure(comparisons: Sequence[Comparison]) -> Mapping[tuple[str, str], Verdict]:
            return command.verify(comparisons, journal, drawn_from, "pairs against larger ones")

        return verified(drawn_from, layers, command.spec.backend, measure), drawn_from
