"""Padding a module: it computes what it computed before, and what does not is caught."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from neverslower.errors import NeverSlowerError
from neverslower.mending.script import script_of
from neverslower.mending.widths import Padding
from neverslower.models import agreement, reading, torch_channels, torch_module
from neverslower.models.padding import pad
from neverslower.models.words import Input, ModelName
from selftests.test_coupling import IMAGE, nets, read

torch = pytest.importorskip("torch")
__all__ = ["nets"]


def padding_of(path: Path, name: str) -> Padding:
    """What a net may be padded to, its layers read without a process."""
    found = torch_module.find(ModelName.parse(f"{path}:{name}"), [IMAGE])
    layers = tuple(reading._layer(name, dict(record), ()) for record in found.layers)
    return Padding(layers, read(path, name), {})


def written(path: Path, name: str, added: Mapping[str, Any]) -> Path:
    script = path.parent / f"{name}_padded.py"
    script.write_text(script_of(ModelName.parse(f"{path}:{name}"), path.parent, 1, added), encoding="utf-8")
    return script


@pytest.mark.parametrize("name", ["residual", "mobile", "dense"])
def test_a_padded_net_computes_the_same_and_has_the_planned_layers(nets: Path, name: str) -> None:
    padding = padding_of(nets, name)
    widths = {group: counts[-1] for group, counts in padding.choices.items()}
    script = written(nets, name, padding.added(widths))
    compared = agreement.compared(ModelName.parse(f"{nets}:{name}"), [IMAGE], script)
    assert compared["dtype"] == "float64"
    assert len(widths) >= 3
    found = torch_module.find(ModelName.parse(f"{script}:build"), [IMAGE])
    layers = [reading._layer(name, dict(record), ()) for record in found.layers]
    assert [layer.problem for layer in layers] == [padding.problem(layer, widths) for layer in padding.layers]
    assert [layer.problem for layer in layers] != [layer.problem for layer in padding.layers]
    assert all(
        not group.held or group.channels % 32 == 0 or group.name not in padding.choices for group in padding.groups
    )


def test_zeros_at_the_wrong_place_are_caught(nets: Path) -> None:
    padding = padding_of(nets, "dense")
    added = padding.added({"1.conv": 8})
    assert added["2.conv"]["in"] == [[12, 4]]
    added["2.conv"]["in"] = [[8, 4]]
    with pytest.raises(NeverSlowerError, match=r"padded, it computes something else: with its own weights outputs d"):
        agreement.compared(ModelName.parse(f"{nets}:dense"), [IMAGE], written(nets, "dense", added))


def test_a_normalisation_that_is_not_padded_fails(nets: Path) -> None:
    padding = padding_of(nets, "residual")
    added = {name: axes for name, axes in padding.added({"0.0": 32}).items() if "norm" not in axes}
    with pytest.raises(NeverSlowerError, match="failed when it was run to compare it with itself padded"):
        agreement.compared(ModelName.parse(f"{nets}:residual"), [IMAGE], written(nets, "residual", added))


def test_weights_of_zero_hide_no_difference(tmp_path: Path) -> None:
    """A block whose last weights are zero computes nothing yet, wherever its zeros are."""
    path = tmp_path / "zero.py"
    path.write_text(
        "from torch import nn\n"
        "def build():\n"
        "    net = nn.Sequential(nn.Conv2d(3, 5, 1), nn.Conv2d(5, 4, 1), nn.Conv2d(4, 2, 1))\n"
        "    nn.init.zeros_(net[2].weight)\n"
        "    return net\n",
        encoding="utf-8",
    )
    added = {"0": {"out": [[5, 3]]}, "1": {"in": [[2, 3]]}}
    with pytest.raises(NeverSlowerError, match="with drawn weights outputs differ"):
        agreement.compared(ModelName.parse(f"{path}:build"), [IMAGE], written(path, "build", added))


def test_what_is_no_layer_of_torch_is_refused() -> None:
    with pytest.raises(TypeError, match="0: a ReLU can't be padded"):
        pad(torch.nn.Sequential(torch.nn.ReLU()), {"0": {"out": [[1, 1]]}})


def test_padding_keeps_the_weights_where_they_are() -> None:
    layer = torch.nn.Conv2d(3, 4, 1)
    before = layer.weight.detach().clone()
    pad(torch.nn.Sequential(layer), {"0": {"out": [[4, 2], [1, 1]], "in": [[3, 1]]}})
    assert layer.weight.shape == (7, 4, 1, 1)
    assert (layer.out_channels, layer.in_channels, layer.bias.shape) == (7, 4, (7,))
    assert torch.equal(layer.weight[[0, 2, 3, 4], :3], before)
    assert not layer.weight[[1, 5, 6]].any()
    assert not layer.weight[:, 3].any()
    assert layer.weight.requires_grad


def test_the_script_needs_nothing_of_ours_and_moves_with_the_model(nets: Path, tmp_path: Path) -> None:
    padding = padding_of(nets, "dense")
    written(nets, "dense", padding.added(padding.rounded(16)))
    for path in (nets, nets.parent / "dense_padded.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    code = (
        "import json, sys; import dense_padded as script; model = script.build(); "
        "print(json.dumps([list(model.state_dict()['5.weight'].shape), 'neverslower' in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, env={"PATH": ""}
    )
    assert json.loads(done.stdout) == [[9, 16 + 16 + 16, 1, 1], False]


def test_groups_that_torch_channels_finds_are_those_that_are_padded(nets: Path) -> None:
    """A layer normalisation would see the zeros."""
    groups = torch_channels.followed(ModelName.parse(f"{nets}:odd"), [Input((1, 3, 16, 16))]).groups()
    padding = Padding(padding_of(nets, "odd").layers, groups, {"e": [11], "f": [9], "a": [12]})
    assert padding.choices == {"e": [11, 16, 32]}
    assert "norm normalises over the channels" in padding.left["f"]
    assert padding.left["a"] == "it is read by flip"
