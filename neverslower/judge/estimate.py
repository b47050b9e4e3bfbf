"""The judge of what is measured for planning: one process is enough for an estimate, and no verdict comes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from neverslower.evidence.observation import PairedPass
from neverslower.judge.verdict import (
    STANDARD,
    UNPROVED,
    Code,
    Interval,
    Reason,
    ReasonCode,
    Thresholds,
    Verdict,
    block_log_ratios,
    invalid,
)

_WHY = Reason(ReasonCode.ESTIMATED, "an estimate by one process, for planning: it proves nothing")


class EstimateJudge:
    """Estimates the ratio from one pass; its only verdicts are UNDECIDED, and INVALID of samples that are none."""

    most_passes = 1

    def __init__(self, thresholds: Thresholds = STANDARD) -> None:
        self._thresholds = thresholds

    def fewest_passes(self, comparisons: int) -> int:
        """Return 1: the ratio never has bounds."""
        return 1

    def __call__(self, passes: Sequence[PairedPass], comparisons: int) -> Verdict:
        """Return UNDECIDED with the median ratio of all blocks, without bounds."""
        if verdict := invalid(passes, self._thresholds.most_discarded):
            return verdict
        logs = np.concatenate([block_log_ratios(pass_.seconds) for pass_ in passes])
        return Verdict(Code.UNDECIDED, _WHY, Interval(math.exp(float(np.median(logs))), 1 / UNPROVED, UNPROVED))

    def limits(self, passes: Sequence[PairedPass], comparisons: int) -> tuple[float | None, float | None]:
        """Return nothing: one process shows neither a noise floor nor what could be proved."""
        return None, None

    def enough(self, passes: Sequence[PairedPass], comparisons: int) -> bool:
        """Return True from the first pass on."""
        return bool(passes)

    def confirmed(self, passes: Sequence[PairedPass], later: PairedPass, comparisons: int) -> Verdict:
        """Return the estimate of all passes: nothing is ever proved slower that could be confirmed."""
        return self([*passes, later], comparisons)
