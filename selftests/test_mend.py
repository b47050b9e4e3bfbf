"""Padding a pruned model where that is proved faster: the choice by hand, and the command on the scripted backend."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from neverslower import cli, cli_mend
from neverslower.judge.verdict import Code, Interval, Reason, ReasonCode, Verdict
from neverslower.mending.choice import Table, choose, proved
from neverslower.mending.mended import Mended
from neverslower.mending.widths import Padding
from neverslower.models import child, whole
from neverslower.models.coupling import Group
from neverslower.models.words import Input
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import ConvProblem, parse_descriptor
from neverslower.problem.model import Model
from neverslower.problem.networks import Layer
from neverslower.report.mended import mended_lines
from selftests.support import scripted
from selftests.test_coupling import members

LAYERS = tuple(
    Layer("net", None, place, parse_descriptor(f"mb1_ic{ins}oc{outs}_ih8kh3ph1"))
    for place, ins, outs in (("a", 3, 12), ("b", 12, 20), ("c", 20, 4))
)
GROUPS = (
    Group("a.in", 3, members("a.in"), "it reads the model's input"),
    Group("a", 12, members("a.out", "b.in")),
    Group("b", 20, members("b.out", "c.in")),
    Group("c", 4, members("c.out"), "it is an output of the model"),
)
PADDING = Padding(LAYERS, GROUPS, {})
Known = Mapping[tuple[int, int], tuple[Code, float]]
"""Verdict and ratio of a layer by its padded (input, output) channels."""
FINE: Known = {
    (3, 16): (Code.SAME, 1.0),
    (16, 20): (Code.FASTER, 0.8),
    (12, 24): (Code.FASTER, 0.7),
    (16, 24): (Code.FASTER, 0.5),
    (24, 4): (Code.SAME, 1.0),
    (3, 32): (Code.SLOWER, 2.0),
}


def verdict(code: Code, ratio: float) -> Verdict:
    return Verdict(code, Reason(ReasonCode.PROVED, "by a script"), Interval(ratio, ratio, ratio))


def pairs(known: Known) -> dict[tuple[str, str], Verdict]:
    """The verdicts that are known, by the keys of both problems."""
    found = {}
    for layer, problem in PADDING.tried():
        if judged := known.get((problem.in_channels, problem.out_channels)):
            found[layer.problem.key, problem.key] = verdict(*judged)
    return found


def table(known: Known) -> Table:
    return Table(PADDING, {layer.problem.key: 1e-3 for layer in LAYERS}, pairs(known))


def test_every_combination_of_two_groups_is_tried_once() -> None:
    tried = [(layer.place, problem.in_channels, problem.out_channels) for layer, problem in PADDING.tried()]
    assert PADDING.choices == {"a": [16, 32], "b": [24, 32]}
    assert tried == [
        *[("a", 3, 16), ("a", 3, 32)],
        *[("b", ins, outs) for ins in (12, 16, 32) for outs in (20, 24, 32) if (ins, outs) != (12, 20)],
        *[("c", 24, 4), ("c", 32, 4)],
    ]


def test_the_fastest_widths_without_a_missing_proof_are_chosen() -> None:
    assert choose(table(FINE)) == {"a": 16, "b": 24}
    assert choose(table({**FINE, (16, 24): (Code.UNDECIDED, 0.4)})) == {"b": 24}
    assert choose(table({**FINE, (3, 16): (Code.UNDECIDED, 0.9)})) == {"b": 24}
    assert choose(table({**FINE, (24, 4): (Code.SLOWER, 1.2)})) == {"a": 16}
    assert choose(table({})) == {}


def test_two_groups_that_pay_only_together_are_found() -> None:
    known = {(3, 16): (Code.SAME, 1.0), (24, 4): (Code.SAME, 1.0), (16, 24): (Code.FASTER, 0.5)}
    assert choose(table(known)) == {"a": 16, "b": 24}


def test_a_group_of_which_no_layer_is_proved_faster_is_left() -> None:
    known = {(3, 16): (Code.SAME, 0.99), (16, 20): (Code.SAME, 0.99)}
    nothing = table(known)
    assert choose(nothing) == {}
    assert nothing.why_left("a").startswith("16: no layer is proved faster; 32: a was not measured")


def test_what_the_time_budget_left_undecided_is_counted() -> None:
    late = table(FINE)
    key = next(iter(late.verdicts))
    late.verdicts[key] = Verdict(Code.UNDECIDED, Reason(ReasonCode.BUDGET_ENDED, "the budget ended"), None)
    told = list(mended_lines(Mended(Model("net", LAYERS), "scripted", late, {})))
    assert told[:2] == [
        "net on scripted: 0 of 2 groups of channels padded",
        f"the time budget ended before 1 of {len(late.verdicts)} padded layers could be decided",
    ]
    assert "- a: 16: a is UNDECIDED (the budget ended)" in "\n".join(told)


def test_what_is_not_proved_again_is_taken_back_and_chosen_anew() -> None:
    rounds: list[set[tuple[int, int]]] = []

    def measure(comparisons: Sequence[Comparison]) -> dict[tuple[str, str], Verdict]:
        rounds.append({(c.candidate.in_channels, c.candidate.out_channels) for c in comparisons})
        again = {**FINE, (16, 24): (Code.SAME, 1.01)}
        return {c.identity[1:]: verdict(*again[c.candidate.in_channels, c.candidate.out_channels]) for c in comparisons}

    assert proved(table(FINE), "scripted", measure) == {"b": 24}
    assert rounds == [{(3, 16), (16, 24), (24, 4)}, {(12, 24)}]


def test_a_layer_of_many_groups_is_tried_at_equal_multiples_alone() -> None:
    layer = Layer("net", None, "d", parse_descriptor("mb1_ic30oc4_ih8kh3ph1"))
    groups = tuple(
        Group(name, size, members(f"{name}.out", f"d.in@{at}"))
        for name, size, at in (("x", 9, 0), ("y", 10, 9), ("z", 11, 19))
    )
    makers = tuple(
        Layer("net", None, group.name, parse_descriptor(f"mb1_ic3oc{group.channels}_ih8kh1")) for group in groups
    )
    padding = Padding((*makers, layer), groups, {})
    assert [problem.in_channels for tried, problem in padding.tried() if tried is layer] == [48, 96]
    assert padding.added({"y": 16})["d"] == {"in": [[19, 6]]}


# The command

NET = """
from torch import nn

