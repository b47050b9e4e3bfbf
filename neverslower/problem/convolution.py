"""The whole shape of one convolution, its printed form, and its pruned forms.

The printed form is oneDNN benchdnn's problem descriptor, `mb1_g1ic128oc128_ih28oh28kh3sh1ph1` (see descriptor.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

from neverslower.enums import StrEnum
from neverslower.errors import CannotPrune, InvalidProblem
from neverslower.problem.descriptor import described
from neverslower.problem.epilogue import PLAIN, Epilogue

Pair = tuple[int, int]
"""(height, width)."""
Padding = tuple[int, int, int, int]
"""(top, bottom, left, right)."""


class DType(StrEnum):
    """The arithmetic of a problem: TF32 is float32 in memory with TF32 multiplication allowed."""

    FLOAT32 = "float32"
    TF32 = "tf32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"

    @property
    def itemsize(self) -> int:
        """Return the bytes of one element in memory."""
        return 4 if self in (DType.FLOAT32, DType.TF32) else 2


class Layout(StrEnum):
    """The order of the activations' axes in memory."""

    NCHW = "NCHW"
    NHWC = "NHWC"


class Side(StrEnum):
    """The channels that a pruning removes: the layer's own filters, its producer's, or both in one step.

    Pruning a whole network takes both from nearly every layer. Channel counts and distances of TOGETHER are those of
    the output; the input loses the same share.
    """

    OUT = "out"
    IN = "in"
    TOGETHER = "together"


SHARES = (0.12, 0.25, 0.50)
"""Shares of the channels removed, rounded down to whole channels."""
IMAGE_CHANNELS = 4
"""A layer of so many input channels or fewer reads an image, of which no pruning of a network removes a channel."""


