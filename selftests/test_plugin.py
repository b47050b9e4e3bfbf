"""The plugin end to end on scripted latencies: every row of the table of outcomes, baselines, options, exit codes."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from neverslower import stock
from neverslower.baseline.entry import Baseline
from neverslower.baseline.folders import BaselineChoice
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import NeverSlowerError
from neverslower.files.journal import Journal
from neverslower.hunt.oracle import Oracle
from neverslower.judge.sequential import SequentialJudge
from neverslower.judge.verdict import Code, Reason, ReasonCode, Verdict
from neverslower.outcome.run_verdict import CANNOT_JUDGE
from neverslower.worker.process import StartWorker, WorkerSpec
from selftests.conftest import PROBLEM, ROOT, SuiteRunner
from selftests.support import comparison

UNSOUND = {"unsound": [{"trouble": "throttled", "text": "throttled by hand", "remedy": "let go"}]}
HAZARD = {"when": "out_channels == 15", "times": 2.0}
FLAT = {"fixed": 1e-4, "per_mac": 0.0}
NEVER_SLOWER = "tests/test_never_slower.py"
LATENCY = "tests/test_latency.py"


def outcomes(result: pytest.RunResult) -> dict[str, int]:
    """The counts of pytest's closing line, without the words that do not matter."""
    counts = result.parseoutcomes()
    return {name: counts[name] for name in ("passed", "failed", "xfailed", "skipped", "errors") if name in counts}


def spent(journal: Path) -> list[float]:
    """What each campaign of a journal may spend on false reds."""
    lines = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    return [line["family_error"] for line in lines if line["event"] == "campaign"]


@pytest.mark.parametrize(
    ("arguments", "share"),
    [
        ([NEVER_SLOWER], 0.02),
        ([NEVER_SLOWER, LATENCY, "--benchmark-compare"], 0.01),
        ([LATENCY, "--against", "popen"], 0.01),
        ([NEVER_SLOWER, "tests/test_drawn.py", "-m", "", "--hunt-budget", "1s", "--hypothesis-profile=ci"], 0.01),
    ],
)
def test_all_questions_of_a_run_share_one_chance_of_a_false_red(
    runner: SuiteRunner, arguments: list[str], share: float
) -> None:
    if "--benchmark-compare" in arguments:
        runner.accept({})
    runner.run({}, "--family-error", "0.02", "--journal=run.jsonl", *arguments)
    assert spent(runner.path / "run.jsonl") == [share]


def test_the_chance_of_a_false_red_is_what_verdicts_are_drawn_at(runner: SuiteRunner) -> None:
    """A gap that the default proves is undecided where next to no error is allowed."""
    slower = {"noise": 0.03, "rules": [{"when": "out_channels == 15", "times": 1.06}]}
    results = [
        runner.run(FLAT | slower, NEVER_SLOWER, "--family-error", error, "--preset", "quick")
        for error in ("0.1", "1e-12")
    ]
    assert [outcomes(one).get("xfailed", 0) for one in results] == [1, 0]


