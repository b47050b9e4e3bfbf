"""False alarms and slowdowns found, on recorded A/A pools: the sequential judge beside rules that users would pick.

    python -m bench.detection bench/data/onednn-two-cores.npz bench/data/cudnn-h100.npz

A pool is what bench.record_noise writes. A comparison is replayed as passes drawn from recorded ones of one problem, in
preparations of their own, none twice; every rule gets the same passes, and stops where it would. A slowdown is the
candidate's times scaled. Comparisons are drawn from one pool, so they share passes: the table says how many disjoint
ones there are. Deterministic by --seed. With benchmatrix installed its own bootstrap is used, else one like it.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from bench.fixed_size import FixedSizeJudge
from bench.pools import seconds_of
from bench.simulate import SLOWER, decisions
from neverslower.evidence.observation import PairedPass, Seconds
from neverslower.judge.sequential import PRESETS, Preset, SequentialJudge, block_length, units_of
from neverslower.judge.verdict import Code

RATIOS = (1.0, 1.03, 1.05, 1.10)
FAMILY = 1000
"""The comparisons that a campaign is said to make, for every rule that asks."""


@dataclass(frozen=True)
class Pool:
    """Recorded A/A passes: seconds (passes, blocks, 2, 2), and the numbers of the passes of each problem."""

    name: str
    seconds: Seconds
    problems: tuple[np.ndarray, ...]

    @classmethod
    def read(cls, path: Path) -> Pool:
        """A pool as bench.record_noise writes it."""
        with np.load(path) as file:
            seconds = seconds_of(file)
            keys = file["problems" if "problems" in file else "layers"]
        return cls(path.stem, seconds, tuple(np.flatnonzero(keys == one) for one in np.unique(keys)))

    def passes(self, rng: np.random.Generator, number: int, blocks: int) -> Seconds:
        """`number` stretches of `blocks` blocks of one problem, of passes apart as far as they last, none twice."""
        starts = np.arange(0, self.seconds.shape[1] - blocks + 1, blocks)
        long_enough = [one for one in self.problems if len(one) * len(starts) >= number]
        mine = long_enough[rng.integers(len(long_enough))]
        order = np.concatenate([rng.permutation(mine) for _ in starts])[:number]
        start = np.stack([rng.permutation(starts) for _ in range(len(mine))])
        turn = np.arange(number) // len(mine)
        place = np.searchsorted(mine, order)
        return np.stack([self.seconds[p, s : s + blocks] for p, s in zip(order, start[place, turn], strict=True)])

    def disjoint(self, blocks: int, passes: int) -> int:
        """How many comparisons of so many passes share none."""
        stretches = self.seconds.shape[1] // blocks
        return sum(len(one) * stretches // passes for one in self.problems)


@dataclass(frozen=True)
class Row:
    """A rule's line of the table: the share called slower at each ratio, blocks (or runs) taken at 1.00 and at 1.05."""

    rule: str
    alarms: tuple[float, ...]
    samples: str
    disjoint: int


def scaled(seconds: Seconds, ratio: float) -> Seconds:
    """The same with a candidate that takes `ratio` times as long."""
    return np.asarray(seconds * np.array([1.0, ratio])[:, None])


def sequential(pool: Pool, preset: Preset, comparisons: int, seed: int, in_turns: bool) -> Row:
    """The sequential judge, asked after each pass; `in_turns`: every other pass prepares the candidate first.

    Recorded passes all prepared the same side first. They are A/A, so exchanging the sides' names is that.
    """
    rng = np.random.default_rng(seed)
    judge = SequentialJudge(preset=preset)
    units = np.stack(
        [
            [units_of(one, preset.block_length) for one in pool.passes(rng, preset.most_passes, preset.blocks_at_once)]
            for _ in range(comparisons)
        ]
    )
    if in_turns:
        units[:, 1::2] *= -1
    found = [decisions(units + math.log(ratio), judge, FAMILY) for ratio in RATIOS]
    blocks = [round(float(one.passes.mean()) * preset.blocks_at_once) for one in found]
    alarms = tuple(one.share(SLOWER) for one in found)
    name = f"sequential, {preset.name}, at most {preset.most_blocks} blocks" + (", in turns" if in_turns else "")
    return Row(name, alarms, f"{blocks[0]} / {blocks[2]} blocks", pool.disjoint(preset.blocks_at_once, 4))


