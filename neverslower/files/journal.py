"""The journal of a campaign: an append-only file with one JSON line per result, flushed as it is written."""

from __future__ import annotations

import contextlib
import json
import lzma
import os
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any

from neverslower.errors import JournalError, NeverSlowerError

BEFORE = "before"
"""The journal's name for the library of `--against`, the one before the upgrade."""


class Journal:
    """Appends events to a file; what has been written survives whatever happens to the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()  # Problems that are examined side by side are written by a thread each.
        self._failed: JournalError | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            cut = _ends_in_a_part_of_a_line(path)
            # Unbuffered: a line goes out in one call, and nothing of it is kept back to be written after another.
            self._file = path.open("ab", buffering=0)
            if cut:  # A run that was killed left a part of a line; the next event begins one of its own.
                self._end_line()
        except OSError as error:
            raise JournalError(
                f"the journal {path} can't be written: {error.strerror}; name another with --journal"
            ) from error

    def _end_line(self) -> None:
        try:
            self._file.write(b"\n")
        except OSError:
            self._file.close()
            raise

    def write(self, event: str, fields: Mapping[str, Any]) -> None:
        """Append one line: the event, the time in seconds since the epoch, and its fields. Raises JournalError."""
        line = json.dumps({"event": event, "time": round(time.time(), 3), **fields}, separators=(",", ":"))
        with self._lock:
            if self._failed:  # The file may end in a part of a line, to which nothing must be added.
                raise self._failed
            try:
                self._append(f"{line}\n".encode())
            except OSError as error:
                self._failed = JournalError(
                    f"the journal {self.path} can't be written: {error.strerror}; fix that and go on with "
                    f"--resume {self.path}, or name another with --journal"
                )
                raise self._failed from error

    def _append(self, rest: bytes) -> None:
        """Write all of it; a disk that is nearly full takes a part first and fails at the next one."""
        while rest:
            rest = rest[self._file.write(rest) :]

    def close(self) -> None:
        """Close the file; `write` has already reported what could not be written."""
        with contextlib.suppress(OSError):
            self._file.close()


def new_journal(root: Path, name: str) -> Path:
    """Return a path below `root` that no other run has, so that two runs that start at once write two journals."""
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}"
    return root / ".neverslower" / f"{name}-{stamp}.jsonl"


def replay(path: Path, add: Callable[[Mapping[str, Any]], None], named: str = "--resume ") -> None:
    """Give each event of a journal to `add`, which raises whatever a malformed event makes it raise.

    A line cut short is skipped wherever it is: a killed run may have left it in the middle, where another run went on.
    A file that ends in .xz is unpacked. Raises NeverSlowerError that says what is wrong; `named` precedes the path.
    """
    try:
        content = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        lines = content.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError, lzma.LZMAError) as error:
        raise NeverSlowerError(f"{named}{path}: {getattr(error, 'strerror', None) or error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            if (event := _event(line)) is not None:
                add(event)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(lines):
                break
            what = f"line {number} is not an event of a journal ({error}); restore it, or measure again"
            raise NeverSlowerError(f"{named}{path}: {what}") from None


def _event(line: str) -> Any:
    """Return what a line holds; None where it was cut short, since no prefix of an object is valid JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _ends_in_a_part_of_a_line(path: Path) -> bool:
    """Return whether the file exists and does not end with a newline."""
    if not path.exists() or not path.stat().st_size:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
