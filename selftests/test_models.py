"""A user's own models: read from Python and from ONNX, by the names of their modules, and what goes wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from neverslower import cli
from neverslower.errors import NeverSlowerError
from neverslower.models import child, onnx_graph, reading, torch_module
from neverslower.models.found import Found, same_padding
from neverslower.models.words import Input, ModelName
from neverslower.problem.convolution import ConvProblem, parse_descriptor
from neverslower.problem.model import LeftOut, Model
from neverslower.problem.networks import Layer
from selftests.conftest import ROOT, SuiteRunner
from selftests.support import needs_proc

IMAGE = Input((1, 3, 16, 16))
NET = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.blocks = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
            self.grouped = nn.Conv2d(8, 16, 3, padding="same", groups=4, dilation=2)
            self.even = nn.Conv2d(16, 16, 2, padding="same", stride=1)
            self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
            self.head = nn.Linear(8, 10)

        def forward(self, x):
            x = self.even(self.grouped(self.blocks(self.stem(x))))
            return self.head(self.up(x).mean((2, 3)))

    class Branching(Net):
        def forward(self, x):
            y = self.stem(x)
            return super().forward(x if y.sum().item() > 0 else 2 * x)

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.line = nn.Conv1d(4, 6, 3, stride=2, padding=1)
            self.cube = nn.Conv3d(6, 5, 2)

        def forward(self, x):
            return self.cube(self.line(x).reshape(1, 6, 2, 2, 4))

    class Bytes(nn.Module):
        def __init__(self):
            super().__init__()
            quantized = torch.ao.nn.quantized
            self.first = nn.Conv2d(3, 8, 3, padding=1)
            self.quant = quantized.Quantize(0.1, 0, torch.quint8)
            self.conv = quantized.Conv2d(8, 4, 3, padding=1)
            self.dequant = quantized.DeQuantize()

        def forward(self, x):
            return self.dequant(self.conv(self.quant(self.first(x))))

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)

        def forward(self, x):
            return self.conv(self.conv(x))

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.lines = nn.Conv2d(3, 4, 1), nn.LSTM(16, 2)

        def forward(self, x):
            x = self.conv(x)
            return self.lines(x[0])[0], self.lines(x[0] + 1), torch.einsum("bchw,bcwk->bchk", x, x)

    ready = Branching()
    def build(): return Net()
    def branching(): return Branching()
    def needs(width, depth=3): return Net()
    def number(): return 3
    def scripted(): return torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3)))
    def on_gpu(): raise RuntimeError("Found no NVIDIA driver on your system.")
    def fails(): raise ValueError("no such thing")
    class Meta(Net):
        def __init__(self):
            super().__init__()
            self.rate = torch.linspace(0, 1, 3)[1].item()
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(textwrap.dedent(NET), encoding="utf-8")
    return path


def found_in(path: Path, attribute: str, *inputs: Input) -> Found:
    return torch_module.find(ModelName.parse(f"{path}:{attribute}"), inputs or (IMAGE,))


def problems(found: Found) -> dict[str, ConvProblem]:
    layers = [reading._layer("net", dict(record), ()) for record in found.layers]
    return {layer.place: layer.problem for layer in layers}


EXPECTED = {
    "stem": "mb1_ic3oc8_ih16kh3ph1",
    "blocks.0": "mb1_ic8oc8_ih16kh3ph1",
    "blocks.2": "mb1_ic8oc8_ih16kh3ph1",
    "grouped": "mb1_g4ic8oc16_ih16kh3dh1ph2",
    "even": "mb1_ic16oc16_ih16oh16kh2ph0",
}


@pytest.mark.parametrize("attribute", ["build", "Net", "Meta"])
def test_convolutions_have_their_modules_names_and_shapes(net: Path, attribute: str) -> None:
    found = found_in(net, attribute)
    assert problems(found) == {place: parse_descriptor(text) for place, text in EXPECTED.items()}
    assert found.left_out == [
        {"place": "up", "what": "transposed convolution", "macs": 16 * 16 * 16 * 8 * 2 * 2},
        {"place": "head", "what": "matrix product", "macs": 80},
    ]
    assert found.remarks == []


@pytest.mark.parametrize("attribute", ["branching", "ready"])
def test_where_control_flow_depends_on_data_a_real_run_is_watched_and_that_is_said(net: Path, attribute: str) -> None:
    found = found_in(net, attribute)
    assert problems(found) == {"stem": parse_descriptor(EXPECTED["stem"])} | {
        f"{place}{'#2' if place == 'stem' else ''}": parse_descriptor(text) for place, text in EXPECTED.items()
    }
    assert [left["place"] for left in found.left_out] == ["up", "head"]
    (remark,) = found.remarks
    assert remark.startswith("found by a run on the CPU, since torch.export could not trace it")


def test_one_axis_is_a_convolution_of_height_1_and_three_are_left_out(net: Path) -> None:
    found = found_in(net, "Deep", Input((1, 4, 32)))
    assert problems(found) == {"line": parse_descriptor("mb1_ic4oc6_iw32kw3sw2pw1")}
    assert found.left_out == [{"place": "cube", "what": "3-D convolution", "macs": 1 * 1 * 3 * 5 * 6 * 8}]


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_convolution_is_left_out_with_its_work(net: Path) -> None:
    found = found_in(net, "Bytes")
    assert problems(found) == {"first": parse_descriptor("mb1_ic3oc8_ih16kh3ph1")}
    assert found.left_out == [{"place": "conv", "what": "quantised convolution", "macs": 16 * 16 * 4 * 8 * 9}]


def test_what_multiplies_and_is_not_counted_is_named_once(net: Path) -> None:
    found = found_in(net, "Mixed")
    assert list(problems(found)) == ["conv"]
    assert found.remarks == ["has lstm, whose work is not counted", "has einsum, whose work is not counted"]


def test_a_module_that_runs_twice_has_two_names(net: Path) -> None:
    assert list(problems(found_in(net, "Twice"))) == ["conv", "conv#2"]


@pytest.mark.parametrize(
    ("attribute", "inputs", "told"),
    [
        ("needs", (), r"needs needs arguments \(width\); write a function that needs none"),
        ("number", (), r"what it returned is no torch\.nn\.Module but of the type int"),
        ("fails", (), r"(?s)failed when it was called:.*net\.py.*in fails.*ValueError: no such thing"),
        ("on_gpu", (), r"(?s)the model wants a GPU, and shapes need none"),
        ("scripted", (), r"it returned TorchScript, whose modules can't be looked into; name the Python"),
        ("absent", (), r"no absent there; it has Branching, Bytes, Deep, Meta, Mixed, Net, Twice, branching"),
        ("build", (Input((16, 16)),), r"(?s)failed when it was run with --input 16x16:.*16.*--input 1x3x224x224"),
        ("build", (Input((1, 4, 16, 16)),), r"(?s)--input 1x4x16x16:.*to have 3 channels"),
        ("build", (IMAGE, IMAGE), r"(?s)--input 1x3x16x16, 1x3x16x16:.*positional argument"),
    ],
)
def test_a_users_mistake_is_told_in_their_words(net: Path, attribute: str, inputs: Any, told: str) -> None:
    with pytest.raises(NeverSlowerError, match=told) as caught:
        found_in(net, attribute, *inputs)
    assert "neverslower/models" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import absent_module\n", r"(?s)can't be imported:.*net\.py.*No module named 'absent_module'"),
        ("def build(:\n", r"(?s)can't be imported:.*net\.py.*SyntaxError"),
        ("import sys\nsys.exit(3)\n", r"(?s)can't be imported:.*SystemExit: 3"),
    ],
)
def test_a_module_that_can_t_be_imported_shows_its_own_traceback(net: Path, source: str, told: str) -> None:
    net.write_text(source, encoding="utf-8")
    with pytest.raises(NeverSlowerError, match=told) as caught:
        found_in(net, "build")
    assert "neverslower/models" not in str(caught.value)


def test_a_module_s_name_is_looked_for_and_missed() -> None:
    with pytest.raises(NeverSlowerError, match="there is no module absent_package; it is looked for where"):
        torch_module.find(ModelName.parse("absent_package.zoo:build"), (IMAGE,))


def test_a_convolution_that_fits_in_no_memory_is_named(net: Path) -> None:
    with pytest.raises(NeverSlowerError, match=r"net\.stem: .* fit in no memory"):
        problems(found_in(net, "build", Input((100000, 3, 2000, 2000))))


# What users write


@pytest.mark.parametrize(
    ("text", "name", "module", "attribute"),
    [
        ("torchvision.models:resnet18", "resnet18", "torchvision.models", "resnet18"),
        ("mine=torchvision.models:resnet18", "mine", "torchvision.models", "resnet18"),
        ("zoo:Zoo.small", "small", "zoo", "Zoo.small"),
    ],
)
def test_a_callable_is_named_by_its_module(text: str, name: str, module: str, attribute: str) -> None:
    parsed = ModelName.parse(text)
    assert (parsed.name, parsed.module, parsed.attribute, parsed.path) == (name, module, attribute, None)


def test_a_callable_in_a_file_is_named_after_the_file(net: Path) -> None:
    assert ModelName.parse(f"{net}:build") == ModelName(f"{net}:build", "net", "", "build", net)
    assert ModelName.parse(f"old={net}:build").name == "old"
    folder = net.parent / "width=2"
    folder.mkdir()
    net.rename(folder / "net.py")
    assert ModelName.parse(f"{folder}/net.py:build").name == "net"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("net.py", "name a callable, as FILE.py:CALLABLE"),
        ("net.py:", "name a callable, as FILE.py:CALLABLE"),
        (":build", "name a callable, as FILE.py:CALLABLE"),
        ("absent.py:build", "absent.py does not exist"),
        ("net/work:build", "net/work is neither a file that ends in .py nor a module's name"),
        ("weights.pt", "no pickle is ever loaded here; name the Python that builds the model"),
        ("weights.pth:model", "no pickle is ever loaded here"),
        ("a b=zoo:net", "a b=zoo is neither a file that ends in .py nor a module's name"),
    ],
)
def test_what_names_no_callable_is_refused(text: str, told: str) -> None:
    with pytest.raises(NeverSlowerError, match=told):
        ModelName.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1x3x224x224", Input((1, 3, 224, 224))),
        ("1,3,224", Input((1, 3, 224))),
        ("ids=1x77:int64", Input((1, 77), "ids", "int64")),
    ],
)
def test_a_shape_is_read(text: str, expected: Input) -> None:
    assert Input.parse(text) == expected


@pytest.mark.parametrize("text", ["", "1x", "1x-3", "0x3", "1x3:float8", "a", "1x3x99999999999"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(NeverSlowerError, match="is not a shape such as 1x3x224x224"):
        Input.parse(text)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"input": ["1x3"]}, "name the model with --model or --onnx"),
        ({"model": ["zoo:net"]}, "needs the shape of its input, such as --input 1x3x224x224"),
        ({"model": ["zoo:net", "other:net"]}, "two models are called net; name one yourself, as --model NAME="),
        ({"onnx": ["absent.onnx"]}, "absent.onnx does not exist"),
        ({"onnx": ["model.pt"]}, "no pickle is ever loaded here"),
        ({"onnx": ["."]}, "is a directory; name the .onnx file in it"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_read(values: dict[str, Any], told: str) -> None:
    with pytest.raises(NeverSlowerError, match=told):
        reading.models(values)


# Shapes


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation", "padding"),
    [(16, 3, 1, 1, (1, 1)), (16, 3, 2, 1, (0, 1)), (16, 2, 1, 1, (0, 1)), (15, 3, 2, 1, (1, 1)), (16, 1, 4, 1, (0, 0))],
)
def test_same_padding_gives_an_output_as_large_as_the_input(
    size: int, kernel: int, stride: int, dilation: int, padding: tuple[int, int]
) -> None:
    assert same_padding(size, kernel, stride, dilation) == padding
    assert same_padding(size, kernel, stride, dilation, more_first=True) == padding[::-1]
    assert (size + sum(padding) - kernel) // stride + 1 == -(-size // stride)


# What a model says of itself


def test_what_is_left_out_is_listed_with_its_share() -> None:
    layers = tuple(Layer("net", None, name, parse_descriptor("mb1_ic2oc2_ih5kh1")) for name in ("a", "b"))
    left_out = (LeftOut("up", "transposed convolution", 50), LeftOut("up2", "transposed convolution", 50))
    assert Model("net", layers, left_out, remarks=("traced",)).notes() == [
        "net: 2 convolutions, 1 distinct, 3e-07 GMACs",
        "net: traced",
        "net: left out: 2 transposed convolutions (33.3% of the MACs): up, up2",
    ]


# ONNX


onnx = pytest.importorskip("onnx")


def graph(nodes: list[Any], inputs: dict[str, list[Any]], weights: dict[str, list[int]], opset: int = 17) -> Any:
    """A model of float32; weights hold zeros."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    values = [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()]
    output = helper.make_tensor_value_info(nodes[-1].output[0], kind, None)
    numbers = [
        helper.make_tensor(name, kind, shape, bytes(4 * _count(shape)), raw=True) for name, shape in weights.items()
    ]
    made = helper.make_graph(nodes, "net", values, [output], initializer=numbers)
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("mine", 1)], ir_version=8
    )


