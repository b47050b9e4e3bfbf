"""What was seen: the kinds of evidence, a library's plan, and the raw samples of one paired measurement."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]


class Evidence(str, Enum):
    """Kinds of evidence; two kinds are never mixed in one verdict."""

    DEVICE_TIME = "device_time"
    INSTRUCTIONS = "instructions"
    DISPATCH = "dispatch"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Plan:
    """What a library chose for a problem: the main implementation, and every step it runs, in order.

    `tuned` says whether a search found this plan, where the library makes that distinction; the words say it too.
    """

    name: str
    steps: tuple[str, ...] = ()
    tuned: bool | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Examined:
    """What a worker found out about one problem before any timing.

    `error` is the largest deviation from the float64 reference, as a fraction of the reference's largest value.
    """

    plan: Plan
    error: float
    tolerance: float
    seconds_per_call: float

    @property
    def wrong(self) -> bool:
        """Whether the output can't be trusted; a NaN is wrong too."""
        return not self.error <= self.tolerance


@dataclass(frozen=True)
class Searched:
    """What a search for a schedule left: the database's hash, its target, the candidates timed, seconds of the best.

    `seconds` is what the search took, next to nothing where it was `remembered` from an earlier run.
    """

    database: str
    target: str
    trials: int
    best: float
    seconds: float
    remembered: bool


@dataclass(frozen=True, eq=False)
class PairedPass:
    """One process's interleaved rounds of a comparison, raw.

    `seconds` has the shape (blocks, 2, 2): reference and candidate, each with the first and the second round of its
    block, in seconds per call. Even blocks ran reference, candidate, candidate, reference; odd ones the mirror
    image. `iterations` are the calls in one round of each.
    """

    seconds: Seconds
    iterations: tuple[int, int]
    clock: str
    cache: str = "hot"
    discarded: int = 0

    def record(self, number: int) -> dict[str, Any]:
        """Everything raw as plain data, for a journal; `number` is the process's among those of its run."""
        return {"pass": number, "iterations": self.iterations, "seconds": self.seconds.tolist()}

    @property
    def reference(self) -> Seconds:
        """The reference's rounds in the order in which they ran, seconds per call."""
        return self.seconds[:, 0, :].reshape(-1)

    @property
    def candidate(self) -> Seconds:
        """The candidate's rounds in the order in which they ran, seconds per call."""
        return self.seconds[:, 1, :].reshape(-1)
