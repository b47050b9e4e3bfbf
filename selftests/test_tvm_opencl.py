"""TVM's OpenCL dispatch: how a lowered kernel is read, on invented kernels, and one real tvm on small layers."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

from backends.base import BackendOptions
from backends.tvm import open as open_tvm
from backends.tvm import reproduce, write_script
from backends.tvm.choice import TvmOptions
from backends.tvm.launches import NotUnderstood, launch_of
from backends.tvm.lowering import kernels_of
from neverslower.errors import Unavailable, Unsupported
from neverslower.evidence.observation import Evidence, Plan
from neverslower.problem.convolution import DType, parse_descriptor
from neverslower.problem.subject import Search, Subject, TunedLog
from neverslower.worker.process import Worker, WorkerSpec
from selftests.support import problem

TINY = parse_descriptor("mb1_ic16oc16_ih8kh3ph1")

# What the argument chooses


def test_the_argument_is_a_folder_or_a_gpu() -> None:
    assert TvmOptions.parse("") == TvmOptions()
    assert TvmOptions.parse("work/opencl") == TvmOptions(database="work/opencl")
    assert TvmOptions.parse("./opencl") == TvmOptions(database="./opencl")
    assert TvmOptions.parse("opencl,mali") == TvmOptions(gpu="mali")


@pytest.mark.parametrize("text", ["opencl", "opencl,", "opencl,g72", "opencl,mali,g72"])
def test_another_gpu_is_refused_before_tvm_is_loaded(text: str) -> None:
    with pytest.raises(Unavailable) as caught:
        open_tvm(BackendOptions(text))
    assert str(caught.value).startswith(f"--backend tvm:{text}: ")
    assert "give opencl,mali or opencl,adreno" in str(caught.value)


# Lowered kernels


def node(kind: str, **fields: Any) -> Any:
    """Return a stand-in for a node of TVM's, which is recognised by the name of its class."""
    return type(kind, (SimpleNamespace,), {"__hash__": object.__hash__})(**fields)


def whole(value: int) -> Any:
    return node("IntImm", value=value)


def binary(kind: str, one: Any, other: Any) -> Any:
    return node(kind, a=one, b=other)


def buffer(scope: str = "global", elements: int = 1, dtype: str = "float32") -> Any:
    return SimpleNamespace(scope=lambda: scope, shape=(elements,), dtype=dtype)


def store(value: Any = None, scope: str = "global") -> Any:
    return node("BufferStore", buffer=buffer(scope), value=value or node("FloatImm"))


def only_if(condition: Any, then: Any, otherwise: Any = None) -> Any:
    return node("IfThenElse", condition=condition, then_case=then, else_case=otherwise)


def sequence(*statements: Any) -> Any:
    return node("SeqStmt", seq=statements)


class Kernel:
    """An invented kernel: its thread axes, by a short name such as `bx` or `ty`, and what it does."""

    def __init__(self, **extents: int) -> None:
        self.extents, self.vars = extents, {name: node("Var") for name in extents}

    def __getattr__(self, name: str) -> Any:
        return self.vars[name]

    @property
    def x(self) -> Any:
        """Return the number of a work-item along x."""
        return binary("Add", binary("Mul", self.bx, whole(self.extents["tx"])), self.tx)

    def read(self, body: Any) -> Any:
        for name, extent in self.extents.items():
            tag = f"{'blockIdx' if name[0] == 'b' else 'threadIdx'}.{name[1]}"
            axis = SimpleNamespace(var=self.vars[name], thread_tag=tag)
            body = node("AttrStmt", attr_key="thread_extent", node=axis, value=extent, body=body)
        return launch_of("conv2d_kernel", SimpleNamespace(body=body))


def test_work_items_that_store_nothing_only_fill_groups() -> None:
    kernel = Kernel(bx=4, tx=8, by=2, ty=4)
    found = kernel.read(only_if(binary("LT", kernel.x, whole(25)), store())).enqueue
    assert str(found) == "conv2d_kernel global=25x8x1 local=8x4x1"
    assert (found.uneven, found.launched) == ("x", 32 * 8)


def test_every_item_stores_where_nothing_forbids_it() -> None:
    found = Kernel(bx=4, tx=8).read(store()).enqueue
    assert str(found) == "conv2d_kernel global=32x1x1 local=8x1x1"
    assert found.uneven == ""


def test_a_store_in_any_branch_and_at_any_step_of_a_loop_is_work() -> None:
    kernel, step = Kernel(bx=4, tx=8), node("Var")
    reached = binary("LT", binary("Add", kernel.x, step), whole(20))
    loop = node("For", loop_var=step, min=3, extent=2, body=only_if(reached, store()))
    assert kernel.read(loop).enqueue.items == (17, 1, 1)
    either = only_if(binary("GE", kernel.x, whole(20)), sequence(), store())
    assert kernel.read(either).enqueue.items == (20, 1, 1)


def test_bound_values_and_all_guards_count() -> None:
    kernel, bound = Kernel(bx=4, tx=8, ty=4), node("Var")
    limit = node("Call", op=SimpleNamespace(name="tirx.likely"), args=[binary("LT", bound, whole(19))])
    inner = only_if(limit, only_if(node("Not", a=binary("EQ", kernel.ty, whole(3))), store()))
    found = kernel.read(sequence(node("Bind", var=bound, value=node("Cast", value=kernel.x)), inner)).enqueue
    assert found.items == (19, 3, 1)