def _count(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def saved(folder: Path, model: Any) -> Path:
    path = folder / "net.onnx"
    onnx.save(model, str(path))
    return path


def conv(name: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    return onnx.helper.make_node("Conv", inputs, [output], name=name, **attributes)


def test_convolutions_of_an_onnx_file_have_their_shapes(tmp_path: Path) -> None:
    nodes = [
        conv("/stem/stem.0/Conv", ["x", "onnx::1"], "a", pads=[0, 0, 1, 1], strides=[2, 2]),
        conv("n2", ["a", "body.conv.weight"], "b", auto_pad="SAME_UPPER", group=2),
        conv("", ["b", "w3"], "c", auto_pad="SAME_LOWER", dilations=[2, 2]),
        onnx.helper.make_node("ConvTranspose", ["c", "w4"], ["d"], name="up", strides=[2, 2]),
    ]
    weights = {"onnx::1": [8, 3, 3, 3], "body.conv.weight": [8, 4, 2, 2], "w3": [4, 8, 3, 3], "w4": [4, 6, 2, 2]}
    found = onnx_graph.find(saved(tmp_path, graph(nodes, {"x": [1, 3, 16, 16]}, weights)), ())
    assert problems(found) == {
        "stem.0": parse_descriptor("mb1_ic3oc8_ih16oh8kh3sh2ph0"),
        "body.conv": parse_descriptor("mb1_g2ic8oc8_ih8oh8kh2ph0"),
        "Conv_2": parse_descriptor("mb1_ic8oc4_ih8kh3dh1ph2"),
    }
    assert found.left_out == [{"place": "up", "what": "transposed convolution", "macs": 4 * 8 * 8 * 6 * 4}]


def test_a_shape_that_onnx_can_not_infer_is_not_blamed_on_the_input(tmp_path: Path) -> None:
    nodes = [onnx.helper.make_node("Reshape", ["x", "computed"], ["r"]), conv("c", ["r", "w"], "y")]
    nodes.insert(0, onnx.helper.make_node("Cast", ["numbers"], ["computed"], to=onnx.TensorProto.INT64))
    path = saved(tmp_path, graph(nodes, {"x": [1, 3, 9, 9], "numbers": [4]}, {"w": [8, 3, 3, 3]}))
    with pytest.raises(NeverSlowerError, match=r"c's input r is unknown; onnx can't infer it, .* dynamo=True"):
        onnx_graph.find(path, ())


def test_dynamic_axes_are_bound_by_input_and_external_weights_may_be_absent(tmp_path: Path) -> None:
    model = graph([conv("c", ["x", "w"], "y", pads=[1] * 4)], {"x": ["batch", 3, "h", "w"]}, {"w": [8, 3, 3, 3]})
    path = tmp_path / "net.onnx"
    onnx.save_model(model, str(path), save_as_external_data=True, location="weights", size_threshold=0)
    (tmp_path / "weights").unlink()
    for given in (Input((2, 3, 9, 7)), Input((2, 3, 9, 7), "x")):
        found = onnx_graph.find(path, (given,))
        assert problems(found) == {"c": parse_descriptor("mb2_ic3oc8_ih9kh3ph1_iw7kw3pw1")}
    with pytest.raises(NeverSlowerError, match=r"bind its dynamic axes with --input NAME=SHAPE \(x batchx3xhxw\)"):
        onnx_graph.find(path, ())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (Input((1, 3, 9)), "is of rank 3; .* takes x batchx3x9x9"),
        (Input((1, 4, 9, 9)), "contradicts the file's fixed shape"),
        (Input((1, 3, 9, 9), "z"), "has no such input; it has x batchx3x9x9"),
    ],
)
def test_an_input_that_does_not_fit_names_what_the_file_takes(tmp_path: Path, given: Input, told: str) -> None:
    model = graph([conv("c", ["x", "w"], "y")], {"x": ["batch", 3, 9, 9]}, {"w": [8, 3, 3, 3]})
    with pytest.raises(NeverSlowerError, match=told):
        onnx_graph.find(saved(tmp_path, model), (given,))