def build():
    return nn.Sequential(
        nn.Conv2d(3, 13, 3), nn.BatchNorm2d(13), nn.ReLU(), nn.Conv2d(13, 32, 3), nn.ReLU(), nn.Conv2d(32, 4, 1)
    )
"""
UNEVEN = [
    {"seconds": 1e-4},
    {"when": "out_channels % 8 != 0 and out_channels > 8", "times": 2.0},
    {"network": "*net.py:*", "seconds": 4e-4},
    {"network": "*net_padded.py:*", "seconds": 3e-4},
]


def in_this_process(kind: str, text: str, inputs: Sequence[str], asked: str = child.LAYERS) -> Mapping[str, Any]:
    """What a child process would answer."""
    return child._answer(asked, kind, text, [Input.parse(one) for one in inputs])


@pytest.fixture
def mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command on a script, with everything in the test's own process."""
    pytest.importorskip("torch")
    monkeypatch.setattr(child, "read", in_this_process)
    net = tmp_path / "net.py"
    net.write_text(NET, encoding="utf-8")

    def run(*arguments: str, rules: Any = UNEVEN) -> int:
        spec = f"scripted:{scripted(tmp_path, 30.0, rules=rules, noise=0.002).argument}"
        words = ["mend", "--model", f"{net}:build", "--input", "1x3x12x12", "--backend", spec]
        return cli.main([*words, "--out", str(tmp_path / "out"), "--journal", str(tmp_path / "m.jsonl"), *arguments])

    return run


@pytest.mark.usefixtures("workers_here")
def test_a_pruned_model_is_padded_where_that_is_proved(mend: Any, tmp_path: Path, capsys: Any) -> None:
    assert mend() == 0
    told = capsys.readouterr().out
    assert "net on scripted: 1 of 1 group of channels padded" in told
    assert "| 0 | 13 | 16 | 0 |" in told
    assert "| 0 | 3 → 13 | 3 → 16 | FASTER: 0.5" in told
    assert "- 3: a multiple of 32 already" in told
    assert "- 5: it is an output of the model" in told
    assert "whole network: 0.75" in told
    measured = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.jsonl")}
    assert {name for name, text in measured.items() if "net_padded.py" in text} == {"m-whole"}
    assert (tmp_path / "out" / "net_padded.md").read_text(encoding="utf-8").startswith("net on scripted: 1 of 1 group")
    assert "ADDED = {\n    '0': {'out': [[13, 3]]},\n    '3': {'in': [[13, 3]]},\n    '1': {'norm'" in (
        tmp_path / "out" / "net_padded.py"
    ).read_text(encoding="utf-8")


def advice(tmp_path: Path, **fields: Any) -> Path:
    """A file of advice with these fields."""
    path = tmp_path / "advice.json"
    fingerprint = {"backend": "scripted", "device": "d", "version": "1", "build": "0"}
    content = {"schema": 1, "fingerprint": fingerprint | {"hardware": {}, "state": {}, "software": {}}} | fields
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def widths(tmp_path: Path, *members: str, keep: int = 20) -> Path:
    """A file of the widths of a model with one group."""
    group = {"name": "g", "channels": 32, "keep": keep, "members": list(members)}
    return advice(tmp_path, format="never-slower widths", layers=[], groups=[group])


