"""Causes, on what was observed on an NVIDIA H100 with cuDNN 9.19 (selftests/data/cudnn), and on made-up corners."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from neverslower.cause import Cause, explain
from neverslower.kernels import Kernel
from neverslower.observation import Plan
from neverslower.verdict import Code, Interval, Reason, ReasonCode, Verdict
from selftests.support import ROOT

RECORDED = ROOT / "selftests" / "data" / "cudnn" / "causes.json"


@dataclass(frozen=True)
class Recorded:
    """A comparison as it was measured: both plans, the verdict on the best plan, and the cause that is expected."""

    name: str
    reference: Plan
    candidate: Plan
    best: Verdict | None
    cause: Cause


def recorded() -> list[Recorded]:
    rows = json.loads(RECORDED.read_text(encoding="utf-8"))["comparisons"]
    return [
        Recorded(
            row["name"],
            Plan.from_dict(row["reference"]),
            Plan.from_dict(row["candidate"]),
            best_verdict(*row["best"]) if row["best"] else None,
            Cause(row["cause"]),
        )
        for row in rows
    ]


def best_verdict(estimate: float, low: float, high: float) -> Verdict:
    code = Code.SAME if high < 1.03 else Code.SLOWER
    return Verdict(code, Reason(ReasonCode.PROVED, ""), Interval(estimate, low, high))


@pytest.mark.parametrize("one", recorded(), ids=lambda one: one.name)
def test_a_recorded_hazard_has_its_cause(one):
    found = explain(one.reference, one.candidate, one.best, 132)
    assert found.cause is one.cause
    assert found.evidence


def test_every_cause_was_recorded_but_the_unknown():
    assert {one.cause for one in recorded()} >= {Cause.HEURISTIC_MISS, Cause.ALIGNMENT, Cause.KERNEL_CHANGE}


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
