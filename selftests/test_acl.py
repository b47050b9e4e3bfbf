"""The acl backend: its words, how its runner is started, and everything that can go wrong with that; on a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

import backends
from backends.acl import ACL, build, described, reproduce
from backends.acl import open as open_acl
from backends.acl.choice import MALIS, AclOptions
from backends.acl.launch import launch, runs_itself
from backends.acl.runner import Refused, Runner, RunnerDied, RunnerFailed
from backends.base import BackendOptions
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.settings import Settings
from neverslower.errors import DeviceLost, Unavailable, Unsupported
from neverslower.evidence.observation import Evidence, Plan
from neverslower.judge.verdict import Code
from neverslower.problem import numerics
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import Layout
from neverslower.problem.networks import Layer
from neverslower.worker.process import WorkerSpec
from selftests.support import ROOT, needs_proc, problem

pytestmark = needs_proc
STAND_IN = ROOT / "selftests" / "acl_stand_in.py"
NHWC = problem(layout=Layout.NHWC)


# Words


@pytest.mark.parametrize(
    ("words", "choice"),
    [
        ("", AclOptions()),
        ("neon,gemm", AclOptions(method="gemm")),
        ("g72,direct", AclOptions("opencl", "direct", Evidence.DISPATCH, "Mali-G72")),
        ("Mali-T628", AclOptions("opencl", evidence=Evidence.DISPATCH, gpu="Mali-T628")),
        ("opencl,time,tuner", AclOptions("opencl", evidence=Evidence.DEVICE_TIME, tuner=True)),
        ("winograd,fast_math,cpu=max", AclOptions(method="winograd", cpu="max", fast_math=True)),
        ("root=/opt/acl", AclOptions(root="/opt/acl")),
    ],
)  # fmt: skip
def test_words_choose(words, choice):
    assert AclOptions.parse(words) == choice


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("g73", "'g73' is not one of the Malis known (t604, t628"),
        ("gem", "'gem' is unknown; it takes neon or opencl, a method (auto, gemm, direct, winograd)"),
        ("root=", "'root=' is unknown"),
        ("g72,time", "Mali-G72 is not here, so its device_time can't be measured; its dispatch can be shown"),
        ("opencl,instructions", "instructions are counted on the CPU: use neon"),
        ("neon,tuner", "the tuner times kernels on a real GPU: use opencl"),
        ("g72,tuner", "the tuner times kernels on a real GPU: use opencl"),
    ],
)
def test_a_wrong_word_is_told_with_what_there_is(words, why):
    with pytest.raises(Unavailable) as told:
        open_acl(BackendOptions(words))
    assert f"--backend acl:{words}: {why}" in str(told.value)


def test_every_mali_has_a_name():
    for name in MALIS:
        assert AclOptions.parse(name).gpu == f"Mali-{name.upper()}"


# What is there


def test_without_a_build_the_commands_that_make_one_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable) as told:
        open_acl(BackendOptions("root=/opt/acl"))
    text = str(told.value)
    assert text.startswith(
        "no runner is built for /opt/acl: cmake, gcc, aarch64-linux-gnu-g++, qemu-aarch64 is missing"
    )
    assert "apt-get install --no-remove --no-install-recommends cmake gcc qemu-user" in text
    assert text.endswith("`python -m neverslower build-acl --root /opt/acl`")
    assert "\n" not in text


def test_building_tells_what_is_missing_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.NotBuilt, match=r"is missing; `.*apt-get install"):
        build.build("", print)
    with pytest.raises(build.NotBuilt, match="no such folder"):
        build.build(str(tmp_path / "none"), print)


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("-- ok\nCMake Error at x:9 (message):\n  No ACL; name\n  one.\n\nCall Stack", "No ACL; name one."),
        ("[ 5%] Building\nmain.cpp:3:1: error: no such type\nmore", "main.cpp:3:1: error: no such type"),
        ("", "no reason given"),
    ],
)  # fmt: skip
def test_of_a_failed_build_the_telling_line_is_shown(output, line):
    assert build._telling(output) == line


# Starting


BUILT = build.Built(Path("/cache/acl/system"), "")


def test_an_emulated_runner_counts_by_a_plugin(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    found = launch(BUILT, AclOptions.parse("neon,gemm"), Evidence.INSTRUCTIONS, 1, "/proc/1/fd/3")
    assert found.command[:6] == ("qemu-aarch64", "-cpu", "cortex-a76", "-U", "GLIBC_TUNABLES", "-plugin")
    assert found.command[6] == "/cache/acl/system/counter/libcounter.so,out=/proc/1/fd/3"
    assert found.command[7:] == (
        "/cache/acl/system/runner/acl_runner", "--evidence", "instructions", "--target", "neon", "--threads", "1",
    )  # fmt: skip


def test_a_gpu_that_is_not_there_is_an_opencl_library_of_its_name(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    emulated = launch(BUILT, AclOptions.parse("g76"), Evidence.DISPATCH, 1)
    assert "NEVER_SLOWER_GPU=Mali-G76" in emulated.command
    assert "LD_LIBRARY_PATH=/cache/acl/system/runner/null_opencl" in emulated.command
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    native = launch(BUILT, AclOptions.parse("g76"), Evidence.DISPATCH, 1)
    assert native.command[0] == "/cache/acl/system/runner/acl_runner"
    assert native.variables["NEVER_SLOWER_GPU"] == "Mali-G76"


def test_who_runs_itself_is_told_by_the_kernel_and_not_by_a_name(tmp_path):
    program = Path(sys.executable).resolve()
    child = subprocess.Popen([program, "-c", "import time; time.sleep(60)"])
    try:
        assert runs_itself(child.pid, program)
        assert not runs_itself(child.pid, tmp_path / "acl_runner")
    finally:
        child.kill()
        child.wait()


# The stand-in


class World:
    """A cache with a build, and a PATH on which QEMU is the stand-in."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.script = folder, folder / "script.json"
        program = folder / "bin" / "qemu-aarch64"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} {STAND_IN} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
        for name in ("runner/acl_runner", "counter/libcounter.so"):
            path = folder / "never-slower" / "acl" / "system" / name
            path.parent.mkdir(parents=True)
            path.touch()
        self.variables = {
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "XDG_CACHE_HOME": str(folder),
            "ACL_STAND_IN": str(self.script),
        }
        self.opened: list[ACL] = []
        self.say()

    def open(self, argument: str = "") -> ACL:
        self.opened.append(open_acl(BackendOptions(argument)))
        return self.opened[-1]

    def say(self, **script: object) -> None:
        self.script.write_text(json.dumps(script), encoding="utf-8")

    def campaign(self, argument: str, *channels: int):
        layer = Layer("", 0, "tiny", NHWC)
        every = [Comparison("acl", layer, NHWC if n == 16 else NHWC.prune(16 - n)) for n in channels]
        spec = WorkerSpec("acl", argument, time_limit=30.0, variables=self.variables)
        found = Campaign({"acl": spec}, Settings(passes=1, blocks=12)).run(every)
        return found, [found.results[one.identity].verdict for one in every if one.identity in found.results]


