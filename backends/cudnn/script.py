"""Scripts that time one convolution with nothing but cuDNN's frontend, or torch, and print the time of a call."""

from __future__ import annotations

import shlex
from typing import Any

from backends.cudnn.choice import Policy
from backends.cudnn.frontend import strides
from neverslower.errors import InvalidProblem
from neverslower.evidence.observation import Plan
from neverslower.problem.convolution import ConvProblem, DType

_DTYPES = {DType.FLOAT16: "float16", DType.BFLOAT16: "bfloat16"}

_HEAD = '''\
"""{problem}
{how}

Needs a CUDA build of torch{needs}. Prints the median time of a call in microseconds, from a CUDA graph of many calls.
"""
import statistics

import torch

torch.manual_seed(0)
stream = torch.cuda.Stream()
torch.cuda.set_stream(stream)


def tensor(shape, stride):
    values = torch.rand(shape, device="cuda") * 2 - 1
    return torch.empty_strided(shape, stride, dtype=torch.{dtype}, device="cuda").copy_(values)


x = tensor({input_shape}, {input_strides})
w = tensor({weight_shape}, {weight_strides})
{added}'''

_TORCH = """
torch.backends.cudnn.allow_tf32 = {tf32}
torch.backends.cudnn.benchmark = {benchmark}


def call():
    return torch.nn.functional.conv2d(x, w, {bias}, {stride}, {padding}, {dilation}, {groups})

"""

_FRONTEND = """
import cudnn

y = tensor({output_shape}, {output_strides})
handle = cudnn.create_handle()
cudnn.set_stream(handle=handle, stream=stream.cuda_stream)
kind = cudnn.data_type.{kind}
graph = cudnn.pygraph(io_data_type=kind, intermediate_data_type=cudnn.data_type.FLOAT,
                      compute_data_type=cudnn.data_type.FLOAT, handle=handle)
X, W = (graph.tensor(dim=list(t.shape), stride=list(t.stride()), data_type=kind) for t in (x, w))
{ports}Y = graph.conv_fprop(image=X, weight=W, pre_padding={pre}, post_padding={post}, stride={stride_list},
                     dilation={dilation_list})
{steps}Y.set_output(True).set_dim(list(y.shape)).set_stride({output_stride_list}).set_data_type(kind)
graph.validate()
graph.build_operation_graph()
graph.create_execution_plans([cudnn.heur_mode.{heuristic}])
{filters}graph.check_support()

wanted = {plan!r}
for index in range(graph.get_execution_plan_count()):
    if wanted and graph.get_plan_name_at_index(index) != wanted:
        continue
    try:
        graph.build_plan_at_index(index)
        break
    except (cudnn.cudnnGraphNotSupportedError, RuntimeError, ValueError):
        continue
else:
    raise SystemExit(f"cuDNN {{cudnn.backend_version_string()}} offers no plan {{wanted or ''}} that builds")
print("cuDNN", cudnn.backend_version_string(), "plan", index, graph.get_plan_name_at_index(index))
workspace = torch.empty(max(1, graph.get_workspace_size_plan_at_index(index)), dtype=torch.uint8, device="cuda")


def call():
    graph.execute_plan_at_index({{X: x, W: w, Y: y{given}}}, workspace, index, handle=handle)

"""

_TAIL = """
for _ in range(3):
    call()
torch.cuda.synchronize()
calls, graph_of_calls = 50, torch.cuda.CUDAGraph()
with torch.cuda.graph(graph_of_calls, stream=stream):
    for _ in range(calls):
        call()
begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
times = []
for _ in range(30):
    begin.record()
    graph_of_calls.replay()
    end.record()
    end.synchronize()
    times.append(begin.elapsed_time(end) / calls * 1e3)
print(f"{statistics.median(times[5:]):.2f} us a call")
"""

_CHECK = """\
{again}torch.cuda.synchronize()
right = torch.nn.functional.conv2d({x}, w.double().cpu(), {b}, {stride}, {padding}, {dilation}, {groups})
off = ((y.double().cpu() - right).abs().max() / right.abs().max()).item()
print(f"off by {{off:.1e}} of the largest value, from one in double precision")
"""

_NO_TENSOR_CORES = """\
graph.deselect_numeric_notes([cudnn.numerical_note.TENSOR_CORE, cudnn.numerical_note.DOWN_CONVERT_INPUTS])
"""

_STEPS = {
    "bias": "Y = graph.bias(input=Y, bias=B)\n",
    "sum": "Y = graph.add(a=Y, b=R)\n",
    "relu": "Y = graph.relu(input=Y)\n",
    "swish:1": "Y = graph.swish(input=Y, swish_beta=1.0)\n",
}


