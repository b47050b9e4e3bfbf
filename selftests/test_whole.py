"""Whole networks: a pruned one against its original from end to end, and the layers behind the difference."""

from __future__ import annotations

import re
import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import onednn
from backends.base import BackendOptions
from backends.cudnn.network import GRAPHED, ONE_BY_ONE, GpuNetwork
from bench.budgets import Clock
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.findings import Findings, Result
from neverslower.campaign.judging import pooled
from neverslower.campaign.resume import load
from neverslower.campaign.settings import Settings
from neverslower.errors import InvalidProblem, OutOfMemory, Unsupported
from neverslower.evidence.observation import PairedPass
from neverslower.files.journal import Journal
from neverslower.judge.joint import Pooling, halved
from neverslower.judge.pooled import PooledJudge
from neverslower.judge.verdict import STANDARD, Code, Reason, ReasonCode, Verdict
from neverslower.models import child, content, surroundings, torch_module, whole
from neverslower.models.words import Input, ModelName
from neverslower.option_table import OPTIONS
from neverslower.options import plan
from neverslower.outcome.rejudge import changes_of
from neverslower.outcome.whole import Explained, Part, explained, times_by_place
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import DType, Layout
from neverslower.problem.model import Model
from neverslower.problem.networks import Layer
from neverslower.problem.pairing import pair_models
from neverslower.problem.whole import Network, WholeComparison, is_network, structure_of
from neverslower.report.whole import by_layer
from neverslower.run_plan import RunPlan
from neverslower.worker.far_side import FarSide
from selftests import in_process
from selftests.conftest import ROOT, SuiteRunner
from selftests.support import comparison, fake_passes, known, problem, scripted
from selftests.support import layers as some_layers

ORIGINAL, PRUNED = (
    Network("/nets/original.py:build", ("1x3x8x8",), "a1"),
    Network("/nets/pruned.py:build", ("1x3x8x8",)),
)
WHOLE = WholeComparison("scripted", "original", ORIGINAL, PRUNED)
SLOWER = [{"network": "*original.py:*", "seconds": 1e-3}, {"network": "*pruned.py:*", "seconds": 1.12e-3}]


# Keys


@given(
    st.builds(
        Network,
        st.text(min_size=1),
        st.lists(st.text(min_size=1), max_size=3).map(tuple),
        st.text("0123456789abcdef"),
        st.sampled_from(DType),
        st.sampled_from(Layout),
    )
)
def test_a_key_names_a_network(network: Network) -> None:
    assert Network.from_key(network.key) == network
    assert is_network(network.key)
    assert " " not in network.key  # By which a key would be parted from a policy.


@pytest.mark.parametrize("text", ["", "network:", "network:a.py:b!1x3-float32-NCHW", f"{ORIGINAL.key} ", problem().key])
def test_what_is_no_key_of_a_network_is_refused(text: str) -> None:
    with pytest.raises(InvalidProblem, match="not the key of a network"):
        Network.from_key(text)


def test_the_key_changes_with_what_was_read() -> None:
    """The journal of an earlier run holds nothing of a network that was changed since."""
    layers = [Layer("net", None, "conv", problem(count)) for count in (16, 15)]
    digests = {structure_of(Model("net", (layer,))) for layer in layers}
    assert len(digests) == 2
    assert structure_of(Model("net", (layers[0],), source=("--model", "elsewhere.py:build"))) in digests
    assert structure_of(Model("net", (layers[0],), digest="1")) not in digests


# What is compared


def record(place: str, *, out: int, inputs: int = 3) -> dict[str, Any]:
    """One convolution as the child process that reads a model tells of it."""
    shape = {"batch": 1, "in_channels": inputs, "height": 8, "width": 8, "out_channels": out, "groups": 1}
    rest = {"kernel": [3, 3], "stride": [1, 1], "padding": [1] * 4, "dilation": [1, 1], "epilogue": None}
    return {"place": place, **shape, **rest}


