"""A pruned model against its original: what --pruned reads and refuses, how layers are paired, and whole runs."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from neverslower.errors import NeverSlowerError
from neverslower.option_table import OPTIONS
from neverslower.options import RunPlan, plan

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


# What --pruned reads


def test_the_pruned_model_is_read_as_the_original_is(tmp_path: Path) -> None:
    texts = written(tmp_path, "original", 8, 16), written(tmp_path, "pruned", 7, 14)
    selection = planned(model=[texts[0]], pruned=texts[1]).selections["scripted"]
    assert selection.pruned is not None
    assert [layer.name for layer in selection.pruned.layers] == ["pruned.0", "pruned.2"]
    assert [layer.problem.out_channels for layer in selection.pruned.layers] == [7, 14]
    assert selection.pruned.source == ("--pruned", texts[1], "--input", "1x3x8x8")


def test_two_callables_of_one_file_have_two_names(tmp_path: Path) -> None:
    text = written(tmp_path, "zoo", 8, 16)
    selection = planned(model=[text], pruned=text).selections["scripted"]
    assert selection.pruned is not None
    assert (selection.models[0].name, selection.pruned.name) == ("zoo", "zoo-pruned")
    named = planned(model=[text], pruned=f"small={text}").selections["scripted"].pruned
    assert named is not None
    assert named.name == "small"


@pytest.mark.parametrize(
    ("values", "told"),
    [
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
    original, pruned = written(tmp_path, "original", 8, 16), written(tmp_path, "pruned", 7, 14)
    with pytest.raises(NeverSlowerError, match=told):
        planned(**{"model": [original], "pruned": pruned} | values)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import absent_module\n", r"(?s)^--pruned \S+:build can't be imported:.*No module named 'absent_module'"),
        ("def build(): raise ValueError('half done')\n", r"(?s)^--pruned \S+:build failed when.*in build.*half done"),
        ("def build(width): return None\n", r"^--pruned \S+:build: build needs arguments \(width\)"),
        ("import torch\ndef build(): return torch.nn.Linear(8, 4)\n", r"^--pruned \S+:build: no 2-D convolution in it"),
    ],
)
def test_what_is_wrong_with_the_pruned_model_is_said_of_it(tmp_path: Path, source: str, told: str) -> None:
    (tmp_path / "pruned.py").write_text(source, encoding="utf-8")
    with pytest.raises(NeverSlowerError, match=told):
        planned(model=[written(tmp_path, "original", 8, 16)], pruned=f"{tmp_path / 'pruned.py'}:build")
