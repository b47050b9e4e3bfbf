"""Whether a padded model computes what it computed before; runs in the child process.

Both are run on drawn inputs, in float64, so that a difference is one of the model and not of rounding: once with the
weights that the model's Python gives it, and once with drawn ones, for many of the former may be zero.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neverslower.errors import NeverSlowerError
from neverslower.models import torch_module
from neverslower.models.torch_module import UsersError
from neverslower.models.words import Input, ModelName

TOLERANCES = {"float64": 1e-9, "float32": 1e-4}
"""The largest difference of two outputs, over the largest output; in float32 where the model refuses float64."""


def compared(name: ModelName, inputs: Sequence[Input], script: Path) -> Mapping[str, Any]:
    """Return the largest difference between a model and what a script makes of it, over the largest output.

    Raises NeverSlowerError where they differ, or can't be run.
    """
    warnings.simplefilter("ignore")
    original = torch_module.built(name)
    pad: Any = torch_module.load(ModelName.parse(f"{script}:pad"))
    added = torch_module.load(ModelName.parse(f"{script}:ADDED"))
    worst, kind = 0.0, "float64"
    for drawn in (False, True):
        model = _with_drawn_weights(original) if drawn else original
        padded = pad(copy.deepcopy(model), added)
        try:
            difference = _difference(model, padded, inputs, kind)
        except NeverSlowerError:
            raise
        except Exception:  # noqa: BLE001  (a model may hold constants of float32; what fails again is reported)
            kind = "float32"
            difference = _in_float32(name, model, padded, inputs)
        if not difference <= TOLERANCES[kind]:
            weights = "drawn weights" if drawn else "its own weights"
            raise NeverSlowerError(
                f"{name.flag}: padded, it computes something else: with {weights} outputs differ by {difference:.3g} "
                f"of the largest one, more than {TOLERANCES[kind]:g}; nothing is written"
            )
        worst = max(worst, difference)
    return {"difference": worst, "dtype": kind}


def _in_float32(name: ModelName, model: Any, padded: Any, inputs: Sequence[Input]) -> float:
    try:
        return _difference(model, padded, inputs, "float32")
    except NeverSlowerError:
        raise
    except Exception as error:  # noqa: BLE001  (whatever the user's code raises is reported)
        raise UsersError(f"{name.flag} failed when it was run to compare it with itself padded", error) from None


def _difference(model: Any, padded: Any, inputs: Sequence[Input], kind: str) -> float:
    """Return the largest difference of the outputs of two models, over the largest output."""
    import torch
    from torch.utils import _pytree

    dtype = getattr(torch, kind)
    generator = torch.Generator().manual_seed(0)
    tensors = [_drawn(torch, given, dtype, generator) for given in inputs]
    found = []
    with torch.no_grad():
        for one in (model, padded):
            outputs = _pytree.tree_leaves(copy.deepcopy(one).to(dtype).eval()(*tensors))
            found.append([output for output in outputs if isinstance(output, torch.Tensor)])
    first, second = found
    if [output.shape for output in first] != [output.shape for output in second]:
        return float("inf")
    if not first or not all(bool(torch.isfinite(output).all()) for output in first):
        raise NeverSlowerError(
            "the model's outputs are not finite on drawn inputs, so that it can't be compared with itself padded; "
            "nothing is written"
        )
    largest = max(float(output.abs().max()) for output in first) or 1.0
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True)) / largest


def _drawn(torch: Any, given: Input, dtype: Any, generator: Any) -> Any:
    own = getattr(torch, given.dtype)
    if own.is_floating_point:
        return torch.randn(given.shape, generator=generator, dtype=dtype)
    return (torch.ones if own is torch.bool else torch.zeros)(given.shape, dtype=own)


def _with_drawn_weights(original: Any) -> Any:
    """Return a copy of a model with drawn numbers in every parameter, and in what normalisations have gathered."""
    import torch

    model = copy.deepcopy(original)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.is_floating_point() or not (isinstance(tensor, torch.nn.Parameter) or "running_" in name):
            continue
        if tensor.dim() > 1:
            drawn = torch.randn(tensor.shape, generator=generator) / (tensor[0].numel() ** 0.5)
        else:  # Scales and variances must not come near 0.
            drawn = torch.rand(tensor.shape, generator=generator) + 0.5
        tensor.data.copy_(drawn)
    return model
