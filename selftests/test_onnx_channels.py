"""Which channels of an ONNX file have to change together, and its weights: exported from torch, and made by hand."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from neverslower import cli
from neverslower.errors import NeverSlowerError
from neverslower.models import coupling, onnx_channels, onnx_graph, onnx_layers, torch_channels, torch_module
from neverslower.models.coupling import Group
from neverslower.models.weights import weights_of
from neverslower.models.words import ModelName
from neverslower.problem.model import Model
from selftests.support import scripted
from selftests.test_coupling import IMAGE, NETS, members
from selftests.test_models import conv, graph, saved

onnx = pytest.importorskip("onnx")


# Against the graph of torch.export


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(textwrap.dedent(NETS), encoding="utf-8")
    return path


def exported(nets: Path, name: str, newest: bool) -> Path:
    """The file that one of torch's exporters writes of a network, whose weights are those of `torch_module.filters`."""
    torch = pytest.importorskip("torch")
    if newest:
        pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    path = nets.with_name(f"{name}-{newest}.onnx")
    model = torch_module.built(ModelName.parse(f"{nets}:{name}"))
    newer = {"external_data": False, "verbose": False} if newest else {}
    torch.onnx.export(model, (torch.zeros(IMAGE.shape),), str(path), dynamo=newest, **newer)
    return path


@pytest.mark.filterwarnings("ignore")  # torch uses what torch deprecates.
@pytest.mark.parametrize(
    ("name", "newest"), [("residual", False), ("mobile", False), ("dense", False), ("dense", True)]
)
def test_an_exported_network_has_the_groups_and_the_shapes_that_torch_finds(nets: Path, name: str, newest: bool):
    path, source = exported(nets, name, newest), ModelName.parse(f"{nets}:{name}")
    expected, weights = torch_channels.followed(source, [IMAGE]).groups(), torch_module.filters(source)
    groups, found = onnx_channels.followed(path, ()).groups(), onnx_layers.filters(path, ())
    free = {group.name: (group.channels, group.members) for group in expected if not group.held}
    assert {group.name: (group.channels, group.members) for group in groups if not group.held} == free
    assert {group.name: group.held for group in groups} == {group.name: group.held for group in expected}
    assert {name: one["shape"] for name, one in found.items()} == {name: one["shape"] for name, one in weights.items()}
    if name == "dense":  # Elsewhere the exporters folded each normalisation into the convolution in front of it.
        assert {group.name: group.norms for group in groups} == {group.name: group.norms for group in expected}
        for name, one in found.items():
            assert (one["norms"], one["bias"]) == (pytest.approx(weights[name]["norms"]), weights[name]["bias"])


@pytest.mark.filterwarnings("ignore")
def test_what_is_not_understood_is_held_and_named(nets: Path) -> None:
    groups = {group.name: group for group in onnx_channels.followed(exported(nets, "odd", False), ()).groups()}
    assert {name: group.held for name, group in groups.items()} == {
        "a": "it is read by Slice /Slice",
        "a.in": "it reads the model's input",
        "b": "Mul /Mul combines it with a constant",
        "b.in": "it reads what Slice /Slice makes",
        "c": "d is a grouped convolution",
        "d": "d is a grouped convolution",
        "e": "",
        "f": "",
        "g": "it is read by Softmax /Softmax",
    }
    assert groups["f"].unpaddable == "norm normalises over the channels, so that zeros would change its result"


# By hand


def node(operator: str, reads: str, makes: str, **attributes: Any) -> Any:
    """A node of tensors whose names are given in one text, "-" for one that is left out."""
    names = [["" if name == "-" else name for name in words.split()] for words in (reads, makes)]
    domain = "mine" if operator == "Own" else ""
    return onnx.helper.make_node(operator, *names, name=f"n_{names[1][0]}", domain=domain, **attributes)


WEIGHTS = {"a.weight": [8, 3, 1, 1], "b.weight": [8, 8, 1, 1], "c.weight": [8, 8, 1, 1], "head.weight": [8, 5]}
WEIGHTS |= {"channels": [8, 1, 1], "each": [8], "five": [5], "one": []}
FIRST = conv("a", ["x", "a.weight"], "a")
LAST = conv("b", ["y", "b.weight"], "z")


def made(folder: Path, nodes: Iterable[Any], integers: dict[str, list[int]] | None = None, opset: int = 17) -> Path:
    """A file of nodes between a first convolution, which makes a, and a last one, which reads y."""
    model = graph([FIRST, *nodes, LAST], {"x": [1, 3, 6, 6]}, WEIGHTS, opset)
    for name, values in (integers or {}).items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(onnx_array(values), name))
    return saved(folder, model)


def onnx_array(values: list[int]) -> Any:
    import numpy as np

    return np.array(values, dtype=np.int64)


