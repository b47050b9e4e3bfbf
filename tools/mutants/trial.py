"""Trying mutants: copies of the tree, pytest in each, and what its answer means."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from xml.etree import ElementTree

from tools.mutants.mutant import Mutant

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=ci", "--rootdir=.")
"""Derandomized, so that a mutant that is caught once is caught every time; ids begin at the tree's root."""
LIMIT = 300.0
"""Seconds that selftests may take; a mutant may make them hang."""
TESTS_FAILED = 1
LAST_LINES = 15


class NotSound(Exception):
    """Nothing can be said of any mutant: the selftests do not pass without one, or there is no tree to copy."""


class Fate(Enum):
    """What became of a mutant."""

    CAUGHT = "caught"
    SURVIVED = "SURVIVED"
    NOT_TRIED = "NOT TRIED"
    """pytest stumbled before the selftest could fail, which is no catch."""


@dataclass(frozen=True)
class Trial:
    """A mutant, its fate, the seconds that it took, and of one that was not caught what pytest said."""

    mutant: Mutant
    fate: Fate
    seconds: float
    words: str = ""


@dataclass(frozen=True)
class Ran:
    """One run of pytest: exit code (None where it was ended at the limit), its words, and each test's outcome."""

    code: int | None
    words: str
    outcomes: tuple[tuple[str, str], ...]

    def of(self, test: str) -> set[str]:
        """The outcomes of a test function, of all its parameters: `passed`, `failed`, `error` or `skipped`."""
        return {outcome for name, outcome in self.outcomes if name.partition("[")[0] == test}


def tracked(root: Path) -> list[str]:
    """The files of the tree that git knows, as they are now. Raises NotSound where git can't say."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotSound(f"git must list the files of {root}: {getattr(error, 'stderr', None) or error}") from None
    return [name for name in listed.stdout.split("\0") if name and (root / name).is_file()]


class Trials:
    """Tries mutants on copies of a tree, `at_once` in parallel; `limit` is that of one run of pytest."""

    def __init__(self, root: Path, files: Sequence[str], at_once: int = 2, limit: float = LIMIT) -> None:
        self._root, self._files, self._at_once, self._limit = root, files, at_once, limit

    @contextmanager
    def of(self, mutants: Sequence[Mutant]) -> Iterator[Iterator[Trial]]:
        """Each mutant's trial in their order, as it ends; no copy is left behind. Raises NotSound, before any."""
        with tempfile.TemporaryDirectory(prefix="mutants-") as name:
            sound = Path(name) / "sound"
            self._copy(sound)
            self._require_sound(sound, [one.caught_by for one in mutants])
            executor = ThreadPoolExecutor(self._at_once)
            try:
                yield executor.map(lambda one: self._try(one, sound), mutants)
            finally:
                executor.shutdown(cancel_futures=True)

    def _copy(self, folder: Path) -> None:
        for name in self._files:
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self._root / name, place)

    def _require_sound(self, folder: Path, tests: Iterable[str]) -> None:
        wanted = sorted(set(tests))
        shares = [share for number in range(self._at_once) if (share := wanted[number :: self._at_once])]
        with ThreadPoolExecutor(self._at_once) as executor:
            for ran, share in zip(executor.map(lambda some: self._pytest(folder, some), shares), shares, strict=True):
                if unsound := [test for test in share if ran.of(test) - {"skipped"} != {"passed"}]:
                    raise NotSound(f"these do not pass without a mutant:\n{_lines(unsound)}\n{ran.words}")

    def _try(self, mutant: Mutant, sound: Path) -> Trial:
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(dir=sound.parent) as name:
            copy = Path(name) / "tree"
            shutil.copytree(sound, copy)  # With its bytecode, which needs a second to be made again.
            mutant.tell(copy)
            ran = self._pytest(copy, [mutant.caught_by], "-x")
        fate = fate_of(ran, mutant.caught_by)
        return Trial(mutant, fate, time.monotonic() - begin, "" if fate is Fate.CAUGHT else ran.words)

    def _pytest(self, folder: Path, tests: Sequence[str], *options: str) -> Ran:
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            report = Path(scratch) / "report.xml"
            # A package that is installed in place must not be found where it is installed from.
            variables = os.environ | {"PYTHONPATH": str(folder), "TMPDIR": scratch}
            variables.pop("PYTEST_ADDOPTS", None)
            command = [sys.executable, *PYTEST, f"--junitxml={report}", *options, *tests]
            try:
                done = subprocess.run(
                    command, cwd=folder, env=variables, capture_output=True, text=True, timeout=self._limit, check=False
                )
            except subprocess.TimeoutExpired:
                return Ran(None, f"ended after {self._limit:g} s", ())
            return Ran(done.returncode, _last_lines(done.stdout + done.stderr), tuple(_outcomes(report)))


def fate_of(ran: Ran, test: str) -> Fate:
    """A mutant is caught by its own selftest, which failed by itself, and by nothing else."""
    if ran.code == TESTS_FAILED and "failed" in ran.of(test):
        return Fate.CAUGHT
    return Fate.SURVIVED if ran.code == 0 and "passed" in ran.of(test) else Fate.NOT_TRIED


def _outcomes(report: Path) -> Iterator[tuple[str, str]]:
    """(pytest's id, outcome) of each test in a JUnit file; a failure is the test's own, an error its fixtures'."""
    try:
        cases = ElementTree.parse(report).iter("testcase")
    except (OSError, ElementTree.ParseError):
        return
    words = {"failure": "failed", "error": "error", "skipped": "skipped"}
    for case in cases:
        path = case.get("classname", "").replace(".", "/")
        found = [words[child.tag] for child in case if child.tag in words]
        yield f"{path}.py::{case.get('name')}", found[0] if found else "passed"


def _last_lines(words: str) -> str:
    return "\n".join(words.strip().splitlines()[-LAST_LINES:])


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(f"    {text}" for text in texts)
