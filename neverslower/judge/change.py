"""Did a channel count become slower than it was? Compare stored passes with current ones; the process is the replicate.

The log median time of benchmark b in pass p is modelled as  level_b + common_p + own_bp : the common part is what a
pass does to every benchmark alike (clocks, neighbours, a process's luck with memory), the own part what it does to
one. A change is what remains of the difference of two runs' levels beyond both. The common part is one random event
for the whole campaign, with few degrees of freedom, so its error is spent once; the benchmarks' own parts are many,
so theirs is divided by the number of comparisons (Bonferroni).

Benchmarks differ in how much they scatter, by a factor of ten and more, and few passes say little about each. So
each one's own variance is moderated: drawn towards what is typical, as far as all of them together say that it
should be. With d degrees of freedom of its own and a prior of d0 at s0², estimated from the spread of all the sample
variances, it is (d0·s0² + d·s²) / (d0 + d), with d0 + d degrees of freedom (Smyth, Statistical Applications in
Genetics and Molecular Biology 3(1), 2004, section 6.2 for the estimates of d0 and s0²).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from neverslower.evidence.observation import PairedPass
from neverslower.judge.stats import Floats, student_quantile
from neverslower.judge.verdict import STANDARD, Code, Interval, Reason, ReasonCode, Thresholds, Verdict, decide

_LARGEST = math.log(sys.float_info.max)
Levels = Mapping[Any, Sequence[float]]
"""The log median seconds of each benchmark in each pass."""


@dataclass(frozen=True)
class Variance:
    """A variance and its degrees of freedom."""

    value: float = 0.0
    freedom: float = 0.0

    def half_width(self, error: float, replicates: float) -> float:
        """Return how far a mean of independent values may stray by chance, one-sided; infinite without freedom.

        The mean's variance is `value` × `replicates`, which is 1/n for a mean of n values.
        """
        return student_quantile(1 - error, self.freedom) * math.sqrt(self.value * replicates)

    def pooled(self, other: Variance) -> Variance:
        """Pool both variances, weighted by their degrees of freedom."""
        freedom = self.freedom + other.freedom
        total = self.value * self.freedom + other.value * other.freedom
        return Variance(total / freedom if freedom else 0.0, freedom)


@dataclass(frozen=True)
class PassSpread:
    """How far the passes of one run scatter in log time: all benchmarks together, and each benchmark by itself."""

    common: Variance = Variance()
    own: Mapping[object, Variance] = field(default_factory=dict)

    @classmethod
    def of(cls, levels: Levels) -> PassSpread:
        """Estimate the spread of a run from its levels, in as many passes as at least half of the benchmarks have.

        Only benchmarks with several passes count for that number. The judge wants more passes of some benchmarks than
        of others; those with fewer get the typical variance. A pass's common effect is the median of the benchmarks'
        deviations in it, so that a few outliers do not count as everybody's.
        """
        several = [len(own_levels) for own_levels in levels.values() if len(own_levels) > 1]
        passes = int(np.median(several)) if several else 0
        full = {key: np.asarray(own_levels[:passes]) for key, own_levels in levels.items() if len(own_levels) >= passes}
        if passes < 2:
            return cls()
        table = np.array(list(full.values()))
        common = common_effects(table)
        rest = table - table.mean(axis=1, keepdims=True) - common
        # A benchmark alone can't separate its own scatter from the common one: then all of it counts as common.
        # The common effect took passes − 1 degrees of freedom from all benchmarks together: each lost its share.
        freedom = (passes - 1) * (1 - 1 / len(table))
        own = (rest**2).sum(axis=1) / freedom if freedom else np.zeros(len(table))
        variances = {key: Variance(float(value), freedom) for key, value in zip(full, own, strict=True)}
        return cls(Variance(float(common.var(ddof=1)), passes - 1), variances)

    def pooled(self, other: PassSpread) -> PassSpread:
        """Pool two runs' spreads, benchmark by benchmark."""
        keys = set(self.own) | set(other.own)
        own = {key: self.own.get(key, Variance()).pooled(other.own.get(key, Variance())) for key in keys}
        return PassSpread(self.common.pooled(other.common), own)

    @cached_property
    def prior(self) -> Variance:
        """Return the typical own variance of a benchmark: s0² with d0 degrees of freedom, infinite if all are alike."""
        return typical_variance([variance for variance in self.own.values() if variance.freedom and variance.value > 0])

    def own_variance(self, key: object) -> Variance:
        """Return one benchmark's own variance, moderated (see the module's derivation)."""
        mine, prior = self.own.get(key, Variance()), self.prior
        if math.isinf(prior.freedom):
            return prior
        return mine.pooled(prior)


def common_effects(table: Floats) -> Floats:
    """Return what each pass does to all benchmarks, of shape (passes,), around 0, from levels (benchmarks, passes)."""
    effects = np.median(table - table.mean(axis=1, keepdims=True), axis=0)
    return np.asarray(effects - effects.mean())


def typical_variance(variances: Sequence[Variance]) -> Variance:
    """Return the prior (s0², d0) of sample variances, by matching the mean and the variance of their logarithms."""
    from scipy.special import digamma, polygamma

    if len(variances) < 3:  # Two variances say nothing of how variances spread.
        return Variance()
    half = np.array([variance.freedom / 2 for variance in variances])
    logs = np.log([variance.value for variance in variances]) - digamma(half) + np.log(half)
    spread = float(logs.var(ddof=1) - polygamma(1, half).mean())
    centre = float(logs.mean())
    if spread <= 0:  # They spread no more than equal variances would by chance.
        return Variance(math.exp(centre), math.inf)
    half_freedom = _inverse_trigamma(spread)
    return Variance(math.exp(centre + float(digamma(half_freedom)) - math.log(half_freedom)), 2 * half_freedom)


