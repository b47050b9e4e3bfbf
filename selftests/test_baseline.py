import json
import os
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.fixed_size import FixedSizeJudge
from neverslower.baseline import folders, timed
from neverslower.baseline.changes import verdict_changes
from neverslower.baseline.entry import Baseline, Entry, Known
from neverslower.campaign.findings import Result
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import BaselineError
from neverslower.evidence.observation import Examined, PairedPass, Plan
from neverslower.judge.change import PassSpread
from neverslower.judge.verdict import Code
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import Side
from neverslower.problem.networks import network

DEVICE = Fingerprint("scripted", "Board 1", "1.0", "abcdef123", {"cpu": "x"}, {"governor": "performance"}, {})
LAYER = network("resnet50")[16]


def result(distance: int, ratio: float = 1.0, seed: int = 0) -> Result:
    candidate = LAYER.problem.prune(distance) if distance else LAYER.problem
    random = np.random.default_rng(seed)
    passes = []
    for number in range(2):
        seconds = 1e-3 * np.exp(random.normal(0, 0.001, (20, 2, 2)))
        seconds[:, 1] *= ratio
        passes.append(PairedPass(seconds, (1, 1), "scripted", started=10.5 + number))
    seen = Examined(Plan("gemm", ("convolution gemm",)), 1e-7, 1e-4, 1e-3)
    comparison = Comparison("scripted", LAYER, candidate)
    return Result(comparison, FixedSizeJudge()(passes, 3), tuple(passes), seen, seen)


def content(fingerprint: Fingerprint = DEVICE, **changes: float) -> dict[str, Any]:
    ratios = {0: 1.0, 1: 2.0, 3: 1.0} | {int(name[1:]): ratio for name, ratio in changes.items()}
    results = {f"tests/test_latency.py::test_latency[out{128 - d}]": result(d, ratio) for d, ratio in ratios.items()}
    return timed.document(fingerprint, results, "a reason", {"passes": 2})


def saved(root: Path, fingerprint: Fingerprint = DEVICE, **changes: float) -> Path:
    return folders.save(root, fingerprint, content(fingerprint, **changes))


def test_a_saved_baseline_is_read_as_it_was(tmp_path: Path) -> None:
    one = result(1, 2.0)
    loaded = folders.load(saved(tmp_path))
    entry = loaded.entry(one.comparison)
    assert loaded.fingerprint == DEVICE
    assert entry is not None
    assert (entry.known.code, entry.known.ratio) == (Code.SLOWER, one.verdict.ratio)
    assert entry.plan == Plan("gemm", ("convolution gemm",))
    assert entry.levels == pytest.approx([np.log(np.median(p.candidate)) for p in one.passes])
    assert entry.started == (10.5, 11.5)


def test_a_pass_that_kept_no_block_has_no_level_and_no_start(tmp_path: Path) -> None:
    one = result(1)
    empty = replace(one.passes[0], seconds=np.empty((0, 2, 2)), started=1.0)
    passes = (empty, *(replace(pass_, started=2.0 + number) for number, pass_ in enumerate(one.passes)))
    stored = timed.document(DEVICE, {"tests/a.py::test_latency[out127]": replace(one, passes=passes)}, "why", {})
    (entry,) = folders.load(folders.save(tmp_path, DEVICE, stored)).entries.values()
    assert (len(entry.levels), entry.started) == (2, (2.0, 3.0))


def test_what_stored_passes_have_in_common_is_seen_where_they_are_the_same_ones() -> None:
    """What a short budget began late measured other processes than the rest, in its first pass already."""
    common = (0.0, 0.2, -0.2, 0.1)
    entries = {}
    for number in range(6):
        first = int(number > 3)
        levels = tuple(0.01 * number + shift for shift in common[first : first + 3])
        key = ("unpruned", str(number))
        started = tuple(1.0 + first + place for place in range(3))
        entries[key] = Entry("[x]", "x", *key, Side.OUT, Plan("p"), levels, Known(Code.SAME, None), started=started)
    baseline = Baseline(Path("stored"), DEVICE, entries)
    in_step = {key: entry.levels for key, entry in entries.items() if entry.started[0] == 1.0}
    assert baseline.spread == PassSpread.of(in_step)
    assert baseline.spread.common.value == pytest.approx(0.04)
    everything = PassSpread.of({key: entry.levels for key, entry in entries.items()})
    assert everything != baseline.spread
    unknown = {key: replace(entry, started=()) for key, entry in entries.items()}  # As older files hold them.
    assert Baseline(Path("stored"), DEVICE, unknown).spread == everything


def test_raw_samples_of_both_sides_are_kept(tmp_path: Path) -> None:
    one = result(1, 2.0)
    stored = json.loads(saved(tmp_path).read_text(encoding="utf-8"))["benchmarks"][1]
    for part, samples in (
        ("candidate", stored["stats"]["data"]),
        ("reference", stored["extra_info"]["reference_seconds"]),
    ):
        assert samples == pytest.approx([s for p in one.passes for s in getattr(p, part).tolist()], rel=1e-8)
    assert stored["extra_info"]["process_deviation"] > 0


def test_the_plan_that_is_stored_is_the_pruned_layers() -> None:
    one = result(1)
    assert one.candidate is not None
    padded = replace(one, candidate=replace(one.candidate, plan=Plan("padded", ("reorder pad", "convolution padded"))))
    stored = timed.extra_info(padded)
    assert (stored["plan"], stored["plan_steps"]) == ("padded", ["reorder pad", "convolution padded"])


