import csv
from dataclasses import replace
from pathlib import Path

import pytest

from neverslower.errors import UnknownName
from neverslower.problem.convolution import ConvProblem, DType, Layout
from neverslower.problem.networks import NETWORKS, distinct_layers, network

# The figures write the pair of equal numbers once, and name two networks with their variant.
FIGURES = Path(__file__).with_name("data") / "conv_shapes.csv"
VARIANTS = {"alexnet_torchvision": "alexnet", "resnet50_v1.5": "resnet50"}
PAPER = [0, 1, 2, 3, 5, *range(11, 17), *range(24, 30), *range(43, 49)]


def _figures():
    with FIGURES.open(encoding="utf-8", newline="") as file:
        return [{"network": VARIANTS.get(row["net"], row["net"])} | row for row in csv.DictReader(file)]


def _problem(row):
    def number(name):
        return int(row[name])

    return ConvProblem(
        in_channels=number("Cin"),
        height=number("H"),
        width=number("W"),
        out_channels=number("Cout"),
        kernel=(number("kh"), number("kw")),
        stride=(number("stride"),) * 2,
        padding=(number("pad"),) * 4,
        groups=number("groups"),
    )


def test_every_network_of_the_figures_is_there_and_no_other():
    assert {row["network"] for row in _figures()} == set(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_as_many_layers_as_the_figures_in_their_order(name):
    indices = [int(row["idx"]) for row in _figures() if row["network"] == name]
    assert [layer.index for layer in network(name)] == indices


@pytest.mark.parametrize("row", _figures(), ids=lambda row: f"{row['network']}.L{row['idx']}")
def test_a_layer_is_the_figures_row(row):
    layer = network(row["network"])[int(row["idx"])]
    assert layer.name == f"{row['network']}.L{row['idx']}"
    assert layer.problem == _problem(row)
    outputs = (layer.problem.out_height, layer.problem.out_width, layer.problem.macs)
    assert outputs == (int(row["OH"]), int(row["OW"]), int(row["MACs"]))


def test_resnet50_places_are_the_figures_module_names():
    tags = [row["tag"] for row in _figures() if row["network"] == "resnet50"]
    assert [layer.place for layer in network("resnet50")] == tags


@pytest.mark.parametrize("name", NETWORKS)
def test_no_two_layers_of_a_network_share_a_place(name):
    places = [layer.place for layer in network(name)]
    assert len(set(places)) == len(places)


def test_the_papers_l16_is_the_28_by_28_layer_of_128_filters():
    layer = network("resnet50")[16]
    assert (layer.name, layer.place) == ("resnet50.L16", "layer2.1.conv2")
    assert layer.problem.descriptor == "mb1_g1ic128oc128_ih28oh28kh3sh1ph1"


def test_resnet50s_distinct_layers_are_the_papers():
    distinct = distinct_layers(network("resnet50"))
    assert [layer.index for layer in distinct] == PAPER
    assert len(distinct) == 23


@pytest.mark.parametrize("name", NETWORKS)
def test_distinct_layers_carry_every_place_once(name):
    distinct = distinct_layers(network(name))
    assert len({layer.problem for layer in distinct}) == len(distinct)
    carried = sorted(place for layer in distinct for place in layer.places)
    assert carried == sorted(f"{layer.name} {layer.place}" for layer in network(name))


def test_a_distinct_layer_carries_the_places_of_its_own_shape():
    layer = next(layer for layer in distinct_layers(network("resnet50")) if layer.index == 16)
    assert layer.places == (
        "resnet50.L16 layer2.1.conv2",
        "resnet50.L19 layer2.2.conv2",
        "resnet50.L22 layer2.3.conv2",
    )


def test_a_layer_in_another_format_keeps_its_name_and_shape():
    layer = network("resnet50")[16]
    other = layer.with_format(DType.FLOAT16, Layout.NHWC)
    assert other.problem == replace(layer.problem, dtype=DType.FLOAT16, layout=Layout.NHWC)
    assert (other.name, other.place) == (layer.name, layer.place)


@pytest.mark.parametrize(
    ("name", "hint"), [("resnet5O", "did you mean resnet50?"), ("mobilenetv2", "did you mean mobilenet_v2?")]
)
def test_a_misspelt_network_is_corrected(name, hint):
    with pytest.raises(UnknownName, match=f"unknown network '{name}'") as caught:
        network(name)
    assert hint in str(caught.value)


def test_an_unknown_network_names_those_that_there_are():
    with pytest.raises(UnknownName) as caught:
        network("transformer")
    assert "did you mean" not in str(caught.value)
    assert all(name in str(caught.value) for name in NETWORKS)
