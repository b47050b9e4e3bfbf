"""Reads oneDNN benchdnn's problem descriptors, such as `mb1_g1ic128oc128_ih28oh28kh3sh1ph1`.

They are read with benchdnn's own defaults (oneDNN, tests/benchdnn/conv/conv_aux.cpp, `str2desc`): two images, one
group, stride 1, no dilation, width equal to height. The output follows from the padding, or the padding from the
output.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from neverslower.errors import DescriptorError, InvalidProblem

MOST_ODD_PADDING = 3
"""A tiny image may well be padded by that many rows more on one side; beyond its own size, more is a deconvolution."""
_FIELD = re.compile(r"(mb|g|[io]c|[ioksdp][dhw])([0-9]*)")


def described(text: str) -> dict[str, Any]:
    """Return the numbers of the problem that a descriptor describes, by ConvProblem's fields.

    Raises DescriptorError, with the position, and InvalidProblem for an axis whose numbers do not fit together.
    """
    fields, _ = _fields_and_name(text)
    tall, wide = (any(f"{kind}{letter}" in fields for kind in "ioksdp") for letter in "hw")
    for name in ("ic", "oc", "iw", "kw") if wide and not tall else ("ic", "oc", "ih", "kh"):
        if name not in fields:
            raise DescriptorError(
                text, len(text), f"{name} is missing (input and output channels, ih and kh are needed)"
            )
    across = _Axis.read(text, fields, "w") if wide else None
    down = _Axis.read(text, fields, "h") if tall else _FLAT
    across = across or down
    return {
        "batch": fields.get("mb", 2),
        "groups": fields.get("g", 1),
        "in_channels": fields["ic"],
        "out_channels": fields["oc"],
        "height": down.size,
        "width": across.size,
        "kernel": (down.kernel, across.kernel),
        "stride": (down.stride, across.stride),
        "dilation": (down.dilation, across.dilation),
        "padding": (*down.padding, *across.padding),
    }


def descriptor_name(text: str) -> str:
    """Return the free name at the end of a descriptor (`n"conv1"`), or an empty string. Raises DescriptorError."""
    return _fields_and_name(text)[1]


def _fields_and_name(text: str) -> tuple[dict[str, int], str]:
    """Return the descriptor's numbers by name; the symbol `_` separates them, and `n` begins a free name."""
    fields: dict[str, int] = {}
    position = 0
    while position < len(text):
        if text[position] == "_":
            position += 1
            continue
        if text[position] == "n" and fields:
            _require_printable(text, position)
            return fields, text[position + 1 :].strip('"')
        match = _FIELD.match(text, position)
        if not match:
            raise DescriptorError(
                text, position, "expected a field such as mb, g, ic, oc, ih, oh, kh, sh, dh, ph or iw"
            )
        name, digits = match.groups()
        if not digits:
            raise DescriptorError(text, match.end(), f"{name} needs a number")
        if name[1:] == "d":
            raise DescriptorError(text, position, f"{name} belongs to 3-D convolutions; 2-D ones have h and w")
        if name in fields:
            raise DescriptorError(text, position, f"{name} is given twice")
        if len(digits) > 9:  # Beyond any memory; int() of a very long text would take long or be refused.
            raise DescriptorError(text, match.start(2), f"{name} is too large")
        fields[name] = int(digits)
        position = match.end()
    return fields, ""


def _require_printable(text: str, position: int) -> None:
    """Raise DescriptorError for a free name that can't be printed, because it ends up in test ids and in baselines."""
    for index, symbol in enumerate(text[position:], position):
        if not symbol.isprintable():
            raise DescriptorError(text, index, "a name is made of printable characters")


@dataclass(frozen=True)
class _Axis:
    size: int
    kernel: int
    stride: int
    dilation: int
    padding: tuple[int, int]

    @classmethod
    def read(cls, text: str, fields: dict[str, int], letter: str) -> _Axis:
        """Read one axis of a descriptor, and infer what is left out as benchdnn does. Raises InvalidProblem."""
        for kind in "ik":
            if f"{kind}{letter}" not in fields:
                raise DescriptorError(text, len(text), f"{kind}{letter} is missing next to the other {letter} fields")
        size, kernel = fields[f"i{letter}"], fields[f"k{letter}"]
        stride, dilation = fields.get(f"s{letter}", 1), fields.get(f"d{letter}", 0) + 1
        if stride < 1:
            raise InvalidProblem(f"descriptor {text!r}: s{letter}=0, a stride must be at least 1")
        extent = (kernel - 1) * dilation + 1
        out, before = fields.get(f"o{letter}"), fields.get(f"p{letter}")
        if out is None:
            before = before or 0
            return cls(size, kernel, stride, dilation, (before, before))
        if before is None:  # Half of what the output needs, rounded down, as benchdnn does.
            before = max(0, ((out - 1) * stride - size + extent) // 2)
        after = _trailing(size, extent, stride, before, out)
        if after is None:
            raise InvalidProblem(
                f"descriptor {text!r}: o{letter}{out} does not follow from i{letter}{size} with padding {before}"
            )
        if after > max(size, extent, MOST_ODD_PADDING) and after != before:
            where = "rows of padding below" if letter == "h" else "columns of padding on the right"
            raise InvalidProblem(
                f"descriptor {text!r}: o{letter}{out} from i{letter}{size} takes {after} {where}, so it describes a "
                "deconvolution (transposed convolution), which is not measured"
            )
        return cls(size, kernel, stride, dilation, (before, after))


_FLAT = _Axis(1, 1, 1, 1, (0, 0))
"""The height of a 1-D convolution."""


def _trailing(size: int, extent: int, stride: int, before: int, out: int) -> int | None:
    """Return the trailing padding that gives `out`: equal to the leading one if it can, else the least; else None."""

    def output(after: int) -> int:
        return (size + before + after - extent) // stride + 1

    smallest = max(0, (out - 1) * stride + extent - size - before)
    for after in (before, smallest):
        if output(after) == out:
            return after
    return None
