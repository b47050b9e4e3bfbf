"""What a user can get wrong: each mistake gets one line that names the thing and the remedy, and what is stored stays.

`PROOFS` says which test proves which kind of mistake; those that are best proved beside other things are elsewhere.
"""

from __future__ import annotations

import ast
import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neverslower import cli
from neverslower.baseline import folders
from neverslower.errors import BaselineError
from neverslower.outcome.run_verdict import CANNOT_JUDGE
from neverslower.problem.convolution import parse_descriptor
from neverslower.problem.predicate import LONGEST, PredicateError, holds
from neverslower.report.progress_line import ProgressLine
from selftests.conftest import PROBLEM, SuiteRunner
from selftests.support import ROOT, children, needs_proc

USAGE_ERROR = 4
FLAT = {"fixed": 1e-4, "per_mac": 0.0}
FOLDER = "baselines/scripted@scripted"
STORED = f"{FOLDER}/0001_1.0+0.json"
LATENCY = "tests/test_latency.py"
NEVER_SLOWER = "tests/test_never_slower.py"
Record = dict[str, Any]

PROOFS = {
    "unknown backend": ["test_plugin.py::test_a_user_s_mistake_is_one_clear_line"],
    "unknown network": [
        "test_plugin.py::test_a_user_s_mistake_is_one_clear_line",
        "test_bad_input.py::test_a_mistake_without_pytest_is_one_clear_line",
    ],
    "unknown layer": [
        "test_plugin.py::test_a_user_s_mistake_is_one_clear_line",
        "test_selection.py::test_a_pattern_that_matches_nothing_says_what_there_is",
    ],
    "malformed descriptor, with the position": [
        "test_descriptor.py::test_an_unreadable_descriptor_is_refused_at_its_position",
        "test_bad_input.py::test_a_wrong_descriptor_is_one_clear_line",
        "test_fuzz.py::test_any_descriptor_is_read_or_refused_in_one_line",
    ],
    "channels ≤ 0": ["test_bad_input.py::test_a_wrong_descriptor_is_one_clear_line"],
    "groups that don't divide": ["test_bad_input.py::test_a_wrong_descriptor_is_one_clear_line"],
    "more than any memory holds": ["test_bad_input.py::test_a_wrong_descriptor_is_one_clear_line"],
    "truncated baseline": [
        "test_bad_input.py::test_a_damaged_baseline_is_one_clear_line",
        "test_bad_input.py::test_a_damaged_baseline_is_told_before_anything_is_compared",
        "test_fuzz.py::test_a_broken_baseline_is_read_or_refused_in_one_line",
    ],
    "baseline of a newer schema": ["test_bad_input.py::test_a_damaged_baseline_is_one_clear_line"],
    "baseline with NaN or negative times": ["test_bad_input.py::test_a_damaged_baseline_is_one_clear_line"],
    "baseline in which names collide": ["test_bad_input.py::test_a_damaged_baseline_is_one_clear_line"],
    "baseline edited in any other way": ["test_fuzz.py::test_a_changed_baseline_is_read_or_refused_in_one_line"],
    "baseline of another device": [
        "test_bad_input.py::test_a_baseline_of_another_device_is_not_compared_with",
        "test_plugin.py::test_a_baseline_of_another_state_is_refused_with_the_field",
    ],
    "baseline of another backend": ["test_bad_input.py::test_a_baseline_in_another_backend_s_folder_is_named"],
    "truncated calibration, or one edited in any way": [
        "test_calibration.py::test_a_truncated_calibration_is_named",
        "test_calibration.py::test_a_damaged_calibration_is_named_with_what_is_wrong",
        "test_calibration.py::test_a_damaged_calibration_costs_a_run_one_line",
    ],
    "a folder that can't be written": [
        "test_bad_input.py::test_a_folder_that_can_t_be_written_is_one_clear_line",
        "test_plugin.py::test_a_folder_that_can_t_be_written_is_told_before_anything_is_measured",
    ],
    "a full disk": [
        "test_bad_input.py::test_a_full_disk_leaves_what_was_stored_whole",
        "test_bad_input.py::test_a_disk_that_fills_up_in_the_middle_of_a_file_leaves_no_part_of_it",
        "test_bad_input.py::test_a_full_disk_under_the_journal_ends_the_run_in_one_clear_line",
        "test_bad_input.py::test_a_full_disk_leaves_the_old_page_whole",
    ],
    "two runs writing one baseline": [
        "test_bad_input.py::test_two_runs_that_accept_at_once_are_both_stored",
        "test_baseline.py::test_two_runs_that_write_at_once_are_both_kept",
    ],
    "channels above the layer's": ["test_selection.py::test_a_count_that_no_layer_can_be_pruned_to_is_refused_at_once"],
    "a dtype that no chosen backend has": [
        "test_selection.py::test_a_format_that_no_chosen_backend_has_is_refused_with_those_they_have",
    ],
    "no compiler": [
        "test_bad_input.py::test_set_up_without_a_compiler_names_the_remedy",
        "test_tvm.py::test_a_missing_compiler_is_named_with_its_remedy",
    ],
    "the wrong pair of tvm and its ffi": ["test_tvm.py::test_a_pair_that_crashes_is_named_with_the_one_to_install"],
    "a tuning database of another target": [
        "test_tvm.py::test_a_database_of_another_target_is_refused_naming_both",
        "test_tvm.py::test_records_of_another_target_are_refused_and_the_others_used",
    ],
    "a tuning database that is none, or of another release": [
        "test_tvm.py::test_a_folder_without_a_database_is_unavailable",
        "test_tvm.py::test_a_database_that_does_not_open_is_told_and_its_shapes_fall_back",
    ],
    "xdist": ["test_bad_input.py::test_running_in_parallel_is_refused"],
    "--benchmark-only, --benchmark-disable": ["test_plugin.py::test_options_that_would_hide_verdicts_are_refused"],
    "a worker killed in any phase": [
        "test_bad_input.py::test_a_worker_killed_in_any_phase_costs_one_verdict",
        "test_campaign.py::test_a_crash_in_a_later_process_outweighs_the_samples_before_it",
        "test_campaign.py::test_a_crash_while_agreeing_is_that_comparisons_own",
        "test_worker.py::test_a_worker_killed_in_silence_is_dead_without_last_words",
        "test_pool.py::test_a_failure_costs_its_own_subject_only",
        "test_study.py::test_a_search_that_fails_costs_what_rests_on_it_only",
        "test_hunt.py::test_a_crash_is_found_and_shrunk",
    ],
    "a worker that can't start": [
        "test_bad_input.py::test_a_worker_that_can_t_start_is_one_clear_line",
        "test_worker.py::test_a_place_without_a_usable_python_is_unavailable_and_named",
    ],
    "a script that can't be read": [
        "test_bad_input.py::test_a_script_that_can_t_be_read_is_one_clear_line",
        "test_scripted.py::test_a_script_with_a_mistake_is_unavailable_and_the_mistake_named",
    ],
    "numbers out of range": [
        "test_plugin.py::test_a_user_s_mistake_is_one_clear_line",
        "test_bad_input.py::test_a_wrong_option_is_one_clear_line",
    ],
    "a predicate that is too much": ["test_bad_input.py::test_a_predicate_that_is_too_deep_or_too_large_is_refused"],
}


