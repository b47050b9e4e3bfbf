"""Hazards explained by a campaign on the scripted backend, and samples that a throttled device spoils."""

from __future__ import annotations

import json
from typing import Any

import pytest

from neverslower.campaign.campaign import Campaign
from neverslower.campaign.remedies import MOST_ARMS
from neverslower.campaign.settings import Settings
from neverslower.hunt.hunting import blamed
from neverslower.judge.cause import Cause
from neverslower.judge.verdict import Code, ReasonCode
from neverslower.outcome.table import Finding, unmeasured
from neverslower.problem.comparison import padded_selves
from neverslower.worker.sampling import interleave
from selftests import in_process
from selftests.support import comparison, problem, scripted

SETTINGS = Settings(passes=2, blocks=12)
GEMM, PADDING = "gemm grid=4x1x1 block=128x1x1", "addPadding grid=9x1x1 block=64x1x1"
RULES = [
    {"seconds": 1e-5, "steps": [GEMM]},
    {"when": "out_channels == 15", "times": 2.0, "steps": [PADDING, GEMM]},
]
ONE = comparison(1)


def explained(tmp_path, rules, settings=SETTINGS, comparisons=(ONE,), start=in_process.start):
    spec = scripted(tmp_path, noise=0.002, rules=rules)
    return Campaign({"scripted": spec}, settings, start=start).run(comparisons)


def test_a_hazard_has_cause_evidence_and_a_remedy_that_was_measured(tmp_path):
    found = explained(tmp_path, RULES).explanations[ONE.identity]
    assert found.cause is Cause.ALIGNMENT
    assert found.best.estimate == pytest.approx(2.0, rel=0.05)
    assert found.remedy.channels == 16
    assert found.remedy.ratio.estimate == pytest.approx(0.5, rel=0.05)


def test_what_explains_is_prepared_anew_for_each_pass_the_other_first_by_turns(tmp_path):
    asked: dict[Any, list[Any]] = {}

    class Noted(in_process.InProcess):
        def measure(self, reference, candidate, blocks, candidate_first=False, afresh=False):
            asked.setdefault(self._number, []).append((candidate_first, afresh))
            return super().measure(reference, candidate, blocks, candidate_first, afresh)

        def sweep(self, reference, candidates, sweeps, seed, expected=()):
            if "remedies" in seed:
                asked.setdefault("sweeps", []).append((tuple(candidates), seed))
            return super().sweep(reference, candidates, sweeps, seed, expected)

    wide = comparison(17, problem(32))  # Padded to 16 channels, which nothing else compares with.
    explained(tmp_path, RULES, start=Noted, comparisons=[wide])
    best = list(asked.values())[-1]
    assert len(best) > 1
    assert best == [(bool(number % 2), True) for number in range(len(best))]
    arms, seeds = zip(*asked["sweeps"], strict=True)
    assert len(set(seeds)) == len(seeds) > 1  # Each draws another order of preparing.
    padded = [one.key for one in padded_selves(wide) if one.out_channels < 32]
    assert set(arms[0]) == {wide.keys[1], *padded}


def slower_counts(layer, counts):
    rule = {"when": " or ".join(f"out_channels == {count}" for count in counts), "times": 2.0}
    return [comparison(layer.out_channels - count, layer) for count in counts], [{"seconds": 1e-5}, rule]


def test_slower_counts_of_a_layer_share_the_sweeps_that_time_their_paddings(tmp_path):
    many, rules = slower_counts(problem(128), [31, 33, 47, 63])
    swept: list[int] = []

    class Noted(in_process.InProcess):
        def sweep(self, reference, candidates, sweeps, seed, expected=()):
            swept.extend([len(candidates)] * ("remedies" in seed))
            return super().sweep(reference, candidates, sweeps, seed, expected)

    found = explained(tmp_path, rules, comparisons=many, start=Noted).explanations
    assert all(found[one.identity].remedy.ratio.high < 0.6 for one in many)
    assert max(swept) <= MOST_ARMS
    assert len(swept) < 4 * len(many)


