"""The command that says what another library changes, from the journals of runs: times, outputs, and what is exact."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from neverslower.device.fingerprint import Fingerprint, short_hash
from neverslower.errors import NeverSlowerError
from neverslower.judge.verdict import Code
from neverslower.outcome import record
from neverslower.outcome.record import Record
from neverslower.outcome.rejudge import Reread, changes_of
from neverslower.outcome.upgrade import FAILED
from neverslower.report import upgrade as report

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add(commands: Commands) -> None:
    """Describe this command to the parser."""
    parser = commands.add_parser(
        "upgrade",
        help="what another library changes, from the journal of a run with --against, as a Markdown table",
        description="Says what another library changes, from the journal of a run with --against. Of two journals, of "
        "the older library's run and of the newer one's, outputs and what is exact are compared, and no times.",
    )
    parser.add_argument("journal", type=Path, metavar="JOURNAL")
    parser.add_argument("newer", type=Path, nargs="?", metavar="NEWER", help="then JOURNAL is the older library's")
    parser.add_argument("--rows", type=int, default=10, metavar="N", help="slower ones and faster ones; default 10")
    parser.set_defaults(run=_upgrade)


def _upgrade(options: argparse.Namespace) -> None:
    if options.newer:
        before, now = record.read(options.journal), record.read(options.newer)
        _require_comparable(before, now)
        timed = Reread([], {})
    else:
        now, before = record.read(options.journal), record.read(options.journal, other=True)
        timed = changes_of(options.journal) if before.samples or not before.fingerprints else Reread([], {})
    of_two = _compared(now, before) if options.newer else ()
    print("\n".join([*of_two, *_lines(now, before, timed, options.rows)]))


def _require_comparable(before: Record, now: Record) -> None:
    """Raise NeverSlowerError for journals of different backends or devices, and for one that holds no run.

    What was counted or dispatched has to be of one state too: another method has other instructions.
    """
    for read in (before, now):
        if not read.fingerprints:
            raise NeverSlowerError(f"{read.path}: no backend has measured anything in it; name the journal of a run")
    pairs = list(_fingerprints(now, before))
    if not pairs or any(old.folder != new.folder for old, new in pairs):
        theirs, ours = (", ".join(sorted(one.folder for one in read.fingerprints.values())) for read in (before, now))
        raise NeverSlowerError(f"{before.path} is of {theirs}, and {now.path} of {ours}; name two of one device")
    exact = [pair for pair in pairs if any("evidence" in fingerprint.state for fingerprint in pair)]
    if obstacles := [text for old, new in exact for text in new.obstacles(old)]:
        text = "; ".join(obstacles)
        raise NeverSlowerError(f"{before.path} and {now.path} are no two runs of one kind: {text}; name two that are")
    if not now.comparisons.keys() & before.comparisons.keys():
        raise NeverSlowerError(f"{before.path} and {now.path} have no channel count in common; name two that have")


def _fingerprints(now: Record, before: Record) -> Iterator[tuple[Fingerprint, Fingerprint]]:
    """Yield the older and the newer fingerprint of each backend that both records have."""
    for name, new in now.fingerprints.items():
        if name in before.fingerprints:
            yield before.fingerprints[name], new


def _compared(now: Record, before: Record) -> Iterator[str]:
    """Yield which libraries two journals are of, and what else differs."""
    for old, new in _fingerprints(now, before):
        yield f"{new.folder}: {old.version} ({short_hash(old.build)}) → {new.version} ({short_hash(new.build)})"
        yield from (f"  differs too: {line}" for line in new.obstacles(old))


def _lines(now: Record, before: Record, timed: Reread, rows: int) -> Iterator[str]:
    """Yield what changed: first what was timed or is exact, then outputs, those of untimed counts too."""
    others = list(record.untimed(now, before, {change.id for change in timed.changes}))
    exact = [change for change in others if change.code not in (*FAILED, Code.UNDECIDED)]
    decided, further = [*timed.changes, *exact], [change for change in others if change not in exact]
    yield from report.lost(timed.alone)
    if decided:
        yield report.totals(decided)
    yield from report.confirming(decided)
    if further:
        yield report.untimed(len(further))
    beyond = list(report.beyond_time([*decided, *further]))
    yield from beyond or (report.nothing_beyond_time([*decided, *further]),)
    if decided:
        yield ""
        yield from list(report.table(decided, rows)) or [report.without_a_table(decided)]
