"""Takes samples: how long a round is, and interleaved rounds of a pair. Runs beside the device, knows no verdicts."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from neverslower.evidence.observation import Seconds

MAX_ITERATIONS = 1 << 20
WATCHED_BLOCKS = 4
"""Blocks between two looks at the device's state: an even number, so that mirrored ones stay pairs."""


class Runnable(Protocol):
    """Something whose calls can be timed: see backends.base.Prepared."""

    def run(self, iterations: int) -> float:
        """Return the seconds that so many calls took together."""
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


def calibrate(runnable: Runnable, shortest_round: float, least: int = 1) -> tuple[int, float]:
    """Return (iterations that fill a round, `least` or more; seconds per call), after a round that does not count.

    Doubles the calls until a round lasts `shortest_round` seconds; the fastest of three such rounds says how long a
    call takes.
    """
    runnable.run(least)
    iterations = least
    while True:
        seconds = min(runnable.run(iterations) for _ in range(3))
        if seconds >= shortest_round or iterations >= MAX_ITERATIONS:
            return iterations, seconds / iterations
        growth = 2 if seconds <= 0 else max(2, min(64, round(1.2 * shortest_round / seconds)))
        iterations = min(MAX_ITERATIONS, iterations * growth)


def interleave(
    reference: Runnable, candidate: Runnable, iterations: tuple[int, int], blocks: int, warmup: int = 2
) -> Seconds:
    """Take interleaved rounds of a pair: seconds per call, of shape (blocks, 2, 2), see observation.PairedPass.

    A block is A B B A, the next one B A A B, so that linear drift and the position within a block cancel.
    """
    with garbage_collection_off():
        _warm_up(reference, candidate, iterations, warmup)
        return _blocks(reference, candidate, iterations, blocks)


def interleave_undisturbed(
    reference: Runnable,
    candidate: Runnable,
    iterations: tuple[int, int],
    blocks: int,
    disturbed: Callable[[], str],
    warmup: int = 2,
) -> tuple[Seconds, int, str]:
    """Return (interleaved rounds, blocks discarded, why) on a device that says whether it is `disturbed`.

    What was taken since the last look is dropped then and taken again, until as many were dropped as are wanted.
    """
    kept = [np.empty((0, 2, 2))]
    found = discarded = 0
    why = ""
    with garbage_collection_off():
        _warm_up(reference, candidate, iterations, warmup)
        while found < blocks and discarded < blocks:
            taken = _blocks(reference, candidate, iterations, min(WATCHED_BLOCKS, blocks - found))
            if now := disturbed():
                discarded, why = discarded + len(taken), now
            else:
                kept.append(taken)
                found += len(taken)
    return np.concatenate(kept), discarded, why


def _warm_up(reference: Runnable, candidate: Runnable, iterations: tuple[int, int], rounds: int) -> None:
    for _ in range(rounds):
        reference.run(iterations[0])
        candidate.run(iterations[1])


def _blocks(reference: Runnable, candidate: Runnable, iterations: tuple[int, int], blocks: int) -> Seconds:
    pair = (reference, candidate)
    seconds = np.empty((blocks, 2, 2))
    for block in range(blocks):
        taken = [0, 0]
        for side in (0, 1, 1, 0) if block % 2 == 0 else (1, 0, 0, 1):
            seconds[block, side, taken[side]] = pair[side].run(iterations[side]) / iterations[side]
            taken[side] += 1
    return seconds
