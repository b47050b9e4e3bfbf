"""The bench that sets two libraries side by side: what it asks, its figures, and its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import side_by_side
from bench.side_by_side import Bench, cell, hurts, rows, shares, table, tuned, untuned
from neverslower.campaign.findings import Result
from neverslower.errors import Unavailable, Unsupported
from neverslower.evidence.observation import PairedPass
from neverslower.judge.verdict import Code, Interval, Reason, ReasonCode, Verdict
from neverslower.problem.comparison import Comparison
from neverslower.problem.networks import Layer, distinct_layers, network
from neverslower.problem.subject import Search
from neverslower.worker.process import WorkerSpec

LAYERS = distinct_layers(network("resnet50"))
L16 = next(layer for layer in LAYERS if layer.name == "resnet50.L16")
NAMES = ("cudnn", "tvm")


def test_each_layer_is_asked_at_the_counts_that_it_can_have() -> None:
    kept = {(one.layer.name, one.candidate.out_channels) for one in untuned("tvm", LAYERS, [127, 64, 500])}
    assert {("resnet50.L16", 127), ("resnet50.L16", 64)} <= kept
    assert ("resnet50.L16", 500) not in kept
    assert {one.distance for one in untuned("cudnn", [L16])} >= {1, 3, 7, 15, 31, 63, 127}
    assert {one.distance for one in untuned("cudnn", [L16], most=3)} == {15, 1, 7}


def test_a_tuned_layer_is_set_against_a_miss_and_one_of_its_own_layer_by_layer() -> None:
    asked = tuned("tvm", LAYERS[:3], 0.12, 16)
    assert [one.label for one in asked] == ["miss", "tuned"] * 3
    assert [one.telling for one in asked] == [1, 1, 2, 2, 3, 3]
    miss, own = tuned("tvm", [L16], 0.12, 16)
    assert {log.search.problem.out_channels for log in miss.tuned_logs} == {128}
    assert {log.search.problem.out_channels for log in own.tuned_logs} == {128, 113}
    assert {(log.search.trials, log.search.seed) for log in own.tuned_logs} == {(16, 0)}


def result(backend: str, kept: int, code: Code, layer: Layer = L16, ratio: float = 1.2) -> Result:
    comparison = Comparison(backend, layer, layer.problem.prune(layer.problem.out_channels - kept))
    reason = Reason(ReasonCode.PROVED if code.measured else ReasonCode.LIBRARY_REFUSES, "proved, or refused")
    if not code.measured:
        return Result(comparison, Verdict(code, reason))
    seconds = np.tile(np.array([1e-5, 1e-5 * ratio])[None, :, None], (4, 1, 2))
    one = PairedPass(seconds, (10, 10), "clock")
    return Result(comparison, Verdict(code, reason, Interval(ratio, ratio, ratio)), (one,))


RESULTS = [
    result("cudnn", 127, Code.SLOWER),
    result("tvm", 127, Code.SAME, ratio=1.0),
    result("cudnn", 64, Code.FASTER, ratio=0.7),
    result("tvm", 64, Code.SLOWER),
    result("cudnn", 32, Code.SLOWER),
    result("tvm", 32, Code.UNSUPPORTED),
    result("cudnn", 16, Code.UNDECIDED),
    result("tvm", 16, Code.SLOWER),
]


def test_what_is_slower_in_one_alone_is_named_and_what_is_undecided_is_no_witness() -> None:
    assert list(hurts(RESULTS, ("cudnn", "tvm"))) == [
        "slower in both: 0 of 2",
        "slower in cudnn alone: 1 of 2: resnet50.L16:127",
        "slower in tvm alone: 1 of 2: resnet50.L16:64",
    ]


def test_a_row_has_both_libraries_and_what_is_missing_says_why() -> None:
    lines = list(table(RESULTS, {"cudnn": "cuDNN", "tvm": "TVM"}))
    assert lines[0] == "| layer | kept | cuDNN | TVM |"
    assert lines[2] == "| resnet50.L16 | 127 | 10.0 → 12.0, 1.20× SLOWER | 10.0 → 10.0, 1.00× SAME |"
    assert lines[4].endswith("| UNSUPPORTED: proved, or refused |")
    assert cell(None) == "–"
    assert len(rows(RESULTS)) == 4


def test_figures_say_what_was_compiled_and_tuned_and_what_a_verdict_took() -> None:
    key = L16.problem.key
    figures: dict[str, Any] = {
        "compiled": {"answers": {key: "", "other": "no rule"}, "calls": [{"seconds": 9, "shapes": 18, "processes": 2}]},
        "tuning": {str(Search(L16.problem, 16, 0)): {"seconds": 21.4, "trials": 16, "side by side": 1}},
        "verdicts": {"untuned": {"seconds": 30.0, "verdicts": 60}},
    }
    assert list(shares(figures, [L16], L16)) == [
        "compiled: 18 shapes in 9 s by 2 processes, 0.50 s a shape",
        "unpruned layers that compile untuned: 1 of 1",
        "refused 1 times: no rule",
        "tuned: resnet50.L16, 16 trials in 21 s, 1 side by side",
        "searches: 1 of 21 s (median), 0 refused",
        "untuned: 60 decided verdicts in 30.0 s, 0.50 s each",
    ]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--layer", "nope"], "no layer of resnet50 matches nope"),
        (["--network", "nope"], "nope"),
        (["--time-budget", "soon"], "--time-budget: "),
        (["--tuned", "2", "--second", "scripted:x", "--layer", "resnet50.L16"], "x"),
    ],
)
def test_a_mistake_ends_it_with_one_line(
    words: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["side_by_side", "--folder", str(tmp_path), *words])
    with pytest.raises(SystemExit) as ended:
        side_by_side.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line.startswith("side_by_side: ")
    assert why in line


def test_a_shape_is_compiled_once_and_a_failed_worker_is_no_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def ask_all(spec: Any, keys: list[str], *rest: Any) -> dict[str, Any]:
        asked.append(keys)
        answers = (None, Unsupported("no rule"), Unavailable("killed"))
        return dict(zip(keys, answers, strict=False))

    monkeypatch.setattr(side_by_side, "ask_all", ask_all)
    bench = Bench(tmp_path, WorkerSpec("cudnn"), WorkerSpec("tvm", "cuda"))
    comparisons = untuned("tvm", [L16], [127, 64])
    bench.compile(comparisons, 60.0)
    assert set(bench.figures["compiled"]["answers"].values()) == {"", "no rule"}
    bench.compile(comparisons, 60.0)
    assert asked[1] == asked[0][2:]


def test_what_was_searched_for_with_success_is_timed_and_nothing_else(tmp_path: Path) -> None:
    bench = Bench(tmp_path, WorkerSpec("cudnn"), WorkerSpec("tvm", "cuda"))
    assert bench.searched() == set()
    bench.add_figures("tuning", made={"seconds": 21.4}, refused={"refused": "found no schedule that runs"})
    assert bench.searched() == {"made"}
