"""One mutant as data: a lie, the change that tells it, and the selftest that must not believe it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

DOORS = "doors"
"""The room of modules that lie in no folder of their own: options, run, cli, the plugin."""


class Stale(Exception):
    """The mutant fits the sources no more: what it stood for is no longer proved."""


@dataclass(frozen=True)
class Mutant:
    """In the file `path`, `old` becomes `new`; then the selftest `caught_by` must fail, a function by its pytest id."""

    name: str
    lie: str
    path: str
    old: str
    new: str
    caught_by: str

    @property
    def room(self) -> str:
        """Return the room that the changed file lives in: `judge`, `backends`, or `doors`."""
        folders = PurePosixPath(self.path).parent.parts
        inside = folders[1:] if folders[:1] == ("neverslower",) else folders
        return inside[0] if inside else DOORS

    def applied(self, text: str) -> str:
        """The file's text with the lie in it. Raises Stale."""
        found = text.count(self.old)
        if found != 1:
            raise Stale(f"the old text stands {found} times in {self.path}, not once: {_one_line(self.old)}")
        changed = text.replace(self.old, self.new)
        if changed == text:
            raise Stale("the new text is the old one")
        try:
            compile(changed, self.path, "exec")
        except SyntaxError as error:  # It would fail any selftest, and prove nothing.
            raise Stale(f"{self.path} is no Python any more: {error}") from None
        return changed

    def check(self, root: Path) -> None:
        """Raise Stale where it does not apply to this tree, or its selftest is not there."""
        self.applied(_text(root / self.path))
        path, _, function = self.caught_by.partition("::")
        if f"def {function}(" not in _text(root / path):
            raise Stale(f"{path} has no {function}")

    def tell(self, root: Path) -> None:
        """Write the lie into a copy of the tree. Raises Stale."""
        path = root / self.path
        changed = self.applied(_text(path))
        path.write_text(changed, encoding="utf-8")
        # Bytecode is known by the second and the size of its source, and the copy may be younger than a second.
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise Stale(f"{path.name} is not there") from None


def _one_line(text: str) -> str:
    return " ".join(text.split())
