"""Statements that compile and time, or show, one convolution with nothing but TVM."""

from __future__ import annotations

import shlex

from backends.base import BackendOptions
from backends.tvm.api import arranged
from backends.tvm.choice import Tracker, TvmOptions
from neverslower.evidence.observation import Plan
from neverslower.problem.convolution import ConvProblem, DType, Layout


def line(problem: ConvProblem, plan: Plan, choice: TvmOptions, options: BackendOptions) -> str:
    """Return a line for a shell that times the untuned convolution, prints its OpenCL, or writes and runs a script."""
    if choice.cuda:
        return command(problem, options.argument, plan)
    if choice.gpu:
        return f'python -c "{"; ".join(printing(problem, choice.gpu))}"'
    if choice.tracker:
        return f'python -c "{"; ".join(timing_on(choice.tracker, problem, options.threads))}"'
    timed = f'TVM_NUM_THREADS={options.threads} python -c "{"; ".join(timing(problem))}"'
    return timed if not plan.tuned else f"{timed}  # {plan.name}: compile within its database"


def text(problem: ConvProblem, choice: TvmOptions, threads: int) -> str:
    """Return the same as a script."""
    if choice.cuda:
        return on_cuda(problem, choice.cuda.gpu)
    if choice.gpu:
        head = f'"""{problem} by TVM for OpenCL on {choice.gpu}; prints the source of its kernels."""'
        return "\n".join([head, *printing(problem, choice.gpu), ""])
    if choice.tracker:
        head = f'"""{problem} by TVM on {choice.tracker.board}; prints the times of its evaluator in seconds."""'
        return "\n".join([head, *timing_on(choice.tracker, problem, threads), ""])
    head = f'"""{problem} by TVM, untuned; prints the times of its evaluator in seconds."""'
    set_threads = ("import os", f"os.environ['TVM_NUM_THREADS'] = '{threads}'")
    return "\n".join([head, *set_threads, *timing(problem), ""])


def timing(problem: ConvProblem) -> list[str]:
    """Return the statements that compile and time one convolution."""
    shapes = [arranged(shape, problem.layout) for shape in (problem.input_shape, problem.weight_shape)]
    return [
        "import numpy as n,tvm as t",
        *_building(problem),
        "c=str(t.get_global_func('target.llvm_get_system_cpu')())",
        "m=x.VirtualMachine(t.compile(b.get(),target=t.target.Target({'kind':'llvm','mcpu':c})),t.cpu())",
        f"m.set_input('main',*[t.runtime.tensor(n.ones(s,'{problem.dtype}')) for s in {shapes}])",
        "print(m.time_evaluator('invoke_stateful',t.cpu(),number=10,repeat=9)('main'))",
    ]


def timing_on(tracker: Tracker, problem: ConvProblem, threads: int) -> list[str]:
    """Return the statements that compile one convolution here and time it on a board."""
    shapes = [arranged(shape, problem.layout) for shape in (problem.input_shape, problem.weight_shape)]
    return [
        "import numpy as n,platform as p,tvm as t",
        "from tvm import rpc",
        *_building(problem),
        f"r=rpc.connect_tracker('{tracker.host}',{tracker.port}).request('{tracker.key}')",
        f"d=r.cpu(0); r.get_function('runtime.config_threadpool')(1,{threads})",
        "a=str(r.get_function('target.llvm_get_system_triple')()).split('-')[0]",
        "g={'kind':'llvm','mcpu':str(r.get_function('target.llvm_get_system_cpu')())}",
        "o={} if a==p.machine() else {'mtriple':a+'-linux-gnu'}",
        "k=o and {'fcompile':__import__('tvm.support.cc',fromlist='x').cross_compiler(a+'-linux-gnu-g++')}",
        "t.compile(b.get(),target=t.target.Target({**g,**o})).export_library('kernel.so',**k)",
        "r.upload('kernel.so'); m=x.VirtualMachine(r.load_module('kernel.so'),d)",
        f"m.set_input('main',*[t.runtime.tensor(n.ones(s,'{problem.dtype}'),d) for s in {shapes}])",
        "print(m.time_evaluator('invoke_stateful',d,number=10,repeat=9)('main'))",
    ]


def printing(problem: ConvProblem, gpu: str) -> list[str]:
    """Return the statements that compile one convolution for an OpenCL GPU and print its source."""
    return [
        "import tvm as t",
        *_building(problem),
        f"g=t.target.Target({{'kind':'opencl','device':'{gpu}'}}).with_host(t.target.Target({{'kind':'llvm'}}))",
        "g.__enter__()",
        "m=t.compile(b.get(),target=g,relax_pipeline=x.get_default_pipeline(g)).mod",
        "print(m.imports[0].imports[0].inspect_source('cl'))",
    ]


def command(problem: ConvProblem, argument: str, plan: Plan) -> str:
    """Return the command that writes a script for the GPU, and runs it; it takes the untuned convolution."""
    words = ["python", "-m", "neverslower", "script", "--backend", f"tvm:{argument}", problem.key]
    line = f"{shlex.join(words)} > repro.py && python repro.py"
    return f"{line}  # {plan.name}: apply its database in there" if plan.tuned else line


