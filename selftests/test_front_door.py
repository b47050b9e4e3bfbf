"""What someone meets who runs the suite: what only looks measures nothing, other plugins, places, encodings, order."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backends.tvm import databases
from neverslower import cli
from neverslower.campaign.budget import out_of_time
from neverslower.campaign.findings import Findings, Result
from neverslower.campaign.judging import SAME_WORK
from neverslower.device.fingerprint import differences, short_hash
from neverslower.errors import Unavailable
from neverslower.judge.verdict import Code, Reason, ReasonCode, Verdict
from neverslower.outcome.assessment import Assessed
from neverslower.outcome.table import Finding
from neverslower.report import terminal, words
from neverslower.report.listing import listing
from neverslower.worker.process import DeviceLock, Worker, WorkerSpec
from selftests.conftest import PROBLEM, ROOT, SuiteRunner
from selftests.support import comparison
from selftests.test_plugin import FLAT, HAZARD, LATENCY, NEVER_SLOWER, outcomes

PLUGIN = "pytest_plugins = ['neverslower.pytest_plugin']"
SLOW = FLAT | {"rules": [HAZARD]}


def section(result: pytest.RunResult) -> list[str]:
    """The lines of our part of the terminal's summary, without pytest's last one."""
    (start,) = [
        number for number, line in enumerate(result.outlines) if line.startswith("=") and "never-slower" in line
    ]
    return result.outlines[start + 1 : -1]


# What only looks


@pytest.mark.parametrize("flag", ["--collect-only", "--setup-plan", "--setup-only"])
def test_what_only_looks_measures_nothing_and_judges_nothing(runner: SuiteRunner, flag: str) -> None:
    result = runner.run(SLOW | {"unavailable": "no such board"}, flag, "--accept-baseline=x", "--benchmark-compare")
    assert result.ret == 0
    assert "never-slower =" not in result.stdout.str()
    assert "CANNOT JUDGE" not in result.stdout.str()
    assert not (runner.path / ".neverslower").exists()
    assert not (runner.path / "baselines").exists()


def test_collecting_the_folder_collects_the_product_alone() -> None:
    command = [sys.executable, "-m", "pytest", ".", "--collect-only", "-q", "--backend", "scripted", "-m", ""]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    files = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    product = {f"tests/{path.name}" for path in (ROOT / "tests").glob("test_*.py")}
    # One is about two models, the other about a file of advice, and none is named.
    assert files == product - {"tests/test_whole_network.py", "tests/test_advised.py"}


# Other plugins


def test_a_fork_for_each_item_is_refused(runner: SuiteRunner) -> None:
    option = "def pytest_addoption(parser):\n    parser.addoption('--forked', action='store_true')\n"
    runner.pytester.makeconftest(f"{PLUGIN}\n{option}")
    result = runner.run(FLAT, "--forked")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: one process measures for all items: run without --forked*"])


def test_an_item_that_is_run_again_is_one_finding(runner: SuiteRunner) -> None:
    twice = (
        "from _pytest.runner import runtestprotocol\n"
        "def pytest_runtest_protocol(item, nextitem):\n"
        "    runtestprotocol(item, nextitem=nextitem, log=False)\n"
        "    item._initrequest()\n"
    )
    runner.pytester.makeconftest(f"{PLUGIN}\n{twice}")
    result = runner.run(SLOW, NEVER_SLOWER)
    result.stdout.fnmatch_lines(["HAZARDS: 1 slower*of 6", "hazard found, not known to a baseline yet: 1"])


def test_a_limit_of_pytest_benchmarks_needs_something_to_compare_with(runner: SuiteRunner) -> None:
    result = runner.run(FLAT, "--benchmark-compare-fail=mean:5%")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --benchmark-compare-fail *needs --benchmark-compare"])


def test_what_is_beyond_a_limit_is_red_and_listed(runner: SuiteRunner) -> None:
    runner.accept(FLAT)
    result = runner.run(
        FLAT | {"fixed": 1.2e-4}, NEVER_SLOWER, LATENCY, "--benchmark-compare", "--benchmark-compare-fail=median:5%"
    )
    assert result.ret == 1
    assert "Traceback" not in result.stdout.str() + result.stderr.str()
    result.stdout.fnmatch_lines(
        [
            "RED: *7 × beyond --benchmark-compare-fail*",
            "beyond --benchmark-compare-fail: 7",
            "  *-out16: median +20* %, 5 % allowed",
        ]
    )


def test_a_limit_that_only_pytest_benchmark_sees_is_red(runner: SuiteRunner) -> None:
    runner.accept(FLAT)
    result = runner.run(FLAT | {"seed": 3}, "--benchmark-compare", "--benchmark-compare-fail=stddev:0.000000001")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["RED: * × beyond --benchmark-compare-fail; *"])


def test_a_limit_on_times_is_refused_where_counts_are_stored(runner: SuiteRunner) -> None:
    counts = {"evidence": "instructions"}
    runner.accept(FLAT | counts)
    result = runner.run(FLAT | counts, "--benchmark-compare", "--benchmark-compare-fail=mean:5%")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --benchmark-compare-fail compares times*scripted*leave it out*"])


def test_a_stored_run_by_its_number_is_found_without_a_warning(runner: SuiteRunner) -> None:
    runner.accept(FLAT)
    result = runner.run(FLAT, LATENCY, "--benchmark-compare=0001")
    assert outcomes(result) == {"passed": 7}
    assert "Can't compare" not in result.stdout.str() + result.stderr.str()


# Places and encodings


@pytest.mark.parametrize(("arguments", "code"), [((), 4), (("--exit-codes", "bisect"), 125)])
def test_a_checkout_that_can_t_be_written_skips_a_revision(
    runner: SuiteRunner, arguments: tuple[str, ...], code: int
) -> None:
    (runner.path / ".neverslower").write_text("no folder", encoding="utf-8")
    result = runner.run(FLAT, *arguments)
    assert result.ret == code
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_a_cache_that_can_t_be_written_spoils_no_verdict(runner: SuiteRunner) -> None:
    (runner.path / ".pytest_cache").write_text("no folder", encoding="utf-8")
    result = runner.pytester.runpytest_inprocess("--backend", runner.script(**FLAT), "--problem", PROBLEM)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["GREEN: *"])


def test_signs_that_an_encoding_lacks_become_others() -> None:
    assert words.in_letters_of("a → b, 2×, ≤ 3 µs …", "latin-1") == "a -> b, 2×, <= 3 µs ..."
    assert words.in_letters_of("a → b, 2×, 漢", "ascii") == "a -> b, 2x, ?"
    assert words.in_letters_of("a → b", "utf-8") == words.in_letters_of("a → b", None) == "a → b"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_command_writes_in_any_encoding(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "neverslower", "history", "resnet50.L16"],
        cwd=ROOT,
        capture_output=True,
        env={"PYTHONIOENCODING": encoding, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"->" in done.stdout


def test_a_line_is_broken_at_words_and_indented() -> None:
    assert words.broken("  one two three", 12) == ["  one two", "      three"]
    assert words.broken("", 12) == [""]


@pytest.mark.parametrize("program", ["never-slower", "__main__.py"])
def test_the_script_is_called_by_its_name(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    with pytest.raises(SystemExit):
        cli.main(["-h"])
    name = "never-slower" if program == "never-slower" else "python -m neverslower"
    assert capsys.readouterr().out.startswith(f"usage: {name} ")
    assert 'never-slower = "neverslower.cli:main"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


# The summary


def test_the_verdict_comes_first_and_what_to_do_next_last(runner: SuiteRunner) -> None:
    result = runner.run(SLOW, "--strict-verdicts")
    lines = section(result)
    assert lines[0].startswith("RED: ")
    assert lines[lines.index("next:") :][1:3] == [
        "  measure one failure alone:",
        "    its “again” line above is the command",
    ]
    assert result.outlines[-1].startswith("=")
    assert [line for line in result.outlines if line.startswith("FAILED")]  # pytest's own list comes before.


def test_a_hazard_is_shown_with_both_plans_and_the_command(runner: SuiteRunner) -> None:
    slow = FLAT | {"rules": [HAZARD | {"plan": "padded"}]}
    result = runner.run(slow, NEVER_SLOWER)
    result.stdout.fnmatch_lines(
        [
            "  2.*×*  15 of 16  scripted-*-out15",
            "      plan plain → padded",
            "next:",
            "  measure the worst one alone:",
            "    pytest tests --backend scripted:* --keep 15 *",
        ]
    )


def test_long_plans_get_a_line_each(runner: SuiteRunner) -> None:
    slow = FLAT | {"rules": [HAZARD | {"plan": "a_kernel_with_a_name_" * 4}]}
    result = runner.run(slow, NEVER_SLOWER)
    result.stdout.fnmatch_lines(["      unpruned plain", "      pruned   a_kernel_*"])


@pytest.mark.parametrize("verbose", [False, True])
def test_what_passes_is_told_with_times_on_request(runner: SuiteRunner, verbose: bool) -> None:
    result = runner.run({"per_mac": 1e-8}, NEVER_SLOWER, *(["-v"] if verbose else []))
    said = [line for line in section(result) if "FASTER" in line]
    assert len(said) == (7 if verbose else 0)  # A line for each, and their number.
    assert any(" µs → " in line or " ms → " in line for line in said) is verbose
    column = r"  FASTER +\d+ µs → +\d+ µs  0\.\d{3}× \[≤ 0\.\d{3}\] +scripted-\S+"
    assert all(re.fullmatch(column, line) for line in said[1:])


def test_an_unpruned_layer_that_is_slower_than_itself_is_warned_of() -> None:
    itself = comparison(0)
    slower = Result(itself, Verdict(Code.SLOWER, Reason(ReasonCode.PROVED, "proved above 1.01×")))
    lines = list(terminal.summary(Findings(results={itself.identity: slower}), [], {}))
    assert lines[0].startswith("WARNING: unpruned layers came out slower than themselves")
    assert itself.id in lines[0]


def test_a_run_that_can_be_stored_says_how_and_one_of_a_single_test_does_not(runner: SuiteRunner) -> None:
    storing = "    the same command with --accept-baseline=REASON"
    assert storing in section(runner.run(FLAT))
    assert storing not in section(runner.run(FLAT, NEVER_SLOWER))


def test_what_is_listed_as_proved_is_not_listed_as_undecided_too() -> None:
    verdict = Verdict(Code.UNDECIDED, Reason(ReasonCode.BUDGET_ENDED, "the time budget ended"))
    items = [Assessed(comparison(distance), Finding.UNDECIDED, verdict) for distance in (1, 3)]
    proved, undecided = (item.comparison for item in items)
    assert list(listing(items, {proved.identity})) == ["undecided: 1", "  the time budget ended", f"    {undecided.id}"]


def test_what_runs_equal_code_and_was_never_timed_is_said_to_have_come_last() -> None:
    left = [out_of_time("measured", last=SAME_WORK).verdict, out_of_time("measured").verdict]
    items = [Assessed(comparison(1), Finding.OUT_OF_TIME, verdict) for verdict in left]
    assert list(listing(items)) == ["left out by the time budget: 2", f"  1 came last, for {SAME_WORK}"]


# Going on


def test_a_resumed_run_says_how_much_it_reuses(runner: SuiteRunner) -> None:
    runner.run(FLAT, "--journal=run.jsonl")
    result = runner.run(FLAT, "--resume=run.jsonl")
    had = "measured before, and not repeated: 7 of 7 comparisons, in 21 passes"
    result.stdout.fnmatch_lines([f"resumed run.jsonl: {had}"])


def test_a_run_of_another_backend_is_not_gone_on_with(runner: SuiteRunner) -> None:
    runner.run(FLAT, "--journal=run.jsonl")
    before = (runner.path / "run.jsonl").read_text(encoding="utf-8")
    arguments = ("--backend", "onednn", "--problem", PROBLEM, "--resume=run.jsonl")
    result = runner.pytester.runpytest_inprocess(*arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --resume run.jsonl: a run of scripted, and this one is of onednn; *"])
    assert (runner.path / "run.jsonl").read_text(encoding="utf-8") == before


@pytest.mark.parametrize("content", ["", "rubbish\n", None])
def test_what_is_no_journal_is_refused_without_telling_to_go_on_with_it(
    runner: SuiteRunner, content: str | None
) -> None:
    journal = runner.path / "run.jsonl"
    if content is not None:
        journal.write_text(content, encoding="utf-8")
    result = runner.run(FLAT, "--resume=run.jsonl")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --resume run.jsonl: *"])
    assert "go on" not in result.stdout.str()
    assert (journal.read_text(encoding="utf-8") if journal.exists() else None) == content


def test_a_baseline_of_a_device_that_another_run_has_is_refused_before_anything_is_measured(
    runner: SuiteRunner,
) -> None:
    script = {"device": "a board of two", "exclusive": True}
    spec = WorkerSpec("scripted", runner.script(**FLAT | script).partition(":")[2])
    with Worker(spec) as worker:
        lock = DeviceLock(spec, worker.lock_name)
    try:
        result = runner.run(FLAT | script, "--accept-baseline=x", "--journal=run.jsonl")
    finally:
        lock.close()
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["ERROR: not accepted, *: scripted is unavailable (another never-slower run is using *"]
    )
    assert not (runner.path / "run.jsonl").exists()


# Names


def test_hashes_are_cut_to_what_git_shows() -> None:
    full = "80afa71049cd69a3df32adcccb623b12cd7baa22"
    assert short_hash(f"3.12.0 ({full})") == "3.12.0 (80afa71)"
    assert short_hash("139586437120 bytes, def5678") == "139586437120 bytes, def5678"
    assert differences("software", {"torch git": full}, {"torch git": "cf30153c4c131c8164ee7798e5022d810682e2cb"}) == [
        "software torch git: 80afa71 → cf30153"
    ]


@pytest.mark.parametrize(
    ("record", "tuner"),
    [
        ({"input": ["llvm", "conv2d"], "config": {}, "result": [], "version": 0.2}, "AutoTVM"),
        ({"i": [["[]", "llvm"]], "r": [[0.1], 0], "v": "v0.6"}, "AutoScheduler"),
    ],
)
def test_a_log_of_an_older_tuner_is_named_as_what_it_is(tmp_path: Path, record: Any, tuner: str) -> None:
    log = tmp_path / "conv.log"
    log.write_text(json.dumps(record) + "\n", encoding="utf-8")
    with pytest.raises(Unavailable) as caught:
        databases.identify(log)
    assert str(caught.value) == (
        f"{log}: a log of {tuner}, which this TVM can't apply; tune again with MetaSchedule, and give the work folder "
        "of a MetaSchedule search, tvm:FOLDER or tvm:cuda,database=FOLDER"
    )


def test_a_file_that_no_tuner_wrote_is_no_work_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("[]\n", encoding="utf-8")
    with pytest.raises(Unavailable, match=r"Not a directory; give the work folder"):
        databases.identify(tmp_path / "x")


def test_the_headline_names_the_policy() -> None:
    from neverslower.report.headline import table_head

    assert "| policy |" in table_head()[0]


def test_of_two_plans_of_one_name_the_steps_that_differ_are_shown(runner: SuiteRunner) -> None:
    """A reorder next to the convolution is what costs, and the name of the plan says nothing of it."""
    convolution, block, plain = "convolution grid=4x1x1", "reorder jit:blk grid=2x1x1", "reorder jit:uni grid=9x9x9"
    rules = [
        {"seconds": 1e-5, "steps": [convolution, block]},
        {"when": "out_channels == 15", "times": 1.5, "steps": [convolution.replace("4", "5"), plain]},
    ]
    result = runner.run({"rules": rules}, "tests/test_never_slower.py", "--keep", "15")
    wanted = ["      plan * either way", "      unpruned: reorder jit:blk", "      pruned:   reorder jit:uni"]
    result.stdout.fnmatch_lines(wanted, consecutive=True)
    result.stdout.no_fnmatch_line("*pruned: * convolution*")
