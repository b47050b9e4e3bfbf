"""What an adapter offers: the Backend protocol, its capabilities as data, and the errors it may raise.

An adapter runs in a worker process, maybe on another machine, with its vendor library and numpy; it imports the
vendor library inside functions only, so that collecting tests needs none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neverslower.device.fingerprint import Fingerprint
from neverslower.device.state import State
from neverslower.evidence.observation import Cache, Evidence, Plan, Searched
from neverslower.problem.convolution import ConvProblem, DType, Layout
from neverslower.problem.subject import Search, Subject

Tensor = NDArray[np.float32]


@dataclass(frozen=True)
class Capabilities:
    """What a backend can be asked for, as data.

    `formats` are the (dtype, layout) pairs measured unless the user names others; `modules` the libraries without
    which it is not worth starting, and `packages` what brings them, where pip knows them by other names. A backend
    `on_request` runs only when it is named; an `exclusive` one takes a lock on its device, so that two runs never
    time each other. One that `compiles` does it ahead, in processes of its own, and searches for schedules; what it
    makes is kept in `default_root() / NAME` (see neverslower.files.kept). One that `profiles` attaches a profiler to
    the process in which it examines problems, which is then not timed in; one that `watches` says when its device was
    throttled; one that `waits` leaves its device alone between requests, so that a process of another library may take
    turns with it; one that `maps` times whole curves of channel counts at once; one that `explains` has the policy
    `best`, so that a hazard can be told from a bad choice. `quick_layers` are measured instead of a whole
    network when the user names nothing, `tuned_layers` by the study of tuned logs; drawn problems have
    `largest_drawn_macs` multiply-accumulates at most.
    """

    dtypes: frozenset[DType]
    layouts: frozenset[Layout]
    evidence: frozenset[Evidence] = frozenset({Evidence.DEVICE_TIME})
    groups: bool = True
    dilation: bool = True
    asymmetric_padding: bool = True
    formats: tuple[tuple[DType, Layout], ...] = ((DType.FLOAT32, Layout.NCHW),)
    modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    on_request: bool = False
    exclusive: bool = True
    compiles: bool = False
    profiles: bool = False
    watches: bool = False
    waits: bool = False
    maps: bool = False
    explains: bool = False
    quick_layers: tuple[str, ...] = ()
    tuned_layers: tuple[str, ...] = ()
    largest_drawn_macs: int = 30_000_000

    @property
    def offers(self) -> tuple[str, ...]:
        """The protocols beside Backend that the adapter follows, `profiles` and `waits`, by their fields' names."""
        names = ("compiles", "profiles", "watches", "waits", "maps", "explains")
        return tuple(name for name in names if getattr(self, name))

    def refusal(self, problem: ConvProblem) -> str | None:
        """Why this problem is beyond the backend, or None."""
        checks = (
            (problem.dtype in self.dtypes, f"no {problem.dtype} (has {_listed(self.dtypes)})"),
            (problem.layout in self.layouts, f"no {problem.layout} (has {_listed(self.layouts)})"),
            (self.groups or problem.groups == 1, "no grouped convolutions"),
            (self.dilation or problem.dilation == (1, 1), "no dilated convolutions"),
            (self.asymmetric_padding or problem.symmetric_padding, "no asymmetric padding"),
        )
        return next((why for holds, why in checks if not holds), None)


def _listed(values: frozenset[DType] | frozenset[Layout]) -> str:
    return ", ".join(sorted(str(value) for value in values))


@dataclass(frozen=True)
class BackendOptions:
    """How a backend is to run: the text after its name (`scripted:FILE`), CPU threads, and the worker's number."""

    argument: str = ""
    threads: int = 1
    process: int = 0


class Prepared(Protocol):
    """One problem, compiled and with its buffers on the device; a round has `least_iterations` calls or more."""

    cache: Cache
    least_iterations: int

    def plan(self) -> Plan:
        """What the library chose for this problem, in the library's own words."""

    def output(self) -> Tensor:
        """The result of one call as float32 of shape (batch, out_channels, out_height, out_width)."""

    def run(self, iterations: int) -> float:
        """Run that many calls back to back and return the seconds they took together, by the backend's clock."""


class Counted(Prepared, Protocol):
    """A prepared problem of which instructions are counted."""

    def instructions(self) -> int:
        """What one call executes, the same in every process. Raises Unsupported where it can't be counted."""


