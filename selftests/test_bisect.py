"""Which release brought which regression: steps planned without a device, and scripted libraries end to end."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from neverslower import cli, cli_bisect
from neverslower.cli_shared import newest_journal
from neverslower.errors import NeverSlowerError, ReleaseError
from neverslower.judge.verdict import Interval
from neverslower.outcome.table import Finding, said
from neverslower.releases.between import releases_from, without_a_list
from neverslower.report import bisect as report
from neverslower.tracing import record
from neverslower.tracing.culprits import Culprit, Seen, State, Step, Trace
from neverslower.worker.process import WorkerSpec
from selftests import in_process

GOOD, BAD, OPEN = State.GOOD, State.BAD, State.OPEN


class Libraries:
    """Invented releases: the time of each case in each release; `noisy` pairs are open so many times."""

    def __init__(
        self, times: Mapping[str, Sequence[float]], noisy: Mapping[tuple[int, int], int] | None = None
    ) -> None:
        self.times, self.noisy = times, dict(noisy or {})
        self.steps: list[Step] = []

    def measure(self, step: Step) -> dict[str, Seen]:
        self.steps.append(step)
        if self.noisy.get((step.old, step.new), 0) > step.effort:
            return {case: Seen(OPEN, "undecided", "noise") for case in step.cases}
        return {case: self._seen(self.times[case][step.new] / self.times[case][step.old]) for case in step.cases}

    def _seen(self, ratio: float) -> Seen:
        interval = Interval(ratio, ratio * 0.995, ratio * 1.005)
        return Seen(BAD if ratio > 1.02 else GOOD, "x", "y", interval)

    def traced(self, **options: Any) -> Trace:
        trace = Trace(len(next(iter(self.times.values()))), list(self.times), **options)
        while step := trace.next():
            trace.learn(step, self.measure(step))
            assert len(self.steps) < 200
        return trace


def found(trace: Trace) -> list[tuple[str, int, int]]:
    return [(culprit.case, culprit.last_good, culprit.first_bad) for culprit in trace.culprits()]


def steps(libraries: Libraries) -> list[tuple[int, int]]:
    return [(step.old, step.new) for step in libraries.steps]


# Planning


def test_every_regression_is_traced_on_its_own_and_measurements_are_shared() -> None:
    libraries = Libraries({"a": [1, 1, 2, 2, 2], "b": [1, 1, 1, 1, 3], "c": [1, 1, 1, 1, 1], "d": [2, 1, 1, 1, 1]})
    trace = libraries.traced()
    assert found(trace) == [("a", 1, 2), ("b", 3, 4)]
    assert libraries.steps[0] == Step(0, 4, 0, ("a", "b", "c", "d"))
    assert libraries.steps[1] == Step(0, 2, 0, ("a", "b"))
    assert len(libraries.steps) <= trace.clear_steps()
    assert all(culprit.shown for culprit in trace.culprits())


def test_one_that_was_fixed_and_came_back_is_put_down_to_the_release_that_counts() -> None:
    assert found(Libraries({"a": [1, 1, 2, 2, 1, 2, 2]}).traced()) == [("a", 1, 2), ("a", 4, 5)]
    # Here the release in the middle is good, and so what came before it is no longer of interest.
    assert found(Libraries({"a": [1, 1, 2, 1, 1, 2, 2]}).traced()) == [("a", 4, 5)]


def test_without_following_the_releases_that_were_not_asked_are_named() -> None:
    libraries = Libraries({"a": [1, 2, 1, 1, 1, 2, 2]})
    trace = libraries.traced(follow=False)
    assert len(found(trace)) == 1
    assert Libraries({"a": [1, 2, 2, 2, 2, 2, 2]}).traced(follow=False).unasked("a")
    assert Libraries({"a": [1, 2, 2, 2, 2, 2, 2]}).traced().unasked("a") == []


def test_a_case_that_gets_worse_twice_has_two_culprits() -> None:
    trace = Libraries({"a": [1, 1.2, 1.2, 1.5, 1.5]}).traced()
    assert [(c.last_good, c.first_bad, c.further) for c in trace.culprits()] == [(0, 1, False), (2, 3, True)]


def test_a_release_after_the_first_bad_one_that_stays_undecided_is_named() -> None:
    trace = Libraries({"a": [1, 2, 1, 2]}, {(0, 2): 9}).traced()
    assert found(trace) == [("a", 0, 1)]
    assert trace.open_after("a") == [2]
    printed = "\n".join(report.lines(trace, ["r0", "r1", "r2", "r3"], lambda _: ""))
    assert "not decided: a: whether r2 fixed it in between; if so, a later release is the first bad one" in printed
    assert Libraries({"a": [1, 2, 2, 2]}).traced().open_after("a") == []
    # After a good release, an undecided one may be the first bad one: that is said of the culprit.
    trace = Libraries({"a": [1, 2, 2, 1, 2, 2]}, {(0, 4): 9}).traced()
    assert [culprit.between for culprit in trace.culprits()] == [(), (4,)]
    assert trace.open_after("a") == []


def showing(seen: Mapping[tuple[int, int], Seen], releases: int = 4) -> Trace:
    """A trace of one case that was told this of each pair of releases."""
    trace = Trace(releases, ["a"])
    for (old, new), one in seen.items():
        trace.learn(Step(old, new, 0, ("a",)), {"a": one})
    return trace


def test_a_regression_of_another_kind_is_traced_too() -> None:
    slower, wrong = Seen(BAD, "slower", "", Interval(1.5, 1.4, 1.6)), Seen(BAD, "invalid", "wrong output")
    inexact = Seen(BAD, "slower", "", Interval(1.5, 1.4, 1.6), also="less exact")
    trace = showing({(0, 3): wrong, (0, 2): slower, (0, 1): slower})
    assert [(c.last_good, c.first_bad, c.kinds) for c in trace.culprits()] == [
        (0, 1, ("slower",)),
        (2, 3, ("invalid",)),
    ]
    trace = showing({(0, 3): inexact, (0, 2): inexact, (0, 1): slower})
    assert [(c.last_good, c.first_bad, c.kinds) for c in trace.culprits()] == [
        (0, 1, ("slower",)),
        (1, 2, ("less exact",)),
    ]


def test_what_is_less_exact_and_was_not_timed_is_timed_once_more_and_then_said() -> None:
    inexact = Seen(BAD, "less exact", "", untimed="the time budget ended")
    trace = Trace(2, ["a"])
    trace.learn(Step(0, 1, 0, ("a",)), {"a": inexact})
    assert trace.next() == Step(0, 1, 1, ("a",))
    trace.learn(Step(0, 1, 1, ("a",)), {"a": inexact})
    assert trace.next() is None
    printed = list(report.lines(trace, ["r0", "r1"], lambda _: ""))
    assert printed[-1] == "undecided: a: whether it also got slower: the time budget ended"


def test_a_finding_at_the_ends_that_no_row_shows_is_printed() -> None:
    slower, wrong = Seen(BAD, "slower", "", Interval(1.5, 1.4, 1.6)), Seen(BAD, "invalid", "wrong output")
    unclear = Seen(OPEN, "undecided", "noise", final=True)
    pairs = {(0, 3): wrong, (0, 2): slower, (0, 1): slower, (2, 3): unclear}
    printed = list(report.lines(showing(pairs), ["r0", "r1", "r2", "r3"], lambda _: ""))
    assert printed[-1].startswith("not traced: a: invalid: wrong output; no two neighbouring releases")
    printed = list(report.lines(showing(pairs | {(2, 3): wrong}), ["r0", "r1", "r2", "r3"], lambda _: ""))
    assert not any(line.startswith("not traced") for line in printed)
    assert "| a | r2 | r3 | invalid | worse once more: invalid |" in printed


def test_small_steps_that_nobody_can_show_side_by_side_are_no_culprit_that_is_shown() -> None:
    (culprit,) = Libraries({"a": [1, 1.015, 1.03, 1.045]}).traced().culprits()[:1]
    assert not culprit.shown


def test_what_is_undecided_is_measured_for_longer_and_then_its_neighbours_are_asked() -> None:
    libraries = Libraries({"a": [1, 1, 1, 1, 2, 2]}, {(0, 2): 1})
    assert found(libraries.traced()) == [("a", 3, 4)]
    assert [step.effort for step in libraries.steps if step.new == 2] == [0, 1]
    libraries = Libraries({"a": [1, 1, 1, 2, 2, 2]}, {(0, 2): 9})
    trace = libraries.traced()
    (culprit,) = trace.culprits()
    assert (culprit.last_good, culprit.first_bad, culprit.between) == (1, 3, (2,))
    assert [step.effort for step in libraries.steps if (step.old, step.new) == (0, 2)] == [0, 1]


def test_where_nothing_between_can_be_decided_nothing_is_guessed() -> None:
    libraries = Libraries({"a": [1, 1, 2, 2]}, {(0, 1): 9, (0, 2): 9})
    (culprit,) = libraries.traced().culprits()
    assert (culprit.last_good, culprit.first_bad, culprit.between) == (0, 3, (1, 2))


def test_a_case_that_is_undecided_at_the_ends_is_listed_and_never_called_good() -> None:
    libraries = Libraries({"a": [1, 2]}, {(0, 1): 9})
    trace = libraries.traced()
    assert (trace.undecided, trace.traced, trace.culprits()) == (["a"], [], [])
    assert len(libraries.steps) == 2


def test_what_no_further_try_can_change_is_tried_once() -> None:
    trace = Trace(3, ["a"])
    trace.learn(Step(0, 2, 0, ("a",)), {"a": Seen(BAD, "", "")})
    trace.learn(Step(0, 1, 0, ("a",)), {"a": Seen(OPEN, "", "", final=True)})
    assert trace.next() is None
    trace = Trace(3, ["a"])
    trace.learn(Step(0, 2, 0, ("a",)), {})  # A step that said nothing of it.
    assert trace.next() == Step(0, 2, 1, ("a",))


@given(
    st.lists(
        st.lists(st.sampled_from([1.0, 1.3, 2.0]), min_size=6, max_size=6),
        min_size=1,
        max_size=4,
    )
)
def test_every_culprit_is_a_real_one_and_every_regression_at_the_end_has_one(times: list[list[float]]) -> None:
    libraries = Libraries({str(number): [1.0, *row[1:]] for number, row in enumerate(times)})
    trace = libraries.traced()
    assert len({(step.old, step.new) for step in libraries.steps}) == len(libraries.steps) <= trace.clear_steps()
    culprits = trace.culprits()
    for culprit in culprits:
        row = libraries.times[culprit.case]
        assert culprit.between == ()
        assert row[culprit.first_bad] > 1.02 * row[culprit.last_good]
    for case, row in libraries.times.items():
        mine = [culprit for culprit in culprits if culprit.case == case]
        assert bool(mine) == (row[-1] > 1.02)
        if mine:  # From the last culprit on it is never good again.
            assert all(time > 1.02 for time in row[max(culprit.first_bad for culprit in mine) :])


@given(
    st.lists(st.lists(st.sampled_from([1.0, 1.3, 2.0]), min_size=6, max_size=6), min_size=1, max_size=4),
    st.dictionaries(st.tuples(st.integers(0, 4), st.integers(1, 5)), st.integers(1, 2)),
)
def test_no_pair_of_releases_is_measured_twice_in_one_effort_and_the_bound_holds(
    times: list[list[float]], noisy: dict[tuple[int, int], int]
) -> None:
    libraries = Libraries({str(number): [1.0, *row[1:]] for number, row in enumerate(times)}, noisy)
    trace = Trace(6, list(libraries.times))
    while step := trace.next():
        left = trace.steps_left()
        trace.learn(step, libraries.measure(step))
        assert left >= 1
    assert trace.steps_left() == 0
    made = [(step.old, step.new, step.effort) for step in libraries.steps]
    assert len(set(made)) == len(made) <= trace.most_steps()


def test_a_release_is_asked_once_for_all_that_will_need_it() -> None:
    # Release 2 is in the middle for b; a needs it later, because it comes after the first bad one.
    libraries = Libraries({"a": [1, 2, 1, 2, 2, 2], "b": [1, 1, 1, 1, 2, 2], "c": [1, 1, 1, 2, 2, 2]})
    libraries.traced()
    pairs = [pair for pair in steps(libraries) if pair[0] == 0]
    assert len(set(pairs)) == len(pairs)


# Releases


def test_the_releases_between_two_are_those_of_the_index() -> None:
    listed = [Version(text) for text in ("0.24", "0.25", "0.25.1", "0.26", "0.27", "0.28")]
    texts = releases_from("pip:x==0.25 y==1 z", "pip:x==0.27 z y==1", listed=lambda _: listed)
    assert texts == ["pip:x==0.25 y==1 z", "pip:x==0.25.1 y==1 z", "pip:x==0.26 y==1 z", "pip:x==0.27 z y==1"]
    assert releases_from("pip:x==0.25", "pip:x==0.26", listed=lambda _: listed)[1] == "pip:x==0.25.1"
    assert releases_from("deb:x/a", "deb:x/b") == ["deb:x/a", "deb:x/b"]
    assert without_a_list(["deb:x/a", "deb:x/b"])
    assert not without_a_list(["pip:x==1", "pip:x==2"])
    assert releases_from("popen", "p", ["q", "r"]) == ["popen", "q", "r", "p"]


@pytest.mark.parametrize(
    ("good", "bad", "why"),
    [
        ("pip:x==1", "pip:x==1", "--good and --bad are both pip:x==1"),
        ("pip:x==2", "pip:x==1", "is not older than --bad"),
        ("pip:x==1", "pip:y==2", "Name the releases in order with --between"),
        ("pip:x==1 y==1", "pip:x==2", "what goes with x differs: y==1 and nothing; which of it goes with the releases"),
        ("pip:x==1.*", "pip:x==2", "--good pip:x==1.*: name one version"),
    ],
)
def test_two_that_can_t_be_bisected_are_refused(good: str, bad: str, why: str) -> None:
    with pytest.raises(NeverSlowerError) as refused:
        releases_from(good, bad, listed=lambda _: [])
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("between", "why"),
    [
        (["pip:x==1.2", "pip:x==1.1"], "pip:x==1.1 is named after pip:x==1.2; name releases from the older"),
        (["pip:x==3"], "pip:x==2 is named after pip:x==3"),
        (["pip:x==1"], "pip:x==1 is named twice"),
    ],
)
def test_releases_that_are_named_out_of_order_are_refused(between: list[str], why: str) -> None:
    with pytest.raises(NeverSlowerError) as refused:
        releases_from("pip:x==1", "pip:x==2", between)
    assert why in str(refused.value)
    assert len(releases_from("pip:x==1", "pip:x==2", ["pip:x==1 y==2", "pip:z==9", "popen"])) == 5


# End to end, on scripts

PROBLEM = "mb1_ic4oc16_ih6kh3ph1"
COMMON = {"noise": 0.003, "rules": []}


def library(folder: Path, number: int, slow: Mapping[int, float], **more: Any) -> str:
    """The spec of an invented release in which these channel counts take so many times as long."""
    path = folder / f"release{number}.json"
    rules = [
        {"when": f"out_channels == {kept}", "times": times, "plan": f"slow{number}"} for kept, times in slow.items()
    ]
    fields = {"version": f"{number}.0", "noise": 0.003, "rules": [{"seconds": 1e-5}, *rules]} | more
    path.write_text(json.dumps(fields), encoding="utf-8")
    return f"popen//env:NEVERSLOWER_SCRIPT={path}"


@pytest.fixture
def bisect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    made = cli_bisect.Bisecting.__init__
    monkeypatch.setattr(
        cli_bisect.Bisecting,
        "__init__",
        lambda self, *given, **named: made(self, *given, **{**named, "start": in_process.start}),
    )
    monkeypatch.setattr(cli_bisect, "ROOT", tmp_path)

    def run(specs: Sequence[str], *arguments: str) -> tuple[int, str, str]:
        between = [word for spec in specs[1:-1] for word in ("--between", spec)]
        chosen = ["--backend", "scripted", "--problem", PROBLEM, "--keep", "16,15,9", "--preset", "quick"]
        ends = ["--good", specs[0], "--bad", specs[-1], *between]
        code = cli.main(["bisect", *ends, *chosen, *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_planted_culprits_are_found_and_one_that_was_fixed_and_came_back(bisect: Any, tmp_path: Path) -> None:
    slow: list[dict[int, float]] = [{}, {9: 1.5}, {9: 1.5}, {}, {15: 1.3}, {15: 1.3, 9: 1.5}]
    specs = [library(tmp_path, number, rules) for number, rules in enumerate(slow)]
    code, printed, told = bisect(specs)
    assert code == 1
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if "| scripted" in line
    ]
    assert [(row[0].rpartition("-")[2], row[1], row[2]) for row in rows] == [
        ("out15", specs[3], specs[4]),
        ("out9", specs[0], specs[1]),
        ("out9", specs[4], specs[5]),
    ]
    assert rows[0][3].startswith("1.3")
    assert "plain became" in rows[0][4]
    assert "slow4" in rows[0][4]
    assert "again     python -m neverslower bisect --good " in printed
    assert "--keep 15 --side out --preset=quick\n" in printed
    assert "6 releases, 3 cases:" in told
    journal = next(tmp_path.rglob("001-*.jsonl"))
    assert json.loads(journal.read_text(encoding="utf-8").splitlines()[0])["explain_budget"] == 0
    assert "\nat most 9 steps if each is decided at the first try, each at most 4 min 30 s (--time-budget)" in told
    assert "\nstep 1: " in told


def test_a_culprit_is_a_case_for_its_vendor_though_no_slower_than_unpruned(
    bisect: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = [library(tmp_path, number, {9: times}) for number, times in enumerate((0.5, 0.9))]
    _, printed, _ = bisect(specs)
    (line,) = (line for line in printed.splitlines() if line.startswith("vendor "))
    assert cli.main(shlex.split(line.partition("neverslower ")[2])) == 0
    page = capsys.readouterr().out
    for part in (
        "# scripted 0.0 → 1.0: a convolution got slower (9 of 16 output channels)",
        "**1.800×",
        "at an error of 0.25 % over all",
        "- differs: software scripted: 0.0 → 1.0",
        "- 0.0: plan `slow0`",
        "- 1.0: plan `slow1`",
        "What changed: dispatch; convolution slow0 became convolution slow1.",
        "| 16 | 1.000×, fine |",
        "| process | older release | median | newer release | median |",
        "All rounds: 5 µs",
    ):
        assert part in page
    assert str(tmp_path) not in page
    assert newest_journal(tmp_path / ".neverslower").parent.name.startswith("bisect-")


def test_nothing_that_got_worse_is_exit_code_0(bisect: Any, tmp_path: Path) -> None:
    code, printed, _ = bisect([library(tmp_path, number, {}) for number in (0, 1)])
    assert code == 0
    assert ": 0 worse, 3 not worse, 0 undecided, of 3\n" in printed


def test_where_nothing_could_be_decided_the_exit_code_is_6(
    bisect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_bisect.Bisecting, "_measure", lambda *_: {})
    code, printed, _ = bisect([library(tmp_path, number, {}) for number in (0, 1)])
    assert code == 6
    assert ": 0 worse, 0 not worse, 3 undecided, of 3\n" in printed


def test_a_trace_goes_on_where_it_was_and_refuses_another_one(bisect: Any, tmp_path: Path) -> None:
    specs = [library(tmp_path, number, slow) for number, slow in enumerate([{}, {15: 1.4}, {15: 1.4}])]
    code, printed, _ = bisect(specs)
    (folder,) = (tmp_path / ".neverslower").glob("bisect-*")
    recorded = record.load(folder)
    assert len(recorded.steps) >= 2
    lines = (folder / record.NAME).read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / record.NAME).write_text("".join(lines[:2]), encoding="utf-8")
    journals = sorted(path.name for path in folder.glob("0*.jsonl"))
    assert [name[:3] for name in journals] == [f"{number:03}" for number in range(1, len(recorded.steps) + 1)]
    again, same, told = bisect(specs, "--resume", str(folder))
    assert (again, same) == (code, printed)
    assert "step 1: " not in told
    assert "step 2: " in told
    code, _, refused = bisect([*specs[:2], library(tmp_path, 7, {})], "--resume", str(folder))
    assert code == 2
    assert "another trace: releases was" in refused
    code, _, refused = bisect(specs, "--resume", str(tmp_path))
    assert code == 2


def test_an_interrupted_trace_says_how_to_continue_it(
    bisect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> dict[str, Seen]:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_bisect.Bisecting, "_measure", interrupted)
    code, _, told = bisect([library(tmp_path, number, {}) for number in (0, 1)])
    assert code == 2
    (folder,) = (tmp_path / ".neverslower").glob("bisect-*")
    assert told.endswith(f"interrupted; continue with the same command and --resume {folder}\n")


def test_an_interruption_before_anything_began_is_one_line(
    bisect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_bisect, "releases_from", interrupted)
    specs = [library(tmp_path, number, {}) for number in (0, 1)]
    assert bisect(specs) == (cli.INTERRUPTED, "", "never-slower: interrupted\n")


def test_a_release_that_can_t_be_had_is_passed_over_and_said_to_be(
    bisect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [library(tmp_path, number, slow) for number, slow in enumerate([{}, {}, {15: 1.4}, {15: 1.4}])]

    def provided(spec: Any, _: Any) -> Any:
        if "release1" in spec.execnet:
            raise ReleaseError("no such wheel")
        return spec

    monkeypatch.setattr(cli_bisect, "provided", provided)
    _, printed, _ = bisect(specs)
    assert f"not decided: scripted-{PROBLEM}" in printed
    assert f"any of {specs[1]} (no such wheel) may be the first bad one" in printed


def test_a_case_that_crashes_is_a_regression_too(
    bisect: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {"rules": [{"seconds": 1e-5}, {"when": "out_channels == 15", "fault": "wrong"}]}
    code, printed, _ = bisect([library(tmp_path, 0, {}), library(tmp_path, 1, {}, **wrong)])
    assert code == 1
    assert "out15" in printed
    assert "invalid" in printed
    (line,) = (line for line in printed.splitlines() if line.startswith("vendor "))
    assert cli.main(shlex.split(line.partition("neverslower ")[2])) == 0
    page = capsys.readouterr().out
    assert page.startswith("# scripted 0.0 → 1.0: a convolution computes something wrong (15 of 16 output channels)")
    assert "With 0.0 the output was right; its error was " in page


def test_what_fails_with_the_good_release_too_is_no_regression(bisect: Any, tmp_path: Path) -> None:
    wrong = {"rules": [{"seconds": 1e-5}, {"when": "out_channels == 15", "fault": "wrong"}]}
    specs = [library(tmp_path, number, {}, **wrong) for number in range(3)]
    code, printed, told = bisect(specs)
    assert code == 0
    assert "0 worse, 2 not worse, 1 undecided, of 3" in printed
    assert "-out15: invalid: wrong output: off by 0.05 of the largest value" in printed
    assert "; the older release fails too (wrong output" in printed
    assert "step 2" not in told


def test_a_throttled_device_is_no_regression_and_no_case_for_a_vendor(
    bisect: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = [library(tmp_path, 0, {}), library(tmp_path, 1, {}, throttled=0.9)]
    code, printed, _ = bisect(specs)
    assert code == 6
    assert "blocks were dropped: scripted throttling" in printed
    (folder,) = (tmp_path / ".neverslower").glob("bisect-*")
    journal = str(folder / "001-0-1-0.jsonl")
    assert cli.main(["vendor-report", f"scripted-{PROBLEM}-float32-NCHW-out15", "--journal", journal]) == 2
    assert "it is INVALID there (" in capsys.readouterr().err
    assert cli.main(["upgrade", journal]) == 0
    assert "no output is wrong or missing" in capsys.readouterr().out


def test_more_instructions_are_called_that(bisect: Any, tmp_path: Path) -> None:
    counts = [{"evidence": "instructions", "rules": [{"instructions": number}]} for number in (1000, 1100)]
    code, printed, _ = bisect([library(tmp_path, number, {}, **more) for number, more in enumerate(counts)])
    assert code == 1
    assert "| 1.100× the instructions |" in printed


def test_dispatches_of_which_none_is_worse_are_refused(bisect: Any, tmp_path: Path) -> None:
    steps = [{"evidence": "dispatch", "rules": [{"steps": [f"mm global={n}x1x1 local=8x1x1"]}]} for n in (8, 16)]
    code, printed, refused = bisect([library(tmp_path, number, {}, **more) for number, more in enumerate(steps)])
    assert (code, printed) == (2, "")
    assert "scripted gives dispatches here, of which none is worse than another; compare two releases" in refused


def test_an_output_that_got_less_exact_is_a_regression_too(bisect: Any, tmp_path: Path) -> None:
    inexact = {"rules": [{"seconds": 1e-5}, {"when": "out_channels == 15", "fault": "wrong", "off": 3e-5}]}
    specs = [library(tmp_path, 0, {}), library(tmp_path, 1, {}), library(tmp_path, 2, {}, **inexact)]
    code, printed, _ = bisect(specs)
    assert code == 1
    (row,) = (line for line in printed.splitlines() if "-out15 |" in line)
    assert f"| {specs[1]} | {specs[2]} |" in row
    assert "output less exact: error" in row


@pytest.mark.parametrize("option", ["--report", "--verdicts", "--hazards"])
def test_an_option_that_means_nothing_here_is_refused(
    bisect: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    with pytest.raises(SystemExit):
        bisect([library(tmp_path, number, {}) for number in (0, 1)], option, "x.html")
    assert f"unrecognized arguments: {option}" in capsys.readouterr().err


def test_the_backend_must_be_named(bisect: Any, tmp_path: Path) -> None:
    code, _, told = bisect([library(tmp_path, number, {}) for number in (0, 1)], "--backend", "onednn")
    assert code == 2
    assert "--backend: name the one whose releases are bisected" in told


# Words


def test_the_table_says_what_was_not_shown_and_what_was_not_asked() -> None:
    trace = Trace(4, ["a"], follow=False)
    trace.learn(Step(0, 3, 0, ("a",)), {"a": Seen(BAD, "slower", "", Interval(2, 2, 2))})
    trace.learn(Step(0, 1, 0, ("a",)), {"a": Seen(BAD, "slower", "", Interval(2, 2, 2), "x|y became z")})

    def again(culprit: Culprit) -> str:
        return f"show {culprit.case}"

    printed = list(report.lines(trace, ["r0", "r1", "r2", "r3"], again))
    assert "| a | r0 | r1 | 2.000× | x\\|y became z |" in printed
    assert "again     show a" in printed
    assert printed[-1] == "not asked: a: whether r2 fixed it in between; leave out --first-only"
    begin = "\n".join(report.beginning(["a", "b", "c"], Trace(3, ["x", "y"]), 60.0))
    assert "at most 3 steps if each is decided at the first try, each at most 1 min 00 s" in begin
    assert begin.endswith("measured once more, for twice as long: at most 6 steps, 9 min 00 s in all")


def test_a_python_is_named_by_its_path(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.touch()
    spec = cli_bisect._worker_of(WorkerSpec("scripted"), str(python))
    assert (spec.execnet, spec.place) == (f"popen//python={python}", str(python))


def test_a_bad_release_that_is_slower_and_was_not_confirmed_ends_with_no_success() -> None:
    """Of an upgrade 30 channel counts were up to 2.1 times slower, and none confirmed: '0 worse', exit code 0."""
    slower = Seen(State.OPEN, said(Finding.CHANGE_UNCONFIRMED, True), "the run ended", Interval(2.1, 1.9, 2.2))
    good, noisy = Seen(State.GOOD, "no worse", ""), Seen(State.OPEN, "undecided", "noise")
    for seen, code in (({"a": good, "b": slower}, 6), ({"a": good, "b": noisy}, 0), ({"a": noisy, "b": slower}, 6)):
        trace = Trace(2, list(seen))
        trace.learn(Step(0, 1, 0, tuple(seen)), seen)
        assert cli_bisect.exit_code(trace) == code
    first, *_ = report.lines(trace, ["1.0", "2.0"], lambda culprit: "")
    assert first.endswith("0 worse, 0 not worse, 2 undecided (1 of them slower, not shown again yet), of 2")
