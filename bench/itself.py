"""What comes out if one library is set against itself: the old side's processes of a run with --against, by turns.

    python -m bench.itself JOURNAL [JOURNAL …]

Its first, third, … process plays the old library, its second, fourth, … the new one, each pair next to one another in
time but for the new library's processes between. Whatever is called slower or faster here is false.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from neverslower.against import in_pairs
from neverslower.regression import PassSpread, judge_pairs
from neverslower.resume import load
from neverslower.verdict import Code, Verdict


def judged(path: Path) -> list[Verdict]:
    """The verdict on each channel count, unconfirmed."""
    passes = load(path, named="").of_the_other.in_order
    pairs: dict[object, list[float]] = {key: in_pairs(found[0::2], found[1::2]) for key, found in passes.items()}
    spread = PassSpread.of(pairs)
    return [judge_pairs(one, spread, key, len(pairs)) for key, one in pairs.items()]


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("journal", type=Path, nargs="+")
    for path in parser.parse_args().journal:
        codes = Counter(one.code for one in judged(path))
        told = ", ".join(f"{codes[code]} {code}" for code in Code if codes[code])
        print(f"{path.name}: {told} (of {sum(codes.values())})")


if __name__ == "__main__":
    main()