READ = {
    "original.py": [record("stem", out=16), record("block", out=16, inputs=16), record("head", out=8, inputs=16)],
    "pruned.py": [record("stem", out=14), record("head", out=8, inputs=14)],
    "dropped.py": [record("stem", out=16), record("head", out=8, inputs=16)],
}


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Two models that no process needs to read; return how the command line names them."""

    def answer(kind: str, text: str, inputs: Sequence[str]) -> Mapping[str, Any]:
        layers = next((layers for name, layers in READ.items() if name in text), READ["original.py"])
        return {"layers": layers, "left_out": [], "remarks": [], "digest": ""}

    monkeypatch.setattr(child, "read", answer)
    for name in READ:
        (tmp_path / name).write_text("", encoding="utf-8")
    return f"{tmp_path}/original.py:build", f"{tmp_path}/pruned.py:build"


def planned(read: tuple[str, str], **values: Any) -> RunPlan:
    defaults = {option.key: option.default for option in OPTIONS}
    own = {"backend": ["scripted"], "input": ["1x3x8x8"], "model": [read[0]], "pruned": read[1]}
    return plan(defaults | own | values)


def test_each_format_and_number_of_images_is_a_comparison(read: tuple[str, str]) -> None:
    wholes = planned(read, dtype=["float16", "float32"], batch=["1", "8"]).wholes
    assert [comparison.id for comparison in wholes] == [
        "scripted-original-whole-float16-NCHW",
        "scripted-original@8-whole-float16-NCHW",
        "scripted-original-whole-float32-NCHW",
        "scripted-original@8-whole-float32-NCHW",
    ]
    assert wholes[1].candidate.inputs == ("8x3x8x8",)
    assert wholes[1].options == ("--model", read[0], "--input", "1x3x8x8", "--pruned", read[1], "--batch", "8")
    assert wholes[1].reference.macs == sum(
        layer.problem.macs for layer in planned(read).selections["scripted"].models[0].layers
    )


def test_inputs_keep_their_names_and_dtypes_at_another_number_of_images(read: tuple[str, str]) -> None:
    (comparison,) = planned(read, input=["x=1x3x8x8", "1x77:int64"], batch=["2"]).wholes
    assert comparison.reference.inputs == ("x=2x3x8x8", "2x77:int64")


def test_a_file_below_the_directory_of_the_run_is_named_from_there(
    read: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a journal says nothing of where somebody keeps their files, and holds elsewhere too."""
    monkeypatch.chdir(tmp_path)
    (comparison,) = planned(read).wholes
    assert (comparison.reference.builder, comparison.candidate.builder) == ("original.py:build", "pruned.py:build")
    assert str(tmp_path) not in "".join(comparison.keys)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (comparison,) = planned(read).wholes
    assert comparison.reference.builder == read[0]


@pytest.mark.parametrize(
    ("builder", "directory", "found"),
    [
        ("nets/a.py:build", "/here", "/here/nets/a.py:build"),
        ("/nets/a.py:build", "/here", "/nets/a.py:build"),
        ("nets.a:build", "/here", "nets.a:build"),
        ("a.py:build", "", "a.py:build"),
    ],
)
def test_a_worker_finds_a_file_from_the_directory_of_the_run(builder: str, directory: str, found: str) -> None:
    assert Network(builder, ()).found_from(directory).builder == found


@pytest.mark.parametrize("batch", [[], ["2"], ["8"]])
def test_only_axes_that_count_images_become_the_batch(read: tuple[str, str], batch: list[str]) -> None:
    """A mask of 77 rows has as many at each batch, and without --batch all inputs are as they were given."""
    inputs = ["2x3x8x8", "77x77", "1x5"]
    (comparison,) = planned(read, input=inputs, batch=batch).wholes
    images = batch[0] if batch else "2"
    assert comparison.reference.inputs == comparison.candidate.inputs == (f"{images}x3x8x8", "77x77", "1x5")
    assert comparison.batch == (8 if batch == ["8"] else None)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"pruned": None}, "no pruned network to compare with its original: name both with --model and --pruned"),
        ({"layer": ["stem"]}, "--layer names layers alone: leave it out to run the whole networks"),
        ({"backend": ["tvm"]}, "no chosen backend runs whole networks; onednn and cudnn do"),
    ],
)
def test_where_no_whole_network_is_run_it_says_why(read: tuple[str, str], values: dict[str, Any], told: str) -> None:
    chosen = planned(read, **values)
    assert chosen.wholes == []
    assert chosen.why_no_whole() == told


def test_an_onnx_file_is_not_run(read: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "pruned.onnx").write_bytes(b"")
    chosen = planned(read, pruned=f"{tmp_path}/pruned.onnx")
    assert chosen.wholes == []
    told = "whole network: not run: an ONNX file is read for its shapes and never run: name the Python that builds both"
    assert [line.startswith(told) for line in chosen.notes()][-1]


# The layers behind the difference


def passes(reference: float, candidate: float) -> tuple[PairedPass, ...]:
    seconds = np.full((2, 2, 2), reference)
    seconds[:, 1] = candidate
    return (PairedPass(seconds, (1, 1), "fake"),)


def test_layers_that_go_the_way_of_the_difference_come_first() -> None:
    layers = {"a": (1.0, 1.5), "b": (2.0, 1.75), "c": (1.0, 2.0), "d": None}
    found = known(explained(passes(6.0, 7.0), layers))
    assert found == Explained(6.0, 7.0, (Part("c", 1.0), Part("a", 0.5), Part("b", -0.25)), ("d",))
    assert (found.difference, found.of_layers, found.share) == (1.0, 1.25, 1.25)
    faster = known(explained(passes(7.0, 6.0), layers))
    assert [part.place for part in faster.parts] == ["b", "a", "c"]
    assert faster.share == -1.25


