"""The adapters of cuDNN and TVM on a real GPU; skipped where there is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.base import BackendOptions
from backends.cudnn.network import GRAPHED, ONE_BY_ONE, GpuNetwork
from neverslower.errors import DeviceLost, OutOfMemory, Unavailable, Unsupported
from neverslower.evidence.kernels import kernels, main_kernels
from neverslower.judge.verdict import block_log_ratios
from neverslower.problem import numerics
from neverslower.problem.convolution import ConvProblem, DType, Layout, parse_descriptor
from neverslower.problem.epilogue import Epilogue
from neverslower.problem.networks import distinct_layers, network
from neverslower.problem.whole import Network
from neverslower.worker.process import Worker, WorkerSpec
from neverslower.worker.sampling import calibrate, interleave
from selftests.support import ROOT, known

pytestmark = [pytest.mark.gpu, pytest.mark.alone]
L16 = next(one.problem for one in distinct_layers(network("resnet50")) if one.name == "resnet50.L16")
HALF = replace(L16, dtype=DType.FLOAT16, layout=Layout.NHWC)
SHAPES = (
    "mb1_ic128oc127_ih28kh3ph1",
    "mb3_ic3oc64_ih17kh7sh2ph3",
    "mb1_g4ic16oc32_ih9kh3ph1",
    "mb1_g32ic32oc32_ih14kh3ph1",
    "mb2_ic20oc24_ih15kh3dh1ph2",
    "mb1_ic8oc8_ih14oh7kh3sh2ph0",
)


@cache
def backend(argument: str = ""):
    from backends import cudnn

    try:
        return cudnn.open(BackendOptions(argument))
    except Unavailable as error:
        pytest.skip(str(error))


def prepared(problem: ConvProblem, policy: str = ""):
    return backend().prepare(problem, *numerics.tensors(problem), policy, numerics.added_tensors(problem))


def deviation(problem: ConvProblem, policy: str) -> float:
    expected = numerics.convolve(problem, *numerics.tensors(problem), numerics.added_tensors(problem))
    return numerics.deviation(prepared(problem, policy).output(), expected, numerics.typical_output(problem))


@pytest.mark.parametrize("policy", ["", "best", "torch", "torch_best"])
@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("dtype", DType)
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_are_right(shape, dtype, layout, policy):
    problem = parse_descriptor(shape, dtype, layout)
    try:
        found = deviation(problem, policy)
    except Unsupported as error:
        pytest.skip(str(error))
    assert found <= numerics.TOLERANCES[dtype]


@pytest.mark.parametrize("policy", ["", "best", "fallback", "torch"])
@pytest.mark.parametrize("dtype", [DType.FLOAT16, DType.TF32])
@pytest.mark.parametrize("epilogue", ["bias", "bias+relu", "swish:1", "bias+sum+relu", "bias+swish:1+sum"])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_behind_an_epilogue_are_right(shape, epilogue, dtype, policy):
    problem = replace(parse_descriptor(shape, dtype, Layout.NHWC), epilogue=Epilogue.parse(epilogue))
    try:
        found = deviation(problem, policy)
    except Unsupported as error:
        pytest.skip(str(error))
    assert found <= numerics.TOLERANCES[dtype]


def test_a_fused_layer_has_a_plan_of_its_own():
    plan = prepared(replace(HALF, epilogue=Epilogue.parse("bias+relu"))).plan()
    assert plan.name.startswith("eng")
    assert len(main_kernels(kernels(plan))) == 1


def test_the_fallback_heuristic_has_a_plan():
    assert prepared(HALF, "fallback").plan().name.startswith("eng")


@pytest.mark.parametrize("policy", ["", "best", "torch"])
def test_plain_float32_is_not_tf32(policy):
    assert deviation(L16, policy) < 1e-5 < deviation(replace(L16, dtype=DType.TF32), policy)


def seconds_per_call(one) -> float:
    return calibrate(one, 1e-3, one.least_iterations)[1]


def test_cold_is_cold():
    hot, cold = prepared(HALF), prepared(HALF, "cold")
    assert hot.cache.kind == "hot"
    assert hot.cache.share < 0.1
    assert cold.cache.kind == "cold"
    assert cold.cache.share >= 2
    rounds = max(hot.least_iterations, cold.least_iterations)
    ratios = block_log_ratios(interleave(hot, cold, (rounds, rounds), 20)[0])
    assert np.median(ratios) > 0.02


def test_what_is_too_small_for_cold_is_refused():
    with pytest.raises(Unsupported, match="too small to be measured cold"):
        prepared(parse_descriptor("mb1_ic1oc1_ih4kh1", DType.FLOAT16), "cold")


def test_the_best_plan_is_not_slower_than_the_first():
    problem = replace(HALF, out_channels=127)
    first, best = prepared(problem), prepared(problem, "best")
    ratios = block_log_ratios(interleave(first, best, (40, 40), 20)[0])
    assert np.median(ratios) < 0.03


def test_a_plan_names_engine_rank_workspace_and_launches():
    plan = prepared(HALF).plan()
    assert plan.name.startswith("eng")
    assert plan.rank == 0 < plan.offered
    assert plan.workspace >= 0
    (main,) = main_kernels(kernels(plan))
    assert main.tiles > 1
    assert sum(plan.shares) == pytest.approx(1.0, abs=0.05)


def test_torchs_plan_is_named_by_its_kernel():
    plan = prepared(replace(HALF, out_channels=127), "torch").plan()
    assert plan.name.startswith("torch: ")
    assert plan.steps


def test_the_profiler_leaves_times_as_they_were():
    one, other = prepared(HALF), prepared(replace(HALF, out_channels=120))
    before = block_log_ratios(interleave(one, other, (60, 60), 40)[0])
    one.plan()
    after = block_log_ratios(interleave(one, other, (60, 60), 40)[0])
    assert abs(np.median(before) - np.median(after)) < 0.01


def test_plans_that_are_profiled_together_are_those_of_each_alone():
    several = [prepared(replace(HALF, out_channels=count)) for count in (128, 127, 96, 64)]
    plans = backend().plans(several)
    assert plans == [each.plan() for each in several]
    assert all(kernels(plan) for plan in plans)


def test_what_does_not_fit_is_refused_and_the_next_one_runs():
    gpu, huge = backend(), parse_descriptor("mb512_ic256oc256_ih600kh3ph1", DType.FLOAT16, Layout.NHWC)
    with pytest.raises(OutOfMemory, match=r"\d GB of tensors"), gpu.errors_translated(huge.bytes):
        gpu.torch.empty(2**42, dtype=gpu.torch.uint8, device="cuda")
    assert deviation(HALF, "") <= numerics.TOLERANCES[DType.FLOAT16]


def test_another_process_on_the_gpu_is_told():
    backend()
    code = (
        "import os, time, torch; x = torch.zeros(1 << 20, device='cuda')\n"
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    # Through a shell that ends at once: what this process itself had started would be of the same run.
    shell = subprocess.Popen(["sh", "-c", '"$0" -c "$1" &', sys.executable, code], stdout=subprocess.PIPE, text=True)
    other = int(known(shell.stdout).readline())
    try:
        with Worker(WorkerSpec("cudnn")) as worker:
            assert any(f"process {other}" in remark for remark in worker.remarks), worker.remarks
    finally:
        os.kill(other, signal.SIGKILL)
        shell.communicate()


def test_a_lost_device_ends_the_process_with_the_reason():
    backend()
    code = (
        "import torch\nfrom backends import cudnn\nfrom backends.base import BackendOptions\n"
        "from neverslower.errors import DeviceLost\n"
        "from neverslower.problem.convolution import parse_descriptor\n"
        "backend = cudnn.open(BackendOptions())\n"
        "try:\n"
        "    with backend.errors_translated(parse_descriptor('mb1_ic4oc4_ih4kh1').bytes):\n"
        "        torch.zeros(4, device='cuda')[torch.tensor([9], device='cuda')].cpu()\n"
        "except DeviceLost as error:\n"
        "    print('lost:', error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "lost: CUDA error" in done.stdout, done.stderr


def test_a_gpu_that_is_not_there_is_unavailable():
    backend()
    from backends import cudnn

    with pytest.raises(Unavailable, match="gpu=99: there are"):
        cudnn.open(BackendOptions("gpu=99"))


def test_the_scripts_run_alone(tmp_path):
    plan = prepared(HALF).plan()
    from backends.cudnn.script import script

    fused = replace(HALF, epilogue=Epilogue.parse("bias+sum+relu"))
    texts = [script(HALF, name) for name in ("", plan.name, "torch")]
    texts += [script(HALF, fallback=True), script(fused), script(fused, prepared(fused).plan().name)]
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.py"
        path.write_text(text, encoding="utf-8")
        done = subprocess.run([sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert "us a call" in done.stdout, done.stderr


def test_lost_is_no_refusal():
    assert not issubclass(DeviceLost, Unsupported)


NETWORKS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.layers(x).mean((2, 3)))

class Waiting(Net):
    def forward(self, x):
        y = super().forward(x)
        return y if y.sum().item() > 0 else -y

class Failing(Net):
    def forward(self, x):
        return super().forward(x[:, :1])
"""


