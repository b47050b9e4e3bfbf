"""Rules that a user would pick instead of ours: what each calls slower, given passes of reference and candidate.

All of them get the interleaved passes that our judges get; that favours them, for their users would not have
interleaved. With benchmatrix installed its own bootstrap is used, else one like it.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from scipy.special import ndtr

from bench.fixed_size import FixedSizeJudge
from neverslower.evidence.observation import PairedPass, Seconds
from neverslower.judge.stats import normal_quantile
from neverslower.judge.verdict import Code

Passes = Sequence[PairedPass]


@dataclass(frozen=True)
class Rule:
    """A rule takes so many `passes`, or `rounds` of either side of one, and says whether the candidate is slower.

    `slower` gets the passes and how many comparisons the campaign makes.
    """

    name: str
    passes: int
    slower: Callable[[Passes, int], bool]
    rounds: int = 0


def sides(pass_: PairedPass, rounds: int) -> Seconds:
    """Return the first rounds of a pass, of shape (2, rounds): reference and candidate."""
    return np.asarray(pass_.seconds.transpose(1, 0, 2).reshape(2, -1)[:, :rounds])


def signed_ranks(passes: Passes, comparisons: int) -> bool:
    """Decide by the signed ranks of all passes but the last one, which must confirm it by itself."""
    judge = FixedSizeJudge()
    first = judge(passes[:-1], comparisons)
    return first.code is Code.SLOWER and judge(passes[-1:], 1).code is Code.SLOWER


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


def benchmatrix(passes: Passes, comparisons: int) -> bool:
    """Decide as benchmatrix: medians of paired runs, a Bonferroni-corrected bootstrap beyond its threshold of 5 %."""
    medians = np.array([np.median(sides(pass_, pass_.seconds[:, 0].size), axis=1) for pass_ in passes])
    return _benchmatrix_interval()(medians, 1 - 0.05 / comparisons) > 1.05


def _benchmatrix_interval() -> Callable[[Seconds, float], float]:
    return _benchmatrix_low if importlib.util.find_spec("benchmatrix") else _bootstrap_low


def _benchmatrix_name() -> str:
    if _benchmatrix_interval() is _bootstrap_low:
        return "like benchmatrix"
    try:
        return f"benchmatrix {version('benchmatrix')}"
    except PackageNotFoundError:
        return "benchmatrix of an unknown version"


def _benchmatrix_low(medians: Seconds, level: float, resamples: int = 10_000) -> float:
    """Return the lower bound of the ratio by benchmatrix's own paired BCa bootstrap; `medians` are (runs, 2)."""
    bootstrap = importlib.import_module("benchmatrix.bench_statistics").bootstrap_paired_median_ratio_interval

    reference, candidate = medians.T.tolist()
    # With "higher is better" the effect is the candidate's gain in per cent, which is the ratio.
    interval = bootstrap(
        reference, candidate, lower_is_better=False, confidence_level=level, resamples=resamples, random_seed=0
    )
    return -math.inf if interval.low is None else 1 + float(interval.low) / 100


def _bootstrap_low(medians: Seconds, level: float) -> float:
    """Return the lower bound of the ratio of medians, (runs, 2), by a BCa bootstrap of all nⁿ resamples of n pairs."""
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


def rules() -> tuple[Rule, ...]:
    """Return the rules, for passes of eight blocks: sixteen rounds of either side."""
    return (
        Rule("signed ranks of 7 passes, confirmed by another", 8, signed_ranks),
        Rule("pytest-benchmark mean:5%", 1, lambda passes, _: mean_beyond(sides(passes[0], 16)), 16),
        Rule("pytest-benchmark min:5%", 1, lambda passes, _: minimum_beyond(sides(passes[0], 16)), 16),
        Rule("google-benchmark U test", 1, lambda passes, _: u_test(sides(passes[0], 9)), 9),
        Rule(f"{_benchmatrix_name()}, 5 paired runs", 5, benchmatrix),
    )
