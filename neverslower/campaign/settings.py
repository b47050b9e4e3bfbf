"""Says how a campaign measures, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neverslower.judge.sequential import PRESETS, STANDARD_PRESET, SequentialJudge
from neverslower.judge.verdict import STANDARD, Thresholds


@dataclass(frozen=True)
class Settings:
    """Says how a campaign measures: see sequential.Preset for when a comparison has been measured enough.

    Every comparison gets `passes` at the least, of `blocks` blocks each. Budgets are in seconds, None for as long as it
    takes; those for tuning and for explaining are beside the one for measuring. With `explain_all` every comparison is
    explained, where its backend can, and not what is slower alone. A `whole` campaign begins all that half of its time
    lasts for, and saves on passes, where others begin only what they can decide: a map with gaps is of little use.
    """

    preset: str = STANDARD_PRESET.name
    passes: int = 1
    blocks: int = STANDARD_PRESET.blocks_at_once
    seed: int = 0
    time_budget: float | None = None
    tuning_budget: float | None = None
    explain_budget: float | None = None
    explain_all: bool = False
    whole: bool = False

    def judge(self, thresholds: Thresholds = STANDARD) -> SequentialJudge:
        """Return the judge that the preset and the blocks of a pass amount to."""
        return SequentialJudge(thresholds, replace(PRESETS[self.preset], blocks_at_once=self.blocks))
