"""Writing files whole: another process never sees a part of one, and a failure leaves the old one as it was."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neverslower.errors import BaselineError


def probe(folder: Path) -> None:
    """Make a folder, and make sure that files can be written there; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def require_storable(folder: Path, what: str) -> None:
    """What can't be stored is not measured. Raises BaselineError."""
    try:
        probe(folder)
    except OSError as error:
        text = f"no {what} can be stored in {folder}: {error.strerror}; name another folder with --baselines="
        raise BaselineError(text) from None


def write_whole(path: Path, content: str | bytes, errors: str = "strict") -> None:
    """Write a file, or replace it, so that nobody ever sees a part of it; OSError leaves an old one as it was."""
    with written(path.parent, content, errors) as temporary:
        temporary.replace(path)


@contextmanager
def written(folder: Path, content: str | bytes, errors: str = "strict") -> Iterator[Path]:
    """A temporary file in a folder, on disk with all of its content; gone afterwards unless it was given a name."""
    data = content.encode("utf-8", errors) if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=folder, prefix=".writing-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
