"""The fingerprint: what must match for a stored comparison, and the software that is under test."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fingerprint:
    """The device and the software of one backend.

    `hardware` and `state` must be equal for a stored comparison to mean anything. `software` holds the library and
    what surrounds it; its differences are confounders, to be named. `version` is the library's own version (PEP 440)
    and `build` distinguishes two builds of one version.
    """

    backend: str
    device: str
    version: str
    build: str
    hardware: Mapping[str, str] = field(default_factory=dict)
    state: Mapping[str, str] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Return `<backend>@<device>`, the name of this fingerprint's folder of baselines."""
        return f"{slug(self.backend)}@{slug(self.device)}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON and for the way from a worker to the coordinator."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Fingerprint:
        """Read what `as_dict` made, also for records that still keep oneDNN's name of the processor as hardware."""
        # Releases of oneDNN name one processor's isa differently: as hardware it would make upgrades incomparable.
        fields = dict(data)
        hardware, software = dict(fields.pop("hardware", {})), dict(fields.pop("software", {}))
        if isa := hardware.pop("isa", None):
            software.setdefault("onednn isa", isa)
        return cls(**fields, hardware=hardware, software=software)

    def obstacles(self, stored: Fingerprint) -> list[str]:
        """List why a comparison with `stored` would mean nothing: each differing field, as `name: stored → now`."""
        return [
            *differences("device", {"name": stored.device}, {"name": self.device}),
            *differences("hardware", stored.hardware, self.hardware),
            *differences("state", stored.state, self.state),
        ]

    def confounders(self, stored: Fingerprint) -> list[str]:
        """List the differences in software, which may explain a change, as `name: stored → now`."""
        return differences("software", stored.software, self.software)

    def changes(self, stored: Fingerprint) -> list[str]:
        """List everything that differs, obstacles first."""
        return [*self.obstacles(stored), *self.confounders(stored)]


def differences(group: str, stored: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """List the fields in which two mappings disagree, in order of name; a missing field is shown as absent."""
    names = sorted(set(stored) | set(now))
    return [
        f"{group} {name}: {short_hash(stored.get(name, 'absent'))} → {short_hash(now.get(name, 'absent'))}"
        for name in names
        if stored.get(name) != now.get(name)
    ]


def short_hash(text: str) -> str:
    """Return a text in which the hashes of commits are cut to the seven digits that git shows."""
    return re.sub(r"\b(?=[0-9]*[a-f])(?=[a-f]*[0-9])([0-9a-f]{7})[0-9a-f]{5,}\b", r"\1", text)


def slug(text: str) -> str:
    """Return a name that is safe in a path: lower case, digits, and single hyphens, dots or underscores between."""
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-._") or "unknown"
