"""Count false alarms and slowdowns found on recorded A/A pools: the sequential judge next to rules users would pick.

    python -m bench.detection bench/data/onednn-two-cores.npz bench/data/cudnn-h100.npz

A pool is what bench.record_noise writes. A comparison is replayed as passes drawn from recorded ones of one problem, in
preparations of their own, none twice; every rule gets passes from the same pool, and stops where it would. A slowdown
is the candidate's times scaled. Comparisons are drawn from one pool, so they share passes: the table says how many
disjoint ones there are. Deterministic by --seed. With benchmatrix installed its own bootstrap is used, else one like
it.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bench.fixed_size import FixedSizeJudge
from bench.pools import seconds_of
from bench.simulate import SLOWER, decisions
from neverslower.evidence.observation import PairedPass, Seconds
from neverslower.judge.sequential import PRESETS, Preset, SequentialJudge, block_length, units_of
from neverslower.judge.stats import normal_quantile
from neverslower.judge.verdict import Code

RATIOS = (1.0, 1.03, 1.05, 1.10)
FAMILY = 1000
"""How many comparisons the campaign makes, for every rule that asks."""


@dataclass(frozen=True)
class Pool:
    """Recorded A/A passes: seconds (passes, blocks, 2, 2), and the numbers of the passes of each problem."""

    name: str
    seconds: Seconds
    problems: tuple[NDArray[np.intp], ...]

    @classmethod
    def read(cls, path: Path) -> Pool:
        """Read a pool as bench.record_noise writes it."""
        with np.load(path) as file:
            seconds = seconds_of(file)
            keys = file["problems" if "problems" in file else "layers"]
        return cls(path.stem, seconds, tuple(np.flatnonzero(keys == key) for key in np.unique(keys)))

    def passes(self, rng: np.random.Generator, number: int, blocks: int) -> Seconds:
        """Draw stretches of one problem, of shape (number, blocks, 2, 2), none twice.

        They come from different passes while there are any left, then from other stretches of these passes.
        """
        starts = np.arange(0, self.seconds.shape[1] - blocks + 1, blocks)
        long_enough = [passes for passes in self.problems if len(passes) * len(starts) >= number]
        mine = long_enough[rng.integers(len(long_enough))]
        order = np.concatenate([rng.permutation(mine) for _ in starts])[:number]
        start = np.stack([rng.permutation(starts) for _ in range(len(mine))])
        turn = np.arange(number) // len(mine)
        place = np.searchsorted(mine, order)
        return np.stack([self.seconds[p, s : s + blocks] for p, s in zip(order, start[place, turn], strict=True)])

    def disjoint(self, blocks: int, passes: int) -> int:
        """Return how many comparisons, each of so many passes of `blocks` blocks, could be drawn that share none."""
        stretches = self.seconds.shape[1] // blocks
        return sum(len(recorded) * stretches // passes for recorded in self.problems)


@dataclass(frozen=True)
class Row:
    """A rule's line of the table: the share called slower at each ratio, and the samples taken at 1.00 and 1.05."""

    rule: str
    alarms: tuple[float, ...]
    samples: str
    disjoint: int


def scaled(seconds: Seconds, ratio: float) -> Seconds:
    """Return the same seconds with a candidate that takes `ratio` times as long."""
    return np.asarray(seconds * np.array([1.0, ratio])[:, None])


def sequential(pool: Pool, preset: Preset, comparisons: int, seed: int, alternating: bool) -> Row:
    """Ask the sequential judge after each pass; `alternating`: every other pass prepares the candidate first.

    Recorded passes all prepared the reference first. They are A/A, so exchanging the two names has that effect.
    """
    rng = np.random.default_rng(seed)
    judge = SequentialJudge(preset=preset)
    most, blocks_at_once = preset.most_passes, preset.blocks_at_once
    units = np.stack(
        [
            [units_of(pass_, preset.block_length) for pass_ in pool.passes(rng, most, blocks_at_once)]
            for _ in range(comparisons)
        ]
    )
    if alternating:
        units[:, 1::2] *= -1
    decided = [decisions(units + math.log(ratio), judge, FAMILY) for ratio in RATIOS]
    blocks = [round(float(at_ratio.passes.mean()) * preset.blocks_at_once) for at_ratio in decided]
    alarms = tuple(at_ratio.share(SLOWER) for at_ratio in decided)
    name = f"sequential, {preset.name}, at most {preset.most_blocks} blocks" + (", in turns" if alternating else "")
    return Row(name, alarms, f"{blocks[0]} / {blocks[2]} blocks", pool.disjoint(preset.blocks_at_once, 4))


def fixed_size(pool: Pool, comparisons: int, seed: int, confirm: bool) -> Row:
    """Ask the judge of signed ranks once, about 4 passes of 15 blocks; a fifth pass of as many blocks may confirm."""
    rng = np.random.default_rng(seed)
    judge, blocks = FixedSizeJudge(), 15
    again = min(4 * blocks, pool.seconds.shape[1])
    slower = np.zeros(len(RATIOS))
    for _ in range(comparisons):
        drawn = pool.passes(rng, 5, again)
        for place, ratio in enumerate(RATIOS):
            passes = [PairedPass(seconds, (1, 1), "recorded") for seconds in scaled(drawn, ratio)]
            first = [PairedPass(pass_.seconds[:blocks], (1, 1), "recorded") for pass_ in passes[:4]]
            verdict = judge(first, FAMILY)
            shown = verdict.code is Code.SLOWER and not (confirm and judge(passes[4:], 1).code is not Code.SLOWER)
            slower[place] += shown
    name = "signed ranks, 4 passes of 15 blocks" + (", confirmed" if confirm else "")
    taken = f"60 / {60 + again if confirm else 60} blocks"
    return Row(name, tuple(slower / comparisons), taken, pool.disjoint(again, 5))