def test_without_samples_nothing_is_explained() -> None:
    assert explained((), {"a": (1.0, 2.0)}) is None
    assert known(explained(passes(1.0, 1.0), {})).share is None


def test_what_only_one_network_has_counts_with_all_of_its_time(read: tuple[str, str]) -> None:
    chosen = planned(read)
    pairing, comparisons = known(chosen.selections["scripted"].pairing), chosen.comparisons
    (whole_networks,) = chosen.wholes
    findings = Findings()
    for each in comparisons:
        seconds = (4.0, 4.0) if each.against_itself else (3.0, 2.0)
        findings.finish(Result(each, Verdict(Code.SAME, Reason(ReasonCode.PROVED, "")), passes(*seconds)))
    times = times_by_place(pairing, comparisons, whole_networks, findings.results)
    assert times == {"stem": (3.0, 2.0), "head": (3.0, 2.0), "block": (4.0, 0.0)}
    assert times_by_place(pairing, comparisons, whole_networks, {}) == dict.fromkeys(times)
    back = pair_models(pairing.pruned, pairing.original)
    (added,) = [replace(left.layer, places=(left.layer.name,)) for left in back.unpaired]
    alone = [Comparison("scripted", added, added.problem)]
    times = times_by_place(back, alone, WholeComparison("scripted", "pruned", PRUNED, ORIGINAL), findings.results)
    assert times == {"original.block": (0.0, 4.0)}


@pytest.mark.parametrize(
    ("pruned", "code", "told"),
    [
        (
            1.12e-3,
            Code.SLOWER,
            "by layer: a +90 µs, b +10 µs; the layers' sum is +100 µs, 83% of the difference of +120 µs",
        ),
        (
            0.8e-3,
            Code.FASTER,
            "by layer: b +10 µs, a +90 µs; the layers' sum is +100 µs, "
            "which does not explain the difference of -200 µs",
        ),
        (1.001e-3, Code.SAME, "by layer: a +90 µs, b +10 µs; the layers' sum is +100 µs"),
        (0.999e-3, Code.SAME, "by layer: a +90 µs, b +10 µs; the layers' sum is +100 µs"),
    ],
)
def test_the_share_is_told_where_there_is_a_difference(pruned: float, code: Code, told: str) -> None:
    layers = {"a": (1e-4, 1.9e-4), "b": (1e-4, 1.1e-4)}
    assert list(by_layer(known(explained(passes(1e-3, pruned), layers)), code)) == [told]


def test_layers_that_have_no_time_are_named() -> None:
    found = known(explained(passes(1.0, 2.0), dict.fromkeys("abcd")))
    assert list(by_layer(found, Code.SLOWER)) == ["not timed by themselves, and so not in that sum: a, b, c and 1 more"]


# A campaign


def campaign(spec: Any, comparisons: Sequence[Any], journal: Path | None = None, **settings: Any) -> Findings:
    recorded = load(journal) if journal and journal.exists() else None
    opened = Journal(journal) if journal else None
    run = Campaign({"scripted": spec}, Settings(**settings), opened, recorded=recorded, start=in_process.start)
    try:
        return run.run(comparisons)
    finally:
        if opened:
            opened.close()


def verdict(tmp_path: Path, **script: Any) -> Any:
    return campaign(scripted(tmp_path, noise=0.002, **script), [WHOLE]).wholes[WHOLE.identity].verdict


def test_a_whole_network_is_judged_and_confirmed(tmp_path: Path) -> None:
    found = campaign(scripted(tmp_path, noise=0.002, rules=SLOWER), [WHOLE, comparison(1)])
    result = found.wholes[WHOLE.identity]
    assert result.verdict.code is Code.SLOWER
    assert result.confirmation is not None
    assert known(result.verdict.ratio).estimate == pytest.approx(1.12, rel=0.01)
    assert list(found.results) == [comparison(1).identity]  # Reports of layers count no network.
    assert len(found.verdicts) == found.measured == 2


def test_networks_that_are_called_in_different_ways_are_not_compared(tmp_path: Path) -> None:
    rules = [*SLOWER, {"network": "*pruned*", "way": "in a graph"}]
    found = verdict(tmp_path, rules=rules)
    assert found.code is Code.UNSUPPORTED
    assert (
        found.reason.text == "one network runs as scripted and the other in a graph, so their times can't be compared"
    )


def test_a_whole_network_has_no_counts(tmp_path: Path) -> None:
    found = verdict(tmp_path, rules=SLOWER, evidence="instructions")
    assert (found.code, found.reason.text.startswith("a whole network is measured in times")) == (
        Code.UNSUPPORTED,
        True,
    )


