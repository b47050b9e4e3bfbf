"""The command that tabulates the extremes of records: the worst slowdown, and what an advised count gains."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from neverslower.errors import NeverSlowerError
from neverslower.page.curves import Curves, curves_of
from neverslower.page.reading import records_of
from neverslower.report.headline import headline_rows, table_head

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

GIVE = "give maps, baselines, or journals of runs that compared a layer with itself pruned (a grid has estimates alone)"


def add(commands: Commands) -> None:
    """Describe this command to the parser."""
    parser = commands.add_parser(
        "headline",
        help="the worst slowdown and the best gain in records, layer by layer and over all",
        description="Of maps, journals and baselines: the worst slowdown with at most 12 % of the channels pruned, and "
        "the best gain of an advised count over one within ±10 % of its channels that is not. Instructions and "
        "dispatches keep their own words.",
    )
    parser.add_argument(
        "records", type=Path, nargs="+", metavar="RECORD", help="JOURNAL.jsonl[.xz], BASELINE, folder, MAP.json.xz"
    )
    parser.add_argument("--over-all", action="store_true", help="leave out the rows of single layers")
    parser.set_defaults(run=_headline)


def _headline(options: argparse.Namespace) -> None:
    read = [(path, curves_of(path)) for path in records_of(options.records)]
    rows = [row for _, found in read for curves in found for row in _rows(curves, not options.over_all)]
    nothing = [path for path, found in read if not any(curves.staircases for curves in found)]
    if not rows:
        raise NeverSlowerError(f"{', '.join(map(str, nothing))}: no curve of a pruned layer; {GIVE}")
    print("\n".join([*table_head(), *rows]))
    for path in nothing:
        print(f"{path}: it has no curve of a pruned layer")


def _rows(curves: Curves, with_layers: bool) -> list[str]:
    about = (Path(curves.record).name.partition(".json")[0], curves.device, curves.policy or "–")
    return list(headline_rows(about, curves.staircases, curves.survey, with_layers))
