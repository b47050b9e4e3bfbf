"""Arm Compute Library, run by a process of its own: timed on a board; counted, and its dispatch shown, anywhere.

`--backend acl:WORD,…` (see choice.py). On a 64-bit Arm machine `acl` and `acl:opencl` take times. Elsewhere the CPU is
emulated, and `acl` counts instructions. `acl:g72` shows on any machine what ACL would dispatch to a Mali of that name:
an OpenCL library that runs nothing stands in for the driver. No time is ever taken under an emulator.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import IO, Any

import numpy as np

from backends.acl import build
from backends.acl.choice import CPU, EVIDENCE, AclOptions
from backends.acl.launch import NULL_DRIVER, counts_instructions, emulated, emulator_version, launch, runs_itself
from backends.acl.program import program
from backends.acl.runner import Refused, Runner, RunnerDied, RunnerFailed
from backends.base import Argument, BackendOptions, Capabilities, Command, Tensor
from backends.shared import read_argument
from neverslower.device.fingerprint import Fingerprint
from neverslower.device.readers import arm, limits, mali
from neverslower.errors import DeviceLost, Unavailable, Unsupported
from neverslower.evidence.enqueue import Enqueue
from neverslower.evidence.observation import Cache, Evidence, Plan
from neverslower.problem.convolution import ConvProblem, DType, Layout
from neverslower.problem.epilogue import NOTHING, Added

CAPABILITIES = Capabilities(
    dtypes=frozenset({DType.FLOAT32, DType.FLOAT16}),
    layouts=frozenset(Layout),
    evidence=frozenset(Evidence),
    formats=((DType.FLOAT32, Layout.NHWC), (DType.FLOAT32, Layout.NCHW)),
    on_request=True,
    waits=True,
)
VIRTUAL_BOARDS = ("linux,dummy-virt",)
"""What QEMU's virtual machines call their board in the device tree, which does not say whether they emulate."""
COUNTED_RUN = 1
"""The run whose instructions are counted, from 0: the first one also fills the library's caches."""


def open(options: BackendOptions) -> ACL:
    """Find the runner and start it. Raises Unavailable with what is missing and the commands that bring it."""
    choice = read_argument("acl", options.argument, AclOptions.parse)
    evidence = _evidence(choice)
    try:
        built = build.find(choice.root)
        if emulated():
            _require_emulator(evidence, choice.target == "opencl" and not choice.gpu)
        return ACL(choice, evidence, built, options.threads)
    except (build.NotBuilt, RunnerDied) as error:
        raise Unavailable(str(error)) from error


def _evidence(choice: AclOptions) -> Evidence:
    """Return the evidence that was asked for, or else what this machine can give."""
    return choice.evidence or (Evidence.INSTRUCTIONS if emulated() else Evidence.DEVICE_TIME)


def _require_emulator(evidence: Evidence, opencl: bool) -> None:
    """Raise Unavailable where an emulator can't give this evidence; `opencl` asks for a GPU that must be there."""
    if evidence is Evidence.DEVICE_TIME or opencl:
        raise Unavailable(
            "acl measures times only on a 64-bit Arm machine; here acl:instructions counts instructions, and a Mali's "
            "name, such as acl:g72, shows what would be dispatched there"
        )
    if not emulator_version():
        raise Unavailable(f"{build.EMULATOR} is not installed; `{build.packages()}` installs it")
    if evidence is Evidence.INSTRUCTIONS and not counts_instructions():
        raise Unavailable(
            f"this {build.EMULATOR} ({emulator_version()}) takes no plugins, so nothing counts instructions; Debian "
            "12's qemu-user does, and QEMU where it was built with --enable-plugins"
        )


def reproduce(problem: ConvProblem, plan: Plan, options: BackendOptions) -> str:
    """Return a shell command that asks the runner alone; it needs no tensors."""
    choice = AclOptions.parse(options.argument)
    evidence = _evidence(choice)
    prepare = {"op": "prepare", "id": 1} | request(choice, problem)
    look = {
        Evidence.INSTRUCTIONS: {"op": "count", "id": 1, "after": COUNTED_RUN},
        Evidence.DISPATCH: {"op": "dispatch", "id": 1},
        Evidence.DEVICE_TIME: {"op": "run", "id": 1, "iterations": 10},
    }[evidence]
    counts = "/dev/stderr" if evidence is Evidence.INSTRUCTIONS else ""
    started = launch(build.place(choice.root), choice, evidence, options.threads, counts)
    variables = [f"{name}={value}" for name, value in started.variables.items()]
    lines = " ".join(shlex.quote(json.dumps(line, separators=(",", ":"))) for line in (prepare, look))
    return f"printf '%s\\n' {lines} | {shlex.join([*variables, *started.command])}"


