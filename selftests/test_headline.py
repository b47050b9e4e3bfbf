"""The extremes of records: the worst slowdown of light pruning, and what an advised count gains over its neighbours."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neverslower import cli
from neverslower.evidence.observation import Evidence, Plan
from neverslower.judge.verdict import Code, Interval
from neverslower.maps.headline import Gain, Worst, advised_of, gain_of, headlines, worse_places, worst_of
from neverslower.maps.staircase import Staircase, Stored
from neverslower.page.curves import curves_in
from neverslower.page.reading import account_of
from neverslower.problem.convolution import Side
from neverslower.report.headline import headline_lines, headline_rows
from selftests.support import ROOT, problem

BASELINES, JOURNALS = ROOT / "baselines", ROOT / "bench/data/journals"
GEMM = "gemm global={}x196x1 local=8x8x1"
WIDTH = 0.05
"""Half the width of each interval, as a share of the ratio."""


def stairs(costs: list[float], name: str = "net.L0", codes: dict[int, Code] | None = None) -> Staircase:
    """A curve over the counts from 1 on, judged where codes are given: the others are FASTER."""
    counts = tuple(range(1, len(costs) + 1))
    words = [(codes or {}).get(count, Code.FASTER) for count in counts[:-1]]
    ratios = [
        Interval(cost / costs[-1], *(cost / costs[-1] * (1 + side * WIDTH) for side in (-1, 1))) for cost in costs
    ]
    verdicts = tuple(map(Stored, words, ratios)) if codes is not None else ()
    unpruned = replace(problem(), out_channels=len(costs))
    plans = tuple(Plan("any") for _ in counts)
    return Staircase(name, unpruned, counts, np.array(costs, dtype=float), plans, verdicts)


def dispatched(columns: dict[int, str], whole: int = 128) -> Staircase:
    """A curve of dispatches of ACL's GEMM over every count: a work-item for four channels, in groups of eight."""
    counts = tuple(range(1, whole + 1))
    plans = tuple(Plan("GEMM", (columns.get(count, GEMM.format(math.ceil(count / 4))),)) for count in counts)
    costs = np.array([8.0 * math.ceil(count / 32) for count in counts])
    even = [math.ceil(count / 4) % 8 == 0 for count in counts]
    verdicts = tuple(Stored(Code.SAME if each else Code.CHANGED, None) for each in even[:-1])
    return Staircase("L16", replace(problem(), out_channels=whole), counts, costs, plans, verdicts, Evidence.DISPATCH)


def test_counts_of_which_nobody_knows_whether_they_are_slower_are_not_passed_over() -> None:
    """The older of two libraries had none slower of 218, of which 171 were undecided."""
    row = next(iter(headline_rows(("record",), [stairs([1.0] * 9, codes={3: Code.UNDECIDED})], False, False)))
    assert "| 0 of 8 slower, 1 undecided |" in row


def test_the_worst_is_that_of_light_pruning() -> None:
    costs = [1.0] * 100
    costs[89] = 1.5  # 90 of 100 channels.
    costs[49] = 9.0  # Heavy pruning does not count as light.
    assert worst_of(stairs(costs)) == Worst(1.5, "net.L0", 90, 100)
    assert worst_of(stairs([1.0] * 16)) is None
    assert worst_of(stairs([1.0])) is None


def test_the_worst_is_one_that_is_proved_where_there_are_verdicts() -> None:
    costs = [1.0] * 100
    costs[89], costs[94] = 1.5, 1.2
    codes = {90: Code.UNDECIDED, 95: Code.SLOWER}
    assert worst_of(stairs(costs, codes=codes)) == Worst(1.2, "net.L0", 95, 100)
    assert worst_of(stairs(costs, codes={90: Code.UNDECIDED})) is None


def test_a_gain_is_of_an_advised_count_over_the_dearest_near_one_that_is_not() -> None:
    costs = [0.5] * 64 + [2.0] * 63 + [1.0]
    costs[80] = 9.0  # 81 is farther than 10 % from 64.
    found = gain_of(stairs(costs))
    assert advised_of(stairs(costs)) == [64]
    assert found == Gain(4.0, "net.L0", 64, 65)
    assert gain_of(stairs([1.0] * 16)) is None


def test_what_is_undecided_is_no_neighbour_to_gain_over() -> None:
    costs = [0.5] * 64 + [2.0] * 63 + [1.0]
    codes = dict.fromkeys(range(65, 128), Code.SLOWER) | {65: Code.UNDECIDED}
    costs[64] = 7.0
    assert gain_of(stairs(costs, codes=codes)) == Gain(4.0, "net.L0", 64, 66)


