"""Widen the layers of a torch module by channels that compute nothing: zeros in every weight that makes or reads them.

A script that pads a user's model holds the text of this module, so that it needs torch alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Added = Sequence[Sequence[int]]
"""Pairs (place, count): so many channels are added before that one of an axis, by the counts before padding."""
_INERT = {"weight": 0.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
"""What the numbers of a normalisation are in an added channel, so that it stays zero."""


def pad(model: Any, added: Mapping[str, Mapping[str, Added]]) -> Any:
    """Add channels to the layers of a model, in place, and return it; `added` has them by module and by axis.

    The axes are "out" and "in" of convolutions and linear layers, and "norm" of normalisations. The module computes
    what it computed before. Raises TypeError for a layer that can't be padded.
    """
    for name, axes in added.items():
        module = model.get_submodule(name)
        for axis, places in axes.items():
            if axis == "norm":
                _pad_norm(module, places)
            else:
                _pad_layer(name, module, axis, places)
    return model


def _pad_layer(name: str, module: Any, axis: str, places: Added) -> None:
    import torch

    count = sum(count for _, count in places)
    if isinstance(module, torch.nn.Linear):
        sizes = {"out": "out_features", "in": "in_features"}
    elif isinstance(module, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)):
        sizes = {"out": "out_channels", "in": "in_channels"}
    else:
        raise TypeError(f"{name}: a {type(module).__name__} can't be padded")
    depthwise = getattr(module, "groups", 1) > 1
    if depthwise and axis == "in":
        module.groups += count  # Each filter reads one channel: its weights have no axis for them.
    else:
        module.weight = _widened(module.weight, 0 if axis == "out" else 1, places)
    if axis == "out" and module.bias is not None:
        module.bias = _widened(module.bias, 0, places)
    setattr(module, sizes[axis], getattr(module, sizes[axis]) + count)


def _pad_norm(module: Any, places: Added) -> None:
    for name, inert in _INERT.items():
        if getattr(module, name, None) is not None:
            setattr(module, name, _widened(getattr(module, name), 0, places, inert))
    module.num_features += sum(count for _, count in places)


def _widened(tensor: Any, axis: int, places: Added, value: float = 0.0) -> Any:
    """Return a tensor with (place, count) slices of one value added along an axis; a parameter stays one."""
    import torch

    parts, begin = [], 0
    for place, count in sorted(map(tuple, places)):
        shape = list(tensor.shape)
        shape[axis] = count
        parts += [tensor.detach().narrow(axis, begin, place - begin), tensor.new_full(shape, value)]
        begin = place
    parts.append(tensor.detach().narrow(axis, begin, tensor.shape[axis] - begin))
    widened = torch.cat(parts, axis)
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(widened, requires_grad=tensor.requires_grad)
    return widened