def write_script(problem: ConvProblem, plan: str, options: BackendOptions) -> str:
    """Return a C++ program that needs ACL alone, or, on OpenCL, a shell script that asks the runner alone.

    ACL chooses by itself, so `plan` changes nothing.
    """
    CAPABILITIES.require(problem)
    choice = AclOptions.parse(options.argument)
    if choice.target == "neon":
        return program(problem, replace(choice, evidence=_evidence(choice)), options.threads)
    return f"#!/bin/sh\n# {problem} by Arm Compute Library's runner\n{reproduce(problem, Plan(plan), options)}\n"


def argument_of(fingerprint: Fingerprint) -> str:
    """Return the words of `--backend acl:…` that a record was measured with, but for the folder of its library."""
    state = fingerprint.state
    words = [state[name] for name in ("target", "method") if name in state]
    words += [word for word, evidence in EVIDENCE.items() if str(evidence) == state.get("evidence")]
    words += [f"cpu={cpu}"] if (cpu := fingerprint.hardware.get("cpu", CPU)) != CPU else []
    return ",".join([*words, *(name for name in ("tuner", "fast_math") if state.get(name.replace("_", " ")) == "on")])


def request(choice: AclOptions, problem: ConvProblem) -> dict[str, Any]:
    """Return the fields of a request to prepare a problem."""
    return {"method": choice.method, "fast_math": choice.fast_math, "problem": described(problem)}


def described(problem: ConvProblem) -> dict[str, Any]:
    """Return a problem as the runner reads it (native/src/problem.cpp): sizes as (channels, height, width)."""
    return {
        "batch": problem.batch,
        "groups": problem.groups,
        "in": [problem.in_channels, problem.height, problem.width],
        "out": list(problem.output_shape[1:]),
        "kernel": list(problem.kernel),
        "stride": list(problem.stride),
        "dilation": list(problem.dilation),
        "padding": list(problem.padding),
        "dtype": str(problem.dtype),
        "layout": str(problem.layout),
    }