Rule = Callable[[Seconds], bool]
"""Says of the rounds of reference and candidate, of shape (2, rounds), whether it calls the candidate slower."""


def one_pass(pool: Pool, comparisons: int, seed: int, name: str, rule: Rule, rounds: int) -> Row:
    """Apply a rule to `rounds` rounds of reference and candidate in one pass.

    That favours the rule: its user would not have interleaved them.
    """
    rng = np.random.default_rng(seed)
    blocks = -(-rounds // 2)
    slower = np.zeros(len(RATIOS))
    for _ in range(comparisons):
        drawn = pool.passes(rng, 1, blocks)[0]
        for place, ratio in enumerate(RATIOS):
            both = scaled(drawn, ratio).transpose(1, 0, 2).reshape(2, -1)[:, :rounds]
            slower[place] += rule(both)
    return Row(name, tuple(slower / comparisons), f"{rounds} rounds a side", pool.disjoint(blocks, 1))


def mean_beyond(both: Seconds) -> bool:
    """Decide as pytest-benchmark's --benchmark-compare-fail=mean:5%."""
    return bool(both[1].mean() > 1.05 * both[0].mean())


def minimum_beyond(both: Seconds) -> bool:
    """Decide as pytest-benchmark's --benchmark-compare-fail=min:5%."""
    return bool(both[1].min() > 1.05 * both[0].min())


def u_test(both: Seconds) -> bool:
    """Decide as google-benchmark's compare.py: a two-sided Mann–Whitney U test at 0.05, and the candidate lies higher.

    Exact where there are no ties, as scipy's is for so few rounds; a tie counts half.
    """
    reference, candidate = both
    wins = np.sum(candidate[:, None] > reference) + 0.5 * np.sum(candidate[:, None] == reference)
    return bool(wins >= _u_critical(len(reference)))


def _u_critical(n: int, error: float = 0.05) -> float:
    """Return the smallest U of n against n values whose upper tail is at most error / 2."""
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
    """Decide as benchmatrix: medians of paired runs, a Bonferroni-corrected bootstrap beyond its threshold of 5 %.

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
    try:
        return version("benchmatrix")
    except PackageNotFoundError:
        return "of an unknown version"


def _benchmatrix_low(medians: Seconds, level: float, resamples: int) -> float:
    """Return the lower bound of the ratio by benchmatrix's own paired BCa bootstrap; `medians` are (runs, 2)."""
    bootstrap = importlib.import_module("benchmatrix.bench_statistics").bootstrap_paired_median_ratio_interval

    reference, candidate = medians.T.tolist()
    # With "higher is better" the effect is the candidate's gain in per cent, which is the ratio.
    interval = bootstrap(
        reference, candidate, lower_is_better=False, confidence_level=level, resamples=resamples, random_seed=0
    )
    return -math.inf if interval.low is None else 1 + float(interval.low) / 100


def _bootstrap_low(medians: Seconds, level: float, resamples: int) -> float:
    """Return the lower bound of the ratio of medians, (runs, 2), by a BCa bootstrap.

    It takes all nⁿ resamples of n pairs, so `resamples` is not asked.
    """
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
        bias, skew = normal_quantile(float(below)), float((away**3).sum() / (6 * (away**2).sum() ** 1.5))
        z = bias + normal_quantile((1 - level) / 2)
        place = float(ndtr(bias + z / (1 - skew * z)))
    return float(np.quantile(ratios, place))


def rows(pool: Pool, comparisons: int, seed: int, resamples: int) -> Iterator[Row]:
    """Yield the rows of a table; a preset whose passes the pool can't give is left out."""
    for preset in PRESETS.values():
        stretches = pool.seconds.shape[1] // preset.blocks_at_once
        if max(len(passes) for passes in pool.problems) * stretches >= preset.most_passes:
            for alternating in (False, True):
                yield sequential(pool, preset, comparisons, seed, alternating)
    yield fixed_size(pool, comparisons, seed, confirm=True)
    yield fixed_size(pool, comparisons, seed, confirm=False)
    rounds = pool.seconds.shape[1] // 4 * 4
    yield one_pass(pool, comparisons, seed, "pytest-benchmark mean:5%", mean_beyond, rounds)
    yield one_pass(pool, comparisons, seed, "pytest-benchmark min:5%", minimum_beyond, rounds)
    yield one_pass(pool, comparisons, seed, "google-benchmark U test", u_test, 9)
    yield benchmatrix(pool, comparisons, seed, resamples)


def table(pool: Pool, judged: Sequence[Row], comparisons: int) -> Iterator[str]:
    """Yield the lines to print."""
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
    for row in judged:
        hits = " | ".join(f"{share:.1%}" for share in row.alarms[1:])
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
        judged = list(rows(pool, options.comparisons, options.seed, options.resamples))
        print("\n".join(table(pool, judged, options.comparisons)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
