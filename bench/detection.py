"""Counts what a campaign would confirm, replayed on recorded passes of real layers, next to rules users would pick.

    pytest --network resnet50 --passes 24 --time-budget 0 --journal pool.jsonl     # on an otherwise idle device
    python -m bench.detection pool.jsonl

Of each comparison's recorded passes, in an order drawn anew for each campaign but the same for all comparisons, half
are held out: the median of their log ratios is the pair's long-run ratio. The other half is what the campaign may
take. Each candidate's times are scaled so that its long-run ratio becomes one of --ratio, drawn for each comparison.
Both judges decide as in a run, after every pass, with the layers, references and processes as they were recorded. So
what is counted is what a user is told: SLOWER is confirmed, SAME is a wrong one at the target. Campaigns share passes;
each has as many comparisons as were recorded. The other rules (bench.rules) get the first of the same passes. Seconds
are those of all rounds that a rule takes, the reference's too, which a run times once for all of a layer's comparisons;
preparing and starting come on top. Deterministic by --seed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mode

import numpy as np

from bench.rules import rules
from neverslower.campaign.findings import Identity
from neverslower.campaign.judging import first_of, layer_of, pooled
from neverslower.campaign.resume import load
from neverslower.evidence.observation import PairedPass
from neverslower.judge.joint import Pooling, halved, log_ratio
from neverslower.judge.pooled import PooledJudge
from neverslower.judge.sequential import STANDARD_PRESET, SequentialJudge
from neverslower.judge.stats import rate_bound
from neverslower.judge.verdict import STANDARD, Code

RATIOS = (1.0, 1.01, 1.03, 1.05, 1.10, 1.30)
Passes = Mapping[Identity, Sequence[PairedPass]]


@dataclass(frozen=True)
class Told:
    """What a campaign told of one comparison: its true ratio, the verdict's code, how many passes it took of which."""

    ratio: float
    code: Code
    passes: int
    planted: Sequence[PairedPass] = ()


def read(path: Path) -> dict[Identity, list[PairedPass]]:
    """Return the passes of a journal's comparisons: as many of each as most have, without those that have fewer."""
    passes = load(path, "").in_order
    usual = mode(map(len, passes.values()))
    return {identity: taken[:usual] for identity, taken in passes.items() if len(taken) >= usual}


def planted(passes: Sequence[PairedPass], held_out: Sequence[PairedPass], ratio: float) -> list[PairedPass]:
    """Return passes whose candidate takes `ratio` times as long as the reference in the long run."""
    factor = ratio / math.exp(float(np.median([log_ratio(pass_) for pass_ in held_out])))
    return [replace(pass_, seconds=pass_.seconds * np.array([1.0, factor])[:, None]) for pass_ in passes]


def campaign(passes: Passes, blocks: int) -> dict[Identity, tuple[Code, int]]:
    """Return what both judges decide of each comparison, asked after every pass, and after how many."""
    share, family = halved(STANDARD), len(passes)
    most = max(map(len, passes.values()))
    judge = SequentialJudge(share, replace(STANDARD_PRESET, blocks_at_once=blocks, most_blocks=most * blocks))
    pooling = Pooling(PooledJudge(share))
    told: dict[Identity, tuple[Code, int]] = {}
    for number in range(1, most + 1):
        taken = {
            identity: each[: told[identity][1] if identity in told else number] for identity, each in passes.items()
        }
        by_all = pooled(pooling, taken, family)
        for identity, mine in taken.items():
            if identity not in told and (judged := first_of(judge, mine, family, by_all.get(identity))):
                told[identity] = judged.verdict.code, number
    return {identity: told.get(identity, (Code.UNDECIDED, most)) for identity in passes}


def campaigns(recorded: Passes, number: int, seed: int, ratios: Sequence[float] = RATIOS) -> Iterator[list[Told]]:
    """Yield what each of so many campaigns tells, of comparisons with these true ratios."""
    rng = np.random.default_rng(seed)
    count = len(next(iter(recorded.values())))
    blocks = max(len(pass_.seconds) for pass_ in next(iter(recorded.values())))
    for _ in range(number):
        order = rng.permutation(count)
        truth = dict(zip(recorded, rng.choice(ratios, len(recorded)), strict=True))
        passes = {}
        for identity, taken in recorded.items():
            mine, held_out = ([taken[place] for place in half] for half in np.array_split(order, 2))
            passes[identity] = planted(mine, held_out, truth[identity])
        told = campaign(passes, blocks)
        yield [Told(float(truth[identity]), *told[identity], planted=passes[identity]) for identity in passes]


