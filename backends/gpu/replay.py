"""Time by CUDA graphs: many calls in one graph, launched at once between two events, so that no launch is timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LONGEST_GRAPH = 64
"""The most calls in a graph; a longer round replays it several times. Capturing a call takes some 25 µs."""
HEAD_START = 60_000
"""Cycles, some 30 µs, that the GPU spins before a round, while the host hands it the round."""
TRIAL_CALLS, TRIALS = 10, 3
"""How each plan is timed before the best is chosen: at least as often as autotuning would."""
Call = Callable[[int], None]


class Replay:
    """Calls of one convolution, ready to be replayed on a stream.

    `call(i)` launches the i-th call of a round; after `buffers` calls it returns to the first tensors. With more than
    one buffer, a round must use all of them (`least`), or it would find its tensors in the cache after all.
    """

    def __init__(self, torch: Any, stream: Any, call: Call, buffers: int = 1) -> None:
        self._torch, self._stream, self._call, self._buffers = torch, stream, call, buffers
        self._graphs: dict[int, Any] = {}
        self._capturing: Any = None
        self._events = tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))

    @property
    def least(self) -> int:
        """Return the fewest calls that make a round."""
        return self._buffers

    def run(self, iterations: int) -> float:
        """Return the seconds that `calls` take on the GPU, by its own clock."""
        begin, end = self._events
        self.enqueue(iterations, begin, end)
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    def enqueue(self, iterations: int, begin: Any, end: Any) -> None:
        """Have the GPU run `calls`, from one event to the other; returns at once."""
        longest = max(LONGEST_GRAPH, self._buffers)
        whole, rest = divmod(iterations, longest)
        graphs = [(self.captured(longest), whole)] if whole else []
        graphs += [(self.captured(rest), 1)] if rest else []
        # An idle GPU would pass the first event before the host has handed it the graph, and time the host.
        self._torch.cuda._sleep(HEAD_START)
        begin.record(self._stream)
        for graph, times in graphs:
            for _ in range(times):
                graph.replay()
        end.record(self._stream)

    def captured(self, iterations: int) -> Any:
        """Return a graph of `calls`; the two that were asked for last are kept."""
        if iterations not in self._graphs:
            while len(self._graphs) > 1:
                del self._graphs[next(iter(self._graphs))]
            # Kept even if the capture fails: torch's allocator then still asks it whether a stream is being captured.
            self._capturing = graph = self._torch.cuda.CUDAGraph()
            # torch's own context manager would wait for the device and empty torch's memory first.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                for number in range(iterations):
                    self._call(number % self._buffers)
            finally:
                graph.capture_end()
            self._graphs[iterations] = graph
        return self._graphs[iterations]
