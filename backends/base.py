"""The interface of an adapter: the Backend protocol, its capabilities as data, and the errors it may raise.

An adapter runs in a worker process, maybe on another machine, with its vendor library and numpy. It imports the
vendor library inside functions only, so that collecting tests does not need it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from neverslower.device.fingerprint import Fingerprint
from neverslower.device.state import State
from neverslower.errors import Unsupported
from neverslower.evidence.observation import Cache, Evidence, Plan, Searched
from neverslower.problem.convolution import ConvProblem, DType, Layout
from neverslower.problem.epilogue import NOTHING, Added
from neverslower.problem.subject import Search, Subject
from neverslower.problem.whole import Network

Tensor = NDArray[np.float32]
RECORDED_OFFSETS = 3
"""Of so many tensors it is recorded where they began: input, weights and output."""


@dataclass(frozen=True)
class Capabilities:
    """What a backend can be asked for, as data.

    `formats` are the (dtype, layout) pairs measured unless the user names others. `modules` are the libraries
    without which starting it is pointless, and `packages` the names by which pip knows them, where these differ;
    `overlays` are patterns of packages that hold the library alone, for others to load. A backend `on_request` runs
    only when it is named. An `exclusive` one locks its device, so that two runs never time each other. One that
    `compiles` does so ahead of time, in processes of its own, each worth starting for `compiles_worth` problems; what
    it makes is kept in `default_root() / NAME` (see neverslower.files.kept). One that `profiles` attaches a profiler to
    the process that examines problems, and no times are taken in that process. One that `watches` reports when its
    device was throttled. One that `waits` leaves its device alone between requests, so that a process of another
    library may take turns with it. One that loads `ahead` may be started while others wait or examine: it disturbs
    nothing until it is asked for something. One that `explains` has the policy `best`, which tells a hazard from a bad
    choice. One that has `networks` runs whole networks from end to end. `quick_layers` are measured instead of a whole
    network when the user names nothing, `tuned_layers` by the study of tuned logs. Drawn problems have at most
    `largest_drawn_macs` multiply-accumulates. One with `epilogues` takes a bias and post-ops in the same call, though
    it may refuse some of them.
    """

    dtypes: frozenset[DType]
    layouts: frozenset[Layout]
    evidence: frozenset[Evidence] = frozenset({Evidence.DEVICE_TIME})
    groups: bool = True
    dilation: bool = True
    asymmetric_padding: bool = True
    epilogues: bool = False
    formats: tuple[tuple[DType, Layout], ...] = ((DType.FLOAT32, Layout.NCHW),)
    modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    overlays: tuple[str, ...] = ()
    on_request: bool = False
    exclusive: bool = True
    compiles: bool = False
    compiles_worth: int = 8
    profiles: bool = False
    watches: bool = False
    waits: bool = False
    ahead: bool = False
    explains: bool = False
    networks: bool = False
    quick_layers: tuple[str, ...] = ()
    tuned_layers: tuple[str, ...] = ()
    largest_drawn_macs: int = 30_000_000

    @property
    def offers(self) -> tuple[str, ...]:
        """Return the protocols that the adapter follows in addition to Backend, by field name.

        `profiles`, `waits` and `ahead` are among them, though they need no protocol.
        """
        names = ("compiles", "profiles", "watches", "waits", "ahead", "explains")
        return tuple(name for name in names if getattr(self, name))

    def refusal(self, problem: ConvProblem) -> str | None:
        """Return why this problem is beyond the backend, or None."""
        checks = (
            (problem.dtype in self.dtypes, f"no {problem.dtype} (has {_listed(self.dtypes)})"),
            (problem.layout in self.layouts, f"no {problem.layout} (has {_listed(self.layouts)})"),
            (self.groups or problem.groups == 1, "no grouped convolutions"),
            (self.dilation or problem.dilation == (1, 1), "no dilated convolutions"),
            (self.asymmetric_padding or problem.symmetric_padding, "no asymmetric padding"),
            (self.epilogues or not problem.epilogue, f"no bias and no post-ops in the same call ({problem.epilogue})"),
        )
        return next((why for holds, why in checks if not holds), None)

    def require(self, problem: ConvProblem) -> None:
        """Do nothing where the backend takes this problem. Raises Unsupported with the reason where it does not."""
        if why := self.refusal(problem):
            raise Unsupported(why)


def _listed(values: frozenset[DType] | frozenset[Layout]) -> str:
    return ", ".join(sorted(str(value) for value in values))


@dataclass(frozen=True)
class BackendOptions:
    """How a backend is to run: the text after its name (`scripted:FILE`), CPU threads, and the worker's number."""

    argument: str = ""
    threads: int = 1
    process: int = 0