@pytest.mark.usefixtures("workers_here")
def test_the_widths_that_were_advised_for_the_unpruned_model_are_tried(mend: Any, tmp_path: Path, capsys: Any) -> None:
    rules = [UNEVEN[0], {"when": "out_channels == 20 or in_channels == 20", "times": 0.5}, *UNEVEN[2:]]
    assert mend("--advised", str(widths(tmp_path, "0.out", "3.in")), rules=rules) == 0
    assert "| 0 | 13 | 20 | 0 |" in capsys.readouterr().out


def test_counts_are_found_under_the_name_of_the_advised_model(tmp_path: Path) -> None:
    layer = {"problem": "mb1_ic4oc16_ih6kh3ph1-float32-NCHW", "advised": [{"channels": 8, "against": 16}]}
    model = Model("pruned", (Layer("pruned", None, "layer1.conv1", parse_descriptor("mb1_ic4oc7_ih6kh3ph1")),))
    for name in ("original.layer1.conv1", "pruned.layer1.conv1", "original.layer1.conv1@8"):
        path = advice(tmp_path, format="never-slower advice", layers=[{"name": name} | layer])
        assert cli_mend._advised(path, model) == {"layer1.conv1": [8]}


def test_advice_on_another_model_is_refused(mend: Any, tmp_path: Path, capsys: Any) -> None:
    assert mend("--advised", str(widths(tmp_path, "stem.out", "0.in"))) == 2
    assert "it advises on stem, and net has 0, 3, 5, …; name the advice on the model" in capsys.readouterr().err


@pytest.mark.usefixtures("workers_here")
def test_a_padded_network_that_is_slower_is_not_kept(mend: Any, tmp_path: Path, capsys: Any) -> None:
    assert mend(rules=[*UNEVEN[:-1], {"network": "*net_padded.py:*", "seconds": 5e-4}]) == 2
    assert "the whole padded network is slower, 1.25" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.usefixtures("workers_here")
def test_a_model_that_is_not_what_was_measured_is_refused(
    mend: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Padding, "added", lambda self, widths: {"0": {"out": []}})
    assert mend() == 2
    assert "net, padded, has other layers than were measured, such as 0; does its Python" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.usefixtures("workers_here")
def test_an_interruption_of_the_last_measurement_keeps_what_was_proved(
    mend: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(whole, "comparisons", interrupted)
    assert mend() == 0
    assert "whole network: not measured: interrupted" in capsys.readouterr().out
    assert (tmp_path / "out" / "net_padded.py").exists()


@pytest.mark.usefixtures("workers_here")
def test_a_model_that_no_padding_helps_is_left_with_the_reasons(mend: Any, tmp_path: Path, capsys: Any) -> None:
    assert mend(rules=[{"seconds": 1e-4}]) == 0
    told = capsys.readouterr().out
    assert "0 of 1 group of channels padded" in told
    assert "- 0: 16: no layer is proved faster; 32: no layer is proved faster" in told
    assert not list((tmp_path / "out").iterdir())


def test_a_model_without_a_group_to_pad_needs_no_measuring(mend: Any, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "net.py").write_text(NET.replace("13", "64"), encoding="utf-8")
    assert mend() == 0
    assert "0 of 0 groups of channels padded" in capsys.readouterr().out


def test_problem_of_the_output_folder_is_said_before_measuring(mend: Any, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "out").write_text("", encoding="utf-8")
    assert mend() == 2
    assert f"--out {tmp_path / 'out'}: " in capsys.readouterr().err


def test_a_padded_problem_keeps_what_padding_does_not_touch() -> None:
    deep = Layer("net", None, "deep", parse_descriptor("mb1_g12ic12oc12_ih8kh3ph1"))
    padding = Padding((deep, LAYERS[0]), (Group("a", 12, members("a.out", "deep.out", "deep.in")),), {})
    padded = padding.problem(deep, {"a": 16})
    assert isinstance(padded, ConvProblem)
    assert (padded.groups, padded.in_channels, padded.out_channels) == (16, 16, 16)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--onnx", "m.onnx"], "name the Python that it was exported from with --model FILE.py:FUNCTION --input SHAPE"),
        ([], "mend which model? name what builds it: --model FILE.py:FUNCTION --input SHAPE"),
    ],
)
def test_what_cannot_be_padded_is_refused_with_the_remedy(words: list[str], why: str, capsys: Any) -> None:
    assert cli.main(["mend", *words]) == 2
    assert why in capsys.readouterr().err
