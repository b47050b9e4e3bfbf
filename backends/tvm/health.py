"""Check whether this tvm is fit for use: that it and its ffi go together, and that there is a compiler to link with.

A tvm with another ffi than the one it was built with imports, compiles and runs, and then crashes the process when it
writes JSON, which every tuning database is. So a child process tries that, once for each pair of versions.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from backends.shared import not_installed
from neverslower.errors import Unavailable
from neverslower.files.kept import KeptFolders

PAIRS = {"0.25": "0.1.12", "0.26": "0.1.14.post1", "0.27": "0.1.14.post1"}
"""The ffi that each release of tvm is known to work with."""
NEWEST_FFI = list(PAIRS.values())[-1]
COMPILERS = ("g++", "gcc", "clang++", "clang", "c++", "cc")
PROBE = """
import sys
sys.modules["torch"] = None
import tvm
from tvm import te
x = te.placeholder((4,), "float32", "x")
function = te.create_prim_func([x, te.compute((4,), lambda i: x[i] + 1.0, "y")])
module = tvm.IRModule({"main": function})
tvm.ir.assert_structural_equal(tvm.ir.load_json(tvm.ir.save_json(module)), module)
"""
"""A program that writes and reads a loop: an empty module survives even a wrong pair."""
PATIENCE = 60.0


@dataclass(frozen=True)
class Installed:
    """The versions of tvm and of its ffi, and a digest that distinguishes two builds of them."""

    tvm: str
    ffi: str
    build: str


def installed() -> Installed:
    """Return what this Python has, without importing any of it. Raises Unavailable."""
    tvm, ffi = _distribution("apache-tvm"), _distribution("apache-tvm-ffi")
    digest = hashlib.sha256()
    for line in sorted({*_files(tvm, "tvm"), *_files(ffi, "tvm_ffi"), *_files_in(os.environ.get("TVM_LIBRARY_PATH"))}):
        digest.update(f"{line}\n".encode())
    return Installed(tvm.version, ffi.version, digest.hexdigest()[:12])


def _distribution(package: str) -> Distribution:
    try:
        return distribution(package)
    except PackageNotFoundError:
        raise not_installed(package, "apache-tvm") from None


def _files(package: Distribution, module: str) -> Iterator[str]:
    """Yield each file of a package with the hash that pip recorded: the same wherever the same wheel is installed.

    pip records no files of an editable checkout, and its version stays while they change. So there each file comes with
    its size and time, and so do the libraries nearby, where tvm.libinfo looks for them.
    """
    if json.loads(package.read_text("direct_url.json") or "{}").get("dir_info", {}).get("editable"):
        spec = find_spec(module)
        for folder in (spec and spec.submodule_search_locations) or ():
            for place in ("", "../../build/lib", "../../lib"):
                yield from _files_in(os.path.join(folder, place))
    for line in (package.read_text("RECORD") or "").splitlines():
        if ",sha256=" in line and line.startswith(f"{module}/"):  # Scripts outside it name this Python's folder.
            yield line


def _files_in(folder: str | None) -> Iterator[str]:
    """Yield each program and library in a folder, with its size and time."""
    for path in Path(folder).resolve().rglob("*") if folder else ():
        if path.suffix in (".py", ".so", ".dylib") and path.is_file():
            status = path.stat()
            yield f"{path} {status.st_size} {status.st_mtime_ns}"


def check(pair: Installed, kept: KeptFolders) -> None:
    """Try the pair in a child process, unless it is known to work. Raises Unavailable with what to install."""
    tvm, ffi = pair.tvm, pair.ffi
    fields = {"kind": "health", "tvm": tvm, "ffi": ffi, "build": pair.build, "python": sys.executable, "probe": PROBE}
    if kept.find(fields):
        return
    command = [sys.executable, "-c", PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"apache-tvm {tvm} did not write JSON within {PATIENCE:g} s; {remedy(tvm)}") from None
    # Only a success is kept: a failure may be fixed by something that is not among the fields.
    if done.returncode:
        raise Unavailable(f"apache-tvm {tvm} does not work with apache-tvm-ffi {ffi} ({_how(done)}); {remedy(tvm)}")
    kept.add(fields, _nothing)


def _nothing(folder: Path) -> None:
    """Write no files: that the entry exists is all there is to know."""


def _how(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"writing JSON ended it with signal {-done.returncode}"
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def remedy(tvm: str) -> str:
    """Return what to install for a version of tvm."""
    for release, ffi in PAIRS.items():
        if tvm.startswith(f"{release}."):
            return f"install the pair: pip install 'apache-tvm=={tvm}' 'apache-tvm-ffi=={ffi}'"
    newest = list(PAIRS)[-1]
    return f"a pair that works: pip install 'apache-tvm=={newest}.*' 'apache-tvm-ffi=={PAIRS[newest]}'"


def require_compiler() -> None:
    """Raise Unavailable where there is no system compiler, with which TVM links what it compiles."""
    wanted = os.environ.get("CXX") or os.environ.get("CC")
    names = (wanted,) if wanted else COMPILERS
    if not any(shutil.which(name) for name in names):
        missing = f"the compiler {wanted!r} that CXX or CC names" if wanted else "a C++ compiler to link with"
        raise Unavailable(f"tvm needs {missing}; `apt-get install g++` installs one")
