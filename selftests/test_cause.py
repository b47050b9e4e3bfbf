"""Causes, on what cuDNN 9.19 launched on an NVIDIA H100 (the maps in baselines/), and on made-up corners."""

from __future__ import annotations

import json
import lzma
from functools import cache

import pytest

from neverslower.cause import Cause, explain
from neverslower.kernels import Kernel
from neverslower.mapping import Map, load
from neverslower.observation import Plan
from neverslower.verdict import Code, Interval, Reason, ReasonCode, Verdict
from selftests.support import ROOT

MAPS = ROOT / "baselines" / "cudnn@nvidia-h100-80gb-hbm3" / "maps"
JOURNAL = ROOT / "bench" / "data" / "journals" / "cudnn-h100-resnet50-L16.jsonl.xz"


@cache
def recorded(name: str) -> Map:
    return load(MAPS / f"{name}.json.xz")


def best_verdict(estimate: float, low: float, high: float) -> Verdict:
    code = Code.SAME if high < 1.03 else Code.SLOWER
    return Verdict(code, Reason(ReasonCode.PROVED, ""), Interval(estimate, low, high))


@pytest.mark.parametrize(
    ("name", "layer", "count", "ratio", "cause", "evidence"),
    [
        ("resnet50-float16-NHWC", "resnet50.L16", 127, 1.81, Cause.ALIGNMENT, "2 × nhwcAddPaddingKernel"),
        ("vgg16-alexnet-tf32-NCHW", "vgg16.L5", 254, 3.04, Cause.KERNEL_CHANGE, "written for sm90, then for sm80"),
        ("vgg16-alexnet-float16-NHWC", "vgg16.L3", 120, 1.12, Cause.TILE_OR_WAVE, "98 tiles became 104"),
        ("resnet50-float16-NHWC", "resnet50.L3", 248, 1.05, Cause.UNKNOWN, "launched alike either way"),
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


def test_what_a_recorded_campaign_explained_is_explained_again():
    lines = [json.loads(line) for line in lzma.decompress(JOURNAL.read_bytes()).splitlines()]
    plans = {one["problem"]: Plan.from_dict(one["plan"]) for one in lines if one["event"] == "examined"}
    explained = [one for one in lines if one["event"] == "explained"]
    assert len(explained) == 7
    for one in explained:
        ratio = one["best"]["estimate"], one["best"]["low"], one["best"]["high"]
        found = explain(plans[one["reference"]], plans[one["candidate"]], best_verdict(*ratio), 132)
        assert str(found.cause) == one["cause"]


def plan(*launched: Kernel) -> Plan:
    return Plan("any", tuple(map(str, launched)))


MAIN, PADDING = Kernel("gemm", (100, 1, 1), (128, 1, 1)), Kernel("void nhwcAddPaddingKernel<float>", (10, 1, 1))


def test_more_tiles_of_one_kernel_are_a_step_and_waves_are_counted():
    found = explain(plan(MAIN), plan(Kernel("gemm", (133, 1, 1), (128, 1, 1))), None, 132)
    assert found.cause is Cause.TILE_OR_WAVE
    assert found.evidence == ("gemm: 100 tiles became 133, 1 and 2 waves of 132",)
    unknown_gpu = explain(plan(MAIN), plan(Kernel("gemm", (133, 1, 1), (128, 1, 1))), None)
    assert unknown_gpu.evidence == ("gemm: 100 tiles became 133",)


def test_the_same_launches_leave_the_cause_unknown():
    found = explain(plan(MAIN), plan(MAIN), None, 132)
    assert found.cause is Cause.UNKNOWN
    assert "alike" in found.evidence[0]


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
    assert found.evidence == ("sm90_gemm became sm80_gemm", "written for sm90, then for sm80")
