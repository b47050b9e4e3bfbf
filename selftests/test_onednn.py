"""The oneDNN adapter: what it reads from oneDNN's verbose lines, and one real run."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends import onednn
from backends.base import BackendOptions, Offsets
from backends.onednn import reproduce, verbose
from backends.onednn.verbose import Step, parse_info, parse_steps
from neverslower.errors import Unavailable, Unsupported
from neverslower.evidence.observation import Plan
from neverslower.problem.convolution import ConvProblem, DType, Layout, parse_descriptor
from neverslower.problem.epilogue import Epilogue
from neverslower.problem.numerics import added_tensors, convolve, deviation, tensors
from neverslower.worker.process import Worker, WorkerSpec
from selftests.conftest import ROOT
from selftests.support import problem

CONVOLUTION_3_12 = (
    "onednn_verbose,v1,primitive,exec,cpu,convolution,jit:avx512_core,forward_training,"
    "src:f32:a:blocked:aBcd16b::f0 wei:f32:a:blocked:ABcd16b16a::f0 bia:undef::undef::: dst:f32:a:blocked:aBcd16b::f0,"
    "attr-scratchpad:user,alg:convolution_direct,"
    "mb1_ic128oc128_ih28oh28kh3sh1dh0ph1_iw28ow28kw3sw1dw0pw1,1.38403"
)
REORDER_3_12 = (
    "onednn_verbose,v1,primitive,exec,cpu,reorder,jit:uni,undef,"
    "src:f32::blocked:abcd::f0 dst:f32:p:blocked:aBcd16b::f0,attr-scratchpad:user,,1x1x1x1,0.00219727"
)
BRGEMM_3_12 = (
    "onednn_verbose,v1,primitive,exec,cpu,convolution,brg_conv_fwd:avx512_core,forward_training,"
    "src:f32::blocked:acdb::f0 wei:f32:a:blocked:Acdb16a::f0 bia:undef::undef::: dst:f32::blocked:acdb::f0,"
    "attr-scratchpad:user,alg:convolution_direct,mb1_ic8oc16_ih6oh6kh3sh1dh0ph1_iw6ow6kw3sw1dw0pw1,0.00805664"
)
CONVOLUTION_2 = (
    "onednn_verbose,exec,cpu,convolution,jit:avx2,forward_inference,"
    "src_f32::blocked:aBcd8b:f0 wei_f32::blocked:ABcd8b8a:f0 bia_undef::undef::f0 dst_f32::blocked:aBcd8b:f0,"
    ",alg:convolution_direct,mb1_ic64oc64_ih56oh56kh3sh1dh0ph1_iw56ow56kw3sw1dw0pw1,0.4"
)
CONVOLUTION_1 = CONVOLUTION_2.replace("onednn_verbose", "dnnl_verbose")
CONVOLUTION_ACL = (
    "onednn_verbose,primitive,exec,cpu,convolution,indirect_gemm:acl,forward_inference,"
    "src_f32::blocked:acdb:f0 wei_f32:a:blocked:Acdb4a:f0 bia_undef::undef::f0 dst_f32::blocked:acdb:f0,"
    "attr-scratchpad:user ,alg:convolution_direct,mb1_ic64oc64_ih56oh56kh3sh1dh0ph1_iw56ow56kw3sw1dw0pw1,0.9"
)

# oneDNN 3.0 with Arm Compute Library, as oneDNN's proposal for ACL's verbose lines shows it (rfcs, "acl verbose").
GEMM_ACL = (
    "onednn_verbose,exec,cpu,convolution,gemm:acl,forward_training,src_f32::blocked:acdb:f0 wei_f32::blocked:acdb:f0 "
    "bia_f32::blocked:a:f0 dst_f32::blocked:acdb:f0,attr-fpmath:bf16 ,alg:convolution_direct,"
    "mb1_ic3oc64_ih224oh112kh7sh2dh0ph3_iw224ow112kw7sw2dw0pw3,1.76587"
)
# oneDNN 2 with a fused ReLU, as the guide to torch in aws-graviton-getting-started shows it; the time is cut off.
RELU_ACL = (
    "dnnl_verbose,exec,cpu,convolution,gemm:acl,forward_training,src_f32::blocked:acdb:f0 wei_f32::blocked:acdb:f0 "
    "bia_f32::blocked:a:f0 dst_f32::blocked:acdb:f0,post_ops:'eltwise_relu;';,alg:convolution_direct,"
    "mb1_ic256oc64_ih56oh56kh1sh1dh0ph0_iw56ow56kw1sw1dw0pw0"
)
# Put together: the head is that of oneDNN 3.12 above, the names are those in src/cpu/aarch64/acl_*_convolution.hpp.
ACL_3_12 = (
    "onednn_verbose,v1,primitive,exec,cpu,convolution,{name},forward_training,src:f32:a:blocked:acdb::f0 "
    "wei:f32:a:blocked:{weights}::f0 bia:undef::undef::: dst:f32:a:blocked:acdb::f0,attr-scratchpad:user,"
    "alg:{algorithm},{shape},0.9"
)
PLAIN, DEPTHWISE = "mb1_ic64oc64_ih56oh56kh3sh1dh0ph1_iw56ow56kw3sw1dw0pw1", "mb1_g32ic32oc32_ih112oh112kh3sh1dh0ph1"


@pytest.mark.parametrize(
    ("line", "step"),
    [
        (GEMM_ACL, "gemm:acl src:acdb wei:acdb dst:acdb alg:convolution_direct prop:forward_training"),
        (RELU_ACL, "gemm:acl src:acdb wei:acdb dst:acdb alg:convolution_direct prop:forward_training"),
        (
            ACL_3_12.format(name="indirect_gemm:acl", weights="Acdb4a", algorithm="convolution_direct", shape=PLAIN),
            "indirect_gemm:acl src:acdb wei:Acdb4a dst:acdb alg:convolution_direct prop:forward_training",
        ),
        (
            ACL_3_12.format(name="wino:acl", weights="Acdb16a", algorithm="convolution_winograd", shape=PLAIN),
            "wino:acl src:acdb wei:Acdb16a dst:acdb alg:convolution_winograd prop:forward_training",
        ),
        (
            ACL_3_12.format(
                name="depthwise_convolution:acl", weights="decab", algorithm="convolution_direct", shape=DEPTHWISE
            ),
            "depthwise_convolution:acl src:acdb wei:decab dst:acdb alg:convolution_direct prop:forward_training",
        ),
    ],
)
def test_the_names_of_arm_compute_library_are_read(line: str, step: str) -> None:
    assert [str(found) for found in parse_steps(line)] == [f"convolution {step}"]


@pytest.mark.parametrize(
    ("line", "step"),
    [
        pytest.param(
            CONVOLUTION_3_12,
            "convolution jit:avx512_core src:aBcd16b wei:ABcd16b16a dst:aBcd16b alg:convolution_direct "
            "prop:forward_training",
            id="3.12",
        ),
        pytest.param(
            BRGEMM_3_12,
            "convolution brg_conv_fwd:avx512_core src:acdb wei:Acdb16a dst:acdb alg:convolution_direct "
            "prop:forward_training",
            id="3.12, channels last",
        ),
        pytest.param(REORDER_3_12, "reorder jit:uni src:abcd dst:aBcd16b", id="3.12, reorder"),
        pytest.param(
            CONVOLUTION_2,
            "convolution jit:avx2 src:aBcd8b wei:ABcd8b8a dst:aBcd8b alg:convolution_direct prop:forward_inference",
            id="2",
        ),
        pytest.param(
            CONVOLUTION_1,
            "convolution jit:avx2 src:aBcd8b wei:ABcd8b8a dst:aBcd8b alg:convolution_direct prop:forward_inference",
            id="1, as DNNL",
        ),
        pytest.param(
            CONVOLUTION_ACL,
            "convolution indirect_gemm:acl src:acdb wei:Acdb4a dst:acdb alg:convolution_direct prop:forward_inference",
            id="2.7 on aarch64, Arm Compute Library",
        ),
    ],
)
def test_a_line_of_each_version_is_read(line: str, step: str) -> None:
    assert [str(found) for found in parse_steps(line)] == [step]


def test_the_steps_keep_their_order() -> None:
    steps = parse_steps("\n".join([REORDER_3_12, CONVOLUTION_3_12, REORDER_3_12]))
    assert [(step.primitive, step.implementation) for step in steps] == [
        ("reorder", "jit:uni"),
        ("convolution", "jit:avx512_core"),
        ("reorder", "jit:uni"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "warning: exec,cpu,convolution,jit:avx2,forward,a,b,c",
        "onednn_verbose,v1,info,oneDNN v3.12.0 (commit 80afa71)",
        "onednn_verbose,v1,primitive,create:cache_miss,cpu,convolution,jit:avx2,forward_training,src,,,,0.1",
        "onednn_verbose,v1,primitive,exec,cpu,convolution",
        # Kernels of Arm Compute Library, as oneDNN's proposal and its verbose level profile_externals show them.
        "onednn_acl_verbose,acl_kernel,CpuGemmAssemblyWrapperKernel/a64_interleaved_bf16fp32_mmla_8x12,exec_time,0.3",
        "onednn_verbose,v1,primitive,exec:external,CpuGemmAssemblyWrapperKernel/sve_ffhybrid_fp16_mla_6x4VL,0.006",
        "onednn_verbose,v1,primitive,exec",
    ],
)
def test_other_lines_are_no_steps(line: str) -> None:
    assert parse_steps(f"{line}\n{CONVOLUTION_2}\n{line}") == parse_steps(CONVOLUTION_2)


INFO = """\
onednn_verbose,v1,info,oneDNN v3.12.0 (commit 80afa71049cd69a3df32adcccb623b12cd7baa22)
onednn_verbose,v1,info,cpu,runtime:OpenMP,nthr:1
onednn_verbose,v1,info,cpu,isa:Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions
onednn_verbose,v1,info,gpu,runtime:none
"""


def test_version_commit_and_instruction_set_are_read() -> None:
    assert parse_info(INFO) == {
        "version": "3.12.0",
        "commit": "80afa71049cd69a3df32adcccb623b12cd7baa22",
        "isa": "Intel AVX-512 with AVX512BW, AVX512VL, and AVX512DQ extensions",
    }


def test_the_name_before_onednn_is_read_too() -> None:
    assert parse_info("dnnl_verbose,info,DNNL v1.2.0 (commit 70f8b879)") == {"version": "1.2.0", "commit": "70f8b879"}


def test_what_was_not_printed_is_absent() -> None:
    assert parse_info("onednn_verbose,v1,info,gpu,runtime:none") == {}


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"HOME": "/root", "ONEDNN_VERBOSE": "1"}, {}),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2", "DNNL_MAX_CPU_ISA": "SSE41"}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}),
        ({"DNNL_DEFAULT_FPMATH_MODE": "BF16"}, {"ONEDNN_DEFAULT_FPMATH_MODE": "BF16"}),
        ({"ONEDNN_CPU_ISA_HINTS": "PREFER_YMM"}, {"ONEDNN_CPU_ISA_HINTS": "PREFER_YMM"}),
    ],
)
def test_what_onednn_may_use_is_a_setting(variables: dict[str, str], found: dict[str, str]) -> None:
    assert verbose.settings(variables) == found


def plan_of(*lines: str) -> Plan:
    steps: list[Step] = parse_steps("\n".join(lines))
    return Plan("whatever", tuple(str(step) for step in steps))


@pytest.mark.parametrize(
    ("plan", "dtype", "threads", "command"),
    [
        (
            plan_of(CONVOLUTION_3_12),
            DType.FLOAT32,
            1,
            "OMP_NUM_THREADS=1 benchdnn --mode=P --conv --dir=FWD_D --dt=f32:f32:f32 "
            "--stag=aBcd16b --wtag=ABcd16b16a --dtag=aBcd16b mb1_g1ic8oc16_ih6oh6kh3sh1ph1",
        ),
        (
            plan_of(CONVOLUTION_ACL),
            DType.BFLOAT16,
            4,
            "OMP_NUM_THREADS=4 benchdnn --mode=P --conv --dir=FWD_I --dt=bf16:bf16:bf16 "
            "--stag=acdb --wtag=Acdb4a --dtag=acdb mb1_g1ic8oc16_ih6oh6kh3sh1ph1",
        ),
        (
            Plan("none reported"),
            DType.FLOAT16,
            1,
            "OMP_NUM_THREADS=1 benchdnn --mode=P --conv --dir=FWD_D --dt=f16:f16:f16 "
            "--stag=any --wtag=any --dtag=any mb1_g1ic8oc16_ih6oh6kh3sh1ph1",
        ),
    ],
)
def test_a_plan_is_reproduced_by_a_benchdnn_line(plan: Plan, dtype: DType, threads: int, command: str) -> None:
    assert reproduce(problem(dtype=dtype), plan, BackendOptions(threads=threads)) == command


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"padding": (0, 1, 1, 1)}, "no asymmetric padding"),
        ({"dtype": DType.TF32}, "no tf32 (has bfloat16, float16, float32)"),
        ({}, None),
        ({"groups": 2, "dilation": (2, 2), "padding": (2, 2, 2, 2), "layout": Layout.NHWC}, None),
    ],
)
def test_what_is_beyond_the_adapter_is_declared(fields: dict[str, Any], words: str | None) -> None:
    assert onednn.CAPABILITIES.refusal(problem(**fields)) == words


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A real worker; its device lock stays in a folder of the test."""
    pytest.importorskip("torch")
    folder: Path = tmp_path_factory.mktemp("locks")
    with Worker(WorkerSpec("onednn", variables={"TMPDIR": str(folder)})) as opened:
        yield opened