def on_cuda(problem: ConvProblem, gpu: int) -> str:
    """Return a script that times the untuned convolution on an NVIDIA GPU, in a CUDA graph of many calls."""
    shapes = [
        arranged(shape, problem.layout) for shape in (problem.input_shape, problem.weight_shape, problem.output_shape)
    ]
    return _ON_CUDA.format(
        problem=problem, gpu=gpu, building="\n".join(_building(problem)), shapes=shapes, dtype=problem.dtype
    )


_ON_CUDA = '''\
"""{problem} by TVM on an NVIDIA GPU, untuned.

Needs apache-tvm with its ffi, a CUDA build of torch, and CUDA's toolkit or nvidia-cuda-crt and nvidia-cuda-cccl. Prints
the schedule rule and the median time of a call in microseconds, from a CUDA graph of many calls on the same tensors,
which the L2 cache holds if they fit.
"""
import glob
import importlib.util
import os
import statistics

import torch

torch.cuda.set_device({gpu})
wheels = importlib.util.find_spec("nvidia")
places = wheels.submodule_search_locations if wheels else ()
roots = [*(root for place in places for root in glob.glob(place + "/cu[1-9]*")), "/usr/local/cuda"]
needed = ("crt/host_defines.h", "cccl/cuda/std/cstdint")
whole = (root for root in roots if all(os.path.exists(f"{{root}}/include/{{file}}") for file in needed))
os.environ.setdefault("CUDA_PATH", next(whole, roots[0]))
os.environ.setdefault("TVM_CUDA_NVRTC_EXTRA_OPTS", "-I" + os.environ["CUDA_PATH"] + "/include/cccl")
import tvm as t
import tvm_ffi
from tvm.s_tir import dlight

{building}
major, minor = torch.cuda.get_device_capability({gpu})
kind = {{"kind": "cuda", "arch": f"sm_{{major}}{{minor}}", "max_shared_memory_per_block": 49152,
        "max_threads_per_block": 1024, "thread_warp_size": 32}}
target = t.target.Target(kind).with_host(t.target.Target({{"kind": "llvm"}}))
with target:
    module = x.get_pipeline("zero")(b.get())
    (name,) = (v.name_hint for v, g in module.functions.items() if isinstance(g, t.tirx.PrimFunc))
    for rule in ("Matmul", "GEMV", "Reduction", "GeneralReduction", "Fallback"):
        module = dlight.ApplyDefaultSchedule(getattr(dlight.gpu, rule)())(module)
        if module[name].attrs.get("tirx.is_scheduled", False):
            break
    loops = t.IRModule({{name: module[name].with_attr("global_symbol", name)}})
    call = t.compile(loops, target=target)[name]
stream = torch.cuda.Stream()
torch.cuda.set_stream(stream)
tensors = [torch.rand(shape, device="cuda", dtype=torch.{dtype}) - 0.5 for shape in {shapes}]
arguments = [t.runtime.from_dlpack(tensor) for tensor in tensors]
calls, graph = 50, torch.cuda.CUDAGraph()
begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
times = []
with tvm_ffi.use_raw_stream(tvm_ffi.device("cuda", {gpu}), stream.cuda_stream):
    for _ in range(3):
        call(*arguments)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(calls):
            call(*arguments)
    for _ in range(30):
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / calls * 1e3)
print(rule, f"{{statistics.median(times[5:]):.2f}} us a call")
'''


def _building(problem: ConvProblem) -> list[str]:
    """Return the statements that leave one convolution in the builder `b`."""
    top, bottom, left, right = problem.padding
    layouts = ("NHWC", "OHWI") if problem.layout is Layout.NHWC else ("NCHW", "OIHW")
    shapes = [arranged(shape, problem.layout) for shape in (problem.input_shape, problem.weight_shape)]
    convolution = (
        f"x.op.nn.conv2d(*v,strides={problem.stride},padding={(top, left, bottom, right)},"
        f"dilation={problem.dilation},groups={problem.groups},data_layout='{layouts[0]}',"
        f"kernel_layout='{layouts[1]}',out_dtype='float32')"
    ).replace(" ", "")
    if problem.dtype is not DType.FLOAT32:
        convolution = f"x.op.astype({convolution},'{problem.dtype}')"
    return [
        "from tvm import relax as x",
        "T=getattr(x,'TensorStructInfo',None) or x.TensorType",
        f"v=[x.Var(c,T(s,'{problem.dtype}')) for c,s in zip('iw',{shapes})]",
        "b=x.BlockBuilder()",
        # In a dataflow block, as the adapter has it: TVM fuses the rounding of half precisions within one alone.
        "f=b.function('main',v); f.__enter__(); g=b.dataflow(); g.__enter__()",
        f"o=b.emit_output(b.emit({convolution})); g.__exit__(0,0,0); b.emit_func_output(o); f.__exit__(0,0,0)",
    ]
