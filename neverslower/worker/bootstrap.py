"""The first code that runs in a worker: sent over the wire as one file, it receives the rest and starts serving.

Needs nothing but a Python: the packages arrive as source text and are imported from memory, so that nothing is
installed on the far side and nothing is left there.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.abc
import importlib.machinery
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

PREPARING = "preparing: "
"""Begins a line on stderr that says what is prepared now, for whoever asks what a process died of."""
PR_SET_PDEATHSIG = 1
OLDEST = (3, 10)
"""The first Python that can read what is sent; this file itself is for older ones too, so that they can say so."""


class MemoryImporter(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """Imports modules from a mapping of dotted names to source text; a package's text stands under `name.`."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for a module that was sent, None for any other."""
        if fullname not in self._sources and f"{fullname}." not in self._sources:
            return None
        package = self.is_package(fullname)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=package)

    def is_package(self, fullname: str) -> bool:
        """Return whether the name is a package."""
        return f"{fullname}." in self._sources

    def get_filename(self, fullname: str) -> str:
        """Return the name that tracebacks show."""
        return f"{fullname.replace('.', '/')}{'/__init__' if self.is_package(fullname) else ''}.py"

    def get_source(self, fullname: str) -> str:
        """Return the text, for the import and for tracebacks."""
        return self._sources[f"{fullname}." if self.is_package(fullname) else fullname]


def detach(parent: int) -> None:
    """Leave the coordinator's process group, and die with it.

    A terminal's Ctrl-C must not reach a worker (the coordinator ends it), and a worker must not outlive a coordinator
    that was killed: the kernel sends it SIGKILL then, even while a call holds the interpreter's lock.
    """
    with contextlib.suppress(OSError):  # It may lead a group already, as under ssh or first in a container.
        os.setsid()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent and os.getppid() != parent:
            os._exit(1)


def main(channel: Any) -> None:
    """Receive (sources, parent process or 0, environment variables), then hand the channel to far_side.serve."""
    sources, parent, variables = channel.receive()
    if sys.version_info < OLDEST:
        now, oldest = (".".join(map(str, version)) for version in (sys.version_info[:3], OLDEST))
        channel.send(("unavailable", f"it is Python {now}, and {oldest} or newer is needed"))
        return
    os.environ.update(variables)
    detach(parent)
    os.dup2(2, 1)  # execnet speaks over descriptors of its own; what libraries print joins the last words.
    sys.meta_path.insert(0, MemoryImporter(sources))
    from neverslower.worker import far_side

    far_side.serve(channel)


if __name__ == "__channelexec__":
    main(channel)  # type: ignore[name-defined]  # noqa: F821  (execnet defines it)