def test_a_damaged_onnx_file_is_one_clear_line(tmp_path: Path) -> None:
    path = saved(tmp_path, graph([conv("c", ["x", "w"], "y")], {"x": [1, 3, 9, 9]}, {"w": [8, 3, 3, 3]}))
    whole = path.read_bytes()
    for text, told in ((whole[:-100], "not a whole ONNX file"), (b"", "empty"), (b"PK\x03\x04" + whole, "a pickle")):
        path.write_bytes(text)
        with pytest.raises(NeverSlowerError, match=told):
            onnx_graph.find(path, ())


def test_an_opset_of_the_future_is_named_with_the_newest_known(tmp_path: Path) -> None:
    model = graph([conv("c", ["x", "w"], "y")], {"x": [1, 3, 9, 9]}, {"w": [8, 3, 3, 3]}, opset=99)
    with pytest.raises(NeverSlowerError, match="opset 99 is newer than"):
        onnx_graph.find(saved(tmp_path, model), ())


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 21])
def test_old_and_new_opsets_are_read(tmp_path: Path, opset: int) -> None:
    model = graph([conv("c", ["x", "w"], "y")], {"x": [1, 3, 9, 9]}, {"w": [8, 3, 3, 3]}, opset=opset)
    assert list(problems(onnx_graph.find(saved(tmp_path, model), ())).values()) == [
        parse_descriptor("mb1_ic3oc8_ih9kh3")
    ]


