"""Baselines: stored runs in pytest-benchmark's names and format, choosing among them, and accepting a new one.

`baselines/<backend>@<device>/NNNN_<version>+<build>.json` holds a benchmark a line: its samples where pytest-benchmark
looks for them, and under `extra_info` what never-slower needs beside them. A small table of verdicts lies next to it
for people to diff. The schema's number is in SCHEMA; a file of a newer one is refused, and so is one in which anything
that never-slower or pytest-benchmark reads is missing, of another kind, or no possible value. Exact evidence lies
beside them in a format of its own (exact_record), for pytest-benchmark knows nothing but times.
"""

from __future__ import annotations

import json
import os
import re
import reprlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np
from packaging.version import InvalidVersion, Version

from neverslower import exact_record
from neverslower.cause import Explanation
from neverslower.environment import Fingerprint, slug
from neverslower.errors import BackendNotStored, BaselineError
from neverslower.findings import Identity, Result
from neverslower.observation import Plan, Seconds
from neverslower.regression import levels_of, log_median
from neverslower.stored import (
    LONGEST,
    SHORTEST,
    Baseline,
    Entry,
    about,
    entry_of,
    field,
    fingerprint_of,
    finite,
    label_of,
    read_json,
    values,
    verdict_of,
    word,
)
from neverslower.verdict import Code, Interval, Reason, ReasonCode, Verdict

SCHEMA = 1
_FILE = re.compile(r"(\d{4,})_(.+)\.jsonl?")
_TABLE = ("min", "max", "mean", "stddev", "median", "iqr", "ops", "rounds", "iterations")
_HISTOGRAM = ("q1", "q3", "ld15iqr", "hd15iqr")
SUFFIXES = (".json", ".jsonl")
"""How the files of stored runs end."""


# Writing


def extra_info(result: Result, explanation: Explanation | None = None) -> dict[str, Any]:
    """What a stored benchmark says beside its samples: problem, plan, the unpruned layer's samples, and the verdict.

    The samples of a pass are `blocks` × 2 rounds, first and second round of each block by turns, in the benchmark's
    `data` (the candidate) and in `reference_seconds`; see observation.PairedPass.
    """
    comparison, verdict = result.comparison, result.verdict
    plan = result.candidate.plan if result.candidate else Plan("unknown")
    levels = levels_of(result.passes)
    return {
        "backend": comparison.backend,
        **about(comparison),
        "plan": plan.name,
        "plan_steps": list(plan.steps),
        "plan_rank": plan.rank,
        "plans_offered": plan.offered,
        "workspace_bytes": plan.workspace,
        "output_error": result.candidate.error if result.candidate else None,
        "clock": result.passes[0].clock if result.passes else None,
        "cache": result.passes[0].cache if result.passes else None,
        "cache_share": result.candidate.cache.share if result.candidate else None,
        "blocks": [len(one.seconds) for one in result.passes],
        "iterations": [list(one.iterations) for one in result.passes],
        "discarded": sum(one.discarded for one in result.passes),
        "reference_seconds": _seconds(one.reference for one in result.passes),
        "confirmation": _confirmation(result),
        "process_deviation": float(np.std(levels, ddof=1)) if len(levels) > 1 else None,
        "verdict": verdict_fields(verdict),
        "explanation": _explanation(explanation),
    }


def _explanation(explanation: Explanation | None) -> dict[str, Any] | None:
    """Why it is slower, as plain data: the cause, its evidence, the best plan's ratio, and the remedy."""
    if explanation is None:
        return None
    best, remedy = explanation.best, explanation.remedy
    return {
        "cause": str(explanation.cause),
        "evidence": list(explanation.evidence),
        "best": [best.estimate, best.low, best.high] if best else None,
        "pad_to": remedy.channels if remedy else None,
        "padded": [remedy.ratio.estimate, remedy.ratio.low, remedy.ratio.high] if remedy else None,
    }


def _confirmation(result: Result) -> dict[str, Any] | None:
    """What the fresh process measured that a SLOWER was measured in again, and the verdict before it."""
    found = result.confirmation
    if found is None or result.first is None:
        return None
    return {
        "first": verdict_fields(result.first),
        "iterations": list(found.iterations),
        "reference_seconds": _seconds([found.reference]),
        "candidate_seconds": _seconds([found.candidate]),
    }