@pytest.fixture
def world(tmp_path, monkeypatch) -> Iterator[World]:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    found = World(tmp_path)
    for name, value in found.variables.items():
        monkeypatch.setenv(name, value)
    yield found
    for one in found.opened:
        one.close()


def runner(limit: float = 20.0) -> Runner:
    return Runner(["qemu-aarch64"], {}, limit)


def prepare(one: Runner, channels: int = 16) -> int:
    number = one.number()
    one.ask("prepare", id=number, method="gemm", problem=described(problem(channels, layout=Layout.NHWC)))
    return number


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        ({"protocol": 2}, "speaks protocol 2, this never-slower 1; build it again: `python -m neverslower build-acl`"),
        ({"error": "no OpenCL library; install one"}, "can't start: no OpenCL library; install one"),
        ({"error": "this ACL was built without OpenCL"}, "can't start: this ACL was built without OpenCL"),
    ],
)
def test_a_runner_that_can_t_be_used_says_so_in_one_line(world, hello, why):
    world.say(hello=hello)
    with pytest.raises(Unavailable) as told:
        open_acl(BackendOptions())
    assert why in str(told.value)
    assert "\n" not in str(told.value)


def test_opencl_needs_a_gpu_that_is_there(world):
    with pytest.raises(Unavailable, match="a Mali's name, such as acl:g72, shows what would be dispatched there"):
        open_acl(BackendOptions("opencl"))


@pytest.mark.parametrize("gpu", [{"driver": "r38p1"}, {"name": "Mali-G76"}])
def test_a_driver_that_is_there_does_not_stand_in_for_a_gpu_that_is_not(world, gpu):
    there = {"name": "Mali-G72", "driver": "never-slower null OpenCL 1", "target": "g72", "type": "gpu"}
    world.say(hello={"gpu": there | gpu})
    with pytest.raises(Unavailable, match="another OpenCL library than never-slower's own answers for Mali-G72"):
        open_acl(BackendOptions("g72"))


def test_what_an_older_acl_takes_a_gpu_for_is_said_and_is_no_obstacle(world):
    gpu = {"name": "Mali-G610", "driver": "never-slower null OpenCL 1", "target": "valhall", "type": "gpu"}
    world.say(hello={"gpu": gpu})
    old = world.open("g610")
    assert "ACL 20.08 takes a Mali-G610 for valhall" in old.remarks
    world.say(hello={"gpu": gpu | {"target": "g610"}, "acl": "24.11", "headers": "23.11 or newer"})
    new = world.open("g610")
    assert new.fingerprint().obstacles(old.fingerprint()) == []
    assert len(new.remarks) == 1