def prepared_network(folder: Path, attribute: str, argument: str = "", **fields: Any) -> GpuNetwork:
    path = folder / "networks.py"
    path.write_text(NETWORKS, encoding="utf-8")
    network: GpuNetwork = backend(argument).prepare_network(Network(f"{path}:{attribute}", ("2x3x32x32",), **fields))
    return network


@pytest.mark.parametrize("argument", ["", "best", "torch"])
@pytest.mark.parametrize(("dtype", "layout"), [(DType.FLOAT16, Layout.NHWC), (DType.TF32, Layout.NCHW)])
def test_a_network_is_replayed_from_a_graph(tmp_path: Path, argument: str, dtype: DType, layout: Layout) -> None:
    network = prepared_network(tmp_path, "Net", argument, dtype=dtype, layout=layout)
    assert network.way == GRAPHED
    assert 0 < network.run(3) < 1
    assert calibrate(network, backend(argument).shortest_round)[0] > 1


def test_a_network_that_waits_for_a_value_is_called_one_by_one_and_the_next_is_captured(tmp_path: Path) -> None:
    waiting = prepared_network(tmp_path, "Waiting")
    assert waiting.way == ONE_BY_ONE
    graphed = prepared_network(tmp_path, "Net")
    assert graphed.way == GRAPHED
    assert min(waiting.run(3) for _ in range(5)) > min(graphed.run(3) for _ in range(5)) > 0  # It waits for the host.