def _seconds(parts: Iterable[Seconds]) -> list[float]:
    """Samples as they are stored: to the picosecond, which no clock reaches."""
    return [round(second, 12) for part in parts for second in part.tolist()]


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain data."""
    return {**verdict_of(verdict), "noise_floor": verdict.noise_floor, "mde": verdict.mde}


def samples(result: Result) -> list[float]:
    """The candidate's rounds in all passes, seconds per call, as they were measured."""
    return _seconds(one.candidate for one in result.passes)


def header(
    fingerprints: Mapping[str, Fingerprint], settings: Mapping[str, Any], reason: str | None = None
) -> dict[str, Any]:
    """The file's own part: schema, each backend's fingerprint, how it was measured, and why it was accepted."""
    prints = {name: one.as_dict() for name, one in fingerprints.items()}
    return {"schema": SCHEMA, "fingerprints": prints, "settings": dict(settings), "reason": reason}


def machine_info(fingerprints: Iterable[Fingerprint]) -> dict[str, Any]:
    """What pytest-benchmark compares before it warns of another machine: the devices with hardware and state."""
    known = sorted(fingerprints, key=lambda one: one.backend)
    node = ", ".join(dict.fromkeys(one.device for one in known))
    return {"node": node} | {one.backend: {**one.hardware, **one.state} for one in known}


def document(
    fingerprint: Fingerprint,
    results: Mapping[str, Result],
    reason: str,
    settings: Mapping[str, Any],
    explanations: Mapping[Identity, Explanation] | None = None,
) -> dict[str, Any]:
    """A whole baseline file; `results` are by test id, which is the benchmark's `fullname`."""
    why = explanations or {}
    return {
        "machine_info": machine_info([fingerprint]),
        "commit_info": {},
        "datetime": datetime.now(timezone.utc).isoformat(),
        "version": "never-slower",
        "never_slower": header({fingerprint.backend: fingerprint}, settings, reason),
        "benchmarks": [
            _benchmark(fullname, result, why.get(result.comparison.identity)) for fullname, result in results.items()
        ],
    }


def _benchmark(fullname: str, result: Result, explanation: Explanation | None) -> dict[str, Any]:
    name = fullname.rsplit("::", 1)[-1]
    info = extra_info(result, explanation)
    return {
        "group": None,
        "name": name,
        "fullname": fullname,
        "params": {"problem": info["problem"]},
        "param": label_of(name),
        "extra_info": info,
        "options": {"timer": info["clock"]},
        "stats": _statistics(samples(result)),
    }


def _statistics(data: Sequence[float]) -> dict[str, Any]:
    """pytest-benchmark's summary of some samples."""
    values = np.asarray(data)
    mean, deviation = float(values.mean()), float(values.std(ddof=1)) if len(data) > 1 else 0.0
    q1, median, q3 = quantiles(data, n=4, method="inclusive") if len(data) > 1 else [data[0]] * 3
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    inside = values[(values >= low) & (values <= high)]
    outside, far = int(len(values) - len(inside)), int((np.abs(values - mean) > deviation).sum())
    return {
        "min": float(values.min()),
        "max": float(values.max()),
        "mean": mean,
        "stddev": deviation,
        "rounds": len(data),
        "median": median,
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": outside,
        "stddev_outliers": far,
        "outliers": f"{far};{outside}",
        "ld15iqr": float(inside.min()),
        "hd15iqr": float(inside.max()),
        "ops": 1 / mean,
        "total": float(values.sum()),
        "data": list(data),
        "iterations": 1,
    }


def to_json(content: Mapping[str, Any]) -> str:
    """The file's text, one line a benchmark, so that a change of one shows as one line."""
    rest = {key: value for key, value in content.items() if key != "benchmarks"}
    head = json.dumps(rest, indent=1, ensure_ascii=False, allow_nan=False)
    lines = [json.dumps(one, ensure_ascii=False, allow_nan=False) for one in content["benchmarks"]]
    return head[:-2] + ',\n "benchmarks": [\n' + ",\n".join(lines) + "\n ]\n}\n"


