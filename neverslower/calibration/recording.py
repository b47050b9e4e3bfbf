"""Read and write a calibration's journal: raw A/A passes of a few layers, looks at the device, and failures."""

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
    """How a calibration measures: backend, argument, threads, blocks of a pass, and its layers, keys by name.

    Passes of different schemes can't be put together.
    """

    backend: str
    argument: str
    threads: int
    blocks: int
    layers: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Taken:
    """One pass of a layer against another preparation of itself: in which process, and when (seconds of the epoch)."""

    name: str
    process: int
    at: float
    paired: PairedPass


@dataclass
class Recording:
    """Everything that a journal holds, in its order. `stretches` are long passes, used for `block_length` alone."""

    path: Path
    scheme: Scheme | None = None
    fingerprint: Fingerprint | None = None
    passes: list[Taken] = field(default_factory=list)
    stretches: list[Taken] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def processes(self) -> int:
        """Return how many processes were started, counted from the highest number, which starts at 0."""
        return 1 + max((pass_.process for pass_ in self.passes), default=-1)

    def of(self, name: str) -> list[Taken]:
        """Return a layer's passes."""
        return [pass_ for pass_ in self.passes if pass_.name == name]

    def require_equal(self, now: Scheme) -> None:
        """Raise NeverSlowerError where the scheme wanted now is another one; its layers may differ."""
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
    recording = Recording(path)
    replay(path, partial(_add, recording))
    if recording.scheme is None or recording.fingerprint is None:
        raise NeverSlowerError(f"--resume {path}: it holds no calibration; leave out --resume to start one")
    return recording


def scheme_fields(scheme: Scheme) -> dict[str, Any]:
    """Return a scheme as plain data, for the journal."""
    return asdict(scheme)


def taken_fields(pass_: Taken) -> dict[str, Any]:
    """Return a pass as plain data, for the journal."""
    return {"layer": pass_.name, "at": pass_.at} | pass_.paired.record(pass_.process)


def _add(recording: Recording, line: Mapping[str, Any]) -> None:
    kind = line["event"]
    if kind == "calibration":
        recording.scheme = Scheme(**{name: line[name] for name in Scheme.__dataclass_fields__})
    elif kind == "fingerprint":
        recording.fingerprint = Fingerprint.from_dict({name: line[name] for name in Fingerprint.__dataclass_fields__})
    elif kind in ("pass", "stretch"):
        at = finite("at", line["at"])
        pass_ = Taken(word(line, "layer"), int(line["pass"]), at, PairedPass.from_record(line))
        (recording.passes if kind == "pass" else recording.stretches).append(pass_)
    elif kind == "state" and "unknown" not in line:
        recording.states.append(State.from_dict(line))
    elif kind == "failed":
        recording.failures[word(line, "layer")] = word(line, "reason")