class ACL:
    """The backend: one ACL on one target, for one kind of evidence."""

    clock = "std::chrono::steady_clock"
    shortest_round = 5e-3

    def __init__(self, choice: AclOptions, evidence: Evidence, built: build.Built, threads: int) -> None:
        self._choice, self._built, self.evidence = choice, built, evidence
        self._threads = 1 if evidence is Evidence.INSTRUCTIONS else threads
        self.exclusive = evidence is Evidence.DEVICE_TIME
        # On a board nothing disturbs a count by the processor's own counters, but every core may be in use.
        self.at_once = limits.cores() if emulated() else 1
        self._runner: Runner | None = None
        self._hello = self.runner.hello
        try:
            _require_one_version(self._hello)
            if choice.gpu:
                self._require_null()
            elif evidence is Evidence.DEVICE_TIME:
                self._require_real()
        except Unavailable:
            self.close()
            raise

    @property
    def runner(self) -> Runner:
        """The runner's process, which is started again where it died."""
        if self._runner is None or not self._runner.alive:
            self._runner = self._start()
        return self._runner

    def _start(self, counts: str = "") -> Runner:
        """Start another runner. Where an emulator counts instructions, it writes them to the file `counts`."""
        started = launch(self._built, self._choice, self.evidence, self._threads, counts)
        return Runner(started.command, started.variables)

    def close(self) -> None:
        """End the runner's process."""
        if self._runner:
            self._runner.close()

    def _require_null(self) -> None:
        """Raise Unavailable unless our own OpenCL library answers for the GPU that is not there."""
        gpu = self._hello["gpu"]
        if not gpu or not gpu["driver"].startswith(NULL_DRIVER) or gpu["name"] != self._choice.gpu:
            raise Unavailable(
                f"another OpenCL library than never-slower's own answers for {self._choice.gpu}; build it again: "
                "`python -m neverslower build-acl`"
            )

    def _require_real(self) -> None:
        """Raise Unavailable unless this machine itself runs the program, and OpenCL runs on a real GPU."""
        if not runs_itself(self.runner.pid, self._built.runner):
            raise Unavailable("the runner is emulated here, whatever the machine calls itself: no time is taken")
        if arm.board() in VIRTUAL_BOARDS:
            raise Unavailable(f"this machine calls its board {arm.board()}, which QEMU makes up: no time is taken")
        gpu = self._hello["gpu"]
        if gpu and (gpu["driver"].startswith(NULL_DRIVER) or gpu["type"] != "gpu"):
            raise Unavailable(f"{gpu['name']} is not a GPU ({gpu['driver']}): no time is taken")

    def fingerprint(self) -> Fingerprint:
        """Return ACL's version and build, and the board or what stands in for it."""
        hello, choice = self._hello, self._choice
        state = {
            "evidence": str(self.evidence),
            "target": choice.target,
            "method": choice.method,
            "threads": str(self._threads),
            "tuner": "on" if choice.tuner else "off",
            "fast math": "on" if choice.fast_math else "off",
        }
        software = {"acl": hello["acl"], "runner": f"protocol {hello['protocol']}"}
        device, hardware = self._device(software)
        if self.evidence is Evidence.DEVICE_TIME:
            state |= arm.settings() | (mali.settings() if choice.target == "opencl" else {})
        return Fingerprint(
            backend="acl",
            device=device,
            version=hello["acl"] or "0",
            build=hashlib.sha256(hello["build"].encode()).hexdigest()[:7],
            hardware=hardware,
            state=state,
            software=software,
        )

    def _device(self, software: dict[str, str]) -> tuple[str, dict[str, str]]:
        """Return the device's name and hardware; add to `software` what drives or emulates it."""
        gpu = self._hello["gpu"]
        if self._choice.gpu:
            software["target"] = gpu["target"]
            return f"{self._choice.gpu} recorded", {"gpu": gpu["name"]}
        if gpu:
            software |= {"target": gpu["target"], "opencl driver": gpu["driver"]}
            software |= {"kernel driver": driver} if (driver := mali.driver()) else {}
            return gpu["name"], {"gpu": gpu["name"], "board": arm.board()}
        if emulated():
            software["emulator"] = f"qemu {emulator_version()}"
            return f"{self._choice.cpu} emulated", {"cpu": self._choice.cpu}
        return arm.board() or "Arm board", {"cores": arm.parts()}

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user has to know: what the evidence is worth, and that ACL takes the GPU for another."""
        caveats = {
            Evidence.INSTRUCTIONS: "instructions are counted, which say nothing about caches and stalls",
            Evidence.DISPATCH: "what would be dispatched is shown, nothing is computed",
        }
        remarks = [caveats[self.evidence]] if self.evidence in caveats else []
        gpu = self._hello["gpu"]
        if gpu and gpu["target"].lower() not in gpu["name"].lower():
            remarks.append(f"ACL {self._hello['acl']} takes a {gpu['name']} for {gpu['target']}")
        return tuple(remarks)

    def prepare(
        self, problem: ConvProblem, inputs: Tensor, weights: Tensor, policy: str = "", added: Added = NOTHING
    ) -> Prepared:
        """Configure and prepare one of ACL's functions. Raises Unsupported with ACL's own words."""
        if policy:
            raise Unsupported(f"acl chooses by the method in its argument, not by a policy {policy!r}")
        CAPABILITIES.require(problem)
        runner, fields = self.runner, request(self._choice, problem)
        number = runner.number()
        with contextlib.ExitStack() as files, _errors_translated(self.exclusive):
            if self.evidence is not Evidence.DISPATCH:
                for name, tensor in (("inputs", inputs), ("weights", weights)):
                    fields[name] = _path(files.enter_context(_file(tensor)))
            chosen = runner.ask("prepare", id=number, **fields)["chosen"]
        return Prepared(self, runner, number, problem, str(chosen))

    def count(self, problem: ConvProblem) -> int:
        """Return the instructions of one call, counted in a process that does nothing else: so every run agrees.

        Raises Unsupported where they can't be counted here.
        """
        with tempfile.TemporaryFile() as counts:
            runner = self._start(_path(counts))
            try:
                runner.ask("prepare", id=1, **request(self._choice, problem))
                instructions = runner.ask("count", id=1, after=COUNTED_RUN)["instructions"]
            finally:
                runner.close()
            counts.seek(0)
            # Where the runner may read the processor's own counters it says the count; under QEMU the plugin writes it.
            if instructions is None:
                instructions = _counted(counts.read())
        if instructions is None:
            raise Unsupported(
                "instructions can't be counted here: the kernel forbids it (sysctl kernel.perf_event_paranoid), "
                "or the processor's counters are hidden"
            )
        return int(instructions)


def _counted(lines: bytes) -> int | None:
    """Return the count that QEMU's plugin wrote for the one pair of marks, or None where it wrote none."""
    counts = [json.loads(line)["instructions"] for line in lines.splitlines()]
    return counts[0] if counts else None


@contextlib.contextmanager
def _errors_translated(exclusive: bool) -> Iterator[None]:
    """Turn the runner's errors into what they mean to the suite.

    The death of a runner loses everything that is prepared in it: DeviceLost where it has its device to itself.
    """
    try:
        yield
    except Refused as error:
        raise Unsupported(str(error)) from None
    except RunnerFailed as error:  # What ACL's validate() lets pass may be refused by an exception later.
        if re.search(r"not (implemented|supported)", str(error), re.IGNORECASE):
            raise Unsupported(str(error)) from None
        raise
    except RunnerDied as error:
        if exclusive:
            raise DeviceLost(str(error)) from None
        raise