@pytest.mark.parametrize("layout", list(Layout))
def test_a_real_layer_is_right_measured_and_its_plan_reported(worker: Worker, layout: Layout) -> None:
    unpruned = problem(16, layout=layout)
    found = worker.examine(unpruned.key)
    assert not found.wrong
    assert found.plan.name != "none reported"
    assert any(step.startswith(f"convolution {found.plan.name} ") for step in found.plan.steps)
    pruned = unpruned.prune(3)
    samples = worker.measure(unpruned.key, pruned.key, 2).seconds
    assert np.all(np.isfinite(samples))
    assert np.all(samples > 0)
    error, tolerance = worker.agree(unpruned.key, pruned.key)
    assert error <= tolerance


def test_a_real_fingerprint_says_version_build_and_threads(worker: Worker) -> None:
    found = worker.fingerprint
    assert found.version.count(".") >= 1
    assert found.build != "unknown"
    assert found.software["onednn isa"]
    assert found.state["threads"] == "1"
    assert "torch" in found.software


def test_a_real_refusal_is_in_words(worker: Worker) -> None:
    with pytest.raises(Unsupported, match="no tf32"):
        worker.examine(problem(dtype=DType.TF32).key)


REORDERED = Plan(
    "jit_1x1:avx512_core",
    (
        "reorder jit:blk src:abcd dst:aBcd16b",
        "reorder jit:uni src:abcd dst:ABcd16b16a",
        "convolution jit_1x1:avx512_core src:aBcd16b wei:ABcd16b16a dst:aBcd16b alg:convolution_direct",
        "reorder jit:uni src:aBcd16b dst:abcd",
    ),
)