def test_a_whole_network_comes_before_its_layers_when_time_is_short(tmp_path: Path) -> None:
    """Though it costs more than any of them; a clock that moves by a second with each subject prepared."""
    slow = [rule | {"seconds": 0.1} for rule in SLOWER]
    layers = [comparison(1, each, f"layer{place}") for place, each in enumerate(some_layers(30))]
    clock = Clock()

    def progress(phase: str, done: int, total: int, seconds_left: float | None) -> None:
        clock.now += "prepare" in phase

    spec, settings = scripted(tmp_path, noise=0.002, rules=slow), Settings(time_budget=40.0)
    run = Campaign({"scripted": spec}, settings, progress=progress, clock=clock, start=in_process.start)
    found = run.run([*layers, WHOLE])
    assert found.left_out > 0
    assert found.wholes[WHOLE.identity].passes


def measured(ratio: float, seed: int) -> list[PairedPass]:
    """Three processes' passes of a comparison."""
    return [replace(each, started=float(place)) for place, each in enumerate(fake_passes(ratio, 0.003, seed, 3))]


def test_a_whole_network_does_not_stand_among_the_layers_of_the_pooled_judge() -> None:
    """It is not judged by their scatter, which three processes of its own could not show, nor are they by its."""
    pooling = Pooling(PooledJudge(halved(STANDARD)))
    layers = {("scripted", f"layer{place}", "pruned"): measured(1.0, place) for place in range(60)}
    network = WHOLE.identity
    together = pooled(pooling, {**layers, network: measured(1.3, 60)}, 61)
    assert together == pooled(pooling, layers, 61)
    assert len(together) > 50
    as_a_layer = pooled(pooling, {**layers, ("scripted", "layer60", "pruned"): measured(1.3, 60)}, 61)
    assert as_a_layer["scripted", "layer60", "pruned"].code is Code.SLOWER


def test_a_resumed_run_measures_a_network_again_that_was_changed(tmp_path: Path) -> None:
    spec, journal = scripted(tmp_path, noise=0.002, rules=SLOWER), tmp_path / "journal.jsonl"
    before = campaign(spec, [WHOLE], journal)
    assert campaign(spec, [WHOLE], journal).wholes[WHOLE.identity].verdict == before.wholes[WHOLE.identity].verdict
    measured = journal.read_text(encoding="utf-8").count('"event":"measured"')
    changed = WholeComparison("scripted", "original", ORIGINAL, Network(PRUNED.builder, PRUNED.inputs, "b2"))
    campaign(spec, [changed], journal)
    assert journal.read_text(encoding="utf-8").count('"event":"measured"') == 2 * measured


def test_beside_another_library_both_run_it_and_only_layers_are_in_the_table_of_changes(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    new, old = (scripted(tmp_path / name, noise=0.002, version=name, rules=SLOWER) for name in ("new", "old"))
    journal = Journal(tmp_path / "journal.jsonl")
    run = Campaign({"scripted": new}, Settings(), journal, against={"scripted": old}, start=in_process.start)
    run.run([WHOLE, comparison(1)])
    journal.close()
    codes = [found.wholes[WHOLE.identity].verdict.code for found in (run.findings, run.before)]
    assert codes == [Code.SLOWER, Code.SLOWER]
    changes = changes_of(tmp_path / "journal.jsonl").changes
    assert [change.id for change in changes] == [comparison(1).id]


# Whole runs

OPTIONS_OF = ("--input", "1x3x8x8")


def run(runner: SuiteRunner, read: tuple[str, str], rules: list[dict[str, Any]], *arguments: str) -> pytest.RunResult:
    named = ("--model", read[0], "--pruned", read[1], *OPTIONS_OF)
    return runner.run({"rules": rules}, *named, *arguments, problem="")


def test_a_slower_network_is_a_hazard_that_its_layers_explain(runner: SuiteRunner, read: tuple[str, str]) -> None:
    result = run(runner, read, SLOWER, "--junitxml", "junit.xml")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "HAZARDS: 1 slower (1 confirmed), 2 not slower, of 3",
            "whole network: 1.12?× [[]1.1*] slower end to end (1 ms → 1.12 ms)  scripted-original-whole-float32-NCHW",
            "  by layer: *, block *; the layers' sum is -*, which does not explain the difference of +120 µs",
        ]
    )
    case = next(
        case
        for case in ElementTree.parse(runner.path / "junit.xml").iter("testcase")
        if str(case.get("name")).startswith("test_whole_network")
    )
    said = {known(each.get("name")): known(each.get("value")) for each in case.iter("property")}
    assert said["finding"] == "hazard found, not known to a baseline yet"
    assert (float(said["seconds of the original"]), float(said["seconds"])) == pytest.approx((1e-3, 1.12e-3), rel=0.01)


