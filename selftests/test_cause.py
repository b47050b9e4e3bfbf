"""Causes, on what cuDNN 9.19 launched on an NVIDIA H100 (the maps in baselines/), and on made-up corners."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import Any

import pytest

from neverslower.evidence.kernels import Kernel
from neverslower.evidence.observation import Plan
from neverslower.judge.cause import Cause, explain
from neverslower.judge.verdict import Code, Interval, Reason, ReasonCode, Verdict
from neverslower.maps.map_file import Map, load
from selftests.support import ROOT

H100 = ROOT / "baselines" / "cudnn@nvidia-h100-80gb-hbm3"


@cache
def recorded(name: str) -> Map:
    return load(H100 / "maps" / f"{name}.json.xz")


def best_verdict(estimate: float, low: float, high: float) -> Verdict:
    code = Code.SAME if high < 1.03 else Code.SLOWER
    return Verdict(code, Reason(ReasonCode.PROVED, ""), Interval(estimate, low, high))


@pytest.mark.parametrize(
    ("name", "layer", "count", "ratio", "cause", "evidence"),
    [
        ("resnet50-float16-NHWC", "resnet50.L16", 127, 1.81, Cause.ALIGNMENT, "2 × nhwcAddPaddingKernel"),
        ("vgg16-alexnet-tf32-NCHW", "vgg16.L5", 254, 3.04, Cause.KERNEL_CHANGE, "written for sm90, then for sm80"),
        ("torch-vgg16.L5-tf32-NCHW", "vgg16.L5", 254, 3.02, Cause.KERNEL_CHANGE, "written for sm90, then for sm80"),
        ("torch-resnet50.L16-float16-NHWC", "resnet50.L16", 127, 1.74, Cause.ALIGNMENT, "2 × nhwcAddPaddingKernel"),
        ("best-resnet50.L16-tf32-NHWC", "resnet50.L16", 97, 1.74, Cause.ALIGNMENT, "2 × nhwcAddPaddingKernel"),
        ("vgg16-alexnet-float16-NHWC", "vgg16.L3", 120, 1.12, Cause.TILE_OR_WAVE, "98 tiles became 104"),
        ("resnet50-float16-NHWC", "resnet50.L3", 248, 1.05, Cause.UNKNOWN, "launched the same way for both"),
        ("resnet50-float16-NHWC", "resnet50.L29", 32, 1.03, Cause.UNKNOWN, "which is no more tiles"),
    ],
)
def test_a_recorded_hazard_has_its_cause(name, layer, count, ratio, cause, evidence):
    staircase = recorded(name).staircase(layer)
    index = staircase.counts.index(count)
    assert staircase.ratios[index] == pytest.approx(ratio, abs=0.01)
    found = staircase.explained(index, 132)
    assert found.cause is cause
    assert any(evidence in line for line in found.evidence)


@cache
def accepted() -> list[dict[str, Any]]:
    """What the baseline of an H100 says of each comparison."""
    content = json.loads((H100 / "0001_9.19.0+cuda130.json").read_text(encoding="utf-8"))
    return [one["extra_info"] for one in content["benchmarks"]]


def test_what_a_recorded_campaign_explained_is_explained_again():
    plans = {one["problem"]: Plan(one["plan"], tuple(one["plan_steps"])) for one in accepted()}
    explained = [one for one in accepted() if one["explanation"]]
    counted = Counter(one["explanation"]["cause"] for one in explained)
    assert counted == {"kernel change": 127, "alignment": 123, "heuristic miss": 1}
    for one in explained:
        best = best_verdict(*one["explanation"]["best"])
        found = explain(plans[one["unpruned"]], plans[one["problem"]], best, 132)
        assert str(found.cause) == one["explanation"]["cause"]


def test_the_recorded_heuristic_miss_is_slower_by_the_plan_chosen_alone():
    (one,) = [one for one in accepted() if one["explanation"] and one["explanation"]["cause"] == "heuristic miss"]
    assert (one["layer"], one["distance"], one["problem"].endswith("tf32-NCHW")) == ("vgg16.L5", 64, True)
    assert one["verdict"]["ratio"][1] > 1.9
    assert one["explanation"]["best"][2] < 1.0


def test_of_recorded_layers_against_themselves_none_is_slower():
    selves = [one for one in accepted() if one["distance"] == 0]
    assert Counter(one["verdict"]["code"] for one in selves) == {"SAME": 109, "FASTER": 2}


def plan(*launched: Kernel) -> Plan:
    return Plan("any", tuple(map(str, launched)))


MAIN, PADDING = Kernel("gemm", (100, 1, 1), (128, 1, 1)), Kernel("void nhwcAddPaddingKernel<float>", (10, 1, 1))


def test_more_tiles_of_one_kernel_are_a_step_and_waves_are_counted():
    found = explain(plan(MAIN), plan(Kernel("gemm", (133, 1, 1), (128, 1, 1))), None, 132)
    assert found.cause is Cause.TILE_OR_WAVE
    assert found.evidence[0] == "gemm: 100 tiles became 133, 1 and 2 waves of 132"
    unknown_gpu = explain(plan(MAIN), plan(Kernel("gemm", (133, 1, 1), (128, 1, 1))), None)
    assert unknown_gpu.evidence[0] == "gemm: 100 tiles became 133"


def test_the_same_launches_leave_the_cause_unknown():
    found = explain(plan(MAIN), plan(MAIN), None, 132)
    assert found.cause is Cause.UNKNOWN
    assert "the same way" in found.evidence[0]


@pytest.mark.parametrize("silent", [plan(), Plan("any", ("convolution jit:avx2",))])
def test_a_library_that_does_not_say_what_it_launched_leaves_the_cause_unknown(silent):
    assert explain(silent, plan(MAIN), None).cause is Cause.UNKNOWN
    assert explain(plan(MAIN), silent, None).cause is Cause.UNKNOWN


def test_extra_kernels_around_the_same_one_are_alignment():
    found = explain(plan(MAIN), plan(PADDING, MAIN, PADDING), None)
    assert found.cause is Cause.ALIGNMENT
    assert found.evidence[1] == "only the pruned layer launches 2 × nhwcAddPaddingKernel"


def test_fewer_helpers_are_none_of_it():
    assert explain(plan(PADDING, MAIN), plan(MAIN), None).cause is Cause.UNKNOWN


def test_a_heuristic_miss_goes_before_what_the_kernels_tell():
    found = explain(plan(MAIN), plan(PADDING, MAIN), best_verdict(1.0, 0.99, 1.01))
    assert found.cause is Cause.HEURISTIC_MISS
    slow = explain(plan(MAIN), plan(PADDING, MAIN), best_verdict(1.5, 1.4, 1.6))
    assert slow.cause is Cause.ALIGNMENT
    assert "the best plan takes 1.500×" in slow.evidence[-1]


def test_another_generation_is_told():
    found = explain(plan(Kernel("sm90_gemm")), plan(Kernel("sm80_gemm")), None)
    assert found.cause is Cause.KERNEL_CHANGE
    assert found.evidence[:2] == ("sm90_gemm became sm80_gemm", "written for sm90, then for sm80")