def test_reorders_are_reproduced_with_what_they_move():
    layer = parse_descriptor("mb1_ic64oc255_ih56kh1")
    lines = reproduce(layer, REORDERED, BackendOptions()).splitlines()
    assert [line.split()[-1] for line in lines] == ["1x64x56x56", "255x64x1x1", layer.descriptor, "1x255x56x56"]
    assert lines[3] == (
        "OMP_NUM_THREADS=1 benchdnn --mode=P --reorder --sdt=f32 --ddt=f32 --stag=aBcd16b --dtag=abcd 1x255x56x56"
    )


def test_grouped_weights_are_reordered_in_five_dimensions():
    grouped = parse_descriptor("mb1_g4ic64oc32_ih56kh3ph1")
    assert reproduce(grouped, REORDERED, BackendOptions()).splitlines()[1].split()[-1] == "4x8x16x3x3"


def test_a_step_is_read_as_it_is_written():
    for text in REORDERED.steps:
        assert str(Step.read(text)) == text


# What it gives to the library, and what it times


def test_every_call_of_a_round_is_timed() -> None:
    calls: list[Any] = []
    torch = SimpleNamespace(
        mkldnn_convolution=lambda *arguments: calls.append(arguments), inference_mode=contextlib.nullcontext
    )
    backend: Any = SimpleNamespace(_torch=torch, _now=lambda: float(len(calls)))
    held = onednn.Prepared(backend, problem(), None, None)
    assert [held.run(count) for count in (1, 7)] == [1.0, 7.0]


