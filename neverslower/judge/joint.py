"""Judges a campaign by two judges, each with its share of the errors: what either of them proves counts.

The pooled judge proves what is clear in two or three processes, and needs the scatter of many layers. The sequential
judge proves what lies near the lines, of any number of layers, and takes more processes. A false verdict of the run is
one of either, so their chances add up: each has half of `family_error` and of `miss_error` (Bonferroni). Whether both
judge is known before anything is measured; where only one can, it has all of the error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from neverslower.evidence.observation import PairedPass
from neverslower.judge import stats
from neverslower.judge.pooled import FEWEST, PooledJudge, Processes, Scatter
from neverslower.judge.verdict import Code, Thresholds, Verdict, bad_samples, block_log_ratios

K = TypeVar("K", bound=Hashable)
SHARE = 0.5
"""The share of each error that one of two judges has."""


@dataclass(frozen=True)
class Pooling:
    """The pooled judge of one backend's comparisons, with the stored scatter of its device if there is any."""

    judge: PooledJudge
    stored: Scatter | None = None

    def verdicts(
        self, passes: Mapping[K, Sequence[PairedPass]], layer_of: Callable[[K], Hashable], comparisons: int
    ) -> dict[K, Verdict]:
        """Return the verdicts that all passes so far prove, by comparison; `comparisons` is how many the run makes.

        SLOWER counts where the process that measured last shows it by itself: it measured after those that made the
        suspicion.
        """
        most = self.judge.thresholds.most_discarded
        judged = {key: taken for key, taken in passes.items() if not bad_samples(taken, most)}
        if not judged:
            return {}
        verdicts = self.judge(processes_of(judged, layer_of), comparisons, self.stored)
        return {
            key: verdict
            for (key, taken), verdict in zip(judged.items(), verdicts, strict=True)
            if verdict.code is not Code.UNDECIDED and (verdict.code is not Code.SLOWER or self._shown(taken[-1]))
        }

    def _shown(self, last: PairedPass) -> bool:
        return log_ratio(last) > math.log1p(self.judge.thresholds.tolerance)


def halved(thresholds: Thresholds) -> Thresholds:
    """Return the thresholds of one of two judges that share a run's errors."""
    errors = {"family_error": thresholds.family_error * SHARE, "miss_error": thresholds.miss_error * SHARE}
    return replace(thresholds, **errors)


def can_pool(layers: int, stored: Scatter | None) -> bool:
    """Return whether so many layers, and the stored ones, are enough for the pooled judge to prove anything."""
    return layers + (len(stored.layers) if stored else 0) > FEWEST


def processes_of(passes: Mapping[K, Sequence[PairedPass]], layer_of: Callable[[K], Hashable]) -> Processes:
    """Return the log ratio that each process showed of each comparison; a pass of which no block was kept has none."""
    starts = sorted({_process(pass_) for taken in passes.values() for pass_ in taken})
    column = {start: place for place, start in enumerate(starts)}
    log_ratios = np.full((len(passes), len(starts)), np.nan)
    for row, taken in enumerate(passes.values()):
        for pass_ in taken:
            if len(pass_.seconds):
                log_ratios[row, column[_process(pass_)]] = log_ratio(pass_)
    return Processes(log_ratios, [layer_of(key) for key in passes])


def _process(pass_: PairedPass) -> float:
    """Return what tells the process of a pass from others; those that nobody recorded count as one."""
    return pass_.started or 0.0


def log_ratio(pass_: PairedPass) -> float:
    """Return the Hodges–Lehmann centre of a pass's log ratios, candidate over reference; NaN without a block."""
    ratios = block_log_ratios(pass_.seconds)
    return float(np.median(stats.walsh_averages(ratios))) if len(ratios) else math.nan