def table(found: Sequence[Sequence[Told]]) -> Iterator[str]:
    """Yield a Markdown table with a line for each true ratio, and in how many campaigns there was a false red."""
    yield "| true ratio | SLOWER, confirmed | SAME or FASTER | undecided | passes: median, 90 % |"
    yield "|---" * 5 + "|"
    every = [told for one in found for told in one]
    for ratio in sorted({told.ratio for told in every}):
        mine = [told for told in every if told.ratio == ratio]
        slower = sum(told.code is Code.SLOWER for told in mine)
        undecided = sum(not told.code.measured or told.code is Code.UNDECIDED for told in mine)
        passes = np.quantile([told.passes for told in mine], (0.5, 0.9))
        same = len(mine) - slower - undecided
        cells = (_of(slower, len(mine)), _of(same, len(mine)), str(undecided), f"{passes[0]:.0f}, {passes[1]:.0f}")
        yield f"| {ratio:g} | {' | '.join(cells)} |"
    red = sum(any(told.code is Code.SLOWER and told.ratio <= 1.01 for told in one) for one in found)
    yield f"campaigns with any SLOWER of what is slower by 1 % at most: {_of(red, len(found))}"


def by_rule(found: Sequence[Sequence[Told]]) -> Iterator[str]:
    """Yield a Markdown table of what each rule calls slower, by true ratio, and what it takes to say so."""
    every = [told for one in found for told in one]
    ratios = sorted({told.ratio for told in every})
    yield "| rule | " + " | ".join(f"{ratio:g}" for ratio in ratios) + " | rounds of either side | seconds |"
    yield "|---" * (3 + len(ratios)) + "|"
    ours = [(told.code is Code.SLOWER, *_cost(told.planted[: told.passes])) for told in every]
    yield _line("both judges, confirmed", ratios, every, ours)
    for rule in rules():
        called = []
        for one in found:
            for told in one:
                slower = rule.slower(told.planted[: rule.passes], len(one))
                called.append((slower, *_cost(told.planted[: rule.passes], rule.rounds)))
        yield _line(rule.name, ratios, every, called)


def _cost(passes: Sequence[PairedPass], rounds: int = 0) -> tuple[int, float]:
    """Return the rounds of either side, at most `rounds` if that is given, and the seconds that all of them took."""
    all_rounds = sum(pass_.seconds[:, 0].size for pass_ in passes)
    seconds = sum(float(np.sum(pass_.seconds.sum(axis=(0, 2)) * pass_.iterations)) for pass_ in passes)
    taken = min(all_rounds, rounds or all_rounds)
    return taken, seconds * taken / max(1, all_rounds)


def _line(rule: str, ratios: Sequence[float], every: Sequence[Told], called: Sequence[tuple[bool, int, float]]) -> str:
    truth = np.array([told.ratio for told in every])
    slower, rounds, seconds = (np.array(each) for each in zip(*called, strict=True))
    cells = (_of(int(slower[truth == ratio].sum()), int(np.sum(truth == ratio))) for ratio in ratios)
    return f"| {rule} | {' | '.join(cells)} | {rounds.mean():.0f} | {seconds.mean():.3f} |"


def _of(hits: int, trials: int) -> str:
    """Return "x of n" with the 95 % upper bound of the rate, or its lower one where most were hits."""
    if 2 * hits > trials:
        return f"{hits} of {trials} (≥ {1 - rate_bound(trials - hits, trials):.1%})"
    return f"{hits} of {trials} (≤ {rate_bound(hits, trials):.1%})"


def main() -> None:
    """Print the table of one journal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("journal", type=Path, help="of a run with --passes; .xz is read too")
    parser.add_argument("--campaigns", type=int, default=12)
    parser.add_argument("--ratio", type=float, action="append", help=f"a true ratio; default {RATIOS}")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    recorded = read(options.journal)
    layers = len({layer_of(identity) for identity in recorded})
    count = len(next(iter(recorded.values())))
    print(f"{options.journal.name}: {len(recorded)} comparisons of {layers} layers, {count} passes of each")
    found = list(campaigns(recorded, options.campaigns, options.seed, options.ratio or RATIOS))
    print("\n".join((*table(found), "", "Called SLOWER:", "", *by_rule(found))))


if __name__ == "__main__":
    main()
