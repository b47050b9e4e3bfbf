"""One adapter per library; a new one is a module here and a line in the table."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from typing import cast

from backends.base import AdapterModule, Capabilities, Command
from neverslower.errors import UnknownName

TABLE = {
    "onednn": "backends.onednn",
    "cudnn": "backends.cudnn",
    "tvm": "backends.tvm",
    "acl": "backends.acl",
    "scripted": "backends.scripted",
}
FOR_TESTING = "scripted"
"""The backend without a library; users are not asked to look at it."""


def load(name: str) -> AdapterModule:
    """Return the adapter module of a backend, without loading its vendor library. Raises UnknownName."""
    if name not in TABLE:
        close = difflib.get_close_matches(name, TABLE, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UnknownName(f"unknown backend {name!r}{hint} (known: {', '.join(TABLE)})")
    return cast(AdapterModule, importlib.import_module(TABLE[name]))


def capabilities(name: str, argument: str) -> Capabilities:
    """Return what a backend can be asked for where it is named with this argument, without loading its library."""
    module = load(name)
    of_argument = getattr(module, "capabilities_of", None)
    return cast(Capabilities, of_argument(argument)) if of_argument else module.CAPABILITIES


def remedy(name: str) -> str:
    """Return the command that installs a backend's libraries."""
    capabilities = load(name).CAPABILITIES
    return f"pip install {' '.join(capabilities.packages or capabilities.modules)}"


def missing_modules(name: str) -> list[str]:
    """Return the libraries of a backend that this Python can't find, without importing any."""
    return [module for module in load(name).CAPABILITIES.modules if importlib.util.find_spec(module) is None]


def commands(kind: str) -> tuple[Command, ...]:
    """Return the commands of one kind, such as BUILD, that adapters add to the command line."""
    offered = (getattr(load(name), kind, None) for name in TABLE)
    return tuple(command for command in offered if command)
