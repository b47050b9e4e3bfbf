"""A whole network on the GPU, by torch: its calls in a CUDA graph where it can be captured, else one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backends.cudnn.replay import HEAD_START, Replay
from neverslower.evidence.observation import Cache, Plan

WARM_UP = 3
"""Calls before a capture: libraries load and allocate in the first ones, which a capture does not allow."""
GRAPHED, ONE_BY_ONE = "in a CUDA graph", "call by call"


class GpuNetwork:
    """A network that has run once, by its call on the current stream; `way` says how its calls are timed."""

    cache = Cache()
    least_iterations = 1

    def __init__(self, torch: Any, stream: Any, call: Callable[[], None], size: int) -> None:
        self._torch, self._stream, self._call, self.bytes = torch, stream, call, size
        self._replay = Replay(torch, stream, lambda _: call())
        self._events = tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))
        for _ in range(WARM_UP):
            call()
        torch.cuda.synchronize()
        self.way = GRAPHED if self._can_be_captured() else ONE_BY_ONE

    def _can_be_captured(self) -> bool:
        """Return whether calls can be captured: not where one waits for the GPU, as control flow on values does.

        Raises RuntimeError where the device is lost, or the network does not run any more after the attempt.
        """
        try:
            self._replay.captured(1)
        except Exception:  # noqa: BLE001  (whatever the user's code raises there, call by call it may run)
            self._torch.cuda.synchronize()
            self._call()
            self._torch.cuda.synchronize()
            return False
        return True

    def plan(self) -> Plan:
        """Return how the network is run: torch chooses a plan for each of its layers."""
        return Plan(f"torch {self.way}")

    def run(self, iterations: int) -> float:
        """Return the seconds of that many calls, by the GPU's clock; call by call what the host takes is in them."""
        if self.way == GRAPHED:
            return self._replay.run(iterations)
        begin, end = self._events
        self._torch.cuda._sleep(HEAD_START)
        begin.record(self._stream)
        for _ in range(iterations):
            self._call()
        end.record(self._stream)
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3
