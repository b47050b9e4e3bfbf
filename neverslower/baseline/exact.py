"""Records of exact evidence: a header and a line a comparison, so that two of them differ in the lines that changed.

`baselines/<backend>@<device>/NNNN_<version>-<method>-<evidence>.jsonl`. The same run of the same library gives the same
bytes but for the date in the header. The options that kernels were built with stand once, in the header.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from neverslower.baseline.entry import Baseline, Entry, about, entry_of, verdict_of
from neverslower.campaign.findings import Result
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import BackendNotStored, BaselineError
from neverslower.evidence.enqueue import Enqueue
from neverslower.evidence.observation import Evidence, Plan
from neverslower.files.fields import field, fingerprint_of, json_object, values, word
from neverslower.judge.verdict import STANDARD

FORMAT, SCHEMA = "never-slower exact evidence", 1


def text(fingerprint: Fingerprint, results: Mapping[str, Result], reason: str) -> str:
    """Return the text of a record; `results` are by test id, at least one, all of one kind of evidence."""
    options: dict[str, int] = {}
    rows = [_row(name, result, options) for name, result in results.items()]
    evidence = next(iter(results.values())).evidence
    header = {
        "format": FORMAT,
        "schema": SCHEMA,
        "evidence": str(evidence),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "reason": reason,
        "tolerance": STANDARD.instructions,
        "fingerprint": asdict(fingerprint),
        "options": list(options),
    }
    return "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in (header, *rows))


def _row(name: str, result: Result, options: dict[str, int]) -> dict[str, Any]:
    """Return a comparison's line: the pruned problem as it was seen, and its verdict against the unpruned one.

    `options` numbers the build options of all lines; new ones are added to it.
    """
    seen = result.candidate
    assert seen is not None
    return {
        "name": name,
        **about(result.comparison),
        "plan": seen.plan.name,
        "steps": list(seen.plan.steps),
        "options": [options.setdefault(option, len(options)) for option in seen.plan.options],
        "instructions": seen.instructions,
        "output_error": None if seen.error is None else float(f"{seen.error:.2g}"),
        "verdict": verdict_of(result.verdict),
    }


def load(path: Path, backend: str | None = None) -> Baseline:
    """Read and check a record. Raises BaselineError, naming the file, what is wrong in it and the remedy."""
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except OSError as error:
        raise BaselineError(f"baseline {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BaselineError(f"baseline {path}: not text ({error}); restore it from version control") from None
    try:
        return _baseline(path, [json.loads(line, object_pairs_hook=json_object) for line in lines], backend)
    except (ValueError, RecursionError) as error:
        text = f"baseline {path}: not a record of exact evidence ({error}); restore or remove it"
        raise BaselineError(text) from None


def _baseline(path: Path, lines: list[Any], backend: str | None) -> Baseline:
    if not lines or field(lines[0], "format", str) != FORMAT:
        raise ValueError("the first line is no header")
    header = lines[0]
    if field(header, "schema", int) > SCHEMA:
        raise BaselineError(f"baseline {path}: schema {header['schema']} is newer than {SCHEMA}; update never-slower")
    evidence = Evidence(word(header, "evidence"))
    if not evidence.exact:
        raise ValueError(f"evidence is {evidence}")
    stored = field(header, "fingerprint", dict)
    name = word(stored, "backend")
    if backend and name != backend:
        raise BackendNotStored(f"baseline {path}: holds {name}, not {backend}")
    options = values(header, "options", str)
    entries: dict[tuple[str, str], Entry] = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            entry = _entry(line, options, evidence)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
        if (entry.reference, entry.candidate) in entries:
            raise BaselineError(f"baseline {path}: {entry.name} appears twice; restore it from version control")
        entries[entry.reference, entry.candidate] = entry
    return Baseline(path, fingerprint_of({name: stored}, name), entries, evidence)


def _entry(line: Any, options: list[str], evidence: Evidence) -> Entry:
    built = values(line, "options", int)
    if any(not 0 <= number < len(options) for number in built):
        raise ValueError(f"options is {reprlib.repr(built)}")
    count = None if line.get("instructions") is None else field(line, "instructions", int)
    if count is not None and count < 1:
        raise ValueError(f"instructions is {count}")
    steps = tuple(values(line, "steps", str))
    if evidence is Evidence.INSTRUCTIONS and count is None:
        raise ValueError("instructions is missing")
    if evidence is Evidence.DISPATCH and not (steps and all(map(Enqueue.parse, steps))):
        raise ValueError(f"steps is {reprlib.repr(list(steps))}")
    plan = Plan(field(line, "plan", str), steps, options=tuple(options[number] for number in built))
    return entry_of(line, word(line, "name"), plan, instructions=count)
