"""Judge slowdowns that are really there: on this device the candidate makes one call more in every so many.

    python -m bench.live --backend cudnn --dtype float16 --layout NHWC --network resnet50 --journal live.jsonl

Reference and candidate are one layer, prepared twice. Where the reference makes N calls in a round the candidate makes
N + N / 33, and its time is divided by N too: so it takes 3 % longer, by real work; 5 % and 10 % with a call more in 20
and in 10. Judged as in a campaign of 1,000 comparisons, by both judges, after every pass; a pass is a process, which
prepares both anew. The journal holds all samples; one that exists is resumed. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neverslower.campaign.judging import first_of
from neverslower.device.fingerprint import Fingerprint
from neverslower.evidence.observation import Cache, PairedPass
from neverslower.files.journal import Journal, replay
from neverslower.judge.joint import Pooling, halved
from neverslower.judge.pooled import PooledJudge
from neverslower.judge.sequential import PRESETS, Preset, SequentialJudge
from neverslower.judge.verdict import STANDARD, Code, Verdict
from neverslower.problem.convolution import DType, Layout
from neverslower.problem.selection import Selection
from neverslower.worker.far_side import FarSide
from neverslower.worker.preparations import Preparation
from neverslower.worker.process import ENVIRONMENT
from neverslower.worker.sampling import Runnable

FAMILY = 1000
"""The comparisons that a campaign is said to make."""
EVERY = (0, 33, 20, 10)
"""After how many calls the candidate makes one more; 0 for never."""


@dataclass(frozen=True)
class Asked:
    """One comparison: a layer's key against itself, with a call more in `every`."""

    number: int
    key: str
    every: int


