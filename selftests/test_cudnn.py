"""The cuDNN adapter without a GPU: its words, the profiler's trace, scripts, and why it is unavailable."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from backends import cudnn, gpu
from backends.base import BackendOptions
from backends.cudnn import CAPABILITIES, CuDNN, open, reproduce
from backends.cudnn.choice import CudnnOptions, Policy
from backends.cudnn.dispatch import launches, steps_and_shares, without_arguments
from backends.cudnn.frontend import IMAGE, WEIGHT, BuiltPlan, strides
from backends.cudnn.launching import ByPlan, Launched, through_torch
from backends.cudnn.script import script
from backends.gpu import COLD_FACTOR, require_gpu
from backends.gpu.replay import Replay
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import InvalidProblem, Unavailable, Unsupported
from neverslower.evidence.kernels import Kernel
from neverslower.evidence.observation import Cache, Plan
from neverslower.problem.convolution import DType, Layout, parse_descriptor
from neverslower.problem.epilogue import NOTHING, Epilogue
from neverslower.worker.far_side import FarSide

PROBLEM = parse_descriptor("mb1_ic8oc12_ih9oh5kh3sh2ph1", DType.FLOAT16, Layout.NHWC)


@pytest.mark.parametrize(
    ("words", "choice"),
    [
        ("", CudnnOptions()),
        ("best", CudnnOptions(Policy.BEST)),
        ("torch,cold,gpu=1", CudnnOptions(Policy.TORCH, "cold", 1)),
        ("cold,hot", CudnnOptions()),
        ("fallback,cold", CudnnOptions(Policy.FALLBACK, "cold")),
        ("torch,best", CudnnOptions(Policy.TORCH_BEST)),
        ("torch_best", CudnnOptions(Policy.TORCH_BEST)),
    ],
)
def test_words_are_read(words, choice):
    assert CudnnOptions().with_words(words) == choice


def test_best_stays_on_the_way_that_is_set():
    assert CudnnOptions(Policy.TORCH).with_words("best").policy is Policy.TORCH_BEST
    for policy in (Policy.HEURISTIC, Policy.FALLBACK):
        assert CudnnOptions(policy).with_words("best").policy is Policy.BEST


@pytest.mark.parametrize("words", ["fastest", "gpu=", "gpu=-1", "gpu=x", "torch cold", "Best"])
def test_another_word_is_named_with_those_that_there_are(words):
    with pytest.raises(
        ValueError, match="is not one of heuristic, fallback, best, torch, torch_best, hot, cold, gpu=N"
    ):
        CudnnOptions().with_words(words)
    with pytest.raises(Unavailable, match="is not one of"):
        open(BackendOptions(words))


def test_every_format_of_the_issue_is_measured_by_default():
    assert CAPABILITIES.formats == (
        (DType.FLOAT16, Layout.NHWC),
        (DType.TF32, Layout.NCHW),
        (DType.FLOAT32, Layout.NCHW),
    )


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
def test_without_a_gpu_it_is_unavailable_with_the_reason():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(Unavailable, match=r"CPU build|not installed|no usable NVIDIA GPU"):
        open(BackendOptions())


class FakeCuda:
    """A torch whose driver is broken."""

    __version__ = "2.11.0+cu130"

    class version:  # noqa: N801
        cuda = "13.0"

    class cuda:  # noqa: N801
        @staticmethod
        def init():
            raise RuntimeError("Found no NVIDIA driver on your system.\nPlease check that you have one.")


def test_a_broken_driver_is_told_in_its_own_words():
    with pytest.raises(Unavailable, match=r"no usable NVIDIA GPU: Found no NVIDIA driver on your system\."):
        require_gpu(FakeCuda, 0)


def test_a_cpu_build_of_torch_is_named():
    class Cpu(FakeCuda):
        class version:  # noqa: N801
            cuda = None

    with pytest.raises(Unavailable, match=r"torch 2\.11\.0\+cu130 is a CPU build; a CUDA build of torch is needed"):
        require_gpu(Cpu, 0)


def event(name: str, start: float, duration: float, category: str = "kernel", **arguments) -> dict[str, Any]:
    return {"cat": category, "name": name, "ts": start, "dur": duration, "args": arguments}


SPIN = "at::cuda::(anonymous namespace)::spin_kernel(long)"


def trace() -> dict[str, Any]:
    """Two calls, with the fields of a trace that torch 2.11 wrote on an H100, out of order as they may be."""
    return {
        "traceEvents": [
            event(SPIN, 40.0, 0.9, grid=[1, 1, 1], block=[1, 1, 1]),
            event("Memset (Device)", 10.0, 1.0, "gpu_memset", bytes=4),
            event("void gemm<float>(gemm::Params)", 12.0, 3.0, grid=[14, 8, 1], block=[384, 1, 1]),
            event("cudaLaunchKernel", 11.0, 5.0, "cuda_runtime"),
            event("void gemm<float>(gemm::Params)", 52.0, 4.0, grid=[13, 8, 1], block=[384, 1, 1]),
            event(SPIN, 60.0, 0.9, grid=[1, 1, 1], block=[1, 1, 1]),
            {"ph": "M", "name": "process_name"},
        ]
    }


def test_launches_are_divided_at_the_marks_and_ordered_by_time():
    first, second = launches(trace(), 2)
    assert first == [
        (Kernel("Memset (Device)"), 1.0),
        (Kernel("void gemm<float>", (14, 8, 1), (384, 1, 1)), 3.0),
    ]
    assert second == [(Kernel("void gemm<float>", (13, 8, 1), (384, 1, 1)), 4.0)]


def test_a_mark_that_is_missing_is_an_error():
    with pytest.raises(ValueError, match="saw 2 of 3 calls end"):
        launches(trace(), 3)


def test_steps_have_shares_of_the_time():
    first, _ = launches(trace(), 2)
    assert steps_and_shares(first) == (
        ("Memset (Device) grid=1x1x1 block=1x1x1", "void gemm<float> grid=14x8x1 block=384x1x1"),
        (0.25, 0.75),
    )
    assert steps_and_shares([]) == ((), ())


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("void a::b<int, (k)0>(int, f(*)(c))", "void a::b<int, (k)0>"),
        ("sm90_xmma", "sm90_xmma"),
        ("at::(anonymous namespace)::spin(long)", "at::(anonymous namespace)::spin"),
        ("(odd)", "(odd)"),
        ("unbalanced)", "unbalanced)"),
        ("", ""),
    ],
)
def test_arguments_are_left_out_of_names(name, without):
    assert without_arguments(name) == without


def test_torchs_choice_is_named_by_the_kernel_that_computes():
    steps = ("Memset (Device) grid=1x1x1 block=1x1x1", "void gemm<float> grid=14x8x1 block=384x1x1")
    plan = Launched(print, [], Plan("torch")).dispatched(steps, (0.2, 0.8))
    assert (plan.name, plan.steps) == ("torch: gemm", steps)
    chosen = Launched(print, [], Plan("eng1_k2=3", rank=2, offered=9, workspace=4)).dispatched(steps, (0.2, 0.8))
    assert (chosen.name, chosen.rank, chosen.offered, chosen.workspace) == ("eng1_k2=3", 2, 9, 4)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 1, 4, 4), (1, 8, 1, 1), (1, 1, 1, 1)])
def test_strides_are_dense_in_the_layouts_order(shape, layout):
    order = (0, 1, 2, 3) if layout is Layout.NCHW else (0, 2, 3, 1)
    expected, step = [0] * 4, 1
    for axis in reversed(order):
        expected[axis] = step
        step *= shape[axis]
    assert strides(shape, layout) == tuple(expected)


@pytest.mark.parametrize("plan", ["", "eng45_k2=5", "torch: sm90_xmma", "torch_best: x"])
@pytest.mark.parametrize("dtype", DType)
def test_scripts_are_python_that_names_no_never_slower_module(plan, dtype):
    text = script(parse_descriptor(PROBLEM.descriptor, dtype, Layout.NCHW), plan)
    compile(text, "script", "exec")
    assert "neverslower" not in text
    assert ("return torch.nn.functional.conv2d" in text) == plan.startswith("torch")
    assert "off by {off:.1e} of the largest value" in text
    assert ("deselect" in text) == (dtype is DType.FLOAT32 and not plan.startswith("torch"))
    assert f"allow_tf32 = {dtype is DType.TF32}" in text or not plan.startswith("torch")


def test_a_failure_names_the_command_that_writes_the_script():
    line = reproduce(PROBLEM, Plan("eng45_k2=5"), BackendOptions())
    assert line.startswith(f"python -m neverslower script --backend cudnn {PROBLEM.key} --plan eng45_k2=5 > ")
    assert "\n" not in line

    fallback = reproduce(PROBLEM, Plan("eng0"), BackendOptions("fallback,cold"))
    assert f"--backend cudnn:fallback {PROBLEM.key} --plan eng0" in fallback


@pytest.mark.parametrize("epilogue", ["bias", "relu", "bias+sum+swish:1"])
def test_a_script_has_the_epilogue_in_its_graph(epilogue: str) -> None:
    fused = replace(PROBLEM, epilogue=Epilogue.parse(epilogue))
    text = cudnn.write_script(fused, "", BackendOptions("fallback"))
    compile(text, "script", "exec")
    assert "heur_mode.FALLBACK" in text
    asked = [word for word in ("bias", "add", "relu", "swish") if f"Y = graph.{word}(" in text]
    assert asked == [{"sum": "add", "swish:1": "swish"}.get(word, word) for word in epilogue.split("+")]
    assert (", B: b" in text, ", R: r" in text) == ("bias" in epilogue, "sum" in epilogue)


def test_torch_s_own_convolution_takes_a_bias_and_no_more() -> None:
    biased, activated = (replace(PROBLEM, epilogue=Epilogue.parse(text)) for text in ("bias", "relu"))
    assert "conv2d(x, w, b.reshape(-1), " in script(biased, "torch")
    with pytest.raises(InvalidProblem, match="takes a bias and no post-ops"):
        script(activated, "torch")
    gpu: Any = object.__new__(CuDNN)
    gpu._choice = CudnnOptions(Policy.TORCH)
    assert gpu._chosen(biased, "").policy is Policy.TORCH
    with pytest.raises(Unsupported, match="takes a bias and no post-ops; leave out torch"):
        gpu._chosen(activated, "")
    assert gpu._chosen(activated, "heuristic").policy is Policy.HEURISTIC


# Timing, on a GPU of which there is nothing but the time that passes


class Gpu:
    """torch, its GPU and its one stream: the host takes a while to hand it anything, and it runs that in order."""

    CALL, HANDING = 10e-6, 5e-6

    def __init__(self):
        self.now = self.free = 0.0
        self.calls = []
        self.cuda = SimpleNamespace(
            Event=lambda enable_timing: Event(self), CUDAGraph=lambda: Graph(self), _sleep=self._sleep
        )

    def hand(self, seconds):
        self.now += self.HANDING
        self.free = max(self.free, self.now) + seconds

    def _sleep(self, cycles):
        self.hand(cycles / 2e9)


class Event:
    """The moment at which the stream comes to it, told to a host that has waited for it."""

    def __init__(self, gpu):
        self._gpu, self.at = gpu, 0.0

    def record(self, stream):
        self._gpu.hand(0.0)
        self.at = self._gpu.free

    def synchronize(self):
        self._gpu.now = max(self._gpu.now, self.at)

    def elapsed_time(self, end):
        if end.at > self._gpu.now:
            raise RuntimeError("CUDA error: device not ready")
        return (end.at - self.at) * 1e3


class Graph:
    """The calls that were made while it was captured."""

    def __init__(self, gpu):
        self._gpu, self._calls = gpu, []

    def capture_begin(self, capture_error_mode):
        self._gpu.calls.clear()

    def capture_end(self):
        self._calls = list(self._gpu.calls)

    def replay(self):
        self._gpu.hand(len(self._calls) * self._gpu.CALL)
        for call in filter(callable, self._calls):
            call()


@pytest.mark.parametrize("iterations", [1, 40, 64, 65, 200])
def test_a_round_takes_what_its_calls_take_on_the_gpu(iterations):
    gpu = Gpu()
    replay = Replay(gpu, None, gpu.calls.append)
    for _ in range(3):
        assert replay.run(iterations) == pytest.approx(iterations * gpu.CALL)


@pytest.mark.parametrize("buffers", [5, 70])
def test_a_cold_round_goes_through_all_of_its_buffers(buffers):
    gpu = Gpu()
    replay = Replay(gpu, None, gpu.calls.append, buffers)
    replay.captured(2 * buffers)
    assert gpu.calls == [*range(buffers)] * 2
    assert replay.run(buffers) == pytest.approx(buffers * gpu.CALL)


class Offered:
    """A frontend's convolution whose plans take these seconds a call on a GPU; None where one fails when it runs."""

    def __init__(self, gpu, seconds):
        self._gpu, self._seconds = gpu, seconds
        self.offered, self.selected = len(seconds), []

    def plans(self):
        return iter([BuiltPlan(rank, f"eng{rank}", 0) for rank in range(self.offered)])

    def execute(self, tensors, output, workspace, plan):
        if (seconds := self._seconds[plan.rank]) is None:
            raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")
        self._gpu.calls.append(lambda: self._gpu.hand(seconds))

    def select(self, plan):
        self.selected.append(plan.rank)


