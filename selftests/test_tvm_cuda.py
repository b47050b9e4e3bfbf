"""TVM on an NVIDIA GPU without one: its words, what is missing, plans, generated kernels, and a GPU of which only time
passes.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import importlib.util
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends.base import BackendOptions, Offsets
from backends.gpu import Gpu
from backends.tvm import cuda, databases, health, nvrtc, reproduce, script, together, write_script
from backends.tvm import open as open_tvm
from backends.tvm.api import Api
from backends.tvm.choice import OnCuda, TvmOptions
from backends.tvm.compiled import Compiled
from backends.tvm.kernels import kernels_of
from backends.tvm.launches import grid_and_block
from backends.tvm.lowering import sources
from backends.tvm.nvidia import Cuda
from neverslower.errors import DeviceLost, Unavailable, Unsupported
from neverslower.evidence.kernels import Kernel, kernels
from neverslower.evidence.observation import Cache, Plan
from neverslower.files.kept import KeptFolders
from neverslower.problem.convolution import DType, Layout, parse_descriptor
from neverslower.problem.subject import Search, Subject, TunedLog
from selftests.support import problem
from selftests.test_cudnn import Gpu as TimePasses
from selftests.test_tvm_opencl import node

needs_tvm = pytest.mark.skipif(find_spec("tvm") is None, reason="apache-tvm is not installed")
TINY = parse_descriptor("mb1_ic4oc8_ih6kh3ph1")
L16 = parse_descriptor("mb1_ic128oc128_ih28kh3ph1")

# Its words


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("cuda", OnCuda()),
        ("cuda,cold,gpu=1", OnCuda(1, "cold")),
        ("cuda,database=work/logs", OnCuda(database="work/logs")),
        ("cuda,gpu=2,database=a,b", OnCuda(2, database="a,b")),
    ],
)
def test_words_are_read(text: str, choice: OnCuda) -> None:
    assert TvmOptions.parse(text) == TvmOptions(cuda=choice)


def test_a_folder_of_that_name_is_a_database() -> None:
    assert TvmOptions.parse("./cuda") == TvmOptions(database="./cuda")
    assert TvmOptions.parse("work/cuda") == TvmOptions(database="work/cuda")


@pytest.mark.parametrize("text", ["cuda,gpu=", "cuda,gpu=-1", "cuda,warm", "cuda,work/logs", "cuda,cold gpu=1"])
def test_another_word_is_refused_with_those_that_there_are(text: str) -> None:
    with pytest.raises(Unavailable, match=r"is not one of hot, cold, gpu=N, database=FOLDER") as caught:
        open_tvm(BackendOptions(text))
    assert str(caught.value).startswith(f"--backend tvm:{text}: ")


def test_a_database_needs_a_folder() -> None:
    with pytest.raises(Unavailable, match="database= names no folder"):
        open_tvm(BackendOptions("cuda,database="))


# What is missing


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CUDA folder that has everything, and that the user names."""
    for file in nvrtc.PARTS:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("", encoding="utf-8")
    monkeypatch.setenv("CUDA_PATH", str(tmp_path))
    for name in ("CUDA_HOME", "TVM_CUDA_COMPILE_MODE", "TVM_CUDA_NVRTC_EXTRA_OPTS"):
        monkeypatch.setenv(name, "")
    binding = SimpleNamespace(nvrtcVersion=lambda: (0, 13, 0))
    monkeypatch.setattr(importlib, "import_module", lambda name: binding)
    return tmp_path