def test_a_strict_run_fails_with_the_command_that_runs_it_again(runner: SuiteRunner, read: tuple[str, str]) -> None:
    result = run(runner, read, SLOWER, "--strict-verdicts", "tests/test_whole_network.py")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "hazard found, not known to a baseline yet: original on scripted, pruned, from end to end",
            "  SLOWER 1.12?× *",
            "  times     1 ms → 1.12 ms",
            "  not timed by themselves, and so not in that sum: stem, head, block",
            "  again     pytest 'tests/*::test_whole_network[[]scripted-original-whole-float32-NCHW]' *"
            f" --model {read[0]} --input 1x3x8x8 --pruned {read[1]} --dtype float32 --layout NCHW --strict-verdicts",
            "RED: 1 × hazard found*",
        ]
    )


@pytest.mark.parametrize(
    ("rules", "told", "code"),
    [
        ([{"network": "*pruned.py:*", "seconds": 0.9e-5}], "GREEN: 0 slower, 3 not slower, of 3", 0),
        (
            [{"network": "*", "fault": "unsupported"}],
            "INCOMPLETE: 0 slower, 2 not slower, 1 not judged, of 3; 90% of 10 questions decided",
            0,
        ),
        ([{"network": "*pruned*", "fault": "error"}], "RED: 1 × crashed; 0 slower, 2 not slower, 1 failed, of 3", 1),
    ],
)
def test_it_counts_like_any_comparison(
    runner: SuiteRunner, read: tuple[str, str], rules: list[dict[str, Any]], told: str, code: int
) -> None:
    result = run(runner, read, rules)
    assert result.ret == code
    result.stdout.fnmatch_lines([told, "whole network: *"])


@pytest.mark.parametrize(
    ("rules", "told", "code"),
    [
        ([{"network": "*dropped*", "seconds": 0.9e-5}], "GREEN: 0 slower, 1 not slower, of 1", 0),
        ([{"network": "*dropped*", "seconds": 9e-3}], "HAZARDS: 1 slower (1 confirmed), 0 not slower, of 1", 0),
        ([{"network": "*", "fault": "unsupported"}], "CANNOT JUDGE: nothing was decided about times; *", 6),
    ],
)
def test_where_only_blocks_were_removed_the_whole_network_answers(
    runner: SuiteRunner, read: tuple[str, str], rules: list[dict[str, Any]], told: str, code: int
) -> None:
    result = run(runner, (read[0], read[1].replace("pruned.py", "dropped.py")), rules)
    assert result.ret == code
    result.stdout.fnmatch_lines([told])


@pytest.mark.parametrize("paths", [("tests",), ("tests/test_whole_network.py",)])
def test_a_network_that_does_not_run_fails_a_strict_run(
    runner: SuiteRunner, read: tuple[str, str], paths: tuple[str, ...]
) -> None:
    """It was asked for, and nobody knows whether it is slower."""
    result = run(runner, read, [{"network": "*", "fault": "unsupported"}], "--strict-verdicts", *paths)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["whole network not judged: original on scripted*", "RED: 1 × whole network not judged*"]
    )


def test_a_run_without_a_pair_has_no_item_for_it(runner: SuiteRunner) -> None:
    result = runner.run({}, "--collect-only")
    result.stdout.no_fnmatch_line("*whole*")
    named = runner.run({}, "tests/test_whole_network.py")
    assert named.ret == 6
    named.stdout.fnmatch_lines(["CANNOT JUDGE: no pruned network to compare with its original: name both*"])


def test_a_page_names_the_whole_network(runner: SuiteRunner, read: tuple[str, str], monkeypatch: Any) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(runner.path / "page.md"))
    run(runner, read, SLOWER)
    page = (runner.path / "page.md").read_text(encoding="utf-8")
    assert "- whole network: 1.12" in page
    assert "- not covered: 1 × without a pair\n" in page