def by_plan(*seconds):
    gpu: Any = Gpu()
    gpu.empty, gpu.uint8, gpu.cuda.synchronize = lambda size, dtype, device: None, None, lambda: None
    offered = Offered(gpu, seconds)
    library: Any = SimpleNamespace(torch=gpu, refusals=(), convolution=lambda one: offered)
    return ByPlan(library, None), offered


def test_the_fastest_plan_is_looked_for_once_and_one_that_fails_is_left_out():
    made, offered = by_plan(3e-5, None, 1e-5, 2e-5, 9e-4)
    for _ in range(2):
        plan = made.launched(PROBLEM, [{}], [None], Policy.BEST).plan
        assert (plan.name, plan.rank, plan.offered) == ("eng2", 2, 5)
    assert offered.selected == [2]


def test_where_no_plan_runs_nothing_is_chosen():
    with pytest.raises(Unsupported, match="offers 2 plans, and none of them runs"):
        by_plan(None, None)[0].launched(PROBLEM, [{}], [None], Policy.BEST)


def test_torch_is_told_at_each_call_how_to_choose():
    settings = SimpleNamespace(benchmark=None, allow_tf32=None)
    seen = []

    def conv2d(image, weight, bias, *geometry):
        seen.append((settings.benchmark, settings.allow_tf32, image))
        return f"{image} convolved"

    torch = SimpleNamespace(
        nn=SimpleNamespace(functional=SimpleNamespace(conv2d=conv2d)), backends=SimpleNamespace(cudnn=settings)
    )
    tensors = [{IMAGE: "one", WEIGHT: "w"}, {IMAGE: "other", WEIGHT: "w"}]
    tf32 = replace(PROBLEM, dtype=DType.TF32)
    best, plain = (
        through_torch(torch, tf32, tensors, Policy.TORCH_BEST),
        through_torch(torch, PROBLEM, tensors, Policy.TORCH),
    )
    best.call(1)
    plain.call(0)
    best.once()
    assert seen == [(True, True, "other"), (False, False, "one"), (True, True, "one")]
    assert (best.outputs, plain.outputs) == (["one convolved", "other convolved"], ["one convolved", None])
    assert str(best.plan) == "torch_best"