def command(problem: ConvProblem, plan: Plan, policy: Policy = Policy.HEURISTIC) -> str:
    """Return the command that writes the script; a plan of the fallback heuristic is on no other list."""
    backend = "cudnn:fallback" if policy is Policy.FALLBACK else "cudnn"
    words = ["python", "-m", "neverslower", "script", "--backend", backend, problem.key, "--plan", plan.name]
    return f"{shlex.join(words)} > repro.py && python repro.py"


def script(problem: ConvProblem, plan: str = "", fallback: bool = False) -> str:
    """Return a script that times `problem` by the named plan, or by cuDNN's first; `torch…` runs torch's convolution.

    Plans are those of cuDNN's heuristic, or of its fallback heuristic. Raises InvalidProblem for asymmetric padding and
    post-ops through torch.
    """
    through_torch = plan.startswith("torch")
    if through_torch:
        _require_torch_takes(problem)
    values = {
        "problem": problem,
        "how": f"plan {plan or 'that cuDNN would take first'}",
        "needs": "" if through_torch else " and nvidia-cudnn-frontend",
        "dtype": _DTYPES.get(problem.dtype, "float32"),
        "kind": {DType.FLOAT16: "HALF", DType.BFLOAT16: "BFLOAT16"}.get(problem.dtype, "FLOAT"),
        "tf32": problem.dtype is DType.TF32,
        "benchmark": plan.startswith("torch_best"),
        "filters": _NO_TENSOR_CORES if problem.dtype is DType.FLOAT32 else "",
        "plan": plan,
        "heuristic": "FALLBACK" if fallback else "A",
    }
    values |= _geometry(problem) | _epilogue(problem)
    body = _TORCH if through_torch else _FRONTEND
    return _HEAD.format(**values) + body.format(**values) + _TAIL + _check(problem, through_torch)


def _require_torch_takes(problem: ConvProblem) -> None:
    """Raise InvalidProblem for what torch's own convolution can't do in one call."""
    if not problem.symmetric_padding:
        raise InvalidProblem(f"{problem}: torch's conv2d has no asymmetric padding")
    if problem.epilogue.post_ops:
        raise InvalidProblem(f"{problem}: torch's eager convolution takes a bias and no post-ops")


def _geometry(problem: ConvProblem) -> dict[str, Any]:
    """Return the shapes, strides and numbers that a script states, as Python writes them."""
    top, bottom, left, right = problem.padding
    return {
        "input_shape": problem.input_shape,
        "input_strides": strides(problem.input_shape, problem.layout),
        "weight_shape": problem.weight_shape,
        "weight_strides": strides(problem.weight_shape, problem.layout),
        "output_shape": problem.output_shape,
        "output_strides": strides(problem.output_shape, problem.layout),
        "output_stride_list": list(strides(problem.output_shape, problem.layout)),
        "stride": problem.stride,
        "stride_list": list(problem.stride),
        "dilation": problem.dilation,
        "dilation_list": list(problem.dilation),
        "padding": (top, left),
        "pre": [top, left],
        "post": [bottom, right],
        "groups": problem.groups,
    }


def _check(problem: ConvProblem, through_torch: bool) -> str:
    """Return the lines that set the output against one in double precision; none where post-ops follow."""
    if problem.epilogue.post_ops:
        return ""
    top, bottom, left, right = problem.padding
    x, even = "x.double().cpu()", problem.symmetric_padding
    return _CHECK.format(
        again="y = call()\n" if through_torch else "",
        x=x if even else f"torch.nn.functional.pad({x}, {(left, right, top, bottom)})",
        b="b.double().cpu().reshape(-1)" if problem.epilogue.bias else None,
        stride=problem.stride,
        padding=(top, left) if even else 0,
        dilation=problem.dilation,
        groups=problem.groups,
    )


def _epilogue(problem: ConvProblem) -> dict[str, str]:
    """Return the lines and words that the epilogue adds to a script."""
    shapes = {"b": (1, problem.out_channels, 1, 1)} if problem.epilogue.bias else {}
    shapes |= {"r": problem.output_shape} if problem.epilogue.residual else {}
    port = "{0} = graph.tensor(dim=list({1}.shape), stride=list({1}.stride()), data_type=kind)\n"
    lines = [_STEPS["bias"]] if problem.epilogue.bias else []
    return {
        "added": "".join(
            f"{name} = tensor({shape}, {strides(shape, problem.layout)})\n" for name, shape in shapes.items()
        ),
        "ports": "".join(port.format(name.upper(), name) for name in shapes),
        "given": "".join(f", {name.upper()}: {name}" for name in shapes),
        "steps": "".join(lines + [_STEPS[str(step)] for step in problem.epilogue.post_ops]),
        "bias": "b.reshape(-1)" if problem.epilogue.bias else "None",
    }
