"""Maps of few timings: what is timed has verdicts, what is inferred has none, and an interrupted map goes on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neverslower import cli
from neverslower.campaign import resume
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings
from neverslower.campaign.library import Library
from neverslower.errors import NeverSlowerError
from neverslower.files.journal import Journal
from neverslower.judge.verdict import Code
from neverslower.maps import cases
from neverslower.maps.advice import Advice
from neverslower.maps.choosing import Chooser
from neverslower.maps.map_file import document_of, load, save
from neverslower.maps.mapping import Mapped, measure, settings_of
from neverslower.maps.shape import Name, shape_of
from neverslower.page.reading import account_of
from neverslower.problem.compared import Compared
from neverslower.problem.networks import Layer
from neverslower.report.advice import advice_lines
from neverslower.report.mapped import mapped_lines
from selftests import in_process
from selftests.support import problem, scripted

GEMM = "gemm grid={}x1x1 block=128x1x1"
TILES = [
    {"when": f"out_channels > {16 * tile}", "seconds": (1 + tile) * 1e-5, "steps": [GEMM.format(1 + tile)]}
    for tile in range(4)
]
LAYER = Layer("net", 0, "first", problem(out_channels=64))
CRASH = {"when": "out_channels == 16", "fault": "crash"}


def campaign(folder: Path, journal: Journal | None = None, **more: Any) -> Campaign:
    """A campaign that times few counts of a staircase of four treads, on a script."""
    script = {"rules": TILES, "noise": 0.002} | more.pop("script", {})
    spec = scripted(folder, 30.0, **script)
    return Campaign({"scripted": spec}, settings_of(1), journal, start=in_process.start, choose=Chooser(), **more)


def mapped_of(folder: Path, **more: Any) -> Mapped:
    return measure(campaign(folder, **more), "scripted", [LAYER])


@pytest.mark.usefixtures("workers_here")
def test_a_measured_count_has_a_verdict_and_an_inferred_one_has_none(tmp_path: Path) -> None:
    mapped = mapped_of(tmp_path)
    document = document_of(mapped)
    (layer,) = document["layers"]
    measured, inferred = layer["counts"], layer["inferred"]["counts"]
    assert sorted([*measured, *inferred]) == list(range(1, 64))
    assert len(measured) < 20
    assert len(layer["verdict"]) == len(measured) == document["points"] == len(mapped.findings.results)
    assert "verdict" not in layer["inferred"]
    assert mapped.findings.wanted == Counter(scripted=len(measured))
    assert not mapped.findings.lost
    codes = dict(zip(measured, layer["verdict"], strict=True))
    assert {codes[count] for count in measured if count <= 48} == {"FASTER"}
    found = dict(zip(inferred, layer["inferred"]["costs"], strict=True))
    assert all(cost == pytest.approx(math.ceil(count / 16) * 1e-5, rel=0.02) for count, cost in found.items())


@pytest.mark.usefixtures("workers_here")
def test_the_map_keeps_both_apart_and_its_curve_has_the_shape_of_all(tmp_path: Path) -> None:
    mapped, path = mapped_of(tmp_path), tmp_path / "map.json.xz"
    save(path, document_of(mapped))
    (staircase,) = load(path).staircases
    counts, costs = staircase.curve
    assert counts == list(range(1, 65))
    assert set(staircase.counts) & set(staircase.inferred) == set()
    assert len(staircase.counts) == len(staircase.verdicts) + 1
    shape = shape_of(counts, costs)
    assert (shape.name, shape.edges) == (Name.STAIRCASE, (16, 32, 48, 64))
    assert f"of {len(staircase.counts)} channel counts and {len(staircase.inferred)} inferred ones" in next(
        advice_lines(Advice(staircase, (), ()))
    )
    assert cases.inferred(path) == len(staircase.inferred) == 64 - len(staircase.counts)
    assert {case.comparison.candidate.out_channels for case in cases.load(path)[1]} <= set(staircase.counts)
    account = account_of([path])
    assert {case.channels for case in account.cases} == set(staircase.counts[:-1])
    assert f"{len(staircase.inferred)} other channel counts not timed" in " ".join(account.sources[0].remarks)
    said = "\n".join(mapped_lines(path, mapped))
    assert f"{len(staircase.verdicts)} channel counts in" in said
    assert f"{len(staircase.inferred)} other counts were not timed" in said


@pytest.mark.usefixtures("workers_here")
def test_a_count_that_is_timed_and_inferred_is_a_damaged_map(tmp_path: Path) -> None:
    document, path = document_of(mapped_of(tmp_path)), tmp_path / "map.json.xz"
    (layer,) = document["layers"]
    for count in (layer["counts"][0], 0, 65):
        layer["inferred"]["counts"][0] = count
        save(path, document)
        with pytest.raises(NeverSlowerError, match="both timed and inferred, or that it can't be pruned to"):
            load(path)


@pytest.mark.usefixtures("workers_here")
def test_an_interrupted_map_goes_on_and_times_nothing_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    passes = 0

    def progress(phase: str, done: int, total: int, left: float | None) -> None:
        nonlocal passes
        passes += "pass 2" in phase and done == total
        if passes:
            raise KeyboardInterrupt

    journal = Journal(path)
    first = mapped_of(tmp_path, journal=journal, progress=progress)
    journal.close()
    assert first.ended_early == "interrupted"
    assert not first.inferred
    before = _measured(path)
    journal = Journal(path)
    again = mapped_of(tmp_path, journal=journal, recorded=resume.load(path))
    journal.close()
    assert again.inferred
    every = _measured(path)
    assert before
    assert every[: len(before)] == before
    assert max(Counter(every).values()) == 1
    whole = mapped_of(tmp_path)
    assert {one.comparison.identity for one in whole.findings.results.values()} == set(again.findings.results)


def _measured(path: Path) -> list[tuple[str, int]]:
    recorded = resume.load(path)
    return [(identity[2], number) for identity, number in recorded.passes]


@pytest.mark.usefixtures("workers_here")
def test_where_the_time_ends_before_a_curve_is_complete_nothing_is_inferred(tmp_path: Path) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 0.01
        return now[0]

    made = campaign(tmp_path)
    short = Campaign(made.specs, settings_of(1, 1.0), start=in_process.start, clock=clock, choose=Chooser())
    mapped = measure(short, "scripted", [LAYER])
    gaps = [one for one in mapped.findings.results.values() if not one.passes]
    assert gaps
    assert not mapped.inferred
    assert mapped.unknown == 63 - len(mapped.findings.results) > 0
    assert f"{mapped.unknown} counts are neither timed nor inferred" in "\n".join(mapped_lines(tmp_path, mapped))


@pytest.mark.usefixtures("workers_here")
def test_a_count_that_was_chosen_too_late_to_be_timed_has_no_verdict(tmp_path: Path) -> None:
    now = [0.0]

    class Late(Chooser):
        """Chooses so late after the first pass that the time ends."""

        def __call__(self, library: Library, examined: Sequence[Compared]) -> list[Compared]:
            chosen = super().__call__(library, examined)
            now[0] += 1000.0 * bool(library.samples)
            return chosen

    made = campaign(tmp_path, script={"rules": [tile | {"steps": [GEMM.format(1)]} for tile in TILES]})
    late = Late()
    short = Campaign(made.specs, settings_of(1, 60.0), start=in_process.start, clock=lambda: now[0], choose=late)
    mapped = measure(short, "scripted", [LAYER])
    results = mapped.findings.results
    assert 0 < len(results) == mapped.findings.wanted["scripted"] == 63 - mapped.unknown
    assert all(one.passes for one in results.values())
    assert not mapped.unmeasured()
    nothing = replace(mapped, findings=Findings(), unknown=63)
    assert nothing.unmeasured() == {LAYER.name: "the time budget ended before a count of it was timed"}
    assert f"{len(results)} channel counts in" in "\n".join(mapped_lines(tmp_path, mapped))


@pytest.mark.processes
def test_a_count_that_crashes_is_no_part_of_the_curve(tmp_path: Path) -> None:
    made = campaign(tmp_path, script={"rules": [*TILES, CRASH]})
    mapped = measure(Campaign(made.specs, settings_of(1), choose=Chooser()), "scripted", [LAYER])
    (layer,) = document_of(mapped)["layers"]
    assert list(layer["refusals"]) == ["16"]
    assert 16 not in [*layer["counts"], *layer["inferred"]["counts"]]
    assert mapped.findings.results[mapped.backend, LAYER.problem.key, LAYER.problem.prune(48).key].verdict.code is (
        Code.CRASHED
    )


@pytest.mark.usefixtures("workers_here")
def test_instructions_are_counted_at_every_count(tmp_path: Path) -> None:
    script = {"evidence": "instructions", "rules": [{"instructions": 1000, "steps": [GEMM.format(1)]}]}
    mapped = mapped_of(tmp_path, script=script)
    assert len(mapped.findings.results) == 63
    assert not mapped.inferred


@pytest.mark.processes
def test_the_command_is_that_of_a_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, output = scripted(tmp_path, rules=TILES).argument, tmp_path / "map.json.xz"
    words = ["map", str(output), "--backend", f"scripted:{spec}", "--problem", LAYER.problem.descriptor, "--adaptive"]
    assert cli.main([*words, "--journal", str(tmp_path / "map.jsonl")]) == 0
    assert "other counts were not timed" in capsys.readouterr().out
    (staircase,) = load(output).staircases
    assert len(staircase.counts) + len(staircase.inferred) == 64
    assert np.all(staircase.costs > 0)
    assert cli.main([*words, "--grid"]) == 2
    assert "--adaptive has no place here: a grid times every pair" in capsys.readouterr().err
