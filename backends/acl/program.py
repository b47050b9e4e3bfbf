"""A C++ program that runs one convolution with nothing but Arm Compute Library, for its maintainers."""

from __future__ import annotations

from string import Template

from backends.acl.choice import AclOptions
from neverslower.evidence.observation import Evidence
from neverslower.problem.convolution import ConvProblem, DType

_FUNCTIONS = {"auto": "NEConvolutionLayer", "gemm": "NEGEMMConvolutionLayer", "direct": "NEDirectConvolutionLayer",
              "winograd": "NEWinogradConvolutionLayer", "depthwise": "NEDepthwiseConvolutionLayer"}  # fmt: skip
"""ACL's functions by the words of `--backend acl:…`; depthwise layers have one of their own."""
_SWITCHED = "\n//   (20.08 has no switch for fast math here: leave the `true` or `false` out)"


def program(problem: ConvProblem, choice: AclOptions, threads: int) -> str:
    """Return the program, with the commands that build it, time it and count its instructions in its first lines."""
    depthwise = problem.groups > 1 and problem.groups == problem.in_channels
    function = _FUNCTIONS["depthwise" if depthwise else choice.method]
    top, bottom, left, right = problem.padding
    batch, channels, height, width = problem.input_shape
    filters, of_each, kernel_h, kernel_w = problem.weight_shape
    return Template(_PROGRAM).substitute(
        problem=problem.descriptor,
        dtype=problem.dtype,
        cpu=choice.cpu,
        calls="11" if choice.evidence is Evidence.INSTRUCTIONS else "100",
        function=function,
        further=_further(function, problem, choice.fast_math),
        switched=_SWITCHED if function == _FUNCTIONS["gemm"] and _is_switched(problem, choice.fast_math) else "",
        threads=1 if choice.evidence is Evidence.INSTRUCTIONS else threads,
        type="F16" if problem.dtype is DType.FLOAT16 else "F32",
        element="__fp16" if problem.dtype is DType.FLOAT16 else "float",
        layout=problem.layout,
        input=f"{batch}, {channels}, {height}, {width}",
        weights=f"{1 if depthwise else filters}, {filters if depthwise else of_each}, {kernel_h}, {kernel_w}",
        output=", ".join(map(str, problem.output_shape)),
        weight="0, o" if depthwise else "o, i",
        of_each=of_each,
        group=f"o / {filters // problem.groups} * {of_each}",
        stride=f"{problem.stride[1]}, {problem.stride[0]}",
        padding=f"{left}, {right}, {top}, {bottom}",
        row=f"h * {problem.stride[0]} + y * {problem.dilation[0]} - {top}",
        column=f"w * {problem.stride[1]} + x * {problem.dilation[1]} - {left}",
    )


def _is_switched(problem: ConvProblem, fast_math: bool) -> bool:
    """Return whether GEMM's function has to be given its switch for fast math, or the groups that come after it."""
    return fast_math or problem.groups > 1


def _further(function: str, problem: ConvProblem, fast_math: bool) -> str:
    """Return what a function takes behind stride and padding, each after a comma, as ACL 20.08 and newer have it."""
    dilation = f"Size2D({problem.dilation[1]}, {problem.dilation[0]})"
    fast, usual = str(fast_math).lower(), f", WeightsInfo(), {dilation}, ActivationLayerInfo()"
    if function == _FUNCTIONS["auto"]:
        return f"{usual}, {fast}, {problem.groups}"
    if function == _FUNCTIONS["gemm"]:
        return f"{usual}, {fast}, {problem.groups}" if _is_switched(problem, fast_math) else usual
    if function == _FUNCTIONS["winograd"]:
        return f", ActivationLayerInfo(), {fast}"
    if function == _FUNCTIONS["depthwise"]:
        return f", {problem.out_channels // problem.in_channels}, ActivationLayerInfo(), {dilation}"
    return ", ActivationLayerInfo()"


