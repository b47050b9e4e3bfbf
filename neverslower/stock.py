"""What pytest-benchmark does in a run of ours: its clock, what it compares with, its table, and what it refuses."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neverslower.baseline import folders, timed
from neverslower.baseline.entry import Baseline
from neverslower.errors import NeverSlowerError
from neverslower.files.shown import shown
from neverslower.run import Run

LISTED = 3
"""So many layers a message names."""


class DeviceClock:
    """A clock for pytest-benchmark that shows device samples: it stands at 0 until a round sets it."""

    __name__ = "device_time"

    def __init__(self) -> None:
        self._shown = 0.0

    def __call__(self) -> float:
        """Return the seconds since the round began; reading it after a round starts the next one at 0."""
        shown, self._shown = self._shown, 0.0
        return shown

    def advance(self, seconds: float) -> None:
        """Let one round take this many seconds."""
        self._shown = seconds


CLOCK = DeviceClock()

_SHOWS_THE_TABLE = ("columns", "sort", "group-by", "name", "time-unit", "verbose", "histogram", "cprofile")
"""Options that say how its table is to look, and so ask for it."""
_TEST = re.compile(r"[^\[]+\[(?P<id>.+?)\](?: \(.+\))?$")
_REASON = re.compile(
    r"Field '(?P<field>\w+)' has failed (?P<check>\w+?)RegressionCheck: (?P<found>\S+) > (?P<allowed>\S+)"
)


def refuse_what_spoils_timing(config: Any) -> None:
    """Raise NeverSlowerError where pytest's configuration would share the machine, or leave verdicts out."""
    if not config.pluginmanager.hasplugin("benchmark"):
        raise NeverSlowerError("pytest-benchmark records the samples: run without -p no:benchmark")
    if config.getoption("numprocesses", None) or config.getoption("dist", "no") != "no":
        raise NeverSlowerError("timing needs the machine to itself: run without -n (pytest-xdist)")
    if config.getoption("forked", False):
        raise NeverSlowerError("one process measures for all items: run without --forked (pytest-forked)")
    for name in ("benchmark_only", "benchmark_skip", "benchmark_disable"):
        if config.getoption(name, False):
            flag = "--" + name.replace("_", "-")
            raise NeverSlowerError(f"{flag} would skip verdicts: choose tests by path, such as tests/test_latency.py")


def prepare(option: Any, run: Run, only_looks: bool) -> None:
    """Check its options before anything is measured, and give it the baselines that were chosen to compare with.

    `option` are pytest's parsed options, `only_looks` says that nothing will be measured. Raises NeverSlowerError.
    """
    if option.benchmark_compare == "":
        raise NeverSlowerError("--benchmark-compare= names nothing: give a file or a number, or leave the = out")
    if option.benchmark_compare_fail and not run.compare:
        raise NeverSlowerError("--benchmark-compare-fail says when a comparison fails: it needs --benchmark-compare")
    if option.benchmark_json:
        _probe(Path(option.benchmark_json))
    if option.benchmark_histogram and not importlib.util.find_spec("pygal"):
        raise NeverSlowerError("--benchmark-histogram needs pygal: `pip install -e .[histogram]`")
    if run.compare and not only_looks:
        run.identify()
        require_baselines(run)
    if option.benchmark_compare_fail:
        _require_times(run)
    # It looks for a number in its own storage, where no baseline is, so it is always given a file or nothing.
    option.benchmark_compare = _merged(run)


def _probe(path: Path) -> None:
    """Make sure, before anything is measured, that pytest-benchmark can write its file."""
    new = not os.path.exists(path)
    try:
        with path.open("ab"):
            pass
        if new:
            path.unlink()
    except OSError as error:
        raise NeverSlowerError(f"--benchmark-json={path} can't be written: {error.strerror}; name another") from None