def test_a_benchmark_is_one_line_and_the_table_lies_beside(tmp_path: Path) -> None:
    path = saved(tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert sum('"fullname"' in line for line in lines) == 3
    table = path.with_suffix(".tsv").read_text(encoding="utf-8").splitlines()
    assert table[0].split("\t") == ["comparison", "verdict", "ratio", "low", "high", "plan"]
    assert re.match(r"out127\tSLOWER\t2\.0\d\d\t", table[2])


def test_names_are_numbered_and_say_version_and_build(tmp_path: Path) -> None:
    paths = [saved(tmp_path), saved(tmp_path, replace(DEVICE, build="999888"))]
    assert [str(p.relative_to(tmp_path)) for p in paths] == [
        "scripted@board-1/0001_1.0+abcdef1.json",
        "scripted@board-1/0002_1.0+999888.json",
    ]


def test_two_runs_that_write_at_once_are_both_kept(tmp_path: Path) -> None:
    text = content()
    threads = [threading.Thread(target=folders.save, args=(tmp_path, DEVICE, text)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = sorted(tmp_path.glob("*/*.json"))
    assert len(files) == 8
    assert all(folders.load(path).entries for path in files)
    assert not list(tmp_path.glob("*/.writing-*"))


def test_a_full_disk_leaves_what_was_stored_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", _no_space)
    with pytest.raises(BaselineError, match=r"could not be written to .*board-1: No space left"):
        saved(tmp_path)
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name, path.with_suffix(".tsv").name]
    assert path.read_bytes() == before


def _no_space(_: int) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"schema": 1', '"schema": 2', "schema 2 is newer than 1; update never-slower"),
        ('"data": [0', '"data": [NaN, 0', "holds nan as a time"),
        ('"reference_seconds": [0', '"reference_seconds": [-1.0, 0', "holds -1.0 as a time"),
        ("oc127_", "oc125_", "appears twice"),
        ('"blocks": [20, 20]', '"blocks": [20, 21]', "samples do not make"),
        ('"never_slower"', '"other"', "not a never-slower baseline"),
        ('"code": "SLOWER"', '"code": "SLOW"', "not a never-slower baseline"),
        ("}\n", "", "not whole JSON"),
    ],
)
def test_a_damaged_baseline_is_named_with_what_is_wrong(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = saved(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(BaselineError, match=re.escape(words)) as error:
        folders.load(path)
    assert str(path) in str(error.value)


def test_a_run_saved_without_samples_says_what_was_missing(tmp_path: Path) -> None:
    text = content()
    for one in text["benchmarks"]:
        del one["stats"]["data"]
    path = tmp_path / "run.json"
    path.write_text(timed.to_json(text), encoding="utf-8")
    with pytest.raises(BaselineError, match="save with --benchmark-save-data"):
        folders.load(path)


@pytest.mark.parametrize(
    ("stored", "now", "upgrade", "chosen"),
    [
        (["9.2", "9.19", "9.3"], "9.20", True, "9.19"),
        (["9.2", "9.19", "9.20"], "9.20", True, "9.19"),
        (["9.2", "9.19", "9.20"], "9.20", False, "9.20"),
        (["9.20"], "9.20", True, "9.20"),
        (["9.2"], "9.20", False, "9.2"),
        (["9.21"], "9.20", True, None),
    ],
)
def test_versions_are_chosen_as_numbers(
    tmp_path: Path, stored: list[str], now: str, upgrade: bool, chosen: str | None
) -> None:
    for version in stored:
        saved(tmp_path, replace(DEVICE, version=version))
    choice = folders.choose(tmp_path, replace(DEVICE, version=now), upgrade)
    if chosen is None:
        assert choice.baseline is None
        assert choice.absence is not None
        assert choice.absence.code is Code.NO_BASELINE
    else:
        assert choice.baseline is not None
        assert choice.baseline.fingerprint.version == chosen


def test_the_newest_of_one_version_counts_and_the_same_build_before_another(tmp_path: Path) -> None:
    saved(tmp_path)
    newest = saved(tmp_path)
    saved(tmp_path, replace(DEVICE, build="other"))
    choice = folders.choose(tmp_path, DEVICE, upgrade=False)
    assert choice.baseline is not None
    assert choice.baseline.path == newest


def test_another_state_is_incomparable(tmp_path: Path) -> None:
    saved(tmp_path, replace(DEVICE, state={"governor": "powersave"}))
    choice = folders.choose(tmp_path, DEVICE, upgrade=False)
    assert choice.baseline is None
    assert choice.absence is not None
    assert choice.absence.code is Code.INCOMPARABLE
    assert "state governor: powersave → performance" in choice.absence.reason.text


def test_changes_name_new_and_vanished_comparisons_and_verdicts_that_differ(tmp_path: Path) -> None:
    before = folders.load(saved(tmp_path))
    lines = verdict_changes(before, [result(1, 1.0), result(3, 1.0), result(7, 3.0)])
    assert re.match(r"\S+out127: SLOWER 2.* → SAME", lines[0])
    assert re.match(r"new: \S+out121 SLOWER 3", lines[1])
    assert lines[2:] == ["vanished: tests/test_latency.py::test_latency[out128]"]
