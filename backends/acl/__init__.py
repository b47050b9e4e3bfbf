"""Arm Compute Library, in a runner process of its own: timed on a board, counted and dissected on any machine.

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
from typing import IO, Any

import numpy as np

from backends.acl import build
from backends.acl.choice import AclOptions
from backends.acl.launch import NULL_DRIVER, counts_instructions, emulated, emulator_version, launch, runs_itself
from backends.acl.runner import Refused, Runner, RunnerDied, RunnerFailed
from backends.base import Argument, BackendOptions, Capabilities, Command, Tensor
from backends.shared import read_argument
from neverslower.device.fingerprint import Fingerprint
from neverslower.device.readers import arm, mali
from neverslower.errors import DeviceLost, Unavailable, Unsupported
from neverslower.evidence.enqueue import Enqueue
from neverslower.evidence.observation import Cache, Evidence, Plan
from neverslower.problem.convolution import ConvProblem, DType, Layout

CAPABILITIES = Capabilities(
    dtypes=frozenset({DType.FLOAT32, DType.FLOAT16}),
    layouts=frozenset(Layout),
    evidence=frozenset(Evidence),
    formats=((DType.FLOAT32, Layout.NHWC), (DType.FLOAT32, Layout.NCHW)),
    on_request=True,
    waits=True,
)
VIRTUAL_BOARDS = ("linux,dummy-virt",)
"""How QEMU's virtual machines name themselves in the device tree; whether they emulate or not can't be told there."""
COUNTED_RUN = 1
"""Of which run the instructions are counted, from 0: the first one also fills caches of the library's."""


def open(options: BackendOptions) -> ACL:
    """Find the runner and start it; raises Unavailable with what is missing and the commands that bring it."""
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
    """What was asked for, or what this machine can give."""
    return choice.evidence or (Evidence.INSTRUCTIONS if emulated() else Evidence.DEVICE_TIME)


def _require_emulator(evidence: Evidence, opencl: bool) -> None:
    if evidence is Evidence.DEVICE_TIME or opencl:
        raise Unavailable(
            "acl takes times on a 64-bit Arm machine alone; here acl:instructions counts, and a Mali's name, such as "
            "acl:g72, shows what would be dispatched there"
        )
    if not emulator_version():
        raise Unavailable(f"{build.EMULATOR} is not installed; `{build.packages()}` brings it")
    if evidence is Evidence.INSTRUCTIONS and not counts_instructions():
        raise Unavailable(
            f"this {build.EMULATOR} ({emulator_version()}) takes no plugins, so nothing counts instructions; Debian "
            "12's qemu-user does, and QEMU where it was built with --enable-plugins"
        )


def reproduce(problem: ConvProblem, plan: Plan, options: BackendOptions) -> str:
    """A line that asks the runner alone; it needs no tensors."""
    choice = AclOptions.parse(options.argument)
    evidence = _evidence(choice)
    prepare = {"op": "prepare", "id": 1} | request(choice, problem)
    then = {
        Evidence.INSTRUCTIONS: {"op": "count", "id": 1, "after": COUNTED_RUN},
        Evidence.DISPATCH: {"op": "dispatch", "id": 1},
        Evidence.DEVICE_TIME: {"op": "run", "id": 1, "iterations": 10},
    }[evidence]
    counts = "/dev/stderr" if evidence is Evidence.INSTRUCTIONS else ""
    started = launch(build.place(choice.root), choice, evidence, options.threads, counts)
    variables = [f"{name}={value}" for name, value in started.variables.items()]
    lines = " ".join(shlex.quote(json.dumps(line, separators=(",", ":"))) for line in (prepare, then))
    return f"printf '%s\\n' {lines} | {shlex.join([*variables, *started.command])}"


def request(choice: AclOptions, problem: ConvProblem) -> dict[str, Any]:
    """What the runner is to prepare."""
    return {"method": choice.method, "fast_math": choice.fast_math, "problem": described(problem)}