@pytest.fixture
def torch() -> Iterator[Any]:
    """torch in this process, with as many threads afterwards as before."""
    found = pytest.importorskip("torch")
    threads = found.get_num_threads()
    yield found
    found.set_num_threads(threads)


def test_a_round_is_timed_by_the_clock_that_is_told(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = itertools.count(step=0.25)
    clocks = SimpleNamespace(perf_counter=lambda: next(seconds), process_time=lambda: 0.0, monotonic=lambda: 0.0)
    monkeypatch.setattr(onednn, "time", clocks)
    backend = onednn.open(BackendOptions())
    assert backend.clock == "time.perf_counter"
    assert backend.prepare(problem(), *tensors(problem())).run(3) == 0.25


@pytest.mark.parametrize("threads", [1, 2])
def test_as_many_threads_run_as_are_told(torch: Any, threads: int) -> None:
    backend = onednn.open(BackendOptions(threads=threads))
    assert (torch.get_num_threads(), backend.fingerprint().state["threads"]) == (threads, str(threads))


def test_each_preparation_has_tensors_of_its_own(torch: Any) -> None:
    backend, drawn = onednn.open(BackendOptions()), tensors(problem())
    held = [backend.prepare(problem(), *drawn)._arguments[:2] for _ in range(2)]
    places = [tensor.data_ptr() for one in held for tensor in one] + [one.ctypes.data for one in drawn]
    assert len(set(places)) == 6


@pytest.mark.parametrize("dtype", sorted(onednn.CAPABILITIES.dtypes))
def test_tensors_begin_on_a_drawn_cache_line(torch: Any, dtype: DType) -> None:
    backend, one = onednn.open(BackendOptions()), problem(dtype=dtype)
    places = []
    for seed in ("a", "a", "b"):
        backend.offsets = Offsets(seed)
        made = [backend._tensor(values, one) for values in tensors(one)]
        drawn = backend.offsets.take()
        for tensor, offset in zip(made, drawn, strict=True):
            assert tensor.data_ptr() % onednn.CACHE_LINE == 0
            memory = tensor.untyped_storage().data_ptr()
            assert tensor.data_ptr() - memory - -memory % onednn.CACHE_LINE == offset
        places.append(drawn)
    assert places[0] == places[1] != places[2]
    assert all(0 <= place < onednn.SPAN for row in places for place in row)


@pytest.mark.parametrize("layout", list(Layout))
def test_a_layout_is_what_the_library_is_given(torch: Any, layout: Layout) -> None:
    one = problem(layout=layout)
    inputs, weights = onednn.open(BackendOptions()).prepare(one, *tensors(one))._arguments[:2]
    order = {Layout.NCHW: torch.contiguous_format, Layout.NHWC: torch.channels_last}[layout]
    assert inputs.is_contiguous(memory_format=order)
    assert weights.is_contiguous(memory_format=order)


@pytest.mark.parametrize("dtype", sorted(onednn.CAPABILITIES.dtypes))
def test_a_dtype_is_what_the_library_is_given(torch: Any, dtype: DType) -> None:
    one = problem(dtype=dtype)  # Not prepared: not every processor has every dtype.
    backend = onednn.open(BackendOptions())
    assert {str(backend._tensor(values, one).dtype) for values in tensors(one)} == {f"torch.{dtype}"}


FAULTS_OF_A_CALL = """
import resource
from backends import load
from backends.base import BackendOptions
from neverslower.problem.numerics import convolve, deviation, tensors
from neverslower.problem.convolution import parse_descriptor

backend = load("onednn").open(BackendOptions())
held = [backend.prepare(p, *tensors(p)) for oc in (256, 255, 241) for p in [parse_descriptor(f"mb1_ic8oc{oc}_ih56kh1")]]
for one in held:
    one.run(3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    one.run(20)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20)
"""


@pytest.mark.alone
def test_no_call_waits_for_the_system_to_give_it_memory() -> None:
    pytest.importorskip("torch")
    command = [sys.executable, "-c", FAULTS_OF_A_CALL]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(float(line) < 10 for line in done.stdout.split()), done.stdout


# torch's own choice


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("text", "layout", "name"),
    [
        ("mb1_ic16oc16_ih32kh3ph1", Layout.NCHW, "_slow_conv2d_forward"),
        ("mb1_ic16oc16_ih32kh3ph1", Layout.NHWC, "_slow_conv2d_forward"),
        ("mb1_ic16oc16_ih32kh3dh1ph1", Layout.NCHW, "slow_conv_dilated2d"),
        ("mb1_ic64oc64_ih56kh3ph1", Layout.NCHW, None),
        ("mb1_g16ic16oc16_ih32kh3ph1", Layout.NCHW, None),
    ],
)
def test_torch_s_own_choice_is_named_by_what_ran(text: str, layout: Layout, name: str | None, threads: int) -> None:
    pytest.importorskip("torch")
    one = parse_descriptor(text, layout=layout)
    held = onednn.open(BackendOptions("torch", threads)).prepare(one, *tensors(one))
    plan = held.plan()
    if name:
        assert (plan.name, plan.steps) == (name, (f"torch {name}",) if "dilated" in name else plan.steps)
        assert not [step for step in plan.steps if step.startswith("convolution")]
    else:
        assert plan.steps[0] == "torch mkldnn_convolution"
        assert f"convolution {plan.name} " in " ".join(plan.steps)
    assert deviation(held.output(), convolve(one, *tensors(one))) < 1e-5


