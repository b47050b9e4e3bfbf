"""Folders of things that are costly to make again, found by what went into them, and bounded in size.

Each entry is a folder with a manifest that holds the fields of its key and a digest of every file. An entry whose
manifest names another key, or whose files are not as they were written, is dropped and made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from neverslower.errors import KeptFolderError

LIMIT = 512_000_000
"""The bytes that all entries may take together unless another limit is given."""
LIMIT_OF_TREES = 20_000_000_000
"""The same of what is as large as an environment."""
DAY = 86400.0
TRIMMED_EVERY = 64
"""Entries that one process adds between two looks at the whole store, which read every entry."""
MANIFEST = "manifest.json"
_UNFINISHED = ".new-"
_PLACE = re.compile("[0-9a-f]{32}")
_STALE = 3600.0
"""Seconds after which an unfinished entry must be left over from a killed process."""

Fields = Mapping[str, str]


def default_root() -> Path:
    """Return the user's folder for what can be made again (XDG Base Directory Specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "never-slower"


@dataclass(frozen=True)
class KeptFolder:
    """One entry: where it lies, what it was made from, its bytes, and when it was last used."""

    path: Path
    fields: Fields
    size: int
    used: float


class KeptFolders:
    """Kept folders by key; several processes may share them, since an entry appears whole, by one rename."""

    trimmed_every, spared, stale = TRIMMED_EVERY, 0.0, _STALE

    def __init__(self, root: Path, limit: int = LIMIT) -> None:
        self.root, self.limit = root, limit
        self._added = 0

    def find(self, fields: Fields) -> Path | None:
        """Return the intact folder that was made from exactly these fields; None if there is none."""
        folder = self._place(fields)
        if not folder.is_dir():
            return None
        if self._intact(folder, fields):
            with suppress(OSError):
                os.utime(folder)  # The time of last use, by which `_trim` chooses.
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        return None

    def add(self, fields: Fields, fill: Callable[[Path], None]) -> Path:
        """Let `fill` write the files of a new entry, and keep it. Raises KeptFolderError if nothing can be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.root))
        except OSError as error:
            raise self._unwritable(error) from error
        # Filled under a name that no reader looks at, and renamed when whole: a killed process leaves no half entry.
        try:
            fill(folder)
            _write_manifest(folder, fields, self._described(folder))
            kept = self._keep(folder, fields)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if self._added % self.trimmed_every == 0:
            self._trim(kept)
        self._added += 1
        return kept

    def _unwritable(self, error: OSError) -> KeptFolderError:
        return KeptFolderError(
            f"{self.root} can't be written: {error.strerror or error}; name another folder in XDG_CACHE_HOME"
        )

    def _keep(self, folder: Path, fields: Fields) -> Path:
        """Rename the folder to its final place; where another process was faster, its entry is as good."""
        place = self._place(fields)
        for _ in range(2):
            try:
                folder.rename(place)
                return place
            except OSError:
                if theirs := self.find(fields):  # `find` removes what is damaged, so the next rename succeeds.
                    return theirs
        folder.rename(place)
        return place

    def _place(self, fields: Fields) -> Path:
        # Sorted, for the order of the fields is no part of the key; 128 bits are beyond any collision by chance.
        text = json.dumps(dict(sorted(fields.items())), separators=(",", ":"))
        return self.root / hashlib.sha256(text.encode()).hexdigest()[:32]

    def entries(self) -> list[KeptFolder]:
        """Return every entry, the least recently used first."""
        return sorted(self._entries(), key=lambda kept: kept.used)

    def _entries(self) -> Iterator[KeptFolder]:
        if not self.root.is_dir():
            return
        for path in self.root.iterdir():
            with suppress(OSError):  # Another process may remove it meanwhile.
                if path.is_dir() and _PLACE.fullmatch(path.name):
                    yield KeptFolder(path, _fields(path), self._size(path), path.stat().st_mtime)

    def _size(self, folder: Path) -> int:
        """Return the bytes of an entry."""
        return sum(file.stat().st_size for file in folder.iterdir())

    def _described(self, folder: Path) -> dict[str, str]:
        """Return what a manifest says of an entry's files, by which it is seen whether they are as they were."""
        return {path.name: _digest(path) for path in sorted(folder.iterdir())}

    def _intact(self, folder: Path, fields: Fields) -> bool:
        """Return whether an entry was made from these fields and its files are those that were written."""
        return _intact(folder, fields)

    def _trim(self, newest: Path) -> None:
        """Drop the least recently used entries beyond the limit, and what killed processes left."""
        entries = self.entries()
        total = sum(entry.size for entry in entries)
        for entry in entries:
            if total <= self.limit:
                break
            # What was just made is about to be used, however large it is; and others may be in use.
            if entry.path != newest and not (self.spared and time.time() - entry.used < self.spared):
                shutil.rmtree(entry.path, ignore_errors=True)
                total -= entry.size
        self._drop_unfinished()

    def _drop_unfinished(self) -> None:
        """Drop what killed processes left, and nothing that may still be in the making."""
        for path in self.root.glob(f"{_UNFINISHED}*"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > self.stale:
                    shutil.rmtree(path, ignore_errors=True)

    def clear(self) -> tuple[int, int]:
        """Remove every entry, and what killed processes left; return how many entries there were and their bytes."""
        self._drop_unfinished()
        entries = self.entries()
        for entry in entries:
            shutil.rmtree(entry.path, ignore_errors=True)
        return len(entries), sum(entry.size for entry in entries)


def others(but: Collection[str]) -> list[tuple[Path, int]]:
    """Return what else is kept in the user's folder, `but` folders of these names, each with its bytes.

    They have no bound and no entries: what apt knows of suites, and programs that were built.
    """
    root = default_root()
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name not in but) if root.is_dir() else []
    return [(folder, _bytes_in(folder)) for folder in folders]


