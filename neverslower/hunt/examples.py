"""Keep counterexamples between hunts: the next hunt asks for them first, and drops those that are gone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neverslower.campaign.findings import Identity
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.files.writing import write_whole
from neverslower.hunt.hunting import Counterexample, Hunted
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.problem.networks import Layer

Record = Mapping[str, Any]


@dataclass(frozen=True)
class KeptExamples:
    """The examples of one backend on one device, a JSON line each in `FOLDER/<backend>@<device>.<question>.jsonl`.

    A line holds the keys of both problems and the pruned side. For people it also holds the verdict, the ratio, the
    plans and the library's version at the time. A line that can't be read stays as it is.
    """

    folder: Path
    fingerprint: Fingerprint
    question: str

    @property
    def path(self) -> Path:
        """Return the file's path; the file need not exist."""
        return self.folder / f"{self.fingerprint.folder}.{self.question}.jsonl"

    def load(self) -> tuple[list[Comparison], list[str]]:
        """Return the examples, and a warning for each line that can't be read. Raises NeverSlowerError."""
        stored, strange = self._read()
        warnings = [f"{self.path}: {line[:60]!r} is no example ({why})" for line, why in strange.items()]
        return [comparison for comparison, _ in stored.values()], warnings

    def save(self, hunted: Hunted) -> list[str]:
        """Keep what a hunt found and drop what is gone; return a line for each change. Raises NeverSlowerError."""
        stored, strange = self._read()
        kept = dict(stored)
        changes = []
        for example in (*hunted.failures, *hunted.found):
            identity, record = example.comparison.identity, self._record(example)
            if identity not in stored:
                changes.append(f"kept: {example.comparison.id}")
            if identity not in stored or _settled(record) != _settled(stored[identity][1]):
                kept[identity] = example.comparison, record
        for comparison in hunted.gone:
            if kept.pop(comparison.identity, None):
                changes.append(f"gone: {comparison.id}")
        if kept != stored:
            self._write([*strange, *(json.dumps(record, ensure_ascii=False) for _, record in kept.values())])
        return changes

    def _read(self) -> tuple[dict[Identity, tuple[Comparison, Record]], dict[str, str]]:
        """Read the file; return its examples with their records, and its other lines with the reason for each.

        Raises NeverSlowerError where the file can't be read, so that it is not replaced as if it were empty.
        """
        try:
            lines = self.path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except FileNotFoundError:
            return {}, {}
        except OSError as error:
            raise NeverSlowerError(f"{self.path} can't be read: {error.strerror}; fix or remove it") from error
        stored: dict[Identity, tuple[Comparison, Record]] = {}
        strange = {}
        for line in lines:
            try:
                record = json.loads(line)
                comparison = _comparison(self.fingerprint.backend, record)
            except (ValueError, TypeError, LookupError, RecursionError) as error:
                strange[line] = str(error)
            else:
                stored[comparison.identity] = comparison, record
        return stored, strange

    def _record(self, example: Counterexample) -> Record:
        comparison, ratio = example.comparison, example.verdict.ratio
        return {
            "reference": comparison.reference.key,
            "candidate": comparison.candidate.key,
            "side": str(comparison.side),
            "verdict": str(example.verdict.code),
            "ratio": round(ratio.estimate, 4) if ratio else None,
            "plan": " → ".join(plan.name if plan else "unknown" for plan in example.plans),
            "version": self.fingerprint.version,
        }

    def _write(self, lines: Iterable[str]) -> None:
        """Write the whole file or none of it. Raises NeverSlowerError."""
        text = "".join(f"{line}\n" for line in lines)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, text, errors="surrogateescape")
        except OSError as error:
            raise NeverSlowerError(f"{self.path} can't be written: {error.strerror}") from error


def _settled(record: Record) -> Record:
    """Return the fields that do not differ from run to run, so that a file under version control seldom changes."""
    return {name: value for name, value in record.items() if name != "ratio"}


def _comparison(backend: str, record: Record) -> Comparison:
    """Return the comparison of a line. Raises ValueError, TypeError or LookupError where the line holds none."""
    reference, candidate = (ConvProblem.from_key(str(record[name])) for name in ("reference", "candidate"))
    side = Side(record["side"])
    if reference.prune(reference.channels(side) - candidate.channels(side), side) != candidate:
        raise ValueError(f"{candidate} is not {reference} with fewer channels on the side {side}")
    return Comparison(backend, Layer("", 0, reference.descriptor, reference), candidate, side)
