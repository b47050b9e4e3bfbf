"""A model whose modules have other numbers of channels: built anew at these sizes, with random weights.

`bench.advice_proof` times pruned networks, and what a pruner keeps of the weights changes no time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Sizes = Mapping[str, Mapping[str, int]]
"""By the name of a module: `in` and `out` channels, and `groups`, as far as they change."""


def resized(network: Any, sizes: Sizes) -> Any:
    """Return a module whose convolutions, linear layers and batch normalisations have these sizes.

    Raises ValueError that names a module of another kind.
    """
    modules = dict(network.named_modules())
    for name, size in sizes.items():
        parent, _, own = name.rpartition(".")
        setattr(modules[parent], own, _at(name, modules[name], size))
    return network.eval()


def _at(name: str, module: Any, size: Mapping[str, int]) -> Any:
    from torch import nn

    bias = getattr(module, "bias", None) is not None
    if isinstance(module, nn.Conv2d):
        inputs, outputs = size.get("in", module.in_channels), size.get("out", module.out_channels)
        groups = size.get("groups", module.groups)
        return nn.Conv2d(
            inputs, outputs, module.kernel_size, module.stride, module.padding, module.dilation, groups, bias
        )
    if isinstance(module, nn.Linear):
        return nn.Linear(size.get("in", module.in_features), size.get("out", module.out_features), bias)
    if isinstance(module, nn.BatchNorm2d):
        # timm's normalisations do the activation too, and are made by the same arguments.
        made = type(module)(size["out"])
        for own, child in module.named_children():
            setattr(made, own, child)
        return made
    raise ValueError(f"{name} is a {type(module).__name__}, of which no other size is known")
