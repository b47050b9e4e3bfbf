"""Another library beside this one: passes in pairs, the change of each channel count, and what it is told as."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neverslower import cli
from neverslower.baseline.folders import BaselineChoice
from neverslower.campaign import campaign
from neverslower.campaign.campaign import Campaign, NoBaselines
from neverslower.campaign.findings import Findings
from neverslower.campaign.resume import load
from neverslower.campaign.settings import Settings
from neverslower.device.readers import limits
from neverslower.errors import NeverSlowerError, Unavailable, WorkerDied
from neverslower.evidence.observation import PairedPass, Plan
from neverslower.files.journal import Journal
from neverslower.judge import change
from neverslower.judge.change import PassSpread, Variance, judge_pairs, pairs_needed
from neverslower.judge.verdict import Code
from neverslower.outcome.assessment import Assessment
from neverslower.outcome.beside import baseline_of, plan_difference
from neverslower.outcome.rejudge import changes_of
from neverslower.outcome.table import Finding
from neverslower.outcome.tally import Questions, tallies
from neverslower.outcome.upgrade import Change, changes
from neverslower.problem.comparison import Comparison
from neverslower.report import upgrade
from neverslower.report.listing import listing
from neverslower.report.run_verdict import tally_words
from neverslower.worker.process import StartWorker, Worker, WorkerSpec
from selftests import in_process
from selftests.conftest import SuiteRunner
from selftests.in_process import InProcess
from selftests.support import comparison, fake_passes, script, scripted

FOUR = [comparison(distance) for distance in (0, 1, 3, 7)]
STEADY: dict[str, Any] = {"seconds": 1e-5}
SETTINGS = Settings(passes=4)
SPEC = "popen//python=old"


def rule(channels: int, **fields: Any) -> dict[str, Any]:
    return {"when": f"out_channels == {channels}"} | fields


class Reviewer(NoBaselines):
    """Sets this library against the other one as a session does."""

    def __init__(self) -> None:
        self.choices: dict[str, BaselineChoice] = {}
        self.campaign: Campaign

    def beside(self, backend: str, before: Findings) -> None:
        self.choices[backend] = BaselineChoice(baseline_of(before, backend, SPEC))

    @property
    def assessment(self) -> Assessment:
        return Assessment(self.campaign.findings, self.choices, True, self.campaign.before)

    def regressed(self, backend: str) -> list[Comparison]:
        return self.assessment.regressed(backend)


def run(
    folder: Path,
    old: list[dict[str, Any]],
    new: list[dict[str, Any]],
    settings: Settings = SETTINGS,
    checked: Sequence[Comparison] = (),
    **others: Any,
) -> tuple[Reviewer, dict[int, Change]]:
    """A campaign of four channel counts with these rules on either side, and what changed, by channel count."""
    specs = []
    for name, rules in (("old", old), ("new", new)):
        (folder / name).mkdir(exist_ok=True)
        noise = {"noise": 0.01, "version": name, "process_effect": 0.002}
        script = noise | others.pop(f"{name}_script", {})
        specs.append(scripted(folder / name, rules=[STEADY, *rules], **script))
    reviewer = Reviewer()
    given: dict[str, Any] = {"reviewer": reviewer, "against": {"scripted": specs[0]}, "start": in_process.start}
    reviewer.campaign = Campaign({"scripted": specs[1]}, settings, **given | others)
    reviewer.campaign.run(FOUR, checked)
    found = changes(reviewer.assessment, reviewer.campaign.findings)
    return reviewer, {one.channels: one for one in found}


def test_each_channel_count_is_judged_new_against_old(tmp_path: Path) -> None:
    old = [rule(9, times=2.0)]
    new = [rule(15, times=1.2), rule(9, plan="better")]
    _, found = run(tmp_path, old, new)
    assert {channels: one.code for channels, one in found.items()} == {
        16: Code.SAME,
        15: Code.SLOWER,
        13: Code.SAME,
        9: Code.FASTER,
    }
    slower = found[15]
    assert slower.ratio is not None
    assert slower.ratio.estimate == pytest.approx(1.2, rel=0.01)
    assert (slower.before_code, slower.now_code) == (Code.SAME, Code.SLOWER)
    assert slower.new_hazard
    assert found[9].gone_hazard
    assert slower.what.startswith("scheduling")
    assert found[9].what.startswith("dispatch; convolution plain became convolution better")
    assert found[16].what == ""


def test_a_library_that_slows_every_channel_count_is_slower_though_no_ratio_changed(tmp_path: Path) -> None:
    _, found = run(tmp_path, [], [{"times": 1.1}])
    assert [one.code for one in found.values()] == [Code.SLOWER] * 4
    assert [one.now_code for one in found.values()] == [Code.SAME] * 4


def test_two_sides_of_one_library_are_the_same(tmp_path: Path) -> None:
    reviewer, found = run(tmp_path, [], [])
    assert [one.code for one in found.values()] == [Code.SAME] * 4
    assert reviewer.campaign.findings.rechecks == {}


def test_the_processes_of_both_libraries_load_ahead_and_share_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, started = [], []

    def how_many(spec: WorkerSpec, memory: int, cores: int) -> int:
        machine.append((memory, cores))
        return 2

    class Noted(InProcess):
        def _open(self) -> None:
            super()._open()
            started.append(self.fingerprint.version)

        def sweep(self, *arguments: Any) -> Any:
            assert sorted(started[:4]) == ["new", "new", "old", "old"]
            return super().sweep(*arguments)

    monkeypatch.setattr(campaign, "how_many_ahead", how_many)
    monkeypatch.setattr(limits, "memory", lambda: 10)
    monkeypatch.setattr(limits, "cores", lambda: 6)
    _, found = run(tmp_path, [], [rule(15, times=1.2)], start=lambda spec, process=0: Noted(spec, process))
    assert found[15].code is Code.SLOWER
    assert set(machine) == {(5, 3)}


def test_a_changed_plan_is_not_listed_under_the_reason_of_its_time(tmp_path: Path) -> None:
    reviewer, _ = run(tmp_path, [], [rule(15, times=1.3, plan="worse")])
    listed = list(listing([reviewer.assessment.no_regression(one) for one in FOUR], beside=True))
    assert listed[:3] == [
        "slower than the other library: 1",
        "  shown again in a fresh process",
        f"    {reviewer.assessment.no_regression(FOUR[1]).verdict.ratio}  {FOUR[1].id}",
    ]
    assert listed[3:5] == ["plan differs from the other library's: 1", f"  {listed[2].strip()}"]


class Timer:
    """A clock by which each look at a layer takes a second."""

    def __init__(self) -> None:
        self.now, self.pairs = 0.0, 0

    def __call__(self) -> float:
        return self.now

    def start(self, spec: WorkerSpec, process: int = 0) -> Worker:
        timer = self

        class Timed(InProcess):
            def sweep(self, *arguments: Any) -> Any:
                timer.now += 1.0
                timer.pairs += self.fingerprint.version == "new"
                return super().sweep(*arguments)

            def measure(self, *arguments: Any, **named: Any) -> Any:
                timer.now += 1.0
                return super().measure(*arguments, **named)

        return Timed(spec, process)


WOBBLES = [rule(9, times=1.1, processes=list(range(1, 40, 2)))]
"""One channel count that no number of pairs decides, which keeps a run busy to its end."""


def test_time_is_kept_to_show_again_what_got_slower(tmp_path: Path) -> None:
    """An upgrade's 30 slower layers, up to 2.1 times, were all undecided when the last pair had taken the time."""
    timer = Timer()
    settings = replace(SETTINGS, time_budget=15.0, explain_budget=0.0)
    _, found = run(tmp_path, [], [rule(15, times=1.3), *WOBBLES], settings, start=timer.start, clock=timer)
    assert found[15].code is Code.SLOWER
    assert found[9].code is Code.UNDECIDED
    assert timer.pairs > SETTINGS.passes
    assert timer.now <= 15.0