def test_a_page_names_a_whole_network_that_was_not_judged(
    runner: SuiteRunner, read: tuple[str, str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(runner.path / "page.md"))
    run(runner, read, [{"network": "*", "fault": "unsupported"}])
    page = (runner.path / "page.md").read_text(encoding="utf-8")
    assert "- not covered: 1 × whole network not judged; 1 × without a pair\n" in page


def test_the_next_step_measures_a_slower_network_alone(runner: SuiteRunner, read: tuple[str, str]) -> None:
    """No baseline takes it as known, so none is advised for that."""
    result = run(runner, read, SLOWER)
    command = (
        f"    pytest tests/test_whole_network.py --backend scripted:* --model {read[0]} --input 1x3x8x8"
        f" --pruned {read[1]} --dtype float32 --layout NCHW"
    )
    result.stdout.fnmatch_lines(["next:", "  measure the worst one alone:", command])
    result.stdout.no_fnmatch_line("*take what was found as known*")
    again = known(next(line for line in result.outlines if line.startswith("    pytest tests/test_whole")))
    words = [word for word in shlex.split(again) if word != "pytest"]
    assert runner.pytester.runpytest_inprocess(*words, "-p", "no:cacheprovider").ret == 0


def test_the_guide_shows_what_a_run_prints(runner: SuiteRunner, models_here: None) -> None:
    guide = (ROOT / "docs/howto/models.md").read_text(encoding="utf-8")
    command, *shown = known(re.search(r"```console\n\$ pytest (.*--pruned.*)\n((?:.*\n)*?)```", guide)).groups()
    words = [str(ROOT / word) if word.startswith("docs/") else word for word in shlex.split(command)]
    words = [word.replace("scripted:", f"scripted:{ROOT}/") for word in words]
    result = runner.pytester.runpytest_inprocess(*words, "-p", "no:cacheprovider")
    assert shown[0] in "\n".join(result.outlines)


# Real networks, by torch

NET = """
    import torch
    from torch import nn
    from blocks import Block

    def build(): return nn.Sequential(Block(), nn.BatchNorm2d(Block.width))

    class Failing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
        def forward(self, x): raise {error}

    class Rude(Failing):
        def forward(self, x):
            assert not (self.training or torch.is_grad_enabled())
            return self.conv(x)

    def rude():
        torch.set_num_threads(2)
        torch.set_default_dtype(torch.float64)
        return Rude()
"""
BLOCK = """
    from torch import nn
    class Block(nn.Conv2d):
        width = {width}
        def __init__(self): super().__init__(3, self.width, 3)
"""


def net(folder: Path, width: int, error: str = "ValueError('no such thing')") -> Path:
    folder.mkdir()
    (folder / "net.py").write_text(textwrap.dedent(NET).format(error=error), encoding="utf-8")
    (folder / "blocks.py").write_text(textwrap.dedent(BLOCK).format(width=width), encoding="utf-8")
    return folder / "net.py"


@pytest.fixture(scope="module")
def cpu() -> onednn.OneDNN:
    return onednn.open(BackendOptions())


def called(built: whole.BuiltNetwork) -> Any:
    with built.running():
        return built.call()


def network(path: Path, attribute: str = "build", **fields: Any) -> Network:
    return Network(f"{path}:{attribute}", ("2x3x8x8",), **fields)


def test_networks_of_two_folders_do_not_share_what_lies_next_to_them(tmp_path: Path) -> None:
    """Else the pruned network would be built of the original's blocks, and be as fast as it."""
    import torch

    paths = [net(tmp_path / name, width) for name, width in (("original", 16), ("pruned", 14))]
    built = [whole.build(torch, network(path), "cpu") for path in paths]
    assert [tuple(called(each).shape) for each in built] == [(2, 16, 6, 6), (2, 14, 6, 6)]
    assert built[0].bytes > built[1].bytes > 0


def test_a_network_runs_on_the_cpu(tmp_path: Path, cpu: onednn.OneDNN) -> None:
    prepared = cpu.prepare_network(network(net(tmp_path / "net", 4), dtype=DType.BFLOAT16, layout=Layout.NHWC))
    assert str(prepared.plan()) == "torch call by call"
    assert prepared.run(2) > 0


def test_a_module_that_is_there_already_is_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is measured in two formats, for example, is of two dtypes at once."""
    import torch

    module = torch.nn.Conv2d(3, 4, 1)
    monkeypatch.setitem(sys.modules, "theirs", SimpleNamespace(module=module))
    half = Network("theirs:module", ("1x3x8x8",), dtype=DType.BFLOAT16)
    assert called(whole.build(torch, half, "cpu")).dtype is torch.bfloat16
    assert module.weight.dtype is torch.float32


def digest_of(path: Path) -> str:
    """The digest of a network that is read, as the child process would."""
    import torch

    with surroundings.Surroundings(torch, path.parent).inside():
        found = torch_module.find(ModelName.parse(f"{path}:Net"), [Input.parse("2x3x8x8")])
    assert len(found.layers) == 1
    return str(found.record()["digest"])


def test_a_network_is_another_one_when_its_operations_or_its_python_change(tmp_path: Path) -> None:
    """Its convolutions may be the same ones, and an earlier run's times would stand in for those of the new one."""
    import torch

    usual = "from helper import act; return act(self.conv(x))"
    branches = "from helper import act; x = self.conv(x); return act(x) if x.sum() > 1e9 else x"
    digests = [
        digest_of(Path(later(tmp_path / f"{place}", body, act).builder.rpartition(":")[0]))
        for place, (body, act) in enumerate(
            [
                (usual, "def act(x): return x.relu()"),
                (usual, "def act(x): return x.relu()"),  # In another folder, it is the same network.
                (usual, "def act(x): return x.softmax(1)"),
                (usual + "  # changed", "def act(x): return x.relu()"),
                (branches, "def act(x): return x.relu()"),  # Not to be exported: a run on the CPU shows its layers.
                (branches, "def act(x): return x.softmax(1)"),
            ]
        )
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 5
    conv, inputs = torch.nn.Conv2d(3, 4, 1), (torch.zeros(1, 3, 8, 8),)
    more = (torch.nn.ReLU(), torch.nn.Softmax(1), torch.nn.Softmax(2), torch.nn.Identity())
    exported = [torch.export.export(torch.nn.Sequential(conv, each), inputs) for each in more]
    assert len({content.digest(content.operations(program)) for program in exported}) == 4


def test_a_network_leaves_the_process_as_it_was(tmp_path: Path, cpu: onednn.OneDNN) -> None:
    import torch

    path = net(tmp_path / "net", 4)
    before = set(sys.modules), list(sys.path)
    prepared = cpu.prepare_network(network(path, "rude"))
    assert prepared.run(1) > 0
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (1, torch.float32)
    assert sys.path == before[1]
    assert not {"net", "blocks"} & (set(sys.modules) - before[0])


LATER = """
    import sys
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.calls = nn.Conv2d(3, 4, 1), 0
        def forward(self, x):
            self.calls += 1
            {body}
"""


def later(folder: Path, body: str, neighbour: str = "") -> Network:
    folder.mkdir()
    (folder / "late.py").write_text(textwrap.dedent(LATER).format(body=body), encoding="utf-8")
    (folder / "helper.py").write_text(textwrap.dedent(neighbour), encoding="utf-8")
    return network(folder / "late.py", "Net")


@pytest.mark.parametrize("body", ["from helper import act", "if self.calls > 1: from helper import act"])
def test_a_network_finds_its_neighbours_at_each_call(tmp_path: Path, cpu: onednn.OneDNN, body: str) -> None:
    """Its own ones, though both networks' are called the same, and none is left in the process."""
    nets = [
        later(
            tmp_path / name,
            f"{body}; assert act() == {name!r}\n{' ' * 8}return self.conv(x)",
            f"def act(): return {name!r}",
        )
        for name in "ab"
    ]
    prepared = [cpu.prepare_network(each) for each in nets]
    for each in (*prepared, *prepared):
        assert each.run(2) > 0
    assert not {"late", "helper"} & set(sys.modules)


def test_a_network_whose_own_folders_are_on_the_path_is_apart_too(tmp_path: Path) -> None:
    import torch

    built = []
    for name, width in (("a", 16), ("b", 14)):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.py").write_text(
            f"import sys; sys.path.append({str(tmp_path / name)!r})\nfrom blocks import Block as build",
            encoding="utf-8",
        )
        (tmp_path / name / "blocks.py").write_text(textwrap.dedent(BLOCK).format(width=width), encoding="utf-8")
        built.append(whole.build(torch, network(tmp_path / f"{name}.py"), "cpu"))
    assert [tuple(called(each).shape) for each in built] == [(2, 16, 6, 6), (2, 14, 6, 6)]


def test_a_file_may_be_called_as_a_module_that_is_there(tmp_path: Path) -> None:
    import torch

    usual = sys.modules["textwrap"]
    path = net(tmp_path / "net", 4).rename(tmp_path / "net" / "textwrap.py")
    called(whole.build(torch, network(path), "cpu"))
    assert sys.modules["textwrap"] is usual


@pytest.mark.parametrize("error", ["ValueError('one call only')", "SystemExit('one call only')"])
def test_a_network_that_fails_at_a_later_call_is_refused_with_its_traceback(
    tmp_path: Path, cpu: onednn.OneDNN, error: str
) -> None:
    """It is the user's code that failed, and no worker."""
    prepared = cpu.prepare_network(later(tmp_path / "a", f"if self.calls > 1: raise {error}\n" + " " * 8 + "return x"))
    with pytest.raises(Unsupported) as caught:
        prepared.run(1)
    lines = str(caught.value).splitlines()
    assert [line.split("/")[-1] for line in lines if "File" in line] == ['late.py", line 12, in forward']
    assert lines[-1].strip().endswith("one call only")


SETS = """
    import torch
    from torch import nn

    torch.backends.mkldnn.enabled = False
    torch.set_flush_denormal(True)
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
        def forward(self, x):
            assert not torch.backends.mkldnn.enabled
            assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
            assert x.new_tensor(1e-40) * 1 == 0
            return self.conv(x)
"""


def test_what_a_network_sets_in_torch_holds_for_its_own_calls(tmp_path: Path, cpu: onednn.OneDNN) -> None:
    """The other network and the layers would be timed without oneDNN, for example."""
    import torch

    (tmp_path / "sets.py").write_text(textwrap.dedent(SETS), encoding="utf-8")
    before = surroundings.read(surroundings.settings(torch))
    prepared = cpu.prepare_network(network(tmp_path / "sets.py", "Net"))
    assert surroundings.read(surroundings.settings(torch)) == before
    assert prepared.run(2) > 0  # The module checks that it has what it set.
    assert surroundings.read(surroundings.settings(torch)) == before
    assert before["mkldnn.enabled"]
    assert not before["flush denormal"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            "ValueError('no such thing')",
            ["*net.py:Failing failed when it was run from end to end on the CPU:", "*raise ValueError*"],
        ),
        ("RuntimeError('Found no NVIDIA driver')", ["the model wants a GPU, and this backend runs it on the CPU; *"]),
    ],
)
def test_the_users_own_traceback_is_the_refusal(
    tmp_path: Path, cpu: onednn.OneDNN, error: str, told: list[str]
) -> None:
    with pytest.raises(Unsupported) as caught:
        cpu.prepare_network(network(net(tmp_path / "net", 4, error), "Failing"))
    pytest.LineMatcher(str(caught.value).splitlines()).fnmatch_lines(told)
    assert "whole.py" not in str(caught.value)