def _inverse_trigamma(value: float) -> float:
    """Return where the trigamma function, which falls from infinity to 0, takes a value; bisects on a log scale."""
    from scipy.special import polygamma

    low, high = -20.0, 20.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if polygamma(1, math.exp(middle)) > value else (low, middle)
    return math.exp(low)


def levels_of(passes: Iterable[PairedPass]) -> list[float]:
    """Return the candidate's level in each pass; a pass of which no block was kept has none."""
    return [log_median(pass_.candidate) for pass_ in passes if pass_.candidate.size]


def log_median(seconds: Floats) -> float:
    """Return the level of one pass: the log of its median time in seconds."""
    return math.log(float(np.median(seconds)))


def judge_change(
    stored: Sequence[float],
    now: Sequence[float],
    spread: PassSpread,
    key: object,
    comparisons: int,
    thresholds: Thresholds = STANDARD,
) -> Verdict:
    """Return the verdict on one channel count, now against stored, from its levels in each pass.

    The ratio is now over stored. `spread` is pooled over both runs, `key` is the benchmark's key in it, `comparisons`
    the number judged together.
    """
    if not spread.common.freedom or min(len(stored), len(now)) < 1:
        text = "a change needs at least two passes in one of the runs; measure with more"
        return Verdict(Code.UNDECIDED, Reason(ReasonCode.TOO_NOISY, text))
    shift = float(np.mean(now) - np.mean(stored))
    return _judge_shift(shift, 1 / len(stored) + 1 / len(now), spread, key, comparisons, thresholds)


def judge_pairs(
    differences: Sequence[float], spread: PassSpread, key: object, comparisons: int, thresholds: Thresholds = STANDARD
) -> Verdict:
    """Return the verdict on passes taken in pairs, old and new next to each other, from each pair's new − old level.

    What moves between pairs touches both passes of a pair, and so cancels in their difference. `spread` is that of the
    differences.
    """
    if not spread.common.freedom or not differences:
        text = "a change needs at least two pairs of processes; measure with more --passes"
        return Verdict(Code.UNDECIDED, Reason(ReasonCode.TOO_NOISY, text))
    return _judge_shift(float(np.mean(differences)), 1 / len(differences), spread, key, comparisons, thresholds)


def pairs_needed(spread: PassSpread, comparisons: int, most: int, thresholds: Thresholds = STANDARD) -> int:
    """Return after how many pairs of processes a change by the target is proved every second time; at most `most`.

    It is planned from the scatter of the differences alone, not from their mean: the number of pairs asked for then
    says nothing about whether something changed.
    """
    wanted = math.log1p(thresholds.target) - math.log1p(thresholds.tolerance)
    strict = thresholds.family_error / 2
    for pairs in range(2, most):
        common = Variance(spread.common.value, pairs - 1)
        own = Variance(spread.prior.value, spread.prior.freedom + pairs - 1)
        alone = own.half_width(strict / max(1, comparisons), 1 / pairs) if spread.prior.freedom else 0.0
        if common.half_width(strict, 1 / pairs) + alone <= wanted:
            return pairs
    return most


def _judge_shift(
    shift: float, replicates: float, spread: PassSpread, key: object, comparisons: int, thresholds: Thresholds
) -> Verdict:
    """Return the verdict on a difference of two levels; `replicates` is the sum of 1 / passes over both means."""
    own = spread.own_variance(key)
    unknown = key not in spread.own and not own.freedom
    if unknown or not math.isfinite(shift):
        text = "too few passes to know how far this one scatters; measure with more --passes"
        return Verdict(Code.UNDECIDED, Reason(ReasonCode.TOO_NOISY, text))

    def half_width(error: float, own_error: float) -> float:
        besides = own.half_width(own_error, replicates) if own.freedom else 0.0
        return spread.common.half_width(error, replicates) + besides

    strict, loose = thresholds.family_error / 2, thresholds.miss_error / 2
    # Half of each error for the common part, once; the other half for the benchmark's own part. SLOWER is asked of
    # all comparisons, so its half is divided among them; a wrong SAME counts for its own comparison only.
    below, above = half_width(strict, strict / max(1, comparisons)), half_width(loose, loose)
    ratio = Interval(*(_times(value) for value in (shift, shift - below, shift + above)))
    code, reason = decide(ratio, thresholds)
    if code is Code.UNDECIDED:
        together, alone = (math.expm1(math.sqrt(variance.value)) for variance in (spread.common, own))
        scatter = f"passes scatter by {together:.1%} together, and by {alone:.1%} more here"
        reason = Reason(reason.code, f"{reason.text}; {scatter}")
    mde = (1 + thresholds.tolerance) * _times(below) - 1
    return Verdict(code, reason, ratio, noise_floor=_times(above) - 1, mde=mde)


def _times(log_ratio: float) -> float:
    """Return the ratio with this logarithm; infinite where a float can't hold it."""
    return math.exp(log_ratio) if log_ratio < _LARGEST else math.inf


def shown_again(stored: Sequence[float], again: float, line: float = STANDARD.target) -> bool:
    """Return whether a fresh process's level repeats a regression: beyond `line` over the stored mean."""
    return again - float(np.mean(stored)) > math.log1p(line)


def in_pairs(before: Sequence[PairedPass], now: Sequence[PairedPass]) -> list[float]:
    """Return the new − old log median of the candidate in each pair of passes.

    A pass without a partner is left out, and so is a pair in which one pass kept no block.
    """
    pairs = zip(before, now, strict=False)
    whole = ((old.candidate, new.candidate) for old, new in pairs if old.candidate.size and new.candidate.size)
    return [log_median(new) - log_median(old) for old, new in whole]
