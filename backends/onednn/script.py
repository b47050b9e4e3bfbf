"""How one convolution is shown without never-slower: benchdnn's commands, and a script that needs torch alone."""

from __future__ import annotations

from collections.abc import Iterator

from backends.onednn.verbose import Step
from neverslower.evidence.observation import Plan
from neverslower.problem.convolution import ConvProblem, DType, Layout
from neverslower.problem.epilogue import Epilogue, PostOp

ACTIVATIONS: dict[PostOp | None, str] = {PostOp.RELU: "relu", PostOp.SWISH: "swish"}
"""Activations by the names that torch's fused operators give them."""
_BENCHDNN_TYPES = {DType.FLOAT32: "f32", DType.FLOAT16: "f16", DType.BFLOAT16: "bf16"}
_DIRECTIONS = {"forward_training": "FWD_D", "forward_inference": "FWD_I"}


def benchdnn(problem: ConvProblem, plan: Plan, threads: int, mode: str = "P") -> str:
    """Return commands that time each primitive of `plan`, one a line, in order; `mode` C checks outputs instead."""
    prefix = f"OMP_NUM_THREADS={threads} benchdnn --mode={mode}"
    steps = [Step.read(text) for text in plan.steps]
    main = next((step for step in steps if step.primitive == "convolution"), Step("convolution", "unknown", ()))
    steps = steps if main in steps else [main]
    dtype = _BENCHDNN_TYPES[problem.dtype]
    lines = []
    for position, step in enumerate(steps):
        if step is main:
            layouts = " ".join(f"--{name[0]}tag={main.tag(name)}" for name in ("src", "wei", "dst"))
            direction = _DIRECTIONS.get(main.tag("prop"), "FWD_D")
            types = f"--dt={dtype}:{dtype}:{dtype}{_knobs(problem.epilogue, dtype)}"
            lines.append(f"{prefix} --conv --dir={direction} {types} {layouts} {problem.descriptor}")
        elif step.primitive == "reorder":
            tags = f"--stag={step.tag('src')} --dtag={step.tag('dst')}"
            shape = _reordered(problem, step, main, after=position > steps.index(main))
            lines.append(f"{prefix} --reorder --sdt={dtype} --ddt={dtype} {tags} {shape}")
    return "\n".join(lines)


def _knobs(epilogue: Epilogue, dtype: str) -> str:
    """Return benchdnn's options for an epilogue, each after a space."""
    bias = f" --bia-dt={dtype}" if epilogue.bias else ""
    return f"{bias} --attr-post-ops={'+'.join(map(str, epilogue.post_ops))}" if epilogue.post_ops else bias


def _reordered(problem: ConvProblem, step: Step, main: Step, after: bool) -> str:
    """Return the dimensions of what a reorder moves: the output after the convolution, else weights or input."""
    if after:
        dimensions: tuple[int, ...] = problem.output_shape
    elif step.tag("dst") == main.tag("wei"):
        filters, *rest = problem.weight_shape
        dimensions = (filters, *rest) if problem.groups == 1 else (problem.groups, filters // problem.groups, *rest)
    else:
        dimensions = problem.input_shape
    return "x".join(map(str, dimensions))


def script(problem: ConvProblem, threads: int, through_torch: bool) -> str:
    """Return a script that times `problem` with torch alone, as torch chooses or by its oneDNN operators."""
    check = _check(problem)
    return _SCRIPT.format(
        problem=problem,
        threads=threads,
        input_shape=problem.input_shape,
        weight_shape=problem.weight_shape,
        dtype=problem.dtype,
        order="channels_last" if problem.layout is Layout.NHWC else "contiguous_format",
        added="".join(_added(problem)),
        call=_call(problem, through_torch),
        verbose="call()" if problem.epilogue.post_ops else "y = call()",
        check=check,
        prints=", what oneDNN says that it ran, and how exact the output is"
        if check
        else " and what oneDNN says that it ran",
    )


def _check(problem: ConvProblem) -> str:
    """Return the lines that set the output against one in double precision; none where post-ops follow."""
    if problem.epilogue.post_ops:
        return ""
    top, bottom, left, right = problem.padding
    even = problem.symmetric_padding
    return _CHECK.format(
        padded="x.double()" if even else f"torch.nn.functional.pad(x.double(), {(left, right, top, bottom)})",
        bias="b.double()" if problem.epilogue.bias else None,
        stride=problem.stride,
        padding=(top, left) if even else 0,
        dilation=problem.dilation,
        groups=problem.groups,
    )


def _added(problem: ConvProblem) -> Iterator[str]:
    """Yield the lines that make the tensors of the epilogue."""
    if problem.epilogue.bias:
        yield f"b = tensor((1, {problem.out_channels}, 1, 1)).reshape(-1)\n"
    if problem.epilogue.residual:
        yield f"r = tensor({problem.output_shape})  # Each call adds to it.\n"


def _call(problem: ConvProblem, through_torch: bool) -> str:
    """Return the call that is timed, of the tensors x and w, and of b and r where the epilogue has them."""
    top, bottom, left, right = problem.padding
    bias, geometry = (
        "b" if problem.epilogue.bias else None,
        f"{problem.stride}, {{}}, {problem.dilation}, {problem.groups}",
    )
    if through_torch and problem.symmetric_padding:
        return f"torch.conv2d(x, w, {bias}, {geometry.format((top, left))})"
    if through_torch:
        padded = f"torch.nn.functional.pad(x, {(left, right, top, bottom)})"
        return f"torch.conv2d({padded}, w, {bias}, {geometry.format(0)})"
    arguments = f"x, w, {bias}, {(top, left)}, {problem.stride}, {problem.dilation}, {problem.groups}"
    if not problem.epilogue.post_ops:
        return f"torch.mkldnn_convolution({arguments})"
    activation = ACTIVATIONS.get(problem.epilogue.activation)
    if problem.epilogue.residual:
        return f"torch.ops.mkldnn._convolution_pointwise_(r, {arguments}, 'add', 1.0, {activation!r}, [], None)"
    return f"torch.ops.mkldnn._convolution_pointwise({arguments}, {activation!r}, [], '')"


_SCRIPT = '''\
"""{problem} on the CPU, by torch.

Prints the median time of a call in microseconds{prints}.
"""
import statistics
import time

import torch

torch.manual_seed(0)
torch.set_num_threads({threads})


def tensor(shape):
    return torch.rand(shape).to(torch.{dtype}).contiguous(memory_format=torch.{order})


x, w = tensor({input_shape}), tensor({weight_shape})
{added}

def call():
    return {call}


def seconds(calls):
    begin = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - begin


with torch.inference_mode():
    seconds(3)
    calls = max(1, round(2e-3 / max(seconds(3) / 3, 1e-9)))
    times = [seconds(calls) / calls for _ in range(30)]
    print(f"{{statistics.median(times) * 1e6:.2f}} us a call")
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
        {verbose}
{check}'''

_CHECK = """\
    right = torch.nn.functional.conv2d({padded}, w.double(), {bias}, {stride}, {padding}, {dilation}, {groups})
    off = (y.double() - right).abs().max() / right.abs().max()
    print(f"off by {{off:.1e}} of the largest value, from one in double precision")
"""