def test_no_time_is_kept_where_nothing_looks_slower_than_with_the_other_library(tmp_path: Path) -> None:
    timer = Timer()
    settings = replace(SETTINGS, time_budget=11.0, explain_budget=0.0)
    _, found = run(tmp_path, WOBBLES, WOBBLES, settings, start=timer.start, clock=timer)
    assert {one.code for one in found.values()} <= {Code.SAME, Code.UNDECIDED}
    assert timer.now > 9.0  # A pair takes two seconds, and two more would be kept.


def test_what_got_slower_and_could_not_be_shown_again_is_counted_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "recheck", lambda run, comparisons: None)
    reviewer, found = run(tmp_path, [], [rule(15, times=1.3)])
    assert found[15].code is Code.UNDECIDED
    assert found[15].unconfirmed
    assert upgrade.totals(list(found.values())).startswith("new against old: 1 slower (0 confirmed), 0 faster, 3 the")
    title, shown = upgrade.not_shown_again(list(found.values()))
    assert title == "1 slower than before, not shown again yet:"
    assert shown.startswith("  1.3")
    *_, row = upgrade.table(list(found.values()))
    assert row.startswith("| tiny float32 NCHW | 1 (0 confirmed) | 0 | 15 of 16, 1.3")
    assert len(list(upgrade.confirming(list(found.values())))) == 1
    (assessed,) = [reviewer.assessment.no_regression(one) for one in FOUR if one.candidate.out_channels == 15]
    assert assessed.finding is Finding.CHANGE_UNCONFIRMED
    (tally,) = tallies(Questions(recorded=FOUR), reviewer.assessment)
    assert tally_words(tally) == "against the other library: 1 slower (0 confirmed), 3 not slower, of 4"
    listed = list(listing([assessed], beside=True))
    assert listed[0] == "slower than the other library, not shown again yet: 1"
    assert "1.3" in listed[2]


