"""Baselines of times: stored runs in pytest-benchmark's names and format.

`baselines/<backend>@<device>/NNNN_<version>+<build>.json` holds a benchmark a line: its samples where pytest-benchmark
looks for them, and under `extra_info` what never-slower needs in addition. A small table of verdicts lies next to it
for people to diff. The schema's number is in SCHEMA; a file of a newer one is refused, and so is one in which anything
that never-slower or pytest-benchmark reads is missing, of another kind, or no possible value. Exact evidence lies next
to them in a format of its own (exact.py), since pytest-benchmark knows nothing but times.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np

from neverslower.baseline.entry import LONGEST, SHORTEST, Baseline, Entry, about, entry_of, label_of, verdict_of
from neverslower.campaign.findings import Identity, Result
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import BackendNotStored, BaselineError
from neverslower.evidence.observation import Plan, Seconds
from neverslower.files.fields import field, fingerprint_of, finite, read_json, values, word
from neverslower.files.writing import write_whole
from neverslower.judge.cause import Explanation
from neverslower.judge.change import levels_of, log_median
from neverslower.judge.verdict import Verdict

SCHEMA = 1
# The fields of `stats` that pytest-benchmark's table, and its histogram, read without looking whether they are there.
_TABLE = ("min", "max", "mean", "stddev", "median", "iqr", "ops", "rounds", "iterations")
_HISTOGRAM = ("q1", "q3", "ld15iqr", "hd15iqr")


# Writing


def extra_info(result: Result, explanation: Explanation | None = None) -> dict[str, Any]:
    """Return what a stored benchmark holds in addition to its samples: problem, plan, reference samples, and verdict.

    The samples of a pass are `blocks` × 2 rounds, alternating between the first and the second round of a block, in
    the benchmark's `data` (the candidate) and in `reference_seconds`; see observation.PairedPass.
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
        "blocks": [len(pass_.seconds) for pass_ in result.passes],
        "started": [pass_.started for pass_ in result.passes],
        "iterations": [list(pass_.iterations) for pass_ in result.passes],
        "discarded": sum(pass_.discarded for pass_ in result.passes),
        "reference_seconds": _seconds(pass_.reference for pass_ in result.passes),
        "confirmation": _confirmation(result),
        "process_deviation": float(np.std(levels, ddof=1)) if len(levels) > 1 else None,
        "verdict": verdict_fields(verdict),
        "explanation": _explanation(explanation),
    }


def _explanation(explanation: Explanation | None) -> dict[str, Any] | None:
    """Return an explanation as plain data: the cause, its evidence, the best plan's ratio, and the remedy."""
    if explanation is None:
        return None
    best, remedy = explanation.best, explanation.remedy
    return {
        "cause": str(explanation.cause),
        "evidence": list(explanation.evidence),
        "best": [best.estimate, best.low, best.high] if best else None,
        "pad_to": remedy.channels if remedy else None,
        "pad_inputs_to": remedy.inputs if remedy else None,
        "padded": [remedy.ratio.estimate, remedy.ratio.low, remedy.ratio.high] if remedy else None,
    }


def _confirmation(result: Result) -> dict[str, Any] | None:
    """Return the pass that a fresh process measured to confirm SLOWER, and the verdict before it; None without one."""
    confirming = result.confirmation
    if confirming is None or result.first is None:
        return None
    return {
        "first": verdict_fields(result.first),
        "iterations": list(confirming.iterations),
        "reference_seconds": _seconds([confirming.reference]),
        "candidate_seconds": _seconds([confirming.candidate]),
    }


def _seconds(parts: Iterable[Seconds]) -> list[float]:
    """Return samples as they are stored: joined, and rounded to the picosecond, which no clock resolves."""
    return [round(second, 12) for part in parts for second in part.tolist()]


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict with its noise floor and smallest detectable slowdown, as plain data."""
    return {**verdict_of(verdict), "noise_floor": verdict.noise_floor, "mde": verdict.mde}


def samples(result: Result) -> list[float]:
    """Return the candidate's rounds of all passes in the order of measuring, in seconds per call."""
    return _seconds(pass_.candidate for pass_ in result.passes)