def test_a_hunt_draws_its_verdicts_at_its_share(runner: SuiteRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = []

    class Noted(Oracle):
        def __init__(self, spec: WorkerSpec, journal: Journal, judge: SequentialJudge, start: StartWorker) -> None:
            shares.append(judge.thresholds.family_error)
            super().__init__(spec, journal, judge, start)

    monkeypatch.setattr("neverslower.run_hunt.Oracle", Noted)
    hunt = ("tests/test_drawn.py", "-m", "", "--hunt-budget", "1s", "--hypothesis-profile=ci")
    runner.run({}, NEVER_SLOWER, *hunt, "--family-error", "0.02")
    assert shares == [0.01, 0.01]  # Of hazards, and of outputs, which are no matter of chance.


def test_layers_that_shrink_with_their_channels_are_green(runner: SuiteRunner) -> None:
    result = runner.run({"per_mac": 1e-8})
    assert result.ret == 0
    assert outcomes(result) == {"passed": 6 + 7 + 6}


def test_a_hazard_without_baseline_is_reported_as_found(runner: SuiteRunner) -> None:
    result = runner.run(FLAT | {"rules": [HAZARD]}, NEVER_SLOWER)
    assert (result.ret, outcomes(result)) == (0, {"passed": 5, "xfailed": 1})
    result.stdout.fnmatch_lines(["HAZARDS: 1 slower (1 confirmed), 5 not slower, of 6", "hazard found, not known *: 1"])


def test_a_failure_is_a_reproduction(runner: SuiteRunner) -> None:
    result = runner.run(FLAT | {"rules": [HAZARD]}, NEVER_SLOWER, "--strict-verdicts")
    assert (result.ret, outcomes(result)) == (1, {"passed": 5, "failed": 1})
    result.stdout.fnmatch_lines(
        [
            "*15 of 16 output channels (distance 1)*",
            "*SLOWER 2.*×*confirmed in a fresh process*",
            "*noise floor*smallest slowdown*",
            "*scripted 1.0*",
            "*unpruned*16 channels: 100 µs*plan plain",
            "*pruned*15 channels: 200 µs*",
            "*problem*mb1_g1ic4oc16_ih6oh6kh3sh1ph1 float32 NCHW",
            "*again*pytest*--backend scripted:*script.json --problem mb1_ic4oc16_ih6kh3ph1*",
            "*alone*",
        ]
    )


def test_an_accepted_hazard_is_known(runner: SuiteRunner) -> None:
    runner.accept(FLAT | {"rules": [HAZARD]})
    for strict in ((), ("--strict-verdicts",)):
        result = runner.run(FLAT | {"rules": [HAZARD], "seed": 5}, NEVER_SLOWER, *strict)
        assert (result.ret, outcomes(result)) == (0, {"passed": 5, "xfailed": 1})
        result.stdout.fnmatch_lines(["known hazard: 1"])


@pytest.mark.parametrize(
    ("then", "now", "finding"),
    [
        ([], [HAZARD], "new hazard"),
        ([HAZARD], [HAZARD | {"times": 3.0}], "hazard worse than known"),
    ],
)
def test_a_new_or_worse_hazard_fails(runner: SuiteRunner, then: list[Any], now: list[Any], finding: str) -> None:
    runner.accept(FLAT | {"rules": then})
    result = runner.run(FLAT | {"rules": now}, NEVER_SLOWER)
    assert (result.ret, outcomes(result)) == (1, {"passed": 5, "failed": 1})
    result.stdout.fnmatch_lines([f"{finding}: 1"])


def test_a_hazard_that_is_gone_is_listed_and_fails_only_strictly(runner: SuiteRunner) -> None:
    runner.accept(FLAT | {"rules": [HAZARD]})
    assert outcomes(runner.run(FLAT, NEVER_SLOWER)) == {"passed": 6}
    strict = runner.run(FLAT, NEVER_SLOWER, "--strict-verdicts")
    assert outcomes(strict) == {"passed": 5, "failed": 1}
    strict.stdout.fnmatch_lines(["known hazard, now gone: 1"])


def test_an_upgrade_that_slows_the_whole_layer_is_red(runner: SuiteRunner) -> None:
    runner.accept(FLAT | {"version": "1.0"})
    result = runner.run(FLAT | {"version": "1.1", "fixed": 1.2e-4}, "--benchmark-compare")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["slower than the baseline: 7"])
    result.stdout.no_fnmatch_line("*new hazard*")


@pytest.mark.processes
def test_an_upgrade_without_change_is_green(runner: SuiteRunner) -> None:
    runner.accept(FLAT | {"version": "1.0"})
    result = runner.run(FLAT | {"version": "1.1", "seed": 3}, LATENCY, "--benchmark-compare", "--strict-verdicts")
    assert (result.ret, outcomes(result)) == (0, {"passed": 7})