def test_processes_alternate_in_mirrored_order_and_never_live_together(tmp_path: Path) -> None:
    order: list[str] = []
    alive: list[Worker] = []

    class Noted(InProcess):
        def _open(self) -> None:
            super()._open()
            order.append(self.fingerprint.version)
            alive.append(self)

        def measure(self, *arguments: Any, **named: Any) -> Any:
            assert alive == [self], "another process is on the device while this one is timed"
            return super().measure(*arguments, **named)

        def sweep(self, *arguments: Any) -> Any:
            assert alive == [self], "another process is on the device while this one is timed"
            return super().sweep(*arguments)

        def close(self) -> None:
            if self in alive:
                alive.remove(self)
            super().close()

    run(tmp_path, [], [], start=Noted)
    assert order[2:] == ["old", "new", "new", "old", "old", "new", "new", "old"]  # The first two examine.


def test_libraries_that_can_wait_take_mirrored_turns(tmp_path: Path) -> None:
    order: list[tuple[str, int, str, int]] = []

    class Noted(InProcess):
        def measure(self, reference: str, candidate: str, blocks: int, *others: Any, **named: Any) -> Any:
            order.append((self.fingerprint.version, self._number, candidate, blocks))
            return super().measure(reference, candidate, blocks, *others, **named)

    reviewer, found = run(tmp_path, [rule(9, times=2.0)], [rule(15, times=1.2)], start=Noted, **TURNS)
    assert {count: one.code for count, one in found.items()} == {
        16: Code.SAME,
        15: Code.SLOWER,
        13: Code.SAME,
        9: Code.FASTER,
    }
    of_one = [(version, number, blocks) for version, number, candidate, blocks in order if candidate == order[0][2]]
    first = [(version, number, 2) for version, number in [("old", 1), ("new", 1), ("new", 1), ("old", 1)] * 2]
    assert of_one[:8] == first
    assert [version for version, _, _ in of_one[8:16]] == ["new", "old", "old", "new"] * 2
    assert {number for _, number, _ in of_one[8:16]} == {2}
    findings = reviewer.campaign.findings
    assert {one.seconds.shape for one in findings.results[FOUR[0].identity].passes} == {(8, 2, 2)}
    again = [findings.rechecks, reviewer.campaign.before.rechecks]
    assert [list(one) for one in again] == [[FOUR[1].identity]] * 2
    assert all(one[FOUR[1].identity].seconds.shape == (16, 2, 2) for one in again)  # type: ignore[union-attr]


def test_in_every_other_pair_of_turns_candidates_are_prepared_ahead_and_first(tmp_path: Path) -> None:
    asked: dict[int, list[str]] = {}

    class Noted(InProcess):
        def prepare(self, key: str) -> None:
            asked.setdefault(self._number, []).append("ahead")
            super().prepare(key)

        def measure(self, reference: str, candidate: str, blocks: int, candidate_first=False, afresh=False):
            asked.setdefault(self._number, []).append("first" if candidate_first else "last")
            return super().measure(reference, candidate, blocks, candidate_first, afresh)

    run(tmp_path, [], [], start=Noted, **TURNS)
    turns = 2 * 4 * len(FOUR)  # Of either library, in mirrored pairs.
    ahead = 2 * (len(FOUR) - 1)  # The layer against itself has nothing to prepare before it.
    assert set(asked) == {1, 2, 3, 4}
    for number in (1, 3):
        assert asked[number] == ["last"] * turns
    for number in (2, 4):
        assert asked[number] == ["ahead"] * ahead + ["first"] * turns


@pytest.mark.parametrize("fault", [{"fault": "crash"}, {"fault": "crash", "processes": [2]}], ids=["always", "once"])
def test_a_crash_in_a_turn_is_as_one_in_a_pass(tmp_path: Path, fault: dict[str, Any]) -> None:
    (tmp_path / "there").mkdir()
    _, there = run(tmp_path / "there", [rule(15, **fault)], [], **TURNS)
    assert (15 in there) == ("processes" in fault)
    (tmp_path / "here").mkdir()
    reviewer, here = run(tmp_path / "here", [], [rule(15, **fault)], **TURNS)
    assert reviewer.assessment.no_regression(FOUR[1]).finding is Finding.CRASHED
    for found in (there, here):
        assert [found[count].code for count in (16, 13, 9)] == [Code.SAME] * 3