def defined_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "selftests" / file).read_text(encoding="utf-8"))
    return {f"{file}::{node.name}" for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_proof_exists() -> None:
    proofs = {test for tests in PROOFS.values() for test in tests}
    assert proofs <= set().union(*(defined_in(file) for file in {test.partition("::")[0] for test in proofs}))


# What every mistake must be like


def no_traceback(result: pytest.RunResult) -> str:
    """All that a run said, in which nothing looks like a defect of the suite."""
    text = f"{result.stdout.str()}\n{result.stderr.str()}"
    assert "Traceback" not in text
    assert "INTERNALERROR" not in text
    return text


def refused(result: pytest.RunResult, words: str) -> None:
    """The run ended with pytest's code for a user's mistake and one line on stderr, which matches `words`."""
    no_traceback(result)
    assert result.ret == USAGE_ERROR
    (line,) = [line for line in result.stderr.lines if line.strip()]
    result.stderr.fnmatch_lines([f"ERROR: {words}"])
    assert line.startswith("ERROR: ")


def files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path in there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def kept(runner: SuiteRunner) -> Iterator[Callable[[], None]]:
    """What lies in the folder of baselines must be there at the end as it was when this was called."""
    before: list[dict[str, bytes]] = []
    yield lambda: before.append(files(runner.path / "baselines"))
    assert before == [files(runner.path / "baselines")]


_accepted: dict[str, bytes] = {}


@pytest.fixture
def stored(runner: SuiteRunner) -> Path:
    """A baseline that a run on `FLAT` accepted, and its table."""
    if not _accepted:
        runner.accept(FLAT)
        _accepted.update(files(runner.path / FOLDER))
    (runner.path / FOLDER).mkdir(parents=True, exist_ok=True)
    for name, content in _accepted.items():
        (runner.path / FOLDER / name).write_bytes(content)
    return runner.path / STORED


def start(runner: SuiteRunner, *arguments: str, **script: Any) -> pytest.RunResult:
    """Run on `FLAT` with changes, with nothing but the given arguments."""
    backend = runner.script(**FLAT | script)
    return runner.pytester.runpytest_inprocess("--backend", backend, "-p", "no:cacheprovider", *arguments)


# Words on the command line


@pytest.mark.parametrize(
    ("descriptor", "words"),
    [
        ("", "descriptor '', character 1: ic is missing*"),
        ("mb1_ic4oc16 ih6kh3", "descriptor 'mb1_ic4oc16 ih6kh3', character 12: expected a field such as mb, g, *"),
        ("ic4\noc16ih6kh3", r"descriptor 'ic4\noc16ih6kh3', character 4: expected a field*"),
        ("ic4oc-16ih6kh3", "descriptor 'ic4oc-16ih6kh3', character 6: oc needs a number"),
        ("ic0oc16ih6kh3", "descriptor 'ic0oc16ih6kh3': in_channels=0 must be at least 1"),
        ("ic4oc0ih6kh3", "descriptor 'ic4oc0ih6kh3': out_channels=0 must be at least 1"),
        ("g3ic4oc16ih6kh3", "descriptor 'g3ic4oc16ih6kh3': groups=3 does not divide in_channels=4; use a multiple*"),
        ("g4ic4oc18ih6kh3", "*groups=4 does not divide out_channels=18; use a multiple*"),
        ("ic4oc16ih1kh3", "descriptor 'ic4oc16ih1kh3': the kernel is larger than the padded input: height 1*"),
        ("ic9999999999oc16ih6kh3", "*character 3: ic is too large"),
        ("ic999999999oc999999999_ih999999999kh3", "*4.0e+27 numbers in input, weights and output fit in no memory*"),
        ("ic1oc2ih1kh1sh3000001ph1000000", "*8.0e+12 numbers*fit in no memory; 1e+12 is the most"),
        ('ic4oc16ih6kh3n"two\nlines"', "*character 19: a name is made of printable characters"),
    ],
)
def test_a_wrong_descriptor_is_one_clear_line(
    runner: SuiteRunner, capsys: pytest.CaptureFixture[str], descriptor: str, words: str
) -> None:
    refused(start(runner, "--problem", descriptor), words)
    told_by_the_command(capsys, ["problem", descriptor], words)


def told_by_the_command(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    """`python -m neverslower` ends with 2, and one line on stderr that matches `words`."""
    capsys.readouterr()
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    pytest.LineMatcher(said.err.splitlines()).fnmatch_lines([f"never-slower: {words}"])
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["layers", "resnet5"], "unknown network 'resnet5'; did you mean resnet50?*"),
        (["report", "absent.json", "--out", "p.html"], "absent.json: No such file or directory; give journals *"),
        (["report", "sub", "--out", "p.html"], "sub: No such file or directory; *"),
        (["report", "BASELINE", "--layer", "x*", "--out", "p.html"], "--layer x*: no record has such a layer; *"),
        (["report", "BASELINE", "--verdicts", "BASELINE"], "*.json is to be read, and would be overwritten: *"),
    ],
)
def test_a_mistake_without_pytest_is_one_clear_line(
    stored: Path,
    kept: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    kept()
    monkeypatch.chdir(stored.parent)
    told_by_the_command(capsys, [str(stored) if one == "BASELINE" else one for one in arguments], words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--passes", "1001"], "--passes 1001: from 1 to 1000"),
        (["--threads", "0"], "--threads 0: from 1 to 1000"),
        (["--family-error", "0"], "--family-error '0': a probability such as 0.01*"),
        (["--family-error", "nan"], "--family-error 'nan': a probability such as 0.01*"),
        (["--family-error", "0.2"], "--family-error '0.2': a probability*at most 0.1"),
        (["--time-limit", "nan"], "--time-limit: 'nan' is not a duration*"),
        (["--time-limit", "9" * 30], "--time-limit 9*: a day (24h) at most"),
        (["--time-budget", "9" * 400], "--time-budget: '9*' is not a duration such as 90s, 5m or 1h30m"),
        (["--dtype", "a\nb"], r"--dtype 'a\nb': unknown (known: float32*"),
        (["--benchmark-compare="], "--benchmark-compare= names nothing: give a file or a number, or leave the = out"),
        (["--benchmark-compare=*"], "--benchmark-compare=[*]: no such file*"),
        ([f"--benchmark-compare={'x' * 300}"], "--benchmark-compare=x*: no such file*"),
        (["--time-budget=-5m"], "--time-budget: '-5m' is not a duration such as 90s, 5m or 1h30m"),
        (["--layout", "CHWN"], "--layout 'CHWN': unknown (known: NCHW, NHWC)"),
        (["--require-backend", "cudnnn"], "unknown backend 'cudnnn'*known: *"),
        (["--benchmark-compare", LATENCY], f"--benchmark-compare={LATENCY}: not a baseline*after the tests, *"),
        (["-p", "no:benchmark"], "pytest-benchmark records the samples: run without -p no:benchmark"),
        (["--benchmark-compare=0007"], "--benchmark-compare=0007: no such file*"),
    ],
)
def test_a_wrong_option_is_one_clear_line(runner: SuiteRunner, arguments: list[str], words: str) -> None:
    refused(start(runner, "--problem", PROBLEM, *arguments), words)


