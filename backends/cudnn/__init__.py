"""cuDNN on an NVIDIA GPU, through its own graph API or through torch's convolution.

`--backend cudnn` measures cuDNN's heuristic choice, `cudnn:fallback` that of its fallback heuristic, `cudnn:best` the
fastest plan that it offers, and `cudnn:torch` torch's convolution with its layout kernels; `cold` and `gpu=N` are added
by commas (see choice.py). torch gives memory, streams and CUDA graphs. Times are the GPU's own, between two events
around a graph of many calls.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from backends.base import BackendOptions, Capabilities, Tensor
from backends.cudnn import script
from backends.cudnn.choice import CudnnOptions, Policy
from backends.cudnn.dispatch import profile, steps_and_shares
from backends.cudnn.frontend import BIAS, IMAGE, RESIDUAL, WEIGHT, Frontend, Tensors, strides
from backends.cudnn.launching import ByPlan, Launched, through_torch
from backends.cudnn.network import GpuNetwork, prepare
from backends.cudnn.plans import PlanStore
from backends.gpu import Gpu, require_gpu, unusable_is_unavailable
from backends.gpu.replay import Replay
from backends.shared import first_line, not_installed, read_argument
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import Unavailable, Unsupported
from neverslower.evidence.observation import Cache, Plan
from neverslower.files.kept import KeptFolders, default_root
from neverslower.problem.convolution import ConvProblem, DType, Layout
from neverslower.problem.epilogue import NOTHING, Added
from neverslower.problem.subject import Subject
from neverslower.problem.whole import Network

CAPABILITIES = Capabilities(
    dtypes=frozenset(DType),
    layouts=frozenset(Layout),
    formats=((DType.FLOAT16, Layout.NHWC), (DType.TF32, Layout.NCHW), (DType.FLOAT32, Layout.NCHW)),
    modules=("torch", "cudnn"),
    packages=("torch", "nvidia-cudnn-frontend", "nvidia-ml-py"),
    overlays=("nvidia-*",),
    compiles=True,
    compiles_worth=64,
    profiles=True,
    watches=True,
    ahead=True,
    explains=True,
    networks=True,
    epilogues=True,
    largest_drawn_macs=300_000_000,
)


def open(options: BackendOptions) -> CuDNN:
    """Load torch and cuDNN. Raises Unavailable without a usable GPU, with the driver's words."""
    try:
        choice = CudnnOptions().with_words(options.argument)
    except ValueError as error:
        raise Unavailable(f"--backend cudnn:{options.argument}: {error}") from None
    torch, cudnn = _modules()
    require_gpu(torch, choice.gpu)
    try:
        cudnn.backend_version()
    except RuntimeError as error:
        text = f"libcudnn can't be loaded ({first_line(error)}); `pip install nvidia-cudnn-cu13`, or JetPack's cuDNN"
        raise Unavailable(text) from error
    with unusable_is_unavailable():
        return CuDNN(torch, cudnn, choice)


def _modules() -> tuple[Any, Any]:
    """Import torch, then cuDNN: torch brings the library that the frontend then finds in the process."""
    try:
        torch = importlib.import_module("torch")
        cudnn = importlib.import_module("cudnn")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "cudnn"):
            raise
        raise not_installed("nvidia-cudnn-frontend" if error.name == "cudnn" else "torch") from error
    except (ImportError, OSError) as error:
        raise Unavailable(f"torch or cuDNN's frontend can't be loaded: {first_line(error)}") from error
    return torch, cudnn


def reproduce(problem: ConvProblem, plan: Plan, options: BackendOptions) -> str:
    """Return the command that writes a script which times this problem and plan with nothing but cuDNN or torch."""
    choice = read_argument("cudnn", options.argument, CudnnOptions().with_words)
    return script.command(problem, plan, choice.policy)


def write_script(problem: ConvProblem, plan: str, options: BackendOptions) -> str:
    """Return a script that times `problem` by a plan, by default the first of the policy that `options` name."""
    choice = read_argument("cudnn", options.argument, CudnnOptions().with_words)
    default = "torch_best" if choice.policy is Policy.TORCH_BEST else "torch" if choice.policy.through_torch else ""
    return script.script(problem, plan or default, choice.policy is Policy.FALLBACK)