def test_a_change_that_another_pair_does_not_show_again_is_undecided(tmp_path: Path) -> None:
    """The fifth pair confirms that the new library is slower at it, and the sixth would show the change again."""
    _, found = run(tmp_path, [], [rule(15, times=1.2, processes=[0, 1, 2, 3, 4, 5])])
    assert found[15].code is Code.UNDECIDED
    assert found[15].now_code is Code.SLOWER
    assert "did not show it again" in found[15].reason


def test_a_slowness_of_both_in_another_pair_shows_no_change_again(tmp_path: Path) -> None:
    _, found = run(tmp_path, [rule(15, times=1.2, processes=[6])], [rule(15, times=1.2)])
    assert found[15].code is Code.UNDECIDED
    assert found[15].now_code is Code.SLOWER
    assert "did not show it again" in found[15].reason


@pytest.mark.parametrize("fault", ["unsupported", "crash", "wrong"])
def test_what_the_old_library_can_t_do_has_nothing_to_be_set_against(tmp_path: Path, fault: str) -> None:
    reviewer, found = run(tmp_path, [rule(15, fault=fault)], [])
    assert set(found) == {16, 13, 9}
    verdict = reviewer.assessment.no_regression(FOUR[1]).verdict
    assert verdict.reason.text.startswith("the other library has no time to compare with: ")
    assert reviewer.campaign.findings.results[FOUR[1].identity].verdict.code is Code.SAME


@pytest.mark.parametrize("process", [0, 2], ids=["examined", "measured"])
def test_an_accident_of_the_old_library_costs_nothing(tmp_path: Path, process: int) -> None:
    seeds: dict[str, Any] = {"old_script": {"seed": 1}, "new_script": {"seed": 1}}
    _, found = run(tmp_path, [rule(15, fault="crash", processes=[process])], [rule(15, times=1.2)], **seeds)
    assert {count: one.code for count, one in found.items()} == {
        16: Code.SAME,
        15: Code.SLOWER,
        13: Code.SAME,
        9: Code.SAME,
    }


@pytest.mark.parametrize("waits", [False, True])
def test_a_regression_that_the_old_library_can_t_show_again_is_told(tmp_path: Path, waits: bool) -> None:
    """Its sixth and seventh process are those of the sixth pair, which would show it again."""
    old = [rule(15, fault="crash", processes=[6, 7])]
    turns: dict[str, Any] = {"old_script": {"waits": waits}, "new_script": {"waits": waits}}
    _, found = run(tmp_path, old, [rule(15, times=1.2)], **turns)
    assert found[15].code is Code.UNDECIDED
    assert "could not be shown again, because the other library failed" in found[15].reason


def test_a_crash_of_the_new_library_is_red_however_often_it_happens(tmp_path: Path) -> None:
    reviewer, _ = run(tmp_path, [], [rule(15, fault="crash", processes=[2])])
    assert reviewer.assessment.no_regression(FOUR[1]).finding is Finding.CRASHED


def gone_from(number: int) -> StartWorker:
    """Starts workers, but none of the old library from the one with this number on."""

    def start(spec: WorkerSpec, process: int = 0) -> Worker:
        if "/old/" in spec.argument and process >= number:
            raise Unavailable("the image is gone")
        return in_process.start(spec, process)

    return start


TURNS: dict[str, Any] = {"old_script": {"waits": True}, "new_script": {"waits": True}}


@pytest.mark.parametrize("how", [{}, TURNS], ids=["in passes", "in turns"])
@pytest.mark.parametrize(
    ("number", "judged"),
    [
        pytest.param(1, {}, id="examined"),
        pytest.param(3, {16: Code.SAME, 15: Code.UNDECIDED, 13: Code.SAME, 9: Code.SAME}, id="measured"),
        pytest.param(5, {16: Code.SAME, 15: Code.UNDECIDED, 13: Code.SAME, 9: Code.SAME}, id="shown again"),
    ],
)
def test_an_old_library_that_is_lost_on_the_way_leaves_the_new_one_its_verdicts(
    tmp_path: Path, how: dict[str, Any], number: int, judged: dict[int, Code]
) -> None:
    """What the pairs had shown until then is told, in the run and from its journal, and nothing is shown again."""
    journal = Journal(tmp_path / "journal")
    old = [rule(16, fault="crash", processes=[0])] if number == 1 else []
    new, others = [rule(15, times=1.2)], {"start": gone_from(number)} | how
    reviewer, found = run(tmp_path, old, new, journal=journal, checked=FOUR[1:], **others)
    journal.close()
    findings = reviewer.campaign.findings
    assert [findings.results[one.identity].verdict.code for one in FOUR] == [Code.SAME, Code.SLOWER, *[Code.SAME] * 2]
    assert {one.verdict.code for one in findings.agreements.values()} == {Code.SAME}
    assert len(findings.agreements) == 3
    assert reviewer.campaign.before.alone == {"scripted": "the image is gone"}
    assert {count: one.code for count, one in found.items()} == judged
    if judged:
        assert "could not be shown again, because the other library failed: the image is gone" in found[15].reason
        again = changes_of(journal.path)
        assert again.alone == {"scripted": "the image is gone"}
        assert {one.channels: one for one in again.changes} == found


