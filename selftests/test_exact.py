"""Exact evidence: instructions and dispatches judged, stored, compared, and never called slower; on scripts."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from neverslower import cli
from neverslower.baseline import exact, folders
from neverslower.baseline.diff import compare
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.settings import Settings
from neverslower.errors import BaselineError, NeverSlowerError, Unavailable
from neverslower.evidence.enqueue import Enqueue, enqueues
from neverslower.evidence.observation import Evidence, Examined, Plan
from neverslower.files.journal import Journal
from neverslower.judge.exact import judge_pruned, judge_since
from neverslower.judge.verdict import Code, ReasonCode
from selftests import in_process
from selftests.support import comparison, known, scripted
from selftests.test_plugin import LATENCY, NEVER_SLOWER, outcomes

EVEN, UNEVEN = "mm global=24x196x1 local=8x8x1", "mm global=23x196x1 local=8x8x1"
COUNTED: dict[str, Any] = {"evidence": "instructions"}
MORE = {"when": "out_channels == 15", "instructions": 10**6}


def seen(*steps: str, instructions: int | None = None, name: str = "GEMM") -> Examined:
    return Examined(Plan(name, steps), None, 1e-4, 0.0, instructions=instructions)


def pruned(*steps: str, reference: tuple[str, ...] = ("mm global=32x196x1 local=8x8x1",)):
    return judge_pruned(Evidence.DISPATCH, seen(*reference), seen(*steps))


# Dispatches


def test_an_enqueue_is_read_as_it_was_written():
    for step in (EVEN, "im2col global=64x784x1 local=driver"):
        assert str(Enqueue.parse(step)) == step
    assert Enqueue.parse("gemm grid=4x1x1 block=128x1x1") is None
    assert enqueues(Plan("any", ("convolution jit:avx2", EVEN))) == [Enqueue("mm", (24, 196, 1), (8, 8, 1))]


def test_evenness_is_told_per_dimension_and_waste_as_a_share():
    assert known(Enqueue.parse(EVEN)).uneven == "y"
    assert known(Enqueue.parse(UNEVEN)).uneven == "xy"
    assert known(Enqueue.parse("mm global=23x8x1 local=8x8x1")).waste == pytest.approx(1 / 24)
    assert known(Enqueue.parse("mm global=23x196x1 local=driver")).uneven == ""


def test_items_that_idle_in_the_middle_of_a_launch_are_waste_too():
    step = "mm global=54x1x1 local=64x1x1 launched=384x1x1"
    enqueue = known(Enqueue.parse(step))
    assert str(enqueue) == step
    assert (enqueue.uneven, enqueue.launched) == ("x", 384)
    assert enqueue.waste == pytest.approx(1 - 54 / 384)
    found = judge_since(Evidence.DISPATCH, Plan("GEMM", ("mm global=54x1x1 local=64x1x1",)), None, seen(step))
    assert found.reason.text == "mm: 54 by 64 became 54 of 384 launched by 64"


def test_uneven_where_the_unpruned_layer_is_even_is_told_and_not_called_slower():
    assert pruned(EVEN).code is Code.SAME
    found = pruned(UNEVEN)
    assert (found.code, found.reason.code) == (Code.CHANGED, ReasonCode.UNEVEN_DISPATCH)
    assert found.reason.text == "mm: 23×196 by 8×8 is uneven in x, 32×196 by 8×8 of the unpruned layer is not"
    assert found.ratio is None


def test_more_work_items_and_other_kernels_are_told():
    assert pruned("mm global=40x196x1 local=8x8x1").reason.code is ReasonCode.MORE_WORK_ITEMS
    assert pruned("mm_t global=24x196x1 local=8x8x1").reason.code is ReasonCode.PLAN_CHANGED


def test_waste_and_every_other_worsening_are_told():
    found = pruned("mm global=25x199x1 local=8x8x1", reference=("mm global=31x196x1 local=8x8x1",))
    assert (found.code, found.reason.code) == (Code.CHANGED, ReasonCode.MORE_WASTE)
    assert "22% of the work-items only fill groups, 5% in the unpruned layer" in found.reason.text
    both = pruned("mm global=33x200x1 local=8x8x1")
    assert "uneven in x" in both.reason.text
    assert "work-items with filling" in both.reason.text


def test_no_kernel_is_no_dispatch():
    assert pruned().code is Code.INVALID
    assert judge_since(Evidence.DISPATCH, Plan("GEMM", (EVEN,)), None, seen()).code is Code.INVALID


def test_other_options_of_the_same_kernels_are_a_change():
    before = Plan("GEMM", (EVEN,), options=("-DM0=4 -DN=1",))
    now = Examined(Plan("GEMM", (EVEN,), options=("-DM0=2 -DN=1",)), None, 0.0, 0.0)
    found = judge_since(Evidence.DISPATCH, before, None, now)
    assert found.reason.text == "built with other options: without -DM0=4 with -DM0=2"


def test_where_the_driver_groups_nothing_is_claimed():
    driver = "mm global=32x196x1 local=driver"
    assert pruned("mm global=33x197x1 local=driver", reference=(driver,)).code is Code.SAME
    assert pruned(UNEVEN, reference=(driver,)).code is Code.SAME


def test_since_an_upgrade_any_other_dispatch_is_a_change():
    same = judge_since(Evidence.DISPATCH, Plan("GEMM", (EVEN,)), None, seen(EVEN))
    assert same.code is Code.SAME
    other = judge_since(Evidence.DISPATCH, Plan("GEMM", (EVEN,)), None, seen("mm_t global=32x256x1 local=32x4x1"))
    assert other.code is Code.CHANGED
    assert other.reason.text == "mm (24×196 by 8×8) became mm_t (32×256 by 32×4)"
    fewer = judge_since(Evidence.DISPATCH, Plan("GEMM", (EVEN,)), None, seen(UNEVEN))
    assert fewer.reason.text == "mm: 24×196 by 8×8 became 23×196 by 8×8"


# Instructions


@pytest.mark.parametrize(
    ("now", "code"), [(100_501, Code.MORE), (100_500, Code.SAME), (99_500, Code.SAME), (99_499, Code.FEWER)]
)
def test_half_a_percent_of_instructions_is_tolerated(now, code):
    found = judge_pruned(Evidence.INSTRUCTIONS, seen(instructions=100_000), seen(instructions=now))
    assert (found.code, known(found.ratio).estimate) == (code, now / 100_000)


def test_another_method_with_no_more_instructions_is_a_change():
    found = judge_since(Evidence.INSTRUCTIONS, Plan("GEMM"), 100, seen(instructions=100, name="WINOGRAD"))
    assert (found.code, known(found.ratio).estimate) == (Code.CHANGED, 1.0)
    more = judge_since(Evidence.INSTRUCTIONS, Plan("GEMM"), 100, seen(instructions=200, name="WINOGRAD"))
    assert more.code is Code.MORE


def test_no_count_is_no_verdict():
    assert judge_pruned(Evidence.INSTRUCTIONS, seen(), seen(instructions=1)).code is Code.INVALID


# Campaigns


def run(tmp_path, comparisons, start=in_process.start, **script):
    spec = scripted(tmp_path, **script)
    return Campaign({"scripted": spec}, Settings(passes=2, blocks=12), start=start).run(comparisons)


def test_each_problem_is_looked_at_once_and_nothing_is_timed(tmp_path):
    found = run(tmp_path, [comparison(0), comparison(1), comparison(3)], rules=[MORE], **COUNTED)
    codes = [found.results[comparison(distance).identity].verdict.code for distance in (0, 1, 3)]
    assert codes == [Code.SAME, Code.MORE, Code.FEWER]
    assert all(one.passes == () and one.observed for one in found.results.values())


def test_a_crash_a_refusal_and_a_wrong_output_cost_their_own_problem_only(tmp_path):
    rules = [
        {"when": "out_channels == 15", "fault": "crash"},
        {"when": "out_channels == 13", "fault": "unsupported"},
        {"when": "out_channels == 9", "fault": "wrong"},
    ]
    every = [comparison(distance) for distance in (0, 1, 3, 7, 8)]
    found = run(tmp_path, every, rules=rules, **COUNTED)
    codes = [found.results[one.identity].verdict.code for one in every]
    assert codes == [Code.SAME, Code.CRASHED, Code.UNSUPPORTED, Code.INVALID, Code.FEWER]


def test_a_worker_that_does_not_start_costs_nothing_that_others_looked_at(tmp_path):
    started = []

    class Few(in_process.InProcess):
        def __init__(self, spec, process=0):
            started.append(spec)
            if len(started) == 3:  # The campaign's own is the first, and the pool's first works already.
                raise Unavailable("no memory")
            super().__init__(spec, process)

    every = [comparison(distance) for distance in (0, 1, 3, 7, 8)]
    found = run(tmp_path, every, Few, **COUNTED)
    assert all(one.verdict.code.measured for one in found.results.values())


def test_a_journal_that_can_t_be_written_ends_the_run_and_blames_no_library(tmp_path):
    class Full(Journal):
        def write(self, event, fields):
            if event == "examined":
                raise NeverSlowerError("the journal can't be written: No space left on device")

    spec = scripted(tmp_path, **COUNTED)
    journal = Full(tmp_path / "journal")
    campaign = Campaign({"scripted": spec}, Settings(passes=2, blocks=12), journal, start=in_process.start)
    with pytest.raises(NeverSlowerError, match="No space left"):
        campaign.run([comparison(0), comparison(1)])
    journal.close()
    assert not any(one.verdict.code is Code.CRASHED for one in campaign.findings.results.values())


def test_where_nothing_is_computed_no_output_is_checked(tmp_path):
    rules = [{"when": "1", "steps": [EVEN]}, {"when": "out_channels == 15", "steps": [UNEVEN], "fault": "wrong"}]
    found = run(tmp_path, [comparison(1)], evidence="dispatch", rules=rules)
    (result,) = found.results.values()
    assert (result.verdict.code, result.candidate.error) == (Code.CHANGED, None)


# The suite


def test_more_instructions_are_a_hazard_in_words_of_their_own(runner):
    result = runner.run(COUNTED | {"rules": [MORE]}, NEVER_SLOWER, "--strict-verdicts")
    assert outcomes(result) == {"passed": 5, "failed": 1}
    result.stdout.fnmatch_lines(
        [
            "*MORE *instructions against*(tolerance 0.5%)",
            "*pruned    15 channels: 1,000,000 instructions, plan plain",
            "RED: 1 × hazard found*; 1 with more instructions, 5 with no more, of 6",
            "1 with more instructions (pruned over unpruned):",
        ]
    )
    assert " slower" not in result.stdout.str()


@pytest.mark.processes
def test_a_record_is_kept_compared_and_the_same_again(runner):
    first = runner.accept(COUNTED | {"rules": [MORE]})
    assert first.suffix == ".jsonl"
    again = runner.accept(COUNTED | {"rules": [MORE]})
    lines = [path.read_text(encoding="utf-8").splitlines() for path in (first, again)]
    assert lines[0][1:] == lines[1][1:]
    headers = [json.loads(one[0]) | {"date": ""} for one in lines]
    assert headers[0] == headers[1]
    known = runner.run(COUNTED | {"rules": [MORE]}, "--benchmark-compare")
    assert outcomes(known) == {"passed": 5 + 7 + 6, "xfailed": 1}
    known.stdout.fnmatch_lines(["known hazard: 1"])


def test_more_instructions_than_the_baseline_are_red_and_fewer_are_listed(runner):
    runner.accept(COUNTED)
    after = [MORE, {"when": "out_channels == 13", "instructions": 10}]
    result = runner.run(COUNTED | {"version": "1.1", "rules": after}, LATENCY, "--benchmark-compare")
    assert outcomes(result) == {"passed": 6, "failed": 1}
    result.stdout.fnmatch_lines(
        ["more instructions than the baseline: 1", "fewer instructions than the baseline: 1"], consecutive=False
    )


def test_another_dispatch_than_the_baseline_is_listed_and_strictly_red(runner):
    script = {"evidence": "dispatch", "rules": [{"when": "1", "steps": [EVEN]}]}
    runner.accept(script)
    after = {"evidence": "dispatch", "version": "2.0", "rules": [{"when": "1", "steps": [UNEVEN]}]}
    assert outcomes(runner.run(after, LATENCY, "--benchmark-compare")) == {"passed": 7}
    strict = runner.run(after, LATENCY, "--benchmark-compare", "--strict-verdicts")
    assert outcomes(strict) == {"failed": 7}
    strict.stdout.fnmatch_lines(["plan changed since the baseline: 7", "*mm: 24×196 by 8×8 became 23×196 by 8×8"])


def test_kinds_of_evidence_are_never_mixed(runner):
    runner.accept({})
    result = runner.run(COUNTED, LATENCY, "--benchmark-compare", "--strict-verdicts")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --benchmark-compare has nothing *state evidence: absent → instructions*"])


def test_hunts_take_times_and_are_skipped_for_other_evidence(runner):
    result = runner.run(COUNTED, "-m", "hunt", "--hunt-budget", "1s", "--hypothesis-profile=ci", problem="")
    assert outcomes(result)["skipped"] == 1
    result.stdout.fnmatch_lines(["*a hunt measures times, and scripted gives instructions here*"])


def test_records_are_compared_problem_by_problem(runner, capsys):
    first = runner.accept(COUNTED)
    second = runner.accept(COUNTED | {"version": "1.1", "rules": [MORE]})
    capsys.readouterr()
    assert cli.main(["compare", str(first), str(second)]) == 1
    told = capsys.readouterr().out
    assert "out15: MORE" in told
    assert "7 problems: 6 SAME, 1 MORE" in told
    assert cli.main(["compare", str(first), str(first)]) == 0


def test_times_are_not_compared_so(runner, capsys):
    times = runner.accept({})
    capsys.readouterr()
    assert cli.main(["compare", str(times), str(times)]) == 2
    assert "holds times: `pytest-benchmark compare` shows them" in capsys.readouterr().err


# What somebody may have done to a record


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda lines: ["{}"], "format is missing"),
        (lambda lines: ["{"], "not a record"),
        (lambda lines: [lines[0].replace('"schema": 1', '"schema": 2')], "schema 2 is newer than 1"),
        (lambda lines: [lines[0].replace("instructions", "guesses", 1)], "'guesses' is not a valid Evidence"),
        (lambda lines: [lines[0].replace("instructions", "device_time", 1), *lines[1:]], "evidence is device_time"),
        (lambda lines: [lines[0], re.sub(r'"instructions": \d+', '"instructions": null', lines[1])], "2: .*is missing"),
        (lambda lines: [*lines, lines[1]], "appears twice"),
        (
            lambda lines: [lines[0], lines[1].replace('"instructions": ', '"instructions": -')],
            "line 2: instructions is -",
        ),
        (lambda lines: [lines[0], lines[1].replace('"options": []', '"options": [3]')], r"line 2: options is \[3\]"),
        (
            lambda lines: [lines[0], lines[1].replace('"side": "out"', '"side": "up"')],
            "2: 'up' is not a valid Side",
        ),
        (
            lambda lines: [lines[0], lines[1].replace('"side": "out"', '"side": "out", "paired": 1')],
            "line 2: paired is 1",
        ),
    ],
)
def test_a_damaged_record_is_told_with_its_line(runner, change, why):
    path = runner.accept(COUNTED)
    path.write_text("\n".join(change(path.read_text(encoding="utf-8").splitlines())), encoding="utf-8")
    with pytest.raises(BaselineError, match=why):
        folders.load(path)


def test_steps_that_are_no_dispatch_are_told(runner):
    path = runner.accept({"evidence": "dispatch", "rules": [{"when": "1", "steps": [EVEN]}]})
    path.write_text(path.read_text(encoding="utf-8").replace(EVEN, "nonsense"), encoding="utf-8")
    with pytest.raises(BaselineError, match=r"line 2: steps is \['nonsense'\]"):
        folders.load(path)


def test_a_reason_with_odd_line_ends_is_read_back(runner):
    runner.run(COUNTED, "--accept-baseline", "a\u2028b\x85c")
    (path,) = runner.path.glob("baselines/*/*.jsonl")
    assert len(folders.load(path).entries) == 7


def test_records_with_nothing_in_common_are_not_compared(runner):
    first = runner.accept(COUNTED)
    other = first.with_name("0009_1.0-instructions.jsonl")
    other.write_text(first.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    with pytest.raises(BaselineError, match="have no problem in common"):
        compare(folders.load(first), folders.load(other))


def test_a_record_of_another_backend_is_told(runner):
    path = runner.accept(COUNTED)
    with pytest.raises(BaselineError, match="holds scripted, not acl"):
        exact.load(path, "acl")
    with pytest.raises(BaselineError, match="No such file"):
        exact.load(path.with_name("0009_none.jsonl"))
