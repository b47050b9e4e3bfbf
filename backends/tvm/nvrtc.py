"""Find NVRTC and CUDA's headers, with which TVM compiles kernels at run time, and tell TVM where they are.

CUDA's wheels are parts of one folder, `nvidia/cu13`. torch brings NVRTC and the runtime, but not the two parts that
kernels include besides. A CUDA toolkit has all of them.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from backends.shared import first_line
from neverslower.errors import Unavailable

PARTS = {
    "include/cuda_fp16.h": "nvidia-cuda-runtime",
    "include/crt/host_defines.h": "nvidia-cuda-crt",
    "include/cccl/cuda/std/cstdint": "nvidia-cuda-cccl",
}
"""Files without which TVM's kernels do not compile, and the wheels that bring them."""
NAMES = ("CUDA_PATH", "CUDA_HOME")
"""What a user names a CUDA folder by, and TVM looks for, the first one first."""
TOOLKIT = Path("/usr/local/cuda")


def arrange() -> str:
    """Let TVM find a compiler of kernels; return which one. Raises Unavailable with the package that is missing."""
    if os.environ.get("TVM_CUDA_COMPILE_MODE", "nvrtc").lower() == "nvcc":
        if not shutil.which("nvcc"):
            raise Unavailable("TVM_CUDA_COMPILE_MODE is nvcc, and there is no nvcc on the PATH")
        return "nvcc"
    found = _nvrtc_version()
    root = _root()
    os.environ.update(dict.fromkeys(NAMES, str(root)))
    include = f"-I{root / 'include' / 'cccl'}"
    options = os.environ.get("TVM_CUDA_NVRTC_EXTRA_OPTS", "")
    if include not in options.split():
        os.environ["TVM_CUDA_NVRTC_EXTRA_OPTS"] = f"{options} {include}".strip()
    return f"nvrtc {found}"


def _nvrtc_version() -> str:
    """Return NVRTC's version. Raises Unavailable where it, or its Python binding, can't be loaded."""
    try:
        nvrtc = importlib.import_module("cuda.bindings.nvrtc")
    except ModuleNotFoundError:
        raise Unavailable(f"tvm compiles kernels with NVRTC: {_install('cuda-bindings')}") from None
    try:
        _, major, minor = nvrtc.nvrtcVersion()
    except Exception as error:
        raise Unavailable(f"NVRTC can't be loaded ({first_line(error)}): {_install('nvidia-cuda-nvrtc')}") from error
    return f"{major}.{minor}"


def _root() -> Path:
    """Return the first CUDA folder that has everything. Raises Unavailable with what is missing in the first one."""
    roots = list(roots_here())
    for root in roots:
        if not missing(root):
            return root
    if not roots:
        raise Unavailable(f"CUDA's headers are not here: {_install(*PARTS.values())}")
    # Whatever is installed then would not be looked at.
    named = next((f"unset {name}, or install there; " for name in NAMES if os.environ.get(name)), "")
    raise Unavailable(f"{roots[0]} lacks headers that tvm's kernels include: {named}{_install(*missing(roots[0]))}")


def roots_here() -> Iterator[Path]:
    """Yield the folders that may hold CUDA: the one that the user names alone, else those of wheels and the toolkit."""
    if named := next(filter(None, map(os.environ.get, NAMES)), None):
        yield Path(named)
        return
    spec = importlib.util.find_spec("nvidia")
    for place in (spec and spec.submodule_search_locations) or ():
        yield from sorted(Path(place).glob("cu[1-9]*"), reverse=True)
    if TOOLKIT.is_dir():
        yield TOOLKIT


def missing(root: Path) -> list[str]:
    """Return the wheels whose files a CUDA folder lacks."""
    return [wheel for file, wheel in PARTS.items() if not (root / file).is_file()]


def _install(*wheels: str) -> str:
    """Return the command that installs wheels of the CUDA that is here already, as far as that is known."""
    try:
        release = ".".join(version("nvidia-cuda-runtime").split(".")[:2])
    except PackageNotFoundError:
        return f"`pip install {' '.join(wheels)}` installs what is missing"
    named = " ".join(f"'{wheel}=={release}.*'" for wheel in wheels)
    return f"`pip install {named}` installs what is missing"