def groups_of(path: Path) -> dict[str, Group]:
    return {group.name: group for group in onnx_channels.followed(path, ()).groups()}


COUPLED = members("a.out", "b.in")
UNDERSTOOD: list[tuple[list[Any], dict[str, list[int]]]] = [
    ([node("Relu", "a", "y")], {}),
    ([node("Clip", "a one one", "y")], {}),
    ([node("Identity", "each", "s"), node("BatchNormalization", "a s each each each", "y")], {}),
    ([node("MaxPool", "a", "y indices", kernel_shape=[2, 2])], {}),
    ([node("Resize", "a - - sizes", "y")], {"sizes": [1, 8, 12, 12]}),
    ([node("Pad", "a pads", "y")], {"pads": [0, 0, 1, 1, 0, 0, 1, 1]}),
    ([node("ReduceMean", "a", "y", axes=[2, 3])], {}),
    ([node("Add", "a channels", "y")], {}),
    ([node("Add", "a one", "y")], {}),
    ([node("Dropout", "a", "d"), node("Mul", "d a", "y")], {}),
    ([node("Transpose", "a", "t", perm=[0, 2, 3, 1]), node("Transpose", "t", "y", perm=[0, 3, 1, 2])], {}),
    (
        [
            node("Shape", "a", "s"),
            node("Gather", "s first", "n"),
            node("Concat", "n rest", "shape", axis=0),
            node("Reshape", "a shape", "y"),
        ],
        {"first": [0], "rest": [8, 36, 1]},
    ),
]


@pytest.mark.parametrize(("nodes", "integers"), UNDERSTOOD, ids=[nodes[-1].op_type for nodes, _ in UNDERSTOOD])
def test_what_treats_each_channel_alike_leaves_it_free(tmp_path: Path, nodes: Any, integers: Any) -> None:
    group = groups_of(made(tmp_path, nodes, integers))["a"]
    assert (group.held, group.channels, group.members) == ("", 8, COUPLED)


def test_halves_as_torchs_older_exporter_cuts_them_have_known_sizes(tmp_path: Path) -> None:
    """It computes where to cut for `chunk`: (8 + 1) // 2 channels are the first half, and so on."""
    size = [node("Shape", "a", "s"), node("Gather", "s 1", "n"), node("Add", "n 1", "m"), node("Div", "m 2", "h")]
    cut = [node("Mul", "h 1", "end"), node("Slice", "a 0 end 1", "first"), node("Mul", "h 2", "last")]
    cut += [node("Slice", "a end last 1", "second"), node("Concat", "second first", "y", axis=1)]
    path = made(tmp_path, [*size, *cut], {"0": [0], "1": [1], "2": [2]})
    shapes = onnx_graph.shapes_of(onnx_graph.opened(path, ()).graph)
    assert [shapes[name] for name in ("first", "second", "y")] == [(1, 4, 6, 6), (1, 4, 6, 6), (1, 8, 6, 6)]


def branch(reads: str) -> Any:
    """A graph that hands on a tensor from outside."""
    value = onnx.helper.make_tensor_value_info(f"of_{reads}", onnx.TensorProto.FLOAT, None)
    return onnx.helper.make_graph([node("Identity", reads, f"of_{reads}")], "branch", [], [value])


HELD: list[tuple[list[Any], dict[str, list[int]], str]] = [
    ([node("Own", "a", "o"), node("Reshape", "o shape", "y")], {"shape": [1, 8, 6, 6]}, "read by mine::Own n_o"),
    ([node("PRelu", "a channels", "y")], {}, "read by PRelu n_y"),
    ([node("Mul", "a channels", "y")], {}, "Mul n_y combines it with a constant"),
    ([node("Add", "a channels", "s"), node("Mul", "s a", "y")], {}, "Add n_s combines it with a constant"),
    ([node("Pad", "a pads", "y")], {"pads": [0, 1, 0, 0, 0, -1, 0, 0]}, "read by Pad n_y"),
    ([node("Add", "eight eight", "p"), node("Pad", "a p", "y")], {"eight": [0] * 8}, "read by Pad n_y"),
    ([node("Reshape", "a shape", "r"), node("Reshape", "r back", "y")],
     {"shape": [1, 4, 2, 36], "back": [1, 8, 6, 6]}, "read by Reshape n_r"),
    ([node("ReduceMax", "a", "m", axes=[1]), node("Mul", "m a", "y")], {}, "read by ReduceMax n_m"),
    ([onnx.helper.make_node("Send", ["a"], [], name="n_send", domain="mine"), node("Relu", "a", "y")], {},
     "read by mine::Send n_send"),
    ([node("Cast", "one", "yes", to=onnx.TensorProto.BOOL),
      node("If", "yes", "i", then_branch=branch("a"), else_branch=branch("a")),
      node("Reshape", "i shape", "y")], {"shape": [1, 8, 6, 6]}, "read by If n_i"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "integers", "why"), HELD, ids=[why for *_, why in HELD])
