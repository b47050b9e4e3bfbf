"""What several adapters do alike: what a library's error says in a line, and the fingerprint of a library on the CPU.

No adapter owns this module, and it imports none of them and no vendor library.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

from neverslower.device.fingerprint import Fingerprint
from neverslower.device.readers import cpu, host
from neverslower.errors import Unavailable

Options = TypeVar("Options")


def first_line(error: BaseException) -> str:
    """Return the first line of a library's own words, or the error's type where it has none."""
    return _lines(error)[0]


def last_line(error: BaseException) -> str:
    """Return the last line of a library's own words, which a traceback of its own precedes; else the error's type."""
    return _lines(error)[-1]


def _lines(error: BaseException) -> list[str]:
    return str(error).strip().splitlines() or [type(error).__name__]


def not_installed(package: str, brought_by: str = "") -> Unavailable:
    """Return the error that says that a package is missing, and what brings it: itself unless another one is named."""
    return Unavailable(f"{package} is not installed in this Python; `pip install {brought_by or package}` installs it")


def read_argument(backend: str, argument: str, read: Callable[[str], Options]) -> Options:
    """Return `read(argument)`. Raises Unavailable with the option as the user wrote it where that is a ValueError."""
    try:
        return read(argument)
    except ValueError as error:
        raise Unavailable(f"--backend {backend}:{argument}: {error}") from None


def python_version() -> str:
    """Return this Python's version, such as `3.11.7`."""
    return ".".join(map(str, sys.version_info[:3]))


def cpu_fingerprint(
    backend: str, version: str, build: str, state: Mapping[str, str], software: Mapping[str, str]
) -> Fingerprint:
    """Return the fingerprint of a library on this machine's CPU.

    `state` and `software` are the library's own; the processor, its settings and those of the machine, and Python are
    found here.
    """
    hardware = cpu.hardware()
    return Fingerprint(
        backend=backend,
        device=f"{hardware['cpu']} {hardware['cores']}c",
        version=version,
        build=build,
        hardware=hardware,
        state={**cpu.settings(), **host.settings(), **state},
        software={**software, "python": python_version()},
    )