def test_custom_operators_are_named_where_they_hide_a_shape_and_where_not(tmp_path: Path) -> None:
    own = onnx.helper.make_node("Own", ["x"], ["h"], domain="mine")
    hidden = graph([own, conv("c", ["h", "w"], "y")], {"x": [1, 3, 9, 9]}, {"w": [8, 3, 3, 3]})
    with pytest.raises(NeverSlowerError, match=r"custom operators hide it \(mine::Own\)"):
        onnx_graph.find(saved(tmp_path, hidden), ())
    last = onnx.helper.make_node("Own", ["y"], ["z"], domain="mine")
    found = onnx_graph.find(
        saved(tmp_path, graph([conv("c", ["x", "w"], "y"), last], {"x": [1, 3, 9, 9]}, {"w": [8, 3, 3, 3]})), ()
    )
    assert found.remarks == ["has custom operators, whose work is not counted: mine::Own"]


def test_quantised_convolutions_are_left_out(tmp_path: Path) -> None:
    helper = onnx.helper
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["w"]),
        conv("c", ["x", "w"], "y"),
        conv("d", ["y", "v"], "z"),
    ]
    model = graph(nodes, {"x": [1, 3, 9, 9]}, {"scale": [], "v": [4, 8, 1, 1]})
    model.graph.initializer.append(helper.make_tensor("q", onnx.TensorProto.INT8, [8, 3, 3, 3], bytes(216), raw=True))
    found = onnx_graph.find(saved(tmp_path, model), ())
    assert list(problems(found).values()) == [parse_descriptor("mb1_ic8oc4_ih7kh1")]
    assert [(left["what"], left["macs"]) for left in found.left_out] == [("quantised convolution", 49 * 8 * 27)]


