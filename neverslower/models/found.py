"""What the child process finds in a model, as plain data that JSON can carry, and how names become unique."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from neverslower.models.content import digest

Record = dict[str, Any]


@dataclass
class Found:
    """Convolutions, what is left out and remarks, gathered in the order in which the model runs them.

    A module that runs more than once gets `#2` and so on behind its name. `content` is what a digest is made of, by
    which a model that was changed is known.
    """

    layers: list[Record] = field(default_factory=list)
    left_out: list[Record] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)
    _seen: Counter[str] = field(default_factory=Counter)

    def convolution(
        self,
        place: str,
        inputs: Sequence[int],
        weights: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[tuple[int, int]],
        dilation: Sequence[int],
        groups: int,
        epilogue: str | None = None,
    ) -> None:
        """Add a convolution of (batch, channels, …) inputs and (filters, channels / groups, …) weights.

        `padding` is (leading, trailing) of each axis. One axis is a convolution of height 1; three are left out.
        `epilogue` is what follows in words, None where that is not known.
        """
        axes = len(weights) - 2
        outputs = [
            (size + sum(pad) - (kernel - 1) * dilate - 1) // step + 1
            for size, pad, kernel, dilate, step in zip(inputs[2:], padding, weights[2:], dilation, stride, strict=True)
        ]
        if axes > 2:
            self.leave_out(place, f"{axes}-D convolution", inputs[0] * prod(outputs) * prod(weights))
            return
        flat = axes == 1
        self.layers.append(
            {
                "place": self._unique(place),
                "batch": inputs[0],
                "in_channels": inputs[1],
                "height": 1 if flat else inputs[2],
                "width": inputs[-1],
                "out_channels": weights[0],
                "kernel": [1, weights[2]] if flat else list(weights[2:]),
                "stride": [1, *stride] if flat else list(stride),
                "padding": [0, 0, *padding[0]] if flat else [*padding[0], *padding[1]],
                "dilation": [1, *dilation] if flat else list(dilation),
                "groups": groups,
                "epilogue": epilogue,
            }
        )

    def leave_out(self, place: str, what: str, macs: int) -> None:
        """Add an operation that is not measured."""
        self.left_out.append({"place": self._unique(place), "what": what, "macs": int(macs)})

    def remark(self, text: str) -> None:
        """Add what a user has to know of the model, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def record(self) -> Mapping[str, Any]:
        """Return everything as plain data."""
        fields = {"layers": self.layers, "left_out": self.left_out, "remarks": self.remarks}
        return {**fields, "digest": digest(self.content)}

    def _unique(self, place: str) -> str:
        self._seen[place] += 1
        return place if self._seen[place] == 1 else f"{place}#{self._seen[place]}"


def same_padding(size: int, kernel: int, stride: int, dilation: int, more_first: bool = False) -> tuple[int, int]:
    """Return (leading, trailing) padding by which the output has ceil(size / stride) pixels, the odd one at the end."""
    total = max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
    return (total - total // 2, total // 2) if more_first else (total // 2, total - total // 2)
