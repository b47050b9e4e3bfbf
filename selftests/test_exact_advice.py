"""Advice from exact evidence: counts of the fewest instructions, counts whose dispatch is even."""

from __future__ import annotations

from pathlib import Path

import pytest

from neverslower import cli
from neverslower.baseline.entry import Entry, Known
from neverslower.evidence.observation import Evidence, Plan
from neverslower.judge.verdict import Code
from neverslower.maps.exact_advice import Recorded, advised_of
from neverslower.problem.convolution import Side, parse_descriptor
from selftests.support import ROOT

UNPRUNED = parse_descriptor("mb1_ic16oc32_ih8kh1")
MALI = ROOT / "baselines/acl@mali-g72-recorded/maps"
CPU = ROOT / "baselines/acl@cortex-a76-emulated/maps/resnet50.L16-20.08+9ba6076-gemm-instructions.jsonl"


def recorded(instructions: dict[int, int] | None = None, steps: dict[int, list[str]] | None = None) -> Recorded:
    """A layer of 32 channels with these instructions, or these kernels, at each count."""
    counts, kernels = instructions or {}, steps or {}
    entries = {}
    for count in counts or kernels:
        problem = UNPRUNED.prune(32 - count) if count < 32 else UNPRUNED
        plan = Plan("gemm", tuple(kernels.get(count, ())))
        known = Known(Code.SAME, None)
        entries[count] = Entry("", "L", UNPRUNED.key, problem.key, Side.OUT, plan, (), known, counts.get(count))
    return Recorded("L", UNPRUNED, Side.OUT, entries)


def advised(layer: Recorded, evidence: Evidence) -> list[tuple[int, int]]:
    return [(one.count, one.cost) for one in advised_of(layer, evidence)]


def test_each_count_takes_fewer_instructions_than_every_larger_one() -> None:
    layer = recorded({32: 1000, 31: 1200, 30: 996, 24: 800, 23: 798, 20: 795, 16: 900, 8: 400})
    assert advised(layer, Evidence.INSTRUCTIONS) == [(24, 800), (20, 795), (8, 400)]


def test_an_even_dispatch_has_the_kernels_of_the_unpruned_layer_and_launches_less() -> None:
    steps = {
        32: ["copy global=7x1x1 local=driver", "gemm global=16x13x1 local=4x2x1"],
        31: ["copy global=7x1x1 local=driver", "gemm global=11x13x1 local=4x2x1"],  # newly uneven in x
        24: ["copy global=7x1x1 local=driver", "gemm global=16x13x1 local=4x2x1"],  # launches as much
        16: ["copy global=3x1x1 local=driver", "gemm global=4x13x1 local=4x2x1"],
        12: ["gemm global=4x6x1 local=4x2x1"],  # other kernels
        8: ["copy global=3x1x1 local=driver", "gemm global=2x13x1 local=driver"],  # the driver's own groups
    }
    (count,) = advised_of(recorded(steps=steps), Evidence.DISPATCH)
    assert (count.count, count.cost) == (16, 4 * 14)
    assert [str(one) for one in count.enqueued] == ["gemm global=4x13x1 local=4x2x1"]


def test_groups_of_the_driver_advise_nothing() -> None:
    steps = {count: [f"gemm global={count}x8x1 local=driver"] for count in (32, 16, 8)}
    assert advised(recorded(steps=steps), Evidence.DISPATCH) == []


def test_the_records_of_the_paper_s_layer_advise_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    path = MALI / "resnet50.L16-20.08+9ba6076-gemm-dispatch.jsonl"
    assert cli.main(["advise", "--record", str(path)]) == 0
    told = capsys.readouterr().out
    assert "resnet50.L16: even dispatch: 3 of 127 output channel counts; this is not time" in told
    assert "| 96 | 4,800 | 0.75 | gemm_mm_floating_point_f32_bifrost 24×196×1 by 8×8×1 |" in told
    assert "acl 20.08 on Mali-G72 recorded" in told
    assert "faster" not in told
    assert cli.main(["advise", "--record", str(CPU), "--layer", "*L16"]) == 0
    assert "| 96 | 31,763,881 | 0.75 |" in capsys.readouterr().out


def test_a_record_whose_groups_the_driver_chooses_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["advise", "--record", str(MALI / "resnet50.L16-20.08+9ba6076-direct-dispatch.jsonl")]) == 0
    assert "the driver chooses all groups, so that no dispatch is known to be even" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--record", str(CPU), "--layer", "L3"], f"--record {CPU}: no such layer in it; it has resnet50.L16"),
        (["--record", str(CPU), "--output", "a.json"], "--record advises from what it holds: leave out --output"),
        (["--record", "absent.jsonl"], "baseline absent.jsonl: No such file"),
    ],
)
def test_a_mistake_is_reported(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["advise", *arguments]) == 2
    assert why in capsys.readouterr().err


def test_a_layer_is_known_by_what_the_record_calls_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "some.jsonl"
    lines = CPU.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "-out128]" not in line), encoding="utf-8")
    assert cli.main(["advise", "--record", str(path)]) == 2
    assert "it has none whose output channels are pruned" in capsys.readouterr().err
