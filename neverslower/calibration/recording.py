"""What a calibration's journal holds, raw: A/A passes of a few layers, looks at the device, and what failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from neverslower.device.fingerprint import Fingerprint
from neverslower.device.state import State
from neverslower.errors import NeverSlowerError
from neverslower.evidence.observation import PairedPass
from neverslower.files.fields import finite, word
from neverslower.files.journal import replay


@dataclass(frozen=True)
class Scheme:
    """How a calibration measures: on which backend, `blocks` at once, and the keys of its layers by their names.

    What was measured by another scheme is something else.
    """

    backend: str
    argument: str
    threads: int
    blocks: int
    layers: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Taken:
    """One fresh preparation of a layer beside another one, timed: in which process, and when (since the epoch)."""

    name: str
    process: int
    at: float
    paired: PairedPass


@dataclass
class Recording:
    """Everything that was seen, in the order in which it was. Stretches are long passes, for dependence alone."""

    path: Path
    scheme: Scheme | None = None
    fingerprint: Fingerprint | None = None
    passes: list[Taken] = field(default_factory=list)
    stretches: list[Taken] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def processes(self) -> int:
        """How many processes were started; their numbers are below."""
        return 1 + max((one.process for one in self.passes), default=-1)

    def of(self, name: str) -> list[Taken]:
        """A layer's passes."""
        return [one for one in self.passes if one.name == name]

    def require_equal(self, now: Scheme) -> None:
        """Raise NeverSlowerError where what is wanted now is measured in another way, layers apart."""
        assert self.scheme is not None
        for name in ("backend", "argument", "threads", "blocks"):
            then, wanted = getattr(self.scheme, name), getattr(now, name)
            if then != wanted:
                text = f"it was measured with {name} {then or 'none'}, not {wanted or 'none'}"
                raise NeverSlowerError(f"--resume {self.path}: {text}; give the same options")

    def require_device(self, now: Fingerprint) -> None:
        """Raise NeverSlowerError where the device, its state or its software are no longer those of the journal."""
        assert self.fingerprint is not None
        if differing := now.changes(self.fingerprint):
            raise NeverSlowerError(f"--resume {self.path}: it was measured elsewhere: {'; '.join(differing)}")


def load(path: Path) -> Recording:
    """Read a calibration's journal. Raises NeverSlowerError that names what is wrong."""
    found = Recording(path)
    replay(path, partial(_add, found))
    if found.scheme is None or found.fingerprint is None:
        raise NeverSlowerError(f"--resume {path}: it holds no calibration; leave --resume away to start one")
    return found


def scheme_fields(scheme: Scheme) -> dict[str, Any]:
    """A scheme as plain data, for the journal."""
    return asdict(scheme)


def taken_fields(one: Taken) -> dict[str, Any]:
    """A pass as plain data, for the journal."""
    return {"layer": one.name, "at": one.at} | one.paired.record(one.process)


def _add(found: Recording, line: Mapping[str, Any]) -> None:
    kind = line["event"]
    if kind == "calibration":
        found.scheme = Scheme(**{name: line[name] for name in Scheme.__dataclass_fields__})
    elif kind == "fingerprint":
        found.fingerprint = Fingerprint.from_dict({name: line[name] for name in Fingerprint.__dataclass_fields__})
    elif kind in ("pass", "stretch"):
        at = finite("at", line["at"])
        one = Taken(word(line, "layer"), int(line["pass"]), at, PairedPass.from_record(line))
        (found.passes if kind == "pass" else found.stretches).append(one)
    elif kind == "state" and "unknown" not in line:
        found.states.append(State.from_dict(line))
    elif kind == "failed":
        found.failures[word(line, "layer")] = word(line, "reason")
