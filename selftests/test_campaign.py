"""Campaigns over scripted workers: what is measured, in which order, what a failure means, and what is written."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neverslower.campaign import context
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings, Result
from neverslower.campaign.settings import Settings
from neverslower.errors import Unavailable, WorkerDied, WorkerError
from neverslower.files.journal import Journal
from neverslower.judge.verdict import Code, ReasonCode
from neverslower.problem.comparison import Comparison
from neverslower.worker.process import StartWorker, Worker, WorkerSpec
from selftests.in_process import InProcess
from selftests.in_process import start as start_worker
from selftests.support import children, comparison, eventually, known, layers, needs_proc, problem, scripted

QUICK = Settings(blocks=10)
BASE = {"seconds": 1e-5}


def run(
    spec: WorkerSpec,
    comparisons: Iterable[Comparison],
    agreements: Iterable[Comparison] = (),
    settings: Settings = QUICK,
    **others: Any,
) -> Findings:
    return Campaign({"scripted": spec}, settings, **{"start": start_worker} | others).run(comparisons, agreements)


def slow(channels: int, **fields: Any) -> dict[str, Any]:
    """A rule that makes a layer of so many channels twice as slow."""
    return {"when": f"out_channels == {channels}", "times": 2.0} | fields


def fault(channels: int, name: str, **fields: Any) -> dict[str, Any]:
    return {"when": f"out_channels == {channels}", "fault": name} | fields


def result(findings: Findings, one: Comparison) -> Result:
    return findings.results[one.identity]


def seen(findings: Findings, comparisons: Iterable[Comparison]) -> list[str]:
    """`CODE reason` of each comparison."""
    verdicts = [result(findings, one).verdict for one in comparisons]
    return [f"{verdict.code} {verdict.reason.code}" for verdict in verdicts]


class Processes:
    """Counts the workers that a campaign starts."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def start(self, spec: WorkerSpec, process: int = 0) -> Worker:
        self.numbers.append(process)
        return start_worker(spec, process)


@pytest.fixture
def processes() -> Processes:
    return Processes()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal")
    yield opened
    opened.close()


