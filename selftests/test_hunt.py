"""Hunts: planted hazards are found and shrunk, faults fail, noise makes nothing flaky, and time is kept to.

Some run on scripted workers. The others are about what is asked and told, and get their answers from a rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import core, settings
from hypothesis.errors import Flaky

from neverslower.evidence.observation import Plan
from neverslower.hunt import hunting as module
from neverslower.hunt.hunting import Hunted, hunt, numerics_hunt
from neverslower.hunt.oracle import Oracle
from neverslower.hunt.strategies import Space
from neverslower.judge.sequential import QUICK, SequentialJudge
from neverslower.judge.verdict import Code, Reason, ReasonCode, Verdict
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem, DType, Layout, Side
from neverslower.problem.networks import Layer, network
from neverslower.worker.process import WorkerSpec
from selftests import in_process
from selftests.support import scripted

SMALL = Space(largest_macs=50_000)
TINY = Space(groups=False, dilation=False, asymmetric_padding=False, largest_macs=12)
FEW = Space(groups=False, dilation=False, asymmetric_padding=False, largest_macs=4)
LEAST = Space(largest_macs=2)
STEADY: dict[str, Any] = {"seconds": 1e-5}
WANTED = 20
PLENTY = 100
"""Which examples a seed gives differs from one version of Hypothesis to the next: of so many, some hit in each."""


@contextmanager
def examples(number: int, derandomize: bool = True) -> Iterator[None]:
    """A profile of Hypothesis with so many examples, for a while."""
    before = settings.get_current_profile_name()
    settings.register_profile("selftest", max_examples=number, derandomize=derandomize)
    settings.load_profile("selftest")
    try:
        yield
    finally:
        settings.load_profile(before)


@pytest.fixture(autouse=True)
def profile() -> Iterator[None]:
    """Few examples, and the same in each run."""
    with examples(WANTED):
        yield


def told(found: Hunted) -> list[tuple[str, int]]:
    """(unpruned layer, channels kept) of each hazard."""
    return [(one.comparison.reference.descriptor, one.comparison.candidate.out_channels) for one in found.found]


# On scripted workers


def slow(when: str, **fields: Any) -> dict[str, Any]:
    return {"when": when, "times": 1.5} | fields


def fault(when: str, name: str) -> dict[str, Any]:
    return {"when": when, "fault": name}


def oracle_on(spec: WorkerSpec) -> Oracle:
    """An oracle of a small budget: what a judge could have proved at most takes it longest to find out."""
    return Oracle(spec, judge=SequentialJudge(preset=QUICK), start=in_process.start)


def measured(folder: Path, rules: list[dict[str, Any]], space: Space = SMALL, **script: Any) -> Hunted:
    """A hunt on a script, with slight noise unless it says otherwise."""
    fields: dict[str, Any] = {"noise": 0.005, "rules": [STEADY, *rules]} | script
    with oracle_on(scripted(folder, **fields)) as oracle:
        return hunt(oracle, space)


def test_a_congruence_class_is_found_and_shrunk_to_its_least_member(tmp_path: Path) -> None:
    with examples(PLENTY):
        found = measured(tmp_path, [slow("out_channels % 8 == 7")])
    assert told(found) == [("mb1_g1ic1oc8_ih1oh1kh1sh1ph0", 7)]
    (one,) = found.found
    assert one.verdict.code is Code.SLOWER
    assert "confirmed in a fresh process" in one.verdict.reason.text
    assert one.verdict.ratio is not None
    assert one.verdict.ratio.estimate == pytest.approx(1.5, rel=0.02)
    assert [str(plan) for plan in one.plans] == ["plain", "plain"]
    assert (found.failures, found.gone) == ((), ())
    assert (found.left_out, found.unconfirmed) == (0, 0)
    assert found.drawn == found.measured == sum(found.counts.values())


def test_a_range_is_found_and_shrunk_to_its_edge(tmp_path: Path) -> None:
    with examples(PLENTY):
        found = measured(tmp_path, [slow("out_channels >= 9 and out_channels <= 31")])
    assert told(found) == [("mb1_g1ic1oc32_ih1oh1kh1sh1ph0", 31)]


def test_one_shape_is_found_and_shrunk_to_the_layer_that_is_one_channel_larger(tmp_path: Path) -> None:
    shape = "out_channels == 3 and in_channels == 1 and height * width * batch * kernel_h * kernel_w == 1"
    found = measured(tmp_path, [slow(shape)], FEW)
    assert told(found) == [("mb1_g1ic1oc4_ih1oh1kh1sh1ph0", 3)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_about_the_thresholds_never_makes_an_error(tmp_path: Path, seed: int) -> None:
    """Each ratio is near 1.01 or 1.03, and asked a second time it would often be judged otherwise."""
    rules = [slow("out_channels % 3 == 1", times=1.03), slow("out_channels % 3 == 2", times=1.07)]
    found = measured(tmp_path, rules, TINY, noise=0.05, process_effect=0.03, spikes=[0.02, 3.0], seed=seed)
    assert found.failures == ()
    assert found.counts[Code.UNDECIDED] > 0


def test_a_crash_is_found_and_shrunk(tmp_path: Path) -> None:
    found = measured(tmp_path, [fault("out_channels == 3", "crash")], FEW)
    (one,) = found.failures
    assert (one.comparison.reference.descriptor, one.comparison.distance) == ("mb1_g1ic1oc3_ih1oh1kh1sh1ph0", 1)
    assert one.verdict.code is Code.CRASHED
    assert "scripted crash" in one.verdict.reason.text


def test_a_wrong_output_is_found_and_shrunk(tmp_path: Path) -> None:
    found = measured(tmp_path, [fault("out_channels >= 5", "wrong")])
    (one,) = found.failures
    assert (one.comparison.reference.descriptor, one.comparison.distance) == ("mb1_g1ic1oc5_ih1oh1kh1sh1ph0", 1)
    assert one.verdict.code is Code.INVALID


def test_a_hang_is_a_crash_at_the_time_limit(tmp_path: Path) -> None:
    with oracle_on(scripted(tmp_path, 0.5, rules=[STEADY, fault("out_channels == 2", "hang")])) as oracle, examples(1):
        (one,) = hunt(oracle, LEAST).failures
    assert one.verdict.reason.code is ReasonCode.TIME_LIMIT


def test_all_three_accounts_of_an_output_agree_over_the_whole_space(tmp_path: Path) -> None:
    everything = Space(tuple(DType), tuple(Layout), (Side.OUT, Side.IN), largest_macs=100_000)
    with oracle_on(scripted(tmp_path)) as oracle, examples(60):
        found = numerics_hunt(oracle, everything)
    assert found.failures == ()
    assert found.counts == {Code.SAME: 60}


def test_a_hunt_for_wrong_outputs_finds_and_shrinks_one(tmp_path: Path) -> None:
    with oracle_on(scripted(tmp_path, rules=[fault("out_channels >= 5", "wrong_first")])) as oracle:
        found = numerics_hunt(oracle, SMALL)
    (one,) = found.failures
    assert (one.comparison.reference.descriptor, one.comparison.distance) == ("mb1_g1ic1oc5_ih1oh1kh1sh1ph0", 1)
    assert one.verdict.reason.code is ReasonCode.WRONG_OUTPUT
    assert found.counts[Code.SAME] > 0


# By a rule

Rule = Callable[[ConvProblem, ConvProblem], Code]


class Told(Oracle):
    """Answers by a rule of the unpruned and the pruned problem, without a worker; records what it is asked."""

    def __init__(
        self,
        rule: Rule,
        plan: Callable[[ConvProblem], str] = lambda problem: "plain",
        shown_again: Callable[[ConvProblem], bool] = lambda problem: True,
    ) -> None:
        super().__init__(WorkerSpec("scripted"))
        self.rule, self.plan, self.shown_again = rule, plan, shown_again
        self.asked: list[Comparison] = []
        self.confirmations: list[Comparison] = []

    def _measured(self, comparison: Comparison) -> Verdict:
        self.asked.append(comparison)
        return Verdict(self.rule(comparison.reference, comparison.candidate), Reason(ReasonCode.PROVED, "told"))

    _checked = _measured

    def confirmed(self, comparison: Comparison) -> Verdict:
        self.confirmations.append(comparison)
        if self.shown_again(comparison.candidate):
            return self.verdict(comparison)
        return Verdict(Code.UNDECIDED, Reason(ReasonCode.NOT_CONFIRMED, "told"))

    def plans(self, comparison: Comparison) -> tuple[Plan | None, Plan | None]:
        return Plan(self.plan(comparison.reference)), Plan(self.plan(comparison.candidate))


NEVER: Rule = lambda whole, part: Code.SAME  # noqa: E731
LARGE: Rule = lambda whole, part: Code.SLOWER if part.out_channels > 4 else Code.SAME  # noqa: E731
LEAST_LARGE = ("mb1_g1ic1oc6_ih1oh1kh1sh1ph0", 5)


def test_what_a_rule_explains_is_met_and_passed_by() -> None:
    explains = lambda comparison, verdict: comparison.candidate.out_channels < 8  # noqa: E731
    with examples(PLENTY):
        found = hunt(Told(LARGE), SMALL, explained=explains)
    assert told(found) == [("mb1_g1ic1oc9_ih1oh1kh1sh1ph0", 8)]
    assert found.explained > 0
    everything = hunt(Told(LARGE), SMALL, explained=lambda comparison, verdict: True)
    assert (everything.found, everything.counts[Code.SLOWER]) == ((), everything.explained)


def test_a_hunt_starts_near_earlier_examples() -> None:
    layer = network("resnet50")[1].problem
    large = replace(layer, height=14, width=14)
    earlier = Comparison("scripted", Layer("", 0, large.descriptor, large), large.prune(3))
    rare: Rule = lambda whole, part: Code.SLOWER if (part.out_channels, part.height) == (59, 14) else Code.SAME  # noqa: E731
    space = replace(SMALL, largest_macs=large.macs * 2)
    with examples(3 * PLENTY):
        assert hunt(Told(rare), space).found == ()
        assert told(hunt(Told(rare), space, [earlier]))[0][1] == 59


@pytest.mark.parametrize("fields", [{"largest_macs": 10}, {"dtypes": (DType.FLOAT16,)}, {"sides": (Side.IN,)}])
def test_an_earlier_example_out_of_the_space_is_no_start(fields: dict[str, Any]) -> None:
    problem = network("resnet50")[1].problem
    assert Space(largest_macs=10**9).holds(known := Comparison("scripted", network("resnet50")[1], problem.prune(1)))
    assert not replace(Space(largest_macs=10**9), **fields).holds(known)


def test_where_there_is_no_hazard_all_examples_are_distinct_and_none_is_found() -> None:
    oracle = Told(NEVER)
    found = hunt(oracle, SMALL)
    assert found.found == found.failures == ()
    assert (found.counts, found.drawn, found.measured) == ({Code.SAME: WANTED}, WANTED, WANTED)
    assert len({one.identity for one in oracle.asked}) == len(oracle.asked) == WANTED


def test_what_is_undecided_refused_or_faster_is_counted_and_no_failure() -> None:
    codes = [Code.UNDECIDED, Code.UNSUPPORTED, Code.FASTER]
    found = hunt(Told(lambda whole, part: codes[part.out_channels % 3]), SMALL)
    assert found.found == found.failures == ()
    assert set(found.counts) == set(codes)
    assert found.measured == WANTED - found.counts[Code.UNSUPPORTED]


def test_hazards_of_different_plans_are_shrunk_apart() -> None:
    found = hunt(Told(LARGE, lambda problem: "1×1" if problem.kernel == (1, 1) else "larger"), SMALL)
    assert [(str(one.plans[1]), one.comparison.reference.descriptor) for one in found.found] == [
        ("1×1", "mb1_g1ic1oc6_ih1oh1kh1sh1ph0"),
        ("larger", "mb1_g1ic1oc6_ih2oh1kh2sh1ph0"),
    ]


def test_a_failure_does_not_hide_a_hazard() -> None:
    def rule(whole: ConvProblem, part: ConvProblem) -> Code:
        return Code.CRASHED if part.stride[0] > 1 else Code.INVALID if part.kernel[0] > 1 else LARGE(whole, part)

    with examples(60):
        found = hunt(Told(rule), SMALL)
    assert told(found) == [LEAST_LARGE]
    assert [(one.verdict.code, one.comparison.reference.descriptor) for one in found.failures] == [
        (Code.CRASHED, "mb1_g1ic1oc2_ih1oh1kh1sh2ph0"),
        (Code.INVALID, "mb1_g1ic1oc2_ih2oh1kh2sh1ph0"),
    ]


def test_a_failure_that_is_met_only_while_shrinking_is_told_too() -> None:
    def rule(whole: ConvProblem, part: ConvProblem) -> Code:
        return Code.CRASHED if whole.macs == 7 else LARGE(whole, part)

    found = hunt(Told(rule), SMALL)
    assert told(found) == [LEAST_LARGE]
    assert [one.comparison.reference.macs for one in found.failures] in ([], [7])
    assert len(found.failures) == (found.counts.get(Code.CRASHED, 0) > 0)


def test_a_hunt_that_forgets_is_flaky(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is to memory that noise owes its peace."""
    answers = itertools.cycle([Code.SAME, Code.SLOWER, Code.SAME])

    def forget(run: Any, comparison: Comparison, until: float | None) -> Verdict:
        run._met[comparison.identity] = comparison
        verdict = run._verdicts[comparison.identity] = Verdict(next(answers), Reason(ReasonCode.PROVED, "by turns"))
        return verdict

    monkeypatch.setattr(module._Hunt, "_ask", forget)
    with pytest.raises(Flaky):
        hunt(Told(NEVER), SMALL)