def test_nvrtc_and_its_headers_are_found_and_shown_to_tvm(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVM_CUDA_NVRTC_EXTRA_OPTS", "--ftz=false")
    assert [nvrtc.arrange(), nvrtc.arrange()] == ["nvrtc 13.0"] * 2
    assert os.environ["CUDA_HOME"] == str(root)
    assert os.environ["TVM_CUDA_NVRTC_EXTRA_OPTS"] == f"--ftz=false -I{root}/include/cccl"


@pytest.mark.parametrize(("file", "wheel"), nvrtc.PARTS.items())
def test_a_missing_part_is_named_with_its_wheel(root: Path, file: str, wheel: str) -> None:
    (root / file).unlink()
    with pytest.raises(Unavailable) as caught:
        nvrtc.arrange()
    assert f"{root} lacks headers that tvm's kernels include: unset CUDA_PATH, or install there; `pip" in str(
        caught.value
    )
    assert re.findall(r"nvidia-cuda-\w+", str(caught.value).partition("pip install")[2]) == [wheel]


def test_the_first_folder_that_has_everything_is_taken(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path_factory.mktemp("nvidia")
    (wheels / "cu13").mkdir()
    monkeypatch.setenv("CUDA_PATH", "")
    monkeypatch.setattr(nvrtc, "TOOLKIT", root)
    found = SimpleNamespace(submodule_search_locations=[str(wheels)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    assert list(nvrtc.roots_here()) == [wheels / "cu13", root]
    nvrtc.arrange()
    assert os.environ["CUDA_PATH"] == str(root)
    monkeypatch.setattr(nvrtc, "TOOLKIT", root / "nowhere")
    monkeypatch.setenv("CUDA_PATH", "")
    monkeypatch.setenv("CUDA_HOME", "")
    with pytest.raises(Unavailable, match="cu13 lacks headers that tvm's kernels include: `pip"):
        nvrtc.arrange()


def test_a_missing_binding_or_library_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name)

    def unloadable() -> Any:
        raise RuntimeError("libnvrtc.so.13 not found")

    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(nvrtcVersion=unloadable))
    with pytest.raises(Unavailable, match=r"libnvrtc.so.13 not found\): `pip install '?nvidia-cuda-nvrtc"):
        nvrtc.arrange()
    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(Unavailable, match=r"`pip install '?cuda-bindings"):
        nvrtc.arrange()


def test_nvcc_is_used_where_the_user_wants_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVM_CUDA_COMPILE_MODE", "nvcc")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert nvrtc.arrange() == "nvcc"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Unavailable, match="no nvcc on the PATH"):
        nvrtc.arrange()


# Plans and scripts

ABOUT = {"function": "conv2d", "rule": "Matmul", "kernels": ["conv2d_kernel grid=25x2x1 block=8x16x1"]}


def test_a_plan_names_the_rule_or_the_database_and_each_kernel() -> None:
    plan = cuda.plan_of(ABOUT, "", "sm_90", padded=False)
    assert (plan.name, plan.tuned) == ("dlight Matmul", False)
    assert plan.steps == ("conv2d by dlight's Matmul", *ABOUT["kernels"])
    assert kernels(plan) == [Kernel("conv2d_kernel", (25, 2, 1), (8, 16, 1))]
    tuned = cuda.plan_of({**ABOUT, "rule": ""}, "0a1b", "sm_90", padded=True)
    assert (tuned.name, tuned.tuned) == ("tuned 0a1b, padded", True)
    assert tuned.steps[0] == "conv2d tuned from 0a1b, sm_90"
    # A database that has no record of the shape: a miss, and the plan says which rule took it.
    assert cuda.plan_of(ABOUT, "0a1b", "sm_90", padded=False).tuned is False


def test_the_grid_is_read_wherever_a_kernel_names_its_threads() -> None:
    def axis(tag: str, extent: int, body: Any) -> Any:
        thread = SimpleNamespace(var=node("Var"), thread_tag=tag)
        return node("AttrStmt", attr_key="thread_extent", node=thread, value=extent, body=body)

    inner = axis("threadIdx.y", 16, node("TileLoad"))
    branch = node("IfThenElse", then_case=node("SeqStmt", seq=[node("Evaluate"), inner]), else_case=None)
    kernel = axis("blockIdx.x", 25, axis("blockIdx.y", 2, axis("threadIdx.x", 8, branch)))
    assert grid_and_block(SimpleNamespace(body=kernel)) == ((25, 2, 1), (8, 16, 1))


@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16])
def test_a_failure_is_reproduced_by_a_script_with_its_own_graph(dtype: DType) -> None:
    half = replace(L16, dtype=dtype)
    options = BackendOptions("cuda,gpu=1")
    words = shlex.split(reproduce(half, Plan("dlight Matmul"), options))
    tuned = reproduce(half, Plan("tuned 0a1b", tuned=True), options)
    assert tuned == f"{shlex.join(words[:7])} > repro.py && python repro.py  # tuned 0a1b: apply its database in there"
    assert words[:7] == ["python", "-m", "neverslower", "script", "--backend", "tvm:cuda,gpu=1", half.key]
    text = write_script(half, "", options)
    compile(text, "<script>", "exec")
    assert "neverslower" not in text
    assert f"dtype=torch.{dtype}" in text
    assert 'device("cuda", 1)' in text
    assert str(cuda.RULES).replace("'", '"') in text
    assert text == script.on_cuda(half, 1)


