"""Which channels have to change together: followed through hand-written graphs and torch modules."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from neverslower.errors import NeverSlowerError
from neverslower.models import coupling, torch_channels, torch_module
from neverslower.models.channels import Channels
from neverslower.models.coupling import Group, Member
from neverslower.models.words import Input, ModelName
from neverslower.problem.model import Model

NETS = """
    import torch
    from torch import nn
    from torch.nn import functional as F

    def conv(ins, outs, size=3, stride=1, groups=1):
        return nn.Sequential(
            nn.Conv2d(ins, outs, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(outs), nn.ReLU6()
        )

    class Bottleneck(nn.Module):
        def __init__(self, ins, mid, outs, stride):
            super().__init__()
            self.a, self.b, self.c = conv(ins, mid, 1), conv(mid, mid, 3, stride), conv(mid, outs, 1)[:2]
            self.shortcut = conv(ins, outs, 1, stride)[:2] if ins != outs else nn.Identity()

        def forward(self, x):
            return F.relu(self.c(self.b(self.a(x))) + self.shortcut(x), inplace=True)

    class Inverted(nn.Module):
        def __init__(self, ins, mid, outs):
            super().__init__()
            self.wide, self.deep, self.thin = conv(ins, mid, 1), conv(mid, mid, 3, 1, mid), conv(mid, outs, 1)[:2]
            self.squeeze, self.excite = nn.Conv2d(mid, 4, 1), nn.Conv2d(4, mid, 1)
            self.adds = ins == outs

        def forward(self, x):
            y = self.deep(self.wide(x))
            gate = F.hardsigmoid(self.excite(F.silu(self.squeeze(y.mean((2, 3), keepdim=True)))))
            y = self.thin(y * gate)
            return x + y if self.adds else y

    class Dense(nn.Module):
        def __init__(self, ins, growth):
            super().__init__()
            self.norm, self.conv = nn.BatchNorm2d(ins), nn.Conv2d(ins, growth, 3, padding=1)

        def forward(self, x):
            return torch.cat([x, self.conv(torch.relu(self.norm(x)))], 1)

    def residual():
        return nn.Sequential(conv(3, 16), nn.MaxPool2d(3, 2, 1), Bottleneck(16, 8, 32, 1), Bottleneck(32, 8, 32, 1),
                             Bottleneck(32, 16, 64, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)).eval()

    def mobile():
        return nn.Sequential(conv(3, 8), Inverted(8, 24, 12), Inverted(12, 36, 12), conv(12, 40, 1),
                             nn.Flatten(), nn.Dropout(), nn.Linear(40 * 256, 16), nn.ReLU(), nn.Linear(16, 5)).eval()

    def dense():
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Dense(8, 4), Dense(12, 6), nn.BatchNorm2d(18), nn.ReLU(),
                             nn.Conv2d(18, 9, 1), nn.AvgPool2d(2), Dense(9, 4)).eval()

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
            self.d, self.e, self.f = nn.Conv2d(8, 8, 1, groups=4), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
            self.g, self.norm = nn.Conv2d(8, 8, 1), nn.LayerNorm(8)
            self.scale = nn.Parameter(torch.ones(8, 1, 1))

        def forward(self, x):
            x = self.b(self.a(x).flip(1))
            x = self.e(self.d(self.c(x * self.scale)))
            x = self.norm(self.f(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return self.g(x).softmax(1)

    def odd(): return Odd().eval()

    class Branching(nn.Module):
        def forward(self, x): return x if x.sum() > 0 else -x

    def branching(): return Branching()
"""
IMAGE = Input((1, 3, 16, 16))


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(textwrap.dedent(NETS), encoding="utf-8")
    return path


def read(path: Path, name: str) -> tuple[Group, ...]:
    return torch_channels.followed(ModelName.parse(f"{path}:{name}"), [IMAGE]).groups()


def members(*words: str) -> tuple[Member, ...]:
    """The members that words such as `conv.out`, `conv.in@8` and `head.in*49` stand for."""
    found = []
    for word in words:
        rest, _, width = word.partition("*")
        rest, _, offset = rest.partition("@")
        layer, _, axis = rest.rpartition(".")
        found.append(Member(layer, axis, int(offset or 0), int(width or 1)))
    return tuple(found)


# By hand


def test_a_chain_has_a_group_for_each_layer_and_holds_its_ends() -> None:
    channels = Channels()
    channels.input("x", (1, 3, 8, 8))
    channels.layer("a", "x", "y", (1, 8, 8, 8), (8, 3, 3, 3), 1, 1)
    channels.same("y", "z", (1, 8, 4, 4))
    channels.layer("b", "z", "out", (1, 5, 4, 4), (5, 8, 1, 1), 1, 1)
    channels.output("out")
    assert channels.groups() == (
        Group("a", 8, members("a.out", "b.in")),
        Group("a.in", 3, members("a.in"), "it reads the model's input"),
        Group("b", 5, members("b.out"), "it is an output of the model"),
    )


def test_a_sum_with_a_concatenation_divides_the_layer_that_is_added() -> None:
    channels = Channels()
    channels.input("x", (1, 3, 8, 8))
    for name, filters in (("a", 4), ("b", 6), ("c", 10)):
        channels.layer(name, "x", name, (1, filters, 8, 8), (filters, 3, 1, 1), 1, 1)
    channels.concatenation("cat", ["a", "b"], "ab", (1, 10, 8, 8), 1)
    channels.together("add", ["ab", "c"], "sum", (1, 10, 8, 8))
    channels.layer("d", "sum", "out", (1, 2, 8, 8), (2, 10, 1, 1), 1, 1)
    free = [group for group in channels.groups() if not group.held and group.name != "d"]
    assert free == [
        Group("a", 4, members("a.out", "c.out", "d.in")),
        Group("b", 6, members("b.out", "c.out@4", "d.in@4")),
    ]


def test_a_flattened_image_gives_a_linear_layer_several_features_of_each_channel() -> None:
    channels = Channels()
    channels.input("x", (2, 3, 7, 7))
    channels.layer("a", "x", "y", (2, 8, 7, 7), (8, 3, 1, 1), 1, 1)
    channels.reshaped("view", "y", "z", (2, 392))
    channels.layer("head", "z", "out", (2, 5), (5, 392), 1, -1)
    assert channels.groups()[0] == Group("a", 8, members("a.out", "head.in*49"))


@pytest.mark.parametrize("after", [(1, 2, 4, 49), (49, 8), (1, 7, 8, 7)])
def test_a_reshape_that_mixes_channels_up_holds_them(after: tuple[int, ...]) -> None:
    channels = Channels()
    channels.input("x", (1, 3, 7, 7))
    channels.layer("a", "x", "y", (1, 8, 7, 7), (8, 3, 1, 1), 1, 1)
    channels.reshaped("view in shuffle", "y", "z", after)
    assert channels.groups()[0].held == "it is read by view in shuffle"


def test_a_channel_that_is_spread_over_others_is_held() -> None:
    channels = Channels()
    channels.input("x", (1, 3, 7, 7))
    channels.layer("a", "x", "y", (1, 8, 7, 7), (8, 3, 1, 1), 1, 1)
    channels.layer("gate", "y", "g", (1, 1, 7, 7), (1, 8, 1, 1), 1, 1)
    channels.together("mul", ["y", "g"], "z", (1, 8, 7, 7))
    held = {group.name: group.held for group in channels.groups()}
    assert held == {"a": "", "a.in": "it reads the model's input", "gate": "mul spreads it over other channels"}


def test_what_works_along_another_axis_than_that_of_the_channels_holds_them() -> None:
    """Channels may stand last, where a pooling or a normalisation of the axis behind the batch mixes them up."""
    channels = Channels()
    channels.input("x", (1, 3, 8, 8))
    for name in ("a", "b"):
        channels.layer(name, "x", name, (1, 8, 8, 8), (8, 3, 1, 1), 1, 1)
        channels.transposed(name, f"{name}-last", (0, 2, 3, 1), (1, 8, 8, 8))
    channels.pooled("avg_pool2d", "a-last", "p", (1, 8, 8, 8), 2)
    channels.norm("bn", "b-last", "q")
    held = {group.name: group.held for group in channels.groups()}
    assert held["a"] == "it is read by avg_pool2d"
    assert held["b"] == "it is read by bn, which normalises along another axis"


def test_depthwise_filters_follow_their_channel_and_grouped_layers_are_held() -> None:
    channels = Channels()
    channels.input("x", (1, 3, 8, 8))
    channels.layer("a", "x", "y", (1, 8, 8, 8), (8, 3, 1, 1), 1, 1)
    channels.layer("deep", "y", "z", (1, 16, 8, 8), (16, 1, 3, 3), 8, 1)
    channels.layer("grouped", "z", "out", (1, 4, 8, 8), (4, 4, 3, 3), 4, 1)
    first, _, last = channels.groups()
    assert first.members == members("a.out", "deep.out*2", "deep.in", "grouped.in*2")
    assert first.held == last.held == "grouped is a grouped convolution"


# Of torch


def test_a_sum_couples_the_layers_in_front_of_it(nets: Path) -> None:
    groups = {group.name: group for group in read(nets, "residual")}
    assert groups["2.c.0"].members == members(
        "2.c.0.out", "2.shortcut.0.out", "3.a.0.in", "3.c.0.out", "4.a.0.in", "4.shortcut.0.in"
    )
    assert [norm.layer for norm in groups["2.c.0"].norms] == ["2.c.1", "2.shortcut.1", "3.c.1"]
    assert groups["4.c.0"].members[-1] == Member("7", "in", 0)
    assert {name: group.held for name, group in groups.items() if group.held} == {
        "0.0.in": "it reads the model's input",
        "7": "it is an output of the model",
    }


def test_depthwise_squeeze_and_flattened_layers_are_followed(nets: Path) -> None:
    groups = {group.name: group for group in read(nets, "mobile")}
    assert groups["1.wide.0"].members == members(
        "1.wide.0.out", "1.deep.0.out", "1.deep.0.in", "1.squeeze.in", "1.excite.out", "1.thin.0.in"
    )
    assert groups["1.squeeze"].members == members("1.squeeze.out", "1.excite.in")
    assert groups["3.0"].members == members("3.0.out", "6.in*256")


def test_a_concatenation_gives_each_producer_its_own_group(nets: Path) -> None:
    groups = {group.name: group for group in read(nets, "dense")}
    assert groups["0"].members == members("0.out", "1.conv.in", "2.conv.in", "5.in")
    assert groups["1.conv"].members == members("1.conv.out", "2.conv.in@8", "5.in@8")
    assert groups["2.conv"].norms == (Member("3", "out", 12),)
    assert groups["7.conv"].held == groups["5"].held == "it is an output of the model"


def test_what_is_not_understood_is_held_and_named(nets: Path) -> None:
    groups = {group.name: group for group in read(nets, "odd")}
    assert {name: group.held for name, group in groups.items()} == {
        "a": "it is read by flip",
        "a.in": "it reads the model's input",
        "b": "mul with scale combines it with a constant",
        "b.in": "it reads what flip makes",
        "c": "d is a grouped convolution",
        "d": "d is a grouped convolution",
        "e": "",
        "f": "",
        "g": "it is read by softmax",
    }
    why = "norm normalises over the channels, so that zeros would change its result"
    assert {name: group.unpaddable for name, group in groups.items() if group.unpaddable} == {"f": why}


@pytest.mark.filterwarnings("ignore")  # torch uses what torch deprecates.
@pytest.mark.parametrize("name", ["residual", "mobile", "dense"])
def test_older_versions_of_torch_trace_into_smaller_operations(
    nets: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, traced = read(nets, name), torch_module.traced
    monkeypatch.setattr(torch_module, "traced", lambda *words: traced(*words).run_decompositions())
    assert read(nets, name) == usual


def test_a_model_that_cannot_be_traced_is_refused_with_the_remedy(nets: Path) -> None:
    with pytest.raises(NeverSlowerError, match=r"nets.py:branching: torch.export can't trace it .*; check --input, w"):
        read(nets, "branching")


def test_groups_come_from_a_child_process_as_they_are(nets: Path) -> None:
    model = Model("nets", (), source=("--model", f"{nets}:dense", "--input", "1x3x16x16", "--fused"))
    assert coupling.coupled_groups(model) == read(nets, "dense")
    with pytest.raises(NeverSlowerError, match=r"shapes.csv: a list of layers does not say how they are connected"):
        coupling.coupled_groups(Model("", (), source=("--problems", "shapes.csv")))


# Against Torch-Pruning's own graph, where it is installed


@pytest.mark.parametrize("name", ["residual", "mobile", "dense"])
def test_torch_pruning_finds_the_same_groups(nets: Path, name: str) -> None:
    torch_pruning = pytest.importorskip("torch_pruning")
    import torch

    model = torch_module.built(ModelName.parse(f"{nets}:{name}"))
    graph = torch_pruning.DependencyGraph().build_dependency(model, torch.zeros(IMAGE.shape))
    theirs = set()
    for group in graph.get_all_groups(root_module_types=[torch.nn.Conv2d, torch.nn.Linear]):
        theirs.add(frozenset(found for found in map(_member, group) if found))
    ours = {
        # Theirs names a depthwise layer once.
        frozenset(
            (one.layer, one.axis, one.offset, group.channels * one.width)
            for one in group.members
            if (one.layer, one.axis) not in {("1.deep.0", "in"), ("2.deep.0", "in")}
        )
        for group in read(nets, name)
        if not group.held
    }
    assert len(ours) >= 3
    assert ours <= theirs


def _member(entry: Any) -> tuple[str, str, int, int] | None:
    dependency, places = entry
    axis = dependency.handler.__name__.removeprefix("prune_").removesuffix("_channels").replace("depthwise_", "")
    layer = dependency.target.name.split(" ")[0]
    if not hasattr(dependency.target.module, "weight") or "Norm" in type(dependency.target.module).__name__:
        return None
    return layer, axis, min(places), len(places)