def test_torch_pads_by_itself_where_the_padding_is_uneven() -> None:
    pytest.importorskip("torch")
    one = parse_descriptor("mb1_ic16oc16_ih32oh32kh2ph0")
    assert one.padding == (0, 1, 0, 1)
    held = onednn.open(BackendOptions("torch")).prepare(one, *tensors(one))
    assert held.plan().steps[0] == "torch constant_pad_nd"
    assert deviation(held.output(), convolve(one, *tensors(one))) < 1e-5
    with pytest.raises(Unsupported, match="no asymmetric padding"):
        onednn.open(BackendOptions()).prepare(one, *tensors(one))


def test_torch_s_own_choice_is_another_state_than_onednn_s_and_has_its_own_script() -> None:
    pytest.importorskip("torch")
    states = [onednn.open(BackendOptions(argument)).fingerprint().state for argument in ("", "torch")]
    assert states[1] == {**states[0], "chooses": "torch"}
    line = reproduce(problem(), Plan("x"), BackendOptions("torch", 2))
    expected = f"python -m neverslower script --backend onednn:torch {problem().key} --threads 2 > repro.py"
    assert line == f"{expected} && python repro.py"


def test_another_word_is_refused() -> None:
    pytest.importorskip("torch")
    with pytest.raises(Unavailable, match="--backend onednn:best: 'best' is not torch, the one word that onednn takes"):
        onednn.open(BackendOptions("best"))


