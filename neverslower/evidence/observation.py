"""What was seen: the kinds of evidence, a library's plan, and the raw samples of one paired measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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

    @property
    def exact(self) -> bool:
        """Whether looking once is enough: the same in every process, and no matter what else runs."""
        return self is not Evidence.DEVICE_TIME


@dataclass(frozen=True)
class Plan:
    """What a library chose for a problem: the main implementation, and every step it runs, in order.

    `tuned` says whether a search found this plan, where the library makes that distinction; the words say it too.
    Of a GPU's library the steps are its dispatch (see kernels.Kernel), and `shares` the share of the time that each
    took when they were listed. `rank` is the plan's place among the `offered` ones, from 0, and `workspace` its bytes.
    `options` are those that the kernel of each step was built with, where the library builds them.
    """

    name: str
    steps: tuple[str, ...] = ()
    tuned: bool | None = field(default=None, compare=False)
    shares: tuple[float, ...] = field(default=(), compare=False)
    rank: int | None = field(default=None, compare=False)
    offered: int | None = field(default=None, compare=False)
    workspace: int | None = field(default=None, compare=False)
    options: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of `dataclasses.asdict`, also where lists have taken the place of tuples."""
        tuples = {name: tuple(data.get(name, ())) for name in ("steps", "shares", "options")}
        return cls(**{**data, **tuples})

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Cache:
    """Whether calls find their tensors in the device's last cache (`hot`) or not (`cold`).

    `share` is the bytes of the tensors that a round touches over those of the cache, where they are known.
    """

    kind: str = "hot"
    share: float | None = None


@dataclass(frozen=True)
class Examined:
    """What a worker found out about one problem before any timing.

    `error` is the largest deviation from the float64 reference, as a fraction of the reference's largest value, None
    where nothing is computed. `instructions` is what one call executes, where that is the evidence.
    `compared` is the fraction of the output that was set against the reference.
    """

    plan: Plan
    error: float | None
    tolerance: float
    seconds_per_call: float
    cache: Cache = Cache()
    instructions: int | None = None
    compared: float = 1.0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Examined:
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**data, "plan": Plan.from_dict(data["plan"]), "cache": Cache(**data["cache"])})

    @property
    def wrong(self) -> bool:
        """Whether the output can't be trusted; a NaN is wrong too."""
        return self.error is not None and not self.error <= self.tolerance


@dataclass(frozen=True, eq=False)
class Curve:
    """Times of one layer at several numbers of filters, in the order in which they were measured.

    `samples` are seconds per call, of shape (counts, rounds), NaN where the library refused, with its words in
    `refusals`. `seconds` is how long all of it took beside the device, which was `disturbed` for that reason.
    """

    counts: tuple[int, ...]
    samples: Seconds
    iterations: tuple[int, ...]
    plans: tuple[Plan | None, ...]
    refusals: tuple[str, ...]
    seconds: float
    disturbed: str = ""


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
    image. `iterations` are the calls in one round of each, `discarded` the blocks that were dropped because the device
    was disturbed, with the reason.
    """

    seconds: Seconds
    iterations: tuple[int, int]
    clock: str
    cache: str = "hot"
    discarded: int = 0
    why_discarded: str = ""

    @classmethod
    def joined(cls, turns: Sequence[PairedPass]) -> PairedPass:
        """The pass that one process took in these turns."""
        last = turns[-1]
        return replace(
            last,
            seconds=np.concatenate([one.seconds for one in turns]),
            discarded=sum(one.discarded for one in turns),
            why_discarded=", ".join(dict.fromkeys(one.why_discarded for one in turns if one.why_discarded)),
        )

    def record(self, number: int) -> dict[str, Any]:
        """Everything raw as plain data, for a journal; `number` is the process's among those of its run."""
        dropped = {"discarded": self.discarded, "why_discarded": self.why_discarded} if self.discarded else {}
        how = {"pass": number, "iterations": self.iterations, "clock": self.clock, "cache": self.cache}
        return how | dropped | {"seconds": self.seconds.tolist()}

    @classmethod
    def from_record(cls, data: Mapping[str, Any]) -> PairedPass:
        """The inverse of `record`; raises ValueError, KeyError or TypeError for anything else."""
        first, second = data["iterations"]
        return cls(
            np.asarray(data["seconds"], dtype=np.float64).reshape(-1, 2, 2),
            (first, second),
            data["clock"],
            data["cache"],
            data.get("discarded", 0),
            data.get("why_discarded", ""),
        )

    @property
    def reference(self) -> Seconds:
        """The reference's rounds in the order in which they ran, seconds per call."""
        return self.seconds[:, 0, :].reshape(-1)

    @property
    def candidate(self) -> Seconds:
        """The candidate's rounds in the order in which they ran, seconds per call."""
        return self.seconds[:, 1, :].reshape(-1)