def test_a_remedy_says_what_padding_takes_of_the_pruned_layers_time(tmp_path):
    (one,), rules = slower_counts(problem(128), [33])
    rules.append({"when": "out_channels == 40", "seconds": 5e-6})  # Half of the unpruned layer's, a quarter of its own.
    remedy = explained(tmp_path, rules, comparisons=[one]).explanations[one.identity].remedy
    assert remedy.channels == 40
    assert remedy.ratio.estimate == pytest.approx(0.25, rel=0.05)


def test_a_padding_that_can_t_be_measured_leaves_the_others_to_help(tmp_path):
    (one,), rules = slower_counts(problem(128), [33])
    fault = {"when": "out_channels == 40", "fault": "unsupported"}
    found = explained(tmp_path, [*rules, fault], comparisons=[one]).explanations[one.identity]
    assert found.remedy.channels in (48, 64, 128)


def test_a_best_plan_that_is_not_slower_makes_it_a_heuristic_miss(tmp_path):
    cure = {"when": "out_channels == 15", "policy": "best", "seconds": 1e-5}
    found = explained(tmp_path, [*RULES, cure]).explanations[ONE.identity]
    assert found.cause is Cause.HEURISTIC_MISS
    assert found.best.high < 1.03


def test_a_best_plan_that_can_t_be_measured_leaves_the_kernels_to_tell(tmp_path):
    found = explained(tmp_path, [*RULES, {"policy": "best", "fault": "unsupported"}]).explanations[ONE.identity]
    assert (found.cause, found.best) == (Cause.ALIGNMENT, None)


def test_what_is_not_slower_is_explained_on_demand_alone(tmp_path):
    other = comparison(3)
    assert other.identity not in explained(tmp_path, RULES, comparisons=[ONE, other]).explanations
    every = explained(tmp_path, RULES, Settings(passes=2, blocks=12, explain_all=True), [ONE, other])
    assert every.explanations[other.identity].cause is Cause.UNKNOWN


def test_once_the_time_for_causes_is_over_the_plans_alone_tell(tmp_path):
    found = explained(tmp_path, RULES, Settings(passes=2, blocks=12, explain_budget=-1.0)).explanations[ONE.identity]
    assert (found.cause, found.best, found.remedy) == (Cause.ALIGNMENT, None, None)
    assert found.evidence[-1] == "the best plan was not measured"


@pytest.mark.parametrize(
    ("kept", "whole", "counts"),
    [(127, 128, [128]), (226, 256, [232, 256]), (97, 128, [104, 128]), (60, 200, [64, 200]), (15, 16, [16])],
)
def test_padding_is_tried_to_sizes_that_libraries_like_and_to_the_whole(kept, whole, counts):
    one = comparison(whole - kept, problem(out_channels=whole))
    assert [padded.out_channels for padded in padded_selves(one)] == counts


def test_padding_of_a_grouped_layer_keeps_its_groups():
    one = comparison(12, problem(out_channels=48, in_channels=12, groups=3))
    assert all(padded.out_channels % 3 == 0 for padded in padded_selves(one))


@pytest.mark.processes
def test_the_report_says_why_and_a_baseline_keeps_it(runner):
    script = {"rules": [{"when": "out_channels == 15", "times": 2.0, "steps": [PADDING, GEMM]},
                        {"when": "out_channels != 15", "steps": [GEMM]}]}  # fmt: skip
    result = runner.run(script, "--strict-verdicts", "--accept-baseline", "first")
    result.stdout.fnmatch_lines(
        ["*cause     alignment", "*only the pruned layer launches addPadding", "*remedy    pad to 16: 0.*×*"]
    )
    result.stdout.fnmatch_lines(["causes: 1 alignment; padding would be faster for 1 of 1"])
    (stored,) = runner.path.glob("baselines/*/*.json")
    info = [one["extra_info"] for one in json.loads(stored.read_text(encoding="utf-8"))["benchmarks"]]
    (why,) = [one["explanation"] for one in info if one["explanation"]]
    assert (why["cause"], why["pad_to"]) == ("alignment", 16)


