"""Read records of every kind into one account: journals, baselines and folders of them, maps, grids, advice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from neverslower.baseline import folders
from neverslower.counted import counted
from neverslower.errors import NeverSlowerError
from neverslower.evidence.observation import Evidence
from neverslower.files.shown import shown
from neverslower.judge.verdict import Code
from neverslower.maps import advice_file, grid_file, map_file
from neverslower.outcome.rejudge import changes_of
from neverslower.outcome.upgrade import Change
from neverslower.page import journalled, of_grid, of_journal, of_map, of_stored
from neverslower.page.account import (
    UNCONFIRMED,
    Account,
    Advised,
    Case,
    Kind,
    LayerCosts,
    Since,
    Source,
    Whole,
    counted_as,
    in_words,
    titled,
)
from neverslower.page.journalled import Journalled
from neverslower.page.numbers import ratio_of
from neverslower.page.of_journal import Parts
from neverslower.problem.convolution import ConvProblem, Side
from neverslower.report import upgrade

_WORDS = {
    Evidence.DEVICE_TIME: ("slower", "not slower"),
    Evidence.INSTRUCTIONS: ("with more instructions", "with no more"),
    Evidence.DISPATCH: ("dispatched differently", "dispatched the same"),
}
_WORSE = (Code.SLOWER, Code.MORE, Code.CHANGED)
_DECIDED = (Code.FASTER, Code.FEWER, Code.SAME)
NAMED = 4
"""So many sources of several records are named in the first sentence."""
EVERY = "*"
MAPS = "maps"
"""The folder of a device's maps, next to its baselines."""
_HELD = "journals of runs, baselines, folders of baselines, maps, grids or advice"


def account_of(paths: Sequence[Path], pattern: str = EVERY) -> Account:
    """Return the account of some records, of layers that match the pattern.

    Raises NeverSlowerError, naming the file, where one can't be read, and where no layer matches.
    """
    parts, advised, runs = _read(records_of(paths))
    if not parts.sources:
        raise NeverSlowerError(f"nothing to report: give {_HELD}, and advice only next to one of them")
    if pattern != EVERY:
        _keep(parts, pattern)
    tested = [number for number, source in enumerate(parts.sources) if not source.before]
    sentences = [_sentence(number, parts) for number in tested]
    # A run speaks for itself: where its journal is all that is reported, with every backend and layer of it.
    count = len({parts.sources[number].name for number in tested})
    verdict: Mapping[str, Any] = (runs[0] or {}) if len(runs) == count == 1 and pattern == EVERY else {}
    sources = [parts.sources[number] for number in tested]
    return Account(
        sentence=verdict["text"] if verdict else _of_all(count, sources, sentences),
        verdict=verdict.get("verdict", ""),
        exit_code=verdict.get("exit"),
        further=(*(sentences if len(tested) > 1 else ()), *parts.changes),
        notes=tuple(parts.notes),
        sources=tuple(parts.sources),
        plans=tuple(parts.plans),
        cases=tuple(parts.cases),
        wholes=tuple(parts.wholes),
        grids=tuple(parts.grids),
        advised=tuple(advised),
    )


