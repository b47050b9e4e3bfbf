"""Observations: the kinds of evidence, a library's plan, and the raw samples of one paired measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from neverslower.enums import StrEnum

Seconds = NDArray[np.float64]
K = TypeVar("K")


class Evidence(StrEnum):
    """The kinds of evidence; one verdict never mixes two of them."""

    DEVICE_TIME = "device_time"
    INSTRUCTIONS = "instructions"
    DISPATCH = "dispatch"

    @property
    def exact(self) -> bool:
        """Return whether one look is enough, because every process sees the same whatever else runs."""
        return self is not Evidence.DEVICE_TIME


@dataclass(frozen=True)
class Plan:
    """The plan that a library chose for a problem: its main implementation, and every step that it runs, in order.

    `tuned` says whether a search found the plan, where the library makes that distinction; `name` says it too.
    For a GPU library the steps are its dispatch (see kernels.Kernel), and `shares` says which share of the time each
    step took when they were listed. `rank` is the plan's place among the `offered` ones, from 0, and `workspace` its
    bytes. `options` are the build options of each step's kernel, where the library builds kernels, and `code` is a hash
    of the machine code that the steps run, where that can be had.
    """

    name: str
    steps: tuple[str, ...] = ()
    # Two plans are equal when name and steps are: the rest is how the library came to the plan, or what it took.
    tuned: bool | None = field(default=None, compare=False)
    shares: tuple[float, ...] = field(default=(), compare=False)
    rank: int | None = field(default=None, compare=False)
    offered: int | None = field(default=None, compare=False)
    workspace: int | None = field(default=None, compare=False)
    options: tuple[str, ...] = field(default=(), compare=False)
    code: str = field(default="", compare=False)

    def same_work(self, other: Plan) -> bool:
        """Return whether both launch the same steps from equal code, so that no other time is to be expected."""
        return bool(self.code) and self.code == other.code and self == other

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Read what `dataclasses.asdict` made, also after JSON has turned its tuples into lists."""
        tuples = {name: tuple(data.get(name, ())) for name in ("steps", "shares", "options")}
        return cls(**{**data, **tuples})

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Cache:
    """Whether calls find their tensors in the device's last-level cache (`hot`) or not (`cold`).

    `share` is the bytes of the tensors that a round touches, divided by the bytes of the cache; None where unknown.
    """

    kind: str = "hot"
    share: float | None = None


