"""The bench that replays recorded passes as a campaign: what is planted is found, and judged by passes not held out."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bench.detection import Told, by_rule, campaigns, planted, table
from bench.rules import u_test
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


def test_every_rule_finds_what_is_a_third_slower_and_each_says_what_it_took() -> None:
    """Noise of 0.3 %: the U test alone calls what is 1 % slower so."""
    found = list(campaigns(recorded(layers=12, arms=2, passes=18), 1, 0, (1.0, 1.3)))
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in by_rule(found)][2:]
    slower = sum(one.ratio == 1.3 for one in found[0])
    assert len(rows) == 6
    assert all(row[2].startswith(f"{slower} of {slower} ") for row in rows)
    assert all(row[1].startswith("0 of ") for row in rows if "U test" not in row[0])
    assert [row[3] for row in rows[1:]] == ["128", "16", "16", "9", "80"]
    assert float(rows[0][4]) > float(rows[2][4]) > float(rows[4][4]) >= 0


def test_the_u_test_is_that_of_scipy() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for _ in range(60):
        sides = np.exp(rng.normal(0, 1, (2, 9)) + np.array([[0], [0.8]]))
        test = scipy_stats.mannwhitneyu(*sides, method="exact")
        higher = np.median(sides[1]) > np.median(sides[0]) and test.statistic < 40.5
        assert u_test(sides) == (test.pvalue <= 0.05 and higher)
