"""The state of a device as data: what a comparison depends on, what jitters, and what makes measuring pointless."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from neverslower.device.fingerprint import differences
from neverslower.enums import StrEnum


class Trouble(StrEnum):
    """Reasons why a device's times would say more about its state than about its library."""

    THROTTLED = "throttled"
    HOT = "hot"
    BUSY = "busy"
    CLOCKS = "clocks"


@dataclass(frozen=True)
class Unsound:
    """One thing that is wrong with the device's state, and the command that fixes it; a warning if not `grave`."""

    trouble: Trouble
    text: str
    remedy: str
    grave: bool = True

    def __str__(self) -> str:
        return f"{self.text}; fix: {self.remedy}"


@dataclass(frozen=True)
class State:
    """What one look at the device saw.

    `settings` stay as they are and decide whether two runs may be compared. `readings` (whose names end in the unit)
    change from moment to moment and decide nothing. What can't be read is in neither, and is not unsound.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    readings: Mapping[str, float] = field(default_factory=dict)
    unsound: tuple[Unsound, ...] = ()

    @property
    def grave(self) -> tuple[Unsound, ...]:
        """Return the troubles that make measuring pointless."""
        return tuple(flaw for flaw in self.unsound if flaw.grave)

    def joined(self, other: State) -> State:
        """Join two looks; where both know a name, `other` wins."""
        return State(
            {**self.settings, **other.settings}, {**self.readings, **other.readings}, self.unsound + other.unsound
        )

    def changes(self, before: State) -> list[str]:
        """List how the state differs from `before`: each changed setting, and each trouble that is new.

        A device gets hot by working, so heat is not a change; its clocks are among the settings.
        """
        new = [flaw.text for flaw in self.worse_than(before)]
        return differences("state", before.settings, self.settings) + new

    def worse_than(self, before: State) -> tuple[Unsound, ...]:
        """Return the new troubles that make measuring pointless; heat and clocks are none, see `changes`."""
        # By kind and not by text, which holds numbers that move: 81 °C after 80 °C is not new.
        known = {flaw.trouble for flaw in before.unsound} | {Trouble.HOT, Trouble.CLOCKS}
        return tuple(flaw for flaw in self.grave if flaw.trouble not in known)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, for the journal and for the way from a worker to the coordinator."""
        unsound = tuple(asdict(flaw) | {"trouble": str(flaw.trouble)} for flaw in self.unsound)
        return {"settings": dict(self.settings), "readings": dict(self.readings), "unsound": unsound}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> State:
        """Read what `as_dict` made."""
        unsound = tuple(Unsound(**{**flaw, "trouble": Trouble(flaw["trouble"])}) for flaw in data.get("unsound", ()))
        return cls(data.get("settings", {}), data.get("readings", {}), unsound)