# Time


def test_after_the_budget_nothing_is_measured_and_what_is_left_out_is_counted() -> None:
    oracle, ticks = Told(NEVER), itertools.count()
    found = hunt(oracle, SMALL, budget_seconds=WANTED, clock=lambda: float(next(ticks)))
    assert 0 < found.measured == len(oracle.asked) < WANTED
    assert found.left_out == WANTED - found.measured
    assert found.drawn == WANTED


def test_half_of_the_budget_is_left_for_shrinking() -> None:
    """The clock goes by what is asked: of forty questions twenty are there for shrinking."""
    oracle = Told(LARGE)
    with examples(40):
        found = hunt(oracle, SMALL, budget_seconds=40.0, clock=lambda: float(len(oracle.asked)))
    assert found.left_out > 0
    assert told(found) == [LEAST_LARGE]


def test_without_time_nothing_is_asked() -> None:
    oracle = Told(LARGE)
    found = hunt(oracle, SMALL, budget_seconds=0.0, explicit=[kept(16, 15)])
    assert oracle.asked == oracle.confirmations == []
    assert (found.measured, found.found, found.gone, found.left_out) == (0, (), (), WANTED + 1)


def test_shrinking_that_runs_out_of_time_ends_with_the_smallest_so_far() -> None:
    oracle = Told(LARGE)
    found = hunt(oracle, SMALL, budget_seconds=32.0, clock=lambda: float(len(oracle.asked)))
    (one,) = found.found
    assert 5 <= one.comparison.candidate.out_channels < max(one.candidate.out_channels for one in oracle.asked)
    assert len(oracle.asked) <= 33


