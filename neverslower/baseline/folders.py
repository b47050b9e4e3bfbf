"""A device's folder of baselines: save under the next number, load, and choose the one to compare with."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from neverslower.baseline import exact, timed
from neverslower.baseline.entry import Baseline
from neverslower.device.fingerprint import Fingerprint, slug
from neverslower.errors import BackendNotStored, BaselineError
from neverslower.files.shown import shown
from neverslower.files.writing import written
from neverslower.judge.verdict import Code, Reason, ReasonCode, Verdict

_FILE = re.compile(r"(\d{4,})_(.+)\.jsonl?")
_ACCEPT = "accept one with --accept-baseline REASON"
SUFFIXES = (".json", ".jsonl")
"""How the files of stored runs end."""


def save(root: Path, fingerprint: Fingerprint, content: Mapping[str, Any]) -> Path:
    """Write a baseline and its table under the next free number, both whole or none; return the baseline's path.

    Raises BaselineError where the folder can't be written.
    """
    folder = root / fingerprint.folder
    with (
        _saving(folder),
        written(folder, timed.to_json(content)) as stored,
        written(folder, timed.verdict_table(content)) as table,
    ):
        path = _take_number(folder, f"{_version_words(fingerprint)}.json", stored)
        try:
            table.replace(path.with_suffix(".tsv"))
        except OSError:
            path.unlink()
            raise
        return path


def save_exact(root: Path, fingerprint: Fingerprint, text: str) -> Path:
    """Write a record of exact evidence under the next free number, and return its path.

    The name also holds the state's method and evidence, so that records of several methods can be distinguished. Raises
    BaselineError where the folder can't be written.
    """
    folder = root / fingerprint.folder
    words = "-".join(slug(fingerprint.state[name]) for name in ("method", "evidence") if name in fingerprint.state)
    with _saving(folder), written(folder, text) as stored:
        return _take_number(folder, f"{_version_words(fingerprint)}-{words}.jsonl", stored)


def _version_words(fingerprint: Fingerprint) -> str:
    build = re.sub(r"[^a-z0-9]+", "", fingerprint.build.lower())[:7]
    return slug(fingerprint.version) + (f"+{build}" if build else "")


@contextmanager
def _saving(folder: Path) -> Iterator[None]:
    """Make the folder, and turn a failure to write there into a BaselineError with the remedy."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        text = (
            f"the baseline could not be written to {folder}: {why}; fix that, or name another folder with --baselines="
        )
        raise BaselineError(text) from error


def _take_number(folder: Path, name: str, stored: Path) -> Path:
    """Give a written file its name, with the next number that no other run took meanwhile; return its path."""
    number = 1 + max((_number(path) for path in folder.glob("*.json*")), default=0)
    while True:
        path = folder / f"{number:04d}_{name}"
        try:
            os.link(stored, path)  # Unlike a rename, a link fails where the name is taken.
            return path
        except FileExistsError:
            number += 1


def load(path: Path, backend: str | None = None) -> Baseline:
    """Return the baseline in a file: the part of `backend` in a file of several, else the first.

    Raises BaselineError, naming the file, what is wrong in it and the remedy.
    """
    return exact.load(path, backend) if path.suffix == ".jsonl" else timed.load(path, backend)


@dataclass(frozen=True)
class BaselineChoice:
    """The baseline to compare with, or the verdict that stands for its absence."""

    baseline: Baseline | None
    absence: Verdict | None = None


def is_stored(path: Path) -> bool:
    """Return whether a file is a stored run by its name and its first line, and not a journal."""
    if path.suffix == ".json":
        return True
    try:
        return path.suffix == ".jsonl" and '"format"' in path.read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        return False


def choose(root: Path, fingerprint: Fingerprint, upgrade: bool) -> BaselineChoice:
    """Choose the stored run to compare with, among those of equal hardware and state.

    An `upgrade` takes the nearest lower version, else the same version; any other run takes the same version, else
    the nearest lower one. Among several of one version an equal build comes first, then the newest. Raises
    BaselineError where the folder or a baseline in it can't be read.
    """
    folder = root / fingerprint.folder
    stored = [_load_of(path, fingerprint.backend) for path in stored_files(folder)]
    equal = [baseline for baseline in stored if not fingerprint.obstacles(baseline.fingerprint)]
    if not equal:
        return BaselineChoice(None, _absence(folder, stored, fingerprint))
    lower, same = _nearest_lower(equal, fingerprint), _same_version(equal, fingerprint)
    groups = (lower, same) if upgrade else (same, lower)
    for group in groups:
        if group:
            return BaselineChoice(
                max(
                    group,
                    key=lambda baseline: (baseline.fingerprint.build == fingerprint.build, _number(baseline.path)),
                )
            )
    versions = ", ".join(sorted({baseline.fingerprint.version for baseline in equal}))
    text = f"{shown(folder)} holds only versions above {fingerprint.version} ({versions}); {_ACCEPT}"
    return BaselineChoice(None, Verdict(Code.NO_BASELINE, Reason(ReasonCode.NOT_IN_BASELINE, text)))