@pytest.mark.parametrize("arguments", [["-n", "2"], ["--dist", "load"]])
def test_running_in_parallel_is_refused(runner: SuiteRunner, arguments: list[str]) -> None:
    refused(start(runner, *arguments), "timing needs the machine to itself: run without -n (pytest-xdist)")


# Baselines that were damaged


def benchmark(content: Record) -> Record:
    found: Record = content["benchmarks"][1]
    return found


def into(value: Any, *path: str | int) -> Callable[[Record], None]:
    """An edit that replaces what lies at the end of a path in a baseline, its last part a name in its holder."""

    def edit(content: Record) -> None:
        holder: Any = content
        for step in path[:-1]:
            holder = holder[step]
        name: Any = path[-1]
        assert name in holder or isinstance(holder, list)
        holder[name] = value

    return edit


def edited(edit: Callable[[Record], None]) -> Callable[[str], str]:
    def change(text: str) -> str:
        content = json.loads(text)
        edit(content)
        return json.dumps(content)

    return change


def drop(name: str) -> Callable[[str], str]:
    return edited(lambda content: content.pop(name))


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


def in_benchmark(value: Any, *path: str | int) -> Callable[[str], str]:
    return edited(into(value, "benchmarks", 1, *path))


NOT_ONE = "not a never-slower baseline ("
DAMAGES: dict[str, tuple[Callable[[str], str], str]] = {
    "truncated": (lambda text: text[: len(text) // 2], "not whole JSON (*restore it from version control"),
    "empty": (lambda text: "", "not whole JSON (*"),
    "nested too deep": (lambda text: "[" * 100_000, "not whole JSON (maximum recursion depth*"),
    "another file": (lambda text: "[1, 2]", f"{NOT_ONE}[[]1, 2] where an object with never_slower belongs*"),
    "newer": (replaced('"schema": 1', '"schema": 2'), "schema 2 is newer than 1; update never-slower"),
    "NaN": (replaced('"data": [0', '"data": [NaN, 0'), "*holds nan as a time; restore or remove it"),
    "negative": (in_benchmark(-1.0, "stats", "data", 0), "*out15[]] holds -1.0 as a time; restore or remove it"),
    "endless": (in_benchmark(1e300, "extra_info", "reference_seconds", 0), "*holds 1e+300 as a time*"),
    "one shape twice": (replaced("oc15_", "oc13_"), "*out13[]] appears twice; restore it from version control"),
    "one name twice": (replaced("NCHW-out15", "NCHW-out13"), "*out13[]] appears twice; restore it*"),
    "one field twice": (replaced('"schema": 1', '"schema": 1, "schema": 1'), "*'schema' appears twice in one object*"),
    "no fingerprint": (edited(into({}, "never_slower", "fingerprints")), "holds no backend*"),
    "no machine": (drop("machine_info"), f"{NOT_ONE}machine_info is missing)*"),
    "another side": (in_benchmark("left", "extra_info", "side"), f"{NOT_ONE}*'left' is not a valid Side)*"),
    "no problem": (in_benchmark("ic3", "extra_info", "unpruned"), f"{NOT_ONE}*'ic3' is not a problem's key*"),
    "no ratio": (in_benchmark([2.0, 3.0, 1.0], "extra_info", "verdict", "ratio"), "*ratio is [[]2.0, 3.0, 1.0])*"),
    "a start too many": (in_benchmark([1.0] * 9, "extra_info", "started"), f"{NOT_ONE}*9 starts of processes, and *"),
    "a start that is none": (in_benchmark("now", "extra_info", "started"), f"{NOT_ONE}*started is 'now'*"),
    "no mean": (in_benchmark(None, "stats", "mean"), f"{NOT_ONE}*out15[]]: mean is None); restore or remove it"),
    "half a character": (in_benchmark("\ud800", "extra_info", "plan"), "*surrogates not allowed); restore*"),
}


@pytest.mark.parametrize(("change", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_baseline_is_one_clear_line(
    stored: Path, kept: Callable[[], None], capsys: pytest.CaptureFixture[str], change: Callable[[str], str], words: str
) -> None:
    stored.write_text(change(stored.read_text(encoding="utf-8")), encoding="utf-8")
    kept()
    told_by_the_command(capsys, ["report", str(stored), "--out", "p.html"], f"baseline {stored}: {words}")


@pytest.mark.parametrize("damage", ["truncated", "newer", "NaN", "one shape twice", "no mean", "no machine"])
def test_a_damaged_baseline_is_told_before_anything_is_compared(
    runner: SuiteRunner, stored: Path, kept: Callable[[], None], damage: str
) -> None:
    change, words = DAMAGES[damage]
    stored.write_text(change(stored.read_text(encoding="utf-8")), encoding="utf-8")
    kept()
    for asked, path in (("--benchmark-compare", stored), (f"--benchmark-compare={STORED}", STORED)):
        refused(start(runner, "--problem", PROBLEM, LATENCY, asked), f"baseline {path}: {words}")


def test_a_baseline_of_another_device_is_not_compared_with(
    runner: SuiteRunner, stored: Path, kept: Callable[[], None]
) -> None:
    kept()
    now = {"device": "board", "hardware": {"cores": "2"}}
    measured = ["--problem", PROBLEM, "--passes", "1", LATENCY]
    result = start(runner, *measured, f"--benchmark-compare={STORED}", **now)
    fields = "device name: scripted → board; hardware cores: absent → 2"
    words = f"scripted: {STORED} was measured elsewhere: {fields}; name another, or *(stored of other devices: *"
    refused(result, f"--benchmark-compare has nothing to compare with: {words}")


def renamed_backend(text: str) -> str:
    content = json.loads(text)
    prints = content["never_slower"]["fingerprints"]
    prints["onednn"] = prints.pop("scripted") | {"backend": "onednn"}
    return json.dumps(content)


def test_a_baseline_in_another_backend_s_folder_is_named(
    runner: SuiteRunner, stored: Path, kept: Callable[[], None]
) -> None:
    text = stored.read_text(encoding="utf-8")
    stored.write_text(renamed_backend(text), encoding="utf-8")
    kept()
    refused(
        start(runner, "--problem", PROBLEM, NEVER_SLOWER),
        f"baseline {stored}: holds onednn, not scripted; remove it from there",
    )


# What can't be written


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--accept-baseline=x", "--baselines=a_file"], "no baseline can be stored in a_file: File exists; name *"),
        (["--accept-baseline=x", "--baselines=a_file/in"], "no baseline can be stored in a_file/in: Not a directory*"),
        (["--accept-baseline=x", "--baselines=/sys/kernel"], "no baseline can be stored in /sys/kernel: *--baselines="),
        ([f"--baselines={'x' * 300}"], "x*/scripted@scripted can't be read: File name too long; name another *"),
        (["--journal=a_file/in/run"], "the journal a_file/in/run can't be written: *; name another with --journal"),
        (["--benchmark-json=absent/run.json"], "--benchmark-json=absent/run.json can't be written: No such file*"),
        (["--journal=tests"], "the journal tests can't be written: Is a directory; name another with --journal"),
        (["--journal=/proc/absent/run"], "the journal /proc/absent/run can't be written: *--journal"),
    ],
)
def test_a_folder_that_can_t_be_written_is_one_clear_line(
    runner: SuiteRunner, stored: Path, kept: Callable[[], None], arguments: list[str], words: str
) -> None:
    (runner.path / "a_file").write_text("mine", encoding="utf-8")
    kept()
    refused(start(runner, "--problem", PROBLEM, NEVER_SLOWER, *arguments), words)
    assert (runner.path / "a_file").read_text(encoding="utf-8") == "mine"


def no_space(_: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_what_was_stored_whole(
    runner: SuiteRunner, stored: Path, kept: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept()
    monkeypatch.setattr(os, "fsync", no_space)
    result = start(runner, "--problem", PROBLEM, "--passes", "2", "--accept-baseline", "x", LATENCY)
    assert result.ret == USAGE_ERROR
    no_traceback(result)
    words = "No space left on device; fix that, or name another folder with --baselines="
    result.stdout.fnmatch_lines([f"ERROR: not accepted: the baseline could not be written to *{FOLDER}: {words}"])


def test_a_table_that_can_t_be_written_leaves_no_baseline_alone(
    stored: Path, kept: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept()
    loaded, content = folders.load(stored), json.loads(stored.read_text(encoding="utf-8"))
    monkeypatch.setattr(Path, "replace", lambda *_: no_space(0))
    with pytest.raises(BaselineError, match="No space left"):
        folders.save(stored.parent.parent, loaded.fingerprint, content)


def test_a_file_in_the_way_of_a_device_s_folder_is_named(stored: Path, tmp_path: Path) -> None:
    loaded, content = folders.load(stored), json.loads(stored.read_text(encoding="utf-8"))
    (tmp_path / loaded.fingerprint.folder).write_text("mine", encoding="utf-8")
    with pytest.raises(BaselineError, match=r"could not be written to .*scripted@scripted: File exists"):
        folders.save(tmp_path, loaded.fingerprint, content)
    assert files(tmp_path) == {loaded.fingerprint.folder: b"mine"}


def test_a_table_that_was_left_behind_is_no_hindrance(stored: Path) -> None:
    content = json.loads(stored.read_text(encoding="utf-8"))
    stored.with_name("0002_1.0+0.tsv").write_text("old", encoding="utf-8")
    path = folders.save(stored.parent.parent, folders.load(stored).fingerprint, content)
    assert path.with_suffix(".tsv").read_bytes() == stored.with_suffix(".tsv").read_bytes()


def test_a_disk_that_fills_up_in_the_middle_of_a_file_leaves_no_part_of_it(
    stored: Path, kept: Callable[[], None]
) -> None:
    kept()
    loaded, content = folders.load(stored), json.loads(stored.read_text(encoding="utf-8"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(BaselineError, match=f"could not be written to .*{FOLDER}: File too large"):
            folders.save(stored.parent.parent, loaded.fingerprint, content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_file_in_the_way_of_the_journal_is_told_when_comparing(runner: SuiteRunner, stored: Path) -> None:
    (runner.path / ".neverslower").write_text("mine", encoding="utf-8")
    result = start(runner, "--problem", PROBLEM, LATENCY, "--benchmark-compare")
    refused(result, "*0001_chosen.json can't be written: *; pytest-benchmark compares with it, put --journal elsewhere")


def test_a_full_disk_under_the_journal_ends_the_run_in_one_clear_line(runner: SuiteRunner) -> None:
    result = start(runner, "--problem", PROBLEM, NEVER_SLOWER, "--journal=/dev/full")
    refused(result, "the journal /dev/full can't be written: No space left on device; *name another with --journal")


def test_a_full_disk_leaves_the_old_page_whole(
    stored: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = stored.with_name("old.html")
    assert cli.main(["report", str(stored), "--out", str(drawn)]) == 0
    before = files(stored.parent)
    monkeypatch.setattr(os, "fsync", no_space)
    again = ["report", str(stored), "--out", str(drawn)]
    told_by_the_command(capsys, again, "*old.html can't be written: No space left*")
    assert files(stored.parent) == before


def run_apart(runner: SuiteRunner, *arguments: str) -> subprocess.Popen[str]:
    """The suite in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", LATENCY]
    measured = ["--backend", runner.script(**FLAT), "--problem", PROBLEM, "--passes", "2"]
    return subprocess.Popen(
        [*command, *measured, *arguments],
        cwd=runner.path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_runs_that_accept_at_once_are_both_stored(runner: SuiteRunner) -> None:
    runs = [run_apart(runner, f"--accept-baseline=run {number}") for number in (1, 2)]
    said = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert len(list((runner.path / ".neverslower").glob("journal-*.jsonl"))) == 2
    paths = sorted((runner.path / FOLDER).iterdir())
    assert [path.name for path in paths] == [
        f"000{number}_1.0+0.{kind}" for number in (1, 2) for kind in ("json", "tsv")
    ]
    texts = [path.read_text(encoding="utf-8") for path in paths if path.suffix == ".json"]
    assert {json.loads(text)["never_slower"]["reason"] for text in texts} == {"run 1", "run 2"}
    assert all(len(folders.load(path).entries) == 7 for path in paths if path.suffix == ".json")


# What is missing, or dies


def test_set_up_without_a_compiler_names_the_remedy(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools/setup_environment.py"), str(tmp_path / "environment")]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["never-slower: no C++ compiler. Remedy: apt-get install g++"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "*No such file or directory*"),
        ("{nope", "Expecting property name*"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "maximum recursion depth*"),
        ('{"rules": 5}', "rules must be a list of objects"),
        ('{"rules": [5]}', "rules must be a list of objects"),
        ('{"rules": [{"when": "channels == 3"}]}', "predicate 'channels == 3': no field 'channels' (known: *"),
        ('{"noise": "loud"}', "noise is 'loud'"),
        ('{"device": 5}', "device is 5"),
    ],
)
def test_a_script_that_can_t_be_read_is_one_clear_line(runner: SuiteRunner, text: str | None, words: str) -> None:
    path = runner.path / "mine.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    result = runner.pytester.runpytest_inprocess("--backend", f"scripted:{path}", "--problem", PROBLEM, NEVER_SLOWER)
    assert result.ret == CANNOT_JUDGE
    no_traceback(result)
    result.stdout.fnmatch_lines(["CANNOT JUDGE: nothing*", f"scripted is unavailable: script {path}: {words}"])


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("popen//python=/nowhere/python", "*/nowhere/python*"),
        ("popen//python=sh -c false", "*"),
        ("popen//execmodel=any", "*unknown execmodel 'any'"),
        ("popen//chdir=/nowhere/at/all", "FileNotFoundError*/nowhere/at/all'"),
        ("socket=localhost", "*"),
        ("via=nobody", "this can't be read"),
        ("popen//_x=3", "this can't be read"),
    ],
)
def test_a_worker_that_can_t_start_is_one_clear_line(runner: SuiteRunner, spec: str, why: str) -> None:
    result = start(runner, "--problem", PROBLEM, NEVER_SLOWER, f"--worker={spec}")
    assert result.ret == CANNOT_JUDGE
    no_traceback(result)
    remedy = "a place is an execnet spec, such as ssh=HOST"
    result.stdout.fnmatch_lines(["CANNOT JUDGE: *", f"scripted is unavailable: no worker at '{spec}': {why}; {remedy}"])


class Killer:
    """Kills every worker after the first step of a phase, once."""

    def __init__(self, phase: str) -> None:
        self._phase, self._others, self.killed = phase, children(os.getpid()), 0

    def __call__(self, phase: str, done: int, total: int, seconds_left: float | None) -> None:
        if self._phase in phase and not self.killed:
            for pid in children(os.getpid()) - self._others:
                os.kill(pid, signal.SIGKILL)
                self.killed += 1


OTHER = "mb1_ic4oc16_ih8kh3ph1"
DIED = "the worker process died without a message; the kernel kills a process so when memory runs out (see dmesg)"
HAZARDS = [{"when": "out_channels in (15, 13)", "times": 2.0}]


@needs_proc
@pytest.mark.processes
@pytest.mark.parametrize(
    ("phase", "rules"),
    [("prepare", []), ("measure, pass 1", []), ("measure, pass 2", []), ("measure, pass 4", HAZARDS), ("numerics", [])],
)
def test_a_worker_killed_in_any_phase_costs_one_verdict(
    runner: SuiteRunner,
    stored: Path,
    kept: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
    rules: list[Record],
) -> None:
    kept()
    killer = Killer(phase)
    monkeypatch.setattr(ProgressLine, "__call__", killer)
    # A layer is timed in one step: who is killed after it is asked for nothing more, unless there is another layer.
    other = ["--problem", OTHER] if "measure" in phase else []
    measured = ["--problem", PROBLEM, *other, "--passes", "2", "--journal=run.jsonl"]
    result = start(runner, *measured, "--accept-baseline=x", rules=rules)
    assert killer.killed == 1
    assert result.ret == USAGE_ERROR
    no_traceback(result)
    result.stdout.fnmatch_lines([f"ERROR: not accepted: scripted-mb1_ic4oc16_*-float32-NCHW-out*{DIED}"])
    events = [json.loads(line) for line in (runner.path / "run.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sum(one["event"] in ("verdict", "agreement") and one["code"] == "CRASHED" for one in events) == 1
    assert [one["event"] for one in events if one["event"] != "concluded"][-2:] == ["end", "run"]


@needs_proc
@pytest.mark.processes
def test_a_worker_killed_while_a_regression_is_measured_again_is_a_crash(
    runner: SuiteRunner, stored: Path, kept: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept()
    killer = Killer("recheck")
    monkeypatch.setattr(ProgressLine, "__call__", killer)
    measured = ["--problem", PROBLEM, "--passes", "4", LATENCY, "--benchmark-compare"]
    result = start(runner, *measured, rules=[{"when": "out_channels in (9, 8)", "times": 1.5}])
    assert killer.killed == 1
    assert result.ret == 1
    no_traceback(result)
    result.assert_outcomes(passed=5, failed=2)
    result.stdout.fnmatch_lines(["slower than the baseline: 1", "crashed: 1", f"*{DIED}"])


def test_a_problem_larger_than_this_machine_is_unsupported_and_not_tried(
    runner: SuiteRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = start(runner, "--problem", "mb1_ic100000oc2_ih3000kh1", NEVER_SLOWER)
    assert result.ret == CANNOT_JUDGE
    no_traceback(result)
    result.stdout.fnmatch_lines(["unsupported: 1", "*tensors and reference take * GB, this machine has * GB"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not " * LONGEST, f"4000 characters; {LONGEST} is the most"),
        ("-" * (LONGEST - 1) + "1", "is not allowed here"),
        ("1" + "+1" * (LONGEST // 2 - 1), "recursion"),
        ("'a' * 9999999999999999", "only whole numbers"),
    ],
)
def test_a_predicate_that_is_too_deep_or_too_large_is_refused(text: str, words: str) -> None:
    with pytest.raises(PredicateError, match=words):
        holds(text, parse_descriptor(PROBLEM))