def test_what_does_not_holds_it_and_is_named(tmp_path: Path, nodes: Any, integers: Any, why: str) -> None:
    assert why in groups_of(made(tmp_path, nodes, integers))["a"].held


@pytest.mark.parametrize("other", [conv("d", ["a", "w"], "y"), node("Gather", "w first", "y")], ids=["Conv", "Gather"])
def test_weights_that_something_else_reads_hold_their_layer(tmp_path: Path, other: Any) -> None:
    nodes = [FIRST, conv("c", ["a", "w"], "c"), other, node("Softmax", "c", "end")]
    model = graph(nodes, {"x": [1, 3, 6, 6]}, {"a.weight": [8, 3, 1, 1], "w": [8, 8, 1, 1]})
    model.graph.input.append(onnx.helper.make_tensor_value_info("first", onnx.TensorProto.INT64, [1]))
    groups = groups_of(saved(tmp_path, model))
    assert groups["a"].held == groups["c"].held == f"the weights of c are those of {other.name} too"


def test_weights_that_are_no_constants_hold_their_layer(tmp_path: Path) -> None:
    nodes = [node("Mul", "c.weight scale", "w"), conv("c", ["a", "w"], "y")]
    model = graph([FIRST, *nodes, LAST], {"x": [1, 3, 6, 6], "scale": [1]}, WEIGHTS)
    groups = groups_of(saved(tmp_path, model))
    why = "the weights or the bias of c are no constants of the file"
    assert (groups["a"].held, groups["c"].held) == (why, why)
    assert groups["c"].members == members("c.out", "b.in")


def test_a_layer_that_runs_twice_is_one(tmp_path: Path) -> None:
    nodes = [FIRST, conv("b", ["a", "b.weight"], "y"), LAST, node("Softmax", "z", "end")]
    groups = groups_of(saved(tmp_path, graph(nodes, {"x": [1, 3, 6, 6]}, WEIGHTS)))
    assert groups["a"].members == members("a.out", "b.out", "b.in")
    assert groups["a"].held == "it is read by Softmax n_end"


def test_layers_of_one_name_and_other_weights_are_several(tmp_path: Path) -> None:
    nodes = [conv("same", ["a", "w1"], "m"), conv("same", ["m", "w2"], "n"), conv("same_2", ["n", "w3"], "y")]
    own = {"w1": [4, 8, 1, 1], "w2": [6, 4, 1, 1], "w3": [8, 6, 1, 1]}
    path = saved(tmp_path, graph([FIRST, *nodes, LAST], {"x": [1, 3, 6, 6]}, WEIGHTS | own))
    assert groups_of(path)["same"].members == members("same.out", "same_2.in")
    assert groups_of(path)["same_2"].members == members("same_2.out", "same_2_3.in")
    assert [layer["place"] for layer in onnx_graph.find(path, ()).layers] == ["a", "same", "same_2", "same_2_3", "b"]
    assert {"same", "same_2", "same_2_3"} <= set(onnx_layers.filters(path, ()))


def test_normalisations_of_equal_numbers_couple_nothing(tmp_path: Path) -> None:
    nodes = [
        node("BatchNormalization", "a each each each each", "m"),
        conv("c", ["m", "c.weight"], "c"),
        node("BatchNormalization", "c each each each each", "y"),
    ]
    groups = groups_of(made(tmp_path, nodes))
    assert [norm.layer for norm in (*groups["a"].norms, *groups["c"].norms)] == ["n_m", "n_y"]


@pytest.mark.parametrize("separate", [False, True])
def test_a_product_with_its_bias_is_one_layer(tmp_path: Path, separate: bool) -> None:
    nodes = [node("GlobalAveragePool", "a", "p"), node("Flatten", "p", "f")]
    if separate:
        nodes += [node("MatMul", "f head.weight", "m"), node("Add", "five m", "y")]
    else:
        nodes += [node("Gemm", "f head.weight five", "y")]
    model = graph([FIRST, *nodes, node("Softmax", "y", "end")], {"x": [1, 3, 6, 6]}, WEIGHTS)
    path = saved(tmp_path, model)
    groups = groups_of(path)
    assert groups["a"].members == members("a.out", "head.in")
    assert groups["head"].held == "it is read by Softmax n_end"
    found = onnx_layers.filters(path, ())
    assert found["head"] == {"shape": [5, 8], "norms": [0.0] * 5, "bias": True}
    assert not found["a"]["bias"]


