"""Networks that nobody here wrote, read as users have them, against what torchinfo counts of each convolution.

`pip install --no-deps pytorchcv torchinfo` brings both, and `pip install onnxscript` what exports. pytorchcv's networks
are imported one by one, since its list of all of them needs torchvision, which fits no torch but PyPI's.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import model_counts
from bench.model_counts import counted, exported, found
from neverslower.models import reading
from neverslower.problem.convolution import parse_descriptor
from neverslower.problem.model import LeftOut, Model
from neverslower.problem.networks import Layer
from selftests.support import ROOT

pytest.importorskip("torch")
pytest.importorskip("torchinfo")
pytest.importorskip("pytorchcv")
pytestmark = pytest.mark.usefixtures("models_here")
INPUT = "1x3x224x224"
ZOO = [
    ("mobilenetv2:mobilenetv2_w1", "depthwise"),
    ("resnext:resnext50_32x4d", "grouped"),
    ("drn:drnc26", "dilated"),
]


def built(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(f"pytorchcv.models.{module}"), function)().eval()


@pytest.mark.parametrize(("name", "kind"), ZOO)
def test_a_foreign_network_has_the_convolutions_that_torchinfo_counts_name_by_name(name: str, kind: str) -> None:
    (model,) = reading.models({"model": [f"pytorchcv.models.{name}"], "input": [INPUT]})
    assert found(model) == counted(built(name))
    problems = [layer.problem for layer in model.layers]
    there = {
        "depthwise": any(problem.depthwise for problem in problems),
        "grouped": any(problem.groups > 1 and not problem.depthwise for problem in problems),
        "dilated": any(problem.dilation != (1, 1) for problem in problems),
    }
    assert there[kind]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), ZOO)
def test_an_exported_network_has_the_same_convolutions(name: str, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    assert found(exported(built(name), tmp_path / "network.onnx")) == counted(built(name))


# The script that makes the table of docs/howto/models.md


def test_the_table_has_the_script_s_models_in_their_order() -> None:
    page = (ROOT / "docs" / "howto" / "models.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| (\w+)(?: \((.*?)\))? \| \d", page, flags=re.MULTILINE)
    assert names == [(name, wanted.note) for name, wanted in model_counts.MODELS.items()]


def test_a_row_counts_convolutions_shapes_work_and_what_is_left_out() -> None:
    layers = tuple(Layer("net", None, place, parse_descriptor("mb1_ic8oc8_ih10kh1")) for place in ("a", "b"))
    whole = Model("net", layers)
    assert model_counts.row("resnext50_32x4d", whole) == "| resnext50_32x4d (grouped) | 2 | 1 | 1.28e-05 | none |"
    some = Model("net", layers, (LeftOut("head", "matrix product", 12_800),))
    assert model_counts.row("resnet18", some).endswith("| 50.0 % |")


def test_a_missing_package_is_named_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(SystemExit, match="resnet18 is a model of torchvision, and torchvision is not installed; `pip"):
        model_counts.build("resnet18")


def test_a_model_that_differs_is_named_and_fails(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "lone.py").write_text("from torch import nn\ndef lone(): return nn.Sequential(nn.Conv2d(3, 4, 1))\n")
    monkeypatch.syspath_prepend(tmp_path)
    (model,) = reading.models({"model": [f"{tmp_path / 'lone.py'}:lone"], "input": [INPUT]})
    monkeypatch.setattr(reading, "models", lambda options: (model,))
    monkeypatch.setattr(model_counts, "_import_torchvision", lambda: None)
    monkeypatch.setitem(model_counts.MODELS, "lone", model_counts.Counted("lone"))
    monkeypatch.setattr(sys, "argv", ["model_counts", "lone"])
    assert model_counts.main() == 0
    monkeypatch.setattr(model_counts, "counted", lambda network: {"0": 7})
    assert model_counts.main() == 1
    assert "  lone by torch.export: 0 differs: 7 multiply-accumulates in one of both" in capsys.readouterr().out
