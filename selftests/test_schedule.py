"""What a time budget is spent on, and what is said early of a run: simulated costs, without devices or processes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import budgets
from bench.budgets import KINDS, Drawn, Kind, Row
from neverslower.campaign import campaign
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings
from neverslower.campaign.forecast import Forecast
from neverslower.campaign.rechecking import recheck
from neverslower.campaign.settings import Settings
from neverslower.evidence.observation import in_step
from neverslower.judge.verdict import Code, Reason, ReasonCode, Verdict
from neverslower.outcome.run_verdict import RunCode
from neverslower.outcome.table import Finding
from neverslower.problem.comparison import Comparison
from neverslower.report import words
from neverslower.report.next_steps import next_steps
from selftests import in_process
from selftests.conftest import SuiteRunner
from selftests.support import comparison, layers, scripted

CLEAR = KINDS[0]
ALL_ALIKE = Kind("all need two", {2: 1.0}, 0.0)


@pytest.mark.parametrize("kind", KINDS[:2], ids=lambda kind: kind.name)
@pytest.mark.parametrize("passes", [3.0, 5.0, 20.0])
def test_a_budget_decides_most_of_what_hindsight_would_and_its_end_is_foreseen(kind: Kind, passes: float) -> None:
    rows = [Row.of(Drawn.of(kind, seed), passes) for seed in range(2)]
    assert sum(row.decided for row in rows) >= 0.8 * sum(row.with_hindsight for row in rows)
    assert max(row.off_by for row in rows) < 2


@pytest.mark.parametrize("kind", KINDS[2:], ids=lambda kind: kind.name)
@pytest.mark.parametrize("passes", [3.0, 20.0])
def test_where_needs_are_unlike_a_budget_decides_most_of_what_known_costs_would(kind: Kind, passes: float) -> None:
    rows = [Row.of(Drawn.of(kind, seed), passes) for seed in range(2)]
    assert sum(row.decided for row in rows) >= 0.75 * sum(row.costs_known for row in rows)
    assert max(row.off_by for row in rows) < 2


@pytest.mark.parametrize("arms", [1, budgets.ARMS])
def test_a_budget_that_lasts_for_two_passes_of_a_layer_is_used(arms: int) -> None:
    """Though three are usual, and nothing else would get done in it."""
    whole = Drawn.of(ALL_ALIKE, 0, layers=1)
    drawn = replace(whole, comparisons=whole.comparisons[:arms])
    findings, _ = budgets.run(drawn, 1.3 * drawn.seconds(drawn.comparisons))
    verdicts = [(one.telling, findings.results[one.identity].verdict.code) for one in drawn.comparisons]
    done = [telling for telling, code in verdicts if code is not Code.UNDECIDED]
    assert len(done) >= arms / 2
    assert done == [*range(len(done))]


def test_of_what_costs_the_same_the_most_telling_is_decided() -> None:
    drawn = Drawn.of(ALL_ALIKE, 0)
    alike = replace(drawn, costs=dict.fromkeys(drawn.costs, 0.05), examining=dict.fromkeys(drawn.costs, 0.05))
    findings, _ = budgets.run(alike, 2 * alike.a_pass)
    left = [one for one in drawn.comparisons if findings.results[one.identity].verdict.code is Code.UNDECIDED]
    done = [one for one in drawn.comparisons if one not in left]
    assert len(done) > len(drawn.comparisons) / 4
    assert max(one.telling for one in done) <= min(one.telling for one in left) + 1


def test_what_is_saved_goes_to_what_was_left_out_and_nothing_is_begun_for_one_pass() -> None:
    drawn = Drawn.of(ALL_ALIKE, 1)
    findings, noted = budgets.run(drawn, 3.2 * drawn.a_pass)
    measured = [fields for _, event, fields in noted.lines if event == "measured"]
    begin = min(fields["started"] for fields in measured)
    first = {fields["candidate"] for fields in measured if fields["started"] == begin}
    ever = {fields["candidate"] for fields in measured}
    assert first < ever
    half = [result for result in findings.results.values() if len(result.passes) == 1]
    assert len(half) <= 2
    assert {result.verdict.reason.code for result in findings.results.values() if not result.passes} <= {
        ReasonCode.TIME_BUDGET
    }


def test_what_a_pass_measures_is_in_the_order_given_whatever_it_costs() -> None:
    """Orders of preparation are drawn from it by the seed, and must come out alike in each run."""
    orders = []
    for seed in (3, 4):  # Other costs.
        drawn = replace(Drawn.of(ALL_ALIKE, seed), slower=frozenset())
        _, noted = budgets.run(drawn, 100 * drawn.a_pass)
        orders.append([fields["candidate"] for _, event, fields in noted.lines if event == "measured"])
    assert orders[0] == orders[1]


@pytest.mark.parametrize(("seed", "passes"), [(0, 2.0), (0, 3.0), (0, 5.0), (1, 8.0)])
def test_no_process_is_started_that_would_be_ready_after_the_end(
    monkeypatch: pytest.MonkeyPatch, seed: int, passes: float
) -> None:
    """A start takes as long as a pass here, and is planned to take nothing, as where processes load ahead."""
    monkeypatch.setattr(campaign, "_start_ahead", lambda *_, **__: 1)  # As if those that loaded were used up.
    drawn = Drawn.of(CLEAR, seed)
    drawn = replace(drawn, start=sum(drawn.costs.values()))
    findings, noted = budgets.run(drawn, passes * drawn.a_pass)
    assert budgets.decided(findings) > len(drawn.comparisons) / 4
    assert noted.clock.now <= passes * drawn.a_pass


def test_nothing_is_looked_at_again_where_a_process_for_it_would_come_too_late() -> None:
    late: Any = SimpleNamespace(start=5.0, spent=lambda planned: planned > 4.0)
    recheck(late, asked())  # It asks no library for one.


def test_without_a_budget_everything_is_measured_in_every_pass_until_it_is_decided() -> None:
    drawn = Drawn.of(CLEAR, 2, layers=4)
    findings, _ = budgets.run(drawn, None)
    for result in findings.results.values():
        assert len(result.passes) == min(drawn.needs[result.comparison.keys[1]], budgets.MOST_PASSES)


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[4]], ids=lambda kind: kind.name)
@pytest.mark.parametrize("passes", [0.5, 2.0])
def test_how_much_time_was_lacking_is_foretold_to_a_factor_of_two(kind: Kind, passes: float) -> None:
    drawn = Drawn.of(kind, 0)
    short, endless = (budgets.run(drawn, budget)[0] for budget in (passes * drawn.a_pass, None))
    lacking = short.lacking["simulated"] / (endless.seconds - short.seconds)
    assert 0.5 < lacking < 2
    assert endless.lacking == {}


def steps(
    findings: Findings, code: RunCode = RunCode.CANNOT_JUDGE, assessed: Sequence[object] = ()
) -> list[tuple[str, str]]:
    """What is said to be done next after a run that decided nothing, unless another code is given."""
    shown = {"assessed": assessed, "wholes": (), "standings": {}, "specs": {}, "journal": "run.jsonl"}
    more = {"acceptance": (), "storable": True}
    overview: Any = SimpleNamespace(findings=findings, verdict=SimpleNamespace(code=code), **shown, **more)
    return list(next_steps(overview))


def test_what_got_slower_and_is_not_confirmed_is_answered_with_more_time() -> None:
    unconfirmed = SimpleNamespace(finding=Finding.CHANGE_UNCONFIRMED)
    ((purpose, how),) = steps(Findings(), RunCode.INCOMPLETE, [unconfirmed])
    assert purpose == "confirm what got slower"
    assert how == "the same command with a longer --time-budget and --resume=run.jsonl"


def test_an_upgrade_that_noise_hides_is_answered_with_more_samples() -> None:
    reason = Reason(ReasonCode.TOO_NOISY, "neither could be proved")
    hidden = SimpleNamespace(finding=Finding.CHANGE_UNDECIDED, verdict=Verdict(Code.UNDECIDED, reason))
    assert steps(Findings(), RunCode.INCOMPLETE, [hidden]) == [
        ("decide what was too noisy", "the same command with --preset=thorough")
    ]


def test_a_budget_that_was_too_short_is_answered_with_a_longer_one_and_noise_with_the_doctor() -> None:
    drawn = Drawn.of(ALL_ALIKE, 0)
    findings, _ = budgets.run(drawn, 0.8 * drawn.a_pass)
    ((purpose, how),) = steps(findings)
    assert re.fullmatch(r"decide the rest, which takes about \d+ s more", purpose)
    assert re.fullmatch(r"the same command with --time-budget=\d+[sm] and --resume=run\.jsonl", how)
    for begun, doctor in ((3, []), (96, ["python -m neverslower doctor"])):  # Of 96 in all.
        findings.foresee("simulated", Forecast(1, begun, begun, 0.2, begun, seconds_for_all=900.0, seconds_left=1.0))
        assert [each for _, each in steps(findings)] == [*doctor, how]


@pytest.mark.parametrize(("seconds", "budget"), [(3, "10s"), (30, "30s"), (31, "1m"), (2600, "45m"), (2800, "1h")])
def test_a_budget_to_give_is_a_round_one(seconds: float, budget: str) -> None:
    assert words.time_budget(seconds) == budget
    assert words.parse_duration(budget) >= seconds


# A machine that is too noisy


def noisy(folder: Path, noise: float, **settings: Any) -> tuple[Campaign, list[tuple[str, Forecast]]]:
    """A campaign on a script with so much noise, whose clock moves by a second with each comparison measured."""
    told: list[tuple[str, Forecast]] = []
    clock = budgets.Clock()

    def progress(phase: str, done: int, total: int, seconds_left: float | None) -> None:
        clock.now += "measure" in phase

    campaign = Campaign(
        {"scripted": scripted(folder, noise=noise)},
        Settings(**settings),
        clock=clock,
        progress=progress,
        start=in_process.start,
        tell=lambda backend, forecast: told.append((backend, forecast)),
    )
    return campaign, told


def asked() -> list[Comparison]:
    return [comparison(1, unpruned) for unpruned in layers(4)]


def test_a_machine_that_is_too_noisy_for_its_budget_is_told_early_and_once(tmp_path: Path) -> None:
    campaign, told = noisy(tmp_path, 0.2, time_budget=30.0)
    findings = campaign.run(asked())
    ((backend, forecast),) = told
    assert (backend, forecast.begun, forecast.undecided) == ("scripted", 4, 4)
    assert forecast.passes <= 3
    assert forecast.mde is not None
    assert forecast.mde > 0.03
    assert forecast.seconds_for_all > forecast.seconds_left
    assert forecast.seconds_for_all == pytest.approx(4 * 24 - 4 * forecast.passes, rel=0.3)  # All that the judge wants.
    assert findings.noisy["scripted"].passes <= 3


@pytest.mark.parametrize(("noise", "budget"), [(0.2, None), (0.2, 1e4), (0.002, 40.0)])
def test_who_has_time_enough_or_no_noise_is_not_told(tmp_path: Path, noise: float, budget: float | None) -> None:
    campaign, told = noisy(tmp_path, noise, time_budget=budget)
    findings = campaign.run(asked())
    assert told == []
    assert findings.noisy == {}


def test_what_is_expected_is_said_in_words() -> None:
    forecast = Forecast(2, undecided=200, begun=218, mde=0.087, lost=190, seconds_for_all=1500.0, seconds_left=200.0)
    assert words.too_noisy("onednn", forecast) == (
        "onednn: forecast: this machine looks too noisy for the time budget: after 2 passes 200 of 218 comparisons "
        "undecided; the smallest slowdown that it can prove is 8.7%, and the rest would take 25 min 00 s of measuring"
    )
    assert words.was_too_noisy("onednn", forecast, 150) == (
        "onednn: too noisy for the time budget, as was forecast after 2 passes: 150 of 218 comparisons stayed "
        "undecided; the smallest slowdown that it can prove is 8.7%, and the rest would have taken 25 min 00 s of "
        "measuring"
    )
    assert "it can prove nothing" in words.too_noisy("onednn", replace(forecast, mde=None))


def foreseen(runner: SuiteRunner, monkeypatch: pytest.MonkeyPatch, noise: float) -> pytest.RunResult:
    """A run whose forecast is always one of too much noise."""
    monkeypatch.setattr(Forecast, "too_noisy", True)
    options = ("--time-budget=1h", "--preset=quick", "--journal=run.jsonl")
    return runner.run({"noise": noise}, "tests/test_never_slower.py", *options)


def test_a_noisy_run_says_so_at_once_as_a_forecast_and_in_the_end_as_what_came_true(
    runner: SuiteRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = foreseen(runner, monkeypatch, 0.3)
    early = "scripted: forecast: this machine looks too noisy for the time budget: after * undecided; *"
    late = "scripted: too noisy for the time budget, as was forecast after *: * stayed undecided; *"
    result.stdout.fnmatch_lines([early, "tests/test_never_slower.py *", "*= never-slower =*", late])
    assert '"event":"forecast"' in (runner.path / "run.jsonl").read_text(encoding="utf-8")


def test_a_forecast_that_did_not_come_true_is_not_among_the_results(
    runner: SuiteRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = foreseen(runner, monkeypatch, 0.02)
    result.stdout.fnmatch_lines(["GREEN: *"])
    summary = result.stdout.str().partition("never-slower =")[2]
    assert "noisy" not in summary


# Late passes


def test_only_what_the_first_processes_measured_without_a_gap_shows_what_they_have_in_common() -> None:
    started = {"all": (1.0, 2.0, 3.0), "short": (1.0,), "late": (2.0, 3.0), "gap": (1.0, 3.0)}
    assert in_step(started) == ["all", "short"]
    assert in_step({"old": (None, None), "other": (None,)}) == ["old", "other"]
    assert in_step({"before": (1.0, 3.0, 4.0), "after": (2.0, 3.0, 4.0)}) == ["before", "after"]


def test_what_runs_equal_code_in_both_libraries_comes_last_and_is_said_not_to_be_timed(tmp_path: Path) -> None:
    """Nothing is claimed of it: that it was not timed is another thing than that it takes as long."""
    same = {"when": "out_channels >= 13", "code": "abc", "plan": "kept"}
    specs = []
    for name, code in (("old", "1"), ("new", "2")):
        (tmp_path / name).mkdir()
        rules = [{"seconds": 0.1, "code": code}, same]
        specs.append(scripted(tmp_path / name, version=name, noise=0.002, rules=rules))
    clock = budgets.Clock()

    def progress(phase: str, done: int, total: int, seconds_left: float | None) -> None:
        clock.now += 2.0 if "measure" in phase else 0.01

    many = [comparison(distance, telling=telling) for telling, distance in enumerate((0, 1, 3, 7, 9, 11))]
    campaign = Campaign(
        {"scripted": specs[1]},
        Settings(passes=4, time_budget=120.0),
        against={"scripted": specs[0]},
        clock=clock,
        progress=progress,
        start=in_process.start,
    )
    results = campaign.run(many).results.values()
    timed = {result.comparison.candidate.out_channels for result in results if result.passes}
    left = [result for result in results if not result.passes]
    assert {5, 7, 9} <= timed
    assert left
    assert {result.comparison.candidate.out_channels for result in left} <= {13, 15, 16}
    assert all("both libraries launch the same kernels from equal code" in one.verdict.reason.text for one in left)
    assert {(one.verdict.code, one.verdict.reason.code) for one in left} == {
        (Code.UNDECIDED, ReasonCode.TIME_BUDGET),
    }
