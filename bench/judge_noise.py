"""Judge a recorded pool of A/A comparisons: count false SLOWER, and show the noise floor by duration.

python -m bench.judge_noise bench/data/cudnn-h100.npz
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np

from bench.fixed_size import FixedSizeJudge
from bench.pools import seconds_of
from neverslower.evidence.observation import PairedPass
from neverslower.judge.verdict import Code, Verdict
from neverslower.report import words

EDGES = (0.0, 5e-6, 10e-6, 20e-6, 50e-6, 150e-6, 1e-3, 1.0)
"""Bounds of the buckets of duration, in seconds a call."""


def judged(path: Path) -> list[tuple[float, Verdict]]:
    """Return (median seconds of a call, verdict) of each comparison of a pool, all judged as one family."""
    with np.load(path) as file:
        pool = seconds_of(file)
    judge = FixedSizeJudge()
    return [
        (float(np.median(seconds)), judge([PairedPass(seconds, (1, 1), "recorded")], len(pool))) for seconds in pool
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", type=Path)
    timed = judged(parser.parse_args().pool)
    slower = [verdict for _, verdict in timed if verdict.code is Code.SLOWER]
    print(f"{len(timed)} A/A comparisons: {len(slower)} SLOWER {', '.join(str(verdict.ratio) for verdict in slower)}")
    print("| a call takes | comparisons | median noise floor | smallest slowdown that could be proved | SLOWER |")
    print("|---|---|---|---|---|")
    for low, high in itertools.pairwise(EDGES):
        verdicts = [verdict for seconds, verdict in timed if low <= seconds < high]
        if verdicts:
            floor = float(np.median([verdict.noise_floor for verdict in verdicts if verdict.noise_floor is not None]))
            mde = float(np.median([verdict.mde for verdict in verdicts if verdict.mde is not None]))
            wrong = sum(verdict.code is Code.SLOWER for verdict in verdicts)
            span = f"{words.seconds(low) if low else '0'} to {words.seconds(high)}"
            print(f"| {span} | {len(verdicts)} | {words.percent(floor)} | {words.percent(mde)} | {wrong} |")


if __name__ == "__main__":
    main()
