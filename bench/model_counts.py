"""Count the convolutions of models that others wrote, as --model and --onnx find them, against torchinfo's count.

python -m bench.model_counts                    # the table of docs/howto/models.md, by torch.export alone
python -m bench.model_counts --onnx resnet18    # and of the same model exported to ONNX

It needs torchinfo, timm and torchvision: `pip install torchinfo timm torchvision`, with --no-deps where torch is there.
Each convolution's multiply-accumulates are compared by its module's name; exit code 1 where any differs.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from neverslower.models import reading
from neverslower.problem.model import Model

SHAPE = (1, 3, 224, 224)
INPUT = "x".join(map(str, SHAPE))


@dataclass(frozen=True)
class Counted:
    """A model to count: the module and arguments of its builder, and what is special in it."""

    module: str
    note: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


TORCHVISION, TIMM = "torchvision.models", "timm.models"
MODELS = {
    "resnet18": Counted(TORCHVISION),
    "resnext50_32x4d": Counted(TORCHVISION, "grouped"),
    "densenet121": Counted(TORCHVISION),
    "mobilenet_v3_large": Counted(TORCHVISION, "depthwise"),
    "googlenet": Counted(TORCHVISION, arguments={"init_weights": False}),
    "deeplabv3_resnet50": Counted(f"{TORCHVISION}.segmentation", "dilated", {"weights_backbone": None}),
    "tf_efficientnet_b0": Counted(TIMM, "same padding"),
    "convnext_tiny": Counted(TIMM, "depthwise 7×7"),
    "resnetv2_50": Counted(TIMM),
    "regnety_008": Counted(TIMM, "grouped"),
    "mobilenetv4_conv_small": Counted(TIMM),
    "vit_small_patch16_224": Counted(TIMM),
    "ghostnet_100": Counted(TIMM),
    "nfnet_f0": Counted(TIMM, "standardised weights, grouped"),
}


def __getattr__(name: str) -> Callable[[], Any]:
    """Return the builder of a model, without arguments, as `--model bench.model_counts:NAME` calls it."""
    if name not in MODELS:
        raise AttributeError(name)
    return lambda: build(name)


def build(name: str) -> Any:
    """Return a model without trained weights."""
    wanted = MODELS[name]
    library = wanted.module.partition(".")[0]
    try:
        _import_torchvision()  # timm uses it too.
        module = importlib.import_module(wanted.module)
    except ModuleNotFoundError as error:
        text = (
            f"{name} is a model of {library}, and {error.name} is not installed; `pip install {error.name}` brings it"
        )
        raise SystemExit(text) from None
    return getattr(module, name)(**wanted.arguments).eval()


def _import_torchvision() -> None:
    """Import torchvision, also where its compiled part was built for another torch: no convolution needs that.

    Python's part registers what it knows of compiled operators, which then must be declared first.
    """
    while True:
        try:
            importlib.import_module("torchvision")
            return
        except RuntimeError as error:
            missing = re.search(r"operator (torchvision::\w+) does not exist", str(error))
            if missing is None:
                raise
            import torch

            torch.library.define(missing[1], "(Tensor x) -> Tensor")
            for module in [module for module in sys.modules if module.partition(".")[0] == "torchvision"]:
                del sys.modules[module]


def counted(network: Any, shape: tuple[int, ...] = SHAPE) -> dict[str, int]:
    """Return the multiply-accumulates of each convolution by its module's name, without those of its bias."""
    import torch
    import torchinfo

    names = {id(module): name for name, module in network.named_modules()}
    summary = torchinfo.summary(network.to("meta"), shape, verbose=0, depth=30, device="meta")
    return {
        names[id(layer.module)]: layer.macs - (0 if layer.module.bias is None else prod(layer.output_size))
        for layer in summary.summary_list
        if isinstance(layer.module, torch.nn.Conv2d)
    }


def found(model: Model) -> dict[str, int]:
    """Return the multiply-accumulates of each convolution of a model as we read it, by its place."""
    return {layer.place: layer.problem.macs for layer in model.layers}


def exported(network: Any, path: Path) -> Model:
    """Return a network as it is read from ONNX."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter uses what torch deprecates.
        torch.onnx.export(network, (torch.zeros(SHAPE),), str(path), external_data=False, verbose=False)
    (model,) = reading.models({"onnx": [str(path)]})
    return model


def row(name: str, model: Model) -> str:
    """Return a model's row of the table."""
    macs = sum(layer.problem.macs for layer in model.layers)
    left = f"{1 - macs / model.macs:.1%}".replace("%", " %") if model.left_out else "none"
    note = f" ({MODELS[name].note})" if MODELS[name].note else ""
    distinct = len({layer.problem for layer in model.layers})
    return f"| {name}{note} | {len(model.layers)} | {distinct} | {macs / 1e9:#.3g} | {left} |"


def main() -> int:
    """Print the table, and what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="*", metavar="MODEL", help=f"default: all of {', '.join(MODELS)}")
    parser.add_argument("--onnx", action="store_true", help="also export each model, and count that")
    options = parser.parse_args()
    if unknown := sorted(set(options.model) - set(MODELS)):
        parser.error(f"unknown model {', '.join(unknown)}; known are {', '.join(MODELS)}")
    different = 0
    print("| model | convolutions | distinct | GMACs | left out |\n|---|---|---|---|---|")
    for name in options.model or MODELS:
        expected = counted(build(name))
        (model,) = reading.models({"model": [f"bench.model_counts:{name}"], "input": [INPUT]})
        print(row(name, model), flush=True)
        read = {"torch.export": model}
        if options.onnx:
            with tempfile.TemporaryDirectory() as folder:
                read["ONNX"] = exported(build(name), Path(folder) / "model.onnx")
        for way, of_way in read.items():
            places = sorted(set(expected.items()) ^ set(found(of_way).items()))
            different += len(places)
            for place, macs in places:
                print(f"  {name} by {way}: {place} differs: {macs:,} multiply-accumulates in one of both")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