def test_a_network_that_can_t_be_built_is_named_without_an_option(tmp_path: Path, cpu: onednn.OneDNN) -> None:
    """A worker does not know whether it was --model or --pruned that named it."""
    path = net(tmp_path / "net", 4)
    with pytest.raises(Unsupported) as caught:
        cpu.prepare_network(network(path, "Absent"))
    assert str(caught.value).startswith(f"{path}:Absent: no Absent there; it has Failing, Rude, build")


@pytest.mark.parametrize(
    "error", ["MemoryError('none left')", 'RuntimeError("DefaultCPUAllocator: can\'t allocate memory")']
)
def test_no_memory_is_no_fault_of_the_users(tmp_path: Path, cpu: onednn.OneDNN, error: str) -> None:
    with pytest.raises(OutOfMemory):
        cpu.prepare_network(network(net(tmp_path / "net", 4, error), "Failing"))


def test_a_file_that_is_not_on_the_workers_machine_is_named(tmp_path: Path, cpu: onednn.OneDNN) -> None:
    with pytest.raises(
        Unsupported,
        match=r"absent\.py is not on the machine that runs it \(.+\); copy its folder to the same path there, or",
    ):
        cpu.prepare_network(network(tmp_path / "absent.py"))


def test_a_worker_examines_and_measures_networks(tmp_path: Path) -> None:
    """The far side alone, for a device is locked where a run measures on it."""
    paths = [net(tmp_path / name, width) for name, width in (("original", 16), ("pruned", 14))]
    keys = [network(path.relative_to(tmp_path)).key for path in paths]
    side = FarSide()
    side.open("onednn", "", 1, 0, str(tmp_path))
    examined = side.examine(keys[0])
    assert (examined["plan"]["name"], examined["error"]) == ("torch call by call", None)
    assert np.frombuffer(side.measure(keys[0], keys[1], 2)["seconds"]).shape == (8,)
    assert np.frombuffer(side.sweep(keys[0], [keys[1]], 2, "seed")["seconds"]).shape == (8,)