def test_the_worth_of_a_filter_is_the_sum_of_its_absolute_weights(tmp_path: Path) -> None:
    model = graph(
        [FIRST, node("Flatten", "a", "f"), node("Gemm", "f w", "end", transB=0)], {"x": [1, 3, 1, 1]}, WEIGHTS
    )
    rows = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [8, 2], [1, -2] * 8)
    model.graph.initializer.append(rows)
    path = saved(tmp_path, model)
    assert onnx_layers.filters(path, ())["n_end"] == {"shape": [2, 8], "norms": [8.0, 16.0], "bias": False}


def test_weights_in_a_file_that_is_not_there_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    model = graph([FIRST], {"x": [1, 3, 6, 6]}, {"a.weight": [8, 3, 1, 1]})
    onnx.save_model(model, str(path), save_as_external_data=True, location="weights", size_threshold=0)
    assert onnx_layers.filters(path, ())["a"]["shape"] == [8, 3, 1, 1]
    (tmp_path / "weights").unlink()
    with pytest.raises(NeverSlowerError, match=r"net.onnx: the weights a.weight can't be read .* put it next to this"):
        onnx_layers.filters(path, ())


def test_nodes_that_are_out_of_order_are_refused(tmp_path: Path) -> None:
    model = graph([conv("b", ["a", "b.weight"], "z"), FIRST], {"x": [1, 3, 6, 6]}, WEIGHTS)
    with pytest.raises(NeverSlowerError, match=r"net.onnx: "):
        onnx_channels.followed(saved(tmp_path, model), ())
    with pytest.raises(NeverSlowerError, match="Conv b reads a, which a later node makes; export it again"):
        onnx_channels._require_order(tmp_path, model.graph)


def test_groups_and_weights_come_from_a_child_process_as_they_are(tmp_path: Path) -> None:
    path = made(tmp_path, [node("Relu", "a", "y")])
    model = Model("net", (), source=("--onnx", str(path)))
    assert {group.name: group for group in coupling.coupled_groups(model)} == groups_of(path)
    assert weights_of(model)["b"].shape == (8, 8, 1, 1)


@pytest.mark.parametrize(
    ("operator", "reads", "why"),
    [("MatMul", ["a"], "MatMul n has 1 of its 2 inputs"), ("Conv", ["a"], "Conv n has 1 of its 2 inputs")],
)
def test_a_node_without_what_it_must_have_is_one_clear_line(
    tmp_path: Path, operator: str, reads: list[str], why: str
) -> None:
    path = made(tmp_path, [onnx.helper.make_node(operator, reads, ["y"], name="n")])
    for found in (onnx_graph.find, onnx_channels.followed, onnx_layers.filters):
        with pytest.raises(NeverSlowerError, match=f"{why}; export it again"):
            found(path, ())


def test_a_function_of_the_file_is_read_at_each_of_its_calls(tmp_path: Path) -> None:
    helper = onnx.helper
    weights = helper.make_tensor("w", onnx.TensorProto.FLOAT, [8, 8, 1, 1], [1.0] * 64)
    body = [helper.make_node("Constant", [], ["w"], value=weights), conv("c", ["i", "w"], "o")]
    opsets = [helper.make_opsetid("", 17)]
    calls = [helper.make_node("Block", [reads], [made], domain="mine") for reads, made in (("a", "m"), ("m", "y"))]
    model = graph([FIRST, *calls, LAST], {"x": [1, 3, 6, 6]}, WEIGHTS)
    model.functions.append(helper.make_function("mine", "Block", ["i"], ["o"], body, opsets))
    path = saved(tmp_path, model)
    first, second = (name for name in onnx_layers.filters(path, ()) if name not in "ab")
    assert groups_of(path)[first].members == members(f"{first}.out", f"{second}.in")
    assert onnx_layers.filters(path, ())[second]["norms"] == [8.0] * 8


@pytest.mark.usefixtures("workers_here")
def test_the_widths_of_a_file_are_advised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, output = made(tmp_path, [node("Own", "a", "o"), conv("c", ["o", "c.weight"], "y")]), tmp_path / "w.json"
    model = onnx.load(str(path))  # Exporters write down the shapes of what they know.
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("o", onnx.TensorProto.FLOAT, [1, 8, 6, 6]))
    onnx.save(model, str(path))
    rules = [{"seconds": 1e-5}, {"when": "out_channels <= 4", "times": 0.4}]
    spec = f"scripted:{scripted(tmp_path, 30.0, rules=rules, noise=0.002).argument}"
    words = ["advise", "--backend", spec, "--onnx", str(path), "--step", "2", "--journal", str(tmp_path / "w.jsonl")]
    assert cli.main([*words, "--budget", "latency=0.9x", "--output", str(output)]) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    assert "held: a: it is read by mine::Own n_o" in told
    assert [(group["name"], group["keep"]) for group in json.loads(output.read_text())["groups"]] == [("c", 4)]