@needs_tvm
@pytest.mark.parametrize("dtype", [DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16])
def test_a_script_has_the_one_function_that_is_timed(dtype: DType) -> None:
    target, names = api().target, dict[str, Any]()
    exec("\n".join(script._building(replace(TINY, dtype=dtype))), names)
    with target:
        lowered = api().relax.get_pipeline("zero")(names["b"].get())
    assert api().functions(lowered).keys() == api().functions(api().loops(replace(TINY, dtype=dtype))).keys()
    assert len(api().functions(lowered)) == 1


# Errors of the compiler


def test_nvrtc_s_first_error_is_told_and_not_its_last_line() -> None:
    api: Any = object.__new__(cuda.CudaApi)
    log = "NVRTC compilation failed:\na.h(2): warning #1444-D: old\nk.cu(9): error: no such thing\n1 error detected"
    assert api.words(RuntimeError(log)) == "k.cu(9): error: no such thing"
    assert api.words(RuntimeError("Traceback\n  in x\nScheduleError: no loop")) == "ScheduleError: no loop"


class Callbacks:
    """tvm_ffi's table of functions, with a compiler of sources that refuses one."""

    def __init__(self) -> None:
        self.compiled: list[str] = []
        self.function: Any = self.compile

    def compile(self, source: str) -> bytes:
        self.compiled.append(source)
        if source == "bad":
            raise RuntimeError("k.cu(1): error: bad")
        return source.encode()

    def get_global_func(self, name: str) -> Any:
        return self.function

    def register_global_func(self, name: str, function: Any, override: bool) -> None:
        self.function = function