def test_what_crashed_on_one_side_is_read_again_as_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    _, found = run(tmp_path, [rule(15, fault="crash", processes=[3, 4])], [rule(9, times=1.2)], journal=journal)
    journal.close()
    assert set(found) == {16, 13, 9}
    assert {one.channels: one for one in changes_of(journal.path).changes} == found


def test_what_only_the_old_library_can_do_is_told(tmp_path: Path) -> None:
    reviewer, _ = run(tmp_path, [], [rule(15, fault="unsupported")])
    assert reviewer.assessment.no_regression(FOUR[1]).finding is Finding.DROPPED


def test_another_device_can_t_be_set_beside_this_one(tmp_path: Path) -> None:
    reviewer, found = run(tmp_path, [], [], old_script={"device": "another"})
    assert found == {}
    why = reviewer.campaign.findings.unavailable["scripted"]
    assert why.endswith("it measures something else: device name: another → scripted")


def test_a_library_that_does_not_start_is_told_with_the_option(tmp_path: Path) -> None:
    reviewer, _ = run(tmp_path, [], [], old_script={"unavailable": "no such library"})
    assert "--against popen: no such library" in reviewer.campaign.findings.unavailable["scripted"]


def test_the_number_of_pairs_is_planned_from_their_scatter_and_stated(tmp_path: Path) -> None:
    quiet, _ = run(tmp_path, [], [])
    noisy, found = run(tmp_path, [], [], new_script={"process_effect": 0.006, "seed": 1}, settings=Settings(passes=3))
    pairs = {
        name: len(one.campaign.findings.results[FOUR[0].identity].passes)
        for name, one in (("quiet", quiet), ("noisy", noisy))
    }
    stated = int(noisy.campaign.findings.pairs["scripted"].partition(" pairs of processes")[0])
    assert pairs["quiet"] == 4
    assert 4 < pairs["noisy"] < stated  # Of the 7 that are planned, what is clear takes 6.
    assert Code.SLOWER not in {one.code for one in found.values()}


def test_whether_something_changed_has_no_say_in_how_many_pairs_are_planned(tmp_path: Path) -> None:
    noisy = {"process_effect": 0.006, "seed": 1}
    planned = []
    for rules in ([], [{"times": 1.2}]):
        reviewer, _ = run(tmp_path, [], rules, new_script=noisy, settings=Settings(passes=3))
        planned.append(reviewer.campaign.findings.pairs["scripted"])
    assert planned[0] == planned[1]


def noting(found: list[tuple[str, int, str]]) -> StartWorker:
    """Starts workers that note who is asked to measure what: (version, the worker's number, candidate)."""

    class Noted(InProcess):
        def measure(self, reference: str, candidate: str, *others: Any, **named: Any) -> Any:
            found.append((self.fingerprint.version, self._number, candidate))
            return super().measure(reference, candidate, *others, **named)

        def sweep(self, reference: str, candidates: Sequence[str], *others: Any) -> Any:
            found.extend((self.fingerprint.version, self._number, candidate) for candidate in candidates)
            return super().sweep(reference, candidates, *others)

    return Noted


@pytest.mark.parametrize("how", [{}, TURNS], ids=["in passes", "in turns"])
@pytest.mark.parametrize("lines", [10, 11], ids=["after a pair", "amid a pair"])
def test_an_interrupted_run_beside_another_library_goes_on(tmp_path: Path, how: dict[str, Any], lines: int) -> None:
    asked: list[tuple[str, int, str]] = []
    how = {"start": noting(asked)} | how
    journal = tmp_path / "journal"
    opened = Journal(journal)
    _, whole = run(tmp_path, [], [rule(15, times=1.2)], journal=opened, **how)
    opened.close()
    first, kept = len(asked), journal.read_text().splitlines()
    measured = [number for number, line in enumerate(kept) if '"event":"measured"' in line]
    journal.write_text("\n".join(kept[: measured[lines - 1] + 1]) + "\n")
    recorded = load(journal)
    before = dict(recorded.passes)
    assert len(recorded.passes) + len(recorded.of_the_other.passes) == lines
    reviewer, again = run(tmp_path, [], [rule(15, times=1.2)], recorded=recorded, **how)
    assert {count: one.code for count, one in again.items()} == {count: one.code for count, one in whole.items()}
    pairs = len(recorded.passes)
    assert pairs == len(recorded.of_the_other.passes) >= 4
    requests = 2 * (4 if "new_script" in how else 1)  # Of a pair.
    assert len(asked) - first == first - requests * pairs
    for one in FOUR:
        passes = reviewer.campaign.findings.results[one.identity].passes
        for number, found in enumerate(passes):
            if (one.identity, number) in recorded.passes:
                assert np.array_equal(found.seconds, before[one.identity, number].seconds)


