"""Rules about known hazards: what a rule matches, its file with the places of mistakes, and what becomes of rules."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import backends
from neverslower.baseline.entry import Baseline, Entry, Known
from neverslower.baseline.folders import BaselineChoice
from neverslower.campaign.findings import Findings, Result
from neverslower.device.fingerprint import Fingerprint
from neverslower.errors import RuleError
from neverslower.evidence.observation import Plan
from neverslower.judge.verdict import Code, Interval, Reason, ReasonCode, Verdict
from neverslower.outcome.assessment import Assessment
from neverslower.outcome.known import Measured, assess_rules
from neverslower.outcome.table import Finding, ruled
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import DType, Layout
from neverslower.problem.networks import network
from neverslower.report.explained import rule_text
from neverslower.rules import rule_file
from neverslower.rules.rule import Owner, Rule, Rules
from selftests.support import comparison

TODAY = date(2026, 11, 30)
HERE = Fingerprint("scripted", "Example Board", "9.19.0+cuda130", "0")
GOOD = """# What we know.

[[rule]]
backend = "scripted"
device = "example-*"
versions = ">=9.19,<9.28"
when = '''
(out_channels % 8 != 0
 and kept_percent >= 50)'''
ratios = [1.03, 1.6]
owner = "library"
reason = "counts that are no multiple of 8 are padded"
link = "https://example.org/1"
expires = 2027-03-31

