"""Predicates on a problem, such as `out_channels % 8 != 0 and groups == 1`: a small, safe part of Python."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from typing import Any, TypeGuard

from neverslower.errors import NeverSlowerError
from neverslower.problem.convolution import ConvProblem, DType, Layout, Side

LONGEST, SHOWN = 1000, 60
"""The most characters of a predicate, for on longer ones Python's own parser may run out of stack; and of a part of it
that an error shows.
"""
FIELDS: dict[str, Callable[[ConvProblem], Any]] = {
    "batch": lambda p: p.batch,
    "groups": lambda p: p.groups,
    "in_channels": lambda p: p.in_channels,
    "out_channels": lambda p: p.out_channels,
    "height": lambda p: p.height,
    "width": lambda p: p.width,
    "kernel_h": lambda p: p.kernel[0],
    "kernel_w": lambda p: p.kernel[1],
    "stride_h": lambda p: p.stride[0],
    "stride_w": lambda p: p.stride[1],
    "depthwise": lambda p: p.depthwise,
    "macs": lambda p: p.macs,
    "bias": lambda p: p.epilogue.bias,
    "post_ops": lambda p: "+".join(map(str, p.epilogue.post_ops)),
    "dtype": lambda p: str(p.dtype),
    "layout": lambda p: str(p.layout),
}
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


WORDS: dict[str, tuple[str, ...]] = {
    "dtype": tuple(map(str, DType)),
    "layout": tuple(map(str, Layout)),
    "side": tuple(map(str, Side)),
}
"""Fields whose values are some words, with these words; nothing else can equal one."""
NONE: Mapping[str, Any] = {}


class PredicateError(NeverSlowerError, ValueError):
    """A predicate that the language does not allow; `position` is the offending character, counted from 0."""

    def __init__(self, text: str, why: str, position: int = 0) -> None:
        super().__init__(f"predicate {text!r}{why}")
        self.position = position


@cache
def _parse(text: str, further: frozenset[str]) -> ast.expr:
    """Parse an expression, and reject what is wrong in it even where evaluation would stop before it."""
    if len(text) > LONGEST:
        raise PredicateError(text[:20], f"…: {len(text)} characters; {LONGEST} is the most")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        position = _position(text, error.lineno or 1, max(1, error.offset or 1) - 1)
        more = "; write it in one line, or in parentheses" if "\n" in text.strip() else ""
        raise PredicateError(text, f", character {error.offset}: {error.msg}{more}", position) from None
    except (ValueError, RecursionError, MemoryError) as error:  # A null byte; too deep for the parser's stack.
        raise PredicateError(text, f": {str(error) or 'too deep'}") from None
    # All names and forms at once: `and` and `or` would hide a mistake until a problem comes that reaches it.
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in FIELDS and node.id not in further:
            known = ", ".join([*FIELDS, *sorted(further)])
            raise PredicateError(text, f": no field {node.id!r} (known: {known})", _place(text, node))
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and not _allowed(node):
            part = ast.get_source_segment(text.strip(), node) or ""
            shown = part if len(part) <= SHOWN else f"{part[:SHOWN]}…"
            raise PredicateError(text, f": {shown!r} is not allowed here", _place(text, node))
    return tree


def _place(text: str, node: ast.expr) -> int:
    """Return where in the text a part begins, in characters from 0; the parser counts bytes of UTF-8 in a line."""
    line = text.strip().split("\n")[node.lineno - 1]
    return _position(text, node.lineno, len(line.encode()[: node.col_offset].decode(errors="replace")))


def _position(text: str, line: int, column: int) -> int:
    """Return a place in the text from a line (from 1) and a column (from 0) of what the parser was given."""
    before = text.strip().split("\n")[: line - 1]
    return len(text) - len(text.lstrip()) + sum(len(one) + 1 for one in before) + column


def _allowed(node: ast.expr) -> bool:
    """Return whether a form is part of the language: no call, no attribute, no power, whose result could be huge."""
    match node:
        case ast.Constant(value=int() | str()) | ast.Name() | ast.Tuple() | ast.List() | ast.BoolOp():
            return True
        case ast.BinOp(op=op):
            return type(op) in _BINARY
        case ast.UnaryOp(op=op):
            return isinstance(op, ast.Not)
        case ast.Compare(ops=ops):
            return all(type(op) in _COMPARE for op in ops)
    return False


def holds(text: str, problem: ConvProblem, further: Mapping[str, Any] = NONE) -> bool:
    """Return whether the predicate is true of the problem; `further` are values of fields that a problem has not.

    Raises PredicateError where it can't be read, or can't be computed for this problem.
    """
    try:
        return bool(_value(_parse(text, frozenset(further)), problem, further))
    except (ZeroDivisionError, TypeError, RecursionError, MemoryError) as error:
        raise PredicateError(text, f": {str(error) or 'too large'}") from None


def require_sound(text: str, problem: ConvProblem, further: Mapping[str, Any] = NONE) -> None:
    """Raise PredicateError where a predicate can't be read, or some part of it can't be computed for this problem."""
    # Each part by itself, the smallest first: `and` and `or` stop at what decides.
    for node in reversed(list(ast.walk(_parse(text, frozenset(further))))):
        if isinstance(node, ast.expr):
            try:
                _value(node, problem, further)
            except (ZeroDivisionError, TypeError, RecursionError, MemoryError) as error:
                raise PredicateError(text, f": {str(error) or 'too large'}", _place(text, node)) from None


def require_yes_or_no(text: str, problem: ConvProblem, further: Mapping[str, Any] = NONE) -> None:
    """Raise PredicateError where a sound predicate is no question, or asks a field for a word that it never has."""
    tree = _parse(text, frozenset(further))
    for node in ast.walk(tree):
        operands = node.values if isinstance(node, ast.BoolOp) else [node.operand] if _is_not(node) else []
        for operand in operands:
            _require_question(text, operand, problem, further)
        if isinstance(node, ast.Compare):
            _require_words(text, node)
            _require_alike(text, node, problem, further)
    _require_question(text, tree, problem, further)


def _is_not(node: ast.AST) -> TypeGuard[ast.UnaryOp]:
    return isinstance(node, ast.UnaryOp)


def _require_question(text: str, node: ast.expr, problem: ConvProblem, further: Mapping[str, Any]) -> None:
    value = _value(node, problem, further)
    if not isinstance(value, bool):
        part = ast.get_source_segment(text.strip(), node)
        raise PredicateError(
            text, f": {part!r} is {value!r} and neither true nor false; compare it", _place(text, node)
        )


def _require_words(text: str, node: ast.Compare) -> None:
    """Refuse a comparison of a field that has words with what is none of them."""
    sides = [node.left, *node.comparators]
    for one, other in (*pairwise(sides), *pairwise(reversed(sides))):
        if isinstance(one, ast.Name) and one.id in WORDS:
            for part in other.elts if isinstance(other, ast.Tuple | ast.List) else [other]:
                if isinstance(part, ast.Constant) and part.value not in WORDS[one.id]:
                    known = ", ".join(WORDS[one.id])
                    raise PredicateError(
                        text, f": {one.id} is never {part.value!r} (it is {known})", _place(text, part)
                    )


def _require_alike(text: str, node: ast.Compare, problem: ConvProblem, further: Mapping[str, Any]) -> None:
    """Refuse to compare a word with a number, which it never equals."""
    operands = [node.left, *node.comparators]
    for one, other in pairwise(operands):
        first = _value(one, problem, further)
        for part in other.elts if isinstance(other, ast.Tuple | ast.List) else [other]:
            second = _value(part, problem, further)
            if not isinstance(first, list) and isinstance(first, str) != isinstance(second, str):
                parts = (ast.get_source_segment(text.strip(), either) for either in (one, part))
                raise PredicateError(
                    text, f": {' and '.join(map(str, parts))} are a number and a word, never equal", _place(text, part)
                )


def _value(node: ast.expr, problem: ConvProblem, further: Mapping[str, Any]) -> Any:
    def value(inner: ast.expr) -> Any:
        return _value(inner, problem, further)

    # Only these forms are evaluated, and never by eval: a file of hazards may come from anybody.
    match node:
        case ast.Constant(value=constant):
            return constant
        case ast.Name(id=name):
            return further[name] if name in further else FIELDS[name](problem)
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_number(value(left)), _number(value(right)))
        case ast.BoolOp(op=op, values=values):
            results = (value(inner) for inner in values)
            return all(results) if isinstance(op, ast.And) else any(results)
        case ast.UnaryOp(operand=operand):
            return not value(operand)
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return [value(element) for element in elements]
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            operands = [value(left), *(value(inner) for inner in comparators)]
            pairs = zip(ops, operands, operands[1:], strict=False)
            return all(_COMPARE[type(op)](first, second) for op, first, second in pairs)
    raise TypeError(f"{type(node).__name__} has no value")


def _number(value: Any) -> int:
    """Return an operand; of words and lists, `*` and `%` would make huge ones."""
    if not isinstance(value, int):
        raise TypeError(f"only whole numbers can be calculated with, and {value!r} is none")
    return value