def test_a_network_that_fails_leaves_the_gpu_well(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"networks\.py") as caught:
        prepared_network(tmp_path, "Failing")
    assert "failed when it was run from end to end on the GPU" in str(caught.value)
    assert deviation(HALF, "") <= numerics.TOLERANCES[DType.FLOAT16]


def test_a_network_that_does_not_fit_is_out_of_memory_and_the_next_one_runs(tmp_path: Path) -> None:
    path = tmp_path / "networks.py"
    path.write_text(NETWORKS, encoding="utf-8")
    with pytest.raises(OutOfMemory):
        backend().prepare_network(Network(f"{path}:Net", ("4000x3x4096x4096",)))
    assert prepared_network(tmp_path, "Net").run(1) > 0


def test_a_cold_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="a whole network is measured hot"):
        prepared_network(tmp_path, "Net", "cold")


# TVM


@cache
def tvm_backend() -> Any:
    from backends import tvm

    try:
        return tvm.open(BackendOptions("cuda"))
    except Unavailable as error:
        pytest.skip(str(error))


def prepared_by_tvm(problem: ConvProblem) -> Any:
    return tvm_backend().prepare(problem, *numerics.tensors(problem))


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT16])
@pytest.mark.parametrize("shape", SHAPES)
def test_tvm_s_outputs_are_right(shape: str, dtype: DType, layout: Layout) -> None:
    problem = parse_descriptor(shape, dtype, layout)
    try:
        one = prepared_by_tvm(problem)
    except Unsupported as error:
        pytest.skip(str(error))
    expected = numerics.convolve(problem, *numerics.tensors(problem), numerics.added_tensors(problem))
    found = numerics.deviation(one.output(), expected, numerics.typical_output(problem))
    assert found <= numerics.TOLERANCES[dtype]


def test_tvm_s_kernels_are_those_of_its_plan() -> None:
    from backends.cudnn.dispatch import profile

    one = prepared_by_tvm(L16)
    assert one.plan().name == "dlight Matmul"
    ((launched, _),) = profile(tvm_backend()._gpu.torch, [lambda: one.call(0)])[0]
    assert (launched,) == tuple(kernels(one.plan()))


def test_tvm_s_calls_take_their_time_on_the_gpu_and_no_launch() -> None:
    one = prepared_by_tvm(L16)
    few, many = (min(one.run(calls) for _ in range(10)) / calls for calls in (10, 200))
    assert few == pytest.approx(many, rel=0.2)
    assert calibrate(one, 1e-3, one.least_iterations)[0] > 1


def test_tvm_is_measured_cold_with_more_tensors_than_the_cache_holds() -> None:
    hot = prepared_by_tvm(L16)
    with Worker(WorkerSpec("tvm", "cuda,cold")) as worker:
        cold = worker.examine(L16.key)
    assert (hot.cache.kind, cold.cache.kind) == ("hot", "cold")
    assert hot.cache.share < 0.1
    assert known(cold.cache.share) >= 2
    assert cold.seconds_per_call > 0.5 * min(hot.run(100) for _ in range(5)) / 100


def test_tvm_pads_and_cuts_what_was_searched_for() -> None:
    from neverslower.problem.subject import Search, TunedLog

    search = Search(parse_descriptor("mb1_ic16oc32_ih14kh3ph1"), 4, 0)
    tvm_backend().tune(search)
    pruned = replace(search.problem, out_channels=27)
    padded = tvm_backend().prepare(pruned, *numerics.tensors(pruned), str(TunedLog(search, padded=True)))
    assert padded.plan().tuned
    assert padded.plan().name.endswith(", padded")
    expected = numerics.convolve(pruned, *numerics.tensors(pruned), numerics.added_tensors(pruned))
    found = numerics.deviation(padded.output(), expected, numerics.typical_output(pruned))
    assert found <= numerics.TOLERANCES[DType.FLOAT32]
