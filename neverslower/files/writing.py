"""Write files whole: another process never sees a part of one, and a failure leaves the old one as it was."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from neverslower.errors import BaselineError


def probe(folder: Path) -> None:
    """Make a folder, and make sure that files can be written there. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def require_storable(folder: Path, what: str) -> None:
    """Check before measuring that the result can be stored. Raises BaselineError."""
    try:
        probe(folder)
    except OSError as error:
        text = f"no {what} can be stored in {folder}: {error.strerror}; name another folder with --baselines="
        raise BaselineError(text) from None


def write_whole(path: Path, content: str | bytes, errors: str = "strict") -> None:
    """Write or replace a file so that nobody ever sees a part of it. Raises OSError, and then the old file stays."""
    with written(path.parent, content, errors) as temporary:
        temporary.replace(path)


@contextmanager
def written(folder: Path, content: str | bytes, errors: str = "strict") -> Iterator[Path]:
    """Yield a temporary file, on disk with all of its content; it is removed afterwards unless it was renamed."""
    data = content.encode("utf-8", errors) if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=folder, prefix=".writing-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # Before the rename, or a power cut could leave the new name with no content.
        temporary.chmod(0o644)  # mkstemp makes it for this user alone; baselines are read by others.
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def append(path: Path, text: str) -> None:
    """Add text to the end of a file; where it can't be written nothing is lost that is not elsewhere too."""
    with suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write(text)
