"""How a runner is started, and with that what it may claim: time only from a program that this machine runs itself.

What a program says of its machine is not asked: an emulator says what it emulates. What counts is the file that the
kernel runs as the process, which under an emulator is the emulator.
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
"""How the OpenCL library that runs nothing begins to name its driver."""


@dataclass(frozen=True)
class Launch:
    """A command with its environment."""

    command: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


def emulated() -> bool:
    """Whether a runner needs an emulator here."""
    return not on_arm()


def launch(built: Built, choice: AclOptions, evidence: Evidence, threads: int, counts: str = "") -> Launch:
    """How to start a runner; instructions are counted into the file `counts` where an emulator counts them."""
    runner = [str(built.runner), "--evidence", str(evidence), "--target", choice.target, "--threads", str(threads)]
    runner += ["--tuner"] if choice.tuner else []
    guest = {}
    if choice.gpu:
        guest = {"NEVER_SLOWER_GPU": choice.gpu, "LD_LIBRARY_PATH": str(built.null_opencl)}
    if not emulated():
        return Launch(tuple(runner), guest)
    plugin = ["-plugin", f"{built.counter},out={counts}"] if counts else []
    own_loader = Path(built.root, "usr/lib/ld-linux-aarch64.so.1") if built.root else Path("/nowhere")
    loader = ["-L", built.root] if own_loader.exists() else []
    passed = [text for name, value in guest.items() for text in ("-E", f"{name}={value}")]
    # What tunes the guest's C library would change what its calls execute.
    return Launch((EMULATOR, "-cpu", choice.cpu, "-U", "GLIBC_TUNABLES", *loader, *plugin, *passed, *runner))


def runs_itself(pid: int, runner: Path) -> bool:
    """Whether the kernel runs this very program as that process, and nothing that emulates it."""
    try:
        return os.path.samefile(f"/proc/{pid}/exe", runner)
    except OSError:
        return False


def counts_instructions() -> bool:
    """Whether the emulator takes plugins, as builds of QEMU may or may not."""
    return "-plugin" in _emulator_says("-h")


def emulator_version() -> str:
    """`7.2.22`, or nothing where no emulator is there or needed."""
    said = _emulator_says("--version") if emulated() else ""
    match = re.search(r"version (\d[\w.]*)", said)
    return match[1] if match else ""


def _emulator_says(option: str) -> str:
    if not shutil.which(EMULATOR):
        return ""
    return subprocess.run([EMULATOR, option], capture_output=True, text=True, check=False).stdout