def described(problem: ConvProblem) -> dict[str, Any]:
    """A problem in the runner's words."""
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
    """One ACL on one target, for one kind of evidence."""

    clock = "std::chrono::steady_clock"
    shortest_round = 5e-3

    def __init__(self, choice: AclOptions, evidence: Evidence, built: build.Built, threads: int) -> None:
        self._choice, self._built, self.evidence = choice, built, evidence
        self._threads = 1 if evidence is Evidence.INSTRUCTIONS else threads
        self.exclusive = evidence is Evidence.DEVICE_TIME
        # A count by the processor's own counters is disturbed by nothing, but on a board every core may be wanted.
        self.at_once = os.cpu_count() or 1 if emulated() else 1
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
        """The process, started anew where it died."""
        if self._runner is None or not self._runner.alive:
            self._runner = self._start()
        return self._runner

    def _start(self, counts: str = "") -> Runner:
        """A process of its own; instructions go to the file `counts` where an emulator counts them."""
        started = launch(self._built, self._choice, self.evidence, self._threads, counts)
        return Runner(started.command, started.variables)

    def close(self) -> None:
        """End the runner."""
        if self._runner:
            self._runner.close()

    def _require_null(self) -> None:
        """A GPU that is not there is shown by the library that stands in for it, and by no driver that is there."""
        gpu = self._hello["gpu"]
        if not gpu or not gpu["driver"].startswith(NULL_DRIVER) or gpu["name"] != self._choice.gpu:
            raise Unavailable(
                f"another OpenCL library than never-slower's own answers for {self._choice.gpu}; build it again: "
                "`python -m neverslower build-acl`"
            )

    def _require_real(self) -> None:
        """Times come from a program that the machine runs itself, and of OpenCL from a real device."""
        if not runs_itself(self.runner.pid, self._built.runner):
            raise Unavailable("the runner is emulated here, whatever the machine calls itself: no time is taken")
        if arm.board() in VIRTUAL_BOARDS:
            raise Unavailable(f"this machine calls its board {arm.board()}, which QEMU makes up: no time is taken")
        gpu = self._hello["gpu"]
        if gpu and (gpu["driver"].startswith(NULL_DRIVER) or gpu["type"] != "gpu"):
            raise Unavailable(f"{gpu['name']} is no GPU ({gpu['driver']}): no time is taken")

    def fingerprint(self) -> Fingerprint:
        """ACL's version and build; the board, or what stands for it."""
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
        """(name, hardware); what surrounds it joins the software."""
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
        """What the evidence is, where it is no time."""
        told = {
            Evidence.INSTRUCTIONS: "instructions are counted, which know nothing of caches and stalls",
            Evidence.DISPATCH: "what would be dispatched is shown, nothing is computed",
        }
        found = [told[self.evidence]] if self.evidence in told else []
        gpu = self._hello["gpu"]
        if gpu and gpu["target"].lower() not in gpu["name"].lower():
            found.append(f"ACL {self._hello['acl']} takes a {gpu['name']} for {gpu['target']}")
        return tuple(found)

    def prepare(self, problem: ConvProblem, inputs: Tensor, weights: Tensor, policy: str = "") -> Prepared:
        """A function of ACL's, configured and prepared. Raises Unsupported with its own words."""
        if policy:
            raise Unsupported(f"acl chooses by the method in its argument, not by a policy {policy!r}")
        CAPABILITIES.require(problem)
        runner, fields = self.runner, request(self._choice, problem)
        number = runner.number()
        with contextlib.ExitStack() as files, _told(self.exclusive):
            if self.evidence is not Evidence.DISPATCH:
                for name, values in (("inputs", inputs), ("weights", weights)):
                    fields[name] = _path(files.enter_context(_file(values)))
            chosen = runner.ask("prepare", id=number, **fields)["chosen"]
        return Prepared(self, runner, number, problem, str(chosen))

    def count(self, problem: ConvProblem) -> int:
        """The instructions of one call, in a process that does nothing else: so they are the same in every run."""
        with tempfile.TemporaryFile() as counts:
            runner = self._start(_path(counts))
            try:
                runner.ask("prepare", id=1, **request(self._choice, problem))
                told = runner.ask("count", id=1, after=COUNTED_RUN)["instructions"]
            finally:
                runner.close()
            counts.seek(0)
            found = told if told is not None else _counted(counts.read())
        if found is None:
            raise Unsupported(
                "instructions can't be counted here: the kernel forbids it (sysctl kernel.perf_event_paranoid), "
                "or the processor's counters are hidden"
            )
        return int(found)


def _counted(lines: bytes) -> int | None:
    """What QEMU's plugin wrote of the one pair of marks."""
    counts = [json.loads(line)["instructions"] for line in lines.splitlines()]
    return counts[0] if counts else None