@pytest.mark.parametrize("shape", ["mb1_ic128oc127_ih28kh3ph1", "mb8_ic256oc512_ih56kh3ph1", "mb1_ic64oc64_ih14kh1"])
def test_cold_buffers_are_more_than_the_cache_holds(shape):
    gpu, one = object.__new__(CuDNN), parse_descriptor(shape)
    gpu.properties = SimpleNamespace(L2_cache_size=50 * 2**20)
    others = CuDNN.copies(gpu, one, "cold") - 1
    assert others * one.bytes >= COLD_FACTOR * 50 * 2**20
    assert CuDNN.copies(gpu, one, "hot") == 1


def test_the_gpu_that_is_asked_for_is_the_one_that_computes_and_is_told(monkeypatch):
    asked = []

    def properties(index):
        asked.append(index)
        return SimpleNamespace(
            name=f"GPU number {index}", uuid=f"uuid-{index}", major=9, minor=0, multi_processor_count=132
        )

    cuda = SimpleNamespace(
        set_device=asked.append,
        get_device_properties=properties,
        Stream=lambda: SimpleNamespace(cuda_stream=0),
        set_stream=lambda stream: None,
    )
    settings = SimpleNamespace(cudnn=SimpleNamespace(benchmark=True))
    torch = SimpleNamespace(cuda=cuda, backends=settings, version=SimpleNamespace(cuda="13.0"))
    library = SimpleNamespace(
        backend_version_string=lambda: "9.1.0",
        __version__="1.32.0",
        create_handle=lambda: 0,
        set_stream=lambda handle, stream: None,
        cudnnGraphNotSupportedError=RuntimeError,
    )

    def nvml(properties, index):
        asked.append(index)
        return None, ""

    monkeypatch.setattr("backends.gpu.find_nvml", nvml)
    monkeypatch.setattr("backends.gpu._STREAMS", {})
    assert CuDNN(torch, library, CudnnOptions(gpu=1)).lock_name == "GPU number 1 uuid-1"
    assert asked == [1, 1, 1]
    assert torch.backends.cudnn.benchmark is False