def _same_version(baselines: Sequence[Baseline], fingerprint: Fingerprint) -> list[Baseline]:
    now = _version(fingerprint.version)
    return [baseline for baseline in baselines if _version(baseline.fingerprint.version) == now]


def _nearest_lower(baselines: Sequence[Baseline], fingerprint: Fingerprint) -> list[Baseline]:
    """Return the baselines of the highest version below that of the fingerprint, if there is one."""
    now = _version(fingerprint.version)
    lower = [baseline for baseline in baselines if _version(baseline.fingerprint.version) < now]
    if not lower:
        return []
    nearest = max(_version(baseline.fingerprint.version) for baseline in lower)
    return [baseline for baseline in lower if _version(baseline.fingerprint.version) == nearest]


def stored_files(folder: Path) -> list[Path]:
    """Return the baselines in a folder, which need not exist, in the order in which they were accepted.

    Raises BaselineError where the folder can't be read.
    """
    try:
        return sorted(path for path in folder.glob("*.json*") if _FILE.fullmatch(path.name))
    except OSError as error:
        raise BaselineError(f"{folder} can't be read: {error.strerror}; name another with --baselines=") from error


def of_other_devices(root: Path, fingerprint: Fingerprint) -> list[str]:
    """Return the names of the folders in which other devices' baselines of the same backend are stored."""
    folders = sorted(root.glob(f"{fingerprint.backend}@*"))
    return [folder.name for folder in folders if folder.name != fingerprint.folder and stored_files(folder)]


def _load_of(path: Path, backend: str) -> Baseline:
    """Load a baseline from the folder of a backend. Raises BaselineError where it is another backend's."""
    try:
        return load(path, backend)
    except BackendNotStored as error:
        raise BaselineError(f"{error}; remove it from there") from None


def compare_with(path: Path, fingerprint: Fingerprint) -> BaselineChoice:
    """Return the baseline at `path`, or why it can't be compared with: INCOMPARABLE names the fields that differ.

    Raises BaselineError where it is no baseline, or can't be read.
    """
    if path.suffix not in SUFFIXES:
        text = f"--benchmark-compare={path}: not a baseline (NNNN_VERSION.json); write the option after the tests"
        raise BaselineError(f"{text}, or with = and a file")
    try:
        baseline = load(path, fingerprint.backend)
    except BackendNotStored as error:
        text = f"{error}; name another, or {_ACCEPT}"
        return BaselineChoice(None, Verdict(Code.NO_BASELINE, Reason(ReasonCode.NOT_IN_BASELINE, text)))
    if obstacles := fingerprint.obstacles(baseline.fingerprint):
        text = f"{path} was measured elsewhere: {'; '.join(obstacles)}; name another, or {_ACCEPT}"
        return BaselineChoice(None, Verdict(Code.INCOMPARABLE, Reason(ReasonCode.ENVIRONMENT_DIFFERS, text)))
    return BaselineChoice(baseline)


def named(root: Path, fingerprint: Fingerprint, asked: str) -> Path:
    """Return the file that --benchmark-compare names: by its path, or by the number of one of this device's.

    Raises BaselineError where it is none of both, or several.
    """
    folder, path = root / fingerprint.folder, Path(asked)
    if os.path.isfile(path):
        return path
    prefix = asked.zfill(4) if asked.isdigit() else asked
    stored = (path for path in folder.glob("*.json*") if path.suffix in SUFFIXES)
    numbered = sorted(path for path in stored if path.name.startswith(prefix))
    if len(numbered) == 1:
        return numbered[0]
    raise BaselineError(
        f"--benchmark-compare={asked}: no such file, and {len(numbered)} baselines in {folder} begin with it"
    )


def _absence(folder: Path, stored: Sequence[Baseline], fingerprint: Fingerprint) -> Verdict:
    """Return the verdict where no stored run has equal hardware and state; it names what the nearest one lacks."""
    if not stored:
        text = f"no baseline in {shown(folder)}; {_ACCEPT}"
        return Verdict(Code.NO_BASELINE, Reason(ReasonCode.NOT_IN_BASELINE, text))
    nearest = min((fingerprint.obstacles(baseline.fingerprint) for baseline in stored), key=len)
    text = f"every baseline in {shown(folder)} was measured in another state: {'; '.join(nearest)}"
    reason = Reason(ReasonCode.ENVIRONMENT_DIFFERS, f"{text}; restore it, or {_ACCEPT}")
    return Verdict(Code.INCOMPARABLE, reason)


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:  # A library built from a branch may have any word there; it counts as older than all.
        return Version("0")


def _number(path: Path) -> int:
    match = _FILE.fullmatch(path.name)
    return int(match.group(1)) if match else 0