# Explicit examples


def kept(unpruned: int, pruned: int) -> Comparison:
    problem = ConvProblem(in_channels=4, height=3, width=3, out_channels=unpruned, kernel=(3, 3))
    return Comparison("scripted", Layer("", 0, problem.descriptor, problem), problem.prune(unpruned - pruned))


def test_explicit_examples_come_first_and_others_are_still_found() -> None:
    oracle = Told(LARGE)
    found = hunt(oracle, SMALL, explicit=[kept(16, 15), kept(16, 3)])
    assert oracle.asked[:2] == [kept(16, 15), kept(16, 3)]
    assert told(found) == [("mb1_g1ic4oc16_ih3oh1kh3sh1ph0", 15), LEAST_LARGE]
    assert found.gone == (kept(16, 3),)


def test_an_explicit_example_that_is_found_again_is_told_once() -> None:
    (first,) = hunt(Told(LARGE), SMALL).found
    oracle = Told(LARGE)
    assert [one.comparison for one in hunt(oracle, SMALL, explicit=[first.comparison] * 2).found] == [first.comparison]
    assert oracle.confirmations == [first.comparison]


def test_a_catalogue_layers_pruning_can_be_an_example() -> None:
    layer = network("resnet50")[3]
    known = Comparison("scripted", layer, layer.problem.prune(1))
    rule: Rule = lambda whole, part: Code.SLOWER if part == known.candidate else Code.SAME  # noqa: E731
    assert [one.comparison for one in hunt(Told(rule), LEAST, explicit=[known]).found] == [known]


