"""The real runner of acl under QEMU, where it is built: outputs, counts, dispatches, and requests in error."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import Any

import pytest

from backends.acl import ACL, build, described
from backends.acl import open as open_acl
from backends.acl.choice import AclOptions
from backends.acl.launch import emulated, emulator_version, launch
from backends.base import BackendOptions
from neverslower.baseline import folders
from neverslower.errors import Unsupported
from neverslower.evidence.enqueue import enqueues
from neverslower.evidence.observation import Evidence
from neverslower.problem import numerics
from neverslower.problem.convolution import ConvProblem, DType, Layout
from neverslower.problem.networks import network
from selftests.support import ROOT

L16 = network("resnet50")[16].problem
SMALL = ConvProblem(in_channels=8, out_channels=12, height=9, width=7, kernel=(3, 3), padding=(1, 1, 1, 1))


def there() -> bool:
    try:
        return build.find("").runner.is_file() and emulated() and bool(emulator_version())
    except build.NotBuilt:
        return False


pytestmark = pytest.mark.skipif(not there(), reason="needs QEMU and `python -m neverslower build-acl`")


@pytest.fixture(scope="module")
def opened():
    """Backends by their argument, each started once."""
    found: dict[str, ACL] = {}

    def get(argument: str) -> ACL:
        if argument not in found:
            found[argument] = open_acl(BackendOptions(argument))
        return found[argument]

    yield get
    for one in found.values():
        one.close()


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("auto", SMALL),
        ("gemm", SMALL),
        ("gemm", replace(SMALL, batch=2, stride=(2, 2))),
        ("gemm", replace(SMALL, padding=(0, 1, 2, 0))),
        ("gemm", replace(SMALL, height=11, dilation=(2, 2))),
        ("direct", SMALL),
        ("winograd", SMALL),
        ("auto", replace(SMALL, in_channels=12, groups=12)),
    ],
)
def test_outputs_are_right(opened, method, problem, layout):
    problem = replace(problem, layout=layout)
    inputs, weights = numerics.tensors(problem)
    try:
        output = opened(f"neon,{method}").prepare(problem, inputs, weights).output()
    except Unsupported as refusal:
        if method == "auto" or (method == "gemm" and layout is Layout.NHWC):
            raise
        pytest.skip(str(refusal))
    expected = numerics.convolve(problem, inputs, weights)
    error = numerics.deviation(output, expected, numerics.typical_output(problem))
    assert error <= numerics.TOLERANCES[problem.dtype]


@pytest.mark.parametrize(
    ("method", "problem", "words"),
    [
        ("direct", replace(SMALL, in_channels=12, groups=12), "depthwise"),
        ("winograd", replace(SMALL, groups=4), "group"),
        ("gemm", replace(SMALL, dtype=DType.FLOAT16), "."),
    ],
)
def test_what_can_t_be_done_is_refused_in_words(opened, method, problem, words):
    with pytest.raises(Unsupported, match=words):
        opened(f"neon,{method}").prepare(problem, *numerics.tensors(problem)).output()


def test_counts_are_the_same_in_every_process(opened):
    counts = {opened("neon,gemm").count(replace(SMALL, layout=Layout.NHWC)) for _ in range(3)}
    assert len(counts) == 1


def test_counts_of_l16_are_those_of_the_record(opened):
    """1,748 of each are the memory manager's; without it, and with clocks read between, it would be 240 more."""
    layer = replace(L16, layout=Layout.NHWC)
    found = {count: opened("neon,gemm").count(replace(layer, out_channels=count)) for count in (92, 93, 96, 97)}
    assert found == {92: 31_929_109, 93: 31_954_197, 96: 31_763_881, 97: 35_518_743}