_PROGRAM = """\
// $problem ($dtype, $layout) by Arm Compute Library's $function. As conv.cpp:
//
//   g++ -std=c++14 -O2 conv.cpp -larm_compute -pthread -o conv    (ACL 20.08 also needs -larm_compute_core)$switched
//   ./conv $calls    prints the mean time of so many calls, and how far the output is from one in double precision
//
// A call executes a tenth of the instructions that 11 calls take more than 1:
//
//   perf stat -e instructions:u ./conv 1 && perf stat -e instructions:u ./conv 11
//
// On another machine QEMU counts them, where it takes plugins; insn is one of those in its sources (tests/tcg/plugins):
//
//   aarch64-linux-gnu-g++ -std=c++14 -O2 conv.cpp -larm_compute -pthread -o conv
//   qemu-aarch64 -cpu $cpu -plugin libinsn.so -d plugin ./conv 1    (and 11)
#include "arm_compute/core/TensorInfo.h"
#include "arm_compute/core/Types.h"
#include "arm_compute/runtime/Allocator.h"
#include "arm_compute/runtime/MemoryManagerOnDemand.h"
#include "arm_compute/runtime/NEON/NEScheduler.h"
#include "arm_compute/runtime/NEON/functions/$function.h"
#include "arm_compute/runtime/OffsetLifetimeManager.h"
#include "arm_compute/runtime/PoolManager.h"
#include "arm_compute/runtime/Tensor.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

using namespace arm_compute;
using Element = $element;

struct Sizes
{
    int n, c, h, w;
};

const Sizes in{$input}, kernel{$weights}, out{$output};
const bool channels_last = DataLayout::$layout == DataLayout::NHWC;

void describe(Tensor &tensor, const Sizes &of)
{
    const TensorShape nhwc(of.c, of.w, of.h, of.n), nchw(of.w, of.h, of.c, of.n);
    TensorInfo info(channels_last ? nhwc : nchw, 1, DataType::$type);
    info.set_data_layout(DataLayout::$layout);
    tensor.allocator()->init(info);
}

Element &at(Tensor &tensor, int n, int c, int h, int w)
{
    const Coordinates place = channels_last ? Coordinates(c, w, h, n) : Coordinates(w, h, c, n);
    return *reinterpret_cast<Element *>(tensor.ptr_to_element(place));
}

void fill(Tensor &tensor, const Sizes &of)
{
    unsigned state = 1;
    for (int n = 0; n < of.n; ++n)
        for (int c = 0; c < of.c; ++c)
            for (int h = 0; h < of.h; ++h)
                for (int w = 0; w < of.w; ++w)
                {
                    state = state * 1664525u + 1013904223u;
                    at(tensor, n, c, h, w) = static_cast<Element>(static_cast<int>(state >> 24) / 128.0f - 1.0f);
                }
}

double expected(Tensor &input, Tensor &weights, int n, int o, int h, int w)
{
    double sum = 0;
    for (int i = 0; i < $of_each; ++i)
        for (int y = 0; y < kernel.h; ++y)
            for (int x = 0; x < kernel.w; ++x)
            {
                const int row = $row, column = $column;
                if (row >= 0 && row < in.h && column >= 0 && column < in.w)
                    sum += double(at(input, n, $group + i, row, column)) * double(at(weights, $weight, y, x));
            }
    return sum;
}

int main(int argc, char **argv)
{
    const int calls = argc > 1 ? std::atoi(argv[1]) : 100;
    NEScheduler::get().set_num_threads($threads);
    Tensor input, weights, bias, output;
    describe(input, in);
    describe(weights, kernel);
    describe(output, out);
    bias.allocator()->init(TensorInfo(TensorShape(out.c), 1, DataType::$type));
    const PadStrideInfo geometry($stride, $padding, DimensionRoundingType::FLOOR);
    const Status able = $function::validate(input.info(), weights.info(), bias.info(), output.info(), geometry$further);
    if (!bool(able))
    {
        std::puts(able.error_description().c_str());
        return 1;
    }
    auto manager = std::make_shared<MemoryManagerOnDemand>(std::make_shared<OffsetLifetimeManager>(),
                                                           std::make_shared<PoolManager>());
    $function function(manager);
    function.configure(&input, &weights, &bias, &output, geometry$further);
    for (Tensor *tensor : {&input, &weights, &bias, &output})
        tensor->allocator()->allocate();
    Allocator allocator;
    manager->populate(allocator, 1);
    fill(input, in);
    fill(weights, kernel);
    std::fill_n(reinterpret_cast<Element *>(bias.buffer()), out.c, Element(0));

    const int outputs = out.n * out.c * out.h * out.w, step = outputs / 1000 + 1;
    std::vector<double> right;
    for (int k = 0; k < outputs; k += step)
        right.push_back(expected(input, weights, k / (out.c * out.h * out.w), k / (out.h * out.w) % out.c,
                                 k / out.w % out.h, k % out.w));
    function.prepare();
    function.run(); // The first call also fills caches of the library's.
    const auto begin = std::chrono::steady_clock::now();
    for (int call = 0; call < calls; ++call)
        function.run();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
    std::printf("%.2f us a call\\n", took.count() / std::max(1, calls));

    double most = 0, off = 0;
    for (int k = 0; k < outputs; k += step)
    {
        const double is = at(output, k / (out.c * out.h * out.w), k / (out.h * out.w) % out.c, k / out.w % out.h,
                             k % out.w);
        most = std::max(most, std::fabs(right[k / step]));
        off = is == is ? std::max(off, std::fabs(is - right[k / step])) : INFINITY;
    }
    std::printf("off by %.1e of the largest value, at %zu of %d outputs\\n", off / most, right.size(), outputs);
}
"""
