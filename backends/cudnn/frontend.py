"""One convolution and its epilogue in cuDNN's graph API, and the plans that cuDNN offers for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from backends.shared import first_line
from neverslower.counted import counted
from neverslower.errors import Unsupported
from neverslower.problem.convolution import ConvProblem, DType, Layout
from neverslower.problem.epilogue import PostOp

IMAGE, WEIGHT, OUTPUT, BIAS, RESIDUAL = range(1, 6)
"""The numbers of a graph's tensors, by which a graph that was loaded knows them."""
Tensors = Mapping[int, Any]
"""What goes into a graph, by number; the output is not among it."""


def strides(shape: tuple[int, ...], layout: Layout) -> tuple[int, ...]:
    """Return element strides of an (N, C, H, W) tensor, stated since sizes of 1 would leave them ambiguous."""
    _, channels, height, width = shape
    if layout is Layout.NHWC:
        return (channels * height * width, 1, width * channels, channels)
    return (channels * height * width, height * width, width, 1)


@dataclass(frozen=True)
class BuiltPlan:
    """A plan that was built: its place in cuDNN's order, its name (engine and knobs), and its workspace in bytes."""

    rank: int
    name: str
    workspace: int


@dataclass(frozen=True)
class KeptPlan:
    """A plan as it is kept: what was said of it when it was built, how many were offered, and cuDNN's own bytes."""

    plan: BuiltPlan
    offered: int
    content: bytes


class KeptPlans(Protocol):
    """Keeps the plan that a library chose for a problem, for other processes of the same library on the same device."""

    def find(self, problem: ConvProblem) -> KeptPlan | None:
        """Return what is kept of a problem, if there is something."""

    def add(self, problem: ConvProblem, kept: KeptPlan) -> None:
        """Keep a plan; that it can't be kept is no error."""


class Frontend:
    """cuDNN through nvidia-cudnn-frontend; both modules are passed in so that this one imports without them."""

    def __init__(self, cudnn: Any, torch: Any, stream: Any, plans: KeptPlans | None = None) -> None:
        self.cudnn, self.torch = cudnn, torch
        self._plans = plans
        self.handle = cudnn.create_handle()
        cudnn.set_stream(handle=self.handle, stream=stream.cuda_stream)
        self.refusals = (cudnn.cudnnGraphNotSupportedError, NotImplementedError)

    def convolution(self, problem: ConvProblem) -> Convolution:
        """Return the problem as an operation graph with the plans offered for it. Raises Unsupported."""
        try:
            return self._planned(problem, self.cudnn.heur_mode.A)
        except Unsupported as refused:  # Its words say more than those of the fallback, should that fail too.
            try:
                return self.fallback(problem)
            except Unsupported:
                raise refused from None

    def fallback(self, problem: ConvProblem) -> Convolution:
        """Return the problem as a graph with the plans of the fallback heuristic alone. Raises Unsupported."""
        return self._planned(problem, self.cudnn.heur_mode.FALLBACK)

    def first(self, problem: ConvProblem) -> tuple[Convolution, BuiltPlan]:
        """Return the problem's graph with the first plan that builds, loaded where one like it was kept.

        What cuDNN compiles at run time takes 257 ms to build and 11 ms to load. Raises Unsupported in cuDNN's words.
        """
        if self._plans and (kept := self._plans.find(problem)):
            try:
                return self._loaded(problem, kept)
            except (*self.refusals, RuntimeError, ValueError):
                pass  # Kept by a library that this one does not understand: build it.
        convolution = self.convolution(problem)
        plan = convolution.first()
        if self._plans:
            self._plans.add(problem, KeptPlan(plan, convolution.offered, convolution.serialized()))
        return convolution, plan

    def keeps(self, problem: ConvProblem) -> bool | None:
        """Return whether a problem's plan is kept; None where plans are not kept."""
        return self._plans.find(problem) is not None if self._plans else None

    def _loaded(self, problem: ConvProblem, kept: KeptPlan) -> tuple[Convolution, BuiltPlan]:
        graph = self.cudnn.pygraph(handle=self.handle)
        graph.deserialize(kept.content)
        return Convolution(self, graph, kept.offered), kept.plan

    def _planned(self, problem: ConvProblem, mode: Any) -> Convolution:
        try:
            graph = self._graph(problem)
            graph.validate()
            graph.build_operation_graph()
            graph.create_execution_plans([mode])
            if problem.dtype is DType.FLOAT32:
                # Plain float32: no tensor cores, which would round to TF32, and no half-precision detours.
                notes = self.cudnn.numerical_note
                graph.deselect_numeric_notes([notes.TENSOR_CORE, notes.DOWN_CONVERT_INPUTS])
            graph.check_support()
        except (*self.refusals, RuntimeError, ValueError) as error:
            raise Unsupported(first_line(error)) from error
        return Convolution(self, graph)

    def _graph(self, problem: ConvProblem) -> Any:
        """Return the operation graph, whose tensors have the numbers above."""
        kind = self._kind(problem)
        graph = self.cudnn.pygraph(
            io_data_type=kind,
            intermediate_data_type=self.cudnn.data_type.FLOAT,
            compute_data_type=self.cudnn.data_type.FLOAT,
            handle=self.handle,
        )

        def port(number: int, shape: tuple[int, ...]) -> Any:
            tensor = graph.tensor(dim=list(shape), stride=list(strides(shape, problem.layout)), data_type=kind)
            tensor.set_uid(number)
            return tensor

        top, bottom, left, right = problem.padding
        output = graph.conv_fprop(
            image=port(IMAGE, problem.input_shape),
            weight=port(WEIGHT, problem.weight_shape),
            pre_padding=[top, left],
            post_padding=[bottom, right],
            stride=list(problem.stride),
            dilation=list(problem.dilation),
        )
        output = _with_epilogue(graph, output, problem, port)
        output.set_uid(OUTPUT)
        # Left alone, cuDNN would choose the output's layout.
        output.set_output(True).set_dim(list(problem.output_shape))
        output.set_stride(list(strides(problem.output_shape, problem.layout))).set_data_type(kind)
        return graph

    def _kind(self, problem: ConvProblem) -> Any:
        types = self.cudnn.data_type
        return {DType.FLOAT16: types.HALF, DType.BFLOAT16: types.BFLOAT16}.get(problem.dtype, types.FLOAT)


