"""Read a lowered kernel: its groups, the work-items that have work, and the memory that it declares.

TVM enqueues whole groups, and conditions inside the kernel keep the excess from storing anything. So the work-items
that only fill groups are found by evaluating these conditions for every work-item. One has work if it stores a result;
in a kernel in which the items of a group add up one sum, also if it reads an operand.

Nodes are recognised by the names of their classes, which TVM's releases share; tvm is not imported here.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neverslower.evidence.enqueue import Enqueue, Extent

Values = NDArray[Any]
Guard = tuple[Any, bool]
"""A condition, and whether it must hold or must not."""
BLOCKS, THREADS = ("blockIdx.x", "blockIdx.y", "blockIdx.z"), ("threadIdx.x", "threadIdx.y", "threadIdx.z")
MOST_POINTS = 100_000_000
"""A guard that depends on more combinations of work-items and loop steps than this is not evaluated."""
_OPERATORS: Mapping[str, Callable[[Values, Values], Values]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "FloorDiv": operator.floordiv,
    "FloorMod": operator.mod,
    "Min": np.minimum,
    "Max": np.maximum,
    "LT": operator.lt,
    "LE": operator.le,
    "GT": operator.gt,
    "GE": operator.ge,
    "EQ": operator.eq,
    "NE": operator.ne,
    "And": np.logical_and,
    "Or": np.logical_or,
}
_HARMLESS = ("AttrStmt", "For", "Bind", "AllocBuffer", "DeclBuffer", "Evaluate")
"""Statements that store nothing by themselves and run their bodies always."""


class NotUnderstood(Exception):
    """A kernel can't be read; the text says at what."""


@dataclass(frozen=True)
class Launch:
    """One kernel as TVM lowered it, and the bytes of local and of private memory that its program declares."""

    enqueue: Enqueue
    local_bytes: int
    private_bytes: int

    @property
    def options(self) -> str:
        """Return what can differ between the programs of two equal launches."""
        return f"local_bytes={self.local_bytes} private_bytes={self.private_bytes}"


@dataclass
class _Walk:
    """What was seen so far of a kernel, variables by their hash: their axes or values, and the guards of its stores.

    `extents` are those of the thread axes by tag, `first` where loops begin, `memory` the bytes by scope. `loads` are
    the guards of reads of operands; `reduces` says that the items of a group add up one sum.
    """

    extents: dict[str, int] = field(default_factory=dict)
    axes: dict[int, tuple[str, int]] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)
    bound: dict[int, Any] = field(default_factory=dict)
    stores: list[tuple[Guard, ...]] = field(default_factory=list)
    loads: list[tuple[Guard, ...]] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    reduces: bool = False

    def declare(self, node: Any, kind: str) -> None:
        """Note what a statement other than a store or a branch brings into scope."""
        if kind == "AttrStmt" and node.attr_key == "thread_extent":
            tag, extent = str(node.node.thread_tag), int(node.value)
            self.extents[tag] = extent
            self.axes[hash(node.node.var)] = (tag, extent)
        elif kind == "AttrStmt" and node.attr_key == "reduce_scope":
            self.reduces = True
        elif kind == "For":
            self.axes[hash(node.loop_var)] = (f"loop {len(self.axes)}", int(node.extent))
            self.first[hash(node.loop_var)] = int(node.min)
        elif kind == "Bind":
            self.bound[hash(node.var)] = node.value
        elif kind == "AllocBuffer":
            scope, elements = str(node.buffer.scope()), math.prod(int(extent) for extent in node.buffer.shape)
            self.memory[scope] = self.memory.get(scope, 0) + elements * _bytes(str(node.buffer.dtype))


