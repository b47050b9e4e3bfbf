"""The weights of a model's modules as far as planning needs them: their shapes, and the L1 norm of each filter."""

from __future__ import annotations

from dataclasses import dataclass

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
    """Return the weights of each module of a model from Python, or of each layer of an ONNX file.

    They are read in a child process. Raises NeverSlowerError, in the child's words, or where the model is a list.
    """
    return {
        name: Weights(tuple(record["shape"]), tuple(record["norms"]), bool(record["bias"]))
        for name, record in child.read_again(model, child.WEIGHTS)["weights"].items()
    }