def test_gemm_on_a_g72_has_two_parallel_staircases(opened):
    """The curve of Radu et al., as dispatched: in steps of four, of which one in eight is even in x."""
    layer = replace(L16, layout=Layout.NHWC)
    backend, tensors = opened("g72,gemm"), numerics.tensors(layer)
    seen = {}
    for count in range(1, 129):
        seen[count] = enqueues(backend.prepare(replace(layer, out_channels=count), *tensors).plan())[-1]
    assert all(one.items == (-(-count // 4), 196, 1) for count, one in seen.items())
    # Below 29 channels the driver makes the groups, and nothing is claimed.
    assert {count for count, one in seen.items() if one.group == (8, 8, 1)} == set(range(29, 129))
    even = [count for count in range(29, 129) if "x" not in seen[count].uneven]
    assert even == [*range(29, 33), *range(61, 65), *range(93, 97), *range(125, 129)]


def test_many_problems_do_not_make_the_runner_grow(opened):
    backend = opened("g76,gemm")
    tensors = numerics.tensors(SMALL)
    sizes = []
    for number in range(60):
        assert backend.prepare(SMALL, *tensors).plan().steps
        if number in (20, 59):
            with open(f"/proc/{backend.runner.pid}/statm", encoding="ascii") as file:
                sizes.append(int(file.read().split()[1]))
    assert sizes[1] < sizes[0] * 1.1


def ask(*lines: str, evidence: Evidence = Evidence.INSTRUCTIONS, words: str = "neon") -> list[dict[str, Any]]:
    """What the runner answers to raw lines, its introduction first."""
    started = launch(build.find(""), AclOptions.parse(words), evidence, 1)
    done = subprocess.run(
        started.command, input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


PREPARE = json.dumps({"op": "prepare", "id": 1, "method": "gemm", "problem": described(SMALL)})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not JSON"),
        ("[1]", ""),
        ('{"op": "foo", "id": 7}', "foo"),
        ('{"op": "output", "id": 7, "file": "/tmp/x"}', "nothing is prepared as 7"),
        ('{"op": "prepare", "id": 7}', "method"),
        (PREPARE.replace('"gemm"', '"fft"'), "fft"),
        (PREPARE.replace("[8, 9, 7]", '"big"'), "in"),
        (PREPARE.replace('"groups": 1', '"groups": 0'), "groups"),
        (PREPARE.replace('"float32"', '"int8"'), "int8"),
    ],
)
def test_a_request_that_can_t_be_read_is_answered_and_the_next_one_served(line, words):
    _, bad, good = ask(line, PREPARE.replace('"id": 1', '"id": 2'))
    assert words in bad.get("error", bad.get("refused", ""))
    assert good == {"id": 2, "ok": {"chosen": "GEMM"}}


def test_no_time_is_told_where_another_evidence_was_asked_for():
    for operation in ("run", "profile"):
        *_, answer = ask(PREPARE, json.dumps({"op": operation, "id": 1, "iterations": 1}))
        assert "error" in answer
        assert "seconds" not in json.dumps(answer.get("ok", {}))


def test_the_null_opencl_says_what_it_is():
    hello, *_ = ask(evidence=Evidence.DISPATCH, words="g72")
    assert hello["hello"]["gpu"]["driver"].startswith("never-slower null OpenCL")
    assert hello["hello"]["gpu"]["target"] == "g72"


def test_float16_is_dispatched_too(opened):
    problem = replace(SMALL, dtype=DType.FLOAT16, layout=Layout.NHWC)
    plan = opened("g76,gemm").prepare(problem, *numerics.tensors(problem)).plan()
    assert any("half" in options for options in plan.options)


def test_the_committed_dispatches_are_shown_again(opened):
    """Of one layer; the whole record takes a minute."""
    folder = ROOT / "baselines" / "acl@mali-g72-recorded"
    stored = next(one for path in sorted(folder.glob("*20.08*-gemm-dispatch.jsonl")) if (one := folders.load(path)))
    backend = opened("g72,gemm")
    entries = [entry for entry in stored.entries.values() if entry.layer == "resnet50.L16"]
    assert len(entries) > 5
    for entry in entries:
        problem = ConvProblem.from_key(entry.candidate)
        assert backend.prepare(problem, *numerics.tensors(problem)).plan() == entry.plan