@contextlib.contextmanager
def _told(lost: bool) -> Iterator[None]:
    """Turn the runner's answers into what they mean; where `lost`, its death takes all that is prepared with it."""
    try:
        yield
    except Refused as error:
        raise Unsupported(str(error)) from None
    except RunnerFailed as error:  # What validate() lets pass may be refused by an exception later.
        if re.search(r"not (implemented|supported)", str(error), re.IGNORECASE):
            raise Unsupported(str(error)) from None
        raise
    except RunnerDied as error:
        if lost:
            raise DeviceLost(str(error)) from None
        raise


def _require_one_version(hello: Any) -> None:
    """Headers of one version and a library of another give functions that are not what they seem."""
    versions = [_numbers(text) for text in re.findall(r"\d+(?:\.\d+)+", hello["headers"])]
    library = _numbers(hello["acl"])
    if not versions or not any(library):
        return  # A library that does not say its version can't be told from another.
    first, last = versions[0], versions[1] if len(versions) > 1 else None
    if library < first or (last and library > last):
        raise Unavailable(
            f"the runner was built with headers of ACL {hello['headers']}, and meets the library of {hello['acl']}; "
            "build it again with both of one version: `python -m neverslower build-acl`"
        )


def _numbers(version: str) -> tuple[int, ...]:
    """(20, 8) of `20.08`; nothing where the text is no version."""
    return tuple(int(part) for part in version.split(".")) if re.fullmatch(r"\d+(\.\d+)+", version) else ()


def _file(values: Tensor) -> IO[bytes]:
    """A file without a name that holds a tensor, gone with this process."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  (closed by whom it is given to)
    np.ascontiguousarray(values, dtype=np.float32).tofile(file)
    file.flush()
    return file


def _path(file: IO[bytes]) -> str:
    """Where another process of this machine finds a file without a name."""
    return f"/proc/{os.getpid()}/fd/{file.fileno()}"


class Prepared:
    """One convolution in the runner."""

    cache = Cache()
    least_iterations = 1

    def __init__(self, backend: ACL, runner: Runner, number: int, problem: ConvProblem, chosen: str) -> None:
        self._backend, self._runner, self._number = backend, runner, number
        self._problem, self._chosen = problem, chosen
        weakref.finalize(self, runner.forget, number)

    def _ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        with _told(self._backend.exclusive):
            return self._runner.ask(operation, id=self._number, **fields)

    def plan(self) -> Plan:
        """The method, and of OpenCL what it dispatches."""
        if self._runner.hello["target"] != "opencl":
            return Plan(self._chosen)
        launched = self._ask("dispatch")["kernels"]
        steps = [str(Enqueue(one["name"], _extent(one["global"]), _group(one["local"]))) for one in launched]
        options = tuple(" ".join(one["options"].split()) for one in launched)
        return Plan(self._chosen, tuple(steps), shares=self._shares(), options=options)

    def _shares(self) -> tuple[float, ...]:
        """Each kernel's share of a call, by the events of a GPU that is there; apart from the calls that are timed."""
        if self._backend.evidence is not Evidence.DEVICE_TIME:
            return ()
        seconds = [one["seconds"] for one in self._ask("profile")["kernels"]]
        return tuple(one / sum(seconds) for one in seconds) if sum(seconds) > 0 else ()

    def instructions(self) -> int:
        """The instructions of one call."""
        with _told(self._backend.exclusive):
            return self._backend.count(self._problem)

    def output(self) -> Tensor:
        """One call's result. Raises Unsupported where nothing is computed."""
        if self._backend.evidence is Evidence.DISPATCH:
            raise Unsupported("nothing is computed where a dispatch is recorded")
        with tempfile.TemporaryFile() as file:
            self._ask("output", file=_path(file))
            file.seek(0)
            return np.fromfile(file, dtype=np.float32).reshape(self._problem.output_shape)

    def run(self, iterations: int) -> float:
        """Seconds of that many calls, by the steady clock of the runner."""
        return float(self._ask("run", iterations=iterations)["seconds"])


def _extent(sizes: list[int]) -> tuple[int, int, int]:
    return sizes[0], sizes[1], sizes[2]


def _group(sizes: list[int] | None) -> tuple[int, int, int] | None:
    return _extent(sizes) if sizes else None


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