def _read(paths: Sequence[Path]) -> tuple[Parts, list[Advised], list[Mapping[str, Any] | None]]:
    """Return what records hold, the advice among them, and the last line of each journal."""
    parts, advised, runs = Parts(), list[Advised](), list[Mapping[str, Any] | None]()
    for path in paths:
        with naming(path):
            kind = _kind_of(path)
            if kind is Kind.JOURNAL:
                runs.append(_add_journal(parts, path))
            elif kind is Kind.BASELINE:
                of_stored.add(parts, path)
            elif kind is Kind.MAP:
                of_map.add(parts, path)
            elif kind is Kind.GRID:
                of_grid.add(parts, path)
            else:
                advised += _advised(path)
    return parts, advised, runs


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file where something in it is missing or of another kind, for anybody may have edited it."""
    try:
        yield
    except NeverSlowerError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        text = f"{path}: damaged ({type(error).__name__}: {error}); restore it from version control, or measure again"
        raise NeverSlowerError(text) from None


def _keep(parts: Parts, pattern: str) -> None:
    """Leave out the cases and grids of layers that do not match. Raises NeverSlowerError where none does."""
    names = list(dict.fromkeys([case.layer for case in parts.cases] + [costs.layer for costs in parts.grids]))
    parts.cases = [case for case in parts.cases if fnmatchcase(case.layer, pattern)]
    parts.grids = [costs for costs in parts.grids if fnmatchcase(costs.layer, pattern)]
    parts.wholes.clear()
    if not (parts.cases or parts.grids):
        listed = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
        raise NeverSlowerError(f"--layer {pattern}: no record has such a layer; there are {listed or 'none'}")


def records_of(paths: Sequence[Path]) -> list[Path]:
    """Return the records that paths name: a folder stands for its baselines, or, where it has none, for its maps.

    Raises NeverSlowerError for a folder without either.
    """
    return [each for named in paths for each in _files(named)]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    maps = path if path.name == MAPS else path / MAPS
    found = folders.stored_files(path) or sorted([*maps.glob("*.json.xz"), *maps.glob("*.jsonl")])
    if not found:
        raise NeverSlowerError(f"{path}: no baseline and no map is in this folder; give {_HELD}")
    return found


def _kind_of(path: Path) -> Kind | None:
    """Return what kind of record a file is, None for advice. Raises NeverSlowerError where it is none of them."""
    if path.name.endswith(".jsonl.xz"):
        return Kind.JOURNAL
    if path.suffix == ".xz":
        return Kind.GRID if grid_file.is_grid(map_file.content_of(path)) else Kind.MAP
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not text"
        raise NeverSlowerError(f"{path}: {why}; give {_HELD}") from None
    if path.suffix == ".jsonl":
        return Kind.BASELINE if '"format"' in text.partition("\n")[0] else Kind.JOURNAL
    return _kind_of_json(path, text)


def _kind_of_json(path: Path, text: str) -> Kind | None:
    """Return what kind of record a JSON file is; of a damaged one the reader of baselines says what is wrong."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return Kind.BASELINE
    if not isinstance(content, dict):
        return Kind.BASELINE
    if content.get("format") == advice_file.FORMAT:
        return None
    if "benchmarks" not in content:
        what = f"a file of {content['format']}, and " if "format" in content else ""
        raise NeverSlowerError(f"{path}: {what}not a record that can be reported; give {_HELD}")
    return Kind.BASELINE


def _add_journal(parts: Parts, path: Path) -> Mapping[str, Any] | None:
    """Add a journal, with what its other library changed; return its last line, None of a run that has none."""
    journal, first = journalled.read(path), len(parts.cases)
    of_journal.add(parts, path, journal)
    if journal.before.passes:
        changes = changes_of(path, journal.now.said, journal.before.said).changes
        parts.cases[first:] = with_changes(parts.cases[first:], changes, parts.sources)
        parts.changes.append(upgrade.totals(changes))
    parts.notes += _unplaced(path, journal)
    if journal.run and not (isinstance(journal.run["text"], str) and isinstance(journal.run["verdict"], str)):
        raise ValueError("its last line has no text or no verdict")
    return journal.run


def _unplaced(path: Path, journal: Journalled) -> Iterator[str]:
    """Yield each finding that failed and of which a journal does not say where, as those of older versions."""
    said = {found.finding for findings in journal.now.concluded.values() for found in findings}
    for finding, count in (journal.run or {}).get("failing", {}).items():
        if finding not in said:
            yield f"{count} × {finding}: {shown(path)} does not say of which layer; --report on the run itself does"


def with_changes(cases: Sequence[Case], changes: Sequence[Change], sources: Sequence[Source]) -> list[Case]:
    """Return cases with what changed against a baseline or another library; those of `before` have nothing of it."""
    by_id = {change.id: change for change in changes}
    return [
        replace(case, since=_since(by_id[case.id])) if case.id in by_id and not sources[case.source].before else case
        for case in cases
    ]


def _since(change: Change) -> Since:
    return Since(
        str(change.code),
        change.reason,
        ratio_of(change.ratio),
        str(change.before_code),
        ratio_of(change.before),
        change.what,
    )


