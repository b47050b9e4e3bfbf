"""What a campaign needs to know of whatever it compares: of a layer (comparison.py) and of a whole network (whole.py).

Only what measures and judges goes by this. What explains and reports knows which of both it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from neverslower.problem.subject import TunedLog


class Work(Protocol):
    """What a library is asked to run: a convolution, or a whole network."""

    @property
    def key(self) -> str:
        """Return the name by which a worker is asked for it."""

    @property
    def macs(self) -> int:
        """Return its multiply-accumulates."""

    @property
    def bytes(self) -> int:
        """Return the bytes of its tensors."""


class Compared(Protocol):
    """A pruned layer or a pruned network, the candidate, and what it was pruned from, the reference."""

    @property
    def backend(self) -> str:
        """Return the name of the backend that runs both."""

    @property
    def id(self) -> str:
        """Return the readable name used in test ids."""

    @property
    def keys(self) -> tuple[str, str]:
        """Return the keys of (reference, candidate), by which a worker is asked for them."""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Return (backend, reference, candidate), which is equal for comparisons that need measuring only once."""

    @property
    def named(self) -> dict[str, str]:
        """Return the fields that name this in a journal."""

    @property
    def reference(self) -> Work:
        """Return what was pruned."""

    @property
    def candidate(self) -> Work:
        """Return what is left after pruning."""

    @property
    def telling(self) -> int:
        """Return the rank in which comparisons go when time is short: the smallest goes first."""

    @property
    def whole(self) -> bool:
        """Return whether this compares whole networks.

        They go first when time is short, and are judged by themselves alone, for they do not scatter as layers do.
        """

    @property
    def studied(self) -> bool:
        """Return whether this belongs to a study of policies."""

    @property
    def asks_whether_faster(self) -> bool:
        """Return whether this is measured until the candidate is proved faster or not: no slower is not enough."""

    @property
    def against_itself(self) -> bool:
        """Return whether this compares something with itself."""

    @property
    def tuned_logs(self) -> Sequence[TunedLog]:
        """Return the logs of searches that must exist before this can be measured."""