@pytest.mark.parametrize(
    ("library", "headers"), [("23.02.1", "23.02 to 23.02.1"), ("0.0", "23.11 or newer"), ("", "20.08")]
)
def test_headers_that_fit_or_can_t_be_told_are_taken(world, library, headers):
    world.say(hello={"acl": library, "headers": headers})
    assert world.open().evidence is Evidence.INSTRUCTIONS


def test_a_virtual_machine_s_board_takes_no_times(world, monkeypatch):
    monkeypatch.setattr("backends.acl.runs_itself", lambda *_: True)
    monkeypatch.setattr("backends.acl.arm.board", lambda: "linux,dummy-virt")
    backend = world.open()
    with pytest.raises(Unavailable, match="which QEMU makes up: no time is taken"):
        backend._require_real()


def test_an_emulator_without_plugins_counts_nothing_and_shows_dispatches(world):
    world.say(help="-cpu model")
    with pytest.raises(Unavailable, match=r"takes no plugins, so nothing counts instructions; Debian 12's qemu-user"):
        open_acl(BackendOptions())
    assert world.open("g72").evidence is Evidence.DISPATCH


def test_headers_of_another_version_than_the_library_are_refused(world):
    world.say(hello={"acl": "24.11"})
    with pytest.raises(Unavailable, match=r"headers of ACL 20.08 to 21.02, and meets the library of 24.11"):
        open_acl(BackendOptions())


def test_no_time_is_taken_under_an_emulator(world, monkeypatch):
    with pytest.raises(Unavailable, match="acl measures times only on a 64-bit Arm machine"):
        open_acl(BackendOptions("time"))
    # A whole system that is emulated calls itself Arm, and finds the runner without an emulator's name.
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    program = world.folder / "never-slower/acl/system/runner/acl_runner"
    program.write_bytes((world.folder / "bin/qemu-aarch64").read_bytes())
    program.chmod(0o755)
    with pytest.raises(Unavailable, match="the runner is emulated here, whatever the machine calls itself"):
        open_acl(BackendOptions())


def test_a_null_or_a_cpu_s_opencl_is_no_device_to_take_times_on(world, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr("backends.acl.runs_itself", lambda *_: True)
    gpu = {"name": "Mali-G72", "driver": "never-slower null OpenCL 1", "type": "gpu", "target": "g72"}
    for one in (gpu, gpu | {"driver": "PoCL", "type": "cpu"}):
        backend = object.__new__(ACL)
        backend._hello, backend._built = {"gpu": one}, BUILT
        backend._runner = cast(Runner, SimpleNamespace(alive=True, pid=1))
        with pytest.raises(Unavailable, match="is not a GPU"):
            backend._require_real()


@pytest.mark.parametrize(
    ("fate", "kind", "why"),
    [
        ("SIGILL", RunnerDied, "died of SIGILL, asked to prepare: the last words of a library"),
        ("SIGABRT", RunnerDied, "died of SIGABRT, asked to prepare"),
        ("noise", RunnerDied, "sent something that is not JSON: b'ACL says hello'"),
        ("refuse", Refused, "weights are too wide"),
        ("error", RunnerFailed, "ACL, asked to prepare: std::bad_alloc"),
    ],
)
def test_what_becomes_of_a_request_is_told_in_one_line(world, fate, kind, why):
    world.say(when={"15": fate})
    one = runner()
    with pytest.raises(kind) as told:
        prepare(one, 15)
    assert why in str(told.value)
    assert "\n" not in str(told.value)
    assert one.alive == (kind is not RunnerDied)
    one.close()


def test_a_runner_that_hangs_or_is_killed_is_ended_and_told(world):
    world.say(when={"15": "hang"})
    one = runner(limit=1.0)
    with pytest.raises(RunnerDied, match="gave no answer within 1 s, asked to prepare"):
        prepare(one, 15)
    assert not one.alive
    other = runner()
    os.kill(other.pid, 9)
    with pytest.raises(RunnerDied, match=r"died of SIGKILL"):
        prepare(other)


def test_no_program_is_told(tmp_path):
    with pytest.raises(RunnerDied, match="can't be started"):
        Runner([str(tmp_path / "none")], {})


def test_outputs_counts_and_plans_come_from_the_runner(world):
    world.say(when={"16": 123_456})
    backend = world.open("gemm")
    inputs, weights = numerics.tensors(NHWC)
    one = backend.prepare(NHWC, inputs, weights)
    assert np.abs(one.output() - numerics.convolve(NHWC, inputs, weights)).max() < 1e-5
    assert one.instructions() == 123_456
    assert (one.plan().name, one.plan().steps) == ("GEMM", ())
    assert backend.evidence is Evidence.INSTRUCTIONS
    assert not backend.exclusive


def test_a_dispatch_is_a_plan_s_steps_and_its_options_stand_beside(world):
    backend = world.open("g72,gemm")
    one = backend.prepare(NHWC, *numerics.tensors(NHWC))
    assert one.plan().steps == ("im2col global=9x9x1 local=driver", "mm global=4x8x1 local=2x2x1")
    assert one.plan().options == ("", "-DN=4 -cl-std=CL2.0")
    with pytest.raises(Unsupported, match="nothing is computed"):
        one.output()


def test_a_policy_is_not_acl_s(world):
    with pytest.raises(Unsupported, match="not by a policy 'best'"):
        world.open().prepare(NHWC, *numerics.tensors(NHWC), policy="best")


def test_what_is_dropped_in_the_middle_of_a_request_is_freed_before_the_next_one(world):
    backend = world.open()
    first = backend.prepare(NHWC, *numerics.tensors(NHWC))
    number = first._number
    del first
    assert backend.runner._unwanted == [number]
    second = backend.prepare(NHWC, *numerics.tensors(NHWC))
    assert backend.runner._unwanted == []
    assert second.output().shape == NHWC.output_shape


def test_the_answer_to_another_request_ends_the_runner(world, monkeypatch):
    one = runner()
    monkeypatch.setattr(one, "_read", lambda operation: {"id": 9, "ok": {}})
    with pytest.raises(RunnerDied, match="asked to prepare, answered another request"):
        prepare(one)
    with pytest.raises(RunnerDied, match="has ended"):
        prepare(one)


@pytest.mark.parametrize("words", ["gemm", "g72,gemm"])
def test_a_reproduction_asks_the_runner_alone(world, words):
    world.say(when={"16": 4321})
    line = reproduce(NHWC, Plan("GEMM"), BackendOptions(words))
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30, check=False)
    answers = [json.loads(one) for one in done.stdout.splitlines()]
    assert "chosen" in answers[1]["ok"]
    assert "kernels" in answers[2]["ok"] if words.startswith("g72") else '"instructions": 4321' in done.stderr