def merge(path: Path, chosen: Sequence[Baseline]) -> None:
    """Write one file that holds the benchmarks of several baselines, for pytest-benchmark's own comparison."""
    try:
        contents = [json.loads(one.path.read_text(encoding="utf-8")) for one in chosen]
        merged = contents[0] | {
            "machine_info": machine_info(one.fingerprint for one in chosen),
            "benchmarks": [benchmark for content in contents for benchmark in content["benchmarks"]],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, to_json(merged))
    except OSError as error:
        text = f"{path} can't be written: {error.strerror}; pytest-benchmark compares with it, put --journal elsewhere"
        raise BaselineError(text) from error
    except (ValueError, RecursionError) as error:
        names = ", ".join(str(one.path) for one in chosen)
        raise BaselineError(f"baseline {names}: not plain JSON ({error}); restore it from version control") from None


def verdict_table(content: Mapping[str, Any]) -> str:
    """The table that people diff: a line a comparison, its verdict, ratio with interval, and plan."""
    rows = ["comparison\tverdict\tratio\tlow\thigh\tplan"]
    for one in content["benchmarks"]:
        info = one["extra_info"]
        ratio = [f"{value:.3f}" for value in info["verdict"]["ratio"] or ()] or ["", "", ""]
        rows.append("\t".join([one["param"], info["verdict"]["code"], *ratio, info["plan"]]))
    return "\n".join(rows) + "\n"


def save(root: Path, fingerprint: Fingerprint, content: Mapping[str, Any]) -> Path:
    """Write a baseline and its table under the next free number, both whole or none."""
    folder = root / fingerprint.folder
    with (
        _saving(folder),
        _written(folder, to_json(content)) as stored,
        _written(folder, verdict_table(content)) as table,
    ):
        path = _take_number(folder, f"{_version_words(fingerprint)}.json", stored)
        try:
            table.replace(path.with_suffix(".tsv"))
        except OSError:
            path.unlink()
            raise
        return path


def save_exact(root: Path, fingerprint: Fingerprint, text: str) -> Path:
    """Write a record of exact evidence under the next free number; its name also says the state's own words."""
    folder = root / fingerprint.folder
    words = "-".join(slug(fingerprint.state[name]) for name in ("method", "evidence") if name in fingerprint.state)
    with _saving(folder), _written(folder, text) as stored:
        return _take_number(folder, f"{_version_words(fingerprint)}-{words}.jsonl", stored)


def _version_words(fingerprint: Fingerprint) -> str:
    build = re.sub(r"[^a-z0-9]+", "", fingerprint.build.lower())[:7]
    return slug(fingerprint.version) + (f"+{build}" if build else "")


@contextmanager
def _saving(folder: Path) -> Iterator[None]:
    """Make the folder, and tell what could not be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        text = f"the baseline could not be written to {folder}: {why}; mend that, or name another with --baselines="
        raise BaselineError(text) from error


def _take_number(folder: Path, name: str, stored: Path) -> Path:
    """Give a written file its name, with the next number that no other run took meanwhile."""
    number = 1 + max((_number(path) for path in folder.glob("*.json*")), default=0)
    while True:
        path = folder / f"{number:04d}_{name}"
        try:
            os.link(stored, path)
            return path
        except FileExistsError:
            number += 1


def probe(folder: Path) -> None:
    """Make a folder, and make sure that files can be written there; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def require_storable(folder: Path, what: str) -> None:
    """What can't be stored is not measured. Raises BaselineError."""
    try:
        probe(folder)
    except OSError as error:
        text = f"no {what} can be stored in {folder}: {error.strerror}; name another folder with --baselines="
        raise BaselineError(text) from None


def write_whole(path: Path, content: str | bytes, errors: str = "strict") -> None:
    """Write a file, or replace it, so that nobody ever sees a part of it; OSError leaves an old one as it was."""
    with _written(path.parent, content, errors) as temporary:
        temporary.replace(path)


@contextmanager
def _written(folder: Path, content: str | bytes, errors: str = "strict") -> Iterator[Path]:
    """A temporary file in a folder, on disk with all of its content; gone afterwards unless it was given a name."""
    data = content.encode("utf-8", errors) if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=folder, prefix=".writing-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


# Reading