@dataclass(frozen=True)
class _OneMore:
    """Runs one call more in every so many, while the worker divides the time by the calls without those."""

    inner: Runnable
    every: int
    cache: Cache

    def run(self, iterations: int) -> float:
        """Return the seconds of `iterations` calls and of the additional ones."""
        return self.inner.run(iterations + iterations // self.every)


class SlowedFarSide(FarSide):
    """The far side of a worker in which the candidate makes additional calls, one in `every`."""

    every = 0

    def _pair(self, reference: str, candidate: str, candidate_first: bool) -> tuple[Preparation, Preparation]:
        one, other = super()._pair(reference, candidate, candidate_first)
        if not self.every:
            return one, other
        slowed: Any = _OneMore(other.prepared, self.every, other.prepared.cache)
        return self._whole_rounds(one), replace(self._whole_rounds(other), prepared=slowed)

    def _whole_rounds(self, side: Preparation) -> Preparation:
        return replace(side, iterations=-(-side.iterations // self.every) * self.every)


def take(
    backend: str, argument: str, process: int, asked: Sequence[Asked], blocks: int
) -> tuple[dict[str, Any], list[PairedPass]]:
    """Measure a pass of each comparison; return the device's fingerprint and the passes, in the order given.

    Each pass prepares the layer twice anew; in every other process the candidate comes first. Call it in a process of
    its own.
    """
    os.environ.update(ENVIRONMENT)
    started = time.time()
    far_side = SlowedFarSide()
    opened = far_side.open(backend, argument, 1, process)
    passes = []
    for comparison in asked:
        far_side.every = comparison.every
        taken = far_side.measure(comparison.key, comparison.key, blocks, process % 2 == 1, afresh=True)
        seconds = np.frombuffer(taken.pop("seconds")).reshape(-1, 2, 2)
        passes.append(PairedPass(seconds, tuple(taken.pop("iterations")), opened["clock"], started=started, **taken))
    return opened["fingerprint"], passes


class Campaign:
    """Takes pass after pass, each in a process of its own, as a campaign does."""

    def __init__(self, backend: str, preset: Preset, journal: Journal, seed: int) -> None:
        self._backend, self._journal, self._seed = backend, journal, seed
        self._judge = SequentialJudge(halved(STANDARD), preset)
        self._pooling = Pooling(PooledJudge(halved(STANDARD)))
        self._processes = 0
        self._passes: dict[Asked, list[PairedPass]] = {}
        self._fingerprint: dict[str, Any] | None = None
        replay(journal.path, self._remember)

    def _remember(self, line: Mapping[str, Any]) -> None:
        """Take in a line of an earlier run's journal; a pass that was cut short is missing altogether."""
        if line["event"] == "live":
            comparison = Asked(line["number"], line["key"], line["every"])
            self._passes.setdefault(comparison, []).append(PairedPass.from_record(line))
            self._processes = max(self._processes, line["pass"] + 1)
        elif line["event"] == "fingerprint":
            self._fingerprint = {name: line[name] for name in Fingerprint.__dataclass_fields__}

    def run(self, asked: Sequence[Asked]) -> tuple[dict[Asked, list[PairedPass]], dict[Asked, Verdict]]:
        """Measure until each comparison is decided, SLOWER by a later pass too; return the passes and the verdicts."""
        verdicts: dict[Asked, Verdict] = {}
        self._decide(asked, verdicts)
        while waiting := [one for one in asked if one not in verdicts]:
            print(f"pass {self._processes + 1}: {len(waiting)} comparisons", flush=True)
            for comparison, taken in self._take(waiting, self._judge.preset.blocks_at_once):
                self._passes.setdefault(comparison, []).append(taken)
            self._decide(waiting, verdicts)
        return self._passes, verdicts

    def _decide(self, waiting: Sequence[Asked], verdicts: dict[Asked, Verdict]) -> None:
        """Add the verdicts on what the passes so far decide, or what has had all of its passes."""
        by_all = self._pooling.verdicts(self._passes, lambda comparison: comparison.key, FAMILY)
        for comparison in waiting:
            passes = self._passes.get(comparison, [])
            if judged := first_of(self._judge, passes, FAMILY, by_all.get(comparison)):
                verdicts[comparison] = judged.verdict

    def _take(self, asked: Sequence[Asked], blocks: int) -> Iterator[tuple[Asked, PairedPass]]:
        """Measure a pass of each in a fresh process, in a shuffled order; write them to the journal and yield them."""
        order = random.Random(f"{self._seed}/{self._processes}").sample(list(asked), len(asked))
        name, _, argument = self._backend.partition(":")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            fingerprint, passes = process.submit(take, name, argument, self._processes, order, blocks).result()
        if self._fingerprint is None:
            self._journal.write("fingerprint", fingerprint)
        elif self._fingerprint != fingerprint:
            raise SystemExit(f"{self._journal.path} was measured elsewhere: name another with --journal")
        self._fingerprint = fingerprint
        for comparison, taken in zip(order, passes, strict=True):
            self._journal.write("live", vars(comparison) | taken.record(self._processes))
            yield comparison, taken
        self._processes += 1


def table(passes: dict[Asked, list[PairedPass]], verdicts: dict[Asked, Verdict]) -> Iterator[str]:
    """Yield a Markdown table with a line for each amount of additional work."""
    yield "| one call more in | takes longer by | called slower | undecided | ratio, median | blocks, mean |"
    yield "|---" * 6 + "|"
    for every in dict.fromkeys(comparison.every for comparison in verdicts):
        mine = [comparison for comparison in verdicts if comparison.every == every]
        codes = Counter(verdicts[comparison].code for comparison in mine)
        ratio = np.median([ratio.estimate for comparison in mine if (ratio := verdicts[comparison].ratio)])
        blocks = np.mean([sum(len(taken.seconds) for taken in passes[comparison]) for comparison in mine])
        longer = 1 / every if every else 0.0
        slower, undecided = codes[Code.SLOWER], codes[Code.UNDECIDED]
        yield f"| {every or '–'} | {longer:.1%} | {slower} of {len(mine)} | {undecided} | {ratio:.3f} | {blocks:.0f} |"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="onednn", help="NAME or NAME:ARGUMENT")
    parser.add_argument("--network", action="append", default=[])
    parser.add_argument("--layer", action="append", default=[])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--layout", default="NCHW")
    parser.add_argument("--comparisons", type=int, default=100, help="for each amount of work; default 100")
    parser.add_argument("--preset", choices=list(PRESETS), default="standard")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--journal", type=Path, required=True)
    options = parser.parse_args()
    selection = Selection(networks=tuple(options.network), layers=tuple(options.layer))
    layers = selection.distinct([(DType(options.dtype), Layout(options.layout))])
    keys = [layer.problem.key for layer in layers]
    asked = [Asked(number, keys[number % len(keys)], every) for every in EVERY for number in range(options.comparisons)]
    journal = Journal(options.journal)
    journal.write("asked", {name: str(value) for name, value in vars(options).items() if name != "journal"})
    try:
        passes, verdicts = Campaign(options.backend, PRESETS[options.preset], journal, options.seed).run(asked)
    finally:
        journal.close()
    print("\n".join(table(passes, verdicts)))


if __name__ == "__main__":
    main()
