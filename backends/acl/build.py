"""Building the runner against an ACL, and finding what was built; it is kept in the cache of this user.

Each folder of an ACL, and the system's, has a build of its own: the runner, an OpenCL library that runs nothing, and on
a machine that emulates Arm a plugin of QEMU's that counts instructions.
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
    """What was built for one ACL."""

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
        """QEMU's plugin, for this machine."""
        return self.folder / "counter" / "libcounter.so"


def on_arm() -> bool:
    """Whether this machine says that it runs programs for 64-bit Arm; an emulator says so too."""
    return platform.machine() in ("aarch64", "arm64")


def packages() -> str:
    """The command that brings everything but an ACL of one's own."""
    if on_arm():
        return f"{APT} {NATIVE_PACKAGES}"
    return f"dpkg --add-architecture arm64 && apt-get update && {APT} {CROSS_PACKAGES}"


def place(root: str) -> Built:
    """Where the build of an ACL lies, or would; folders whose names differ in little have builds of their own."""
    if not root:
        return Built(default_root() / "acl" / "system", "")
    whole = str(Path(root).resolve())
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return Built(default_root() / "acl" / f"{slug(Path(whole).name)}-{digest}", whole)


def find(root: str) -> Built:
    """What was built for an ACL. Raises NotBuilt with the commands that build it."""
    built = place(root)
    if built.runner.is_file() and (on_arm() or built.counter.is_file()):
        return built
    option = f" --root {root}" if root else ""
    lacking = [name for name in _tools() if not shutil.which(name)]
    first = f"{', '.join(lacking)} is missing: `{packages()}`; then " if lacking else ""
    whose = root or "the ACL of this system"
    raise NotBuilt(f"no runner is built for {whose}: {first}`python -m neverslower build-acl{option}`")


def _tools() -> tuple[str, ...]:
    return ("cmake", "g++") if on_arm() else ("cmake", "gcc", f"{CROSS}g++", EMULATOR)


def _sources() -> Path:
    """Return the folder of the C++; not a constant, for a worker imports this module and has no `__file__`."""
    return Path(__file__).resolve().parent / "native"


def build(root: str, tell: Callable[[str], None]) -> Built:
    """Build the runner and what belongs to it. Raises NotBuilt with what is missing, or the compiler's words."""
    if root and not Path(root).is_dir():
        raise NotBuilt(f"--root {root}: no such folder; give the folder of an ACL, or leave it away for the system's")
    if lacking := [name for name in _tools() if not shutil.which(name)]:
        raise NotBuilt(f"{', '.join(lacking)} is missing; `{packages()}` brings it")
    built = place(root)
    options = [f"-DACL_ROOT={built.root}"] if root else []
    _cmake("acl_runner", _sources(), built.folder / "runner", [*options, *([] if on_arm() else _cross())], tell)
    if not on_arm():
        _cmake("counter", _sources() / "counter", built.folder / "counter", [], tell)
    return built


def _cross() -> list[str]:
    return [
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_C_COMPILER={CROSS}gcc",
        f"-DCMAKE_CXX_COMPILER={CROSS}g++",
    ]


def _cmake(name: str, sources: Path, folder: Path, options: list[str], tell: Callable[[str], None]) -> None:
    # What was found before may have been mended since, or lie in another checkout.
    (folder / "CMakeCache.txt").unlink(missing_ok=True)
    for what, command in (
        ("configure", ["cmake", "-S", str(sources), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", *options]),
        ("build", ["cmake", "--build", str(folder), "--parallel"]),
    ):
        tell(f"{what} {name}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotBuilt(f"{name} could not be built ({what}): {_telling(done.stdout + done.stderr)}")


def _telling(output: str) -> str:
    """What CMake or the compiler says is wrong, in one line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if line.startswith("CMake Error"):
            words = [one for one in lines[number + 1 : number + 6] if not one.startswith(("--", "Call Stack"))]
            return " ".join(words) or line
    errors = [line for line in lines if "error" in line.lower() or "undefined reference" in line]
    return (errors or lines or ["no word of why"])[0]