@pytest.mark.parametrize("argument", ["", "torch"])
@pytest.mark.parametrize("text", ["mb1_ic4oc4_ih6kh3ph1", "mb1_ic4oc4_ih6oh6kh2ph0"])
def test_a_script_of_torch_alone_runs(argument: str, text: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    one, path = parse_descriptor(text, DType.FLOAT32, Layout.NHWC), tmp_path / "repro.py"
    if not (argument or one.symmetric_padding):
        with pytest.raises(Unsupported):
            onednn.write_script(one, "", BackendOptions(argument))
        return
    path.write_text(onednn.write_script(one, "", BackendOptions(argument)), encoding="utf-8")
    done = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "us a call" in done.stdout


# What follows a convolution in the same call


SHAPES = ("mb2_ic8oc16_ih6kh3ph1", "mb1_g4ic16oc12_ih6kh3ph1", "mb1_g16ic16oc16_ih6kh3ph1", "mb1_ic3oc7_ih5kh1")
FUSED = ("bias", "relu", "bias+relu", "swish:1", "bias+swish:1", "sum", "sum+relu", "bias+sum+relu")


def fused(text: str, epilogue: str, layout: Layout = Layout.NHWC) -> ConvProblem:
    return replace(parse_descriptor(text, layout=layout), epilogue=Epilogue.parse(epilogue))


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("text", SHAPES)
@pytest.mark.parametrize("epilogue", FUSED)
def test_an_epilogue_is_right_and_in_onednn_s_own_plan(text: str, epilogue: str, layout: Layout, torch: Any) -> None:
    one = fused(text, epilogue, layout)
    drawn, added = tensors(one), added_tensors(one)
    if one.epilogue.residual and layout is Layout.NCHW:
        with pytest.raises(Unsupported, match=r"torch fuses a residual \(sum\) in NHWC alone"):
            onednn.open(BackendOptions()).prepare(one, *drawn, added=added)
        return
    held = onednn.open(BackendOptions()).prepare(one, *drawn, added=added)
    held.run(3)
    right = convolve(one, *drawn, added)
    for _ in range(2):  # Each call adds to what the one before left, and an output is that of one call.
        assert deviation(held.output(), right) < 1e-5
    steps = " ".join(held.plan().steps)
    words = "+".join(step if step == "sum" else f"eltwise_{step}" for step in one.epilogue.post_ops)
    assert (f" post-ops:{words} " in steps) == bool(words)


def test_an_output_that_was_given_away_is_not_changed_by_later_calls(torch: Any) -> None:
    one = fused("mb1_ic8oc1_ih6kh3ph1", "sum")
    held = onednn.open(BackendOptions()).prepare(one, *tensors(one), added=added_tensors(one))
    output = held.output()
    before = output.copy()
    held.run(3)
    assert np.array_equal(output, before)


@pytest.mark.parametrize(
    ("argument", "text", "epilogue", "told"),
    [
        ("", SHAPES[0], "relu+sum", r"torch fuses no residual \(sum\) behind an activation"),
        ("", SHAPES[0], "sum+swish:1", r"torch fuses no swish:1 behind a residual \(sum\)"),
        ("", "mb1_ic8oc8_ih1kh1", "sum", "torch does not fuse sum into this convolution"),
        ("torch", SHAPES[0], "bias+relu", "torch's eager convolution takes a bias and no post-ops; leave out :torch"),
    ],
)
def test_what_torch_does_not_fuse_is_refused(argument: str, text: str, epilogue: str, told: str, torch: Any) -> None:
    one = fused(text, epilogue)
    with pytest.raises(Unsupported, match=told):
        onednn.open(BackendOptions(argument)).prepare(one, *tensors(one), added=added_tensors(one))


def test_torch_s_own_convolution_takes_a_bias(torch: Any) -> None:
    one = fused(SHAPES[0], "bias")
    held = onednn.open(BackendOptions("torch")).prepare(one, *tensors(one), added=added_tensors(one))
    assert deviation(held.output(), convolve(one, *tensors(one), added_tensors(one))) < 1e-5


def test_a_worker_finds_a_fused_layer_right_and_agreeing_with_its_pruned_self(worker: Worker) -> None:
    for epilogue in ("bias+relu", "bias+sum+relu"):
        unpruned = fused("mb1_g2ic8oc16_ih6kh3ph1", epilogue)
        pruned = unpruned.prune(4)
        assert not worker.examine(unpruned.key).wrong
        for error, tolerance in (
            worker.agree(unpruned.key, pruned.key),
            *worker.check(unpruned.key, pruned.key).values(),
        ):
            assert error <= tolerance
        assert np.all(worker.measure(unpruned.key, pruned.key, 2).seconds > 0)


def test_a_fused_plan_is_reproduced_with_its_post_ops() -> None:
    line = reproduce(fused("mb1_ic8oc16_ih6kh3ph1", "bias+sum+relu"), plan_of(BRGEMM_3_12), BackendOptions())
    assert "--dt=f32:f32:f32 --bia-dt=f32 --attr-post-ops=sum+relu --stag=acdb" in line


RUN_EACH = """
import runpy, sys
for path in sys.argv[1:]:
    print("of", path, flush=True)
    runpy.run_path(path, run_name="__main__")
    sys.stdout.flush()
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the scripts of fused layers print, by epilogue: one process runs each, since torch takes long to import."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("scripts")
    names = {epilogue: f"{number}.py" for number, epilogue in enumerate(FUSED)}
    for epilogue, name in names.items():
        text = onednn.write_script(fused("mb1_ic4oc4_ih6kh3ph1", epilogue), "", BackendOptions())
        (folder / name).write_text(text, encoding="utf-8")
    words = [sys.executable, "-c", RUN_EACH, *names.values()]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    return {
        epilogue: done.stdout.partition(f"of {name}\n")[2].partition("\nof ")[0] for epilogue, name in names.items()
    }


@pytest.mark.parametrize("epilogue", FUSED)
def test_a_script_of_a_fused_layer_calls_what_was_measured(epilogue: str, printed: dict[str, str]) -> None:
    assert "us a call" in printed[epilogue]
    steps = parse_steps(printed[epilogue])
    words = epilogue.removeprefix("bias").strip("+").replace("relu", "eltwise_relu").replace("swish", "eltwise_swish")
    assert any(step.tag("post-ops") == (words or "any") for step in steps if step.primitive == "convolution")
