"""Advice on pairs of (input, output) channels of one layer: drawn from a grid, measured, stored, asserted again."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from neverslower import cli
from neverslower.errors import AdviceError, NeverSlowerError
from neverslower.judge.verdict import STANDARD, Code, Interval, Reason, ReasonCode, Verdict
from neverslower.maps import advice_file
from neverslower.maps.grid import Grid, LayerGrid, pairs_of, unpruned_pair
from neverslower.maps.pairs import advised_pairs, larger, neighbours, verified
from neverslower.page import reading
from neverslower.problem.convolution import Side, parse_descriptor
from neverslower.problem.networks import Layer
from neverslower.report.pair_advice import pair_lines
from selftests.support import scripted
from selftests.width_models import PRINT

SHAPE = "mb1_ic32oc32_ih6kh3ph1"
PROBLEM = parse_descriptor(SHAPE)
LAYER = Layer("", None, SHAPE, PROBLEM)
WHOLE = unpruned_pair(PROBLEM)
RULES: list[dict[str, Any]] = [
    {"seconds": 1e-5},
    {"when": "out_channels <= 16", "times": 0.6},
    {"when": "in_channels <= 16", "times": 0.7},
    {"when": "out_channels % 16 != 0 or in_channels % 16 != 0", "times": 2.0},
]


@pytest.mark.parametrize("seed", range(8))
def test_each_advised_pair_is_faster_than_every_larger_one_and_no_other_pair_is(seed: int) -> None:
    chance, margin = random.Random(seed), STANDARD.target
    costs = {pair: chance.uniform(0.5, 1.5) * (pair[0] + pair[1]) for pair in pairs_of(PROBLEM, 8)}
    costs[WHOLE] = 60.0
    advised = advised_pairs(LayerGrid("", PROBLEM, costs))
    for pair in costs.keys() - {WHOLE}:
        above = [costs[other] for other in (WHOLE, *advised) if larger(other, pair)]
        assert (costs[pair] < min(above) * (1 - margin)) == (pair in advised)


def test_a_pair_is_compared_with_the_next_larger_ones_alone() -> None:
    assert not larger((32, 16), (16, 32))
    pairs = [(32, 16), (16, 32), (16, 16), (8, 8)]
    assert neighbours(WHOLE, pairs) == [
        (WHOLE, (32, 16)),
        (WHOLE, (16, 32)),
        ((32, 16), (16, 16)),
        ((16, 32), (16, 16)),
        ((16, 16), (8, 8)),
    ]


def verdict(code: Code) -> Verdict:
    return Verdict(code, Reason(ReasonCode.PROVED, f"judged {code}"), Interval(0.5, 0.4, 0.6))


def test_a_pair_that_is_not_proved_faster_is_taken_back_and_the_smaller_one_compared_with_those_before_it() -> None:
    costs = {WHOLE: 10.0, (32, 16): 6.0, (16, 32): 7.0, (16, 16): 4.0, (8, 8): 2.0}
    grid = Grid(Path("g"), PRINT, {PROBLEM.key: LayerGrid(SHAPE, PROBLEM, costs)})
    asked: list[tuple[tuple[int, int], tuple[int, int]]] = []

    def measure(comparisons):
        found = {}
        for one in comparisons:
            assert one.asks_whether_faster
            asked.append((unpruned_pair(one.reference), unpruned_pair(one.candidate)))
            slow = asked[-1] == ((16, 32), (16, 16))
            found[one.identity[1:]] = verdict(Code.UNDECIDED if slow else Code.FASTER)
        return found

    (advice,) = verified(grid, [LAYER], "scripted", measure)
    assert [step.pair for step in advice.steps] == [(16, 32), (32, 16), (8, 8)]
    assert [above for above, _ in advice.steps[-1].against] == [(16, 32), (32, 16)]
    assert [(above, pair) for above, pair, _ in advice.taken_back] == [((16, 32), (16, 16))]
    assert asked[-2:] == [((16, 32), (8, 8)), ((32, 16), (8, 8))]
    assert len(asked) == len(set(asked))


def test_no_pair_is_left_that_is_not_faster_where_nothing_new_is_to_be_measured() -> None:
    # (24, 16) goes first, and (16, 16), whose other neighbour (16, 32) is slower, needs no new comparison to stay.
    costs = {WHOLE: 10.0, (24, 16): 6.0, (16, 32): 7.0, (16, 16): 4.0, (8, 8): 2.0}
    grid = Grid(Path("g"), PRINT, {PROBLEM.key: LayerGrid(SHAPE, PROBLEM, costs)})
    faster = {(WHOLE, (16, 32)), ((16, 32), (16, 16)), ((16, 32), (8, 8))}

    def measure(comparisons):
        pairs = {one.identity[1:]: (unpruned_pair(one.reference), unpruned_pair(one.candidate)) for one in comparisons}
        return {keys: verdict(Code.FASTER if pair in faster else Code.SAME) for keys, pair in pairs.items()}

    (advice,) = verified(grid, [LAYER], "scripted", measure)
    assert [(above, pair) for above, pair, _ in advice.taken_back] == [(WHOLE, (24, 16)), ((16, 16), (8, 8))]
    assert [(step.pair, [code.code for _, code in step.against]) for step in advice.steps] == [
        ((16, 32), [Code.FASTER]),
        ((16, 16), [Code.FASTER]),
    ]


def test_a_grid_of_nothing_but_the_unpruned_pair_says_so() -> None:
    grid = Grid(Path("g"), PRINT, {PROBLEM.key: LayerGrid(SHAPE, PROBLEM, {WHOLE: 10.0})})
    (advice,) = verified(grid, [LAYER], "scripted", lambda comparisons: {})
    assert list(pair_lines(advice, grid))[1:] == [
        "the grid has no pair but the unpruned 32 × 32 channels; make it finer with --step"
    ]


def test_a_layer_that_the_grid_does_not_have_is_named() -> None:
    with pytest.raises(NeverSlowerError, match=f"grid g: it does not have {SHAPE}"):
        verified(Grid(Path("g"), PRINT, {}), [LAYER], "scripted", lambda comparisons: {})


# The command


def advise(tmp_path: Path, *arguments: str, rules=RULES, journal: str = "--journal", **script: Any) -> int:
    spec = f"scripted:{scripted(tmp_path, 30.0, rules=rules, noise=0.002, **script).argument}"
    words = ["advise", "--backend", spec, "--side", "both", journal, str(tmp_path / "p.jsonl")]
    return cli.main([*words, "--problem", SHAPE, *arguments])


@pytest.mark.usefixtures("workers_here")
def test_pairs_are_advised_verified_stored_and_asserted(tmp_path, capsys):
    output = tmp_path / "p.json"
    assert advise(tmp_path, "--output", str(output)) == 0
    told = capsys.readouterr().out
    assert f"{SHAPE}: 3 of 16 pairs of (input × output) channels" in told
    assert "| 16 × 16 | 4." in told
    assert "| FASTER than 16 × 32: 0.6" in told
    assert ", FASTER than 32 × 16: 0.7" in told
    comparisons = advice_file.load(output).comparisons
    assert [(unpruned_pair(one.reference), unpruned_pair(one.candidate)) for one in comparisons] == [
        (WHOLE, (16, 32)),
        (WHOLE, (32, 16)),
        ((16, 32), (16, 16)),
        ((32, 16), (16, 16)),
    ]
    assert [one.side for one in comparisons] == [Side.IN, Side.OUT, Side.OUT, Side.IN]
    assert len({one.id for one in comparisons}) == len(comparisons)
    assert all(one.asks_whether_faster for one in comparisons)
    assert reading._advised(output) == []  # A page draws curves over output channels.
    before = (tmp_path / "p-verified.jsonl").read_text(encoding="utf-8").count('"measured"')
    assert advise(tmp_path, "--output", str(output), journal="--resume") == 0
    assert capsys.readouterr().out == told
    assert (tmp_path / "p-verified.jsonl").read_text(encoding="utf-8").count('"measured"') == before


@pytest.mark.usefixtures("workers_here")
def test_pairs_of_a_stored_grid_are_measured_on_its_device_and_taken_back(tmp_path, capsys):
    path = tmp_path / "g.json.xz"
    spec = f"scripted:{scripted(tmp_path, 30.0, rules=RULES, noise=0.002).argument}"
    mapped = ["map", "--grid", str(path), "--backend", spec, "--problem", SHAPE, "--journal", str(tmp_path / "g.jsonl")]
    assert cli.main(mapped) == 0
    slow = [*RULES, {"when": "in_channels == 32 and out_channels == 16", "times": 3.0}]
    assert advise(tmp_path, "--grid", str(path), rules=slow) == 0
    told = capsys.readouterr().out
    assert "taken back: 32 × 16 against 32 × 32 is SLOWER" in told
    assert "| FASTER than 16 × 32: 0.6" in told
    assert advise(tmp_path, "--grid", str(path), rules=[{"seconds": 1e-5}]) == 0
    assert "no pair is proved faster than the unpruned 32 × 32 channels" in capsys.readouterr().out
    assert advise(tmp_path, "--grid", str(path), device="another") == 2
    assert f"grid {path}: it was measured elsewhere or by other software (grid → here): device name" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--problem", SHAPE, "--map", "m.json.xz"], "--map has no place here: --side both advises on pairs"),
        (["--problem", SHAPE, "--budget", "macs=0.5x"], "--budget has no place here: --side both"),
        (["--problem", SHAPE, "--points", "1"], "--points 1: from 2 to"),
        (["--problem", SHAPE, "--output", "p.txt"], "p.txt can't be advice: name a file that ends in .json"),
        (["--problem", SHAPE, "--grid", "g.json.xz", "--step", "8"], "--step has no place here: the grid"),
        ([], "advise on which layers? name them: --layer resnet50.L16"),
        (["--onnx", "a.onnx"], "advise on which layers? name them: --layer '*'"),
    ],
)
def test_a_mistake_is_one_clear_line(capsys, arguments, why):
    assert cli.main(["advise", "--backend", "scripted", "--side", "both", *arguments]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"in": 16, "out": 16, "against": [{"in": 32, "out": 8}]}, "16 × 16 against 32 × 8"),
        ({"in": 16, "out": 16, "against": [{"in": 64, "out": 32}]}, "16 × 16 against 64 × 32 of 32 × 32"),
        ({"in": 16, "against": []}, "out"),
        ({"in": 16, "out": 16, "against": []}, "16 × 16 is against no pair"),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path: Path, row: dict[str, Any], why: str) -> None:
    layer = {"name": "a", "problem": PROBLEM.key, "side": "both", "advised": [row]}
    whole = {"format": "never-slower advice", "schema": 3, "fingerprint": PRINT.as_dict(), "layers": [layer]}
    path = tmp_path / "p.json"
    path.write_text(json.dumps(whole), encoding="utf-8")
    with pytest.raises(AdviceError, match=why):
        advice_file.load(path)