class Offsets:
    """Draws where a tensor begins within its memory: what lies where is a matter of luck, which each process has anew.

    `drawn` are the bytes since the last `take`.
    """

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)
        self._drawn: list[int] = []

    def draw(self, step: int, span: int) -> int:
        """Return a multiple of `step` bytes below `span`."""
        offset = step * self._chance.randrange(span // step)
        self._drawn.append(offset)
        return offset

    def take(self) -> tuple[int, ...]:
        """Return what was drawn for one preparation, the first few, and forget it."""
        drawn, self._drawn = self._drawn, []
        return tuple(drawn[:RECORDED_OFFSETS])


class Timed(Protocol):
    """What can be timed on the device, compiled and with its buffers; a round has at least `least_iterations` calls."""

    cache: Cache
    least_iterations: int

    def plan(self) -> Plan:
        """Return the plan that the library chose, in the library's own words."""

    def run(self, iterations: int) -> float:
        """Run that many calls back to back; return the seconds they took together, by the backend's clock."""


class Prepared(Timed, Protocol):
    """One problem, ready to be timed."""

    def output(self) -> Tensor:
        """Return the result of one call as float32 of shape (batch, out_channels, out_height, out_width)."""


class PreparedNetwork(Timed, Protocol):
    """A whole network, ready to be timed from end to end.

    `bytes` is what its parameters and inputs take. `way` says how its calls are made: two networks are compared only
    where that is the same.
    """

    bytes: int
    way: str


class Counted(Prepared, Protocol):
    """A prepared problem whose instructions can be counted."""

    def instructions(self) -> int:
        """Return how many instructions one call executes, the same in every process. Raises Unsupported."""


class Backend(Protocol):
    """One vendor library on one device.

    A backend may set five attributes where it differs from its CAPABILITIES: `evidence` for evidence other than time,
    `exclusive` for whether it then still needs its device for itself, `at_once` for the number of processes that may
    examine problems at the same time, `offers` for what it offers, and `elsewhere` where its device is on another
    machine, so that the state of this one says nothing of it.
    Where the evidence is exact, `Prepared.run` is not called.
    """

    def fingerprint(self) -> Fingerprint:
        """Return device, state and software. Raises Unavailable where the device turns out not to be usable."""

    def prepare(
        self, problem: ConvProblem, inputs: Tensor, weights: Tensor, policy: str = "", added: Added = NOTHING
    ) -> Prepared:
        """Do everything that happens once: layouts, compilation, buffers of its own.

        `inputs` has the shape `problem.input_shape` and `weights` has `problem.weight_shape`, in values that the dtype
        can hold; `added` holds what the problem's epilogue takes. `policy` says how the library is to choose, in the
        backend's own words (see neverslower.problem.subject). Raises Unsupported with the library's words or for an
        unknown policy, and OutOfMemory.
        """

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return what a user has to know of how this backend was set up, one line each."""

    @property
    def clock(self) -> str:
        """Return the name of the clock behind `Prepared.run`."""

    @property
    def shortest_round(self) -> float:
        """Return the seconds that a round must last for the clock's resolution and overhead not to matter."""


class NetworkRunner(Protocol):
    """What a backend that has `networks` offers in addition to Backend."""

    def prepare_network(self, network: Network) -> PreparedNetwork:
        """Build a network, put it on the device, and call it once. Raises Unsupported or OutOfMemory."""


class Placer(Protocol):
    """What a backend offers in addition to Backend that makes its tensors itself.

    Where each begins it draws from `offsets`, which are others in each process and pass.
    """

    offsets: Offsets


class Watcher(Protocol):
    """What a backend that `watches` offers in addition to Backend."""

    def disturbed(self) -> str:
        """Return why the device is slower than it should be, just after it worked; "" if it is not. Must be quick."""

    def state(self, machine: State) -> State:
        """Return the device's state, given that of its machine (see neverslower.device.readers.host)."""


class Profiler(Protocol):
    """What a backend may offer in addition to Backend that looks up the plans of many prepared problems at once."""

    def plans(self, prepared: Sequence[Prepared]) -> list[Plan]:
        """Return what `Prepared.plan` would of each of this backend's own."""


class Compiler(Protocol):
    """What a backend that `compiles` offers in addition to Backend."""

    def missing(self, subjects: list[Subject]) -> list[Subject]:
        """Return the subjects that are yet to be compiled, and that other processes should compile."""

    def compile(self, subject: Subject) -> object:
        """Compile a subject, and keep the result where other processes of this device find it. Raises Unsupported."""


class Searcher(Protocol):
    """What a backend with `tuned_layers` offers in addition to Backend."""

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
    can be measured, against the library in the folder `root`, which the backend's argument names by the same word. And
    it may define `companions(package, version)`, which returns the requirements that are known to go with a release,
    `argument_of(fingerprint)`, which returns what was named behind `NAME:` in the run of a record,
    `capabilities_of(argument)`, where what is named there decides how a worker is started, and
    `vendor_command(problem, plan, checks, options)`, which returns commands of the vendor's own benchmark that time a
    plan, or that check its output.
    """

    CAPABILITIES: Capabilities

    def open(self, options: BackendOptions) -> Backend:
        """Load the vendor library. Raises Unavailable with the reason and the remedy."""

    def reproduce(self, problem: ConvProblem, plan: Plan, options: BackendOptions) -> str:
        """Return commands, one a line, that show this problem and plan without never-slower.

        It is called without the vendor library. `options` are those of the backend that observed the plan.
        """

    def write_script(self, problem: ConvProblem, plan: str, options: BackendOptions) -> str:
        """Return a script that times this problem without never-slower, by the plan of a name or by the default one.

        It is called without the vendor library. Raises Unsupported where the backend could not run the problem.
        """