@dataclass(frozen=True)
class Examined:
    """What a worker learned of one problem before any timing.

    `error` is the largest deviation from the float64 reference, as a fraction of the reference's largest value; None
    where nothing is computed. `instructions` is the number that one call executes, where instructions are the evidence.
    `compared` is the fraction of the output that was set against the reference. `first_call` is the seconds that
    preparing the problem and its first call took, by this process's clock; None where no time is taken.
    """

    plan: Plan
    error: float | None
    tolerance: float
    seconds_per_call: float
    cache: Cache = Cache()
    instructions: int | None = None
    compared: float = 1.0
    first_call: float | None = field(default=None, compare=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Examined:
        """Read what `dataclasses.asdict` made."""
        return cls(**{**data, "plan": Plan.from_dict(data["plan"]), "cache": Cache(**data["cache"])})

    @property
    def wrong(self) -> bool:
        """Return whether the output can't be trusted; a NaN is wrong too."""
        return self.error is not None and not self.error <= self.tolerance  # `not <=` and not `>`: true for NaN.


@dataclass(frozen=True)
class Searched:
    """The result of a search for a schedule: the database's hash, its target, the trials made, the best one's seconds.

    `seconds` is how long the search took; that is close to nothing where it was `remembered` from an earlier run.
    """

    database: str
    target: str
    trials: int
    best: float
    seconds: float
    remembered: bool


@dataclass(frozen=True, eq=False)
class PairedPass:
    """The raw interleaved rounds of one comparison in one process.

    `seconds` has the shape (blocks, 2, 2): reference and candidate, each with the first and the second round of its
    block, in seconds per call. Even blocks ran reference, candidate, candidate, reference; odd blocks ran the mirror
    image. `iterations` are the calls in one round of each, `discarded` counts the blocks that were dropped because the
    device was disturbed, and `why_discarded` says by what. `started` is when the process began to load, in seconds
    since 1970, which tells processes apart; None where that was not recorded. `offsets` are the bytes behind the
    beginning of their memory at which the first tensors of either began; none where the library lays them out.
    """

    seconds: Seconds
    iterations: tuple[int, int]
    clock: str
    cache: str = "hot"
    discarded: int = 0
    why_discarded: str = ""
    started: float | None = None
    offsets: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())

    @classmethod
    def joined(cls, turns: Sequence[PairedPass]) -> PairedPass:
        """Join the turns that one process took into one pass."""
        last = turns[-1]
        return replace(
            last,
            seconds=np.concatenate([turn.seconds for turn in turns]),
            discarded=sum(turn.discarded for turn in turns),
            why_discarded=", ".join(dict.fromkeys(turn.why_discarded for turn in turns if turn.why_discarded)),
        )

    @classmethod
    def of_one_sweep(cls, reference: PairedPass, candidate: PairedPass) -> PairedPass:
        """Set two candidates against each other that one sweep has timed with the same reference."""
        return replace(
            candidate,
            seconds=np.stack([reference.seconds[:, 1], candidate.seconds[:, 1]], axis=1),
            iterations=(reference.iterations[1], candidate.iterations[1]),
            offsets=(reference.offsets[1], candidate.offsets[1]),
        )

    def record(self, number: int) -> dict[str, Any]:
        """Return everything raw as plain data for a journal; `number` counts the processes of a run."""
        # Left out where nothing was dropped: most lines of a journal are shorter so.
        dropped = {"discarded": self.discarded, "why_discarded": self.why_discarded} if self.discarded else {}
        start = {} if self.started is None else {"started": self.started}
        how = {"pass": number, "iterations": self.iterations, "clock": self.clock, "cache": self.cache}
        where = {"offsets": self.offsets} if any(self.offsets) else {}
        return how | dropped | start | where | {"seconds": self.seconds.tolist()}

    @classmethod
    def from_record(cls, data: Mapping[str, Any]) -> PairedPass:
        """Read what `record` made. Raises ValueError, KeyError or TypeError for anything else."""
        first, second = data["iterations"]
        where = data.get("offsets", ((), ()))
        return cls(
            np.asarray(data["seconds"], dtype=np.float64).reshape(-1, 2, 2),
            (first, second),
            data["clock"],
            data["cache"],
            data.get("discarded", 0),
            data.get("why_discarded", ""),
            data.get("started"),
            (tuple(where[0]), tuple(where[1])),
        )

    @property
    def reference(self) -> Seconds:
        """Return the reference's rounds in the order in which they ran, in seconds per call, of shape (2 × blocks,)."""
        return self.seconds[:, 0, :].reshape(-1)

    @property
    def candidate(self) -> Seconds:
        """Return the candidate's rounds in the order in which they ran, in seconds per call, of shape (2 × blocks,)."""
        return self.seconds[:, 1, :].reshape(-1)


def in_step(started: Mapping[K, Sequence[float | None]]) -> list[K]:
    """Return the keys of those that the first processes of a run measured, each without a gap.

    `started` says when the process of each of its passes began to load, see PairedPass.

    What a short budget began late, or left out of a process, is not among them. Passes that do not say when their
    process started are of runs that left nothing out. Where most would not be among them, all are: then a process was
    replaced in the middle of a pass, and the passes still follow each other.
    """
    begun = {key: [start or 0.0 for start in starts] for key, starts in started.items()}
    starts = sorted({start for row in begun.values() for start in row})
    steady = [key for key, row in begun.items() if starts == [0.0] or row == starts[: len(row)]]
    return steady if 2 * len(steady) >= len(begun) else list(begun)
