"""The bench that replays recorded passes as a campaign: what is planted is found, and judged by passes not held out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bench.as_run import Told, campaigns, planted, table
from neverslower.campaign.findings import Identity
from neverslower.evidence.observation import PairedPass
from neverslower.judge.joint import log_ratio
from neverslower.judge.verdict import Code
from selftests.support import fake_passes


def recorded(layers: int = 24, arms: int = 3, passes: int = 12) -> dict[Identity, list[PairedPass]]:
    """Comparisons whose long-run ratio is anything between 0.8 and 1.25."""
    found: dict[Identity, list[PairedPass]] = {}
    for number in range(layers * arms):
        ratio = math.exp(np.random.default_rng(number).uniform(-0.2, 0.2))
        taken = fake_passes(ratio, 0.003, number, passes)
        key = ("fake", f"layer {number % layers}", f"arm {number}")
        found[key] = [replace(one, started=1.0 + process) for process, one in enumerate(taken)]
    return found


def test_what_is_planted_is_what_counts() -> None:
    told = [one for each in campaigns(recorded(), 1, 0, (1.0, 1.3)) for one in each]
    assert {one.ratio for one in told} == {1.0, 1.3}
    assert all((one.code is Code.SLOWER) == (one.ratio == 1.3) for one in told)
    assert max(one.passes for one in told) < 6


def test_a_ratio_is_planted_by_what_is_held_out() -> None:
    passes = fake_passes(1.7, 1e-4, number=4)
    moved = planted(passes[:2], passes[2:], 1.05)
    assert [math.exp(log_ratio(one)) for one in moved] == pytest.approx([1.05, 1.05], rel=1e-3)
    assert np.array_equal(moved[0].reference, passes[0].reference)


def test_the_table_counts_by_true_ratio() -> None:
    found = [[Told(1.0, Code.SAME, 3), Told(1.3, Code.SLOWER, 2)], [Told(1.0, Code.SLOWER, 3)]]
    rows = list(table(found))
    assert rows[2].startswith("| 1 | 1 of 2 ")
    assert rows[3].startswith("| 1.3 | 1 of 1 (≥ 5.0%) | 0 of 1")
    assert rows[-1].startswith("campaigns with any SLOWER of what is slower by 1 % at most: 1 of 2")
