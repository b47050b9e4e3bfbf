"""Every channel count of a layer on one GPU: timed as one curve, and the kernels of each point looked up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from backends.base import CurvePoint, Tensor
from backends.cudnn.choice import CudnnOptions
from backends.cudnn.frontend import IMAGE, WEIGHT
from backends.cudnn.replay import TRIAL_CALLS, TRIALS, Replay
from neverslower.errors import Unsupported
from neverslower.evidence.observation import Plan
from neverslower.problem.convolution import ConvProblem

if TYPE_CHECKING:
    from backends.cudnn import CuDNN, Launched

GRAPH_SECONDS = 300e-6
"""About how long one graph of a curve takes; each is a round."""
PROFILED_AT_ONCE = 64


@dataclass(frozen=True)
class _Enqueued:
    """Rounds that the GPU was given, and everything that must live until it has run them."""

    number: int
    launched: Launched
    replay: Replay
    pairs: Sequence[Any]
    iterations: int

    def read(self) -> CurvePoint:
        """Wait for the last round, and return how long each took."""
        self.pairs[-1][1].synchronize()
        seconds = tuple(begin.elapsed_time(end) / 1e3 / self.iterations for begin, end in self.pairs)
        return CurvePoint(self.launched.plan, self.iterations, seconds)


def curve(
    gpu: CuDNN, problems: Sequence[ConvProblem], inputs: Tensor, weights: Tensor, rounds: int, policy: str = ""
) -> tuple[list[CurvePoint], float]:
    """Return points in the order given, and the seconds of the call.

    The next point is planned while the GPU runs one, so that it is never idle for long.
    """
    largest = max(problems, key=lambda problem: problem.out_channels)
    choice = gpu._chosen(largest, policy)
    if choice.cache != "hot":
        raise Unsupported("curves are measured hot; measure single channel counts cold")
    points: list[CurvePoint] = [CurvePoint(None)] * len(problems)
    with gpu._errors_translated(largest):
        image, weight = gpu._tensor(inputs, largest), gpu._tensor(weights, largest)
        # Two sets of events: one is being recorded while the other one is read.
        alternating = _event_pairs(gpu, rounds), _event_pairs(gpu, rounds)
        gpu._torch.cuda.synchronize()
        begin = time.perf_counter()
        waiting: _Enqueued | None = None
        level: float | None = None
        turn = 0
        for number, problem in enumerate(problems):
            try:
                launched = _launch_part(gpu, problem, image, weight, choice)
            except Unsupported as error:
                points[number] = CurvePoint(None, refusal=str(error))
                continue
            enqueued = _enqueue(gpu, number, launched, alternating[turn], level)
            turn = 1 - turn
            if waiting:
                points[waiting.number] = waiting.read()
                level = points[waiting.number].seconds[-1]
            waiting = enqueued
        if waiting:
            points[waiting.number] = waiting.read()
        return points, time.perf_counter() - begin


def _launch_part(gpu: CuDNN, problem: ConvProblem, image: Any, weight: Any, choice: CudnnOptions) -> Launched:
    """Launch a layer with the first of these filters. Raises Unsupported."""
    if problem.epilogue:
        raise Unsupported("curves are of plain convolutions; measure single channel counts with what follows")
    with gpu._errors_translated(problem):
        return gpu._launch(problem, [{IMAGE: image, WEIGHT: weight[: problem.out_channels]}], choice)


def _event_pairs(gpu: CuDNN, rounds: int) -> list[tuple[Any, Any]]:
    events = gpu._torch.cuda.Event
    return [(events(enable_timing=True), events(enable_timing=True)) for _ in range(rounds)]


def _enqueue(gpu: CuDNN, number: int, launched: Launched, pairs: Sequence[Any], level: float | None) -> _Enqueued:
    """Hand rounds of one point to the GPU; `level` is about how many seconds a call takes, None if unknown."""
    replay = Replay(gpu._torch, gpu._stream, launched.call)
    if level is None:
        level = min(replay.run(TRIAL_CALLS) for _ in range(TRIALS)) / TRIAL_CALLS
    iterations = int(min(64, max(4, round(GRAPH_SECONDS / level))))
    graph = replay.captured(iterations)
    for _ in range(2):  # Brings the tensors into the cache and the clock up, untimed.
        graph.replay()
    for begin, end in pairs:
        begin.record(gpu._stream)
        graph.replay()
        end.record(gpu._stream)
    return _Enqueued(number, launched, replay, pairs, iterations)


def dispatches(
    gpu: CuDNN, problems: Sequence[ConvProblem], inputs: Tensor, weights: Tensor, policy: str = ""
) -> list[Plan | None]:
    """Return every point's plan with its steps, profiled many at once."""
    largest = max(problems, key=lambda problem: problem.out_channels)
    choice = gpu._chosen(largest, policy)
    plans: list[Plan | None] = []
    with gpu._errors_translated(largest):
        image, weight = gpu._tensor(inputs, largest), gpu._tensor(weights, largest)
        for first in range(0, len(problems), PROFILED_AT_ONCE):
            launched: list[Launched | None] = []
            for problem in problems[first : first + PROFILED_AT_ONCE]:
                try:
                    launched.append(_launch_part(gpu, problem, image, weight, choice))
                except Unsupported:
                    launched.append(None)
            gpu._torch.cuda.synchronize()
            plans += gpu._profiled(launched)
    return plans
