"""What follows a convolution in the same call: a bias, a residual that is added, an activation.

A library that computes them together often chooses another kernel than for the convolution alone. The words are those
of oneDNN's benchdnn (tests/benchdnn/doc/knobs_attr.md, `--attr-post-ops`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neverslower.enums import StrEnum
from neverslower.errors import InvalidProblem

Array = NDArray[np.float32]
Double = NDArray[np.float64]
BIAS = "bias"


class PostOp(StrEnum):
    """One step after the bias: add the residual, or apply an activation; `swish:1` is torch's SiLU."""

    SUM = "sum"
    RELU = "relu"
    SWISH = "swish:1"


_SPELLINGS = {
    "sum": PostOp.SUM,
    "sum:1": PostOp.SUM,
    "relu": PostOp.RELU,
    "relu:0": PostOp.RELU,
    "swish:1": PostOp.SWISH,
    "silu": PostOp.SWISH,
}
"""benchdnn's spellings, and torch's name. A bare `swish` is another function there: its alpha is 0."""


def post_ops(text: str) -> tuple[PostOp, ...]:
    """Return the post-ops that a text such as `sum+relu` lists, in their order. Raises InvalidProblem."""
    words = [word.strip() for word in text.split("+")]
    for word in words:
        if word not in _SPELLINGS:
            known = ", ".join(map(str, PostOp))
            hint = "; write swish:1 or silu" if word == "swish" else ""
            raise InvalidProblem(f"{word!r} is not one of the post-ops {known}, joined as in sum+relu{hint}")
    return tuple(_SPELLINGS[word] for word in words)


@dataclass(frozen=True)
class Epilogue:
    """Whether there is a bias, and the post-ops behind it in their order; an empty one is false.

    Raises InvalidProblem for two residuals or two activations.
    """

    bias: bool = False
    post_ops: tuple[PostOp, ...] = ()

    def __post_init__(self) -> None:
        if type(self.bias) is not bool or not all(isinstance(step, PostOp) for step in self.post_ops):
            raise InvalidProblem(f"{self.post_ops!r} with bias={self.bias!r} must be PostOps, and True or False")
        kinds = Counter("sum" if step is PostOp.SUM else "activation" for step in self.post_ops)
        if max(kinds.values(), default=0) > 1:
            raise InvalidProblem(f"{self}: at most one residual (sum) and one activation (relu or swish:1)")

    def __bool__(self) -> bool:
        return self.bias or bool(self.post_ops)

    def __str__(self) -> str:
        """Return such as `bias+sum+relu`, which `parse` reads, and nothing for an empty epilogue."""
        return "+".join([*([BIAS] if self.bias else []), *map(str, self.post_ops)])

    @classmethod
    def parse(cls, text: str) -> Epilogue:
        """Read what `str` wrote of an epilogue that is not empty. Raises InvalidProblem."""
        words = text.split("+")
        steps = words[1:] if words[0] == BIAS else words
        return cls(words[0] == BIAS, post_ops("+".join(steps)) if steps else ())

    @property
    def activation(self) -> PostOp | None:
        """Return the activation among the post-ops, if there is one."""
        return next((step for step in self.post_ops if step is not PostOp.SUM), None)

    @property
    def residual(self) -> bool:
        """Return whether a residual is added."""
        return PostOp.SUM in self.post_ops


PLAIN = Epilogue()


@dataclass(frozen=True, eq=False)
class Added:
    """The tensors of an epilogue, where it has them.

    A bias has the shape (out_channels,), a residual that of the output, (batch, out_channels, out_height, out_width).
    """

    bias: Array | None = None
    residual: Array | None = None

    def kept(self, channels: list[int]) -> Added:
        """Return what is added to these output channels."""
        residual = None if self.residual is None else np.ascontiguousarray(self.residual[:, channels])
        return Added(None if self.bias is None else self.bias[channels], residual)


NOTHING = Added()


def applied(epilogue: Epilogue, output: Double, added: Added) -> Double:
    """Return a convolution's output, channels second, behind its epilogue in float64.

    Raises ValueError where a tensor that the epilogue takes is missing, or one is there that it does not take.
    """
    if epilogue.bias != (added.bias is not None) or epilogue.residual != (added.residual is not None):
        raise ValueError(f"the epilogue {epilogue or 'that is empty'} does not take these tensors")
    if added.bias is not None:
        output = output + added.bias.astype(np.float64)[:, None, None]
    for step in epilogue.post_ops:
        if step is PostOp.RELU:
            output = np.maximum(output, 0.0)
        elif step is PostOp.SWISH:
            with np.errstate(over="ignore"):  # Far below zero the function is zero.
                output = output / (1.0 + np.exp(-output))
        elif added.residual is not None:
            output = output + added.residual
    return output