@pytest.mark.parametrize("how", [{}, TURNS], ids=["in passes", "in turns"])
def test_a_whole_run_that_goes_on_measures_nothing(tmp_path: Path, how: dict[str, Any]) -> None:
    asked: list[tuple[str, int, str]] = []
    how = {"start": noting(asked)} | how
    old, new = [rule(13, fault="unsupported"), rule(9, fault="wrong")], [rule(15, times=1.2)]
    opened, settings = Journal(tmp_path / "journal"), replace(SETTINGS, explain_budget=0.0)
    _, whole = run(tmp_path, old, new, settings, journal=opened, **how)
    opened.close()
    first = len(asked)
    _, again = run(tmp_path, old, new, settings, recorded=load(opened.path), **how)
    assert again == whole
    assert len(asked) == first


def test_a_run_in_turns_goes_on_in_turns(tmp_path: Path) -> None:
    opened = Journal(tmp_path / "journal")
    run(tmp_path, [], [], journal=opened, **TURNS)
    opened.close()
    with pytest.raises(NeverSlowerError, match="took turns after 2 blocks"):
        run(tmp_path, [], [], recorded=load(opened.path))


def test_a_pass_in_turns_is_that_of_one_process(tmp_path: Path) -> None:
    """A process of the old library dies in the third turn of its first pass; both begin that pass anew."""
    order: list[tuple[str, int, str]] = []

    class Dying(InProcess):
        def measure(self, reference: str, candidate: str, *others: Any, **named: Any) -> Any:
            order.append((self.fingerprint.version, self._number, candidate))
            if len(order) == 5:
                raise WorkerDied("killed", "")
            return super().measure(reference, candidate, *others, **named)

    _, found = run(tmp_path, [], [], start=Dying, **TURNS)
    assert [one.code for one in found.values()] == [Code.SAME] * 4
    first = order[0][2]
    before = [("old", 1), ("new", 1), ("new", 1), ("old", 1), ("old", 1)]  # The last of them dies.
    asked_again = [("old", 2), ("new", 1), ("new", 1), ("old", 2)]
    whole = [("old", 2), ("new", 1), ("new", 1), ("old", 2)] * 2
    of_first = [(version, number) for version, number, candidate in order if candidate == first]
    assert of_first[:17] == before + asked_again + whole


# Pairs, as numbers


def test_a_pair_is_an_old_and_a_new_pass_of_one_moment() -> None:
    def passes(*levels: float) -> list[PairedPass]:
        """Candidates of these levels, beside references that took a second."""
        sides = np.exp([[0.0, level] for level in levels])
        return [PairedPass(np.tile(one[:, None], (8, 1, 2)), (1, 1), "fake") for one in sides]

    found = change.in_pairs(passes(0.0, 0.5, 0.2), passes(0.01, 0.51, 0.21, 0.9))
    assert found == pytest.approx([0.01] * 3)


def test_what_moves_both_of_a_pair_is_no_change() -> None:
    rng = np.random.default_rng(0)
    drift = rng.normal(0, 0.2, 8)
    pairs = {key: list(rng.normal(0, 0.002, 8)) for key in range(20)}
    assert np.ptp(drift) > 0.2  # Which is in both levels of each pair, and so in no difference.
    spread = PassSpread.of(pairs)
    assert [judge_pairs(one, spread, key, 20).code for key, one in pairs.items()] == [Code.SAME] * 20


def test_one_pair_proves_nothing() -> None:
    assert judge_pairs([0.5], PassSpread.of({0: [0.5], 1: [0.0]}), 0, 2).code is Code.UNDECIDED
    assert judge_pairs([], PassSpread(), 0, 2).code is Code.UNDECIDED