def test_sources_are_compiled_once_ahead_and_each_error_stays_with_its_build(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Callbacks()
    monkeypatch.setattr(importlib, "import_module", lambda name: table)
    target: Any = SimpleNamespace(__enter__=None)
    monkeypatch.setattr(together, "_within", lambda target, compile_source, source: compile_source(source))
    builds = [lambda source=source: table.function(source) for source in ("one", "bad", "two", "one")]
    with together.compiled_together(target, builds):
        assert builds[0]() == b"one"
        with pytest.raises(RuntimeError, match="error: bad"):
            builds[1]()
        assert [builds[2](), builds[3](), table.function("another")] == [b"two", b"one", b"another"]
    assert sorted(table.compiled) == ["another", "bad", "one", "two"]
    assert table.function == table.compile


# A GPU of which there is nothing but the time that passes


class Tensor:
    """Values on a GPU that is not there."""

    def __init__(self, values: Any) -> None:
        self.values = values

    def copy_(self, other: Any) -> Any:
        self.values[...] = other
        return self

    def fill_(self, value: float) -> Any:
        self.values.fill(value)
        return self

    def float(self) -> Any:
        return self

    cpu = float

    def numpy(self) -> Any:
        return self.values


class Stand:
    """A Gpu whose stream is that of test_cudnn, and whose tensors are numpy's."""

    def __init__(self) -> None:
        self.torch: Any = TimePasses()
        vars(self.torch).update(from_numpy=np.asarray)
        self.stream, self.offsets = None, None
        self.drawn: list[tuple[int, ...]] = []

    def empty(self, shape: tuple[int, ...], strides: tuple[int, ...], dtype: DType) -> Tensor:
        assert np.zeros(shape, np.int8).strides == strides
        self.drawn.append(shape)
        return Tensor(np.zeros(shape, np.float32))

    errors_translated = Gpu.errors_translated


def prepared(
    monkeypatch: pytest.MonkeyPatch, layout: Layout, copies: int = 1, captured: bool = True
) -> tuple[Any, Any, list[Any]]:
    """One pruned problem, padded to two more channels, and what its function was called with.

    What is not `captured` is launched on another stream, at once.
    """
    gpu: Any = Stand()
    gpu.errors_translated = lambda size: Gpu.errors_translated(gpu, size)
    gpu.refusals = ()
    gpu.torch.cuda.OutOfMemoryError = MemoryError
    shape = replace(TINY, layout=layout)
    calls: list[Any] = []

    def function(inputs: Tensor, weights: Tensor, output: Tensor) -> None:
        calls.append((inputs, weights, output))
        channel = np.arange(8, dtype=np.float32)
        values = channel if layout is Layout.NHWC else channel[:, None, None]
        np.copyto(output.values, values)
        if captured:
            gpu.torch.calls.append(partial(np.copyto, output.values, values))

    tvm = SimpleNamespace(runtime=SimpleNamespace(from_dlpack=lambda tensor: tensor))
    monkeypatch.setattr(importlib, "import_module", lambda name: tvm)
    work = Compiled(Path(), Plan("dlight Matmul"), replace(shape, out_channels=6), shape, ABOUT)
    inputs, weights = np.ones(shape.input_shape, np.float32), np.ones(shape.weight_shape, np.float32)
    sets = [cuda.placed(gpu, shape, inputs, weights) for _ in range(copies)]
    return gpu, cuda.Prepared(gpu, function, sets, work, Cache()), calls


@pytest.mark.parametrize("layout", Layout)
def test_an_output_has_the_problem_s_channels_whatever_was_computed(
    monkeypatch: pytest.MonkeyPatch, layout: Layout
) -> None:
    gpu, one, _ = prepared(monkeypatch, layout)
    output = one.output()
    assert output.shape == (1, 6, 6, 6)
    assert (output == np.arange(6)[:, None, None]).all()
    assert gpu.drawn[0] == ((1, 6, 6, 4) if layout is Layout.NHWC else (1, 4, 6, 6))


@pytest.mark.parametrize("copies", [1, 3])
def test_kernels_that_no_graph_holds_are_seen_in_the_output(monkeypatch: pytest.MonkeyPatch, copies: int) -> None:
    _, one, _ = prepared(monkeypatch, Layout.NCHW, copies, captured=False)
    assert np.isnan(one.output()).all()
    _, one, _ = prepared(monkeypatch, Layout.NCHW, copies)
    assert not np.isnan(one.output()).any()


@pytest.mark.parametrize("iterations", [1, 64, 130])
def test_a_round_takes_what_its_calls_take_on_the_gpu(monkeypatch: pytest.MonkeyPatch, iterations: int) -> None:
    gpu, one, _ = prepared(monkeypatch, Layout.NCHW)
    assert one.run(iterations) == pytest.approx(iterations * gpu.torch.CALL)


def test_each_set_of_tensors_is_called_before_it_is_captured_and_then_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    _, one, calls = prepared(monkeypatch, Layout.NCHW, copies=3)
    assert len(calls) == one.least_iterations == 3
    one.run(6)
    taken = [id(call[2]) for call in calls]
    assert len(set(taken[:3])) == 3
    assert taken[3:9] == taken[:3] * 2


# The kernels that TVM generates, which need no driver


@cache
def api() -> cuda.CudaApi:
    return cuda.CudaApi(1, 0, "sm_90", "NVIDIA H200 uuid-1")


@pytest.fixture
def without_a_compiler() -> Iterator[None]:
    """TVM's callback returns nothing, for kernels are looked at here and not run."""
    api()  # It loads tvm without torch, before its ffi would load that.
    import tvm_ffi

    before = tvm_ffi.get_global_func(together.CALLBACK)
    tvm_ffi.register_global_func(together.CALLBACK, lambda source: b"", override=True)
    yield
    tvm_ffi.register_global_func(together.CALLBACK, before, override=True)


@needs_tvm
@pytest.mark.parametrize("count", [128, 97])
@pytest.mark.usefixtures("without_a_compiler")
def test_the_plan_has_the_grid_and_block_of_the_source(count: int) -> None:
    compiled, about = api().built(api().lowered(replace(L16, out_channels=count)))
    assert (about["function"], about["rule"]) == ("conv2d", "Matmul")
    assert about["kernels"] == ["conv2d_kernel grid=25x2x1 block=8x16x1"]
    (source,) = sources(compiled.mod, "cuda", "cuda")
    assert re.findall(r"__global__ void __launch_bounds__\((\d+)\) (\w+)\(.*\) \{", source) == [
        ("128", "conv2d_kernel")
    ]


@needs_tvm
@pytest.mark.usefixtures("without_a_compiler")
def test_a_shape_that_no_rule_takes_is_refused_with_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "RULES", ("GEMV",))
    lowered = api().lowered(L16)
    with pytest.raises(Unsupported, match=r"none of dlight's rules \(GEMV\) applies to conv2d"):
        api().built(lowered)


