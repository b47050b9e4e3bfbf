"""The state of a device as data: what decides a comparison, what jitters, and what makes measuring pointless."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from neverslower.device.fingerprint import differences


class Trouble(str, Enum):
    """Why a device's times would tell of its state instead of its library."""

    THROTTLED = "throttled"
    HOT = "hot"
    BUSY = "busy"
    CLOCKS = "clocks"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Unsound:
    """One thing that is unsound, and the command that mends it; what is not `grave` is a warning."""

    trouble: Trouble
    text: str
    remedy: str
    grave: bool = True

    def __str__(self) -> str:
        return f"{self.text}; mend it: {self.remedy}"


@dataclass(frozen=True)
class State:
    """What one look found.

    `settings` decide whether two runs may be compared, and stand still; `readings` (their names end in the unit)
    change from moment to moment and decide nothing. What can't be read is in neither, and is not unsound.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    readings: Mapping[str, float] = field(default_factory=dict)
    unsound: tuple[Unsound, ...] = ()

    @property
    def grave(self) -> tuple[Unsound, ...]:
        """What makes measuring pointless."""
        return tuple(flaw for flaw in self.unsound if flaw.grave)

    def joined(self, other: State) -> State:
        """Both looks as one; where both know a name, the other's word counts."""
        return State(
            {**self.settings, **other.settings}, {**self.readings, **other.readings}, self.unsound + other.unsound
        )

    def changes(self, before: State) -> list[str]:
        """What is otherwise than it was: each setting that differs, and what has become unsound since.

        A device gets hot by working, so that is none; its clocks are settings.
        """
        known = {flaw.trouble for flaw in before.unsound} | {Trouble.HOT, Trouble.CLOCKS}
        new = [flaw.text for flaw in self.grave if flaw.trouble not in known]
        return differences("state", before.settings, self.settings) + new

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for the journal and for the way from a worker."""
        unsound = tuple(asdict(flaw) | {"trouble": str(flaw.trouble)} for flaw in self.unsound)
        return {"settings": dict(self.settings), "readings": dict(self.readings), "unsound": unsound}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> State:
        """The inverse of `as_dict`."""
        unsound = tuple(Unsound(**{**flaw, "trouble": Trouble(flaw["trouble"])}) for flaw in data.get("unsound", ()))
        return cls(data.get("settings", {}), data.get("readings", {}), unsound)