class Backend(Protocol):
    """One vendor library on one device.

    A backend that has other evidence than time says which in an attribute `evidence`, in `exclusive` whether it needs
    its device for itself at that, in `at_once` in how many processes problems may be examined beside each other, and in
    `offers` what it offers, each where it is not as its CAPABILITIES say.
    Where the evidence is exact, `Prepared.run` is not called.
    """

    def fingerprint(self) -> Fingerprint:
        """Device, state and software; raises Unavailable where the device turns out not to be usable."""

    def prepare(self, problem: ConvProblem, inputs: Tensor, weights: Tensor, policy: str = "") -> Prepared:
        """Everything that happens once: layouts, compilation, buffers of its own.

        `inputs` has `problem.input_shape` and `weights` `problem.weight_shape`, in values that the dtype can hold.
        `policy` is by what the library is to choose, in the backend's own words (see neverslower.problem.subject).
        Raises Unsupported with the library's words, or for a policy that it does not have, or OutOfMemory.
        """

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user has to know of how this backend was set up, one line each."""

    @property
    def clock(self) -> str:
        """The name of the clock behind `Prepared.run`."""

    @property
    def shortest_round(self) -> float:
        """Seconds that a round must last for the clock's resolution and overhead not to matter."""


class Watcher(Protocol):
    """What a backend that `watches` offers beside Backend."""

    def disturbed(self) -> str:
        """Why the device is slower than it should be, just after it worked; empty when it is not. Quick to ask."""

    def state(self, machine: State) -> State:
        """The device's state, given that of the machine which it is in (see neverslower.device.readers.host)."""


@dataclass(frozen=True)
class CurvePoint:
    """One channel count of a curve: its plan, calls in a round, and each round's seconds per call, or a refusal."""

    plan: Plan | None
    iterations: int = 0
    seconds: tuple[float, ...] = ()
    refusal: str = ""


class Mapper(Protocol):
    """What a backend that `maps` offers beside Backend."""

    def curve(
        self, problems: Sequence[ConvProblem], inputs: Tensor, weights: Tensor, rounds: int, policy: str = ""
    ) -> tuple[list[CurvePoint], float]:
        """Time problems that differ in their number of filters alone, in the order given; with seconds of the call.

        `weights` are those of the largest; each problem takes the first of them. Plans have no steps here.
        """

    def dispatches(
        self, problems: Sequence[ConvProblem], inputs: Tensor, weights: Tensor, policy: str = ""
    ) -> list[Plan | None]:
        """The plans of such problems with their steps, None for what is refused; nothing is timed."""


class Compiler(Protocol):
    """What a backend that `compiles` offers beside Backend."""

    def missing(self, subjects: list[Subject]) -> list[Subject]:
        """Those that are yet to be compiled."""

    def compile(self, subject: Subject) -> object:
        """Compile one, and keep the result where other processes of this device find it. Raises Unsupported."""

    def tune(self, wanted: Search) -> Searched:
        """Search for a schedule, and keep the log of it in the same place. Raises Unsupported."""


@dataclass(frozen=True)
class Argument:
    """One argument of a command: its name, or its flag, and what argparse's `add_argument` takes with it."""

    name: str
    keywords: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """A command that an adapter adds to `python -m neverslower`, run in the user's own process.

    `run` takes the parsed arguments by name and a function that shows a line of progress; it returns the text to
    print. It raises NeverSlowerError for a user's mistake.
    """

    name: str
    help: str
    arguments: tuple[Argument, ...]
    run: Callable[[Mapping[str, Any], Callable[[str], None]], str]


class AdapterModule(Protocol):
    """What a module in this folder defines.

    It may also define a Command that the command line then has: BUILD, which makes what the backend needs before it
    can be measured, and SCRIPT, which writes a reproduction that is too long for a line.
    """

    CAPABILITIES: Capabilities

    def open(self, options: BackendOptions) -> Backend:
        """Load the vendor library; raises Unavailable with the reason and the remedy."""

    def reproduce(self, problem: ConvProblem, plan: Plan, options: BackendOptions) -> str:
        """Commands, one a line, that show this problem and plan without never-slower; printed without the library.

        `options` are those of the backend that found it.
        """