def fixed_size(pool: Pool, comparisons: int, seed: int, confirm: bool) -> Row:
    """The judge of signed ranks on 4 passes of 15 blocks, with as many blocks of a fifth pass to confirm."""
    rng = np.random.default_rng(seed)
    judge, blocks = FixedSizeJudge(), 15
    again = min(4 * blocks, pool.seconds.shape[1])
    slower = np.zeros(len(RATIOS))
    for _ in range(comparisons):
        drawn = pool.passes(rng, 5, again)
        for place, ratio in enumerate(RATIOS):
            passes = [PairedPass(one, (1, 1), "recorded") for one in scaled(drawn, ratio)]
            verdict = judge([PairedPass(one.seconds[:blocks], (1, 1), "recorded") for one in passes[:4]], FAMILY)
            shown = verdict.code is Code.SLOWER and not (confirm and judge(passes[4:], 1).code is not Code.SLOWER)
            slower[place] += shown
    name = "signed ranks, 4 passes of 15 blocks" + (", confirmed" if confirm else "")
    taken = f"60 / {60 + again if confirm else 60} blocks"
    return Row(name, tuple(slower / comparisons), taken, pool.disjoint(again, 5))


Rule = Callable[[Seconds, float], bool]


def one_pass(pool: Pool, comparisons: int, seed: int, name: str, rule: Rule, rounds: int) -> Row:
    """A rule that looks at `rounds` rounds of either side in one pass: kind to it, for they are interleaved."""
    rng = np.random.default_rng(seed)
    blocks = -(-rounds // 2)
    slower = np.zeros(len(RATIOS))
    for _ in range(comparisons):
        drawn = pool.passes(rng, 1, blocks)[0]
        for place, ratio in enumerate(RATIOS):
            sides = scaled(drawn, ratio).transpose(1, 0, 2).reshape(2, -1)[:, :rounds]
            slower[place] += rule(sides, ratio)
    return Row(name, tuple(slower / comparisons), f"{rounds} rounds a side", pool.disjoint(blocks, 1))


def mean_beyond(sides: Seconds, ratio: float) -> bool:
    """pytest-benchmark's --benchmark-compare-fail=mean:5%."""
    return bool(sides[1].mean() > 1.05 * sides[0].mean())


def minimum_beyond(sides: Seconds, ratio: float) -> bool:
    """pytest-benchmark's --benchmark-compare-fail=min:5%."""
    return bool(sides[1].min() > 1.05 * sides[0].min())


def u_test(sides: Seconds, ratio: float) -> bool:
    """google-benchmark's compare.py: a two-sided Mann–Whitney U test at 0.05, and the candidate lies higher.

    Exact where there are no ties, as scipy's is for so few; of ties half counts.
    """
    reference, candidate = sides
    wins = np.sum(candidate[:, None] > reference) + 0.5 * np.sum(candidate[:, None] == reference)
    return bool(wins >= _u_critical(len(reference)))


def _u_critical(n: int, error: float = 0.05) -> float:
    """The smallest U of n against n values whose upper tail is at most error / 2."""
    # ways[k, u]: how many choices of k of the ranks seen so far have rank sum − k(k+1)/2 = u.
    ways = np.zeros((n + 1, n * n + 1))
    ways[0, 0] = 1
    for rank in range(1, 2 * n + 1):
        for k in range(min(n, rank), 0, -1):
            shift = rank - k
            if shift <= n * n:
                ways[k, shift:] += ways[k - 1, : n * n + 1 - shift]
    tail = np.cumsum(ways[n][::-1])[::-1] / ways[n].sum()
    return float(np.argmax(tail <= error / 2))


def benchmatrix(pool: Pool, comparisons: int, seed: int, resamples: int, runs: int = 5) -> Row:
    """benchmatrix: paired runs, the medians of each, a Bonferroni-corrected bootstrap beyond its threshold of 5 %.

    Its interval of the ratio moves with the candidate's scale, so one bootstrap serves all ratios.
    """
    rng = np.random.default_rng(seed)
    blocks = 12
    interval = _benchmatrix_low if importlib.util.find_spec("benchmatrix") else _bootstrap_low
    lows = []
    for _ in range(comparisons):
        medians = np.median(pool.passes(rng, runs, blocks).transpose(0, 2, 1, 3).reshape(runs, 2, -1), axis=2)
        lows.append(interval(medians, 1 - 0.05 / FAMILY, resamples))
    alarms = tuple(float(np.mean(np.array(lows) * ratio > 1.05)) for ratio in RATIOS)
    how = f"benchmatrix {_benchmatrix_version()}" if interval is _benchmatrix_low else "like benchmatrix"
    return Row(f"{how}, {runs} paired runs", alarms, f"{runs * blocks} blocks", pool.disjoint(blocks, runs))


def _benchmatrix_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("benchmatrix")
    except PackageNotFoundError:
        return "of an unknown version"


def _benchmatrix_low(medians: np.ndarray, level: float, resamples: int) -> float:
    """The lower bound of the ratio, by benchmatrix's own paired BCa bootstrap."""
    bootstrap = importlib.import_module("benchmatrix.bench_statistics").bootstrap_paired_median_ratio_interval

    reference, candidate = medians.T.tolist()
    # Of "higher is better" the effect is the candidate's gain in per cent, which is the ratio.
    found = bootstrap(
        reference, candidate, lower_is_better=False, confidence_level=level, resamples=resamples, random_seed=0
    )
    return -math.inf if found.low is None else 1 + float(found.low) / 100


def _bootstrap_low(medians: np.ndarray, level: float, resamples: int) -> float:
    """The lower bound of the ratio of medians by the bootstrap of all nⁿ resamples of n pairs, BCa."""
    n = len(medians)
    chosen = medians[np.array(list(itertools.product(range(n), repeat=n)))]
    ratios = np.sort(np.divide(*np.median(chosen, axis=1).T[::-1]))
    estimate = float(np.divide(*np.median(medians, axis=0)[::-1]))
    below = (np.sum(ratios < estimate) + 0.5 * np.sum(ratios == estimate)) / len(ratios)
    left_out = np.array([np.divide(*np.median(np.delete(medians, i, axis=0), axis=0)[::-1]) for i in range(n)])
    away = left_out.mean() - left_out
    if not 0 < below < 1 or not away.any():
        place = (1 - level) / 2
    else:
        from neverslower.judge.stats import normal_quantile

        bias, skew = normal_quantile(float(below)), float((away**3).sum() / (6 * (away**2).sum() ** 1.5))
        z = bias + normal_quantile((1 - level) / 2)
        place = float(ndtr(bias + z / (1 - skew * z)))
    return float(np.quantile(ratios, place))


def rows(pool: Pool, comparisons: int, seed: int, resamples: int) -> Iterator[Row]:
    """The table's lines."""
    for preset in PRESETS.values():
        stretches = pool.seconds.shape[1] // preset.blocks_at_once
        if max(len(one) for one in pool.problems) * stretches >= preset.most_passes:
            for in_turns in (False, True):
                yield sequential(pool, preset, comparisons, seed, in_turns)
    yield fixed_size(pool, comparisons, seed, confirm=True)
    yield fixed_size(pool, comparisons, seed, confirm=False)
    rounds = pool.seconds.shape[1] // 4 * 4
    yield one_pass(pool, comparisons, seed, "pytest-benchmark mean:5%", mean_beyond, rounds)
    yield one_pass(pool, comparisons, seed, "pytest-benchmark min:5%", minimum_beyond, rounds)
    yield one_pass(pool, comparisons, seed, "google-benchmark U test", u_test, 9)
    yield benchmatrix(pool, comparisons, seed, resamples)


def table(pool: Pool, found: Sequence[Row], comparisons: int) -> Iterator[str]:
    """The lines to print."""
    count, blocks = pool.seconds.shape[:2]
    length = block_length(list(pool.seconds))
    of = f"{count} recorded passes of {blocks} blocks, {len(pool.problems)} problems"
    yield f"{pool.name}: {of}; neighbours are independent in units of {length} blocks"
    yield f"{comparisons} comparisons drawn for each rule, in a campaign of {FAMILY}"
    yield (
        "| rule | false alarms per 10,000 | "
        + " | ".join(f"+{r - 1:.0%} found" for r in RATIOS[1:])
        + (" | samples at 1.00× / 1.05× | disjoint comparisons |")
    )
    yield "|---" * (4 + len(RATIOS)) + "|"
    for row in found:
        hits = " | ".join(f"{one:.1%}" for one in row.alarms[1:])
        yield f"| {row.rule} | {row.alarms[0] * 1e4:.0f} | {hits} | {row.samples} | {row.disjoint} |"


def main() -> None:
    """Print one table a pool."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pools", type=Path, nargs="+")
    parser.add_argument("--comparisons", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=10_000, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for path in options.pools:
        pool = Pool.read(path)
        found = list(rows(pool, options.comparisons, options.seed, options.resamples))
        print("\n".join(table(pool, found, options.comparisons)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
