"""Follow the channels of a model through its operations, whatever form the model came in.

Every channel of every layer is an element, and what two operations share joins their elements. Each tensor knows the
element behind each place of its channel axis. What is not understood holds the channels that it touches: an operation
that is taken for harmless and is not would change what the model computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from neverslower.models.coupling import IN, OUT, Group, Member

NORM = "norm"
Shape = tuple[int, ...]
Element = int


@dataclass(frozen=True)
class Tensor:
    """A tensor: its shape, its channel axis, and the element behind each place of that axis.

    Without elements its channels are not known, for the reason in `why`; a constant has neither.
    """

    shape: Shape
    axis: int = 1
    elements: tuple[Element, ...] = ()
    why: str = ""


@dataclass
class Channels:
    """The elements of a model, which of them are joined, and which are held; operations are added in their order."""

    _tensors: dict[str, Tensor] = field(default_factory=dict)
    _parents: list[Element] = field(default_factory=list)
    _where: list[tuple[str, str, int]] = field(default_factory=list)
    _first: dict[tuple[str, str], Element] = field(default_factory=dict)
    _held: dict[Element, str] = field(default_factory=dict)
    _unpaddable: dict[Element, str] = field(default_factory=dict)

    # What a reader adds

    def input(self, name: str, shape: Shape) -> None:
        """Add an input of the model; its channels are held."""
        self._tensors[name] = Tensor(shape, why="it reads the model's input")

    def constant(self, name: str, shape: Shape) -> None:
        """Add a tensor that is the same for every input, such as a parameter."""
        self._tensors[name] = Tensor(shape, why="")

    def output(self, name: str) -> None:
        """Hold the channels of what the model returns."""
        self._hold(name, "it is an output of the model")

    def layer(self, name: str, reads: str, writes: str, shape: Shape, weights: Shape, groups: int, axis: int) -> None:
        """Add a convolution or a linear layer of (out, in / groups, …) weights, whose channels are on `axis`."""
        channels, features = weights[0], weights[1] * groups
        outs, ins = self._axis(name, OUT, channels), self._axis(name, IN, features)
        read = self._of(reads)
        if read.elements and (read.axis, len(read.elements)) == (axis % len(read.shape), features):
            self._join(ins, read.elements)
        else:
            self._hold_elements(ins, read.why or "it reads a constant, or not along its channels")
            self._hold_elements(read.elements, f"{name} does not read it along its channels")
        if 1 < groups == features:
            each = channels // groups
            self._join(outs, [ins[place // each] for place in range(channels)])
        elif groups > 1:
            self._hold_elements([*outs, *ins], f"{name} is a grouped convolution")
        self._tensors[writes] = Tensor(shape, axis % len(shape), tuple(outs))

    def hold(self, layer: str, why: str) -> None:
        """Hold the channels of a layer that was added, on both of its axes."""
        self._hold_elements((place for place, (name, _, _) in enumerate(self._where) if name == layer), why)

    def norm(self, name: str, reads: str, writes: str, axis: int = 1, unpaddable: str = "") -> None:
        """Add a normalisation with numbers for each place of an axis.

        `unpaddable` says why zeros would change its result.
        """
        read = self._of(reads)
        if read.elements and read.axis != axis % len(read.shape):
            self.unknown(f"{name}, which normalises along another axis", [reads], [(writes, read.shape)])
            return
        if read.elements:
            self._join(self._axis(name, NORM, len(read.elements)), read.elements)
            self._unpaddable |= dict.fromkeys(read.elements, unpaddable) if unpaddable else {}
        self._tensors[writes] = read

    def pooled(self, what: str, reads: str, writes: str, shape: Shape, axes: int) -> None:
        """Add an operation over the last axes of a tensor, such as a pooling; over channels it is not understood."""
        read = self._of(reads)
        if read.elements and read.axis >= len(read.shape) - axes:
            self.unknown(what, [reads], [(writes, shape)])
        else:
            self.same(reads, writes, shape)

    def same(self, reads: str, writes: str, shape: Shape) -> None:
        """Add an operation that treats every channel alike and by itself, such as an activation."""
        read = self._of(reads)
        self._tensors[writes] = Tensor(shape, read.axis + len(shape) - len(read.shape), read.elements, read.why)

    def together(self, what: str, reads: Sequence[str], writes: str, shape: Shape) -> None:
        """Add an element-wise operation of several tensors, which are broadcast to `shape`."""
        tensors = [self._of(name) for name in reads]
        known = [tensor for tensor in tensors if tensor.elements]
        full = [tensor for tensor in known if len(tensor.elements) == shape[tensor.axis - len(tensor.shape)]]
        axes = {tensor.axis + len(shape) - len(tensor.shape) for tensor in known}
        if any(tensor.why for tensor in tensors) or len(axes) > 1 or (known and not full):
            self.unknown(what, reads, [(writes, shape)])
            return
        if not known:
            self.constant(writes, shape)
            return
        (axis,) = axes
        for tensor in tensors:
            if tensor in full:
                self._join(full[0].elements, tensor.elements)
            elif tensor.elements:
                self._hold_elements(tensor.elements, f"{what} spreads it over other channels")
            elif _size(tensor.shape, axis - len(shape)) != 1:
                self._hold_elements(full[0].elements, f"{what} combines it with a constant")
        self._tensors[writes] = Tensor(shape, axis, full[0].elements)

    def concatenation(self, what: str, reads: Sequence[str], writes: str, shape: Shape, along: int) -> None:
        """Add a concatenation along an axis."""
        tensors, along = [self._of(name) for name in reads], along % len(shape)
        if not all(tensor.elements for tensor in tensors) or len({tensor.axis for tensor in tensors}) > 1:
            self.unknown(what, reads, [(writes, shape)])
        elif tensors[0].axis == along:
            elements = tuple(element for tensor in tensors for element in tensor.elements)
            self._tensors[writes] = Tensor(shape, along, elements)
        else:
            self.together(what, reads, writes, shape)

    def reshaped(self, what: str, reads: str, writes: str, shape: Shape) -> None:
        """Add an operation that keeps the numbers in their order, such as a flattening."""
        read = self._of(reads)
        found = _axis_after(read.shape, read.axis, shape) if read.elements else None
        if found is None and read.elements:
            self.unknown(what, [reads], [(writes, shape)])
            return
        axis, width = found or (read.axis, 1)
        elements = tuple(element for element in read.elements for _ in range(width))
        self._tensors[writes] = Tensor(shape, axis, elements, read.why)

    def transposed(self, reads: str, writes: str, order: Sequence[int], shape: Shape) -> None:
        """Add a permutation of axes: axis `order[i]` becomes axis i."""
        read = self._of(reads)
        places = [axis % len(shape) for axis in order]
        axis = places.index(read.axis) if read.elements else read.axis
        self._tensors[writes] = Tensor(shape, axis, read.elements, read.why)

    def reduced(self, what: str, reads: str, writes: str, axes: Sequence[int], keep: bool, shape: Shape) -> None:
        """Add a mean, or another reduction, over axes; over channels it is not understood. No axes are all of them."""
        read = self._of(reads)
        gone = {axis % len(read.shape) for axis in axes} or set(range(len(read.shape)))
        if read.elements and read.axis in gone:
            self.unknown(what, [reads], [(writes, shape)])
            return
        axis = read.axis if keep else read.axis - sum(place < read.axis for place in gone)
        self._tensors[writes] = Tensor(shape, axis, read.elements, read.why)

    def unknown(self, what: str, reads: Iterable[str], writes: Iterable[tuple[str, Shape]]) -> None:
        """Add an operation that is not understood: it holds what it reads, and what reads what it writes."""
        for name in reads:
            self._hold(name, f"it is read by {what}")
        for name, shape in writes:
            self._tensors[name] = Tensor(shape, why=f"it reads what {what} makes")

    def axis_of(self, name: str) -> int | None:
        """Return the axis of a tensor on which its channels are, None where they are not known."""
        tensor = self._of(name)
        return tensor.axis if tensor.elements else None

    # What they make

    def groups(self) -> tuple[Group, ...]:
        """Return the groups, each of consecutive channels whose members advance together, in the model's order."""
        classes: dict[Element, list[Element]] = {}
        for element in range(len(self._where)):
            classes.setdefault(self._root(element), []).append(element)
        held, unpaddable = self._by_root(self._held), self._by_root(self._unpaddable)
        found: list[tuple[list[_Run], int, str, str]] = []
        for root, elements in classes.items():
            runs = _runs(self._where[element] for element in elements)
            why, padding = held.get(root, ""), unpaddable.get(root, "")
            if found and found[-1][2:] == (why, padding) and _follows(found[-1][0], found[-1][1], runs):
                found[-1] = (found[-1][0], found[-1][1] + 1, why, padding)
            else:
                found.append((runs, 1, why, padding))
        return _named([_group(*one) for one in found])

    # Elements

    def _of(self, name: str) -> Tensor:
        return self._tensors.get(name, Tensor((1,), why="it reads what is not known"))

    def _axis(self, name: str, axis: str, size: int) -> range:
        """Return the elements of a layer's axis, which are made the first time."""
        if (name, axis) not in self._first:
            self._first[name, axis] = len(self._where)
            self._where += [(name, axis, place) for place in range(size)]
            self._parents += range(len(self._parents), len(self._parents) + size)
        first = self._first[name, axis]
        return range(first, first + size)

    def _join(self, first: Iterable[Element], second: Iterable[Element]) -> None:
        for one, other in zip(first, second, strict=True):
            roots = self._root(one), self._root(other)
            self._parents[max(roots)] = min(roots)

    def _root(self, element: Element) -> Element:
        while self._parents[element] != element:
            self._parents[element] = element = self._parents[self._parents[element]]
        return element

    def _hold(self, name: str, why: str) -> None:
        if name in self._tensors:
            self._hold_elements(self._tensors[name].elements, why)

    def _hold_elements(self, elements: Iterable[Element], why: str) -> None:
        for element in elements:
            self._held.setdefault(element, why)

    def _by_root(self, reasons: Mapping[Element, str]) -> dict[Element, str]:
        found: dict[Element, str] = {}
        for element, why in reasons.items():
            found.setdefault(self._root(element), why)
        return found