def test_noise_is_no_gain() -> None:
    """0.5 is proved to lie below 0.525: 0.54 is dearer, and 0.52 may be the same."""
    costs = [0.5] * 64 + [0.54] + [0.52] * 62 + [1.0]
    assert gain_of(stairs(costs, codes={65: Code.SAME})) == Gain(pytest.approx(1.08), "net.L0", 64, 65)  # type: ignore[arg-type]
    costs[64] = 0.52
    assert gain_of(stairs(costs, codes={})) is None


def test_input_channels_are_named() -> None:
    found = replace(stairs([0.5] * 64 + [2.0] * 63 + [1.0], codes={127: Code.SLOWER}), side=Side.IN)
    (line,) = headline_lines([found])
    assert "(net.L0, in, 127 of 128)" in line


def test_dispatches_gain_work_items_and_only_of_the_same_kernels() -> None:
    found = dispatched({97: "another global=99x196x1 local=8x8x1"})
    assert advised_of(found) == [96, 64, 32]
    assert worst_of(found) is None
    assert len(worse_places(found)) == 127 - 15
    gain = gain_of(found)
    assert gain
    assert (gain.advised, gain.other) == (32, 33)
    assert gain.ratio == pytest.approx(2.0)
    (line,) = headline_lines([found])
    assert "slow" not in line
    assert "2.00× the work-items (L16, 32 instead of 33)" in line


def test_headlines_are_drawn_for_each_network() -> None:
    found = headlines([stairs([1.0, 2.0, 1.0], "a.L0"), stairs([1.0] * 9, "b.L0"), stairs([3.0] * 9 + [1.0], "a.L1")])
    assert [(one.name, one.layers, one.counts, one.worse) for one in found] == [("a", 2, 11, 10), ("b", 1, 8, 0)]
    assert found[0].worst == Worst(3.0, "a.L1", 9, 10)


@pytest.mark.parametrize(
    ("record", "counted", "worst"),
    [
        (BASELINES / "onednn@intel-xeon-processor-2c/0001_3.12.0+80afa71.json", "29 of 218 slower", "1.2"),
        (JOURNALS / "cudnn-h200-resnet50-float16.jsonl.xz", "of 218 slower", "6."),
    ],
)
def test_a_journal_and_a_baseline_have_the_headline_of_their_verdicts(
    record: Path, counted: str, worst: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["headline", str(record)]) == 0
    *layers, whole = capsys.readouterr().out.splitlines()[2:]
    assert len(layers) == 23
    assert "resnet50, all 23 layers" in whole
    assert counted in whole
    assert f"| {worst}" in whole


def test_instructions_and_dispatches_are_never_slower(capsys: pytest.CaptureFixture[str]) -> None:
    maps = [BASELINES / f"acl@{name}/maps" for name in ("cortex-a76-emulated", "mali-g72-recorded")]
    assert cli.main(["headline", "--over-all", *map(str, maps)]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == 6
    assert not any("slower" in row for row in rows)
    assert sum("1.12× the instructions (resnet50.L16, 96 instead of 99)" in row for row in rows) == 1
    assert sum("2.00× the work-items (resnet50.L16, 32 instead of 33)" in row for row in rows) == 1


@pytest.mark.parametrize(
    "record",
    [
        JOURNALS / "advice-resnet50-whole-cudnn-h200.jsonl.xz",
        JOURNALS / "live-cudnn-h100-float16.jsonl.xz",
        ROOT / "bench/data/maps/grid-mobilenet_v2-float16-h200.json.xz",
    ],
)
def test_a_record_without_curves_has_no_headline_and_keeps_none_from_others(
    record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["headline", str(record)]) == 2
    assert f"{record}: no curve of a pruned layer; give maps" in capsys.readouterr().err
    assert cli.main(["headline", "--over-all", str(record), str(JOURNALS / "report-cudnn-h200.jsonl.xz")]) == 0
    *rows, last = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == 1
    assert last == f"{record}: it has no curve of a pruned layer"


def test_the_curves_of_a_map_are_those_of_its_cases() -> None:
    record = BASELINES / "cudnn@nvidia-h100-80gb-hbm3/maps/torch-resnet50.L16-float16-NHWC.json.xz"
    (curves,) = curves_in(account_of([record]))
    (staircase,) = curves.staircases
    assert curves.survey
    assert worst_of(staircase) == Worst(pytest.approx(1.79, abs=0.01), "resnet50.L16", 123, 128)  # type: ignore[arg-type]
