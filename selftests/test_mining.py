"""Rules mined from records, and the command that explains: planted rules are found, on scripts and on stored maps."""

import json
import re
from argparse import Namespace
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

import backends
from bench import known
from neverslower import cli
from neverslower.cli_explain import _of_a_case, around, between, cases_of, pruned_from
from neverslower.errors import NeverSlowerError, RuleError
from neverslower.outcome import record
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import Side, parse_descriptor
from neverslower.problem.networks import network
from neverslower.rules import rule_file
from neverslower.rules.mining import Case, Coverage, coverages, mine
from neverslower.rules.reach import across_layers, reach_text
from neverslower.rules.rule import Rules
from selftests.support import ROOT, scripted

JOURNALS = ROOT / "bench/data/journals"
LAYERS = [layer for layer in network("resnet50") if layer.index in (1, 2, 3, 5, 12, 16)]


def cases(hazard: Callable[[Comparison], bool]) -> list[Case]:
    """Every count of some layers; a hazard takes 1.5 times as long, and anything else 0.9 times."""
    found = []
    for layer in LAYERS:
        for distance in range(1, layer.problem.out_channels):
            asked = Comparison("scripted", layer, layer.problem.prune(distance))
            found.append(Case(asked, 1.5 if hazard(asked) else 0.9, hazard(asked)))
    return found


def planted(asked: Comparison) -> bool:
    pruned = asked.candidate
    unaligned = pruned.out_channels % 8 != 0 and pruned.kernel == (3, 3)
    return unaligned or (pruned.kernel == (1, 1) and pruned.out_channels == 57)


def test_planted_rules_are_found_and_nothing_else_is_covered() -> None:
    every = cases(planted)
    mined = mine(every)
    assert mined[0].when in ("out_channels % 8 != 0 and kernel_h == 3", "kernel_h == 3 and out_channels % 8 != 0")
    assert mined[0].ratios == (1.5, 1.5)
    *_, last = coverages(every, [rule.when for rule in mined])
    assert (last.coverage, last.false) == (1.0, 0)
    assert len(mined) <= 3
    assert sum(rule.new for rule in mined) == last.hazards


def test_a_rule_is_not_bought_with_false_cases() -> None:
    noisy = [Case(case.comparison, 1.5, index % 10 < 8) for index, case in enumerate(cases(lambda asked: False))]
    mined = mine(noisy, most_rules=4, most_false=0.02)
    for rule in mined:
        assert rule.false <= 0.02 * (rule.hazards + rule.false) or rule.new < rule.hazards


def test_without_hazards_or_cases_there_is_nothing_to_mine() -> None:
    assert mine([]) == []
    assert mine(cases(lambda asked: False)) == []


def test_shares_are_of_what_their_names_say() -> None:
    coverage = Coverage(hazards=10, covered=8, harmless=20, false=2)
    assert (coverage.coverage, coverage.false_share, coverage.harmless_share) == (0.8, 0.2, 0.1)


def test_a_stored_journal_is_mined_and_the_rules_wait_for_a_person(tmp_path, capsys) -> None:
    output = tmp_path / "mined.toml"
    journal = JOURNALS / "map-cudnn-h200-L16-L24.jsonl.xz"
    assert cli.main(["explain", "--record", str(journal), "--rules", "2", "--output", str(output)]) == 0
    told = capsys.readouterr().out
    assert "336 hazards of 382 pruned layers on cudnn@nvidia-h200, 9.19.0" in told
    assert "On layers that they were not fitted on, rules mined like these cover 100.0% of the hazards" in told
    assert "| 1 | 100.0% | 0.0% |" in told or "`out_channels % 8 != 0`" in told
    with pytest.raises(RuleError, match=r"mined\.toml:\d+:9: empty; say who owns it"):
        rule_file.load(output, backends.load)
    written = output.read_text(encoding="utf-8")
    assert "\n# On layers that they were not fitted on, rules mined like these cover" in written
    accepted = written.replace('owner = ""', 'owner = "library"')
    output.write_text(accepted.replace('reason = ""', 'reason = "seen"'), encoding="utf-8")
    rules = rule_file.load(output, backends.load)
    fingerprint = record.read(journal).fingerprints["cudnn"]
    assert rules
    assert all(rule.is_about(fingerprint) for rule in rules)