_Run = tuple[str, str, int, int]
"""Consecutive channels of one class in a layer's axis: (layer, axis, first channel, how many)."""


def _runs(elements: Iterable[tuple[str, str, int]]) -> list[_Run]:
    """Return the consecutive channels of each axis, given in ascending order."""
    runs: list[_Run] = []
    for layer, axis, place in elements:
        if runs and runs[-1][:2] == (layer, axis) and runs[-1][2] + runs[-1][3] == place:
            runs[-1] = (layer, axis, runs[-1][2], runs[-1][3] + 1)
        else:
            runs.append((layer, axis, place, 1))
    return runs


def _follows(first: Sequence[_Run], channels: int, runs: Sequence[_Run]) -> bool:
    """Return whether the runs of a class are those of the next channel of a group that begins with `first`."""
    expected = [(layer, axis, place + channels * width, width) for layer, axis, place, width in first]
    return expected == list(runs)


def _group(runs: Sequence[_Run], channels: int, held: str, unpaddable: str) -> Group:
    members = tuple(Member(layer, axis, place, width) for layer, axis, place, width in runs if axis != NORM)
    norms = tuple(Member(layer, OUT, place, width) for layer, axis, place, width in runs if axis == NORM)
    outs = [member.layer for member in members if member.axis == OUT]
    name = outs[0] if outs else f"{(members or norms)[0].layer}.in"
    return Group(name, channels, members, held, norms, unpaddable)


