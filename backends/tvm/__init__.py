"""TVM: relax's conv2d for this very CPU through LLVM, or for an NVIDIA GPU, untuned or scheduled from a database.

`--backend tvm` measures what TVM makes of a layer that nobody tuned. `--backend tvm:FOLDER` applies the database of
that MetaSchedule work folder; TVM silently uses untuned loops for a shape that the database does not hold.
The plan says which of the two it was. What is compiled is kept between runs (`python -m neverslower cache`).
`--backend tvm:cuda` does the same on an NVIDIA GPU, on words of its own (see choice.py and cuda.py).
`--backend tvm:opencl,mali` shows what TVM would dispatch to a GPU that is not here (see opencl.py), and
`--backend tvm:rpc=HOST:PORT,key=KEY` measures on a board that a tracker of TVM's hands out (see rpc.py).
"""

from __future__ import annotations

from pathlib import Path

from backends.base import BackendOptions, Capabilities
from backends.gpu import Gpu, load_torch, require_gpu, unusable_is_unavailable
from backends.shared import read_argument
from backends.tvm import capabilities, cuda, databases, health, nvrtc, script
from backends.tvm.api import Api
from backends.tvm.backend import TVM
from backends.tvm.board import Board
from backends.tvm.choice import OnCuda, TvmOptions
from backends.tvm.kernels import kernels_of
from backends.tvm.nvidia import Cuda
from backends.tvm.opencl import OpenCL
from backends.tvm.rpc import BoardApi
from neverslower.errors import KeptFolderError, Unavailable
from neverslower.evidence.observation import Plan
from neverslower.files.kept import KeptFolders, default_root
from neverslower.problem.convolution import ConvProblem

CAPABILITIES = capabilities.CAPABILITIES


def companions(package: str, version: str) -> tuple[str, ...]:
    """Return the requirement of the ffi that a release of tvm is known to work with, where one is known."""
    ffi = health.PAIRS.get(".".join(version.split(".")[:2])) if package == "apache-tvm" else None
    return (f"apache-tvm-ffi=={ffi}",) if ffi else ()


def capabilities_of(argument: str) -> Capabilities:
    """Return what can be asked for on the device that the argument names."""
    try:
        return capabilities.ON_CUDA if TvmOptions.parse(argument).cuda else CAPABILITIES
    except ValueError:  # It is refused when it is opened.
        return CAPABILITIES


def open(options: BackendOptions) -> TVM | OpenCL:
    """Load tvm. Raises Unavailable where it, its ffi or a compiler is missing, or the argument or database is unfit."""
    choice = read_argument("tvm", options.argument, TvmOptions.parse)
    installed = health.installed()
    if not choice.gpu:
        health.require_compiler()
    kept = KeptFolders(default_root() / "tvm")
    try:
        if choice.cuda:
            return _on_cuda(choice.cuda, installed, kept, options.threads)
        health.check(installed, kept)
        if choice.tracker:
            board = BoardApi(options.threads, choice.tracker)
            return Board(board, installed, kernels_of(board, installed, kept), choice.tracker, options.threads)
        api = Api(options.threads)
        if choice.gpu:
            return OpenCL(api, installed, choice.gpu, CAPABILITIES)
        database = databases.read(Path(choice.database), api) if choice.database else None
        return TVM(api, installed, kernels_of(api, installed, kept, database), options.threads)
    except KeptFolderError as error:
        raise Unavailable(str(error)) from error


def _on_cuda(choice: OnCuda, installed: health.Installed, kept: KeptFolders, threads: int) -> Cuda:
    """Load torch, which brings CUDA, and tvm after it. Raises Unavailable where no GPU or no compiler is there."""
    torch = load_torch()
    require_gpu(torch, choice.gpu)
    compiler = nvrtc.arrange()
    health.check(installed, kept)
    with unusable_is_unavailable():
        gpu = Gpu(torch, choice.gpu)
    arch = f"sm_{gpu.properties.major}{gpu.properties.minor}"
    api = cuda.CudaApi(threads, choice.gpu, arch, gpu.lock_name)
    api.require_device()
    api.follow(gpu.stream.cuda_stream)
    database = databases.read(Path(choice.database), api) if choice.database else None
    kernels = kernels_of(api, installed, kept, database, compiler, gpu.properties.name)
    return Cuda(api, installed, kernels, threads, cuda.Setup(gpu, choice.cache, compiler))


def reproduce(problem: ConvProblem, plan: Plan, options: BackendOptions) -> str:
    """Return a line that times the untuned convolution alone, or prints its OpenCL, or writes what does so on a GPU."""
    return script.line(problem, plan, read_argument("tvm", options.argument, TvmOptions.parse), options)


def write_script(problem: ConvProblem, plan: str, options: BackendOptions) -> str:
    """Return the same program as a script; it takes the untuned convolution, whatever the plan."""
    CAPABILITIES.require(problem)
    return script.text(problem, read_argument("tvm", options.argument, TvmOptions.parse), options.threads)
