"""How a runner is started, which decides what it may claim: time only where this machine itself runs the program.

A program is not asked about its machine, for an emulator answers with what it emulates. The kernel is asked which file
it runs as the process: under an emulator that is the emulator.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from backends.acl.build import EMULATOR, Built, on_arm
from backends.acl.choice import AclOptions
from neverslower.evidence.observation import Evidence

NULL_DRIVER = "never-slower null OpenCL"
"""How the driver's name begins of the OpenCL library that runs nothing."""


@dataclass(frozen=True)
class Launch:
    """A command, and the environment variables that it needs in addition to this process's own."""

    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


def emulated() -> bool:
    """Tell whether a runner needs an emulator here."""
    return not on_arm()


def launch(built: Built, choice: AclOptions, evidence: Evidence, threads: int, counts: str = "") -> Launch:
    """Return how to start a runner. Where an emulator counts instructions, it writes them to the file `counts`."""
    runner = [str(built.runner), "--evidence", str(evidence), "--target", choice.target, "--threads", str(threads)]
    runner += ["--tuner"] if choice.tuner else []
    variables = {}
    if choice.gpu:
        variables = {"NEVER_SLOWER_GPU": choice.gpu, "LD_LIBRARY_PATH": str(built.null_opencl)}
    if not emulated():
        return Launch(tuple(runner), variables)
    plugin = ["-plugin", f"{built.counter},out={counts}"] if counts else []
    return Launch((*_emulator(built, choice.cpu), *plugin, *_for_the_guest(variables), *runner))


def _emulator(built: Built, cpu: str) -> list[str]:
    own_loader = Path(built.root, "usr/lib/ld-linux-aarch64.so.1") if built.root else Path("/nowhere")
    libraries = ["-L", built.root] if own_loader.exists() else []
    # The guest must not see GLIBC_TUNABLES: what tunes its C library changes what its calls execute.
    return [EMULATOR, "-cpu", cpu, "-U", "GLIBC_TUNABLES", *libraries]


def _for_the_guest(variables: Mapping[str, str]) -> list[str]:
    """Return QEMU's options that set variables for the emulated program alone."""
    return [text for name, value in variables.items() for text in ("-E", f"{name}={value}")]


def runs_itself(pid: int, runner: Path) -> bool:
    """Tell whether the kernel runs this very program as that process, and nothing that emulates it."""
    try:
        return os.path.samefile(f"/proc/{pid}/exe", runner)
    except OSError:
        return False


def counts_instructions() -> bool:
    """Tell whether the emulator takes plugins, which is decided when QEMU is built."""
    return "-plugin" in _emulator_says("-h")


def emulator_version() -> str:
    """Return the emulator's version, such as `7.2.22`; nothing where none is there or needed."""
    output = _emulator_says("--version") if emulated() else ""
    match = re.search(r"version (\d[\w.]*)", output)
    return match[1] if match else ""


def _emulator_says(option: str) -> str:
    if not shutil.which(EMULATOR):
        return ""
    return subprocess.run([EMULATOR, option], capture_output=True, text=True, check=False).stdout