def test_a_record_is_of_the_library_under_test(tmp_path) -> None:
    read = record.read(JOURNALS / "cudnn-9.19-9.28-h100-tf32.jsonl.xz")
    assert read.fingerprints["cudnn"].version.startswith("9.28")
    assert set(read.comparisons) == set(read.verdicts)
    assert any(read.explained)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "name a PROBLEM"),
        (["mb1_ic128oc127_ih28kh3ph1", "--record", "x.jsonl"], "name a PROBLEM"),
        (["--record", str(JOURNALS / "tvm-untuned-resnet50-L16.jsonl.xz"), "--output", "x.json"], "x.json"),
        (["--record", "x.jsonl", "--rules", "0"], "--rules 0: mine at least 1"),
        (["--record", "nowhere.jsonl"], "nowhere.jsonl: No such file"),
    ],
)
def test_a_mistake_gets_one_line(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", *arguments]) == 2
    assert why in capsys.readouterr().err


def test_the_counts_around_a_problem() -> None:
    asked, *others = around(pruned_from("scripted", parse_descriptor("ic8oc127_ih6kh3ph1")))
    assert (asked.candidate.out_channels, asked.reference.out_channels) == (127, 128)
    assert [other.candidate.out_channels for other in others] == [96, 112, 120, 124, 125, 126]
    depthwise = pruned_from("scripted", parse_descriptor("g30ic30oc30_ih6kh3ph1"), 32)
    assert (depthwise.reference.groups, depthwise.candidate.groups) == (32, 30)
    asked, *others = around(pruned_from("scripted", parse_descriptor("ic27oc8_ih6kh3ph1"), 32, Side.IN))
    assert (asked.candidate.in_channels, asked.reference.in_channels, asked.side) == (27, 32, Side.IN)
    assert [other.candidate.in_channels for other in others] == [16, 24, 25, 26, 28, 29, 30]
    for unpruned in (100, 0):
        with pytest.raises(NeverSlowerError, match=rf"--unpruned {unpruned}: .* has 127 output channels; name more"):
            pruned_from("scripted", parse_descriptor("ic8oc127_ih6kh3ph1"), unpruned)


@pytest.mark.parametrize(("side", "unpruned"), [(Side.OUT, "g32ic32oc64"), (Side.IN, "g64ic64oc128")])
def test_a_depthwise_layer_with_several_filters_each_is_compared_as_it_is(side, unpruned):
    pruned = parse_descriptor("g28ic28oc56_ih6kh3ph1")
    comparison = pruned_from("scripted", pruned, None, side)
    assert (comparison.reference, comparison.candidate) == (parse_descriptor(f"{unpruned}_ih6kh3ph1"), pruned)


@pytest.mark.parametrize(
    ("text", "side", "unpruned"),
    [("g3ic63oc63", Side.TOGETHER, None), ("g3ic63oc63", Side.OUT, None), ("g21ic21oc63", Side.OUT, 65)],
)
def test_an_unpruned_layer_that_cannot_be_guessed_is_to_be_named(text, side, unpruned):
    with pytest.raises(NeverSlowerError, match=r"can't be guessed: .*; name the unpruned layer as .* --pruned"):
        pruned_from("scripted", parse_descriptor(f"{text}_ih6kh3ph1"), unpruned, side)


@pytest.mark.parametrize("name", ["hunt-onednn", "tuned-log-resnet50-L16"])
def test_the_first_journals_are_read_though_they_lack_a_field(name: str) -> None:
    assert record.read(JOURNALS / f"{name}.jsonl.xz").fingerprints


def test_a_case_is_explained_as_its_run_had_it() -> None:
    asked: dict[str, Any] = {"of_run": JOURNALS / "map-cudnn-h200-L16-L24.jsonl.xz", "unpruned": None, "side": None}
    asked |= {"backend": None, "pruned": "", "bias": False, "post_ops": "", "dtype": None, "layout": None}
    name = next(iter(record.read(asked["of_run"]).comparisons.values())).id
    comparison = _of_a_case(Namespace(problem=name, **asked))
    assert comparison is not None
    assert comparison.id == name
    assert _of_a_case(Namespace(problem="mb1_ic128oc127_ih28kh3ph1", **asked)) is None
    for changes, why in (
        ({"problem": "cudnn-nothing"}, "holds no cudnn-nothing; name the journal that does: --run FILE"),
        ({"problem": name, "backend": "onednn"}, "the case is of cudnn"),
        ({"problem": name, "side": Side.IN}, f"--side: {name} says this itself"),
    ):
        with pytest.raises(NeverSlowerError, match=re.escape(why)):
            _of_a_case(Namespace(**asked | changes))


@pytest.mark.usefixtures("workers_here")
def test_a_problem_is_explained_with_its_curve_and_its_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = [{"when": "out_channels % 8 != 0", "times": 2.0, "plan": "padded"}]
    spec = scripted(tmp_path, 30.0, rules=rules, noise=0.002)
    hazards = tmp_path / "hazards.toml"
    values = {"backend": "scripted", "when": "out_channels == 15", "owner": "ours", "reason": "seen"}
    hazards.write_text(rule_file.table_text(values | {"ratios": [1, 3]}), encoding="utf-8")
    arguments = ["--backend", f"scripted:{spec.argument}", "--hazards", str(hazards), "--unpruned", "16"]
    journal = tmp_path / "e.jsonl"
    assert cli.main(["explain", "ic8oc15_ih6kh3ph1", *arguments, "--journal", str(journal)]) == 0
    told = capsys.readouterr().out
    assert "15 of 16 output channels" in told
    assert "rule      ours: seen (hazards.toml:1)" in told
    assert "remedy    pad to 16" in told
    assert "unpruned  plan" in told
    assert "  >    15  " in told
    assert "       8  " in told
    assert any(json.loads(line)["event"] == "verdict" for line in journal.read_text(encoding="utf-8").splitlines())
    # A case is measured as it was in its run, by the backend that was named there.
    (case,) = (line.split()[1] for line in told.splitlines() if line.startswith("  case"))
    again = ["--run", str(journal), "--journal", str(tmp_path / "again.jsonl")]
    assert cli.main(["explain", case, *again, "--hazards", str(hazards)]) == 0
    assert "rule      ours: seen (hazards.toml:1)" in capsys.readouterr().out
    for wrong in (["ic8oc15_ih6kh3ph1", "--rules", "3"], ["--record", str(journal), "--unpruned", "64"]):
        assert cli.main(["explain", *wrong]) == 2
        assert " has no place here: " in capsys.readouterr().err


@pytest.mark.usefixtures("workers_here")
@pytest.mark.parametrize(
    ("evidence", "rule", "title"),
    [
        ("instructions", {"instructions": 1000}, "instructions over those of 16 output channels"),
        ("dispatch", {"steps": ["conv global=16x1 local=8x1"]}, "dispatch, set against that of 16 output channels"),
    ],
)
def test_a_curve_of_what_is_exact_is_none_of_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], evidence: str, rule: dict[str, Any], title: str
) -> None:
    spec = scripted(tmp_path, 30.0, rules=[rule], evidence=evidence)
    arguments = ["--backend", f"scripted:{spec.argument}", "--unpruned", "16", "--journal", str(tmp_path / "e.jsonl")]
    assert cli.main(["explain", "ic8oc15_ih6kh3ph1", *arguments]) == 0
    told = capsys.readouterr().out
    assert f"the curve around it ({title}):" in told
    assert "time" not in told