@needs_tvm
def test_records_are_of_the_gpu_whatever_processor_calls_it() -> None:
    target = api().tvm.target.Target
    words = {"kind": "cuda", "arch": "sm_90", "max_num_threads": 1024}
    assert api().named(target(words)) == api().named(target(words).with_host(target({"kind": "llvm"})))
    assert api().named(target(words)) != api().named(target({**words, "arch": "sm_87"}))


@needs_tvm
def test_a_record_comes_before_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    loops = api().loops

    def noted(problem: Any, database: Any = None) -> Any:
        asked.append(database)
        return loops(problem)

    monkeypatch.setattr(api(), "loops", noted)
    api().lowered(TINY, "a database")
    assert asked == ["a database"]


@needs_tvm
def test_a_search_starts_from_loops_that_no_rule_scheduled() -> None:
    assert api().functions(api().loops(TINY)) == {"conv2d": False}
    assert api().functions(api().lowered(TINY)) == {"conv2d": True}


@needs_tvm
def test_what_a_search_draws_is_given_by_its_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("backends.tvm.search")
    cpu, given = Api(1), list[tuple[str, int]]()

    def contexts(tasks: Any, seed: int, **rest: Any) -> tuple[list[Any], list[Any]]:
        given.append(("space", seed))
        return [], []

    def tune(cost_model: int, **rest: Any) -> None:
        given.append(("cost model", cost_model))

    schedule = cpu.meta_schedule
    integration = SimpleNamespace(extract_tasks=lambda *_, **__: [], extracted_tasks_to_tune_contexts=contexts)
    monkeypatch.setattr(module, "import_intrinsics", lambda: None)
    monkeypatch.setattr(schedule, "relax_integration", integration)
    monkeypatch.setattr(schedule, "tune_tasks", tune)
    monkeypatch.setattr(schedule.cost_model, "RandomModel", lambda seed: seed)
    module.search(cpu, Search(TINY, 4, 7), tmp_path)
    assert given == [("space", 7), ("cost model", 7)]