def test_one_stream_serves_all_of_a_process(monkeypatch):
    monkeypatch.setattr("backends.gpu.find_nvml", lambda properties, index: (None, ""))
    monkeypatch.setattr("backends.gpu._STREAMS", {})
    current: list[Any] = []
    cuda = SimpleNamespace(
        set_device=lambda index: None,
        get_device_properties=lambda index: SimpleNamespace(name="GPU"),
        Stream=object,
        set_stream=current.append,
    )
    one, again, other = (gpu.Gpu(SimpleNamespace(cuda=cuda), index) for index in (0, 0, 1))
    assert one.stream is again.stream is not other.stream
    assert current == [one.stream, one.stream, other.stream]


def test_a_trace_survives_json():
    assert launches(json.loads(json.dumps(trace())), 2) == launches(trace(), 2)


class Throttled(CuDNN):
    """A GPU that NVML says is slowed down, whatever runs on it."""

    remarks, lock_name = (), "gpu"

    def __init__(self):
        self.nvml: Any = SimpleNamespace(slowdowns=lambda: ["power cap"])

    def fingerprint(self):
        return Fingerprint("cudnn", "gpu", "9.1.0", "0")

    def prepare(self, problem, inputs, weights, policy="", added=NOTHING):
        return SimpleNamespace(run=lambda calls: 1e-3 * calls, cache=Cache(), least_iterations=1)


def test_what_a_gpu_takes_while_it_is_throttled_is_dropped(monkeypatch):
    adapter = SimpleNamespace(CAPABILITIES=CAPABILITIES, open=lambda options: Throttled())
    monkeypatch.setattr("backends.load", lambda name: adapter)
    far_side = FarSide()
    far_side.open("cudnn", "", 1, 0)
    answers = (
        far_side.sweep(PROBLEM.key, [PROBLEM.prune(1).key], 8, "seed"),
        far_side.measure(PROBLEM.key, PROBLEM.prune(1).key, 8),
    )
    assert [(found["seconds"], found["discarded"], found["why_discarded"]) for found in answers] == [
        (b"", 8, "power cap")
    ] * 2
