"""Counterexamples that are kept: what a hunt found is asked for first by the next one, and dropped once it is gone."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neverslower.comparison import Comparison
from neverslower.environment import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.findings import Identity
from neverslower.hunt import Counterexample, Hunted
from neverslower.layers import Layer
from neverslower.problem import ConvProblem, Side

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Kept:
    """The examples of one backend on one device, a JSON line each in `FOLDER/<backend>@<device>.jsonl`.

    A line holds the keys of both problems and the pruned side, and for people the ratio, the plans and the library's
    version when it was found.
    """

    folder: Path
    fingerprint: Fingerprint

    @property
    def path(self) -> Path:
        """The file, which need not exist."""
        return self.folder / f"{self.fingerprint.folder}.jsonl"

    def load(self) -> tuple[list[Comparison], list[str]]:
        """The examples, and a line of warning for each that can't be read."""
        found, warnings = self._read()
        return [one for one, _ in found.values()], warnings

    def save(self, hunted: Hunted) -> list[str]:
        """Keep what was found and drop what is gone; returns what changed, a line each. Raises NeverSlowerError."""
        stored, _ = self._read()
        kept = dict(stored)
        changes = []
        for one in hunted.found:
            identity, record = one.comparison.identity, self._record(one)
            if identity not in stored:
                changes.append(f"kept: {one.comparison.id}")
            if identity not in stored or _settled(record) != _settled(stored[identity][1]):
                kept[identity] = one.comparison, record
        for comparison in hunted.gone:
            if kept.pop(comparison.identity, None):
                changes.append(f"gone: {comparison.id}")
        if kept != stored:
            self._write(record for _, record in kept.values())
        return changes

    def _read(self) -> tuple[dict[Identity, tuple[Comparison, Record]], list[str]]:
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return {}, []
        except OSError as error:
            return {}, [f"{self.path} can't be read: {error.strerror}"]
        found: dict[Identity, tuple[Comparison, Record]] = {}
        warnings = []
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                comparison = _comparison(self.fingerprint.backend, record)
            except (ValueError, TypeError, LookupError, RecursionError) as error:
                warnings.append(f"{self.path}, line {number} is no example, and left out: {error}")
            else:
                found[comparison.identity] = comparison, record
        return found, warnings

    def _record(self, found: Counterexample) -> Record:
        comparison, ratio = found.comparison, found.verdict.ratio
        return {
            "reference": comparison.reference.key,
            "candidate": comparison.candidate.key,
            "side": str(comparison.side),
            "ratio": round(ratio.estimate, 4) if ratio else None,
            "plan": " → ".join(plan.name if plan else "unknown" for plan in found.plans),
            "version": self.fingerprint.version,
        }

    def _write(self, records: Iterable[Record]) -> None:
        """The whole file or none of it."""
        text = "".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, prefix=".writing-")
            temporary = Path(name)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                temporary.chmod(0o644)
                temporary.replace(self.path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise NeverSlowerError(f"{self.path} can't be written: {error.strerror}") from error


def _settled(record: Record) -> Record:
    """What does not differ from one run to the next, so that a file that is kept under version control rests."""
    return {name: value for name, value in record.items() if name != "ratio"}


def _comparison(backend: str, record: Record) -> Comparison:
    """The comparison of a line. Raises ValueError, TypeError or LookupError for what is none."""
    reference, candidate = ConvProblem.from_key(record["reference"]), ConvProblem.from_key(record["candidate"])
    side = Side(record["side"])
    if reference.prune(reference.channels(side) - candidate.channels(side), side) != candidate:
        raise ValueError(f"{candidate} is not {reference} with fewer {side}put channels")
    return Comparison(backend, Layer("", 0, reference.descriptor, reference), candidate, side)
