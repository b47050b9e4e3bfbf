"""Prepares what is to be timed on a backend, and keeps it for the next request as long as there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from backends.base import Backend, NetworkRunner, Offsets, Placer, Prepared, PreparedNetwork, Tensor, Timed
from neverslower.errors import OutOfMemory, Unsupported
from neverslower.problem import numerics
from neverslower.problem.subject import Subject
from neverslower.problem.whole import Network, is_network
from neverslower.worker.sampling import calibrate

CACHE_BYTES, CACHED = 256_000_000, 64
"""Prepared problems are kept up to this many bytes of tensors, and this many: each may hold a loaded library too."""
Name = tuple[str, int]
"""(the key of a subject, the number of its buffers: a layer against itself has two of them)."""
P = TypeVar("P")


@dataclass(frozen=True)
class Preparation:
    """Holds what was prepared and what its calibration found; `number` counts what this process prepared.

    `bytes` is what its tensors take. `offsets` are the bytes behind the beginning of their memory at which the first of
    them begin. `way` says how a whole network is called, and is empty for a problem.
    """

    number: int
    bytes: int
    prepared: Timed
    iterations: int
    seconds_per_call: float
    offsets: tuple[int, ...] = ()
    way: str = ""


class Preparations:
    """Prepares problems and whole networks on one backend, and keeps them; the least recently used is dropped first.

    `directory` is that of the run, by which the files of networks are named. `seed` says where tensors begin.
    """

    def __init__(self, backend: Backend, directory: str, seed: str) -> None:
        self._backend, self._directory = backend, directory
        self._kept: OrderedDict[Name, Preparation] = OrderedDict()
        self._count = 0
        self.draw_offsets(seed)

    def __len__(self) -> int:
        return len(self._kept)

    def draw_offsets(self, seed: str) -> None:
        """Let tensors begin from now on where this seed says, if the backend makes them itself."""
        self._offsets = Offsets(seed)
        if hasattr(self._backend, "offsets"):
            cast(Placer, self._backend).offsets = self._offsets

    def take(self, name: Name, after: int = 0, together: int = 2, expected: float = 0.0) -> Preparation:
        """Return what is kept under a name, if it was prepared after that; else prepare it now.

        It is one of those that are measured `together`: these stay, however large they are. A call of it is `expected`
        to take so many seconds, 0 where that is unknown. Raises Unsupported, or OutOfMemory.
        """
        if name in self._kept and self._kept[name].number > after:
            self._kept.move_to_end(name)
            return self._kept[name]
        self._kept.pop(name, None)
        if is_network(name[0]):
            network = self._make_network(Network.from_key(name[0]))
            return self.keep(name, network.bytes, network, together, network.way)
        subject = Subject.from_key(name[0])
        prepared = self.make(subject, numerics.tensors(subject.problem))
        return self.keep(name, subject.problem.bytes, prepared, together, expected=expected)

    def make(self, subject: Subject, tensors: tuple[Tensor, Tensor]) -> Prepared:
        """Prepare a subject; where it does not fit next to what is kept, once more without that."""
        added = numerics.added_tensors(subject.problem)
        return self._with_room(lambda: self._backend.prepare(subject.problem, *tensors, subject.policy, added))

    def _make_network(self, network: Network) -> PreparedNetwork:
        return self._with_room(
            lambda: cast(NetworkRunner, self._backend).prepare_network(network.found_from(self._directory))
        )

    def _with_room(self, prepare: Callable[[], P]) -> P:
        """Return what is prepared; what is kept makes room for it where both do not fit."""
        try:
            return prepare()
        except OutOfMemory:
            if not self._kept:
                raise
            self.clear()
            return prepare()

    def keep(
        self,
        name: Name,
        size: int,
        prepared: Timed,
        together: int = 2,
        way: str = "",
        expected: float = 0.0,
    ) -> Preparation:
        """Calibrate what was prepared, and keep it; `size` is the bytes of its tensors; for the rest see `take`."""
        self._count += 1
        calibrated = calibrate(prepared, self._backend.shortest_round, prepared.least_iterations, expected)
        kept = Preparation(self._count, size, prepared, *calibrated, offsets=self._offsets.take(), way=way)
        self._kept[name] = kept
        while len(self) > together and (len(self) > CACHED or self._bytes() > CACHE_BYTES):
            self._kept.popitem(last=False)
        return kept

    def _bytes(self) -> int:
        return sum(preparation.bytes for preparation in self._kept.values())

    def clear(self) -> None:
        """Drop all that was prepared."""
        self._kept.clear()


def require_one_way(*arms: Preparation) -> None:
    """Raise Unsupported where networks are called in different ways, for then their times tell that and not more."""
    if len(ways := dict.fromkeys(arm.way for arm in arms)) > 1:
        raise Unsupported(f"one network runs {' and the other '.join(ways)}, so their times can't be compared")