def _with_epilogue(graph: Any, output: Any, problem: ConvProblem, port: Callable[[int, tuple[int, ...]], Any]) -> Any:
    """Return what becomes of a convolution's output in the same graph; what lies between stays in float32."""
    if problem.epilogue.bias:
        output = graph.bias(input=output, bias=port(BIAS, (1, problem.out_channels, 1, 1)))
    for step in problem.epilogue.post_ops:
        if step is PostOp.SUM:
            output = graph.add(a=output, b=port(RESIDUAL, problem.output_shape))
        else:
            output = graph.relu(input=output) if step is PostOp.RELU else graph.swish(input=output, swish_beta=1.0)
    return output


class Convolution:
    """The graph of one convolution."""

    def __init__(self, frontend: Frontend, graph: Any, offered: int | None = None) -> None:
        self._frontend, self._graph = frontend, graph
        self._loaded, self._offered = offered is not None, offered

    @property
    def offered(self) -> int:
        """Return how many plans cuDNN lists, including those that do not build or that the dtype rules out."""
        return int(self._graph.get_execution_plan_count()) if self._offered is None else self._offered

    def serialized(self) -> bytes:
        """Return the graph with the plan that was built last, as bytes that a process of the same library loads."""
        return bytes(self._graph.serialize())

    def plans(self) -> Iterator[BuiltPlan]:
        """Yield the plans that build, in cuDNN's order; the plan yielded last is the one that is executed."""
        for rank in range(self.offered):
            try:
                self._graph.build_plan_at_index(rank)
            except (*self._frontend.refusals, RuntimeError, ValueError):
                continue
            yield self._built(rank)

    def first(self) -> BuiltPlan:
        """Return the first plan that builds. Raises Unsupported where none does."""
        chosen = next(self.plans(), None)
        if chosen is None:
            raise Unsupported(f"cuDNN offers {counted(self.offered, 'plan')}, and none of them builds")
        return chosen

    def select(self, plan: BuiltPlan) -> None:
        """Execute this plan from now on."""
        self._graph.build_plan_at_index(plan.rank)

    def _built(self, rank: int) -> BuiltPlan:
        return BuiltPlan(
            rank, self._graph.get_plan_name_at_index(rank), int(self._graph.get_workspace_size_plan_at_index(rank))
        )

    def execute(self, tensors: Tensors, output: Any, workspace: Any, plan: BuiltPlan) -> None:
        """Launch one call of a plan on the stream."""
        tensors = {**tensors, OUTPUT: output}
        if self._loaded:
            self._graph.execute(tensors, workspace, handle=self._frontend.handle)
        else:
            self._graph.execute_plan_at_index(tensors, workspace, plan.rank, handle=self._frontend.handle)