def load(path: Path, backend: str | None = None) -> Baseline:
    """Read and check a baseline: the part of `backend` in a file of several, else the first.

    Raises BaselineError, naming the file, what is wrong in it and the remedy.
    """
    if path.suffix == ".jsonl":
        return exact_record.load(path, backend)
    content = read_json(path, "baseline", "restore it from version control", BaselineError)
    try:
        own = field(content, "never_slower", dict)
        schema = field(own, "schema", int)
        if schema > SCHEMA:
            raise BaselineError(f"baseline {path}: schema {schema} is newer than {SCHEMA}; update never-slower")
        prints = field(own, "fingerprints", dict)
        name = backend or next(iter(prints), "")
        if name not in prints:
            raise BackendNotStored(f"baseline {path}: holds {', '.join(prints) or 'no backend'}, not {name or 'any'}")
        field(content, "machine_info", dict)
        entries = _entries(path, field(content, "benchmarks", list), name)
        return Baseline(path, fingerprint_of(prints, name), entries)
    except ValueError as error:
        raise BaselineError(f"baseline {path}: not a never-slower baseline ({error}); restore or remove it") from None


def _entries(path: Path, benchmarks: Iterable[object], backend: str) -> dict[tuple[str, str], Entry]:
    """The entries of one backend; what other backends and other tests stored is read by pytest-benchmark only."""
    entries: dict[tuple[str, str], Entry] = {}
    names: set[str] = set()
    for one in benchmarks:
        fullname = word(one, "fullname")
        if fullname in names:
            raise BaselineError(f"baseline {path}: {fullname} is there twice; restore it from version control")
        names.add(fullname)
        try:
            _check_summary(one)
            info = field(one, "extra_info", dict)
            if info.get("backend") != backend:
                continue
            entry = _entry(path, one, info)
        except ValueError as error:
            raise ValueError(f"{fullname}: {error}") from None
        key = (entry.reference, entry.candidate)
        if key in entries:
            raise BaselineError(f"baseline {path}: {entry.name} is there twice; restore it from version control")
        entries[key] = entry
    return entries


def _check_summary(one: object) -> None:
    """What pytest-benchmark's own comparison reads must be there."""
    stats = field(one, "stats", dict)
    for name in (*_TABLE, *_HISTOGRAM):
        finite(name, stats.get(name))
    word(stats, "outliers")
    if shadowing := {"name", "fullname", "group", "param", "params", "extra_info"} & set(stats):
        raise ValueError(f"stats has {', '.join(sorted(shadowing))}")


def _entry(path: Path, one: Any, info: Mapping[str, Any]) -> Entry:
    name = word(one, "fullname")
    if "data" not in one["stats"]:
        raise BaselineError(f"baseline {path}: {name} has no samples; save with --benchmark-save-data")
    data, reference = field(one["stats"], "data", list), field(info, "reference_seconds", list)
    for second in (*data, *reference):
        if not (isinstance(second, float) and SHORTEST <= second <= LONGEST):
            raise BaselineError(f"baseline {path}: {name} holds {reprlib.repr(second)} as a time; restore or remove it")
    if len(reference) != len(data):
        raise ValueError(f"{len(data)} samples, and {len(reference)} of the unpruned layer")
    plan = Plan(field(info, "plan", str), tuple(values(info, "plan_steps", str)))
    return entry_of(info, name, plan, _levels(data, values(info, "blocks", int)))


def _levels(data: Sequence[float], blocks: Sequence[int]) -> tuple[float, ...]:
    """The log median of each pass; a pass of n blocks has 2n rounds."""
    if sum(blocks) * 2 != len(data) or min(blocks, default=0) < 1:
        raise ValueError(f"{len(data)} samples do not make {sum(blocks)} blocks")
    ends = np.cumsum([2 * count for count in blocks])[:-1]
    return tuple(log_median(part) for part in np.split(np.asarray(data), ends) if len(part))


# Choosing


@dataclass(frozen=True)
class Choice:
    """The baseline to compare with, or the verdict that stands for its absence."""

    baseline: Baseline | None
    absence: Verdict | None = None