# Listed


def test_a_model_s_layers_are_listed_with_their_work_and_with_what_is_left_out(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["layers", "--model", f"{net}:build", "--input", "1x3x16x16"]) == 0
    counted, *_, up, head = capsys.readouterr().out.splitlines()
    assert counted.startswith("net: 5 convolutions, 4 distinct, ")
    assert re.fullmatch(r"left out: up: transposed convolution, \d+\.\d\d MMACs", up)
    assert re.fullmatch(r"left out: head: matrix product, \d+\.\d\d MMACs", head)


def test_the_layers_of_several_files_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.txt"
    path.write_text('mb1_ic4oc16_ih6kh3ph1n"first"\n', encoding="utf-8")
    assert cli.main(["layers", "alexnet", "--problems", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"alexnet\.L0 +mb1_\S+ +[\d.]+ MMACs +alexnet\.L0 features\.0", lines[0])
    assert re.fullmatch(r"first +mb1_\S+ +0\.02 MMACs +first", lines[-1])
    assert cli.main(["layers", "--input", "1x3x16x16"]) == 2


# In a run


def test_a_run_measures_a_model_s_layers_by_their_names(runner: SuiteRunner, models_here: None, net: Path) -> None:
    chosen = ("--model", f"{net}:build", "--input", "1x3x16x16", "--layer", "blocks.*", "--keep", "blocks.0=6,4")
    files = ("--junitxml", "junit.xml", "--benchmark-json", "times.json", "--journal", "run.jsonl")
    result = runner.run({}, *chosen, *files, problem="")
    result.stdout.fnmatch_lines(
        [
            "net: 5 convolutions, 4 distinct, *",
            "net: left out: 1 transposed convolution (*% of the MACs): up",
            "net: left out: 1 matrix product (*% of the MACs): head",
        ]
    )
    cases = ElementTree.parse(runner.path / "junit.xml").getroot().iter("testcase")
    properties = {
        case.get("name", ""): {one.get("name"): one.get("value") for one in case.iter("property")} for case in cases
    }
    case = properties["test_never_slower[scripted-net.blocks.0-float32-NCHW-out6]"]
    assert (case["layer"], case["places"]) == ("net.blocks.0", "net.blocks.0, net.blocks.2")
    assert len([name for name in properties if name.startswith("test_never_slower")]) == 2
    stored = json.loads((runner.path / "times.json").read_text(encoding="utf-8"))["benchmarks"]
    assert {benchmark["group"] for benchmark in stored} == {"net.blocks.0"}
    lines = (runner.path / "run.jsonl").read_text(encoding="utf-8").splitlines()
    (event,) = (event for event in map(json.loads, lines) if event["event"] == "model")
    assert (
        event["layers"]["net.blocks.2"] == event["layers"]["net.blocks.0"] == parse_descriptor(EXPECTED["blocks.0"]).key
    )
    assert [left["place"] for left in event["left_out"]] == ["up", "head"]


def test_a_model_that_can_t_be_read_ends_the_run_before_anything_is_measured(runner: SuiteRunner, net: Path) -> None:
    result = runner.run({}, "--model", f"{net}:fails", "--input", "1x3x16x16", problem="")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --model *net.py:fails failed when it was called:", "*ValueError: no such thing"]
    )


