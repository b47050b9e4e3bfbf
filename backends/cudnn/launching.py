"""Makes calls of a convolution on the GPU: by a plan of cuDNN's, or by torch's own convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from backends.cudnn.choice import Policy
from backends.cudnn.frontend import BIAS, IMAGE, WEIGHT, BuiltPlan, Convolution, Frontend, Tensors
from backends.gpu.replay import TRIAL_CALLS, TRIALS, Call, Replay
from backends.identity import code_of_loaded
from neverslower.counted import counted
from neverslower.errors import Unsupported
from neverslower.evidence.kernels import kernels, main_kernels
from neverslower.evidence.observation import Plan
from neverslower.problem.convolution import ConvProblem, DType

LIBRARIES, AROUND = ("libcudnn", "libcublas", "libnvrtc"), ("libtorch_cuda.",)
"""Files that hold the kernels of a convolution, or compile them; and torch's, whose kernels stand around its own."""


@dataclass(frozen=True)
class Launched:
    """A convolution that can be called, the outputs of its calls, and its plan, as known without a profiler."""

    call: Call
    outputs: list[Any]
    plan: Plan

    @property
    def code(self) -> str:
        """Return a hash of the loaded libraries whose kernels it may launch; torch's are among them where it chose."""
        return code_of_loaded(LIBRARIES if self.plan.rank is not None else (*LIBRARIES, *AROUND))

    def once(self) -> None:
        """Make the first call of a round."""
        self.call(0)

    def dispatched(self, steps: tuple[str, ...], shares: tuple[float, ...], code: str = "") -> Plan:
        """Return the plan with its steps and their code; one that torch chose is named after the kernel that computes.

        Without steps nothing is known of the code that ran.
        """
        plan = replace(self.plan, steps=steps, shares=shares, code=code if steps else "")
        if plan.rank is None and (launched := kernels(plan)):
            return replace(plan, name=f"{plan.name}: {main_kernels(launched)[0].short}")
        return plan


def through_torch(torch: Any, problem: ConvProblem, tensors: Sequence[Tensors], policy: Policy) -> Launched:
    """Return torch's convolution over each set of tensors, which chooses a plan itself and makes its own outputs."""
    top, _, left, _ = problem.padding
    function, settings = torch.nn.functional.conv2d, torch.backends.cudnn
    geometry = (problem.stride, (top, left), problem.dilation, problem.groups)
    biases = [own[BIAS].reshape(-1) if BIAS in own else None for own in tensors]
    outputs: list[Any] = [None] * len(tensors)
    benchmark, tf32 = policy is Policy.TORCH_BEST, problem.dtype is DType.TF32

    def call(number: int) -> None:
        # At each call: torch reads these globals when it is called, and other prepared problems set them too.
        settings.benchmark, settings.allow_tf32 = benchmark, tf32
        own = tensors[number]
        outputs[number] = function(own[IMAGE], own[WEIGHT], biases[number], *geometry)

    return Launched(call, outputs, Plan(str(policy)))


class ByPlan:
    """Launches the plan that a policy chooses of those that cuDNN's frontend offers.

    The fastest plan of a problem is looked for once in a process: that takes long, and builds the chosen one anew.
    """

    def __init__(self, frontend: Frontend, stream: Any) -> None:
        self._frontend, self._stream = frontend, stream
        self._best: dict[ConvProblem, tuple[Convolution, BuiltPlan]] = {}

    def launched(
        self, problem: ConvProblem, tensors: Sequence[Tensors], outputs: list[Any], policy: Policy
    ) -> Launched:
        """Return a convolution over each set of tensors, into the output next to it. Raises Unsupported."""
        if policy is Policy.BEST:
            if problem not in self._best:
                self._best[problem] = self._fastest(problem, tensors, outputs)
            convolution, plan = self._best[problem]
        elif policy is Policy.FALLBACK:
            convolution = self._frontend.fallback(problem)
            plan = convolution.first()
        else:
            convolution, plan = self._frontend.first(problem)
        chosen = Plan(plan.name, rank=plan.rank, offered=convolution.offered, workspace=plan.workspace)
        return Launched(self._call_of(convolution, plan, tensors, outputs), outputs, chosen)

    def _call_of(
        self, convolution: Convolution, plan: BuiltPlan, tensors: Sequence[Tensors], outputs: Sequence[Any]
    ) -> Call:
        """Return calls of one plan, with a workspace of its own."""
        torch = self._frontend.torch
        workspace = torch.empty(max(1, plan.workspace), dtype=torch.uint8, device="cuda")
        return lambda number: convolution.execute(tensors[number], outputs[number], workspace, plan)

    def _fastest(
        self, problem: ConvProblem, tensors: Sequence[Tensors], outputs: Sequence[Any]
    ) -> tuple[Convolution, BuiltPlan]:
        """Return the graph with the plan whose calls take least time, hot; one that fails when it runs is left out."""
        torch = self._frontend.torch
        convolution = self._frontend.convolution(problem)
        best: BuiltPlan | None = None
        least = float("inf")
        for plan in convolution.plans():
            try:
                call = self._call_of(convolution, plan, tensors, outputs)
                call(0)
                replay = Replay(torch, self._stream, call)
                if replay.run(1) > 4 * least:  # One call is enough to drop a plan that is far slower.
                    continue
                seconds = min(replay.run(TRIAL_CALLS) for _ in range(TRIALS)) / TRIAL_CALLS
            except (RuntimeError, *self._frontend.refusals):
                torch.cuda.synchronize()  # Raises if the error stays: then the device is lost, not this plan.
                continue
            if seconds < least:
                best, least = plan, seconds
        if best is None:
            raise Unsupported(f"cuDNN offers {counted(convolution.offered, 'plan')}, and none of them runs")
        convolution.select(best)
        return convolution, best
