"""Tells from a journal's looks at a device what of it was measured in doubt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neverslower.campaign.findings import Identity
from neverslower.device.fingerprint import differences
from neverslower.device.state import State

Measured = tuple[str, Identity, int | None]
"""Which library (its label), what was measured, and in which pass; None for a confirmation."""


@dataclass
class WatchedDevice:
    """Follows one device as an earlier run saw it: `first` at its beginning, and what is `doubtful` since it `changed`.

    What a run marks when the state changes must not come back unmarked when another one goes on with it.
    """

    first: State | None = None
    changed: bool = False
    doubtful: set[Measured] = field(default_factory=set)
    _since: list[Measured] = field(default_factory=list)

    def look(self, line: Mapping[str, Any]) -> None:
        """Take in one look, as the guard has written it; one that failed says nothing."""
        if "unknown" in line:
            return
        now = State.from_dict(line)
        begins = line["when"] == "before"  # Another run: its device may have been set right.
        self.first = self.first or now
        changed = bool(self.changes(now) if begins else now.changes(self.first))
        if changed:
            self.doubtful.update(self._since)
        self.changed = changed or (self.changed and not begins)
        self._since.clear()

    def measured(self, measured: Measured) -> None:
        """Note that something was measured, for the first time or anew."""
        self.doubtful.discard(measured)
        self._since.append(measured)
        if self.changed:
            self.doubtful.add(measured)

    def changes(self, now: State) -> list[str]:
        """Return the settings that are otherwise now than they were at the beginning."""
        return differences("state", self.first.settings, now.settings) if self.first else []
