"""Read how a user names a library's release: `pip:NAME==VERSION …`, `deb:NAME/SUITE`, `root:FOLDER`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from neverslower.errors import NeverSlowerError

PREFIXES = ("pip:", "deb:", "root:")
ARCHITECTURE = "arm64"
"""The architecture of a Debian package that names none: that of the only library that is asked for so."""
_DEB = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9+.-]+)(?::(?P<architecture>[a-z0-9]+))?"
    r"(?:/(?P<suite>[a-z][a-z0-9-]*)|=(?P<version>[A-Za-z0-9.+:~-]+))?"
)


@dataclass(frozen=True)
class PipRelease:
    """Wheels by their requirements (PEP 508); the first one names the library, the others go with it."""

    requirements: tuple[Requirement, ...]

    @property
    def library(self) -> str:
        """Return the normalised name of the package that holds the library."""
        return canonicalize_name(self.requirements[0].name)

    @property
    def version(self) -> Version | None:
        """Return the one version that the library is pinned to, None where several would do."""
        pins = [pin for pin in self.requirements[0].specifier if pin.operator == "=="]
        try:
            return Version(pins[0].version) if len(pins) == 1 else None
        except InvalidVersion:  # `9.19.*`
            return None

    @property
    def overlay(self) -> bool:
        """Return whether these are libraries of NVIDIA's alone, which are laid over this Python's own packages."""
        return all(canonicalize_name(requirement.name).startswith("nvidia-") for requirement in self.requirements)

    def __str__(self) -> str:
        return f"pip:{' '.join(map(str, self.requirements))}"


@dataclass(frozen=True)
class DebRelease:
    """A Debian package, of a suite such as `trixie`, of a version, or of whichever version apt would install."""

    name: str
    architecture: str = ARCHITECTURE
    suite: str = ""
    version: str = ""

    def __str__(self) -> str:
        which = f"/{self.suite}" if self.suite else f"={self.version}" if self.version else ""
        return f"deb:{self.name}:{self.architecture}{which}"


@dataclass(frozen=True)
class RootRelease:
    """A folder that holds the library, which the backend takes as its `root`."""

    folder: Path

    def __str__(self) -> str:
        return f"root:{self.folder}"


Release = PipRelease | DebRelease | RootRelease


def is_release(text: str) -> bool:
    """Return whether a text names a release, and not the place of a Python."""
    return text.startswith(PREFIXES)


def parse(flag: str, text: str) -> Release:
    """Read a release. Raises NeverSlowerError that names the option, the wrong word and the right form."""
    kind, _, rest = text.partition(":")
    if kind == "pip":
        return _pip(flag, rest)
    if kind == "deb":
        match = _DEB.fullmatch(rest.strip())
        if not match:
            raise NeverSlowerError(f"{flag} {text}: write deb:NAME/SUITE or deb:NAME=VERSION, one package")
        named = {key: value for key, value in match.groupdict().items() if value}
        return DebRelease(**named)
    folder = Path(rest.strip()).expanduser()
    if not rest.strip() or not folder.is_dir():
        raise NeverSlowerError(f"{flag} {text}: no such folder; name the one into which the library was unpacked")
    return RootRelease(folder.resolve())


def _pip(flag: str, text: str) -> PipRelease:
    requirements = []
    for word in text.split():
        try:
            requirement = Requirement(word)
        except InvalidRequirement as error:
            why = str(error).splitlines()[0]
            raise NeverSlowerError(f"{flag} pip:{text}: {word!r} is no requirement ({why}); {_FORM}") from None
        if requirement.url:
            raise NeverSlowerError(f"{flag} pip:{text}: {word!r} names a file, and an index is asked by name; {_FORM}")
        requirements.append(requirement)
    if not requirements:
        raise NeverSlowerError(f"{flag} pip:{text} names nothing; {_FORM}")
    if not requirements[0].specifier:
        raise NeverSlowerError(f"{flag} pip:{text}: say which version of {requirements[0].name}; {_FORM}")
    return PipRelease(tuple(requirements))


_FORM = "write 'pip:NAME==VERSION', and what goes with it after a space"