def header(
    fingerprints: Mapping[str, Fingerprint], settings: Mapping[str, Any], reason: str | None = None
) -> dict[str, Any]:
    """Return the file's own part: schema, each backend's fingerprint, how it was measured, why it was accepted."""
    prints = {name: fingerprint.as_dict() for name, fingerprint in fingerprints.items()}
    return {"schema": SCHEMA, "fingerprints": prints, "settings": dict(settings), "reason": reason}


def machine_info(fingerprints: Iterable[Fingerprint]) -> dict[str, Any]:
    """Return what pytest-benchmark compares before it warns of another machine: devices, hardware and state."""
    known = sorted(fingerprints, key=lambda fingerprint: fingerprint.backend)
    node = ", ".join(dict.fromkeys(fingerprint.device for fingerprint in known))
    return {"node": node} | {
        fingerprint.backend: {**fingerprint.hardware, **fingerprint.state} for fingerprint in known
    }


def document(
    fingerprint: Fingerprint,
    results: Mapping[str, Result],
    reason: str,
    settings: Mapping[str, Any],
    explanations: Mapping[Identity, Explanation] | None = None,
) -> dict[str, Any]:
    """Return a whole baseline file as plain data; `results` are by test id, which is the benchmark's `fullname`."""
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
        "group": info["layer"],
        "name": name,
        "fullname": fullname,
        "params": {"problem": info["problem"]},
        "param": label_of(name),
        "extra_info": info,
        "options": {"timer": info["clock"]},
        "stats": _statistics(samples(result)),
    }


def _statistics(data: Sequence[float]) -> dict[str, Any]:
    """Return pytest-benchmark's summary of samples in seconds; at least one."""
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
    """Return the file's text, with one line a benchmark, so that a diff shows a changed benchmark as one line."""
    rest = {key: value for key, value in content.items() if key != "benchmarks"}
    head = json.dumps(rest, indent=1, ensure_ascii=False, allow_nan=False)
    lines = [json.dumps(benchmark, ensure_ascii=False, allow_nan=False) for benchmark in content["benchmarks"]]
    return head[:-2] + ',\n "benchmarks": [\n' + ",\n".join(lines) + "\n ]\n}\n"


def merge(path: Path, chosen: Sequence[Baseline]) -> None:
    """Write one file that holds the benchmarks of several baselines, for pytest-benchmark's own comparison.

    Raises BaselineError where a baseline can't be read or the file can't be written.
    """
    try:
        contents = [json.loads(baseline.path.read_text(encoding="utf-8")) for baseline in chosen]
        merged = contents[0] | {
            "machine_info": machine_info(baseline.fingerprint for baseline in chosen),
            "benchmarks": [benchmark for content in contents for benchmark in content["benchmarks"]],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, to_json(merged))
    except OSError as error:
        text = f"{path} can't be written: {error.strerror}; pytest-benchmark compares with it, put --journal elsewhere"
        raise BaselineError(text) from error
    except (ValueError, RecursionError) as error:
        names = ", ".join(str(baseline.path) for baseline in chosen)
        raise BaselineError(f"baseline {names}: not plain JSON ({error}); restore it from version control") from None


def verdict_table(content: Mapping[str, Any]) -> str:
    """Return the table that people diff: a line a comparison, its verdict, ratio with interval, and plan."""
    rows = ["comparison\tverdict\tratio\tlow\thigh\tplan"]
    for benchmark in content["benchmarks"]:
        info = benchmark["extra_info"]
        ratio = [f"{value:.3f}" for value in info["verdict"]["ratio"] or ()] or ["", "", ""]
        rows.append("\t".join([benchmark["param"], info["verdict"]["code"], *ratio, info["plan"]]))
    return "\n".join(rows) + "\n"