@dataclass(frozen=True)
class ConvProblem:
    """One 2-D convolution: shape, arithmetic and memory layout, validated and hashable.

    Channel counts are totals over all groups. `dilation` is 1 for a dense kernel, and `epilogue` what follows in the
    same call. Padding that no window reads is dropped, so that two ways of writing one convolution are equal and have
    one `key`.
    Raises InvalidProblem when the numbers do not fit together.
    """

    in_channels: int
    height: int
    width: int
    out_channels: int
    kernel: Pair
    batch: int = 1
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    dtype: DType = DType.FLOAT32
    layout: Layout = Layout.NCHW
    epilogue: Epilogue = PLAIN

    def __post_init__(self) -> None:
        _require_whole_numbers(self)
        _require_words(self)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise InvalidProblem(
                    f"groups={self.groups} does not divide {name}={getattr(self, name)}; use a multiple of it"
                )
        for axis, name in enumerate(("height", "width")):
            if self._output(axis) < 1:
                raise InvalidProblem(
                    f"the kernel is larger than the padded input: {name} {getattr(self, name)} with padding "
                    f"{self.padding[2 * axis : 2 * axis + 2]}, kernel {self.kernel[axis]}, "
                    f"dilation {self.dilation[axis]}"
                )
        # Past the frozen class, for two ways of writing one convolution must be equal, hash alike and share a key.
        object.__setattr__(self, "padding", (*self._canonical_padding(0), *self._canonical_padding(1)))

    def _extent(self, axis: int) -> int:
        """Return the number of input pixels that one window spans along an axis."""
        return (self.kernel[axis] - 1) * self.dilation[axis] + 1

    def _output(self, axis: int) -> int:
        before, after = self.padding[2 * axis : 2 * axis + 2]
        size = (self.height, self.width)[axis]
        return (size + before + after - self._extent(axis)) // self.stride[axis] + 1

    def _canonical_padding(self, axis: int) -> Pair:
        """Return (leading, trailing) padding for the same output: equal if possible, else the least trailing one."""
        size = (self.height, self.width)[axis]
        before, after = self.padding[2 * axis : 2 * axis + 2]
        # A stride may skip the last rows, so different trailing paddings give one output: the descriptor, which names
        # only the leading one, must be able to stand for all of them.
        symmetric = (size + 2 * before - self._extent(axis)) // self.stride[axis] + 1
        if after == before or symmetric == self._output(axis):
            return before, before
        return before, max(0, (self._output(axis) - 1) * self.stride[axis] + self._extent(axis) - size - before)

    @property
    def out_height(self) -> int:
        """Return the rows of the output."""
        return self._output(0)

    @property
    def out_width(self) -> int:
        """Return the columns of the output."""
        return self._output(1)

    @property
    def symmetric_padding(self) -> bool:
        """Return whether leading and trailing padding are equal on both axes."""
        top, bottom, left, right = self.padding
        return top == bottom and left == right

    @property
    def depthwise(self) -> bool:
        """Return whether each input channel is convolved alone."""
        return self.groups > 1 and self.groups == self.in_channels

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """Return (out_channels, in_channels / groups, kernel height, kernel width)."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Return (batch, in_channels, height, width), whatever the layout in memory."""
        return (self.batch, self.in_channels, self.height, self.width)

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        """Return (batch, out_channels, out_height, out_width), whatever the layout in memory."""
        return (self.batch, self.out_channels, self.out_height, self.out_width)

    @property
    def macs(self) -> int:
        """Return the number of multiply-accumulates, including those on padding."""
        filters, depth, kernel_h, kernel_w = self.weight_shape
        return self.batch * self.out_height * self.out_width * filters * depth * kernel_h * kernel_w

    @property
    def bytes(self) -> int:
        """Return the bytes of input, weights, output and what the epilogue adds together."""
        sizes = [math.prod(shape) for shape in (self.input_shape, self.weight_shape, self.output_shape)]
        return (sum(sizes) + self._added) * self.dtype.itemsize

    @property
    def elements(self) -> int:
        """Return how many numbers the padded input, the weights, the output and what is added to it hold."""
        top, bottom, left, right = self.padding
        padded = (self.batch, self.in_channels, self.height + top + bottom, self.width + left + right)
        return sum(math.prod(shape) for shape in (padded, self.weight_shape, self.output_shape)) + self._added

    @property
    def _added(self) -> int:
        """Return how many numbers the bias and the residual hold."""
        residual = math.prod(self.output_shape) if self.epilogue.residual else 0
        return residual + (self.out_channels if self.epilogue.bias else 0)

    @cached_property
    def descriptor(self) -> str:
        """Return the benchdnn descriptor, which gives neither dtype nor layout nor epilogue."""
        text = f"mb{self.batch}_g{self.groups}ic{self.in_channels}oc{self.out_channels}_{self._axis('h', 0)}"
        across = self._axis("w", 1)
        # benchdnn reads a missing width as the height, so a square problem has one short name.
        return text if across.replace("w", "h") == self._axis("h", 0) else f"{text}_{across}"

    def _axis(self, letter: str, axis: int) -> str:
        size, out = (self.height, self.width)[axis], self._output(axis)
        text = f"i{letter}{size}o{letter}{out}k{letter}{self.kernel[axis]}s{letter}{self.stride[axis]}"
        # benchdnn counts the pixels between two taps, so a dense kernel has dilation 0 there and 1 here.
        dilated = f"d{letter}{self.dilation[axis] - 1}" if self.dilation != (1, 1) else ""
        return f"{text}{dilated}p{letter}{self.padding[2 * axis]}"

    @cached_property
    def key(self) -> str:
        """Return a stable name of the whole problem, `DESCRIPTOR-DTYPE-LAYOUT[-EPILOGUE]`; `from_key` reads it."""
        return "-".join(self._words)

    def __str__(self) -> str:
        return " ".join(self._words)

    @property
    def _words(self) -> list[str]:
        return [word for word in map(str, (self.descriptor, self.dtype, self.layout, self.epilogue)) if word]

    @classmethod
    def from_key(cls, key: str) -> ConvProblem:
        """Return the problem that a `key` names. Raises InvalidProblem for any other text."""
        try:
            descriptor, dtype, layout, *epilogue = key.split("-", 3)
            problem = parse_descriptor(descriptor, DType(dtype), Layout(layout))
            return replace(problem, epilogue=Epilogue.parse(epilogue[0])) if epilogue else problem
        except ValueError as error:
            form = "DESCRIPTOR-DTYPE-LAYOUT[-EPILOGUE]"
            raise InvalidProblem(f"{key!r} is not a problem's key ({form}): {error}") from None

    def channels(self, side: Side) -> int:
        """Return the channel count that a pruning on `side` reduces, that of the output where both are."""
        return self.in_channels if side is Side.IN else self.out_channels

    def prune_step(self, side: Side) -> int:
        """Return the smallest number of channels that can be removed on `side`; every distance is a multiple of it.

        A depthwise layer loses whole groups (a filter goes with its input channel), and so does any grouped layer that
        loses both; on one side another grouped layer loses the same number of channels from each group.
        """
        return self.channels(side) // self.groups if self._loses_groups(side) else self.groups

    def _loses_groups(self, side: Side) -> bool:
        return self.depthwise or (side is Side.TOGETHER and self.groups > 1)

    def can_prune(self, distance: int, side: Side) -> bool:
        """Return whether so many channels can be pruned on `side`."""
        reads_image = side is Side.TOGETHER and self.groups == 1 and self.in_channels <= IMAGE_CHANNELS
        return 0 < distance < self.channels(side) and distance % self.prune_step(side) == 0 and not reads_image

    def prune(self, distance: int, side: Side = Side.OUT) -> ConvProblem:
        """Return the same layer with `distance` channels fewer on `side`, a multiple of `prune_step`.

        Raises CannotPrune, with the reason, where nothing valid is left.
        """
        count, noun = self.channels(side), "input" if side is Side.IN else "output"
        if not 0 < distance < count:
            raise CannotPrune(
                f"{self}: {distance} of its {count} {noun} channels can't be pruned (1 to {count - 1} can)"
            )
        if self._loses_groups(side):
            return self._prune_groups(distance, side)
        if side is Side.TOGETHER:
            return self._prune_both(distance)
        if distance % self.groups:
            raise CannotPrune(
                f"{self}: {distance} channels can't be taken evenly from {self.groups} groups; "
                f"prune a multiple of {self.groups}"
            )
        if side is Side.OUT:
            return replace(self, out_channels=count - distance)
        return replace(self, in_channels=count - distance)

    def _prune_groups(self, distance: int, side: Side) -> ConvProblem:
        per_group = self.channels(side) // self.groups
        if distance % per_group:
            kind, noun = "depthwise" if self.depthwise else "grouped", "input" if side is Side.IN else "output"
            raise CannotPrune(
                f"{self}: a {kind} layer loses whole groups of {per_group} {noun} channels; "
                f"{distance} is not a multiple"
            )
        # Both counts follow from the groups that are left.
        kept = self.groups - distance // per_group
        ins, outs = (channels // self.groups for channels in (self.in_channels, self.out_channels))
        return replace(self, groups=kept, in_channels=kept * ins, out_channels=kept * outs)

    def _prune_both(self, distance: int) -> ConvProblem:
        if self.in_channels <= IMAGE_CHANNELS:
            raise CannotPrune(f"{self}: its {self.in_channels} input channels are an image's, of which none is pruned")
        # The input loses the same share, rounded down by itself where the output's is one, as in a whole network.
        share = next((share for share in SHARES if int(self.out_channels * share) == distance), None)
        lost = int(self.in_channels * share) if share else self.in_channels * distance // self.out_channels
        return replace(self, out_channels=self.out_channels - distance, in_channels=self.in_channels - max(1, lost))


def kept_channels(unpruned: ConvProblem, pruned: ConvProblem) -> tuple[list[int], list[int]]:
    """Return the indices of the (input, output) channels of `unpruned` that `pruned` keeps: the first of each group."""

    # Whether whole groups went (depthwise) or channels of each, `after // pruned.groups` stay in each group left.
    def kept(before: int, after: int) -> list[int]:
        stride, width = before // unpruned.groups, after // pruned.groups
        return [group * stride + channel for group in range(pruned.groups) for channel in range(width)]

    return kept(unpruned.in_channels, pruned.in_channels), kept(unpruned.out_channels, pruned.out_channels)


def _require_whole_numbers(problem: ConvProblem) -> None:
    """Raise InvalidProblem, naming the field, for a value that is not an integer of the right sign and number."""
    positive = ("in_channels", "height", "width", "out_channels", "batch", "groups")
    fields: dict[str, tuple[tuple[object, ...], int, int]]
    fields = {name: ((getattr(problem, name),), 1, 1) for name in positive}
    fields |= {name: (getattr(problem, name), 2, 1) for name in ("kernel", "stride", "dilation")}
    fields["padding"] = (problem.padding, 4, 0)
    for name, (values, length, least) in fields.items():
        if not isinstance(values, tuple) or len(values) != length:
            raise InvalidProblem(f"{name}={values!r} must be a tuple of {length}")
        for value in values:
            # Not isinstance: True is an int too, but prints as another problem.
            if type(value) is not int or value < least:
                shown = value if length == 1 else values
                raise InvalidProblem(f"{name}={shown!r} must be {'at least 1' if least else '0 or more'}")


def _require_words(problem: ConvProblem) -> None:
    """Raise InvalidProblem for a bare string as dtype or layout: it equals the enumeration's but hashes otherwise."""
    words: tuple[tuple[str, object, type[Enum]], ...]
    words = (("dtype", problem.dtype, DType), ("layout", problem.layout, Layout))
    for name, value, kind in words:
        if not isinstance(value, kind):
            raise InvalidProblem(f"{name}={value!r} must be a {kind.__name__}: {', '.join(map(str, kind))}")
    if not isinstance(problem.epilogue, Epilogue):
        raise InvalidProblem(f"epilogue={problem.epilogue!r} must be an Epilogue")


MOST_ELEMENTS = 10**12
"""The most numbers that a described problem may consist of; more is a typing mistake."""


def parse_descriptor(text: str, dtype: DType = DType.FLOAT32, layout: Layout = Layout.NCHW) -> ConvProblem:
    """Return the problem that a benchdnn descriptor describes, by benchdnn's defaults (`mb2`, groups 1, `dh0` = dense).

    A descriptor of a width alone is a 1-D convolution, read as one of height 1, as benchdnn does. A trailing name
    (`n"conv1"`) is accepted and dropped; `descriptor_name` returns it. Raises DescriptorError, with the position, for
    text that is not a descriptor, and InvalidProblem for one whose numbers do not fit together.
    """
    fields = described(text)
    try:
        problem = ConvProblem(dtype=dtype, layout=layout, **fields)
    except InvalidProblem as error:
        raise InvalidProblem(f"descriptor {text!r}: {error}") from None
    if problem.elements > MOST_ELEMENTS:
        size = f"{problem.elements:.1e} numbers in input, weights and output"
        raise InvalidProblem(f"descriptor {text!r}: {size} fit in no memory; {MOST_ELEMENTS:.0e} is the most")
    return problem
