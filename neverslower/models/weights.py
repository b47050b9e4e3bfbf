"""The weights of a model's modules as far as planning needs them: their shapes, and the L1 norm of each filter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neverslower.errors import NeverSlowerError
from neverslower.models import child
from neverslower.problem.model import Model


@dataclass(frozen=True)
class Weights:
    """The weights of one module, of `shape` (filters, …), the sum of the absolute values of each filter, and a bias."""

    shape: tuple[int, ...]
    norms: tuple[float, ...]
    bias: bool

    @property
    def parameters(self) -> int:
        """Return how many numbers the weights and the bias hold."""
        count = 1
        for size in self.shape:
            count *= size
        return count + (self.shape[0] if self.bias else 0)


def weights_of(model: Model) -> dict[str, Weights]:
    """Return the weights of each module of a model that comes from Python, read in a child process.

    Raises NeverSlowerError, in the child's words, or where the model is of another kind.
    """
    if not model.source or model.source[0] != child.TORCH:
        raise NeverSlowerError(f"{model.title}: the weights of a model are read from Python; name it with --model")
    _, text, *rest = model.source
    given = [word for place, word in enumerate(rest) if place and rest[place - 1] == "--input"]
    found: Mapping[str, Any] = child.read(child.TORCH, text, given, child.WEIGHTS)
    return {
        name: Weights(tuple(record["shape"]), tuple(record["norms"]), bool(record["bias"]))
        for name, record in found["weights"].items()
    }
