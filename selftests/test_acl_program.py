"""The C++ program that runs one convolution by Arm Compute Library alone: its calls, and that it computes it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from backends import acl
from backends.acl.build import CROSS, EMULATOR, on_arm
from backends.base import BackendOptions
from neverslower.problem.convolution import ConvProblem

COMPILER = "g++" if on_arm() else f"{CROSS}g++"
HEADER = Path("/usr/include/aarch64-linux-gnu/arm_compute/runtime/NEON/functions/NEConvolutionLayer.h")
THREE = "mb1_ic6oc63_ih9kh3sh2ph1-float32-NHWC"


def written(key: str, words: str, threads: int = 1) -> str:
    return str(acl.write_script(ConvProblem.from_key(key), "", BackendOptions(words, threads)))


@pytest.mark.parametrize(
    ("key", "words", "call"),
    [
        (THREE, "", "NEConvolutionLayer::validate(input.info(), weights.info(), bias.info(), output.info(), geometry, "
         "WeightsInfo(), Size2D(1, 1), ActivationLayerInfo(), false, 1);"),
        (THREE, "gemm", "function.configure(&input, &weights, &bias, &output, geometry, WeightsInfo(), Size2D(1, 1), "
         "ActivationLayerInfo());"),
        (THREE, "gemm,fast_math", "geometry, WeightsInfo(), Size2D(1, 1), ActivationLayerInfo(), true, 1);"),
        (THREE, "direct", "NEDirectConvolutionLayer function(manager);"),
        (THREE, "winograd", "geometry, ActivationLayerInfo(), false);"),
        ("mb1_g6ic6oc12_ih9kh3ph1-float16-NCHW", "", "geometry, 2, ActivationLayerInfo(), Size2D(1, 1));"),
    ],
)  # fmt: skip
def test_the_program_calls_the_function_of_the_method(key: str, words: str, call: str) -> None:
    text = written(key, words)
    assert call in text
    assert text.startswith("// mb1_g")
    assert "perf stat -e instructions:u ./conv 11" in text
    assert ("leave the `true` or `false` out" in text) is ("gemm,fast" in words)
    assert "neverslower" not in text


def test_a_gpu_has_the_runner_s_script() -> None:
    assert written(THREE, "g72").startswith("#!/bin/sh")


@pytest.mark.skipif(
    not (HEADER.exists() and shutil.which(COMPILER) and (on_arm() or shutil.which(EMULATOR))),
    reason="needs Arm Compute Library, a compiler for it and, elsewhere than on Arm, QEMU",
)
def test_the_program_computes_the_convolution(tmp_path: Path) -> None:
    (tmp_path / "conv.cpp").write_text(written(THREE, "gemm"), encoding="utf-8")
    core = ["-larm_compute_core"] if list(Path("/usr/lib/aarch64-linux-gnu").glob("libarm_compute_core.so")) else []
    options = ["-std=c++14", "-Wall", "-Werror", "conv.cpp", "-larm_compute", *core, "-pthread", "-o", "conv"]
    subprocess.run([COMPILER, *options, "-Wl,--allow-shlib-undefined"], cwd=tmp_path, check=True)
    command = ["./conv", "1"] if on_arm() else [EMULATOR, "-cpu", "cortex-a76", "./conv", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(done.stdout.partition("off by ")[2].split()[0]) < 1e-6