def _require_one_version(hello: Any) -> None:
    """Raise Unavailable where headers and library differ in version: functions would not be what they seem."""
    versions = [_numbers(text) for text in re.findall(r"\d+(?:\.\d+)+", hello["headers"])]
    library = _numbers(hello["acl"])
    if not versions or not any(library):
        return  # A library that does not say its version can't be distinguished from another.
    first, last = versions[0], versions[1] if len(versions) > 1 else None
    if library < first or (last and library > last):
        raise Unavailable(
            f"the runner was built with headers of ACL {hello['headers']}, and meets the library of {hello['acl']}; "
            "build it again with both of one version: `python -m neverslower build-acl`"
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Return (20, 8) for `20.08`, and () for what is no version."""
    return tuple(int(part) for part in version.split(".")) if re.fullmatch(r"\d+(\.\d+)+", version) else ()


def _file(tensor: Tensor) -> IO[bytes]:
    """Return a file without a name that holds a tensor, and is gone with this process."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  (the caller closes it)
    np.ascontiguousarray(tensor, dtype=np.float32).tofile(file)
    file.flush()
    return file


def _path(file: IO[bytes]) -> str:
    """Return the path by which another process of this machine opens a file without a name."""
    return f"/proc/{os.getpid()}/fd/{file.fileno()}"


class Prepared:
    """One convolution, prepared in the runner."""

    cache = Cache()
    least_iterations = 1

    def __init__(self, backend: ACL, runner: Runner, number: int, problem: ConvProblem, chosen: str) -> None:
        self._backend, self._runner, self._number = backend, runner, number
        self._problem, self._chosen = problem, chosen
        weakref.finalize(self, runner.forget, number)

    def _ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        with _errors_translated(self._backend.exclusive):
            return self._runner.ask(operation, id=self._number, **fields)

    def plan(self) -> Plan:
        """Return the method; on OpenCL also the kernels that it launches, in order."""
        if self._runner.hello["target"] != "opencl":
            return Plan(self._chosen)
        kernels = self._ask("dispatch")["kernels"]
        steps = tuple(_step(kernel) for kernel in kernels)
        options = tuple(" ".join(kernel["options"].split()) for kernel in kernels)
        return Plan(self._chosen, steps, shares=self._shares(), options=options)

    def _shares(self) -> tuple[float, ...]:
        """Return each kernel's share of a call, by OpenCL's events; none without a GPU.

        The call is a separate one: events take time, and the calls that are timed have none.
        """
        if self._backend.evidence is not Evidence.DEVICE_TIME:
            return ()
        seconds = [kernel["seconds"] for kernel in self._ask("profile")["kernels"]]
        total = sum(seconds)
        return tuple(duration / total for duration in seconds) if total > 0 else ()

    def instructions(self) -> int:
        """Return the instructions of one call. Raises Unsupported where they can't be counted."""
        with _errors_translated(self._backend.exclusive):
            return self._backend.count(self._problem)

    def output(self) -> Tensor:
        """Return the result of one call. Raises Unsupported where nothing is computed."""
        if self._backend.evidence is Evidence.DISPATCH:
            raise Unsupported("nothing is computed where a dispatch is recorded")
        with tempfile.TemporaryFile() as file:
            self._ask("output", file=_path(file))
            file.seek(0)
            return np.fromfile(file, dtype=np.float32).reshape(self._problem.output_shape)

    def run(self, iterations: int) -> float:
        """Return the seconds of that many calls together, by the runner's steady clock."""
        return float(self._ask("run", iterations=iterations)["seconds"])


def _step(kernel: dict[str, Any]) -> str:
    """Return a plan's step for one kernel as the runner describes it; its groups may be left to the driver."""
    group = _extent(kernel["local"]) if kernel["local"] else None
    return str(Enqueue(kernel["name"], _extent(kernel["global"]), group))


def _extent(sizes: list[int]) -> tuple[int, int, int]:
    return sizes[0], sizes[1], sizes[2]


def _build(arguments: Mapping[str, Any], progress: Callable[[str], None]) -> str:
    return f"{build.build(arguments['root'], progress).runner}\n"


BUILD = Command(
    "build-acl",
    "build the runner of the acl backend, against the system's Arm Compute Library or another one",
    (
        Argument(
            "--root",
            {"default": "", "metavar": "FOLDER", "help": "of an ACL with headers; default: the system's"},
        ),
    ),
    _build,
)
