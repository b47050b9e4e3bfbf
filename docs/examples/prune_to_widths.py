"""Prune the network of original.py to advised widths, with Torch-Pruning: `pip install torch-pruning`.

    python docs/examples/prune_to_widths.py
    pytest --model docs/examples/original.py:build --pruned docs/examples/prune_to_widths.py:pruned --input 1x3x56x56

widths.json is what `advise --output` wrote, with times that were invented by the script old.json.
"""

import json
from pathlib import Path

import torch
import torch_pruning
from original import build
from torch import nn

ADVICE = json.loads((Path(__file__).parent / "widths.json").read_text(encoding="utf-8"))
IMAGES = torch.zeros(1, 3, 56, 56)


def pruned() -> nn.Module:
    """Return the network at the advised widths, as --pruned asks for it. Torch-Pruning chooses which filters go."""
    network = build()
    modules = dict(network.named_modules())
    pruner = torch_pruning.pruner.BasePruner(
        network,
        IMAGES,
        importance=torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=0.0,
        pruning_ratio_dict={modules[name]: ratio for name, ratio in ADVICE["pruning_ratio"].items()},
        ignored_layers=[module for name, module in modules.items() if name in ADVICE["held"]],
    )
    pruner.step()
    return network


def differences(network: nn.Module) -> list[str]:
    """Return a line for each module whose channels are not those that are advised."""
    modules = dict(network.named_modules())
    names = {"in": ("in_channels", "in_features"), "out": ("out_channels", "num_features", "out_features")}
    wrong = []
    for name, advised in ADVICE["modules"].items():
        for axis, attributes in names.items():
            found = next((getattr(modules[name], one) for one in attributes if hasattr(modules[name], one)), None)
            if axis in advised and found != advised[axis]:
                wrong.append(f"{name}: {found} {axis} channels, and {advised[axis]} are advised")
    return wrong


if __name__ == "__main__":
    smaller = pruned()
    smaller(IMAGES)
    print("\n".join(differences(smaller)) or f"{len(ADVICE['modules'])} modules have the advised channels")