def test_a_rule_of_one_layer_is_mined_only_where_there_is_no_other() -> None:
    def hazard(asked: Comparison) -> bool:
        count = asked.candidate.out_channels
        return count % 8 != 0 if asked.layer.index == 16 else asked.layer.index == 12 and count == 5

    assert mine(cases(hazard), 1) == []
    alone = [case for case in cases(hazard) if case.comparison.layer.index == 16]
    assert mine(alone, 1)[0].when == "out_channels % 8 != 0"


def test_a_hazard_of_all_but_plain_matrix_products_is_one_rule() -> None:
    def hazard(asked: Comparison) -> bool:
        problem = asked.candidate
        sums = problem.in_channels * problem.kernel[0] * problem.kernel[1]
        return problem.out_channels % 4 != 0 and problem.kernel[0] * problem.stride[0] > 1 and sums >= 600

    every = cases(hazard)
    (rule,) = mine(every)
    assert "kernel_h * stride_h >= " in rule.when or "in_channels // groups * kernel_h * kernel_w >= " in rule.when
    *_, asked_as_a_run_does = coverages(every, [rule.when])
    assert (asked_as_a_run_does.covered, asked_as_a_run_does.false) == (rule.hazards, rule.false)
    assert (asked_as_a_run_does.coverage, rule.false) == (1.0, 0)


def test_rules_that_hold_on_other_layers_are_told_from_those_that_do_not() -> None:
    everywhere = across_layers(cases(lambda asked: asked.candidate.out_channels % 8 != 0), 2)
    assert [(one.coverage, one.false) for one in everywhere] == [(1.0, 0)] * 2
    assert reach_text(everywhere).endswith("0.0% of what they cover is no hazard.")
    some = across_layers(cases(lambda asked: asked.candidate.out_channels % 8 != 0 and asked.layer.index != 16), 2)
    assert some[-1].false_share > 0.02
    assert "do not hold beyond the layers of the record" in reach_text(some)
    own = across_layers(cases(lambda asked: asked.candidate.out_channels == 3 + (asked.layer.index or 0)), 1)
    assert (own[0].hazards, own[0].covered) == (len(LAYERS), 0)
    assert "say little of other layers" in reach_text(own)