[[rule]]
backend = "scripted"
when = "distance == 3"
ratios = [1, 2]
owner = "wontfix"
reason = "rare"
"""


def rule(when: str = "out_channels % 8 != 0", backend: str = "scripted", **fields: object) -> Rule:
    return Rule(backend, when, (1.03, 1.6), Owner.LIBRARY, "padded", **fields)  # type: ignore[arg-type]


def read(folder: Path, text: str) -> tuple[Rule, ...]:
    path = folder / "hazards.toml"
    path.write_text(text, encoding="utf-8")
    return rule_file.load(path, backends.load)


def test_a_file_holds_rules_in_its_order_each_with_its_line(tmp_path: Path) -> None:
    first, second = read(tmp_path, GOOD)
    assert (first.line, second.line) == (3, 16)
    assert first.owner is Owner.LIBRARY
    assert first.ratios == (1.03, 1.6)
    assert first.expires == date(2027, 3, 31)
    text = "library: counts that are no multiple of 8 are padded (hazards.toml:3, https://example.org/1)"
    assert str(first) == text
    assert [first.matches(comparison(distance)) for distance in (1, 8, 9)] == [True, False, False]
    assert [second.matches(comparison(distance)) for distance in (0, 3)] == [False, True]


@pytest.mark.parametrize(
    ("before", "after", "place", "why"),
    [
        ("kept_percent >= 50", "keptpercent >= 50", "9:6", "no field 'keptpercent'"),
        ('"distance == 3"', '"distance == 3 and chanels"', "18:27", "no field 'chanels'"),
        ('"distance == 3"', '"distance ** 3"', "18:9", "not allowed"),
        ('"distance == 3"', '"distance =="', "18:", "invalid syntax"),
        ('"distance == 3"', '"distance == 3 or side < 3"', "18:26", "not supported"),
        ('"distance == 3"', "3", "18:8", "no text"),
        ('"wontfix"', '"nobody"', "20:9", "name one of library, heuristic, ours, wontfix"),
        ('reason = "rare"\n', "", "16:1", "no 'reason'; add it"),
        ('reason = "rare"', 'reason = ""', "21:10", "empty; say who owns it and why"),
        ('"wontfix"', '""', "20:9", "empty; say who owns it and why"),
        ('"wontfix"', "3", "20:9", "3 is no text"),
        ('"distance == 3"', '"out_channels"', "18:9", "'out_channels' is 127 and neither true nor false"),
        ('"distance == 3"', '"distance == 3 or groups"', "18:26", "'groups' is 1 and neither"),
        ('"distance == 3"', '"not distance"', "18:13", "'distance' is 1 and neither"),
        ('"distance == 3"', "\"dtype == 'flaot16'\"", "18:18", "dtype is never 'flaot16' (it is float32"),
        ('"distance == 3"', '"dtype == 16"', "18:18", "dtype is never 16"),
        ('"distance == 3"', "\"'nhwc' == layout\"", "18:9", "layout is never 'nhwc'"),
        ('"distance == 3"', "\"side in ('out', 'inn')\"", "18:25", "side is never 'inn'"),
        (
            '"distance == 3"',
            "\"distance in (3, '7')\"",
            "18:25",
            "distance and '7' are a number and a word, never equal",
        ),
        ('"distance == 3"', "\"dtype * 9 == 'x'\"", "18:9", "and 'float32' is none"),
        ('"distance == 3"', '"""\n(distance == 3 and\n chanels)"""', "20:2", "no field 'chanels'"),
        ('"distance == 3"', '"""distance == 3 and\n groups == 1"""', "18:", "in one line, or in parentheses"),
        ('"example-*"', '"NVIDIA H100"', "5:10", "write its name as folders of baselines have it: 'nvidia-h100'"),
        ("[1, 2]", "[0.5, 0.9]", "19:10", "has no ratio above 1"),
        ("[1, 2]", "[2, 1]", "19:10", "the lower one first"),
        ("[1, 2]", "[1, inf]", "19:10", "no interval"),
        ("2027-03-31", '"soon"', "14:11", "no date"),
        (">=9.19", "9.19", "6:12", "no range of versions"),
        (
            '[[rule]]\nbackend = "scripted"\nwhen = "d',
            '[[rule]]\nbackend = "cudn"\nwhen = "d',
            "17:11",
            "unknown backend",
        ),
        ('reason = "rare"', 'raeson = "rare"', "21:10", "no 'raeson'"),
        ("# What we know.", "hazard = 3", "1:1", "begin each with [[rule]]"),
        ("# What we know.", "rule = [3]\n[x]", "", ""),
        ('"rare"', '"rare', "", "line 21"),
    ],
)
def test_a_mistake_is_named_by_file_line_and_column(
    tmp_path: Path, before: str, after: str, place: str, why: str
) -> None:
    assert before in GOOD
    with pytest.raises(RuleError) as caught:
        read(tmp_path, GOOD.replace(before, after, 1))
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'hazards.toml'}:{place}")
    assert why in message


def test_a_file_that_is_not_there_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"nowhere\.toml can't be read: No such file"):
        rule_file.load(tmp_path / "nowhere.toml", backends.load)


@pytest.mark.parametrize(
    ("fields", "about"),
    [
        ({}, True),
        ({"backend": "cudnn"}, False),
        ({"device": "example-board"}, True),
        ({"device": "jetson-*"}, False),
        ({"versions": SpecifierSet(">=9.19,<9.28")}, True),
        ({"versions": SpecifierSet("==9.19.0")}, True),
        ({"versions": SpecifierSet("<9.19")}, False),
    ],
)
def test_a_rule_is_about_a_library_its_versions_and_devices(fields: dict[str, object], about: bool) -> None:
    assert rule(**fields).is_about(HERE) is about  # type: ignore[arg-type]


def verdict(code: Code, low: float, high: float) -> Verdict:
    return Verdict(code, Reason(ReasonCode.PROVED, ""), Interval((low + high) / 2, low, high))


SLOWER = verdict(Code.SLOWER, 1.4, 1.5)
FAR_SLOWER = verdict(Code.SLOWER, 1.63, 1.7)
SAME = verdict(Code.SAME, 0.99, 1.01)


@pytest.mark.parametrize(
    ("finding", "now", "then"),
    [
        (Finding.HAZARD_FOUND, SLOWER, Finding.RULE_KNOWS),
        (Finding.HAZARD_NEW, SLOWER, Finding.RULE_KNOWS),
        (Finding.HAZARD_WORSE, SLOWER, Finding.RULE_KNOWS),
        (Finding.HAZARD_UNDECIDED_BEFORE, SLOWER, Finding.RULE_KNOWS),
        (Finding.HAZARD_FOUND, verdict(Code.SLOWER, 1.61, 1.7), Finding.RULE_KNOWS),  # within the tolerance of 1 %
        (Finding.HAZARD_FOUND, FAR_SLOWER, Finding.RULE_EXCEEDED),
        (Finding.HAZARD_WORSE, FAR_SLOWER, Finding.RULE_EXCEEDED),
        (Finding.HAZARD_KNOWN, FAR_SLOWER, Finding.HAZARD_KNOWN),
        (Finding.HAZARD_BORDERLINE, SLOWER, Finding.HAZARD_BORDERLINE),
        (Finding.TUNED_LOG_MISS, SLOWER, Finding.TUNED_LOG_MISS),
    ],
)
def test_a_rule_covers_what_the_baseline_does_not(finding: Finding, now: Verdict, then: Finding) -> None:
    assert ruled(finding, now.ratio, (1.03, 1.6)) is then


def findings(**verdicts: Verdict) -> Findings:
    """Findings of a tiny layer of 16 channels: `d1=…` is the verdict with one channel removed."""
    found = Findings()
    found.fingerprints["scripted"] = HERE
    for name, judged in verdicts.items():
        asked = comparison(int(name[1:]))
        found.finish(Result(asked, judged))
    return found


@pytest.mark.parametrize(
    ("code", "low", "text"),
    [
        (Code.SLOWER, 1.7, "worse than the ratios [1.03, 1.6] of library: padded"),
        (Code.SLOWER, 1.2, "library: padded"),
        (Code.MORE, 1.7, "worse than the ratios"),
        (Code.SAME, 1.0, "it is not slower; a rule that matches it: library: padded"),
    ],
)
def test_explain_says_where_a_hazard_lies_beyond_its_rule(code: Code, low: float, text: str) -> None:
    verdict = Verdict(code, Reason(ReasonCode.PROVED, ""), Interval(low * 1.05, low, low * 1.1))
    assert rule_text(rule(), verdict).startswith(text)
    assert rule_text(None, verdict) == "no rule covers it"


def test_a_hazard_that_a_rule_covers_is_known_and_the_rule_is_named() -> None:
    found = findings(d1=SLOWER, d3=SLOWER, d8=SAME)
    known = rule("distance == 1")
    assessment = Assessment(found, {}, rules=Rules([known], TODAY))
    first, second = (assessment.never_slower(comparison(distance)) for distance in (1, 3))
    assert (first.finding, first.rule) == (Finding.RULE_KNOWS, known)
    assert (second.finding, second.rule) == (Finding.HAZARD_FOUND, None)


@pytest.mark.parametrize(
    ("version", "known", "then"),
    [
        (HERE.version, Known(Code.SAME, Interval(1.0, 0.99, 1.01)), Finding.HAZARD_NEW),
        (HERE.version, Known(Code.SLOWER, Interval(1.1, 1.09, 1.11)), Finding.HAZARD_WORSE),
        (HERE.version, Known(Code.UNDECIDED, Interval(1.0, 0.9, 1.1)), Finding.RULE_KNOWS),
        ("9.10.0", Known(Code.SAME, Interval(1.0, 0.99, 1.01)), Finding.RULE_KNOWS),
    ],
)
def test_no_rule_covers_what_a_baseline_of_this_version_knows_better(version: str, known: Known, then: Finding) -> None:
    asked = comparison(1)
    keys = asked.reference.key, asked.candidate.key
    entry = Entry("test", "layer", *keys, asked.side, Plan("direct"), (-11.0,) * 3, known)
    stored = Baseline(Path("stored"), replace(HERE, version=version), {keys: entry}, beside="another library")
    choice = BaselineChoice(stored)
    assessment = Assessment(findings(d1=SLOWER), {"scripted": choice}, rules=Rules([rule("distance == 1")], TODAY))
    assert assessment.never_slower(asked).finding is then


@pytest.mark.parametrize("fields", [{"device": "other"}, {"expires": date(2026, 11, 29)}, {"backend": "cudnn"}])
def test_a_rule_that_does_not_count_here_and_now_covers_nothing(fields: dict[str, object]) -> None:
    rules = Rules([rule("distance == 1", **fields)], TODAY)  # type: ignore[arg-type]
    assessed = Assessment(findings(d1=SLOWER), {}, rules=rules).never_slower(comparison(1))
    assert assessed.finding is Finding.HAZARD_FOUND


def became(*rules: Rule, whole: bool = True, **verdicts: Verdict) -> list[Finding]:
    """What became of rules in a run that asked for each distance that has a verdict."""
    asked: list[Comparison] = [comparison(int(name[1:])) for name in verdicts]
    formats = ((DType.FLOAT32, Layout.NCHW),)
    measured = Measured(findings(**verdicts), asked, whole, formats)
    return [assessed.finding for assessed in assess_rules(Rules(rules, TODAY), "scripted", measured)]


UNDECIDED = verdict(Code.UNDECIDED, 0.9, 1.2)


def test_what_becomes_of_rules() -> None:
    odd, one = rule("distance in (1, 3)"), rule("distance == 1")
    assert became(odd, d1=SLOWER, d3=SAME) == [Finding.RULE_HOLDS]
    assert became(odd, d1=SAME, d3=SAME) == [Finding.RULE_FIXED]
    assert became(odd, d1=SAME, d3=UNDECIDED) == [Finding.RULE_IDLE]
    assert became(odd, one, d1=SLOWER, d3=SAME) == [Finding.RULE_HOLDS, Finding.RULE_SHADOWED]
    assert became(one, odd, d1=SLOWER, d3=SLOWER) == [Finding.RULE_HOLDS, Finding.RULE_HOLDS]
    assert became(rule("kernel_h == 9"), d1=SLOWER) == [Finding.RULE_STALE]
    assert became(rule("kernel_h == 11"), d1=SLOWER) == [Finding.RULE_IDLE]  # AlexNet has one.
    assert became(rule("distance == 1", device="other"), d1=SLOWER) == [Finding.RULE_IDLE]
    assert became(rule("distance == 1", expires=TODAY), d1=SLOWER) == [Finding.RULE_HOLDS]


def test_an_expired_rule_hides_none() -> None:
    old = rule("distance == 1", expires=date(2026, 11, 29))
    assert became(old, rule("distance == 1"), d1=SLOWER) == [Finding.RULE_EXPIRED, Finding.RULE_HOLDS]


def test_a_narrow_run_says_nothing_of_rules_that_it_does_not_meet() -> None:
    rules = rule("distance == 1"), rule("kernel_h == 9"), rule("distance == 3")
    expected = [Finding.RULE_IDLE, Finding.RULE_IDLE, Finding.RULE_HOLDS]
    assert became(*rules, whole=False, d1=SAME, d3=SLOWER) == expected


def test_a_run_is_green_where_rules_know_its_hazards(runner):
    path = runner.path / "hazards.toml"
    entry = '[[rule]]\nbackend = "scripted"\nwhen = "{}"\nratios = [1, {}]\nowner = "heuristic"\nreason = "padded"\n'
    script = {"rules": [{"when": "out_channels in (15, 13)", "times": 2.0}]}
    path.write_text(entry.format("out_channels == 15", 3) + entry.format("out_channels == 13", 1.5), encoding="utf-8")
    result = runner.run(script, "--hazards", str(path), "-rx", "-k", "never_slower")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "  rule      covers [[]1.0, 1.5]: heuristic: padded (hazards.toml:7)",
            "*hazard that a rule covers: * 15 of 16 *; heuristic: padded (hazards.toml:1)",
            "RED: 1 × hazard worse than its*",
            "hazards worse than the ratios [[]1.0, 1.5] of a rule: 1: heuristic: padded (hazards.toml:7)",
        ]
    )
    path.write_text(entry.format("out_channels % 2 != 0", 3), encoding="utf-8")
    result = runner.run(script, "--hazards", str(path), "--strict-verdicts", "-k", "never_slower")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["GREEN: 2 slower (2 confirmed, 2 known), *"])


def test_a_rule_that_cannot_be_computed_ends_the_run_before_anything_is_measured(runner):
    path = runner.path / "hazards.toml"
    entry = '[[rule]]\nbackend = "scripted"\nwhen = "3 % (out_channels - 15) == 1"\nratios = [1, 3]\nowner = "ours"\n'
    path.write_text(f'{entry}reason = "odd"\n', encoding="utf-8")
    result = runner.run({"noise": 0.002}, "--hazards", str(path), "-k", "never_slower")
    assert result.ret == 4
    assert "hazards.toml:1: predicate '3 % (out_channels - 15) == 1': " in result.stderr.str() + result.stdout.str()


def test_a_whole_run_has_an_item_for_each_rule(runner, monkeypatch):
    entry = '[[rule]]\nbackend = "{}"\nwhen = "kernel_h == 9"\nratios = [1, 3]\nowner = "ours"\nreason = "gone"\n'
    path = runner.path / "baselines" / "hazards.toml"
    path.parent.mkdir()
    path.write_text(entry.format("scripted") + entry.format("cudnn"), encoding="utf-8")
    layer = next(layer for layer in network("alexnet") if layer.index == 2)
    monkeypatch.setattr("neverslower.problem.selection.network", lambda name: [layer])
    result = runner.run({"noise": 0.002}, "--strict-verdicts", "tests/test_never_slower.py", problem="")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["rule that matches nothing: no layer matches it*", "RED: 1 × rule that matches nothing; *"]
    )
    assert "cudnn" not in result.stdout.str()