def choose(root: Path, fingerprint: Fingerprint, upgrade: bool) -> Choice:
    """The stored run to set this one against, among those of equal hardware and state.

    For an `upgrade` it is the nearest lower version's, else the same version's; otherwise the same version's, else
    the nearest lower one's. Of several of one version the newest counts, the same build before another.
    """
    folder = root / fingerprint.folder
    found = [_load_of(path, fingerprint.backend) for path in stored_files(folder)]
    equal = [one for one in found if not fingerprint.obstacles(one.fingerprint)]
    if not equal:
        return Choice(None, _absence(folder, found, fingerprint))
    now = _version(fingerprint.version)
    lower = [one for one in equal if _version(one.fingerprint.version) < now]
    same = [one for one in equal if _version(one.fingerprint.version) == now]
    if lower:
        nearest = max(_version(one.fingerprint.version) for one in lower)
        lower = [one for one in lower if _version(one.fingerprint.version) == nearest]
    groups = (lower, same) if upgrade else (same, lower)
    for group in groups:
        if group:
            return Choice(max(group, key=lambda one: (one.fingerprint.build == fingerprint.build, _number(one.path))))
    stored = ", ".join(sorted({one.fingerprint.version for one in equal}))
    text = f"{folder} holds only versions above {fingerprint.version} ({stored})"
    return Choice(None, Verdict(Code.NO_BASELINE, Reason(ReasonCode.NOT_IN_BASELINE, text)))


def stored_files(folder: Path) -> list[Path]:
    """The baselines in a folder, which need not be there, in the order in which they were accepted."""
    try:
        return sorted(path for path in folder.glob("*.json*") if _FILE.fullmatch(path.name))
    except OSError as error:
        raise BaselineError(f"{folder} can't be read: {error.strerror}; name another with --baselines=") from error


def _load_of(path: Path, backend: str) -> Baseline:
    """A baseline from the folder of a backend, which must be this backend's."""
    try:
        return load(path, backend)
    except BackendNotStored as error:
        raise BaselineError(f"{error}; remove it from there") from None


def compare_with(path: Path, fingerprint: Fingerprint) -> Choice:
    """The baseline at `path`, if it may be compared with: INCOMPARABLE names the field that differs."""
    if path.suffix not in SUFFIXES:
        text = f"--benchmark-compare={path}: not a baseline (NNNN_VERSION.json); write the option behind the tests"
        raise BaselineError(f"{text}, or with = and a file")
    try:
        baseline = load(path, fingerprint.backend)
    except BackendNotStored as error:
        return Choice(None, Verdict(Code.NO_BASELINE, Reason(ReasonCode.NOT_IN_BASELINE, str(error))))
    if obstacles := fingerprint.obstacles(baseline.fingerprint):
        text = f"{path} was measured elsewhere: {'; '.join(obstacles)}"
        return Choice(None, Verdict(Code.INCOMPARABLE, Reason(ReasonCode.ENVIRONMENT_DIFFERS, text)))
    return Choice(baseline)


def _absence(folder: Path, found: Sequence[Baseline], fingerprint: Fingerprint) -> Verdict:
    if not found:
        text = f"no baseline in {folder}; accept one with --accept-baseline REASON"
        return Verdict(Code.NO_BASELINE, Reason(ReasonCode.NOT_IN_BASELINE, text))
    nearest = min((fingerprint.obstacles(one.fingerprint) for one in found), key=len)
    text = f"every baseline in {folder} was measured in another state: {'; '.join(nearest)}"
    return Verdict(Code.INCOMPARABLE, Reason(ReasonCode.ENVIRONMENT_DIFFERS, text))


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def _number(path: Path) -> int:
    match = _FILE.fullmatch(path.name)
    return int(match.group(1)) if match else 0


def changes(before: Baseline | None, after: Iterable[Result]) -> list[str]:
    """What accepting would change: new and vanished comparisons, and verdicts that differ, a line each."""
    lines = []
    stored = dict(before.entries) if before else {}
    for result in after:
        entry = stored.pop((result.comparison.reference.key, result.comparison.candidate.key), None)
        now = result.verdict.code
        if entry is None:
            if before and now in (Code.SLOWER, Code.MORE):
                lines.append(f"new: {result.comparison.id} {_with_ratio(now, result.verdict.ratio)}")
        elif entry.known.code is not now:
            was = _with_ratio(entry.known.code, entry.known.ratio)
            lines.append(f"{result.comparison.id}: {was} → {_with_ratio(now, result.verdict.ratio)}")
    lines += [f"vanished: {entry.name}" for entry in stored.values()]
    return lines


def _with_ratio(code: Code, ratio: Interval | None) -> str:
    return f"{code} {ratio}" if ratio else str(code)