def test_of_other_layers_one_layer_says_nothing() -> None:
    alone = [case for case in cases(planted) if case.comparison.layer.index == 16]
    assert across_layers(alone, 3) == []
    assert "one layer alone" in reach_text([])


def test_baselines_are_mined_too() -> None:
    (path,) = (ROOT / "baselines/acl@cortex-a76-emulated").glob("0001_*.jsonl")
    fingerprint, found = cases_of(path)
    assert fingerprint.version == "20.08"
    assert (len(found), sum(case.hazard for case in found)) == (218, 26)


def test_the_suite_s_own_rules_cover_what_they_are_about() -> None:
    path = JOURNALS / "map-cudnn-h200-L16-L24.jsonl.xz"
    ((fingerprint, every),) = known._by_format(path)
    rules = Rules(rule_file.load(ROOT / "baselines" / rule_file.NAME, backends.load)).about(fingerprint)
    assert known.row("map", every, rules) == "| map | 336 | 336 | 0 | 0 | 0 |"
    assert {rule.ratios for case in every if (rule := rules.covering(case.comparison))} == {(1.03, 3.23)}
    assert known.row("map", every, Rules()) == "| map | 336 | 0 | 0 | 336 | 0 |"


def test_a_record_in_which_no_rule_holds_is_answered_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    records = sorted((ROOT / "baselines/acl@cortex-a76-emulated").glob("000[123]_*.jsonl"))
    assert cli.main(["explain", *(word for path in records for word in ("--record", str(path)))]) == 2
    assert "no rule of a few tests covers 3 of the 32 hazards and next to nothing else" in capsys.readouterr().err


def test_both_sides_are_pruned_through_the_problem() -> None:
    asked, *others = around(pruned_from("scripted", parse_descriptor("ic57oc113_ih6kh3ph1"), 128, Side.TOGETHER))
    assert (asked.reference.in_channels, asked.reference.out_channels) == (64, 128)
    assert asked.channels == "113 of 128 output and 57 of 64 input channels"
    assert not asked.paired
    assert [(one.candidate.out_channels, one.candidate.in_channels) for one in others][:2] == [(96, 48), (110, 55)]
    assert {one.side for one in others} == {Side.TOGETHER}


@pytest.mark.parametrize(
    ("pruned", "side", "paired"),
    [
        ("ic64oc113_ih6kh3ph1", Side.OUT, False),
        ("ic57oc128_ih6kh3ph1", Side.IN, False),
        ("ic33oc113_ih6kh3ph1", Side.TOGETHER, True),
    ],
)
def test_two_layers_are_compared_as_those_of_two_models(pruned: str, side: Side, paired: bool) -> None:
    unpruned = parse_descriptor("ic64oc128_ih6kh3ph1")
    asked = between("scripted", unpruned, parse_descriptor(pruned))
    assert (asked.candidate, asked.side, asked.paired) == (parse_descriptor(pruned), side, paired)
    assert {other.paired for other in around(asked)} == {paired}
    assert {other.candidate.in_channels for other in around(asked)} >= {asked.candidate.in_channels}


def test_depthwise_layers_lose_whole_groups_and_are_compared() -> None:
    asked = between("scripted", parse_descriptor("g32ic32oc32_ih6kh3ph1"), parse_descriptor("g30ic30oc30_ih6kh3ph1"))
    assert (asked.side, asked.paired) == (Side.OUT, False)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["ic64oc128_ih6kh3ph1", "--pruned", "ic64oc113_ih7kh3ph1"], "differs from * in more than its channels"),
        (["ic64oc128_ih6kh3ph1", "--pruned", "ic64oc129_ih6kh3ph1"], "it has no fewer channels than"),
        (["ic64oc128_ih6kh3ph1", "--pruned", "ic65oc127_ih6kh3ph1"], "it has no fewer channels than"),
        (["ic64oc128_ih6kh3ph1", "--pruned", "ic6oc8_ih6kh3ph1", "--side", "in"], "--side: --pruned names both layers"),
        (["ic64oc128_ih6kh3ph1", "--pruned", "ic6oc8_ih6kh3ph1", "--unpruned", "0"], "--unpruned: --pruned names both"),
    ],
)
def test_no_pruned_layer_is_answered_in_one_line(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["explain", *arguments, "--backend", "scripted"]) == 2
    assert fnmatch(capsys.readouterr().err, f"*{why}*")