# Reading


def load(path: Path, backend: str | None = None) -> Baseline:
    """Return a checked baseline of times: the part of `backend` in a file of several, else the first.

    Raises BaselineError, naming the file, what is wrong in it and the remedy.
    """
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
    """Return the entries of one backend by the keys of both problems.

    What other backends and other tests stored is only checked, since pytest-benchmark reads it too.
    """
    entries: dict[tuple[str, str], Entry] = {}
    names: set[str] = set()
    for benchmark in benchmarks:
        fullname = word(benchmark, "fullname")
        if fullname in names:
            raise BaselineError(f"baseline {path}: {fullname} appears twice; restore it from version control")
        names.add(fullname)
        try:
            _check_summary(benchmark)
            info = field(benchmark, "extra_info", dict)
            if info.get("backend") != backend:
                continue
            entry = _entry(path, benchmark, info)
        except ValueError as error:
            raise ValueError(f"{fullname}: {error}") from None
        key = (entry.reference, entry.candidate)
        if key in entries:
            raise BaselineError(f"baseline {path}: {entry.name} appears twice; restore it from version control")
        entries[key] = entry
    return entries


def _check_summary(benchmark: object) -> None:
    """Raise ValueError where something is missing that pytest-benchmark's own comparison reads, or is hidden from it.

    It copies the fields of `stats` over those of the benchmark, so `stats` may hold none of their names.
    """
    stats = field(benchmark, "stats", dict)
    for name in (*_TABLE, *_HISTOGRAM):
        finite(name, stats.get(name))
    word(stats, "outliers")
    if shadowing := {"name", "fullname", "group", "param", "params", "extra_info"} & set(stats):
        raise ValueError(f"stats has {', '.join(sorted(shadowing))}")


def _entry(path: Path, benchmark: Any, info: Mapping[str, Any]) -> Entry:
    name = word(benchmark, "fullname")
    if "data" not in benchmark["stats"]:
        raise BaselineError(f"baseline {path}: {name} has no samples; save with --benchmark-save-data")
    data, reference = field(benchmark["stats"], "data", list), field(info, "reference_seconds", list)
    for second in (*data, *reference):
        if not (isinstance(second, float) and SHORTEST <= second <= LONGEST):
            raise BaselineError(f"baseline {path}: {name} holds {reprlib.repr(second)} as a time; restore or remove it")
    if len(reference) != len(data):
        raise ValueError(f"{len(data)} samples, and {len(reference)} of the unpruned layer")
    plan = Plan(field(info, "plan", str), tuple(values(info, "plan_steps", str)))
    blocks = values(info, "blocks", int)
    return entry_of(info, name, plan, _levels(data, blocks), started=_started(info, blocks))


def _started(info: Mapping[str, Any], blocks: Sequence[int]) -> tuple[float | None, ...]:
    """Return when the process of each pass that has a level began to load; None where that was not stored."""
    stored = field(info, "started", list) if "started" in info else [None] * len(blocks)
    if len(stored) != len(blocks):
        raise ValueError(f"{len(stored)} starts of processes, and {len(blocks)} passes")
    kept = (start for start, count in zip(stored, blocks, strict=True) if count)
    return tuple(None if start is None else finite("started", start) for start in kept)


def _levels(data: Sequence[float], blocks: Sequence[int]) -> tuple[float, ...]:
    """Return the log median of each pass; a pass of n blocks has 2n rounds, and one that kept none has no level."""
    if not data or sum(blocks) * 2 != len(data) or min(blocks) < 0:
        raise ValueError(f"{len(data)} samples do not make {sum(blocks)} blocks")
    ends = np.cumsum([2 * count for count in blocks])[:-1]
    return tuple(log_median(part) for part in np.split(np.asarray(data), ends) if len(part))