@needs_tvm
def test_one_search_times_its_candidates_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with api().alone():
        (lock,) = tmp_path.iterdir()
        assert lock.name.endswith("nvidia-h200-uuid-1.lock")
        with lock.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with lock.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@needs_tvm
def test_kernels_are_launched_on_the_stream_that_is_followed() -> None:
    import tvm_ffi

    device = tvm_ffi.device("cuda", 0)
    before = tvm_ffi.get_raw_stream(device)
    api().follow(4096)
    assert tvm_ffi.get_raw_stream(device) == 4096
    api()._following.__exit__()
    assert tvm_ffi.get_raw_stream(device) == before


@needs_tvm
def test_without_a_gpu_it_is_unavailable_with_the_reason() -> None:
    if api().tvm.cuda().exist:
        pytest.skip("there is a GPU here")
    with pytest.raises(Unavailable, match=r"no CUDA runtime that loads here: \S+|sees no NVIDIA GPU"):
        api().require_device()


@needs_tvm
@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_opening_without_a_gpu_says_so_before_anything_is_tried() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(Unavailable, match=r"CPU build|no usable NVIDIA GPU|C\+\+ compiler"):
        open_tvm(BackendOptions("cuda"))


# What is kept


def backend(folder: Path, compiler: str = "nvrtc 13.0", model: str = "H200", api: Any = None, **gpu: Any) -> Cuda:
    stand: Any = api or SimpleNamespace(
        target="sm_90", arch="sm_90", version="0.27.0", built=None, named=str, lowered=None, words=str, **{"cpu": ""}
    )
    gpu = {"lock_name": "GPU 0", "disturbed": None, "state": None, "offsets": None, "disturbances": ()} | gpu
    on: Any = SimpleNamespace(properties=SimpleNamespace(name=model), **gpu)
    installed = health.Installed("0.27.0", "0.1.14", "0123")
    kernels = kernels_of(stand, installed, KeptFolders(folder), None, compiler, model)
    return Cuda(stand, installed, kernels, 1, cuda.Setup(on, "hot", compiler))


class Noting:
    """An API that compiles nothing, and notes what it is asked for, and with which others; one problem is refused."""

    target, version = "sm_90", "0.27.0"

    def __init__(self) -> None:
        self.built_for: list[int] = []
        self.together_with: list[int] = []

    def together(self, builds: Any) -> Any:
        self.together_with.append(len(builds))
        return contextlib.nullcontext()

    def lowered(self, problem: Any, database: Any) -> Any:
        return problem

    def built(self, problem: Any) -> Any:
        self.built_for.append(problem.out_channels)
        if problem.out_channels == 7:
            raise Unsupported("no rule applies")
        return problem, ABOUT

    def export(self, compiled: Any, path: Path) -> None:
        path.write_text(compiled.key, encoding="utf-8")


def test_the_first_of_what_is_missing_takes_the_others_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neverslower.device.readers.limits.cores", lambda: 2)
    noting = Noting()
    gpu = backend(tmp_path, api=noting)
    subjects = [Subject(replace(TINY, out_channels=count)) for count in (8, 7, 6, 5)]
    gpu.compile(subjects[3])
    assert noting.together_with == []  # Nothing is known to be missing.
    assert gpu.missing(subjects) == []
    assert (gpu.compile(subjects[2]) / "kernel.so").read_text(encoding="utf-8") == subjects[2].problem.key
    assert (noting.together_with, noting.built_for) == ([3], [5, 6, 8, 7])
    gpu.compile(subjects[0])
    assert noting.built_for == [5, 6, 8, 7]
    with pytest.raises(Unsupported, match="no rule applies"):
        gpu.compile(subjects[1])
    assert noting.together_with == [3]
    many = [Subject(replace(TINY, out_channels=count)) for count in range(20, 40)]
    assert gpu.missing(many) == many  # Other processes compile these.
    gpu.compile(many[0])
    assert noting.together_with == [3]


