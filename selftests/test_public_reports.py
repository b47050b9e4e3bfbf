"""Public reports about convolutions as cases, each with what is right to say of it; docs/findings/public-reports.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backends import onednn
from backends.acl import build
from backends.acl import open as open_acl
from backends.acl.launch import counts_instructions, emulated
from backends.base import BackendOptions
from neverslower.problem.convolution import Layout, parse_descriptor
from neverslower.problem.numerics import References, tensors

PAGE = Path(__file__).resolve().parent.parent / "docs" / "findings" / "public-reports.md"


def plan(text: str, layout: Layout) -> Any:
    """What oneDNN runs for a problem on a processor with AVX-512."""
    torch = pytest.importorskip("torch")
    backend = onednn.open(BackendOptions())
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        pytest.skip("needs a processor with AVX-512")
    one = parse_descriptor(text, layout=layout)
    return backend.prepare(one, *tensors(one)).plan()


def test_a_grouped_layer_in_nchw_is_pruned_to_another_implementation() -> None:
    """pytorch#49582's grouped shape: with three filters a group instead of four, the fast kernel does not take it."""
    whole, part = (plan(f"mb1_g32ic128oc{kept}_ih56kh3ph1", Layout.NCHW) for kept in (128, 96))
    assert whole.name.startswith("jit:avx512")
    assert "gemm" in part.name


def test_the_same_layer_in_nhwc_keeps_its_implementation() -> None:
    whole, part = (plan(f"mb1_g32ic128oc{kept}_ih56kh3ph1", Layout.NHWC) for kept in (128, 96))
    assert whole.name == part.name


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("argument", ["", "torch"])
@pytest.mark.parametrize("filters", [64, 63, 56])
def test_one_input_channel_gives_right_outputs(argument: str, filters: int, layout: Layout) -> None:
    """pytorch#82060: with one input channel, torch 1.12 gave wrong outputs where layouts met."""
    pytest.importorskip("torch")
    one = parse_descriptor(f"mb1_ic1oc{filters}_ih100kh3ph1", layout=layout)
    drawn = tensors(one)
    error, compared = References().error(
        one, *drawn, onednn.open(BackendOptions(argument)).prepare(one, *drawn).output()
    )
    assert error < 1e-5
    assert compared == 1


def test_acl_takes_more_instructions_for_63_filters_than_for_64() -> None:
    """ComputeLibrary#99's layer of 16 channels: GEMM of 20.08 takes 2 % more instructions for one filter less."""
    try:
        built = build.find("")
    except build.NotBuilt:
        pytest.skip("needs `python -m neverslower build-acl`")
    if not (built.runner.is_file() and emulated() and counts_instructions()):
        pytest.skip("needs QEMU with plugins, and `python -m neverslower build-acl`")
    backend = open_acl(BackendOptions("gemm"))
    try:
        if backend.fingerprint().version != "20.08":
            pytest.skip("the numbers are those of ACL 20.08")
        counts = {
            kept: backend.count(parse_descriptor(f"mb1_ic16oc{kept}_ih56kh3ph1", layout=Layout.NHWC))
            for kept in (64, 63)
        }
    finally:
        backend.close()
    assert counts[63] / counts[64] == pytest.approx(1.02, abs=0.005)
    stated = [f"{count:,}" for count in counts.values()]
    assert all(number in PAGE.read_text(encoding="utf-8") for number in stated), stated