def _advised(path: Path) -> list[Advised]:
    """Return what a file of advice names for each layer."""
    stored = advice_file.load(path)
    backend, device = stored.fingerprint.backend, stored.fingerprint.device
    return [
        Advised(
            name=path.name,
            backend=backend,
            device=device,
            layer=row["name"],
            unpruned=ConvProblem.from_key(row["problem"]).key,
            counts=tuple(each["channels"] for each in row["advised"]),
        )
        for row in json.loads(path.read_text(encoding="utf-8"))["layers"]
        if row.get("side", Side.OUT) == Side.OUT  # Curves are over output channels.
    ]


def _of_all(count: int, sources: Sequence[Source], sentences: Sequence[str]) -> str:
    """Return the first sentence about so many records, of which no run gives one."""
    if len(sentences) == 1:
        return sentences[0]
    titles = list(dict.fromkeys(map(titled, sources)))
    more = f" and {len(titles) - NAMED} more" if len(titles) > NAMED else ""
    return f"{counted(count, 'record')}: {'; '.join(titles[:NAMED])}{more}"


def _sentence(number: int, parts: Parts) -> str:
    """Return what a source holds: its software and device, and how many of its cases came out how."""
    source = parts.sources[number]
    mine = [case for case in parts.cases if case.source == number and case.problem != case.unpruned]
    named = titled(source)
    if of_map.SURVEYED in source.remarks:
        return f"{named}: {counted(len(mine), 'channel count')}, {of_map.SURVEYED}"
    if source.kind is Kind.GRID:
        return f"{named}: {_of_grids(source, [costs for costs in parts.grids if costs.source == number])}"
    wholes = _of_wholes([whole for whole in parts.wholes if whole.source == number])
    state = [remark for remark in source.remarks if remark.startswith(of_journal.UNENDED)]
    layers = [_counted(source, mine)] if mine else [] if wholes else ["no layer was compared"]
    return f"{named}: {'; '.join([*state, *layers, *wholes])}"


def _counted(source: Source, cases: Sequence[Case]) -> str:
    """Return `27 slower (25 confirmed), 181 not slower, 10 undecided, of 218`, as a run counts its own.

    What was confirmed is said only where something was not: a map and the other library confirm nothing.
    """
    worse, better = _WORDS[source.evidence]
    words = {**dict.fromkeys((*map(str, _WORSE), UNCONFIRMED), worse), **dict.fromkeys(map(str, _DECIDED), better)}
    counts = Counter({worse: 0, better: 0})
    counts.update(words.get(word, in_words(word)) for word in map(counted_as, cases))
    unconfirmed = sum(bool(case.proved) for case in cases)
    apart = {worse: f" ({counts[worse] - unconfirmed:,} confirmed)"} if unconfirmed else {}
    listed = ", ".join(f"{count:,} {word}{apart.get(word, '')}" for word, count in counts.items())
    return f"{listed}, of {len(cases):,}"


def _of_grids(source: Source, grids: Sequence[LayerCosts]) -> str:
    """Return `63 pairs of (input, output) channels of 1 layer, estimates by one process, no verdicts`.

    The unpruned layer is none of the pairs: what was asked for and measured is counted without it. Where there are
    none, return what is missing and how to get it.
    """
    part = [remark for remark in source.remarks if remark.startswith((of_grid.PART, of_grid.EMPTY))]
    pairs = sum(cost is not None for costs in grids for row in costs.costs for cost in row) - len(grids)
    layers = counted(len(grids), "layer")
    if not grids:
        return "; ".join(part) or "none of its layers matches --layer"
    if not pairs:
        why = "so there is nothing to compare; measure it again with a smaller --step"
        return "; ".join([*part, f"{layers} at the unpruned channels alone, {why}"])
    held = f"{counted(pairs, 'pair')} of (input, output) channels of {layers}, {of_grid.ESTIMATED}"
    return "; ".join([*part, held])


def _of_wholes(wholes: Sequence[Whole]) -> list[str]:
    """Return what whole pruned networks came to: `2 whole networks: 1 slower, 1 same`; nothing where there are none."""
    counts = Counter(in_words(counted_as(whole)) for whole in wholes)
    words = ", ".join(f"{count} {word}" for word, count in counts.items())
    return [f"{counted(len(wholes), 'whole network')}: {words}"] if wholes else []
