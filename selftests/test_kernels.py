from __future__ import annotations

import pytest

from neverslower.evidence.kernels import Kernel, kernels, main_kernels
from neverslower.evidence.observation import Plan

CUTLASS = "void cutlass__5x_cudnn::Kernel<cutlass_tensorop_f16_s16816fprop_optimized_f16_64x64_64x5_nhwc_align8>"
PADDING = "void nhwcAddPaddingKernel<__half, __half, float, true, (cudnnKernelDataType_t)0>"
XMMA = "sm90_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nhwc_tilesize64x128x32_warpgroupsize1x1x1"


@pytest.mark.parametrize("name", [CUTLASS, PADDING, XMMA, "Memset (Device)", "a b=c grid=1 (d)"])
def test_a_kernel_is_read_as_it_is_printed(name):
    kernel = Kernel(name, (26, 1, 2), (128, 1, 1))
    assert Kernel.parse(str(kernel)) == kernel


@pytest.mark.parametrize("step", ["convolution jit:avx2 src:nchw", "", "k grid=1x2 block=1x1x1"])
def test_what_is_no_kernel_is_none(step):
    assert Kernel.parse(step) is None
    assert kernels(Plan("any", (step,))) == []


@pytest.mark.parametrize(
    ("name", "helper", "generation", "short"),
    [
        (CUTLASS, False, "", "cutlass_tensorop_f16_s16816fprop_optimized_f16_64x64_64x5_nhwc_align8"),
        (PADDING, True, "", "nhwcAddPaddingKernel"),
        (XMMA, False, "sm90", XMMA),
        ("sm80_xmma_fprop_implicit_gemm_tf32", False, "sm80", "sm80_xmma_fprop_implicit_gemm_tf32"),
        ("void cudnn::engines_precompiled::nchwToNhwcKernel<float, float, float>", True, "", "nchwToNhwcKernel"),
        ("void tensorTransformGeneric<float, float, float, true>", True, "", "tensorTransformGeneric"),
        ("Memset (Device)", True, "", "Memset (Device)"),
        ("void conv2d_grouped_direct_kernel<true>", False, "", "conv2d_grouped_direct_kernel"),
    ],
)
def test_names_tell_what_a_kernel_is(name, helper, generation, short):
    kernel = Kernel(name)
    assert (kernel.helper, kernel.generation, kernel.short) == (helper, generation, short)


def test_the_main_kernels_are_those_that_compute():
    launched = [Kernel("Memset (Device)"), Kernel(PADDING), Kernel(CUTLASS), Kernel(PADDING)]
    assert main_kernels(launched) == [Kernel(CUTLASS)]
    assert main_kernels(launched[:2]) == launched[:2]
    assert main_kernels([]) == []


def test_tiles_are_the_blocks_of_the_grid():
    assert Kernel("k", (8, 49, 2)).tiles == 784