@pytest.mark.parametrize("deviation", [0.001, 0.003, 0.01])
def test_as_many_pairs_are_planned_as_make_the_target_provable_every_second_time(deviation: float) -> None:
    rng = np.random.default_rng(0)
    pilot = PassSpread.of({key: list(rng.normal(0, deviation, 5)) for key in range(200)})
    number = pairs_needed(pilot, 200, 60)
    changed = math.log(1.03)
    drawn = {key: list(rng.normal(changed, deviation, number)) for key in range(200)}
    spread = PassSpread.of(drawn)
    found = sum(judge_pairs(one, spread, key, 200).code is Code.SLOWER for key, one in drawn.items())
    assert 2 <= number < 60
    assert found >= 60
    assert pairs_needed(pilot, 200, 3) <= 3


def test_more_scatter_needs_more_pairs() -> None:
    numbers = [pairs_needed(PassSpread(Variance(s**2, 4), {}), 100, 100) for s in (0.001, 0.005, 0.01, 0.02)]
    assert numbers == sorted(numbers)
    assert numbers[0] < numbers[-1]


@pytest.mark.parametrize("gap", [0.0, 0.1])
def test_a_pair_of_which_no_block_was_kept_is_no_pair(gap: float) -> None:
    old, new = fake_passes(number=4), fake_passes(1 + gap, seed=1, number=4)
    new[2] = replace(new[2], seconds=np.empty((0, 2, 2)), discarded=8, why_discarded="throttled")
    found = change.in_pairs(old, new)
    assert len(found) == 3
    assert np.all(np.isfinite(found))


def test_a_time_budget_that_left_most_out_does_not_hide_what_was_measured() -> None:
    rng = np.random.default_rng(0)
    pairs = {key: list(rng.normal(math.log(1.1), 0.001, 8 if key < 10 else 1)) for key in range(40)}
    spread = PassSpread.of(pairs)
    assert [judge_pairs(pairs[key], spread, key, 40).code for key in range(10)] == [Code.SLOWER] * 10


def test_what_has_fewer_pairs_than_anything_can_be_known_from_is_undecided() -> None:
    rng = np.random.default_rng(0)
    pairs = {0: list(rng.normal(0, 0.001, 8)), 1: list(rng.normal(0.1, 0.03, 4))}
    assert judge_pairs(pairs[1], PassSpread.of(pairs), 1, 2).code is Code.UNDECIDED
    assert judge_pairs([math.nan, 0.1], PassSpread.of(pairs), 0, 2).code is Code.UNDECIDED


# What changed


def test_what_changed_with_a_time_is_told_from_the_plans() -> None:
    one, other = Plan("a", ("conv x",)), Plan("b", ("conv x",))
    assert plan_difference(one, other).what == "plan"
    assert plan_difference(one, Plan("a", ("conv x", "reorder"))).what == "dispatch"
    assert plan_difference(one, one).what == "scheduling"


def test_a_journal_tells_again_what_changed(tmp_path: Path) -> None:
    opened = Journal(tmp_path / "journal")
    _, found = run(tmp_path, [rule(9, times=2.0)], [rule(15, times=1.2), rule(9, plan="better")], journal=opened)
    opened.close()
    again = {one.channels: one for one in changes_of(opened.path).changes}
    assert again == found


# The option


OLD = {"version": "1.0", "noise": 0.01, "rules": [STEADY]}
NEW = {"version": "2.0", "noise": 0.01, "rules": [STEADY, rule(15, times=1.3)]}


def beside(runner: SuiteRunner, new: dict[str, Any] = NEW, *arguments: str) -> Any:
    folder = runner.path / "other"
    folder.mkdir(exist_ok=True)
    other = f"popen//env:NEVERSLOWER_SCRIPT={script(folder, **OLD)}"
    return runner.run(new, "--against", other, *arguments)


