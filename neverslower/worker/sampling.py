"""Takes samples: the length of a round, interleaved rounds of a pair. Runs next to the device, knows no verdicts."""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Protocol

import numpy as np

from neverslower.evidence.observation import Seconds

MAX_ITERATIONS = 1 << 20
WATCHED_BLOCKS = 4
"""Blocks between two looks at the device's state: an even number, so that mirrored ones stay pairs."""
HEADROOM = 1.2
"""By how much a round that is not searched for is longer than it must be."""
WARM_UP = 2
"""Rounds of each arm that do not count, before those that do."""
Disturbed = Callable[[], str]
"""Says why the device is disturbed at this moment, nothing where it is not."""
Taken = tuple[Seconds, int, str]
"""(seconds per call of shape (blocks, arms, 2), blocks discarded, why)."""


class Runnable(Protocol):
    """Something whose calls can be timed: see backends.base.Prepared."""

    def run(self, iterations: int) -> float:
        """Return the seconds that these calls took together."""
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


def calibrate(runnable: Runnable, shortest_round: float, least: int = 1, expected: float = 0.0) -> tuple[int, float]:
    """Return (iterations that fill a round, `least` or more; seconds per call), after a round that does not count.

    Doubles the calls until a round lasts `shortest_round` seconds; the fastest of three such rounds says how long a
    call takes. Where a call is `expected` to take so many seconds, one round shows whether that holds.
    """
    runnable.run(least)
    iterations = least
    if expected > 0:
        iterations = max(least, min(MAX_ITERATIONS, math.ceil(HEADROOM * shortest_round / expected)))
        if (seconds := runnable.run(iterations)) >= shortest_round:
            return iterations, seconds / iterations
    while True:
        seconds = min(runnable.run(iterations) for _ in range(3))
        if seconds >= shortest_round or iterations >= MAX_ITERATIONS:
            return iterations, seconds / iterations
        growth = 2 if seconds <= 0 else max(2, min(64, round(1.2 * shortest_round / seconds)))
        iterations = min(MAX_ITERATIONS, iterations * growth)


def interleave(
    reference: Runnable,
    candidate: Runnable,
    iterations: tuple[int, int],
    blocks: int,
    disturbed: Disturbed | None = None,
    warmup: int = WARM_UP,
) -> Taken:
    """Interleave rounds of a pair: seconds per call, of shape (blocks, 2, 2), see observation.PairedPass.

    A block is A B B A, the next one B A A B, so that linear drift and the position within a block cancel.
    """
    pair = (reference, candidate)
    orders = cycle(((0, 1, 1, 0), (1, 0, 0, 1)))
    return _blocks(pair, iterations, blocks, lambda: next(orders), disturbed, warmup)


def sweep(
    arms: Sequence[Runnable],
    iterations: Sequence[int],
    sweeps: int,
    chance: random.Random,
    disturbed: Disturbed | None = None,
    warmup: int = WARM_UP,
) -> Taken:
    """Time all arms of a layer together: seconds per call, of shape (sweeps, arms, 2).

    A sweep runs every arm once in an order that `chance` draws, and then back, so that linear drift cancels between
    any two arms. A fresh order in each sweep leaves no period that a disturbance could lock on to.
    """

    def order() -> list[int]:
        forth = chance.sample(range(len(arms)), len(arms))
        return forth + forth[::-1]

    return _blocks(arms, iterations, sweeps, order, disturbed, warmup)


def _blocks(
    arms: Sequence[Runnable],
    iterations: Sequence[int],
    blocks: int,
    order: Callable[[], Sequence[int]],
    disturbed: Disturbed | None,
    warmup: int,
) -> Taken:
    """Take blocks in which every arm runs two rounds, in the `order` that is asked for before each.

    On a device that says whether it is disturbed, what was taken since the last look is dropped then and taken again,
    until as many blocks were dropped as are wanted.
    """
    kept = [np.empty((0, len(arms), 2))]
    found = discarded = 0
    why = ""
    with garbage_collection_off():
        for _ in range(warmup):
            for arm, calls in zip(arms, iterations, strict=True):
                arm.run(calls)
        while found < blocks and discarded < blocks:
            number = min(WATCHED_BLOCKS, blocks - found) if disturbed else blocks
            taken = np.array([_block(arms, iterations, order()) for _ in range(number)])
            if now := disturbed() if disturbed else "":
                discarded, why = discarded + number, now
            else:
                kept.append(taken)
                found += number
    return np.concatenate(kept), discarded, why


def _block(arms: Sequence[Runnable], iterations: Sequence[int], order: Sequence[int]) -> Seconds:
    """One block: seconds per call of each arm's two rounds, in the order in which they ran."""
    seconds = np.empty((len(arms), 2))
    taken = [0] * len(arms)
    for arm in order:
        seconds[arm, taken[arm]] = arms[arm].run(iterations[arm]) / iterations[arm]
        taken[arm] += 1
    return seconds
