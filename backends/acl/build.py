"""Build the runner against an ACL, and find what was built; it is kept in this user's cache.

Each folder of an ACL, and the system's ACL, has a build of its own: the runner, an OpenCL library that runs nothing,
and, on a machine that emulates Arm, a plugin for QEMU that counts instructions.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from neverslower.device.fingerprint import slug
from neverslower.errors import NeverSlowerError
from neverslower.files.kept import default_root

EMULATOR = "qemu-aarch64"
CROSS = "aarch64-linux-gnu-"
APT = "apt-get install --no-remove --no-install-recommends"
NATIVE_PACKAGES = "cmake g++ nlohmann-json3-dev libarm-compute-dev opencl-c-headers"
CROSS_PACKAGES = (
    "cmake gcc qemu-user g++-aarch64-linux-gnu nlohmann-json3-dev opencl-c-headers libarm-compute-dev:arm64"
)


class NotBuilt(NeverSlowerError):
    """There is no runner to start, or it can't be built; the text says what brings it."""


@dataclass(frozen=True)
class Built:
    """Where the build for one ACL lies; `root` is the folder of that ACL, empty for the system's."""

    folder: Path
    root: str

    @property
    def runner(self) -> Path:
        """The program, for 64-bit Arm."""
        return self.folder / "runner" / "acl_runner"

    @property
    def null_opencl(self) -> Path:
        """The folder of the OpenCL library that runs nothing."""
        return self.folder / "runner" / "null_opencl"

    @property
    def counter(self) -> Path:
        """The plugin for QEMU, built for this machine."""
        return self.folder / "counter" / "libcounter.so"


def on_arm() -> bool:
    """Tell whether this machine says that it runs programs for 64-bit Arm; an emulator says so too."""
    return platform.machine() in ("aarch64", "arm64")


def packages() -> str:
    """Return the command that installs everything that a build needs, but for an ACL of one's own."""
    if on_arm():
        return f"{APT} {NATIVE_PACKAGES}"
    return f"dpkg --add-architecture arm64 && apt-get update && {APT} {CROSS_PACKAGES}"


def place(root: str) -> Built:
    """Return where the build for an ACL lies, or would lie; folders whose slugs are alike have separate builds."""
    if not root:
        return Built(default_root() / "acl" / "system", "")
    whole = str(Path(root).resolve())
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return Built(default_root() / "acl" / f"{slug(Path(whole).name)}-{digest}", whole)


def find(root: str) -> Built:
    """Return what was built for an ACL. Raises NotBuilt with the commands that build it."""
    built = place(root)
    if built.runner.is_file() and (on_arm() or built.counter.is_file()):
        return built
    option = f" --root {root}" if root else ""
    lacking = _lacking_tools()
    first = f"{', '.join(lacking)} is missing: `{packages()}`; then " if lacking else ""
    whose = root or "the ACL of this system"
    raise NotBuilt(f"no runner is built for {whose}: {first}`python -m neverslower build-acl{option}`")


def _lacking_tools() -> list[str]:
    """Return the programs that a build needs and that are not on the PATH."""
    tools = ("cmake", "g++") if on_arm() else ("cmake", "gcc", f"{CROSS}g++", EMULATOR)
    return [name for name in tools if not shutil.which(name)]


def _sources() -> Path:
    """Return the folder of the C++; not a constant, for a worker imports this module and has no `__file__`."""
    return Path(__file__).resolve().parent / "native"


def build(root: str, report: Callable[[str], None]) -> Built:
    """Build the runner and what belongs to it, a line to `report` for each step.

    Raises NotBuilt with what is missing, or with the compiler's words.
    """
    if root and not Path(root).is_dir():
        raise NotBuilt(f"--root {root}: no such folder; give the folder of an ACL, or leave it out for the system's")
    if lacking := _lacking_tools():
        raise NotBuilt(f"{', '.join(lacking)} is missing; `{packages()}` installs it")
    built = place(root)
    options = [f"-DACL_ROOT={built.root}"] if root else []
    _cmake("acl_runner", _sources(), built.folder / "runner", [*options, *([] if on_arm() else _cross())], report)
    if not on_arm():
        _cmake("counter", _sources() / "counter", built.folder / "counter", [], report)
    return built


def _cross() -> list[str]:
    return [
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_C_COMPILER={CROSS}gcc",
        f"-DCMAKE_CXX_COMPILER={CROSS}g++",
    ]


def _cmake(name: str, sources: Path, folder: Path, options: list[str], report: Callable[[str], None]) -> None:
    # The last build may have looked for something that is there now, or been made from another checkout.
    (folder / "CMakeCache.txt").unlink(missing_ok=True)
    for step, command in (
        ("configure", ["cmake", "-S", str(sources), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", *options]),
        ("build", ["cmake", "--build", str(folder), "--parallel"]),
    ):
        report(f"{step} {name}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotBuilt(f"{name} could not be built ({step}): {_telling(done.stdout + done.stderr)}")


def _telling(output: str) -> str:
    """Return in one line what CMake or the compiler says is wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if line.startswith("CMake Error"):
            # CMake's text may be wrapped over the lines that follow.
            following = lines[number + 1 : number + 6]
            words = [words for words in following if not words.startswith(("--", "Call Stack"))]
            return " ".join(words) or line
    errors = [line for line in lines if "error" in line.lower() or "undefined reference" in line]
    return (errors or lines or ["no reason given"])[0]
