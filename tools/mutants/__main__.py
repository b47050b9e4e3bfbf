"""Tell every lie, or those that are named or of a room, and see that its selftest catches it.

python -m tools.mutants [NAME or ROOM…] [--room ROOM]

Exit code 1: a mutant survived, or was not tried. 2: one applies no more or can't be read, or the selftests fail without
any.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from tools.mutants.catalogue import Malformed, read
from tools.mutants.mutant import Mutant, Stale
from tools.mutants.trial import Fate, NotSound, Trials, tracked

ROOT = Path(__file__).resolve().parent.parent.parent
SURVIVED, BROKEN = 1, 2


def main(arguments: Sequence[str] | None = None, root: Path = ROOT, mutants: Sequence[Mutant] | None = None) -> int:
    """Try mutants of a tree, the catalogue's unless given, and print a row each; return the exit code."""
    try:
        mutants = read() if mutants is None else mutants
    except Malformed as error:
        print(error)
        return BROKEN
    asked = _arguments(arguments, mutants)
    wanted = {*asked.names, *asked.room}
    chosen = [mutant for mutant in mutants if not wanted or wanted & {mutant.name, mutant.room}]
    if asked.list:
        print("\n".join(_listed(chosen)))
        return 0
    if stale := list(_stale(chosen, root)):
        print("\n".join(["these mutants no longer apply; anchor them again, or say why they are gone:", *stale]))
        return BROKEN
    begin = time.monotonic()
    print(f"{len(chosen)} mutants; first their selftests without any …", flush=True)
    try:
        survived = _tried(chosen, Trials(root, tracked(root), asked.jobs))
    except NotSound as error:
        print(error)
        return BROKEN
    print(f"{len(chosen) - survived} of {len(chosen)} caught, in {time.monotonic() - begin:.0f} s")
    return SURVIVED if survived else 0


def _arguments(arguments: Sequence[str] | None, mutants: Sequence[Mutant]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tools.mutants", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a mutant, or a room for all of its own; all without")
    parser.add_argument("--room", action="append", default=[], help="a room, for all of its mutants")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="mutants that are tried at once (default: 2)")
    parser.add_argument("--list", action="store_true", help="say by room what lies there are, and try none")
    asked = parser.parse_args(arguments)
    rooms = {mutant.room for mutant in mutants}
    if unknown := set(asked.room) - rooms:
        parser.error(f"no room with mutants is called {_words(unknown)}; there are {_words(rooms)}")
    if unknown := set(asked.names) - {mutant.name for mutant in mutants} - rooms:
        parser.error(f"no mutant is called {_words(unknown)}, and no room; --list names them")
    return asked


def _listed(mutants: Sequence[Mutant]) -> Iterable[str]:
    """Yield the rooms, each with its mutants and their lies below it."""
    for room, members in groupby(mutants, key=lambda mutant: mutant.room):
        yield room
        yield from (f"    {mutant.name:{_width(mutants)}}  {mutant.lie}" for mutant in members)


def _words(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _stale(mutants: Iterable[Mutant], root: Path) -> Iterable[str]:
    for one in mutants:
        try:
            one.check(root)
        except Stale as error:
            yield f"    {one.name}: {error}"


def _tried(mutants: Sequence[Mutant], trials: Trials) -> int:
    """Print a row as each trial ends; how many were not caught."""
    width, left = _width(mutants), 0
    with trials.of(mutants) as found:
        for number, one in enumerate(found, start=1):
            by = one.mutant.caught_by if one.fate is Fate.CAUGHT else f"{one.fate.value}, by {one.mutant.caught_by}"
            print(f"{number:3}/{len(mutants)}  {one.mutant.name:{width}}  {one.seconds:5.1f} s  {by}", flush=True)
            if one.fate is not Fate.CAUGHT:
                left += 1
                print(f"    the lie: {one.mutant.lie}\n{one.words}", flush=True)
    return left


def _width(mutants: Iterable[Mutant]) -> int:
    return max((len(one.name) for one in mutants), default=0)


if __name__ == "__main__":
    sys.exit(main())
