"""The judge that the sequential one is compared with: a test that knows its number of samples before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench import signed_rank
from neverslower.evidence.observation import PairedPass
from neverslower.judge import stats
from neverslower.judge.verdict import (
    STANDARD,
    Code,
    Interval,
    Reason,
    ReasonCode,
    Thresholds,
    Verdict,
    bad_samples,
    block_log_ratios,
    decide,
    noise_floor,
)


@dataclass(frozen=True)
class FixedSizeJudge:
    """Judges once, after all samples are in, by the signed ranks of the blocks' log ratios.

    A block is reference and candidate in mirrored order, so drift that is linear over a block cancels, and swapping
    the two negates its log ratio: under equality the log ratios are symmetric about 0, and about log r when the
    candidate takes r times as long. The signed-rank interval needs no more than that: no normality, no variance.
    A false SLOWER in any of m comparisons has a chance of at most `family_error` since each is made at
    `family_error / m` (Bonferroni).
    """

    thresholds: Thresholds = STANDARD

    def __call__(self, passes: Sequence[PairedPass], comparisons: int) -> Verdict:
        """Return the verdict of all passes together, as one of so many comparisons."""
        if problem := bad_samples(passes, self.thresholds.most_discarded):
            return Verdict(Code.INVALID, Reason(ReasonCode.BAD_SAMPLES, problem))
        ratios = np.concatenate([block_log_ratios(pass_.seconds) for pass_ in passes])
        error = self.thresholds.family_error / max(1, comparisons)
        walsh = stats.walsh_averages(ratios)
        strict = signed_rank.interval(walsh, len(ratios), error)
        loose = signed_rank.interval(walsh, len(ratios), self.thresholds.miss_error)
        if strict is None or loose is None:
            hardest = min(error, self.thresholds.miss_error)
            enough = signed_rank.smallest_sample(hardest)
            text = f"{len(ratios)} blocks can't reach an error of {hardest:.1g}; {enough} can"
            return Verdict(Code.UNDECIDED, Reason(ReasonCode.TOO_NOISY, text))
        # The estimate of a candidate that is `mde` slower has an even chance of lying high enough to be proved.
        mde = (1 + self.thresholds.tolerance) * math.exp(float(np.median(walsh)) - strict.low) - 1
        ratio = Interval(*(math.exp(value) for value in (np.median(walsh), strict.low, loose.high)))
        code, reason = decide(ratio, self.thresholds)
        return Verdict(code, reason, ratio, noise_floor(passes, error), mde)
