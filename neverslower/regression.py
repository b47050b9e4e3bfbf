"""Did a channel count become slower than it was? Stored passes against current ones, the process as the replicate.

The log median time of benchmark b in pass p is modelled as  level_b + common_p + own_bp : what a pass does to every
benchmark alike (clocks, neighbours, a process's luck with memory) and what it does to one. A change is what remains
of the difference of two runs' levels beyond both. The common part is one random event for the whole campaign, with
few degrees of freedom, so its error is spent once; the benchmarks' own parts are many, so theirs is divided by the
number of comparisons (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neverslower.stats import Floats, student_quantile
from neverslower.verdict import STANDARD, Code, Interval, Reason, ReasonCode, Thresholds, Verdict, decide

Levels = Mapping[object, Sequence[float]]
"""Log median seconds of each benchmark in each pass."""


@dataclass(frozen=True)
class PassSpread:
    """How far passes of one run scatter, in log time: variances with their degrees of freedom.

    `common` is the variance of a pass's effect on all benchmarks together, `own` that on each one besides.
    """

    common: float
    common_freedom: int
    own: float
    own_freedom: int

    @classmethod
    def of(cls, levels: Levels) -> PassSpread:
        """The spread of a run, from a two-way analysis of variance of benchmarks with the full number of passes."""
        passes = max((len(one) for one in levels.values()), default=0)
        table = np.array([one for one in levels.values() if len(one) == passes])
        if passes < 2:
            return cls(0.0, 0, 0.0, 0)
        rows = len(table)
        pass_means = table.mean(axis=0)
        common = float(pass_means.var(ddof=1))
        residual = table - pass_means - table.mean(axis=1, keepdims=True) + table.mean()
        own_freedom = (rows - 1) * (passes - 1)
        own = float((residual**2).sum() / own_freedom) if own_freedom else 0.0
        return cls(common, passes - 1, own, own_freedom)

    def pooled(self, other: PassSpread) -> PassSpread:
        """Both runs' spreads together, weighted by their degrees of freedom."""
        return PassSpread(
            _pool(self.common, self.common_freedom, other.common, other.common_freedom),
            self.common_freedom + other.common_freedom,
            _pool(self.own, self.own_freedom, other.own, other.own_freedom),
            self.own_freedom + other.own_freedom,
        )

    def half_width(self, replicates: float, common_error: float, own_error: float) -> float:
        """How far a difference of levels may stray by chance; `replicates` is 1/passes then + 1/passes now."""
        width = student_quantile(1 - common_error, self.common_freedom) * math.sqrt(self.common * replicates)
        if self.own_freedom:
            width += student_quantile(1 - own_error, self.own_freedom) * math.sqrt(self.own * replicates)
        return width


def _pool(one: float, one_freedom: int, other: float, other_freedom: int) -> float:
    freedom = one_freedom + other_freedom
    return (one * one_freedom + other * other_freedom) / freedom if freedom else 0.0


def log_median(seconds: Floats) -> float:
    """The level of one pass: the log of its median time."""
    return math.log(float(np.median(seconds)))


def judge_change(
    stored: Sequence[float],
    now: Sequence[float],
    spread: PassSpread,
    comparisons: int,
    thresholds: Thresholds = STANDARD,
) -> Verdict:
    """The verdict of one channel count now against then, from its levels in each pass; the ratio is now over then.

    `spread` is pooled over both runs, `comparisons` the number of channel counts judged together.
    """
    if not spread.common_freedom or min(len(stored), len(now)) < 1:
        text = "a change needs at least two passes in one of the runs; measure with more"
        return Verdict(Code.UNDECIDED, Reason(ReasonCode.TOO_NOISY, text))
    shift = float(np.mean(now) - np.mean(stored))
    replicates = 1 / len(stored) + 1 / len(now)
    strict, loose = thresholds.family_error / 2, thresholds.miss_error / 2
    below = spread.half_width(replicates, strict, strict / max(1, comparisons))
    above = spread.half_width(replicates, loose, loose)
    ratio = Interval(*(math.exp(value) for value in (shift, shift - below, shift + above)))
    code, reason = decide(ratio, thresholds)
    if code is Code.UNDECIDED:
        scatter = math.expm1(math.sqrt(spread.common + spread.own))
        reason = Reason(reason.code, f"{reason.text}; passes on this device scatter by {scatter:.1%}")
    return Verdict(
        code, reason, ratio, noise_floor=math.expm1(above), mde=(1 + thresholds.tolerance) * math.exp(below) - 1
    )
