"""The files that people and programs ask for of a run: its page, and its verdicts as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from neverslower.errors import NeverSlowerError
from neverslower.files import writing
from neverslower.files.shown import shown
from neverslower.page import html
from neverslower.page.account import FORMAT, Account, document

_OTHERS = (".json", ".md", ".pdf", ".png", ".svg", ".txt", ".xml")
INDEX = "index.html"
"""The name of a page for which only a folder is named."""
_BEGINNING = 4096
"""Characters at the beginning of a file within which it says what it is."""
_MARKS = {".json": ("verdicts", f'"format": "{FORMAT}"')}
"""What else than a page is written, by the end of its name, and the words by which it says so."""


@dataclass(frozen=True)
class Wanted:
    """Where the page and the verdicts go; None where they are not asked for."""

    page: Path | None = None
    verdicts: Path | None = None

    @classmethod
    def of(cls, page: str | None, verdicts: str | None, flag: str = "--report=") -> Wanted:
        """Return what the two options ask for. Raises NeverSlowerError for a name that can't be meant."""
        if verdicts is not None and not verdicts.endswith(".json"):
            raise NeverSlowerError(f"--verdicts={verdicts}: name a file that ends in .json")
        return cls(_page_path(page, flag) if page is not None else None, Path(verdicts) if verdicts else None)

    def __bool__(self) -> bool:
        """Return whether anything is asked for."""
        return bool(self.page or self.verdicts)

    def probe(self) -> None:
        """Make sure, before anything is measured, that both can be written. Raises NeverSlowerError."""
        for flag, path in (("--report", self.page), ("--verdicts", self.verdicts)):
            try:
                if path is not None:
                    require_free(path)
                    writing.probe(path.parent)
            except OSError as error:
                raise NeverSlowerError(f"{flag}={path} can't be written: {error.strerror}; name another") from None

    def write(self, account: Account) -> Iterator[str]:
        """Write what is asked for, and yield a line about each: the path, or why it could not be written."""
        for what, path, text in self.texts(account):
            try:
                store(path, text)
                yield f"{what}: {shown(path)}"
            except NeverSlowerError as error:
                yield f"ERROR: no {what}: {error}"

    def texts(self, account: Account) -> Iterator[tuple[str, Path, str]]:
        """Yield (what, where, text) of each file that is asked for."""
        if self.page:
            yield "page", self.page, html.page(account)
        if self.verdicts:
            yield "verdicts", self.verdicts, as_json(account)


def _page_path(named: str, flag: str) -> Path:
    """Return the file that a page goes to: FILE.html, or index.html in a folder. Raises NeverSlowerError."""
    path = Path(named)
    if named.endswith((".html", ".htm")):
        return path
    if not named or (path.suffix in _OTHERS and not path.is_dir()):
        raise NeverSlowerError(f"{flag}{named} can't be a page: name a file that ends in .html, or a folder")
    return path / INDEX


def require_free(path: Path) -> None:
    """Raise NeverSlowerError where a folder has this name, or a file that nothing here has written.

    Pages and verdicts are written again; everything else of that name is somebody's.
    """
    if path.is_dir():
        raise NeverSlowerError(f"{shown(path)} is a folder: name a file in it, or another one")
    what, mark = _MARKS.get(path.suffix, ("a page of never-slower", html.MARK))
    begins = _beginning(path)
    if begins.strip() and mark not in begins:
        raise NeverSlowerError(f"{shown(path)} exists, and does not hold {what}: name another file, or remove it")


def _beginning(path: Path) -> str:
    """Return the first characters of a file, none of one that is not there. Raises NeverSlowerError."""
    try:
        if not path.is_file():  # A pipe would wait. What is wrong with a folder is said where it is probed.
            return ""
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_BEGINNING)
    except OSError as error:
        raise NeverSlowerError(f"{shown(path)} can't be written: {error.strerror}; name another file") from error


def as_json(account: Account) -> str:
    """Return the text of a file of verdicts; docs/reference/verdicts.schema.json describes it."""
    return json.dumps(document(account), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def store(path: Path, text: str) -> None:
    """Write a file, whole or not at all. Raises NeverSlowerError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writing.write_whole(path, text, errors="replace")
    except OSError as error:
        raise NeverSlowerError(f"{path} can't be written: {error.strerror}; name another file") from error
