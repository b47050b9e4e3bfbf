"""Which machine code a process runs: a hash of the files of the vendor's libraries that it has loaded.

Two libraries run equal code where these files are equal and both launch the same kernels with the same grids, which
`Plan.same_work` asks for. Hashing half a gigabyte takes a second, so that what was found of a file is remembered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from neverslower.errors import KeptFolderError
from neverslower.files.kept import KeptFolders, default_root

PLACE = "hashes"
"""The folder in which hashes are remembered, in the user's own cache."""
CHUNK, SHORT = 1 << 20, 16
_MAPS = Path("/proc/self/maps")


def code_of_loaded(names: Sequence[str], maps: Path = _MAPS) -> str:
    """Return a hash of the loaded libraries whose files' names begin so; empty where there are none, or none is known.

    Files are told apart by name and content, wherever they lie.
    """
    try:
        found = sorted((path.name, _hash(path)) for path in set(_loaded(names, maps)))
    except (OSError, RuntimeError):  # RuntimeError: the user has no home to remember anything in.
        return ""
    text = "\n".join(f"{name} {content}" for name, content in found)
    return hashlib.sha256(text.encode()).hexdigest()[:SHORT] if found else ""


def _loaded(names: Sequence[str], maps: Path) -> Iterator[Path]:
    """Yield the mapped files whose names begin so. Raises OSError where this system does not list them."""
    for line in maps.read_text(encoding="utf-8", errors="replace").splitlines():
        path = line.partition("/")[2]
        if path and path.rpartition("/")[2].startswith(tuple(names)):
            yield Path(f"/{path}")


def _hash(path: Path) -> str:
    # The time of modification may be that of a package, equal in two releases; nothing can set st_ctime.
    state = path.stat()
    return _hash_of(path, state.st_size, state.st_ino, state.st_ctime_ns)


@cache
def _hash_of(path: Path, size: int, number: int, changed: int) -> str:
    """Return the hash of a file with this size, inode and time of its last change, as it is remembered or now."""
    store = KeptFolders(default_root() / PLACE)
    fields = {"kind": "hash", "file": str(path), "bytes": str(size), "inode": str(number), "changed": str(changed)}
    if folder := store.find(fields):
        return (folder / "sha256").read_text(encoding="utf-8")
    content = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            content.update(chunk)
    digest = content.hexdigest()
    with suppress(KeptFolderError):
        store.add(fields, lambda folder: _write(folder, digest))
    return digest


def _write(folder: Path, digest: str) -> None:
    (folder / "sha256").write_text(digest, encoding="utf-8")