@pytest.mark.parametrize("code", [Code.UNDECIDED, Code.UNSUPPORTED])
def test_an_example_about_which_nothing_is_proved_is_not_gone(code: Code) -> None:
    assert hunt(Told(lambda whole, part: code), LEAST, explicit=[kept(16, 15)]).gone == ()


def test_an_explicit_example_that_crashes_is_a_failure() -> None:
    rule: Rule = lambda whole, part: Code.CRASHED if part.out_channels == 15 else Code.SAME  # noqa: E731
    found = hunt(Told(rule), LEAST, explicit=[kept(16, 15)])
    assert [one.comparison for one in found.failures] == [kept(16, 15)]


# Confirmation


def test_what_no_other_process_shows_is_counted_and_not_found() -> None:
    oracle = Told(LARGE, shown_again=lambda problem: False)
    found = hunt(oracle, SMALL)
    assert found.found == found.failures == ()
    assert found.unconfirmed == len(oracle.confirmations) == module.CONFIRMATIONS
    assert found.counts[Code.UNDECIDED] == found.unconfirmed


def test_where_the_smallest_is_not_confirmed_the_next_is_tried() -> None:
    found = hunt(Told(LARGE, shown_again=lambda problem: problem.out_channels > 5), SMALL)
    assert found.unconfirmed > 0
    (one,) = found.found
    assert one.comparison.candidate.out_channels > 5


