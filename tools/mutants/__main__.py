"""Tell every lie of the table, or those that are named, and see that its selftest catches it.

python -m tools.mutants [NAME…]

Exit code 1: a mutant survived, or was not tried. 2: one applies no more, or the selftests fail without any.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tools.mutants.mutant import Mutant, Stale
from tools.mutants.table import MUTANTS
from tools.mutants.trial import Fate, NotSound, Trials, tracked

ROOT = Path(__file__).resolve().parent.parent.parent
SURVIVED, BROKEN = 1, 2


def main(arguments: Sequence[str] | None = None, root: Path = ROOT, mutants: Sequence[Mutant] = MUTANTS) -> int:
    """Try mutants of a tree and print the table; returns the exit code."""
    asked = _arguments(arguments, mutants)
    chosen = [one for one in mutants if not asked.names or one.name in asked.names]
    if asked.list:
        print("\n".join(f"{one.name:{_width(chosen)}}  {one.lie}" for one in chosen))
        return 0
    if stale := list(_stale(chosen, root)):
        print("\n".join(["these mutants apply no more; anchor them anew, or say why they are gone:", *stale]))
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
    parser.add_argument("names", nargs="*", metavar="NAME", help="a mutant of the table; all without")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="mutants that are tried at once (default: 2)")
    parser.add_argument("--list", action="store_true", help="say what lies there are, and try none")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.names) - {one.name for one in mutants}:
        parser.error(f"no mutant is called {', '.join(sorted(unknown))}; --list names them")
    return asked


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
