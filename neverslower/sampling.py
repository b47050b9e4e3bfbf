"""Taking samples: how long a round is, and interleaved rounds of a pair. Runs beside the device, knows no verdicts."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from neverslower.observation import Seconds

MAX_ITERATIONS = 1 << 20


class Runnable(Protocol):
    """Something whose calls can be timed: see backends.base.Prepared."""

    def run(self, iterations: int) -> float:
        """Seconds that so many calls took together."""
        ...


@contextmanager
def garbage_collection_off() -> Iterator[None]:
    """Keep the collector out of the samples; what has piled up is collected before."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def calibrate(runnable: Runnable, shortest_round: float) -> tuple[int, float]:
    """(iterations that fill a round, seconds per call), after a call that does not count.

    Doubles the calls until a round lasts `shortest_round` seconds; the fastest of three such rounds says how long a
    call takes.
    """
    runnable.run(1)
    iterations = 1
    while True:
        seconds = min(runnable.run(iterations) for _ in range(3))
        if seconds >= shortest_round or iterations >= MAX_ITERATIONS:
            return iterations, seconds / iterations
        growth = 2 if seconds <= 0 else max(2, min(64, round(1.2 * shortest_round / seconds)))
        iterations = min(MAX_ITERATIONS, iterations * growth)


def interleave(
    reference: Runnable, candidate: Runnable, iterations: tuple[int, int], blocks: int, warmup: int = 2
) -> Seconds:
    """Interleaved rounds of a pair: seconds per call, of shape (blocks, 2, 2), see observation.PairedPass.

    A block is A B B A, the next one B A A B, so that linear drift and the position within a block cancel.
    """
    pair = (reference, candidate)
    seconds = np.empty((blocks, 2, 2))
    with garbage_collection_off():
        for _ in range(warmup):
            for side in (0, 1):
                pair[side].run(iterations[side])
        for block in range(blocks):
            taken = [0, 0]
            for side in (0, 1, 1, 0) if block % 2 == 0 else (1, 0, 0, 1):
                seconds[block, side, taken[side]] = pair[side].run(iterations[side]) / iterations[side]
                taken[side] += 1
    return seconds
