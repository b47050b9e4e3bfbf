"""Reading the lies: lies/ROOM.toml holds those that a room's files could tell, a table each, named for its mutant.

A table has the fields of `Mutant` but its name. Every `old` stands exactly once in its file; keep it short, so that it
outlives the code around it. Text of several lines stands between `'''`, where nothing is escaped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from tools.mutants.mutant import Mutant

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIES = Path(__file__).resolve().parent / "lies"
FIELDS = {field.name for field in fields(Mutant)} - {"name"}


class Malformed(Exception):
    """A file of lies can't be read; the message names the file and the entry."""


def read(folder: Path = LIES) -> tuple[Mutant, ...]:
    """Return the mutants of all rooms, in the order of the rooms' names and of their files. Raises Malformed."""
    files: dict[str, str] = {}
    mutants = []
    for path in sorted(folder.glob("*.toml")):
        for mutant in _of_room(path):
            if mutant.name in files:
                raise Malformed(f"{path.name}: [{mutant.name}] is in {files[mutant.name]} already")
            files[mutant.name] = path.name
            mutants.append(mutant)
    return tuple(mutants)


def _of_room(path: Path) -> Iterator[Mutant]:
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:  # A name that stands twice in a file is among them.
        raise Malformed(f"{path.name}: {error}") from None
    for name, entry in entries.items():
        mutant = Mutant(name, **_texts(f"{path.name}: [{name}]", entry))
        if mutant.room != path.stem:
            raise Malformed(f"{path.name}: [{name}] changes {mutant.path}, so it belongs in {mutant.room}.toml")
        yield mutant


def _texts(where: str, entry: object) -> dict[str, str]:
    """Return the fields of an entry, all of them text. Raises Malformed."""
    if not isinstance(entry, dict):
        raise Malformed(f"{where} is no table")
    if missing := FIELDS - set(entry):
        raise Malformed(f"{where} lacks {', '.join(sorted(missing))}")
    if unknown := set(entry) - FIELDS:
        raise Malformed(f"{where} has {', '.join(sorted(unknown))}, which no mutant has")
    if wrong := [field for field in sorted(FIELDS) if not isinstance(entry[field], str)]:
        raise Malformed(f"{where} has {', '.join(wrong)} that is no text")
    return entry