def _named(groups: Sequence[Group]) -> tuple[Group, ...]:
    """Return the groups under names of their own: where a layer heads several, its channels are said."""
    counts: dict[str, int] = {}
    for group in groups:
        counts[group.name] = counts.get(group.name, 0) + 1
    return tuple(group if counts[group.name] == 1 else _with_range(group) for group in groups)


def _with_range(group: Group) -> Group:
    head = (group.members_on(OUT) or group.members or group.norms)[0]
    name = f"{group.name}[{head.offset}:{head.offset + group.channels * head.width}]"
    return Group(name, group.channels, group.members, group.held, group.norms, group.unpaddable)


def _size(shape: Shape, from_right: int) -> int:
    """Return the size of an axis that is counted from the right, 1 where there is none."""
    return shape[from_right] if -from_right <= len(shape) else 1


def _axis_after(shape: Shape, axis: int, after: Shape) -> tuple[int, int] | None:
    """Return the axis where channels are after a reshape, and the numbers there for each of them; None if mixed up."""
    before, channels = prod(shape[:axis]), shape[axis]
    candidates = [
        (place, size // channels)
        for place, size in enumerate(after)
        if prod(after[:place]) == before and size % channels == 0 and size
    ]
    exact = [found for found in candidates if found[1] == 1]
    return next(iter(exact or candidates), None)
