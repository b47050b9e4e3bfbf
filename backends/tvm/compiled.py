"""A compiled subject of TVM's, as it is loaded into a process, and as TVM's virtual machine runs it on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from backends.base import Tensor
from backends.tvm.api import MAIN
from neverslower.evidence.observation import Cache, Plan
from neverslower.problem.convolution import ConvProblem, Layout, kept_channels


@dataclass(frozen=True)
class Compiled:
    """The library of a problem, its plan, and what else was kept `about` it.

    `shape` is the problem that the library computes: a larger one where the subject is padded.
    """

    path: Path
    plan: Plan
    problem: ConvProblem
    shape: ConvProblem
    about: Mapping[str, Any]

    @property
    def kept_channels(self) -> list[int]:
        """Return the channels of the library's output that are the problem's."""
        return kept_channels(self.shape, self.problem)[1]


class Prepared:
    """One compiled convolution with its tensors; the excess of a padded one is cut from its output, outside timing."""

    cache = Cache()
    least_iterations = 1

    def __init__(self, machine: Any, layout: Layout, kept: list[int], plan: Plan, clock: Callable[[], float]) -> None:
        self._machine, self._layout, self._kept_channels, self._plan, self._now = machine, layout, kept, plan, clock
        self._call = machine.module["invoke_stateful"]
        self._call(MAIN)  # The first call allocates, and must not be timed.

    def plan(self) -> Plan:
        """Return how each function was scheduled."""
        return self._plan

    def output(self) -> Tensor:
        """Return one call's result as float32, in NCHW order whatever the layout."""
        self._call(MAIN)
        values = self._machine.get_outputs(MAIN).numpy().astype(np.float32)
        ordered = values.transpose(0, 3, 1, 2) if self._layout is Layout.NHWC else values
        return np.ascontiguousarray(ordered[:, self._kept_channels])

    def run(self, iterations: int) -> float:
        """Return the seconds of that many calls; a CPU's calls are done when they return."""
        call, now = self._call, self._now
        begin = now()
        for _ in range(iterations):
            call(MAIN)
        return now() - begin
