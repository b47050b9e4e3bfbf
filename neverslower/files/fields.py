"""Read JSON that anybody may have edited: each field has its type, or a ValueError says what is wrong."""

from __future__ import annotations

import json
import reprlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError

T = TypeVar("T")


def read_json(path: Path, what: str, remedy: str, kind: type[NeverSlowerError]) -> Any:
    """Return the content of a JSON file. Raises `kind`, naming the file's purpose, what is wrong and the remedy."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=json_object)
    except OSError as error:
        raise kind(f"{what} {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise kind(f"{what} {path}: not whole JSON ({error}); {remedy}") from None


def json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dictionary. Raises ValueError where a name stands twice or can't be printed."""
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"{name!r} appears twice in one object")
        if not name.isprintable():  # It may end up in a report, and a control character would rewrite the terminal.
            raise ValueError(f"{name!r} is no name")
        members[name] = value
    return members


def field(record: object, name: str, kind: type[T]) -> T:
    """Return a field of a JSON object. Raises ValueError where it is missing or not of this type."""
    if not isinstance(record, dict):
        raise ValueError(f"{reprlib.repr(record)} where an object with {name} belongs")
    if name not in record:
        raise ValueError(f"{name} is missing")
    value = record[name]
    if not isinstance(value, kind) or isinstance(value, bool):  # true would pass as the number 1.
        raise ValueError(f"{name} is {reprlib.repr(value)}")
    if isinstance(value, str):
        value.encode()  # Half a surrogate pair could not be written anywhere.
    return value


def word(record: object, name: str) -> str:
    """Return a field that names something on one line. Raises ValueError."""
    value = field(record, name, str)
    if not value.isprintable():
        raise ValueError(f"{name} is {reprlib.repr(value)}")
    return value


def values(record: object, name: str, kind: type[T]) -> list[T]:
    """Return a field that lists values of one type. Raises ValueError."""
    return [field({name: value}, name, kind) for value in field(record, name, list)]


def finite(name: str, value: object) -> float:
    """Return a JSON number that a float can hold. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{name} is {reprlib.repr(value)}")
    return float(value)


def fingerprint_of(prints: Mapping[str, Any], name: str) -> Fingerprint:
    """Return the stored fingerprint of a backend. Raises ValueError."""
    stored = field(prints, name, dict)
    if word(stored, "backend") != name:
        raise ValueError(f"the fingerprint of {name} says backend {stored['backend']}")
    for part in ("device", "version", "build"):
        word(stored, part)
    for group in ("hardware", "state", "software"):
        for setting in field(stored, group, dict):
            field(stored[group], setting, str)
    if unknown := set(stored) - set(Fingerprint.__dataclass_fields__):
        raise ValueError(f"the fingerprint of {name} has {', '.join(sorted(unknown))}")
    return Fingerprint.from_dict(stored)
