"""What follows the convolutions of a model: found in a graph, in torch modules, and in ONNX files."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from neverslower.errors import NeverSlowerError
from neverslower.models import onnx_graph, reading, torch_module
from neverslower.models.epilogues import Graph, Kind, Operation
from neverslower.models.words import Input, ModelName
from neverslower.option_table import OPTIONS
from neverslower.options import plan
from neverslower.problem.convolution import parse_descriptor
from selftests.conftest import SuiteRunner

CONV, BIASED, NORM, ADD = Kind.CONVOLUTION, Kind.BIASED_CONVOLUTION, Kind.NORMALISATION, Kind.ADD
Written = tuple[Kind, str, str]

pytestmark = pytest.mark.usefixtures("models_here")


def followed(*operations: Written, returned: str = "") -> dict[str, str]:
    """What follows each convolution of a graph that is written as (kind, what it reads, what it makes)."""
    made = [Operation(kind, tuple(reads.split()), (makes,)) for kind, reads, makes in operations]
    graph = Graph(made, [returned or made[-1].makes[0]])
    return {one.makes[0]: str(graph.epilogue(one)) for one in made if one.kind in (CONV, BIASED)}


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([(CONV, "x", "c")], ""),
        ([(BIASED, "x", "c")], "bias"),
        ([(CONV, "x", "c"), (NORM, "c", "n")], "bias"),
        ([(BIASED, "x", "c"), (NORM, "c", "n"), (Kind.RELU, "n", "r")], "bias+relu"),
        ([(CONV, "x", "c"), (Kind.SILU, "c", "s")], "swish:1"),
        ([(CONV, "x", "c"), (ADD, "c x", "a"), (Kind.RELU, "a", "r")], "sum+relu"),
        ([(CONV, "x", "c"), (NORM, "c", "n"), (ADD, "x n", "a"), (Kind.RELU, "a", "r")], "bias+sum+relu"),
        ([(CONV, "x", "c"), (Kind.SIGMOID, "c", "g"), (Kind.PRODUCT, "c g", "p")], "swish:1"),
        ([(CONV, "x", "c"), (Kind.SIGMOID, "c", "g"), (Kind.PRODUCT, "x g", "p")], ""),
        ([(CONV, "x", "c"), (Kind.SIGMOID, "c", "g"), (Kind.PRODUCT, "g c", "p"), (ADD, "p g", "a")], ""),
        ([(CONV, "x", "c"), (Kind.RELU, "c", "r"), (ADD, "r x", "a")], "relu"),
        ([(CONV, "x", "c"), (Kind.OTHER, "c", "o"), (Kind.RELU, "o", "r")], ""),
        ([(CONV, "x", "c"), (Kind.RELU, "c", "r"), (ADD, "r c", "a")], ""),
        ([(CONV, "x", "c"), (ADD, "c c", "a")], ""),
    ],
)
def test_what_follows_is_taken_in_order_where_nothing_else_reads_it(operations: list[Written], expected: str) -> None:
    assert followed(*operations) == {"c": expected}


def test_what_a_model_returns_must_be_kept_and_goes_into_no_other_call() -> None:
    operations = [(CONV, "x", "c"), (Kind.RELU, "c", "r")]
    assert followed(*operations, returned="c") == {"c": ""}


def test_where_two_convolutions_meet_in_a_sum_the_later_one_adds_the_other() -> None:
    body, shortcut = [(CONV, "x", "c"), (NORM, "c", "n")], [(CONV, "x", "d"), (NORM, "d", "m")]
    end = [(ADD, "n m", "a"), (Kind.RELU, "a", "r")]
    assert followed(*body, *shortcut, *end) == {"c": "bias", "d": "bias+sum+relu"}
    assert followed(*shortcut, *body, *end) == {"c": "bias+sum+relu", "d": "bias"}


NET = """
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inplace):
            super().__init__()
            self.conv1 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(8)
            self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(8)
            self.relu = nn.ReLU(inplace)

        def forward(self, x):
            y = self.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            y += x
            return self.relu(y)

    class Net(nn.Module):
        def __init__(self, inplace=True):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.block = Block(inplace)
            self.gated = nn.Sequential(nn.Conv2d(8, 8, 1), nn.SiLU(inplace))
            self.plain = nn.Conv2d(8, 8, 1, bias=False)
            self.capped = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU6())
            self.scaled = nn.Conv2d(8, 8, 1)
            self.read_twice = nn.Conv2d(8, 8, 1)

        def forward(self, x):
            x = self.capped(self.plain(self.gated(self.block(self.stem(x)))))
            x = torch.add(self.scaled(x), x, alpha=2)
            y = self.read_twice(x)
            return torch.relu(y) - y

    class Branching(Net):
        def forward(self, x):
            return super().forward(x if x.sum().item() > 0 else 2 * x)

    def build(): return Net()
    def kept(): return Net(inplace=False)
    def branching(): return Branching()
