"""Grids over (input, output) channels: which pairs, measured once on the scripted backend, stored, read, refused."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace

import pytest

from neverslower import cli
from neverslower.campaign.findings import Findings
from neverslower.cli_shared import StepsOnStderr
from neverslower.errors import NeverSlowerError
from neverslower.judge.estimate import EstimateJudge
from neverslower.judge.verdict import Code
from neverslower.maps import grid_file
from neverslower.maps.grid import axis, comparisons, pairs_of, problem_at
from neverslower.problem.convolution import DType, Layout, parse_descriptor
from neverslower.problem.networks import Layer, network
from selftests.support import fake_passes, known, problem, scripted

pytestmark = pytest.mark.usefixtures("workers_here")

SHAPE = "mb1_ic32oc48_ih6kh3ph1"
LAYER = Layer("", None, SHAPE, parse_descriptor(SHAPE))
RULES = [
    {"seconds": 1e-5},
    {"when": "out_channels % 16 != 0", "times": 2.0},
    {"when": "in_channels <= 16", "times": 0.5},
]


def grid_of(tmp_path, *arguments, shape=SHAPE, rules=RULES, journal="--journal", **script):
    """Run the command on a script; return its exit code and the file."""
    path = tmp_path / "g.json.xz"
    spec = f"scripted:{scripted(tmp_path, 30.0, rules=rules, noise=0.002, **script).argument}"
    words = ["map", "--grid", str(path), "--backend", spec, "--problem", shape, journal, str(tmp_path / "g.jsonl")]
    return cli.main([*words, *arguments]), path


@pytest.mark.parametrize(
    ("channels", "step", "points", "unit", "expected"),
    [
        (64, 16, 16, 1, [16, 32, 48, 64]),
        (24, 16, 16, 1, [8, 16, 24]),
        (16, 16, 16, 1, [8, 16]),
        (5, 16, 16, 1, [5]),
        (100, 16, 16, 1, [16, 32, 48, 64, 80, 96, 100]),
        (2048, 16, 16, 1, list(range(128, 2049, 128))),
        (1000, 16, 4, 1, [256, 512, 768, 1000]),
        (96, 16, 16, 32, [32, 64, 96]),
    ],
)
def test_an_axis_ends_at_the_unpruned_count_and_keeps_to_its_points(channels, step, points, unit, expected):
    assert axis(channels, step, points, unit) == expected


def test_a_layer_that_reads_an_image_or_is_depthwise_has_one_axis():
    image = parse_descriptor("mb1_ic3oc32_ih6kh3ph1")
    assert pairs_of(image) == [(3, 8), (3, 16), (3, 24), (3, 32)]
    depthwise = parse_descriptor("mb1_g32ic32oc32_ih6kh3ph1")
    assert pairs_of(depthwise) == [(8, 8), (16, 16), (24, 24), (32, 32)]
    assert problem_at(depthwise, (8, 8)).groups == 8
    assert len(pairs_of(parse_descriptor(SHAPE))) == 4 * 6


def test_large_networks_keep_to_the_points_of_an_axis():
    for layer in (*network("resnet50"), *network("mobilenet_v2")):
        assert 1 <= len(pairs_of(layer.problem)) <= 256
        asked = comparisons("scripted", {layer: pairs_of(layer.problem)})
        assert len({comparison.identity for comparison in asked}) == len(asked)


def test_an_estimate_is_never_a_verdict():
    judge = EstimateJudge()
    verdict = judge(fake_passes(2.0, number=1), 1)
    assert (verdict.code, str(verdict.reason.code)) == (Code.UNDECIDED, "estimated")
    assert known(verdict.ratio).estimate == pytest.approx(2.0, rel=0.02)
    assert "[" not in str(verdict.ratio)
    assert [judge.enough(passes, 1000) for passes in ([], fake_passes(number=1))] == [False, True]
    assert judge(fake_passes(number=1, blocks=0), 1).code is Code.INVALID


def test_a_grid_holds_each_pair_with_its_samples_and_no_verdict(tmp_path, capsys):
    code, path = grid_of(tmp_path)
    assert code == 0
    assert "23 of 23 pairs of (input, output) channels of 1 layer" in capsys.readouterr().out
    found = grid_file.load(path).of(LAYER)
    assert len(found.costs) == 24
    assert found.cost == pytest.approx(1e-5, rel=0.02)
    assert found.costs[32, 40] == pytest.approx(2e-5, rel=0.03)
    assert found.costs[16, 32] == pytest.approx(0.5e-5, rel=0.03)
    document = json.loads(lzma.decompress(path.read_bytes()))
    assert (document["step"], document["points_an_axis"], document["layers"][0]["steps"]) == (16, 16, [8, 8])
    (rows,) = {tuple(map(len, passes)) for passes in document["layers"][0]["passes"]}
    assert rows == (4,)  # One pass of each pair: [process, calls, nanoseconds of both sides].
    assert not {"verdict", "ratio"} & set(document["layers"][0])


@pytest.mark.parametrize("rules", [[{"seconds": 1e-5}], [{"instructions": 1000}]])
def test_a_layer_that_has_one_pair_alone_is_measured_as_it_is(tmp_path, capsys, rules):
    shape = "mb1_ic3oc8_ih6kh3ph1"
    evidence = {"evidence": "instructions"} if "instructions" in rules[0] else {}
    code, path = grid_of(tmp_path, shape=shape, rules=rules, **evidence)
    assert code == 0, capsys.readouterr().err
    (found,) = grid_file.load(path).layers.values()
    assert found.costs == {(3, 8): found.cost}
    assert found.cost == pytest.approx(next(iter(rules[0].values())), rel=0.02)


def test_a_grid_that_was_interrupted_goes_on_and_holds_what_it_has(tmp_path, capsys):
    assert grid_of(tmp_path)[0] == 0
    journal = tmp_path / "g.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines()
    measured = [number for number, line in enumerate(lines) if '"measured"' in line]
    journal.write_text("\n".join(lines[: measured[9]]) + "\n", encoding="utf-8")
    code, path = grid_of(tmp_path, journal="--resume", rules=[{"seconds": 3e-5}])
    assert code == 0
    events = [json.loads(line)["event"] for line in journal.read_text(encoding="utf-8").splitlines()]
    assert events.count("measured") == 9 + 14
    assert len(grid_file.load(path).of(LAYER).costs) == 24


def test_what_was_measured_until_an_interruption_is_in_the_file(tmp_path, capsys, monkeypatch):
    def interrupted(steps, phase, done, total, seconds_left):
        if phase.endswith("measure, pass 1") and done >= 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(StepsOnStderr, "__call__", interrupted)
        code, path = grid_of(tmp_path)
    assert code == 2
    assert f"go on with the same command and --resume {tmp_path / 'g.jsonl'}" in capsys.readouterr().err
    part = grid_file.load(path)
    assert part.ended_early == "interrupted"
    assert len(part.of(LAYER).costs) == 1 + 8
    code, path = grid_of(tmp_path, journal="--resume")
    assert code == 0
    assert len(grid_file.load(path).of(LAYER).costs) == 24


def test_a_grid_whose_time_ended_says_so_and_how_to_go_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Findings, "left_out", 3)
    code, path = grid_of(tmp_path)
    assert code == 0
    told = capsys.readouterr().out
    assert f"the time budget ended: {path} holds what was measured until then" in told
    assert f"--resume {tmp_path / 'g.jsonl'}" in told
    part = grid_file.load(path)
    assert part.ended_early == "the time budget ended"
    assert (part.measured, part.asked) == (23, 23)
    with pytest.raises(NeverSlowerError, match=r"\(the time budget ended\): measure the rest with .* --resume"):
        part.of(replace(LAYER, problem=problem(99)))


def test_a_grid_keeps_to_a_time_budget_that_is_long_enough(tmp_path):
    code, path = grid_of(tmp_path, "--time-budget", "10m")
    assert code == 0
    assert len(grid_file.load(path).of(LAYER).costs) == 24


def test_a_grid_answers_for_its_own_format_alone(tmp_path):
    _, path = grid_of(tmp_path, "--points", "2")
    grid = grid_file.load(path)
    layer = Layer("net", 0, "first", parse_descriptor(SHAPE))
    with pytest.raises(NeverSlowerError, match=r"net\.L0 with dtype float32, and float16 is asked for"):
        grid.of(layer.with_format(DType.FLOAT16, layer.problem.layout))
    with pytest.raises(
        NeverSlowerError, match="with dtype float32 and layout NCHW, and float16 and NHWC are asked for"
    ):
        grid.of(layer.with_format(DType.FLOAT16, Layout.NHWC))
    with pytest.raises(NeverSlowerError, match="with batch 1, and 8 is asked for"):
        grid.of(replace(layer, problem=replace(layer.problem, batch=8)))
    with pytest.raises(NeverSlowerError, match=r"does not have net\.L0"):
        grid.of(replace(layer, problem=problem(99)))


def test_grids_join_by_their_ratios(tmp_path):
    _, path = grid_of(tmp_path, "--points", "2")
    coarse = grid_file.load(path)
    slower_clock = [{"seconds": 3e-5}, *RULES[1:]]
    (tmp_path / "again").mkdir()
    _, path = grid_of(tmp_path / "again", rules=slower_clock)
    joined = coarse.extended(grid_file.load(path))
    (layer,) = joined.layers.values()
    assert len(layer.costs) == 24
    assert layer.costs[32, 40] == pytest.approx(2e-5, rel=0.03)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--step", "0"], "--step 0: from 1 to"),
        (["--points", "1"], "--points 1: from 2 to"),
    ],
)
def test_a_grid_of_no_points_is_one_clear_line(tmp_path, capsys, arguments, why):
    assert grid_of(tmp_path, *arguments)[0] == 2
    assert why in capsys.readouterr().err


def test_a_step_has_no_place_where_every_count_is_mapped(tmp_path, capsys):
    assert cli.main(["map", str(tmp_path / "m.json.xz"), "--backend", "scripted:s.json", "--points", "4"]) == 2
    assert "--points has no place here: without --grid every channel count is measured" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", [b"", b"{}", lzma.compress(b"{}"), lzma.compress(b'{"format": "never-slower map"}')]
)
def test_a_file_that_is_no_grid_is_named(tmp_path, content):
    path = tmp_path / "x.json.xz"
    path.write_bytes(content)
    with pytest.raises(NeverSlowerError, match=r"x\.json\.xz"):
        grid_file.load(path)