@pytest.mark.processes
def test_a_run_beside_another_library_is_red_where_it_got_slower(
    runner: SuiteRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    result = beside(runner, NEW, "--journal", "run.jsonl")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "*SLOWER 1.3*shown again in a fresh process",
            "  changed   scheduling",
            "*--against=popen//env:NEVERSLOWER_SCRIPT=*",
            "slower than the other library: 1",
            "scripted 2.0 (0) on scripted",
            "  compared with popen//env:* (scripted 1.0 (0))",
            "  4 pairs of processes*",
            "new against old: 1 slower, 0 faster, * the same, 0 undecided *",
            "  1.3*out15: scheduling*",
        ]
    )
    capsys.readouterr()
    assert cli.main(["upgrade", str(runner.path / "run.jsonl")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("new against old: 1 slower")
    assert "| 1 | 0 | 15 of 16, 1.3" in printed


STEPS = "mm global={}x1x1 local=8x1x1"


@pytest.mark.parametrize(
    ("evidence", "old", "new", "tally", "changed", "table"),
    [
        (
            "dispatch",
            {"steps": [STEPS.format(8)]},
            {"steps": [STEPS.format(16)]},
            "dispatches against the other library: 7 different, 0 the same, of 7",
            "dispatches, new against old: 7 changed, 0 the same (of 7 channel counts)",
            "| layer | dispatched differently | such as | what changed there |",
        ),
        (
            "instructions",
            {"instructions": 1000},
            {"instructions": 1100},
            "instructions against the other library: 7 with more, 0 with no more, of 7",
            "instructions, new against old: 7 more, 0 fewer, 0 the same (of 7 channel counts)",
            "| layer | with more instructions | with fewer instructions | the most, new / old |",
        ),
    ],
)
def test_what_is_exact_is_compared_in_its_own_words(
    runner: SuiteRunner,
    capsys: pytest.CaptureFixture[str],
    evidence: str,
    old: Any,
    new: Any,
    tally: str,
    changed: str,
    table: str,
) -> None:
    folder = runner.path / "other"
    folder.mkdir()
    other = script(folder, version="1.0", evidence=evidence, rules=[old])
    options = ("--against", f"popen//env:NEVERSLOWER_SCRIPT={other}", "--journal", "run.jsonl", "tests/test_latency.py")
    result = runner.run({"version": "2.0", "evidence": evidence, "rules": [new]}, *options)
    result.stdout.fnmatch_lines([f"*{tally}", changed])
    result.stdout.no_fnmatch_line("*[0-9] slower*")
    capsys.readouterr()
    assert cli.main(["upgrade", str(runner.path / "run.jsonl")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(changed)
    assert table in printed
    assert "slower" not in printed


def test_nothing_to_be_set_against_is_no_success(runner: SuiteRunner) -> None:
    folder = runner.path / "other"
    folder.mkdir()
    other = script(folder, **OLD | {"rules": [{"fault": "crash"}]})
    result = runner.run(NEW, "--against", f"popen//env:NEVERSLOWER_SCRIPT={other}", "tests/test_latency.py")
    assert result.ret == 6
    result.stdout.fnmatch_lines(["CANNOT JUDGE: scripted: nothing of the other library could be measured, *"])
    result.stdout.no_fnmatch_line("*pairs of processes*")


@pytest.mark.parametrize(("error", "slower"), [("0.1", 1), ("1e-12", 0)])
def test_the_chance_of_a_false_red_holds_for_what_changed(
    runner: SuiteRunner, capsys: pytest.CaptureFixture[str], error: str, slower: int
) -> None:
    new = NEW | {"rules": [STEADY, rule(15, times=1.05)], "process_effect": 0.004}
    options = ("--journal=run.jsonl", "--preset", "quick", "--family-error", error)  # Which is too few pairs for 1e-12.
    result = beside(runner, new, *options, "tests/test_latency.py")
    assert result.ret == slower
    result.stdout.fnmatch_lines([f"new against old: {slower} slower, *"])
    capsys.readouterr()
    assert cli.main(["upgrade", str(runner.path / "run.jsonl")]) == 0
    assert capsys.readouterr().out.startswith(f"new against old: {slower} slower, ")


def test_a_run_beside_the_same_library_is_green_and_can_be_accepted(
    runner: SuiteRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    result = beside(runner, OLD, "--accept-baseline", "new version", "--journal", "run.jsonl")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["new against old: 0 slower, 0 faster, * 0 undecided *", "accepted * comparisons as *"])
    capsys.readouterr()
    assert cli.main(["upgrade", str(runner.path / "run.jsonl")]) == 0
    assert capsys.readouterr().out.endswith("\n\nno channel count is proved slower or faster, so there is no table\n")


def test_where_all_is_undecided_the_command_says_what_to_do() -> None:
    undecided = Change("", "", 1, 2, Code.UNDECIDED, "", None, Code.SAME, None, Code.SAME, None, "")
    assert list(upgrade.table([undecided])) == []
    assert "; 1 are undecided; measure longer, " in upgrade.without_a_table([undecided])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--against", " "], "--against needs an execnet spec"),
        (["--against", "popen", "--benchmark-compare=0001"], "both say what to compare with"),
    ],
)
def test_what_can_t_be_compared_with_is_one_clear_line(runner: SuiteRunner, arguments: list[str], why: str) -> None:
    result = runner.run(OLD, *arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{why}*"])


def test_a_spec_that_starts_nothing_can_t_judge(runner: SuiteRunner) -> None:
    result = runner.run(OLD, "--against", "popen//python=/nowhere/python")
    assert result.ret == 6
    result.stdout.fnmatch_lines(["*--against popen//python=/nowhere/python: no worker*"])


def test_a_journal_without_another_library_has_no_table(
    runner: SuiteRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    runner.run(OLD, "--journal", "run.jsonl")
    assert cli.main(["upgrade", str(runner.path / "run.jsonl")]) == 2
    assert "holds no run with --against" in capsys.readouterr().err