# Throttling


class Steady:
    def run(self, iterations):
        return float(iterations)


def looks(*answers):
    waiting = list(answers)
    return lambda: waiting.pop(0) if waiting else ""


def test_blocks_of_a_disturbed_device_are_taken_again():
    seconds, discarded, why = interleave(Steady(), Steady(), (2, 3), 10, looks("", "hot", ""))
    assert seconds.shape == (10, 2, 2)
    assert (discarded, why) == (4, "hot")


class Device:
    """Rounds that say by their time which they are; throttled while it runs the 17th to the 32nd."""

    def __init__(self):
        self.rounds = 0

    def run(self, iterations):
        self.rounds += 1
        return float(self.rounds)

    def disturbed(self):
        return "hot" if 16 < self.rounds <= 32 else ""


def test_blocks_that_a_disturbed_device_took_are_not_among_the_samples():
    device = Device()
    seconds, discarded, _ = interleave(device, device, (1, 1), 8, device.disturbed, warmup=0)
    assert sorted(seconds.ravel()) == [*range(1, 17), *range(33, 49)]
    assert discarded == 4


def test_a_device_that_stays_disturbed_ends_it():
    seconds, discarded, why = interleave(Steady(), Steady(), (1, 1), 10, lambda: "power cap")
    assert seconds.shape == (0, 2, 2)
    assert discarded >= 10
    assert why == "power cap"


def test_too_many_discarded_blocks_make_it_invalid(tmp_path):
    spec = scripted(tmp_path, rules=RULES, throttled=0.6)
    found = Campaign({"scripted": spec}, SETTINGS, start=in_process.start).run([comparison(3)])
    (result,) = found.results.values()
    assert result.verdict.code is Code.INVALID
    assert result.verdict.reason.code is ReasonCode.DISTURBED
    assert unmeasured(result.verdict) is Finding.DISTURBED
    assert blamed(result.verdict).code is Code.UNDECIDED
    assert result.verdict.reason.text.endswith("blocks were dropped: scripted throttling")


def test_a_few_discarded_blocks_are_counted_and_the_rest_is_judged(tmp_path):
    spec = scripted(tmp_path, rules=RULES, throttled=0.1, seed=3)
    settings = Settings(passes=4, blocks=12)
    found = Campaign({"scripted": spec}, settings, start=in_process.start).run([comparison(3)])
    (result,) = found.results.values()
    assert result.verdict.code is Code.SAME
    assert 0 < sum(one.discarded for one in result.passes) <= 12


def test_a_regression_says_what_is_launched_now(runner):
    flat = {"fixed": 1e-4, "per_mac": 0.0}
    before = flat | {"rules": [{"when": "1", "steps": [GEMM]}]}
    after = flat | {"rules": [{"when": "1", "steps": [GEMM]}, {"when": "1", "times": 1.5, "steps": [PADDING, GEMM]}]}
    runner.accept(before)
    result = runner.run(after, "--benchmark-compare")
    result.stdout.fnmatch_lines(["*slower than the baseline*", "*changed   alignment", "*launches addPadding"])


def test_what_does_not_fit_is_tried_again_without_what_is_held(monkeypatch):
    from neverslower.errors import OutOfMemory
    from neverslower.worker.far_side import FarSide

    session = FarSide()
    session.open("scripted", "", 1, 0)
    held, wanted = problem().key, problem(out_channels=15).key
    session.examine(held)
    prepare = session.backend.prepare

    def tight(*arguments):
        if session.opened.preparations:
            raise OutOfMemory("no room")
        return prepare(*arguments)

    monkeypatch.setattr(session.backend, "prepare", tight)
    assert session.examine(wanted)["plan"]["name"] == "plain"
    session.opened.preparations.clear()
    monkeypatch.setattr(session.backend, "prepare", lambda *_: (_ for _ in ()).throw(OutOfMemory("no room")))
    with pytest.raises(OutOfMemory):
        session.examine(wanted)
