"""The command that reports: a page, and verdicts for programs, of records that were measured before."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from neverslower.errors import NeverSlowerError
from neverslower.files.shown import shown
from neverslower.page.reading import account_of, records_of
from neverslower.page.wanted import Wanted, require_free, store

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add(commands: Commands) -> None:
    """Describe this command to the parser."""
    parser = commands.add_parser(
        "report",
        help="a page of stored records: journals, baselines, maps, grids, side by side where they share a device",
        description="Writes one self-contained page of what was measured before, without a device. A folder stands for "
        "all its baselines, and a file of advice marks the advised counts in the staircases.",
    )
    parser.add_argument(
        "records",
        type=Path,
        nargs="+",
        metavar="RECORD",
        help="JOURNAL.jsonl[.xz], BASELINE, folder, MAP.json.xz, GRID.json.xz",
    )
    parser.add_argument("--out", metavar="FILE.html", help="the page, or a folder for its index.html")
    parser.add_argument("--layer", default="*", metavar="PATTERN", help="these layers alone: resnet50.L16, 'vgg16.*'")
    parser.add_argument("--verdicts", metavar="FILE.json", help="also, or only, every verdict for programs")
    parser.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> None:
    wanted = Wanted.of(options.out, options.verdicts, "--out=")
    if not wanted:
        raise NeverSlowerError("report where? name a page, --out FILE.html, or verdicts, --verdicts FILE.json")
    written = [path for path in (wanted.page, wanted.verdicts) if path]
    for record in records_of(options.records):
        if any(path.resolve() == record.resolve() for path in written):
            raise NeverSlowerError(f"{shown(record)} is to be read, and would be overwritten: name another file")
    for path in written:
        require_free(path)
    account = account_of(options.records, options.layer)
    lines = []
    for what, path, text in wanted.texts(account):
        store(path, text)
        lines.append(f"{what}: {shown(path)} ({len(text.encode('utf-8', 'replace')) / 1e6:.2f} MB)")
    print("\n".join([account.sentence, *lines]))