def _bytes(dtype: str) -> int:
    """Return the bytes of one element of TVM's dtype, such as `float32` or `float32x4`."""
    bits, _, lanes = dtype.lstrip("abcdefghijklmnopqrstuvwxyz").partition("x")
    return max(1, int(bits or 8) * int(lanes or 1) // 8)


def launch_of(name: str, function: Any) -> Launch:
    """Return the launch of a lowered device function. Raises NotUnderstood."""
    walk = _Walk()
    _visit(function.body, (), walk)
    if not walk.stores or (walk.reduces and not walk.loads):
        raise NotUnderstood(f"{name} stores nothing, or reads nothing")
    group, groups = ([walk.extents.get(tag, 1) for tag in tags] for tags in (THREADS, BLOCKS))
    enqueue = Enqueue(name, _with_work(walk), (group[0], group[1], group[2]))
    x, y, z = (number * size for number, size in zip(groups, group, strict=True))
    if enqueue.filled != (x, y, z):
        enqueue = replace(enqueue, whole=(x, y, z))
    return Launch(enqueue, walk.memory.get("shared", 0), walk.memory.get("local", 0))


def grid_and_block(function: Any) -> tuple[Extent, Extent]:
    """Return the groups that a lowered device function is launched with, and the threads of one, as (x, y, z)."""
    walk, waiting = _Walk(), [function.body]
    while waiting:
        node = waiting.pop()
        if type(node).__name__ == "AttrStmt" and node.attr_key == "thread_extent":
            walk.declare(node, "AttrStmt")
        inner = (getattr(node, name, None) for name in ("body", "then_case", "else_case"))
        waiting += [*getattr(node, "seq", ()), *(each for each in inner if each is not None)]
    blocks, threads = ([walk.extents.get(tag, 1) for tag in tags] for tags in (BLOCKS, THREADS))
    return (blocks[0], blocks[1], blocks[2]), (threads[0], threads[1], threads[2])


def _visit(node: Any, guards: tuple[Guard, ...], walk: _Walk) -> None:
    """Walk a statement that runs where all of the guards hold."""
    kind = type(node).__name__
    if kind == "SeqStmt":
        for statement in node.seq:
            _visit(statement, guards, walk)
    elif kind == "IfThenElse":
        _visit(node.then_case, (*guards, (node.condition, True)), walk)
        if node.else_case is not None:
            _visit(node.else_case, (*guards, (node.condition, False)), walk)
    elif kind == "BufferStore":
        if str(node.buffer.scope()) == "global":
            walk.stores.append(guards)
        elif _reads(node.value):
            walk.loads.append(guards)
    else:
        if kind not in _HARMLESS:
            raise NotUnderstood(f"the kernel holds a {kind}")
        walk.declare(node, kind)
        if (body := getattr(node, "body", None)) is not None:
            _visit(body, guards, walk)


def _reads(node: Any) -> bool:
    """Return whether an expression reads one of the kernel's operands."""
    if type(node).__name__ == "BufferLoad":
        return str(node.buffer.scope()) == "global"
    if type(node).__name__ == "TensorLoad":  # As 0.27 calls it.
        return str(node.source.scope()) == "global"
    operands = [getattr(node, name) for name in ("a", "b", "value", "condition") if hasattr(node, name)]
    return any(map(_reads, [*operands, *getattr(node, "args", ())]))


def _with_work(walk: _Walk) -> Extent:
    """Return how many work-items have work, as (x, y, z). Raises NotUnderstood where they form no box."""
    busy = np.zeros([walk.extents.get(tag, 1) for tag in (*BLOCKS, *THREADS)], dtype=bool)
    for guards in [*walk.stores, *(walk.loads if walk.reduces else ())]:
        busy |= _where(guards, walk)
    x, y, z = (int(busy.any(axis=_others(dimension)).sum()) for dimension in range(3))
    if x * y * z != int(busy.sum()):
        raise NotUnderstood(f"the {busy.sum()} work-items that have work form no box ({x}×{y}×{z})")
    return x, y, z


def _others(dimension: int) -> tuple[int, ...]:
    """Return the axes of (3 of groups, 3 of items) that do not belong to a dimension from 0 to 2."""
    return tuple(axis for axis in range(6) if axis % 3 != dimension)


def _where(guards: tuple[Guard, ...], walk: _Walk) -> Values:
    """Return where all the guards hold at some step of the loops, in a shape that broadcasts to the six axes."""
    used = sorted({axis for condition, _ in guards for axis in _axes(condition, walk)})
    loops = [name for name in used if name[0].startswith("loop")]
    names = [*((tag, walk.extents.get(tag, 1)) for tag in (*BLOCKS, *THREADS)), *loops]
    if math.prod(extent for _, extent in used) > MOST_POINTS:
        raise NotUnderstood(f"a guard depends on {' × '.join(str(extent) for _, extent in used)} combinations")
    places = {name: place for place, (name, _) in enumerate(names)}
    holds: Values = np.ones([1] * len(names), dtype=bool)
    for condition, wanted in guards:
        value = _value(condition, walk, places)
        holds = holds & (value if wanted else np.logical_not(value))
    return np.asarray(holds.any(axis=tuple(range(6, len(names)))))


def _axes(node: Any, walk: _Walk) -> set[tuple[str, int]]:
    """Return the thread axes and loops, with extents, that an expression depends on."""
    if type(node).__name__ == "Var":
        if hash(node) in walk.bound:
            return _axes(walk.bound[hash(node)], walk)
        return {walk.axes[hash(node)]} if hash(node) in walk.axes else set()
    return {axis for operand in _operands(node) for axis in _axes(operand, walk)}


def _operands(node: Any) -> list[Any]:
    """Return the operands of an expression."""
    if type(node).__name__ in _OPERATORS:
        return [node.a, node.b]
    if type(node).__name__ == "Not":
        return [node.a]
    if type(node).__name__ == "Cast":
        return [node.value]
    if type(node).__name__ == "Call" and str(node.op.name).endswith(".likely"):
        return list(node.args)
    return []


def _value(node: Any, walk: _Walk, places: Mapping[str, int]) -> Values:
    """Return an expression's values, each axis that it depends on in its place. Raises NotUnderstood."""
    kind = type(node).__name__
    if kind == "IntImm":
        return np.asarray(int(node.value))
    if kind == "Var" and hash(node) in walk.bound:
        return _value(walk.bound[hash(node)], walk, places)
    if kind == "Var" and hash(node) in walk.axes:
        name, extent = walk.axes[hash(node)]
        values = np.arange(extent) + walk.first.get(hash(node), 0)
        return values.reshape([extent if place == places[name] else 1 for place in range(len(places))])
    operands = [_value(operand, walk, places) for operand in _operands(node)]
    if not operands:
        raise NotUnderstood(f"a condition holds the {kind} {str(node)[:60]}")
    if kind == "Not":
        return np.logical_not(operands[0])
    return _OPERATORS[kind](*operands) if kind in _OPERATORS else operands[0]