def test_shares_of_kernels_come_of_their_events_where_times_are_taken(world):
    backend = world.open("g72")
    backend.evidence = Evidence.DEVICE_TIME
    one = backend.prepare(NHWC, *numerics.tensors(NHWC))
    assert one.plan().shares == pytest.approx((0.25, 0.75))


def test_a_folder_is_itself_by_whichever_name_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "acl-24.11").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "acl-24.11")
    monkeypatch.chdir(tmp_path)
    assert build.place("link") == build.place("acl-24.11") == build.place(str(tmp_path / "acl-24.11"))
    assert build.place("acl 24.11").folder != build.place("acl-24.11").folder


def test_a_dead_runner_is_started_anew(world):
    backend = world.open()
    first = backend.runner
    first.close()
    assert backend.runner is not first
    assert backend.runner.alive


def test_a_dead_runner_is_a_lost_device_where_times_are_taken(world):
    backend = world.open()
    backend.exclusive = True
    one = backend.prepare(NHWC, *numerics.tensors(NHWC))
    os.kill(backend.runner.pid, 9)
    with pytest.raises(DeviceLost, match="SIGKILL"):
        one.run(1)


# Campaigns


def test_a_crash_costs_its_own_problem(world):
    world.say(when={"15": "SIGILL", "13": "refuse", "9": 10**9})
    found, verdicts = world.campaign("gemm", 16, 15, 13, 9, 8)
    assert [one.code for one in verdicts] == [Code.SAME, Code.CRASHED, Code.UNSUPPORTED, Code.MORE, Code.FEWER]
    assert "died of SIGILL" in verdicts[1].reason.text
    assert verdicts[2].reason.text == "weights are too wide"
    fingerprint = found.fingerprints["acl"]
    assert fingerprint.folder == "acl@cortex-a76-emulated"
    assert fingerprint.state["evidence"] == "instructions"
    assert fingerprint.state["method"] == "gemm"


def test_a_recorded_gpu_has_a_folder_of_its_own(world):
    found, verdicts = world.campaign("g72", 16, 15, 8)
    assert [one.code for one in verdicts] == [Code.SAME, Code.SAME, Code.SAME]
    assert found.fingerprints["acl"].folder == "acl@mali-g72-recorded"


def test_without_a_runner_the_backend_is_unavailable(world):
    (world.folder / "never-slower/acl/system/runner/acl_runner").unlink()
    found, _ = world.campaign("", 16)
    assert "no runner is built" in found.unavailable["acl"]


def test_acl_is_a_backend_that_must_be_asked_for():
    assert backends.load("acl").CAPABILITIES.on_request