def test_few_cores_take_few_kernels_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neverslower.device.readers.limits.cores", lambda: 1)
    noting = Noting()
    gpu = backend(tmp_path, api=noting)
    subjects = [Subject(replace(TINY, out_channels=count)) for count in (6, 5, 4, 3, 2)]
    gpu.missing(subjects)
    for subject in subjects:
        gpu.compile(subject)
    assert noting.together_with == [2, 2, 1]
    assert noting.built_for == [6, 5, 4, 3, 2]


def test_kernels_of_another_compiler_are_others(tmp_path: Path) -> None:
    made = (backend(tmp_path, compiler)._kernels for compiler in ("nvrtc 13.0", "nvcc"))
    one, other = (kernels.fields(Subject(TINY)) for kernels in made)
    assert one != other


def test_a_log_is_of_the_model_that_timed_it_and_a_kernel_of_the_architecture(tmp_path: Path) -> None:
    one, other = backend(tmp_path)._kernels, backend(tmp_path, model="H100")._kernels
    assert one.searches.fields(Search(TINY, 4, 0)) != other.searches.fields(Search(TINY, 4, 0))
    assert one.fields(Subject(TINY)) == other.fields(Subject(TINY))


def test_it_is_watched_and_compiles_ahead_and_holds_the_gpu_s_lock(tmp_path: Path) -> None:
    gpu = backend(tmp_path, fingerprint_of=lambda backend, **rest: rest)
    assert gpu.offers == ("compiles", "watches", "ahead")
    assert gpu.lock_name == "GPU 0"
    offsets = gpu.offsets = Offsets("seed")
    assert gpu._gpu.offsets is offsets
    found: Any = gpu.fingerprint()
    assert found["state"] == {"schedules": "untuned", "cache": "hot", "target": "sm_90"}
    assert found["software"]["kernel compiler"] == "nvrtc 13.0"


def test_a_search_of_which_no_candidate_ran_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[Exception] = []
    gpu = backend(tmp_path, errors_translated=lambda size: contextlib.nullcontext(), require_device=lost.append)
    monkeypatch.setattr(
        "backends.tvm.searches.search", lambda api, wanted, folder: ["element type must match", "another"]
    )
    monkeypatch.setattr(databases, "read", lambda folder, api: databases.Database("0a1b", 1))
    with pytest.raises(Unsupported, match=r"found no schedule that runs \(0 candidates\): element type must match$"):
        gpu.tune(Search(TINY, 4, 0))
    assert len(lost) == 1  # A candidate may have left the GPU in an error, which is no refusal.


def test_a_search_whose_candidate_lost_the_gpu_is_the_one_that_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(error: Exception | None = None) -> None:
        raise DeviceLost("an illegal memory access")

    record = SimpleNamespace(run_secs=[1e-5])
    records = SimpleNamespace(get_all_tuning_records=lambda: [record])
    monkeypatch.setattr("backends.tvm.searches.search", lambda api, wanted, folder: [])
    monkeypatch.setattr(databases, "read", lambda folder, api: databases.Database("0a1b", 1, records))
    sound, faulty = (
        backend(tmp_path, errors_translated=lambda size: contextlib.nullcontext(), require_device=require)
        for require in (lambda error=None: None, lost)
    )
    assert (sound.tune(Search(TINY, 4, 0)).trials, sound.tune(Search(TINY, 4, 0)).remembered) == (1, True)
    with pytest.raises(DeviceLost):
        faulty.tune(Search(TINY, 4, 1))


def test_a_log_that_was_not_searched_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="has not been made"):
        backend(tmp_path).compile(Subject(TINY, str(TunedLog(Search(problem(), 4, 0)))))