def require_baselines(run: Run) -> None:
    """Refuse a comparison with nothing before anything is measured.

    One backend with a baseline is enough, unless the run is strict or requires one that has none. What can't be
    started is another matter, which the campaign reports.
    """
    without = {name: why for name in run.choices if (why := _nothing_stored(run, name))}
    needed = set(run.choices if run.plan.strict else run.plan.required)
    if without and (len(without) == len(run.choices) or needed & set(without)):
        listed = "; ".join(f"{name}: {why}" for name, why in without.items())
        raise NeverSlowerError(f"--benchmark-compare has nothing to compare with: {listed}")


def _nothing_stored(run: Run, name: str) -> str:
    """Return why nothing of a backend can be compared, with what exists and the remedy; empty if some can."""
    choice = run.choices[name]
    if choice.baseline is None:
        why = choice.absence.reason.text if choice.absence else "no baseline"
        others = folders.of_other_devices(run.root, run.fingerprints[name])
        return f"{why} (stored of other devices: {', '.join(others)})" if others else why
    asked = [comparison for comparison in run.plan.comparisons if comparison.backend == name]
    if not asked or any(choice.baseline.entry(comparison) for comparison in asked):
        return ""
    layers = list(dict.fromkeys(entry.layer for entry in choice.baseline.entries.values()))
    listed = ", ".join(layers[:LISTED]) + (f" and {len(layers) - LISTED} more" if layers[LISTED:] else "")
    text = f"{shown(choice.baseline.path)} holds {listed or 'nothing'}, and none of what this run measures"
    return f"{text}; choose the same layers, or accept this run with --accept-baseline REASON"


def _require_times(run: Run) -> None:
    """Refuse a limit on times where the baselines hold counts."""
    if exact := _chosen(run, exact=True):
        names = ", ".join(f"{baseline.evidence} of {baseline.fingerprint.backend}" for baseline in exact)
        text = f"--benchmark-compare-fail compares times, and the baseline holds {names}"
        raise NeverSlowerError(f"{text}: leave it out, --benchmark-compare judges without it")


def _merged(run: Run) -> str | None:
    """Return one file for pytest-benchmark that holds the chosen baselines of all backends, or None.

    It compares times alone: what is exact is left out.
    """
    chosen = _chosen(run, exact=False) if run.compare else []
    if not chosen:
        return None
    path = run.journal_path.parent / "compared" / "0001_chosen.json"
    timed.merge(path, chosen)
    return str(path)


def _chosen(run: Run, exact: bool) -> list[Baseline]:
    """Return the baselines of one sort of evidence that were chosen to compare with."""
    chosen = [choice.baseline for choice in run.choices.values() if choice.baseline]
    return [baseline for baseline in chosen if baseline.evidence.exact == exact]


def _refusal(name: str, why: str) -> str:
    """Return which comparison is beyond which limit, from pytest-benchmark's name of a test and its reason."""
    test, reason = _TEST.match(name), _REASON.fullmatch(why)
    if not (test and reason):
        return f"{name}: {why}"
    unit = " %" if reason["check"] == "Percentage" else " s"
    found, allowed = (f"{float(reason[part]):.3g}{unit}" for part in ("found", "allowed"))
    return f"{test['id']}: {reason['field']} +{found}, {allowed} allowed"


def hide_table(benchmarks: Any, arguments: Sequence[str]) -> None:
    """Let pytest-benchmark's session print no table of every channel count, unless the command line asks for one."""
    asked = tuple(f"--benchmark-{name}" for name in _SHOWS_THE_TABLE)
    benchmarks.quiet = not any(str(argument).startswith(asked) for argument in arguments)


def beyond(benchmarks: Any) -> list[str]:
    """Return what --benchmark-compare-fail refuses, a line each, and keep pytest-benchmark from raising it.

    It would raise while the terminal's summary is printed, and nothing of that summary would be seen.
    """
    if not (benchmarks.compare_fail and benchmarks.compared_mapping):
        benchmarks.compare_fail = []
        return []
    list(benchmarks.prepare_benchmarks())
    refused = [_refusal(name, why) for name, why in benchmarks.performance_regressions]
    benchmarks.performance_regressions, benchmarks.compare_fail = [], []
    return refused