def test_an_improvement_passes_and_is_listed(runner: SuiteRunner) -> None:
    runner.accept(FLAT)
    faster = {"when": "out_channels == 9", "times": 0.5}
    result = runner.run(FLAT | {"rules": [faster]}, LATENCY, "--benchmark-compare", "--strict-verdicts")
    assert (result.ret, outcomes(result)) == (0, {"passed": 7})
    result.stdout.fnmatch_lines(["faster than the baseline: 1"])


def test_a_ratio_that_rose_because_the_unpruned_layer_got_faster_passes(runner: SuiteRunner) -> None:
    runner.accept(FLAT)
    faster = {"when": "out_channels == 16", "times": 0.5}
    result = runner.run(FLAT | {"rules": [faster]}, NEVER_SLOWER, LATENCY, "--benchmark-compare")
    assert (result.ret, outcomes(result)) == (0, {"passed": 13})
    result.stdout.fnmatch_lines(["ratio rose because the unpruned layer got better: 6"])


def test_a_changed_plan_is_listed_and_fails_only_strictly(runner: SuiteRunner) -> None:
    runner.accept(FLAT)
    now = FLAT | {"rules": [{"when": "out_channels == 9", "plan": "winograd"}]}
    assert outcomes(runner.run(now, LATENCY, "--benchmark-compare")) == {"passed": 7}
    strict = runner.run(now, LATENCY, "--benchmark-compare", "--strict-verdicts")
    assert outcomes(strict) == {"passed": 6, "failed": 1}
    strict.stdout.fnmatch_lines(["plan changed since the baseline: 1"])


