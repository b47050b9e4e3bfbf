"""A pruned model against its original: what --pruned reads and refuses, how layers are paired, and whole runs."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from neverslower.baseline.entry import Entry, Known
from neverslower.baseline.scope import Scope
from neverslower.campaign.campaign import Campaign
from neverslower.campaign.settings import Settings
from neverslower.errors import NeverSlowerError
from neverslower.evidence.observation import Plan
from neverslower.judge.verdict import Code
from neverslower.option_table import OPTIONS
from neverslower.options import plan
from neverslower.problem.comparison import Comparison
from neverslower.problem.convolution import DType, Layout, Side
from neverslower.problem.model import Model
from neverslower.problem.networks import Layer
from neverslower.problem.selection import Selection
from neverslower.report import pairs
from neverslower.run_plan import RunPlan
from selftests import in_process
from selftests.conftest import SuiteRunner
from selftests.support import ROOT, problem, scripted

pytestmark = pytest.mark.usefixtures("models_here")

NET = """
    from torch import nn

    def build():
        return nn.Sequential(nn.Conv2d(3, {0}, 3, padding=1), nn.ReLU(), nn.Conv2d({0}, {1}, 3, padding=1))
"""


def written(folder: Path, name: str, *channels: int) -> str:
    """The name of a callable that builds a network of two layers with these channels."""
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(NET).format(*channels), encoding="utf-8")
    return f"{path}:build"


def planned(**values: Any) -> RunPlan:
    """The plan of some options, the others as they are by default."""
    defaults = {option.key: option.default for option in OPTIONS}
    return plan(defaults | {"backend": ["scripted"], "input": ["1x3x8x8"]} | values)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("original"), "original", 8, 16)


# What --pruned reads


def test_the_pruned_model_is_read_as_the_original_is(tmp_path: Path, original: str) -> None:
    texts = original, written(tmp_path, "pruned", 7, 14)
    selection = planned(model=[texts[0]], pruned=texts[1]).selections["scripted"]
    assert selection.pruned is not None
    assert [layer.name for layer in selection.pruned.layers] == ["pruned.0", "pruned.2"]
    assert [layer.problem.out_channels for layer in selection.pruned.layers] == [7, 14]
    assert selection.pruned.source == ("--pruned", texts[1], "--input", "1x3x8x8")


def test_two_callables_of_one_file_have_two_names(original: str) -> None:
    text = original
    selection = planned(model=[text], pruned=text).selections["scripted"]
    assert selection.pruned is not None
    assert (selection.models[0].name, selection.pruned.name) == ("original", "original-pruned")
    named = planned(model=[text], pruned=f"small={text}").selections["scripted"].pruned
    assert named is not None
    assert named.name == "small"


def exported(folder: Path, name: str, channels: int) -> str:
    """An ONNX file with one convolution of 3 to so many channels."""
    onnx = pytest.importorskip("onnx")
    kind, zeros = onnx.TensorProto.FLOAT, bytes(4 * channels * 3)
    weights = onnx.helper.make_tensor("w", kind, [channels, 3, 1, 1], zeros, raw=True)
    ends = [onnx.helper.make_tensor_value_info(end, kind, shape) for end, shape in (("x", [1, 3, 8, 8]), ("y", None))]
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="/0/Conv")
    graph = onnx.helper.make_graph([node], name, ends[:1], ends[1:], initializer=[weights])
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), str(folder / f"{name}.onnx"))
    return str(folder / f"{name}.onnx")


@pytest.mark.parametrize("form", ["", "small="])
def test_an_onnx_file_is_a_pruned_model_too(tmp_path: Path, form: str) -> None:
    texts = exported(tmp_path, "original", 8), form + exported(tmp_path, "pruned", 7)
    selection = planned(onnx=[texts[0]], pruned=texts[1], input=[]).selections["scripted"]
    assert selection.pairing is not None
    (pair,) = selection.pairing.pairs
    assert pair.pruned.name == ("small.0" if form else "pruned.0")
    assert pair.original.options == ["--onnx", texts[0], "--pruned", texts[1], "--layer", "original.0"]


def test_a_damaged_onnx_file_is_the_pruned_model_s(tmp_path: Path, original: str) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "pruned.onnx").write_bytes(b"no model")
    with pytest.raises(NeverSlowerError, match=r"^--pruned \S+pruned\.onnx: not "):
        planned(model=[original], pruned=str(tmp_path / "pruned.onnx"))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"input": []}, r"^--pruned \S+ needs the shape of its input, such as --input 1x3x224x224$"),
        ({"model": [], "input": []}, "needs its one original: name that with --model or --onnx$"),
        ({"model": ["a:b", "c:d"]}, "needs its one original: .*; a:b and c:d are 2$"),
        ({"keep": ["4"]}, "the pruned model says which channels are left; leave out --keep"),
        ({"side": "both"}, "the pruned model says which channels are left; leave out --side"),
        ({"network": ["vgg16"]}, "such a run compares these two models alone; leave out --network"),
        ({"problem": ["mb1_ic8oc8_ih8kh1"]}, "such a run compares these two models alone; leave out --problem"),
        ({"problems": ["shapes.txt"]}, "such a run compares these two models alone; leave out --problems"),
        ({"pruned": "absent.py:build"}, r"--pruned absent\.py:build: absent\.py does not exist"),
        ({"pruned": "absent.onnx"}, r"--pruned absent\.onnx does not exist"),
        ({"pruned": "weights.pt"}, r"--pruned weights\.pt: \.pt files hold pickles"),
        ({"pruned": "build"}, "--pruned build: name a callable, as FILE.py:CALLABLE"),
    ],
)
def test_a_pruned_model_that_can_t_be_compared_is_refused(tmp_path: Path, values: dict[str, Any], told: str) -> None:
    pruned = written(tmp_path, "pruned", 7, 14)
    with pytest.raises(NeverSlowerError, match=told):
        planned(**{"model": ["absent.package:original"], "pruned": pruned} | values)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import absent_module\n", r"(?s)^--pruned \S+:build can't be imported:.*No module named 'absent_module'"),
        ("def build(): raise ValueError('half done')\n", r"(?s)^--pruned \S+:build failed when.*in build.*half done"),
        ("def build(width): return None\n", r"^--pruned \S+:build: build needs arguments \(width\)"),
        ("import torch\ndef build(): return torch.nn.Linear(8, 4)\n", r"^--pruned \S+:build: no 2-D convolution in it"),
    ],
)
def test_what_is_wrong_with_the_pruned_model_is_said_of_it(
    tmp_path: Path, original: str, source: str, told: str
) -> None:
    (tmp_path / "pruned.py").write_text(source, encoding="utf-8")
    with pytest.raises(NeverSlowerError, match=told):
        planned(model=[original], pruned=f"{tmp_path / 'pruned.py'}:build")


def test_the_guide_shows_what_its_example_prints() -> None:
    examples = ROOT / "docs" / "examples"
    texts = [f"{examples / name}.py:build" for name in ("original", "pruned")]
    pairing = planned(model=texts[:1], pruned=texts[1], input=["1x3x56x56"]).selections["scripted"].pairing
    assert pairing is not None
    guide = (ROOT / "docs" / "howto" / "models.md").read_text(encoding="utf-8")
    assert "\n".join(pairs.lines(pairing)) in guide


# In a run


BLOCKS = """
    from torch import nn

    class Net(nn.Module):
        def __init__(self, stem, hidden, kernel=3, last=True):
            super().__init__()
            self.stem = nn.Conv2d(3, stem, 3, padding=1)
            self.depthwise = nn.Conv2d(stem, stem, 3, padding=1, groups=stem)
            self.block = nn.Sequential(nn.Conv2d(stem, hidden, 3, padding=1), nn.Conv2d(hidden, 16, 1))
            self.tail = nn.Conv2d(16, 16, kernel, padding=kernel // 2)
            self.last = nn.Conv2d(16, 8, 1) if last else nn.Identity()
            self.head = nn.Conv2d(8 if last else 16, 8, 1)

        def forward(self, images):
            return self.head(self.last(self.tail(self.block(self.depthwise(self.stem(images))))))

    def original(): return Net(16, 16)
    def pruned(): return Net(14, 12)
    def replaced(): return Net(14, 12, kernel=1, last=False)
    def grown(): return Net(16, 20)
    def same(): return original()
    def renamed(): return nn.Sequential(nn.Conv2d(3, 16, 5))
"""
IDS = ["stem-float32-NCHW-out14", "depthwise-float32-NCHW-out14", "block.0-float32-NCHW-together12"]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zoo") / "zoo.py"
    path.write_text(textwrap.dedent(BLOCKS), encoding="utf-8")
    return path


def options(zoo: Path, pruned: str) -> list[str]:
    return ["--model", f"original={zoo}:original", "--pruned", f"{pruned}={zoo}:{pruned}", "--input", "1x3x8x8"]


def test_a_run_judges_each_pair_and_names_its_places(runner: SuiteRunner, zoo: Path) -> None:
    script = {"rules": [{"when": "out_channels == 12", "times": 2.0}]}
    words = [*options(zoo, "pruned"), "--strict-verdicts"]
    result = runner.run(script, *words, "--junitxml", "junit.xml", "--journal", "run.jsonl", problem="")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "original → pruned: 7 layers paired by name: 4 changed, 3 unchanged and not measured",
            "hazard found*: original.block.0 on scripted, 12 of 16 output and 14 of 16 input channels (distance 4)",
            "  unpruned  16 output and 16 input channels: *",
            "  pruned    12 output and 14 input channels: *",
            "  remedy    pad to 16 output and 16 input channels: 0.5*× * the time of the pruned layer",
            "  places    original.block.0",
            "  again     pytest *--pruned pruned=*zoo.py:pruned --layer original.block.0 --dtype float32 *",
            "RED: 1 × hazard found*; 1 slower (1 confirmed), 4 not slower, of 5",
            "  1.9*×*  12 of 16 output and 14 of 16 input channels  scripted-original.block.0-float32-NCHW-together12",
        ]
    )
    output = result.stdout.str()
    (again,) = {line.partition("again     pytest ")[2] for line in output.splitlines() if "  again     " in line}
    assert "--keep" not in again
    assert "--side" not in again
    cases = ElementTree.parse(runner.path / "junit.xml").getroot().iter("testcase")
    names = [case.get("name", "") for case in cases]
    for name in [*IDS, "block.1-float32-NCHW-in12"]:
        assert f"test_never_slower[scripted-original.{name}]" in names
        assert f"test_numerics[scripted-original.{name}]" in names
    lines = (runner.path / "run.jsonl").read_text(encoding="utf-8").splitlines()
    (journalled,) = [line for line in map(json.loads, lines) if line["event"] == "pairing"]
    assert journalled["pairs"][0] == {"original": "original.stem", "pruned": "pruned.stem", "by": "name"}
    once_more = runner.run(script, *shlex.split(again), problem="")
    assert once_more.ret == 1
    once_more.stdout.fnmatch_lines(["*1 failed*"])


def test_what_has_no_pair_is_listed_with_its_time(
    runner: SuiteRunner, zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(runner.path / "page.md"))
    result = runner.run({}, *options(zoo, "replaced"), problem="")
    assert result.ret == 0
    summary = result.stdout.str().partition("= never-slower =")[2]
    for name in ("original.tail", "original.last", "replaced.tail"):
        assert re.search(rf"^    {name}  [\d.]+ [mµn]?s$", summary, re.MULTILINE), name
    assert (
        "  no pair: the layers of this name differ in more than channels: kernel 3×3 → 1×1, padding 1 → 0\n" in summary
    )


def test_a_baseline_keeps_the_pairs_and_says_what_got_slower(runner: SuiteRunner, zoo: Path) -> None:
    words = options(zoo, "pruned")
    runner.run({}, "--accept-baseline", "as delivered", *words, problem="").stdout.fnmatch_lines(["accepted 8 *"])
    assert runner.run({}, "--benchmark-compare", *words, problem="").ret == 0
    slower = {"rules": [{"when": "groups == 14", "times": 1.5}]}
    result = runner.run(slower, "--benchmark-compare", *words, problem="")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["slower than the baseline: original.depthwise on scripted, 14 of 16 output channels *"]
    )


def test_a_plain_run_does_not_miss_the_pairs_that_a_baseline_holds(runner: SuiteRunner, zoo: Path) -> None:
    words = options(zoo, "pruned")
    runner.run({}, "--accept-baseline", "as delivered", *words, problem="").stdout.fnmatch_lines(["accepted 8 *"])
    result = runner.run({}, "--benchmark-compare", *words[:2], *words[4:], "tests/test_latency.py", problem="")
    assert result.ret == 0
    assert "vanished" not in result.stdout.str()


def test_a_pair_that_a_plain_run_measures_too_is_in_its_scope() -> None:
    formats = {"scripted": [(DType.FLOAT32, Layout.NCHW)]}
    layer = Layer("net", None, "x", problem(16))
    plain = Selection(models=(Model("net", (layer,)),))

    def stored(channels: int, paired: bool) -> Entry:
        keys = layer.problem.key, problem(channels).key
        known = Known(Code.SAME, None)
        return Entry("[x]", layer.name, *keys, Side.OUT, Plan("p"), (), known, paired=paired)

    scope = Scope({"scripted": plain}, formats)
    assert scope.holds("scripted", stored(15, paired=True))
    assert not scope.holds("scripted", stored(14, paired=True))
    assert scope.holds("scripted", stored(14, paired=False))
    assert scope.holds("scripted", stored(16, paired=False))


@pytest.mark.parametrize("pruned", ["same", "renamed"])
def test_where_nothing_is_pruned_no_run_is_green(runner: SuiteRunner, zoo: Path, pruned: str) -> None:
    result = runner.run({}, *options(zoo, pruned), problem="")
    assert result.ret == 6
    result.stdout.fnmatch_lines([f"CANNOT JUDGE: nothing to compare: no chosen layer of {pruned} has other channels*"])


def test_more_channels_than_the_original_are_said_and_compared(runner: SuiteRunner, zoo: Path) -> None:
    result = runner.run({"rules": [{"when": "out_channels == 20", "times": 2.0}]}, *options(zoo, "grown"), problem="")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "original → grown: more channels than the original: block.0 (20 instead of 16 output channels), *",
            "HAZARDS: 1 slower (1 confirmed), 2 not slower, of 3",
            "outputs: 2 right, of 2",
            "  2.*×*  20 instead of 16  scripted-original.block.0-float32-NCHW-out20",
        ]
    )


def test_more_channels_on_one_side_and_fewer_on_the_other_have_no_output_in_common(tmp_path: Path) -> None:
    layer = Layer("net", None, "x", problem(16, in_channels=8))
    mixed = Comparison("scripted", layer, problem(12, in_channels=10), Side.TOGETHER, paired=True)
    larger = Comparison("scripted", layer, problem(18, in_channels=10), Side.TOGETHER, paired=True)
    findings = Campaign({"scripted": scripted(tmp_path)}, Settings(), start=in_process.start).run([], [mixed, larger])
    codes = [findings.agreements[one.identity].verdict.code for one in (mixed, larger)]
    assert codes == [Code.UNSUPPORTED, Code.SAME]


@pytest.mark.processes
def test_outputs_of_the_pairs_are_right_on_onednn(runner: SuiteRunner, zoo: Path) -> None:
    words = [*options(zoo, "pruned"), "--unsound", "warn", "tests/test_numerics.py"]
    result = runner.pytester.runpytest_inprocess("--backend", "onednn", "-p", "no:cacheprovider", *words)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["GREEN: outputs: 4 right, of 4"])