"""
EXPECTED = {
    "stem": "bias",
    "block.conv1": "bias+relu",
    "block.conv2": "bias+sum+relu",
    "gated.0": "bias+swish:1",
    "plain": "",
    "capped.0": "bias",
    "scaled": "bias",
    "read_twice": "bias",
}
SHAPE = "1x3x16x16"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("net") / "net.py"
    path.write_text(textwrap.dedent(NET), encoding="utf-8")
    return path


@pytest.mark.parametrize("attribute", ["build", "kept"])
def test_a_module_s_convolutions_carry_what_follows_them(net: Path, attribute: str) -> None:
    found = torch_module.find(ModelName.parse(f"{net}:{attribute}"), [Input.parse(SHAPE)])
    assert {layer["place"]: layer["epilogue"] for layer in found.layers} == EXPECTED


@pytest.mark.filterwarnings("ignore")  # torch uses what torch deprecates.
def test_a_graph_of_core_operators_alone_says_the_same(net: Path) -> None:
    import torch

    model = torch_module.load(ModelName.parse(f"{net}:build"))().eval()
    program = torch.export.export(model, (torch.zeros(1, 3, 16, 16),)).run_decompositions()
    graph, operations = torch_module._graph(program.graph.nodes)
    kinds = (CONV, BIASED)
    found = [str(graph.epilogue(one)) for one in operations.values() if one.kind in kinds]
    assert found == list(EXPECTED.values())


def test_convolutions_are_plain_unless_fused_is_asked_for(net: Path) -> None:
    options = {"model": [f"{net}:build"], "input": [SHAPE]}
    (plain,) = reading.models(options)
    assert {str(layer.problem.epilogue) for layer in plain.layers} == {""}
    (fused,) = reading.models(options | {"fused": True})
    assert {layer.place: str(layer.problem.epilogue) for layer in fused.layers} == EXPECTED
    assert fused.layers[0].options == [*plain.layers[0].options[:4], "--fused", *plain.layers[0].options[4:]]


def test_a_real_run_does_not_show_what_follows_and_that_is_said(net: Path) -> None:
    (model,) = reading.models({"model": [f"{net}:branching"], "input": [SHAPE], "fused": True})
    assert {str(layer.problem.epilogue) for layer in model.layers} == {""}
    assert (
        "--fused: a run on the CPU does not show what follows a convolution; they are measured alone" in model.remarks
    )


@pytest.mark.parametrize(("original", "part"), [("build", "branching"), ("branching", "build")])
def test_where_one_model_of_a_pair_does_not_show_what_follows_neither_is_fused(
    net: Path, original: str, part: str
) -> None:
    values = {option.key: option.default for option in OPTIONS} | {"backend": ["scripted"], "fused": True}
    values |= {"input": [SHAPE], "model": [f"{net}:{original}"], "pruned": f"small={net}:{part}"}
    selection = plan(values).selections["scripted"]
    assert selection.pairing is not None
    assert len(selection.pairing.pairs) == len(EXPECTED)
    assert not selection.pairing.unpaired
    unread, known = ("small", "net") if part == "branching" else ("net", "small")
    said = (
        f"{known}: --fused: it is not known what follows the convolutions of {unread}, so these are measured alone too"
    )
    assert said in selection.notes([])
    assert sum("--fused" in line for line in selection.notes([])) == 2
    for model in (*selection.models, selection.pruned):
        assert model is not None
        assert {str(layer.problem.epilogue) for layer in model.layers} == {""}


def test_fused_without_a_model_is_a_mistake() -> None:
    with pytest.raises(
        NeverSlowerError, match="name the model with --model or --onnx, or say what follows with --post"
    ):
        reading.models({"fused": True})


@pytest.mark.filterwarnings("ignore")  # torch uses what torch deprecates.
def test_an_onnx_file_says_the_same(net: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    path = tmp_path / "net.onnx"
    model = torch_module.load(ModelName.parse(f"{net}:build"))().eval()
    for name, values in model.named_buffers():
        if name.endswith("running_mean"):
            values.fill_(0.5)  # The exporter folds a normalisation, and writes no bias where it would be zero.
    torch.onnx.export(model, (torch.zeros(1, 3, 16, 16),), str(path), external_data=False, verbose=False)
    found = onnx_graph.find(path, ())
    assert {layer["place"]: layer["epilogue"] for layer in found.layers} == EXPECTED


def onnx_file(folder: Path, nodes: list[Any], opset: int = 17) -> Path:
    """A file of these nodes between x and y, with weights w of 8 filters over 8 channels and a bias b."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shapes = {"w": [8, 8, 1, 1], "b": [8], "mean": [8], "channels": [8, 1, 1]}
    weights = [
        helper.make_tensor(name, kind, shape, bytes(256 if name == "w" else 32), raw=True)
        for name, shape in shapes.items()
    ]
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, [1, 8, 4, 4])],
        [helper.make_tensor_value_info("y", kind, None)],
        initializer=weights,
    )
    path = folder / "net.onnx"
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), str(path))
    return path


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([("Conv", "x w", "c"), ("BatchNormalization", "c b b mean mean", "n"), ("Relu", "n", "y")], "bias+relu"),
        ([("Conv", "x w b", "c"), ("Add", "x c", "a"), ("Relu", "a", "y")], "bias+sum+relu"),
        ([("Conv", "x w", "c"), ("Add", "c channels", "y")], ""),
        ([("Conv", "x w", "c"), ("Sigmoid", "c", "g"), ("Mul", "c g", "y")], "swish:1"),
        ([("Conv", "x w", "c"), ("Clip", "c", "y")], ""),
    ],
)
def test_nodes_of_onnx_are_followed(nodes: list[tuple[str, str, str]], expected: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    made = [onnx.helper.make_node(kind, reads.split(), [makes]) for kind, reads, makes in nodes]
    (layer,) = onnx_graph.find(onnx_file(tmp_path, made), ()).layers
    assert layer["epilogue"] == expected


def test_a_run_measures_what_follows(runner: SuiteRunner, net: Path) -> None:
    slow = {"when": "post_ops == 'sum+relu' and out_channels == 7", "times": 2.0}
    chosen = ("--model", f"{net}:build", "--input", SHAPE, "--layer", "block.conv2", "--strict-verdicts")
    result = runner.run({"rules": [slow]}, *chosen, "--fused", problem="")
    result.stdout.fnmatch_lines(
        ["*net.block.conv2 on scripted, 7 of 8*", "*again*-bias+sum+relu-out7*--fused --layer net.block.conv2*"]
    )
    assert runner.run({"rules": [slow]}, *chosen, problem="").ret == 0


def test_shapes_that_differ_in_what_follows_are_two_layers(net: Path) -> None:
    (model,) = reading.models({"model": [f"{net}:build"], "input": [SHAPE], "fused": True})
    shapes = {layer.place: layer.problem for layer in model.layers}
    assert shapes["block.conv1"] != shapes["block.conv2"]
    assert shapes["block.conv1"].descriptor == shapes["block.conv2"].descriptor
    assert shapes["block.conv1"].descriptor == parse_descriptor("mb1_ic8oc8_ih16kh3ph1").descriptor