def refused_to_compare(result: pytest.RunResult, words: str) -> None:
    """A comparison with nothing is a mistake of usage in one line, and no journal says that anything was measured."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --benchmark-compare has nothing to compare with: scripted: {words}"])
    assert not Path("run.jsonl").exists()


@pytest.mark.parametrize("strict", [(), ("--strict-verdicts",)])
def test_without_a_baseline_a_comparison_is_refused_with_what_exists(
    runner: SuiteRunner, strict: tuple[str, ...]
) -> None:
    compare = (LATENCY, "--benchmark-compare", "--journal=run.jsonl", *strict)
    none = "no baseline in baselines/scripted@scripted; accept one with --accept-baseline REASON"
    refused_to_compare(runner.run(FLAT, *compare), none)
    runner.accept(FLAT | {"device": "board"})
    refused_to_compare(runner.run(FLAT, *compare), f"{none} (stored of other devices: scripted@board)")


def test_a_baseline_of_another_state_is_refused_with_the_field(runner: SuiteRunner) -> None:
    path = runner.accept(FLAT | {"state": {"governor": "performance"}})
    now = FLAT | {"state": {"governor": "powersave"}}
    for asked in ("--benchmark-compare", f"--benchmark-compare={path}"):
        result = runner.run(now, LATENCY, asked, "--journal=run.jsonl")
        refused_to_compare(result, "*state governor: performance → powersave; *accept one with --accept-baseline*")


def test_a_baseline_of_other_layers_is_refused_with_what_it_holds(runner: SuiteRunner) -> None:
    runner.accept(FLAT)
    result = runner.run(FLAT, LATENCY, "--benchmark-compare", "--journal=run.jsonl", problem="mb1_ic4oc8_ih6kh3ph1")
    refused_to_compare(result, f"*0001_1.0+0.json holds {PROBLEM}, and none of what this run measures; *")


def test_what_a_baseline_does_not_hold_is_skipped_and_strictly_fails(runner: SuiteRunner) -> None:
    runner.accept(FLAT, "--keep", "13")
    result = runner.run(FLAT, LATENCY, "--benchmark-compare")
    assert outcomes(result) == {"passed": 2, "skipped": 5}
    result.stdout.fnmatch_lines(["INCOMPLETE: *", "no baseline to compare with: 5"])
    strict = runner.run(FLAT, LATENCY, "--benchmark-compare", "--strict-verdicts")
    assert (strict.ret, outcomes(strict)) == (1, {"passed": 2, "failed": 5})


@pytest.mark.parametrize(
    ("required", "strict", "refused"), [((), False, False), (("bare",), False, True), ((), True, True)]
)
def test_of_two_backends_one_may_have_no_baseline_unless_it_must(
    required: tuple[str, ...], strict: bool, refused: bool
) -> None:
    stored = BaselineChoice(cast(Baseline, SimpleNamespace(entry=lambda comparison: "found")))
    absent = BaselineChoice(None, Verdict(Code.NO_BASELINE, Reason(ReasonCode.NOT_IN_BASELINE, "none there")))
    run: Any = SimpleNamespace(
        choices={"scripted": stored, "bare": absent},
        plan=SimpleNamespace(required=required, strict=strict, comparisons=[comparison(1)]),
        root=Path("nowhere"),
        fingerprints={"bare": Fingerprint("bare", "board", "1.0", "")},
    )
    with pytest.raises(NeverSlowerError, match="bare: none there") if refused else contextlib.nullcontext():
        stock.require_baselines(run)


def test_what_vanished_from_the_suite_is_an_item_that_fails(runner: SuiteRunner) -> None:
    path = runner.accept(FLAT)
    text = path.read_text(encoding="utf-8").replace("oc13_", "oc14_").replace("out13", "out14")
    path.write_text(text, encoding="utf-8")  # As if an older suite had measured another distance.
    result = runner.run(FLAT, LATENCY, "--benchmark-compare")
    assert outcomes(result) == {"passed": 6, "skipped": 1, "failed": 1}
    result.stdout.fnmatch_lines(["*vanished[[]scripted-mb1_ic4oc16_ih6kh3ph1-float32-NCHW-out14[]]*"])


def test_what_lies_outside_the_selection_has_not_vanished(runner: SuiteRunner) -> None:
    runner.accept(FLAT, "--problem", "mb1_ic4oc8_ih6kh3ph1")
    result = runner.run(FLAT, LATENCY, "--benchmark-compare")
    assert outcomes(result) == {"passed": 7}


def test_a_failure_without_a_single_time_says_so(runner: SuiteRunner) -> None:
    options = LATENCY, "--keep", "15", "--preset", "quick"
    result = runner.run(FLAT | {"throttled": 1.0}, *options)
    assert result.ret == 6
    result.stdout.fnmatch_lines(["CANNOT JUDGE: *", "not judged, because the device was throttled or busy: *"])
    result = runner.run(FLAT | {"throttled": 1.0}, *options, "--strict-verdicts")
    result.stdout.fnmatch_lines(
        ["*blocks were dropped: scripted throttling", "*16 channels: no time was kept, plan plain"]
    )


@pytest.mark.parametrize(
    ("fault", "expected", "words"),
    [
        ("crash", {"passed": 5, "failed": 1}, "crashed: 1"),
        ("hang_holding_gil", {"passed": 5, "failed": 1}, "crashed: 1"),
        ("error", {"passed": 5, "failed": 1}, "crashed: 1"),
        ("nan", {"passed": 5, "failed": 1}, "invalid: 1"),
        ("unsupported", {"passed": 5, "skipped": 1}, "unsupported: 1"),
        ("out_of_memory", {"passed": 5, "skipped": 1}, "unsupported: 1"),
    ],
)
def test_a_fault_costs_its_own_item_only(runner: SuiteRunner, fault: str, expected: dict[str, int], words: str) -> None:
    script = FLAT | {"rules": [{"when": "out_channels == 13", "fault": fault}]}
    result = runner.run(script, NEVER_SLOWER, "--time-limit", "1")
    assert outcomes(result) == expected
    result.stdout.fnmatch_lines([words])


def test_wrong_numerics_fail(runner: SuiteRunner) -> None:
    script = FLAT | {"rules": [{"when": "out_channels == 13", "fault": "wrong"}]}
    assert outcomes(runner.run(script, "tests/test_numerics.py")) == {"passed": 5, "failed": 1}


def test_noise_that_hides_the_answer_is_undecided_and_never_green(runner: SuiteRunner) -> None:
    result = runner.run(FLAT | {"noise": 0.5}, NEVER_SLOWER, "--preset", "quick")
    assert outcomes(result) == {"skipped": 6}
    result.stdout.fnmatch_lines(["*6 undecided*", "undecided: 6", "    the same command with --preset=thorough"])
    strict = runner.run(FLAT | {"noise": 0.5}, NEVER_SLOWER, "--preset", "quick", "--strict-verdicts")
    assert outcomes(strict) == {"failed": 6}


def test_a_backend_that_is_unavailable_cannot_be_judged(runner: SuiteRunner) -> None:
    result = runner.run({"unavailable": "no such board; plug it in"})
    assert result.ret == CANNOT_JUDGE
    result.stdout.fnmatch_lines(["CANNOT JUDGE*", "*scripted is unavailable: no such board; plug it in*"])


def test_a_required_backend_that_is_unavailable_cannot_be_judged(runner: SuiteRunner) -> None:
    backend = runner.script(unavailable="no driver")
    result = runner.pytester.runpytest_inprocess("--require-backend", backend, "--layer", "resnet50.L16")
    assert result.ret == CANNOT_JUDGE
    result.stdout.fnmatch_lines(["CANNOT JUDGE: scripted is required, and unavailable: no driver*"])


@pytest.mark.parametrize("tests", [NEVER_SLOWER, "tests"])
def test_nothing_measured_is_no_success(runner: SuiteRunner, tests: str) -> None:
    result = runner.run({"rules": [{"fault": "unsupported"}]}, tests)
    assert result.ret == CANNOT_JUDGE
    result.stdout.fnmatch_lines(["CANNOT JUDGE: nothing was decided*"])


@pytest.mark.parametrize(
    ("script", "code"),
    [(FLAT, 0), (FLAT | {"rules": [{"when": "out_channels == 15", "fault": "crash"}]}, 1), ({"unavailable": "-"}, 125)],
)
def test_exit_codes_for_bisecting(runner: SuiteRunner, script: dict[str, Any], code: int) -> None:
    assert runner.run(script, NEVER_SLOWER, "--exit-codes", "bisect").ret == code


def test_a_usage_error_is_broken_for_bisecting(runner: SuiteRunner) -> None:
    result = runner.run(FLAT, NEVER_SLOWER, "--accept-baseline", "x", "-k", "out15", "--exit-codes", "bisect")
    assert result.ret > 127


@pytest.mark.parametrize("arguments", [["--layer", "nope"], ["--journal=/proc/nope/journal"]])
def test_every_user_s_mistake_is_broken_for_bisecting(runner: SuiteRunner, arguments: list[str]) -> None:
    result = runner.pytester.runpytest_inprocess(
        "--backend", runner.script(), "--exit-codes", "bisect", "--layer", "alexnet.L4", *arguments
    )
    assert result.ret > 127


def test_one_test_by_its_id_finds_nothing_vanished(runner: SuiteRunner) -> None:
    runner.accept(FLAT)
    test = f"{LATENCY}::test_latency[scripted-{PROBLEM}-float32-NCHW-out15]"
    assert outcomes(runner.run(FLAT, test, "--benchmark-compare")) == {"passed": 1}


def test_a_regression_that_a_fresh_process_does_not_show_again_is_undecided(runner: SuiteRunner) -> None:
    runner.accept(FLAT)
    unlucky = {"when": "out_channels == 9", "times": 1.5, "processes": [0, 1, 2, 3]}
    result = runner.run(FLAT | {"rules": [unlucky]}, LATENCY, "--benchmark-compare")
    assert outcomes(result) == {"passed": 6, "skipped": 1}
    result.stdout.fnmatch_lines(["undecided against the baseline: 1", "*a fresh process did not show it again*"])


def test_a_time_budget_states_its_coverage_and_is_no_failure(runner: SuiteRunner) -> None:
    result = runner.run(FLAT, NEVER_SLOWER, "--time-budget", "0.001s", "--strict-verdicts")
    result.stdout.fnmatch_lines(
        ["CANNOT JUDGE: *6 left out, of 6", "left out by the time budget: 6", "coverage: 0 of 6*", "next:"]
    )
    first = "next:\n  decide the rest:\n    the same command with a longer --time-budget and --resume="
    assert first in result.stdout.str()
    assert "doctor" not in result.stdout.str()
    assert outcomes(result) == {"skipped": 6}


def test_input_channels_are_an_option(runner: SuiteRunner) -> None:
    result = runner.run({"per_mac": 1e-8}, NEVER_SLOWER, "--side", "in", "-v")
    result.stdout.fnmatch_lines(["*-in3[]]*PASSED*"])


def test_each_comparison_is_journalled_once(runner: SuiteRunner) -> None:
    runner.run(FLAT, "--journal", "run.jsonl")
    events = [json.loads(line) for line in (runner.path / "run.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sum(one["event"] == "verdict" for one in events) == 7
    assert sum(one["event"] == "measured" for one in events) == 3 * 7


# Baselines


def test_accepting_shows_what_changes(runner: SuiteRunner) -> None:
    runner.accept(FLAT)
    result = runner.run(FLAT | {"rules": [HAZARD]}, "--accept-baseline", "a new board")
    result.stdout.fnmatch_lines(
        ["accepted 7 comparisons as *0002_1.0+0.json: a new board", "*out15: SAME*→ SLOWER [12].*"]
    )


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ({"rules": [{"when": "out_channels == 13", "fault": "crash"}]}, (), "*out13 is CRASHED*"),
        ({}, ("--time-budget", "0.001s"), "*"),
    ],
)
def test_a_run_that_crashed_or_is_partial_is_not_accepted(
    runner: SuiteRunner, script: dict[str, Any], arguments: tuple[str, ...], words: str
) -> None:
    result = runner.run(FLAT | script, "--accept-baseline", "x", *arguments)
    assert result.ret == 4
    result.stdout.fnmatch_lines([f"ERROR: not accepted: {words}"])
    assert not list(runner.path.glob("baselines/*/*.json"))


@pytest.mark.parametrize(
    ("script", "arguments", "words"),
    [
        ({}, ("-k", "out13"), "*was selected, but not run; narrow the run with --layer, not with -k"),
        ({}, (NEVER_SLOWER,), "*was selected, but not run*"),
        ({"unavailable": "no driver"}, (), "scripted is unavailable (no driver)"),
        ({"states": [UNSOUND]}, (), "scripted's device is unsound for timing: *; *"),
        ({"states": [UNSOUND]}, ("--unsound", "warn"), "scripted's device is unsound for timing: *; *"),
    ],
)
def test_what_can_t_be_accepted_is_refused_before_anything_is_measured(
    runner: SuiteRunner, script: dict[str, Any], arguments: tuple[str, ...], words: str
) -> None:
    result = runner.run(FLAT | script, "--accept-baseline", "x", "--journal=run.jsonl", *arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: not accepted, and so not measured: {words}"])
    assert "= never-slower =" not in result.stdout.str()
    assert not (runner.path / "run.jsonl").exists()


def test_a_run_with_wrong_outputs_is_not_accepted(runner: SuiteRunner) -> None:
    """The process that compares the outputs is another one than that which examined them, and found them right."""
    runner.run(FLAT, "--journal", "run.jsonl")
    journal = runner.path / "run.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines(keepends=True)
    journal.write_text("".join(line for line in lines if '"event":"agreement"' not in line), encoding="utf-8")
    wrong = {"when": "out_channels == 13", "fault": "wrong"}
    result = runner.run(FLAT | {"rules": [wrong]}, "--resume", "run.jsonl", "--accept-baseline", "x")
    result.stdout.fnmatch_lines(["ERROR: not accepted: *out13, its output: off by *"])


def test_a_narrower_run_does_not_hide_a_fuller_baseline(runner: SuiteRunner) -> None:
    runner.accept(FLAT, "--problem", "mb1_ic4oc8_ih6kh3ph1")
    result = runner.run(FLAT, "--accept-baseline", "x")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: not accepted, and so not measured: *also holds mb1_ic4oc8_ih6kh3ph1*"])


def test_a_damaged_baseline_is_told_before_anything_is_measured(runner: SuiteRunner) -> None:
    path = runner.accept(FLAT)
    path.write_text("{", encoding="utf-8")
    result = runner.run(FLAT, "--journal=run.jsonl")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: baseline {path}: not whole JSON*"])
    assert '"measured"' not in (runner.path / "run.jsonl").read_text(encoding="utf-8")


def test_a_folder_that_can_t_be_written_is_told_before_anything_is_measured(runner: SuiteRunner) -> None:
    result = runner.run(FLAT, "--accept-baseline", "x", "--baselines=/proc/nope")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: no baseline can be stored in /proc/nope: *--baselines=*"])


def test_a_reason_is_needed(runner: SuiteRunner) -> None:
    result = runner.run(FLAT, "--accept-baseline", " ")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --accept-baseline needs a reason*"])


def test_the_nearest_lower_version_is_compared_with(runner: SuiteRunner) -> None:
    for version in ("9.2", "9.19", "9.3"):
        runner.accept(FLAT | {"version": version})
    result = runner.run(FLAT | {"version": "9.20"}, LATENCY, "--benchmark-compare")
    result.stdout.fnmatch_lines(["*baseline 0002_9.19+0.json*"])


def test_two_builds_of_a_version_are_told_apart(runner: SuiteRunner) -> None:
    one = runner.accept(FLAT | {"build": "abc1234"})
    other = runner.accept(FLAT | {"build": "def5678"})
    assert (one.name, other.name) == ("0001_1.0+abc1234.json", "0002_1.0+def5678.json")


def test_pytest_benchmark_reads_the_baselines(runner: SuiteRunner) -> None:
    one, other = runner.accept(FLAT), runner.accept(FLAT | {"rules": [HAZARD]})
    command = [sys.executable, "-m", "pytest_benchmark", "--storage", str(runner.path / "baselines")]
    listed = subprocess.run([*command, "list"], capture_output=True, text=True, check=True)
    assert one.name in listed.stdout
    compared = subprocess.run([*command, "compare", str(one), str(other)], capture_output=True, text=True, check=True)
    assert "out15" in compared.stdout


def test_pytest_benchmark_compares_inside_the_checkout() -> None:
    paths = sorted(str(path) for path in (ROOT / "baselines").glob("*/*.json"))
    command = [sys.executable, "-m", "pytest_benchmark", "--storage", "baselines", "compare", paths[0]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "resnet50.L16" in done.stdout


def test_a_histogram_needs_pygal(runner: SuiteRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygal", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = runner.run(FLAT, "--benchmark-histogram")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: --benchmark-histogram needs pygal*"])


def test_pytest_benchmark_compares_in_its_own_table(runner: SuiteRunner) -> None:
    runner.accept(FLAT)
    plain = runner.run(FLAT, LATENCY, "--benchmark-compare")
    assert "NOW" not in plain.stdout.str()
    result = runner.run(FLAT, LATENCY, "--benchmark-compare", "--benchmark-columns=median")
    result.stdout.fnmatch_lines(["*0001_chosen*", "*out15*NOW*", "*= never-slower =*"])


def test_a_saved_run_can_be_compared_with(runner: SuiteRunner) -> None:
    runner.run(FLAT, LATENCY, "--benchmark-json", "run.json")
    result = runner.run(FLAT, LATENCY, "--benchmark-compare=run.json", "--strict-verdicts")
    assert outcomes(result) == {"passed": 7}


@pytest.mark.parametrize("option", ["--benchmark-save=mine", "--benchmark-autosave"])
def test_what_pytest_benchmark_saves_lies_apart_from_what_was_accepted(runner: SuiteRunner, option: str) -> None:
    runner.run(FLAT, LATENCY, option, "--benchmark-save-data")
    assert list(runner.path.glob(".benchmarks/*/0001_*.json"))
    assert not (runner.path / "baselines").exists()


def test_recorded_samples_are_the_device_s(runner: SuiteRunner) -> None:
    runner.run(FLAT | {"noise": 0.0}, LATENCY, "--benchmark-json", "run.json")
    content = json.loads((runner.path / "run.json").read_text(encoding="utf-8"))
    for one in content["benchmarks"]:
        assert set(one["stats"]["data"]) == {1e-4}
        assert one["extra_info"]["blocks"] == [8] * 3
        assert one["options"]["timer"] == "device_time"


# Options


@pytest.mark.parametrize("flag", ["--benchmark-only", "--benchmark-disable", "--benchmark-skip"])
def test_options_that_would_hide_verdicts_are_refused(runner: SuiteRunner, flag: str) -> None:
    result = runner.run(FLAT, flag)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {flag} would skip verdicts*"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend", "cudn"], "unknown backend 'cudn'*known: *"),
        (["--network", "resnet5"], "unknown network 'resnet5'; did you mean resnet50?*"),
        (["--layer", "resnet50.L99"], "no layer matches 'resnet50.L99' (resnet50 has resnet50.L0 to resnet50.L52*"),
        (["--problem", "mb1_ic3oc_ih7kh3"], "descriptor 'mb1_ic3oc_ih7kh3', character 10: oc needs a number"),
        (["--dtype", "float64"], "--dtype 'float64': unknown (known: float32*"),
        (["--time-budget", "soon"], "--time-budget: 'soon' is not a duration*"),
        (["--blocks", "0"], "--blocks 0: from 1 to 1000"),
        (["--time-limit", "0"], "--time-limit: '0' is not a duration*"),
        (["--time-budget", "1.5.2m"], "--time-budget: '1.5.2m' is not a duration*"),
        (["--backend", "onednn", "--backend", "onednn:x"], "--backend onednn:x: onednn is named twice*"),
        (["--benchmark-compare=9999"], "--benchmark-compare=9999: no such file*"),
    ],
)
def test_a_user_s_mistake_is_one_clear_line(runner: SuiteRunner, arguments: list[str], words: str) -> None:
    backend = [] if "--backend" in arguments else ["--backend", runner.script()]
    result = runner.pytester.runpytest_inprocess(*backend, *arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {words}"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_collecting_loads_no_vendor_library() -> None:
    code = (
        "import sys, pytest; code = pytest.main(['--collect-only', '-q', '-q', 'tests']);"
        "loaded = {'torch', 'tvm', 'scipy.stats', 'cudnn'} & set(sys.modules);"
        "assert not loaded, loaded; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_option_is_explained_in_the_help(runner: SuiteRunner) -> None:
    text = runner.pytester.runpytest_inprocess("-h").stdout.str()
    for word in ("--backend=NAME", "--require-backend", "--layer=PATTERN", "--problem=DESCRIPTOR", "--accept-baseline"):
        assert word in text