def events(path: Path, name: str | None = None) -> list[dict[str, Any]]:
    """The journal's lines, all of them strict JSON."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    lines = [json.loads(line, parse_constant=refuse) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if name in (None, line["event"])]


# Slower, or not


def test_a_planted_hazard_is_found_and_confirmed_in_a_fresh_process(tmp_path: Path, processes: Processes) -> None:
    hazard, harmless = comparison(1), comparison(3)
    spec = scripted(tmp_path, noise=0.01, process_effect=0.002, rules=[BASE, slow(15)])
    findings = run(spec, [hazard, harmless], start=processes.start)
    found = result(findings, hazard)
    assert seen(findings, [hazard, harmless]) == ["SLOWER proved", "SAME within_target"]
    assert "confirmed in a fresh process" in found.verdict.reason.text
    assert found.first is not None
    assert found.first.code is Code.SLOWER
    assert found.confirmation is not None
    assert found.confirmation is found.passes[-1]
    assert [one.seconds.shape for one in found.passes] == [(10, 2, 2)] * 4
    assert len(result(findings, harmless).passes) == 3
    assert found.verdict.ratio is not None
    assert found.verdict.ratio.estimate == pytest.approx(2.0, rel=0.02)
    assert processes.numbers == [0, 1, 2, 3, 4]  # Three passes, one that confirms and tries padding, one to say why.


def test_a_hazard_that_a_fresh_process_does_not_show_is_undecided(tmp_path: Path) -> None:
    one = comparison(1)
    findings = run(scripted(tmp_path, noise=0.01, rules=[BASE, slow(15, processes=[0, 1, 2])]), [one])
    assert seen(findings, [one]) == ["UNDECIDED too_noisy"]
    assert result(findings, one).confirmation is None
    assert len(result(findings, one).passes) > 4  # It was tried again until no more blocks were left.


def test_a_hazard_that_one_fresh_process_hides_is_confirmed_by_a_later_one(tmp_path: Path) -> None:
    one = comparison(1)
    shown = [number for number in range(30) if number != 3]
    findings = run(scripted(tmp_path, noise=0.01, rules=[BASE, slow(15, processes=shown)]), [one])
    found = result(findings, one)
    assert seen(findings, [one]) == ["SLOWER proved"]
    assert len(found.passes) > 4
    assert found.confirmation is found.passes[-1]
    assert found.first is not None
    assert found.first.code is Code.SLOWER


def test_without_a_suspect_no_further_process_is_started(tmp_path: Path, processes: Processes) -> None:
    run(scripted(tmp_path, rules=[BASE]), [comparison(1)], start=processes.start)
    assert processes.numbers == [0, 1, 2]


def test_a_layer_is_timed_together_in_orders_of_each_pass_its_own(tmp_path: Path) -> None:
    asked: dict[int, list[tuple[str, ...]]] = {}
    seeds: list[str] = []

    class Noted(InProcess):
        def sweep(self, reference: str, candidates: Sequence[str], sweeps: int, seed: str, expected=()):
            asked.setdefault(self._number, []).append(tuple(sorted(candidates)))
            seeds.append(seed)
            return super().sweep(reference, candidates, sweeps, seed, expected)

    both = [comparison(1), comparison(3)]
    run(scripted(tmp_path, noise=0.01, rules=[BASE, slow(15), slow(13)]), both, start=Noted)
    keys = tuple(sorted(one.keys[1] for one in both))
    assert len(asked) > 2
    assert all(together == [keys] for together in asked.values())
    assert len(set(seeds)) == len(seeds)


def test_a_faster_layer_is_found(tmp_path: Path) -> None:
    one = comparison(8)
    findings = run(scripted(tmp_path, rules=[BASE, {"when": "out_channels == 8", "times": 0.5}]), [one])
    assert seen(findings, [one]) == ["FASTER proved"]


@pytest.mark.slow
def test_noise_alone_is_never_slower(tmp_path: Path) -> None:
    comparisons = [comparison(distance, one) for one in layers(20) for distance in range(10)]
    script = scripted(tmp_path, noise=0.03, spikes=[0.02, 3.0], drift=1.0, rules=[BASE])
    findings = run(script, comparisons)
    codes = Counter(one.verdict.code for one in findings.results.values())
    assert sum(codes.values()) == findings.measured == 200
    assert codes[Code.SLOWER] == 0
    assert not any(one.first for one in findings.results.values())


def test_results_carry_everything_that_they_rest_on(tmp_path: Path) -> None:
    one = comparison(1)
    rules = [BASE, {"when": "out_channels == 15", "plan": "padded"}]
    findings = run(scripted(tmp_path, device="board", rules=rules), [one])
    found = result(findings, one)
    assert [single.seconds.shape for single in found.passes] == [(10, 2, 2)] * 3
    assert found.reference is not None
    assert found.candidate is not None
    assert (found.reference.plan.name, found.candidate.plan.name) == ("plain", "padded")
    assert findings.fingerprints["scripted"].device == "board"


def test_a_layer_against_itself_is_measured_like_any_other(tmp_path: Path) -> None:
    one = comparison(0)
    findings = run(scripted(tmp_path, noise=0.05, rules=[BASE]), [one])
    for single in result(findings, one).passes:
        assert not np.any(single.seconds[:, 0] == single.seconds[:, 1])


@pytest.mark.parametrize("passes", [4, 6])
def test_a_comparison_asked_for_twice_is_measured_once_a_pass(tmp_path: Path, passes: int, journal: Journal) -> None:
    comparisons = [comparison(1), comparison(1, name="the same elsewhere")]
    findings = run(scripted(tmp_path), comparisons, settings=Settings(passes=passes), journal=journal)
    assert len(findings.results) == 1
    assert len(events(journal.path, "measured")) == passes
    assert len(events(journal.path, "examined")) == 2


def test_no_comparison_starts_no_worker(tmp_path: Path, processes: Processes) -> None:
    assert run(scripted(tmp_path), [], start=processes.start).results == {}
    assert processes.numbers == []


# Failures


FOUR = [comparison(distance) for distance in (1, 2, 3, 4)]
FINE = "SAME within_target"


@pytest.mark.parametrize(
    ("name", "expected", "words"),
    [
        ("crash", "CRASHED worker_died", "Segmentation fault"),
        ("hang", "CRASHED time_limit", "Timeout"),
        ("error", "CRASHED worker_died", "RuntimeError: scripted error"),
        ("wrong", "INVALID wrong_output", "wrong output"),
        ("nan", "INVALID wrong_output", "wrong output"),
        ("unsupported", "UNSUPPORTED library_refuses", "scripted refusal of 14 channels"),
        ("out_of_memory", "UNSUPPORTED out_of_memory", "do not fit"),
    ],
)
def test_a_failing_candidate_gets_its_verdict_and_the_others_theirs(
    tmp_path: Path, name: str, expected: str, words: str, journal: Journal
) -> None:
    spec = scripted(tmp_path, time_limit=1.0, rules=[BASE, fault(14, name)])
    findings = run(spec, FOUR, journal=journal)
    assert seen(findings, FOUR) == [FINE, expected, FINE, FINE]
    failed = result(findings, FOUR[1])
    assert words in failed.verdict.reason.text
    assert failed.passes == ()
    assert failed.verdict.ratio is None
    assert findings.measured == 3
    assert len(events(journal.path, "verdict")) == 4


@pytest.mark.parametrize(("name", "workers"), [("crash", 4), ("hang", 4), ("unsupported", 3), ("wrong", 3)])
def test_a_dead_worker_is_replaced_and_a_living_one_kept(
    tmp_path: Path, processes: Processes, name: str, workers: int
) -> None:
    run(scripted(tmp_path, time_limit=1.0, rules=[BASE, fault(14, name)]), FOUR, start=processes.start)
    assert processes.numbers == list(range(workers))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("crash", "CRASHED worker_died"),
        ("wrong", "INVALID wrong_output"),
        ("unsupported", "UNSUPPORTED library_refuses"),
    ],
)
def test_a_failing_reference_decides_all_its_comparisons_and_is_asked_once(
    tmp_path: Path, processes: Processes, name: str, expected: str
) -> None:
    other = comparison(1, problem(12))
    findings = run(scripted(tmp_path, rules=[BASE, fault(16, name)]), [*FOUR, other], start=processes.start)
    assert seen(findings, [*FOUR, other]) == [expected] * 4 + [FINE]
    assert len(processes.numbers) == (4 if name == "crash" else 3)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_crash_in_a_later_process_outweighs_the_samples_before_it(tmp_path: Path, number: int) -> None:
    rules = [BASE, slow(13), fault(13, "crash", processes=[number])]
    findings = run(scripted(tmp_path, rules=rules), FOUR)
    assert seen(findings, FOUR) == [FINE, FINE, "CRASHED worker_died", FINE]


def test_an_unavailable_backend_is_told_and_the_other_backends_are_measured(tmp_path: Path) -> None:
    here, there = FOUR[0], Comparison("board", FOUR[0].layer, FOUR[0].candidate)
    absent = tmp_path / "absent"
    absent.mkdir()
    specs = {"board": scripted(absent, unavailable="no such board"), "scripted": scripted(tmp_path)}
    findings = Campaign(specs, QUICK, start=start_worker).run([here, there])
    assert findings.unavailable == {"board": "no such board"}
    assert set(findings.results) == {here.identity}
    assert set(findings.fingerprints) == {"scripted"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (WorkerDied("the worker process died", "Segmentation fault"), "CRASHED worker_died"),
        (WorkerDied("ended at its time limit", "Timeout", hung=True), "CRASHED time_limit"),
        (WorkerError("ImportError: libvendor.so.9"), "CRASHED worker_died"),
    ],
)
@pytest.mark.parametrize("started", [0, 1, 2, 3])
def test_a_backend_whose_workers_no_longer_start_is_crashed_not_unavailable(
    tmp_path: Path, error: Exception, expected: str, started: int, journal: Journal
) -> None:
    def start(spec: WorkerSpec, process: int = 0) -> Worker:
        if process >= started:
            raise error
        return start_worker(spec, process)

    hazard, harmless = comparison(1), comparison(2)
    spec = scripted(tmp_path, rules=[BASE, slow(15)])
    findings = run(spec, [hazard, harmless], [hazard], journal=journal, start=start)
    assert seen(findings, [hazard, harmless]) == [expected, FINE if started == 3 else expected]
    assert str(error) in result(findings, hazard).verdict.reason.text
    # The first worker has compared the outputs before it timed anything, and what it found stays.
    agreed = findings.agreements[hazard.identity].verdict.code
    assert agreed is (Code.SAME if started else Code.CRASHED)
    assert findings.unavailable == {}
    assert len(events(journal.path, "verdict")) == 2


def gone_from(number: int, why: str = "no such board") -> StartWorker:
    """Starts workers, but none from the one with this number on."""

    def start(spec: WorkerSpec, process: int = 0) -> Worker:
        if process >= number:
            raise Unavailable(why)
        return start_worker(spec, process)

    return start


def test_what_was_measured_stays_when_the_device_goes_away(tmp_path: Path) -> None:
    hazard, harmless = comparison(1), comparison(2)
    spec = scripted(tmp_path, rules=[BASE, slow(15)])
    findings = run(spec, [hazard, harmless], [hazard], start=gone_from(3))
    assert seen(findings, [hazard, harmless]) == ["UNDECIDED budget_ended", FINE]
    assert result(findings, hazard).verdict.reason.text == "no such board"
    assert findings.agreements[hazard.identity].verdict.code is Code.SAME
    assert findings.unavailable == {"scripted": "no such board"}


def test_what_was_measured_when_the_device_went_away_is_crashed_and_nothing_else(tmp_path: Path) -> None:
    crash = fault(15, "crash", processes=[1])
    findings = run(scripted(tmp_path, rules=[BASE, crash]), FOUR, start=gone_from(2))
    codes = [result(findings, one).verdict.code for one in FOUR]
    assert codes == [Code.CRASHED, *3 * [Code.UNDECIDED]]
    assert findings.unavailable == {"scripted": "no such board"}


def test_what_could_not_be_confirmed_in_time_is_undecided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hazard = comparison(1)
    monkeypatch.setattr(context.BackendRun, "spent", lambda run, planned=0.0: run.library.started > 3)
    findings = run(scripted(tmp_path, rules=[BASE, slow(15)]), [hazard])
    assert seen(findings, [hazard]) == ["UNDECIDED budget_ended"]
    assert known(result(findings, hazard).first).code is Code.SLOWER
    assert findings.left_out == 0


@needs_proc
@pytest.mark.parametrize("name", ["crash", "wrong"])
def test_a_campaign_leaves_no_process(tmp_path: Path, name: str) -> None:
    before = children(os.getpid())
    run(scripted(tmp_path, rules=[BASE, slow(15), fault(14, name)]), FOUR, start=Worker)
    assert eventually(lambda: children(os.getpid()) <= before)


# Agreements


def test_agreements_are_checked_beside_the_timing(tmp_path: Path) -> None:
    findings = run(scripted(tmp_path, rules=[BASE, fault(14, "wrong"), fault(13, "unsupported")]), [], FOUR)
    assert [findings.agreements[one.identity].verdict.code for one in FOUR] == [
        Code.SAME,
        Code.INVALID,
        Code.UNSUPPORTED,
        Code.SAME,
    ]
    wrong, right = findings.agreements[FOUR[1].identity], findings.agreements[FOUR[0].identity]
    assert wrong.verdict.reason.code is ReasonCode.WRONG_OUTPUT
    assert wrong.error is not None
    assert wrong.tolerance is not None
    assert right.error is not None
    assert right.error <= wrong.tolerance < wrong.error


def test_a_crash_while_agreeing_is_that_comparisons_own(tmp_path: Path) -> None:
    findings = run(scripted(tmp_path, rules=[BASE, fault(14, "crash")]), FOUR, FOUR)
    codes = [findings.agreements[one.identity].verdict.code for one in FOUR]
    assert codes == [Code.SAME, Code.CRASHED, Code.SAME, Code.SAME]
    assert seen(findings, FOUR) == [FINE, "CRASHED worker_died", FINE, FINE]


# The time budget


def test_a_budget_for_times_leaves_no_output_out(tmp_path: Path) -> None:
    clock = Clock("prepare", 100.0)
    settings = Settings(time_budget=10.0)
    findings = run(scripted(tmp_path), FOUR, FOUR, settings=settings, clock=clock, progress=clock.progress)
    assert seen(findings, FOUR) == ["UNDECIDED time_budget"] * 4
    assert [findings.agreements[one.identity].verdict.code for one in FOUR] == [Code.SAME] * 4


def test_outputs_end_with_their_own_share_of_the_time(tmp_path: Path) -> None:
    clock = Clock("numerics", 2.0)
    settings = Settings(time_budget=10.0)
    findings = run(scripted(tmp_path), [], FOUR, settings=settings, clock=clock, progress=clock.progress)
    verdicts = [findings.agreements[one.identity].verdict for one in FOUR]
    assert [verdict.code for verdict in verdicts] == [Code.SAME] * 2 + [Code.UNDECIDED] * 2
    assert {verdict.reason.code for verdict in verdicts[2:]} == {ReasonCode.TIME_BUDGET}


class Clock:
    """A clock that moves only when a campaign reports a step of some phase."""

    def __init__(self, phase: str, step: float) -> None:
        self.now, self._phase, self._step = 1000.0, phase, step

    def __call__(self) -> float:
        return self.now

    def progress(self, phase: str, done: int, total: int, seconds_left: float | None) -> None:
        if self._phase in phase:
            self.now += self._step


def ranked(count: int = 8) -> list[Comparison]:
    """Comparisons of distinct layers, the most telling in the middle of the list."""
    return [comparison(1, one, telling=(rank + count // 2) % count) for rank, one in enumerate(layers(count))]


def test_a_budget_goes_to_the_most_telling_comparisons(tmp_path: Path) -> None:
    clock, comparisons = Clock("prepare", 1.0), ranked()
    settings = Settings(time_budget=10.0)
    spec = scripted(tmp_path, rules=[BASE])
    findings = run(spec, comparisons, settings=settings, clock=clock, progress=clock.progress)
    left = [one for one in comparisons if result(findings, one).verdict.reason.code is ReasonCode.TIME_BUDGET]
    done = [one for one in comparisons if one not in left]
    assert left
    assert done
    assert max(one.telling for one in done) < min(one.telling for one in left)
    assert {result(findings, one).verdict.code for one in left} == {Code.UNDECIDED}
    assert (findings.left_out, findings.measured) == (len(left), len(done))


def test_a_budget_that_ends_while_measuring_keeps_what_was_measured(tmp_path: Path) -> None:
    clock, comparisons = Clock("measure", 5.0), ranked()
    settings = Settings(time_budget=12.0)
    findings = run(scripted(tmp_path), comparisons, settings=settings, clock=clock, progress=clock.progress)
    assert sorted(len(result(findings, one).passes) for one in comparisons) == [0] * 5 + [1] * 3
    assert (findings.measured, findings.left_out) == (3, 5)
    assert {seen(findings, [one])[0] for one in comparisons} == {"UNDECIDED budget_ended", "UNDECIDED time_budget"}


def test_when_a_pass_has_shown_its_cost_the_least_telling_are_left_out_not_the_last_passes(tmp_path: Path) -> None:
    clock, comparisons = Clock("measure", 5.0), ranked()
    settings = Settings(passes=3, blocks=10, time_budget=90.0)
    spec = scripted(tmp_path, rules=[BASE])
    findings = run(spec, comparisons, settings=settings, clock=clock, progress=clock.progress)
    done = [one for one in comparisons if len(result(findings, one).passes) == 3]
    left = [one for one in comparisons if result(findings, one).verdict.reason.code is ReasonCode.BUDGET_ENDED]
    # The first pass took 40 s of 90: the rest lasts for five in two more passes.
    assert (len(done), len(left)) == (5, 3)
    assert max(one.telling for one in done) < min(one.telling for one in left)


def test_a_budget_that_suffices_leaves_nothing_out(tmp_path: Path) -> None:
    clock, comparisons = Clock("measure", 1.0), ranked()
    settings = Settings(time_budget=1e6)
    findings = run(scripted(tmp_path), comparisons, settings=settings, clock=clock, progress=clock.progress)
    assert (findings.measured, findings.left_out, findings.seconds) == (8, 0, 24.0)  # Three passes


def test_backends_share_a_budget(tmp_path: Path) -> None:
    clock = Clock("measure", 1.0)
    specs = {name: scripted(tmp_path) for name in ("one", "two")}
    comparisons = [Comparison(name, one.layer, one.candidate) for name in specs for one in ranked()]
    settings = Settings(time_budget=6.0)
    campaign = Campaign(specs, settings, clock=clock, progress=clock.progress, start=start_worker)
    findings = campaign.run(comparisons)
    measured = Counter(key[0] for key, one in findings.results.items() if one.passes)
    assert set(measured) == set(specs)
    assert findings.left_out > 0


def test_progress_tells_steps_and_the_time_left(tmp_path: Path) -> None:
    clock, told = Clock("measure", 2.0), []

    def progress(phase: str, done: int, total: int, seconds_left: float | None) -> None:
        told.append((phase, done, total, seconds_left))
        clock.progress(phase, done, total, seconds_left)

    run(scripted(tmp_path), ranked(4), clock=clock, progress=progress)
    assert [(done, total) for phase, done, total, _ in told if "pass 2" in phase] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    left = [known(seconds) for phase, _, _, seconds in told if "pass 2" in phase]
    later = left[-1]  # What the passes that follow will take.
    assert [seconds - later for seconds in left] == pytest.approx([0.0, 2.0, 4 / 3, 0.0])
    assert 8 / 2 < later < 8 * 5  # Each of them takes 8 s.
    assert max(known(seconds) for phase, _, _, seconds in told if "pass 3" in phase) < max(left)


# The journal


def order(path: Path, number: int) -> list[str]:
    return [line["candidate"] for line in events(path, "measured") if line["pass"] == number]


def orders(folder: Path, seed: int) -> tuple[list[str], list[str]]:
    """The order of measuring in the first and the second pass."""
    folder.mkdir()
    journal = Journal(folder / "journal")
    run(scripted(folder), ranked(), settings=Settings(seed=seed), journal=journal)
    journal.close()
    return order(journal.path, 0), order(journal.path, 1)


def test_the_order_is_a_function_of_the_seed_and_differs_between_passes(tmp_path: Path) -> None:
    first, again, other = (orders(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first == again
    assert first != other
    assert first[0] != first[1]
    assert sorted(first[0]) == sorted(first[1]) == sorted(one.candidate.key for one in ranked())


def test_the_journal_has_one_verdict_a_comparison_and_every_sample(tmp_path: Path, journal: Journal) -> None:
    findings = run(scripted(tmp_path, rules=[BASE, slow(15), fault(14, "nan")]), FOUR, FOUR, journal=journal)
    lines = events(journal.path)
    assert (lines[0]["event"], lines[-1]["event"]) == ("campaign", "end")
    verdicts = {line["candidate"]: line["code"] for line in events(journal.path, "verdict")}
    assert len(events(journal.path, "verdict")) == 4
    assert verdicts == {one.candidate.key: str(result(findings, one).verdict.code) for one in FOUR}
    numbers = [line["pass"] for line in events(journal.path, "measured") if line["candidate"] == FOUR[0].candidate.key]
    assert numbers == [0, 1, 2, 3]  # What looks slower has its pass that confirms it, in the journal too.
    assert not {line["event"] for line in lines} & {"suspect", "confirmed"}
    assert len(events(journal.path, "agreement")) == 4
    for line in events(journal.path, "measured"):
        matching = next(one for one in FOUR if one.candidate.key == line["candidate"])
        assert line["id"] == matching.id
        assert np.array_equal(line["seconds"], result(findings, matching).passes[line["pass"]].seconds)


def test_a_second_campaign_appends_to_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal"
    contents: list[str] = []
    for _ in range(2):
        journal = Journal(path)
        run(scripted(tmp_path), FOUR, journal=journal)
        journal.close()
        contents.append(path.read_text(encoding="utf-8"))
    assert contents[1].startswith(contents[0])
    assert len(events(path, "verdict")) == 8


def test_the_journal_is_on_disk_line_by_line(tmp_path: Path, journal: Journal) -> None:
    lengths: list[int] = []

    def progress(phase: str, done: int, total: int, seconds_left: float | None) -> None:
        lengths.append(len(events(journal.path)))

    run(scripted(tmp_path), FOUR, journal=journal, progress=progress)
    assert lengths == sorted(lengths)
    assert len(set(lengths)) >= len(FOUR)  # What is examined in one request comes at once.