def test_items_that_add_up_one_sum_work_where_they_read() -> None:
    kernel = Kernel(bx=6, tx=64)
    operand = binary("Add", node("FloatImm"), node("TensorLoad", source=buffer()))
    read = only_if(binary("LT", kernel.tx, whole(9)), store(operand, scope="local"))
    summed = node(
        "AttrStmt", attr_key="reduce_scope", body=store(node("BufferLoad", buffer=buffer("shared")), "shared")
    )
    first = only_if(binary("EQ", kernel.tx, whole(0)), store())
    found = kernel.read(sequence(read, summed, first)).enqueue
    assert str(found) == "conv2d_kernel global=54x1x1 local=64x1x1 launched=384x1x1"
    assert found.uneven == "x"
    assert found.waste == pytest.approx(1 - 9 / 64)
    assert kernel.read(sequence(read, first)).enqueue.items == (6, 1, 1)  # Each for itself: only the store is work.


def test_the_memory_that_a_kernel_declares_is_counted_by_scope() -> None:
    buffers = (("shared", 8, "float16"), ("shared", 4, "float32"), ("local", 3, "float32x4"))
    declared = [node("AllocBuffer", buffer=buffer(*each)) for each in buffers]
    found = Kernel(bx=2, tx=4).read(sequence(*declared, store()))
    assert found.options == "local_bytes=32 private_bytes=48"


def no_box(kernel: Kernel) -> Any:
    return only_if(binary("LT", binary("Add", kernel.tx, kernel.ty), whole(3)), store())


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (lambda kernel: sequence(), "conv2d_kernel stores nothing"),
        (lambda kernel: node("While", body=store()), "the kernel holds a While"),
        (lambda kernel: only_if(node("BufferLoad", buffer=buffer()), store()), "a condition holds the BufferLoad"),
        (no_box, "form no box"),
    ],
)
def test_what_can_t_be_read_is_never_guessed(body: Any, why: str) -> None:
    kernel = Kernel(tx=4, ty=4)
    with pytest.raises(NotUnderstood, match=why):
        kernel.read(body(kernel))


def test_kernels_are_in_the_order_in_which_their_function_enqueues_them() -> None:
    kernels = dict.fromkeys(["conv2d_kernel_10", "conv2d_kernel_2", "conv2d_kernel", "conv2d1_kernel"])
    assert kernels_of("conv2d", kernels) == [
        "conv2d_kernel", "conv2d_kernel_2", "conv2d_kernel_10",
    ]  # fmt: skip


def test_a_failure_is_reproduced_by_printing_the_source() -> None:
    options = BackendOptions("opencl,mali")
    python, flag, code = shlex.split(reproduce(TINY, Plan("dlight"), options))
    assert (python, flag) == ("python", "-c")
    for text in (code, write_script(TINY, "", options)):
        compile(text, "<reproduction>", "exec")
        assert "'device':'mali'" in text
        assert "inspect_source" in text
        assert "time_evaluator" not in text


# One real tvm


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    if find_spec("tvm") is None:
        pytest.skip("apache-tvm is not installed")
    own_cache = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}
    with Worker(WorkerSpec("tvm", "opencl,mali", time_limit=100.0, variables=own_cache)) as started:
        yield started


def test_a_dispatch_needs_no_device_and_has_no_time(worker: Worker) -> None:
    assert worker.evidence is Evidence.DISPATCH
    assert not worker.exclusive
    assert "compiles" not in worker.offers
    assert worker.fingerprint.device == "opencl mali recorded"
    assert worker.fingerprint.hardware == {"gpu": "mali"}
    found = worker.examine(TINY.key)
    assert (found.error, found.seconds_per_call) == (None, 0.0)


@pytest.mark.parametrize(
    ("descriptor", "step"),
    [
        ("mb1_ic128oc128_ih28kh3ph1", "conv2d_kernel global=196x32x1 local=8x8x1"),
        ("mb1_ic128oc97_ih28kh3ph1", "conv2d_kernel global=196x25x1 local=8x8x1"),
        ("mb1_g30ic30oc30_ih9kh3ph1", "conv2d_kernel global=2430x1x1 local=256x1x1"),
        ("mb1_ic64oc10_ih1kh1", "conv2d_kernel global=640x1x1 local=64x1x1"),
    ],
    ids=["matmul", "matmul, uneven", "depthwise", "shared sums"],
)
def test_kernels_have_the_groups_of_the_program_that_tvm_generates(worker: Worker, descriptor: str, step: str) -> None:
    plan = worker.examine(parse_descriptor(descriptor).key).plan
    assert plan.steps == (step,)
    assert len(plan.options) == 1


def test_what_has_no_dispatch_is_refused(worker: Worker) -> None:
    searched = str(TunedLog(Search(problem(), 4, 0)))
    with pytest.raises(Unsupported, match="the default schedules alone"):
        worker.examine(Subject(TINY, searched).key)
    with pytest.raises(Unsupported, match="no schedules are searched for where no GPU is"):
        worker.tune(Search(TINY, 4, 0), 60.0)
    with pytest.raises(Unsupported, match="no tf32"):
        worker.examine(replace(TINY, dtype=DType.TF32).key)
