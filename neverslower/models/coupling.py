"""Which channels of a model have to change together: groups of coupled channels, as data, and how a user gets them.

A channel of a convolution is read by the layers behind it, and a sum couples the layers in front of it. Everything
that stands or falls with one channel is one group: to prune or to pad it, all its members change alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from neverslower.models import child
from neverslower.problem.model import Model

OUT, IN = "out", "in"


@dataclass(frozen=True)
class Member:
    """The channels that a group has in one axis of a layer: `width` for each channel of the group, from `offset` on.

    `layer` is the module's name. `axis` is "out" or "in"; that of a member of `Group.norms` is "out". A linear layer
    behind a flattened image reads several features of each channel: those are its `width`.
    """

    layer: str
    axis: str
    offset: int
    width: int = 1


@dataclass(frozen=True)
class Group:
    """Channels that can only be pruned or padded together.

    `held` says why they can't change at all, and `unpaddable` why a pruner may change them but zeros can't be added;
    both are empty where nothing is in the way. `norms` are the normalisations, which have no channels of their own.
    """

    name: str
    channels: int
    members: tuple[Member, ...]
    held: str = ""
    norms: tuple[Member, ...] = ()
    unpaddable: str = ""

    def members_on(self, axis: str) -> tuple[Member, ...]:
        """Return the members whose output ("out") or input ("in") channels are in the group."""
        return tuple(member for member in self.members if member.axis == axis)

    def record(self) -> dict[str, Any]:
        """Return the group as plain data."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Group:
        """Return the group of plain data."""
        members, norms = (tuple(Member(**member) for member in record[key]) for key in ("members", "norms"))
        return cls(**{**record, "members": members, "norms": norms})


def coupled_groups(model: Model) -> tuple[Group, ...]:
    """Return the groups of a model that came from Python or from ONNX, in the order in which the model runs.

    The model is read in a child process. Layers whose surroundings are not understood are held, with the reason. Raises
    NeverSlowerError where the model can't be traced, or came from a list of problems.
    """
    found = child.read_again(model, child.CHANNELS)
    return tuple(Group.from_record(record) for record in found["groups"])
