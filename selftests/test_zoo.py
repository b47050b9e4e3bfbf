"""Networks that nobody here wrote, read as users have them, against what torchinfo counts of each convolution.

`pip install --no-deps pytorchcv torchinfo` brings both, and `pip install onnxscript` what exports. pytorchcv's networks
are imported one by one, since its list of all of them needs torchvision, which fits no torch but PyPI's.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import pytest

from neverslower.models import reading
from neverslower.problem.model import Model

torch = pytest.importorskip("torch")
torchinfo = pytest.importorskip("torchinfo")
pytest.importorskip("pytorchcv")
SHAPE = (1, 3, 224, 224)
INPUT = "x".join(map(str, SHAPE))
ZOO = [
    ("mobilenetv2:mobilenetv2_w1", "depthwise"),
    ("resnext:resnext50_32x4d", "grouped"),
    ("drn:drnc26", "dilated"),
]


def built(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(f"pytorchcv.models.{module}"), function)().eval()


def counted(network: Any) -> dict[str, int]:
    """The multiply-accumulates of each convolution by its module's name, without those of the bias."""
    names = {id(module): name for name, module in network.named_modules()}
    summary = torchinfo.summary(network.to("meta"), SHAPE, verbose=0, depth=30, device="meta")
    return {
        names[id(layer.module)]: layer.macs - (0 if layer.module.bias is None else _product(layer.output_size))
        for layer in summary.summary_list
        if isinstance(layer.module, torch.nn.Conv2d)
    }


def _product(sizes: list[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def found(model: Model) -> dict[str, int]:
    return {layer.place: layer.problem.macs for layer in model.layers}


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
    path = tmp_path / "network.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter uses what torch deprecates.
        torch.onnx.export(built(name), (torch.zeros(SHAPE),), str(path), external_data=False, verbose=False)
    (model,) = reading.models({"onnx": [str(path)]})
    assert found(model) == counted(built(name))