# On a GPU, by a torch that stands in for it


class FakeGraph:
    def __init__(self, captures: bool) -> None:
        self.captures = captures

    def capture_begin(self, capture_error_mode: str) -> None:
        pass

    def capture_end(self) -> None:
        if not self.captures:
            raise RuntimeError("operation failed due to a previous error during capture")

    def replay(self) -> None:
        pass


def fake_torch(captures: bool) -> Any:
    event = SimpleNamespace(record=lambda stream: None, synchronize=lambda: None, elapsed_time=lambda end: 3.0)
    cuda = SimpleNamespace(
        Event=lambda enable_timing: event,
        CUDAGraph=lambda: FakeGraph(captures),
        synchronize=lambda: None,
        _sleep=lambda cycles: None,
        OutOfMemoryError=MemoryError,
        current_device=lambda: 0,
        default_generators=[FakeGenerator("cuda:0")],
    )
    return SimpleNamespace(cuda=cuda, Generator=FakeGenerator)


class FakeGenerator:
    def __init__(self, device: str) -> None:
        self.device = device
        self.state = object()

    def graphsafe_get_state(self) -> object:
        return self.state

    def graphsafe_set_state(self, state: object) -> None:
        self.state = state


@pytest.mark.parametrize(("captures", "way", "calls"), [(True, GRAPHED, 2), (False, ONE_BY_ONE, 2)])
def test_what_can_t_be_captured_is_timed_call_by_call(captures: bool, way: str, calls: int) -> None:
    made: list[int] = []
    torch = fake_torch(captures)
    held = torch.cuda.default_generators[0].state
    prepared = GpuNetwork(torch, None, lambda: made.append(1), 64, nullcontext)
    # A capture that failed holds torch's random numbers: whoever draws next needs a state of its own.
    assert (torch.cuda.default_generators[0].state is held) == captures
    assert (prepared.way, str(prepared.plan()), prepared.bytes) == (way, f"torch {way}", 64)
    made.clear()
    assert prepared.run(2) == pytest.approx(3e-3)
    assert len(made) == calls  # Captured anew for two calls, or called twice.