def _bytes_in(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # Another process may remove it meanwhile.
            size += path.lstat().st_size if path.is_file() else 0
    return size


class KeptTrees(KeptFolders):
    """Kept folders with folders in them, such as an environment: too large for a digest of every file.

    What was used within a day is not dropped for the sake of another, since a run may still be using it.
    """

    trimmed_every, spared, stale = 1, DAY, DAY

    def __init__(self, root: Path, limit: int = LIMIT_OF_TREES) -> None:
        super().__init__(root, limit)

    def _described(self, folder: Path) -> dict[str, str]:
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        return {"files": str(len(files)), "bytes": str(sum(path.stat().st_size for path in files))}

    def _size(self, folder: Path) -> int:
        try:
            return int(_manifest(folder)["files"]["bytes"])
        except (OSError, ValueError, KeyError):
            return 0

    def _intact(self, folder: Path, fields: Fields) -> bool:
        return dict(_fields(folder)) == dict(fields)


def _fields(folder: Path) -> Fields:
    """Return what an entry was made from; {} where its manifest can't be read, because it takes room all the same."""
    try:
        return _manifest(folder)["fields"]
    except (OSError, ValueError):
        return {}


def _manifest(folder: Path) -> dict[str, dict[str, str]]:
    """Return the manifest of an entry. Raises ValueError where it is malformed."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if not (
        isinstance(manifest, dict)
        and isinstance(manifest.get("fields"), dict)
        and isinstance(manifest.get("files"), dict)
    ):
        raise ValueError(f"{folder}: not a manifest")
    return manifest


def _write_manifest(folder: Path, fields: Fields, files: Mapping[str, str]) -> None:
    text = json.dumps({"fields": dict(fields), "files": dict(files)}, indent=1)
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _intact(folder: Path, fields: Fields) -> bool:
    """Return whether an entry was made from these fields and its files are those that were written."""
    try:
        manifest = _manifest(folder)
        names = {path.name for path in folder.iterdir()} - {MANIFEST}
        return (
            manifest["fields"] == dict(fields)
            and names == set(manifest["files"])
            and all(_digest(folder / name) == digest for name, digest in manifest["files"].items())
        )
    except (OSError, ValueError):
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