class CuDNN(Gpu):
    """cuDNN on one GPU; the modules are passed in so that this one imports without them."""

    def __init__(self, torch: Any, cudnn: Any, choice: CudnnOptions) -> None:
        super().__init__(torch, choice.gpu)
        self._cudnn, self._choice = cudnn, choice
        torch.backends.cudnn.benchmark = False  # A user's own setting must not choose the plan.
        self._frontend = Frontend(cudnn, torch, self.stream, self._plan_store())
        self._by_plan = ByPlan(self._frontend, self.stream)
        self.refusals = self._frontend.refusals

    def fingerprint(self) -> Fingerprint:
        """Return the GPU, its state and how it is measured; cuDNN's version, and everything around it."""
        version = self._cudnn.backend_version_string()
        return self.fingerprint_of(
            "cudnn",
            version=version,
            build=f"cuda{self.torch.version.cuda}",
            state={"policy": str(self._choice.policy), "cache": self._choice.cache},
            software={"cudnn": version, "cudnn frontend": str(self._cudnn.__version__)},
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return who else uses the GPU, what can't be noticed here, and whether there are two cuDNNs."""
        both = int(self._cudnn.backend_version()), self.torch.backends.cudnn.version()
        two = both[1] and both[0] != both[1]
        return (*self.disturbances, *([f"cuDNN {both[0]} answers to the frontend, {both[1]} to torch"] if two else ()))

    def _plan_store(self) -> PlanStore:
        """Return where plans are kept that this very library builds for this GPU."""
        torch, gpu = self.torch, self.properties
        library = {
            "cudnn": self._cudnn.backend_version_string(),
            "frontend": str(self._cudnn.__version__),
            "cuda": str(torch.version.cuda),
            "gpu": f"{gpu.name} {gpu.major}.{gpu.minor} {gpu.multi_processor_count}",
            "driver": self.nvml.driver() if self.nvml else "",
        }
        return PlanStore(KeptFolders(default_root() / "cudnn"), library)

    def prepare(
        self, problem: ConvProblem, inputs: Tensor, weights: Tensor, policy: str = "", added: Added = NOTHING
    ) -> Prepared:
        """Put tensors on the GPU, choose a plan by the policy, and call once.

        Raises Unsupported, OutOfMemory, or DeviceLost.
        """
        choice = self._chosen(problem, policy)
        with self.errors_translated(problem.bytes):
            copies = self.copies(problem, choice.cache)
            bias = None if added.bias is None else added.bias[None, :, None, None]
            given = {IMAGE: inputs, WEIGHT: weights, BIAS: bias, RESIDUAL: added.residual}
            tensors = [
                {port: self._tensor(values, problem) for port, values in given.items() if values is not None}
                for _ in range(copies)
            ]
            launched = self._launch(problem, tensors, choice)
            return Prepared(self, problem, launched, Cache(choice.cache, self.share(problem, copies)))

    def missing(self, subjects: Sequence[Subject]) -> list[Subject]:
        """Return those whose plan is the heuristic's first, and is yet to be built."""
        return [subject for subject in subjects if self._is_kept(subject) is False]

    def _is_kept(self, subject: Subject) -> bool | None:
        """Return whether a subject's plan is kept; None where it never is, or where the problem is refused."""
        try:
            policy = self._chosen(subject.problem, subject.policy).policy
        except Unsupported:
            return None
        return self._frontend.keeps(subject.problem) if policy is Policy.HEURISTIC else None

    def compile(self, subject: Subject) -> None:
        """Build the plan of a problem, and keep it. Raises Unsupported, or DeviceLost."""
        with self.errors_translated(subject.problem.bytes):
            self._frontend.first(subject.problem)

    def prepare_network(self, network: Network) -> GpuNetwork:
        """Build a network on the GPU, and call it there; see network.prepare."""
        return prepare(self, network)

    def _chosen(self, problem: ConvProblem, policy: str) -> CudnnOptions:
        try:
            choice = self._choice.with_words(policy)
        except ValueError as error:
            raise Unsupported(str(error)) from None
        why = CAPABILITIES.refusal(problem)
        if choice.policy.through_torch and not problem.symmetric_padding:
            why = "torch's conv2d has no asymmetric padding"
        if choice.policy.through_torch and problem.epilogue.post_ops:
            why = "torch's eager convolution takes a bias and no post-ops; leave out torch"
        if why:
            raise Unsupported(why)
        return choice

    def _tensor(self, values: Tensor, problem: ConvProblem) -> Any:
        tensor = self._empty(values.shape, problem)
        return tensor.copy_(self.torch.from_numpy(np.ascontiguousarray(values)))

    def _empty(self, shape: tuple[int, ...], problem: ConvProblem) -> Any:
        return self.empty(shape, strides(shape, problem.layout), problem.dtype)

    def _launch(self, problem: ConvProblem, tensors: Sequence[Tensors], choice: CudnnOptions) -> Launched:
        """Make a convolution over these sets of tensors, and call it once, so that all of it is loaded."""
        if choice.policy.through_torch:
            launched = through_torch(self.torch, problem, tensors, choice.policy)
        else:
            # NaN, so that a plan that writes only a part of its output is seen to be wrong.
            outputs = [self._empty(problem.output_shape, problem).fill_(float("nan")) for _ in tensors]
            launched = self._by_plan.launched(problem, tensors, outputs, choice.policy)
        launched.call(0)
        return launched

    def plans(self, prepared: Sequence[Prepared]) -> list[Plan]:
        """Return the plan of each, all of them profiled at once, since attaching a profiler takes long."""
        if not prepared:
            return []
        with self.errors_translated(prepared[0].problem.bytes):
            return self._profiled([each.launched for each in prepared])

    def _profiled(self, launched: Sequence[Launched]) -> list[Plan]:
        try:
            seen = profile(self.torch, [convolution.once for convolution in launched])
        except (ValueError, RuntimeError):  # CUPTI may be forbidden, or kept by another profiler.
            return [convolution.plan for convolution in launched]
        rows = zip(launched, seen, strict=True)
        return [convolution.dispatched(*steps_and_shares(taken), convolution.code) for convolution, taken in rows]


class Prepared:
    """One convolution on the GPU."""

    def __init__(self, backend: CuDNN, problem: ConvProblem, launched: Launched, cache: Cache) -> None:
        self._backend, self.problem, self.launched, self.cache = backend, problem, launched, cache
        copies = len(launched.outputs)
        self._replay = Replay(backend.torch, backend.stream, launched.call, copies)
        self.least_iterations = copies

    def plan(self) -> Plan:
        """Return engine and knobs in cuDNN's names, and the kernels of one call; attaches a profiler to the process."""
        (plan,) = self._backend.plans([self])
        return plan

    def output(self) -> Tensor:
        """Return one call's result as float32, in NCHW order whatever the layout."""
        with self._backend.errors_translated(self.problem.bytes):
            self.launched.call(0)
            values = self.launched.outputs[0].float().cpu().numpy()
        return np.ascontiguousarray(values)

    def run(self, iterations: int) -> float:
        """Return the seconds of that many calls, by the GPU's clock."""
        with self._backend.errors_translated(self.problem.bytes):
            return self._replay.run(iterations)