# What is drawn


def test_the_loaded_profile_says_how_much_is_drawn() -> None:
    with examples(5):
        assert hunt(Told(NEVER), SMALL).drawn == 5
    with examples(50):
        assert hunt(Told(NEVER), SMALL).drawn == 50


def asked_at_random(derandomize: bool) -> list[str]:
    oracle = Told(NEVER)
    with examples(20, derandomize):
        hunt(oracle, SMALL)
    return [one.id for one in oracle.asked]


def test_only_a_derandomised_profile_draws_the_same_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "global_force_seed", None)  # A run in this process may have had one on its command line.
    assert asked_at_random(True) == asked_at_random(True)
    assert asked_at_random(False) != asked_at_random(False)


def test_a_seed_on_the_command_line_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "global_force_seed", 7)
    first = asked_at_random(False)
    assert first == asked_at_random(False)
    monkeypatch.setattr(core, "global_force_seed", 8)
    assert first != asked_at_random(False)


def test_hypothesis_says_nothing_and_leaves_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert hunt(Told(LARGE), SMALL).found
    assert tuple(capfd.readouterr()) == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told_of_each_measurement() -> None:
    steps: list[tuple[str, int, int, float | None]] = []
    found = hunt(Told(NEVER), SMALL, budget_seconds=1000.0, progress=lambda *step: steps.append(step))
    assert [done for _, done, _, _ in steps] == list(range(1, found.drawn + 1))
    assert {(phase, total) for phase, _, total, _ in steps} == {("scripted: hunt", WANTED)}
    assert all(left is not None and 0 < left <= 1000 for _, _, _, left in steps)