def test_a_model_that_ends_the_child_is_told(runner: SuiteRunner, net: Path) -> None:
    net.write_text("import os\nos.kill(os.getpid(), 11)\n", encoding="utf-8")
    result = runner.run({}, "--model", f"{net}:build", "--input", "1x3x16x16", problem="")
    result.stderr.fnmatch_lines(["ERROR: *the process that read it ended by signal 11: *"])


@needs_proc
def test_reading_an_onnx_file_takes_little_memory_beyond_twice_its_size(tmp_path: Path) -> None:
    code = (
        "import re, sys; from neverslower.models import child; child.main(sys.argv[1:]); "
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])"
    )

    def peak(path: Path) -> int:
        words = [sys.executable, "-c", code, str(tmp_path / "answer"), child.LAYERS, "--onnx", str(path)]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
        assert '"place"' in (tmp_path / "answer").read_text(encoding="utf-8")
        return int(done.stdout) * 1024

    names = ["x", *(f"h{index}" for index in range(8))]
    nodes = [conv(f"c{index}", [names[index], f"w{index}"], names[index + 1], pads=[1] * 4) for index in range(8)]
    large = saved(tmp_path, graph(nodes, {"x": [1, 384, 8, 8]}, {f"w{index}": [384, 384, 3, 3] for index in range(8)}))
    assert peak(large) < 2.5 * large.stat().st_size + 100e6
    outside = tmp_path / "outside.onnx"
    onnx.save_model(onnx.load(str(large)), str(outside), save_as_external_data=True, location="weights")
    (tmp_path / "weights").unlink()
    assert peak(outside) < 300e6


def test_what_is_slower_with_both_sides_pruned_names_both_and_is_measured_again(runner: SuiteRunner) -> None:
    script = {"rules": [{"when": "out_channels == 29 and in_channels == 15", "times": 2.0}]}
    chosen = ("--side", "together", "--strict-verdicts", "tests/test_never_slower.py")
    result = runner.run(script, *chosen, problem="mb1_ic16oc32_ih6kh3ph1")
    result.stdout.fnmatch_lines(
        [
            "*on scripted, 29 of 32 output and 15 of 16 input channels (distance 3)",
            "  unpruned  32 output and 16 input channels: *",
            "  pruned    29 output and 15 input channels: *",
            "  again     pytest *-together29]'* --problem mb1_ic16oc32_ih6kh3ph1 *--side together*",
            "  1.9*×*  29 of 32 output and 15 of 16 input channels  scripted-*-together29",
        ]
    )
    name = "tests/test_never_slower.py::test_never_slower[scripted-mb1_ic16oc32_ih6kh3ph1-float32-NCHW-together29]"
    again = runner.run(script, *chosen[:3], name, problem="mb1_ic16oc32_ih6kh3ph1")
    assert again.ret == 1
    again.stdout.fnmatch_lines(["*1 failed*"])
