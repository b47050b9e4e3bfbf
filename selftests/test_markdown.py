"""The summary that a workflow's page shows."""

from __future__ import annotations

import pytest

from neverslower.report.markdown import MOST_LINES, MOST_ROWS
from selftests.conftest import SuiteRunner
from selftests.test_plugin import FLAT, HAZARD, LATENCY, NEVER_SLOWER


@pytest.fixture
def page(runner: SuiteRunner, monkeypatch: pytest.MonkeyPatch):
    path = runner.path / "page.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    return path


def test_a_green_run_says_so_first(runner: SuiteRunner, page):
    runner.run(FLAT, NEVER_SLOWER)
    assert page.read_text().splitlines() == [
        "## never-slower: GREEN: 0 slower, 6 not slower, of 6",
        "",
        "- not covered: nothing",
        "- scripted 1.0 (0) on scripted; no baseline in baselines/scripted@scripted; "
        "accept one with --accept-baseline REASON",
    ]


def test_a_regression_is_a_row_with_ratio_and_why(runner: SuiteRunner, page):
    runner.accept(FLAT)
    page.unlink()
    runner.run(FLAT | {"rules": [HAZARD]}, "--benchmark-compare", "--strict-verdicts")
    told = page.read_text().splitlines()
    assert told[0].startswith("## never-slower: RED: ")
    assert "1 × slower than the baseline" in told[0]
    assert "1 × new hazard" in told[0]
    rows = [line.split(" | ") for line in told if line.startswith("| scripted")]
    assert [row[:2] for row in rows] == [["| scripted mb1_ic4oc16_ih6kh3ph1", "15 of 16"]] * 2
    assert all(row[2].startswith(("1.99", "2.0")) and row[3].endswith("cause: unknown |") for row in rows)


def test_many_regressions_stay_within_the_page(runner: SuiteRunner, page):
    shapes = [part for n in range(1, 9) for part in ("--problem", f"mb1_ic{n}oc16_ih3kh1ph0")]
    rules = [{"when": "out_channels != 16", "times": 2.0}]
    runner.run(FLAT | {"rules": rules}, *shapes, "--strict-verdicts", "--preset", "quick")
    lines = page.read_text().splitlines()
    assert len(lines) <= MOST_LINES
    assert f"| … and {9 * 6 - MOST_ROWS} more | | | |" in lines


def test_what_was_not_covered_is_named(runner: SuiteRunner, page):
    runner.run(FLAT | {"rules": [{"when": "out_channels == 15", "fault": "unsupported"}]}, LATENCY)
    assert "- not covered: 1 × unsupported\n" in page.read_text()


def test_what_is_undecided_does_not_push_a_regression_off_the_page(runner: SuiteRunner, page):
    runner.accept(FLAT | {"rules": [HAZARD]}, "--keep", "13")
    page.unlink()
    runner.run(FLAT | {"rules": [HAZARD]}, NEVER_SLOWER, LATENCY, "--benchmark-compare", "--strict-verdicts")
    told = page.read_text()
    assert told.startswith("## never-slower: RED: 5 × no baseline to compare with, 1 × hazard found")
    assert told.count("| scripted ") == 1
    assert "- not covered: 5 × no baseline to compare with\n" in told


def test_a_run_that_cannot_judge_is_not_green(runner: SuiteRunner, page):
    runner.run(FLAT | {"unavailable": "no board | none"}, NEVER_SLOWER)
    told = page.read_text()
    assert told.startswith("## never-slower: CANNOT JUDGE: nothing was decided; ")
    assert "- not covered: 6 × backend unavailable" not in told
    assert "scripted: no board \\| none" in told


def test_an_unsound_device_is_told(runner: SuiteRunner, page):
    looks = [{"unsound": [{"trouble": "hot", "text": "hot", "remedy": "wait"}]}]
    runner.run(FLAT | {"states": looks}, NEVER_SLOWER, "--unsound", "warn")
    assert "- scripted: UNSOUND: hot; fix: wait\n" in page.read_text()


def test_two_runs_of_one_step_follow_each_other(runner: SuiteRunner, page):
    runner.run(FLAT, NEVER_SLOWER)
    runner.run(FLAT, NEVER_SLOWER)
    assert page.read_text().count("## never-slower: GREEN") == 2


def test_a_page_that_cant_be_written_changes_no_verdict(runner: SuiteRunner, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(runner.path))
    assert runner.run(FLAT, NEVER_SLOWER).ret == 0
