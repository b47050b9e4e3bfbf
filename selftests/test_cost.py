"""What a campaign of many arms costs in Python itself: three times the channel counts, three times the calls."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from neverslower.campaign.campaign import Campaign
from neverslower.files.journal import Journal
from neverslower.maps.map_file import document_of
from neverslower.maps.mapping import measure, settings_of
from neverslower.problem.networks import Layer
from selftests import in_process
from selftests.support import problem, scripted

LAYERS, FEW, MANY = 12, 8, 24
RULES: list[dict[str, Any]] = [{"seconds": 1e-5}, {"when": "out_channels % 8 != 0", "times": 1.6}]


def calls(folder: Path, arms: int, budget: float | None) -> int:
    """The calls of functions, Python's own and built-in ones, that a map of so many arms a layer takes.

    An item of a generator counts too, so a loop over all that was measured shows where it is made for each arm.
    """
    folder.mkdir()
    shape: dict[str, Any] = {"in_channels": 1, "width": 1, "kernel": (1, 1), "padding": (0, 0, 0, 0)}
    layers = [Layer("net", n, f"l{n}", problem(arms, height=2 + n, **shape)) for n in range(LAYERS)]
    journal = Journal(folder / "map.jsonl")
    spec = scripted(folder, rules=RULES)
    campaign = Campaign({"scripted": spec}, settings_of(LAYERS, budget), journal, start=in_process.start)
    count = 0

    def counted(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        document = document_of(measure(campaign, "scripted", layers))
    finally:
        sys.setprofile(None)
        journal.close()
    assert document["decided"] == LAYERS * (arms - 1)
    return count


@pytest.mark.parametrize("budget", [None, 1e6], ids=["unlimited", "budgeted"])
def test_three_times_the_arms_take_three_times_the_calls(tmp_path: Path, budget: float | None) -> None:
    few, many = calls(tmp_path / "few", FEW, budget), calls(tmp_path / "many", MANY, budget)
    assert many < 1.1 * MANY / FEW * few
