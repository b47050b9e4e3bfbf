"""Predicates on a problem, such as `out_channels % 8 != 0 and groups == 1`: a small, safe part of Python."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from functools import cache
from typing import Any

from neverslower.errors import NeverSlowerError
from neverslower.problem.convolution import ConvProblem

LONGEST = 1000
"""The most characters of a predicate; on longer ones Python's own parser may run out of stack."""
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


class PredicateError(NeverSlowerError, ValueError):
    """A predicate that the language does not allow; the message names the part."""


@cache
def _parse(text: str) -> ast.expr:
    """Parse an expression, and reject a misspelt field even where evaluation would stop before it."""
    if len(text) > LONGEST:
        raise PredicateError(f"predicate {text[:20]!r}…: {len(text)} characters; {LONGEST} is the most")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise PredicateError(f"predicate {text!r}, character {error.offset}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # A null byte; too deep for the parser's stack.
        raise PredicateError(f"predicate {text!r}: {str(error) or 'too deep'}") from None
    # All names at once: `and` and `or` would hide a misspelt field until a problem comes that reaches it.
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in FIELDS:
            raise PredicateError(f"predicate {text!r}: no field {node.id!r} (known: {', '.join(FIELDS)})")
    return tree


def holds(text: str, problem: ConvProblem) -> bool:
    """Return whether the predicate is true of the problem. Raises PredicateError where it can't be read."""
    try:
        return bool(_value(_parse(text), problem, text))
    except (ZeroDivisionError, TypeError, RecursionError, MemoryError) as error:
        raise PredicateError(f"predicate {text!r}: {str(error) or 'too large'}") from None


def _value(node: ast.expr, problem: ConvProblem, text: str) -> Any:
    def value(inner: ast.expr) -> Any:
        return _value(inner, problem, text)

    # Only these forms are evaluated, and never by eval: a file of hazards may come from anybody. No power and no shift,
    # whose results could fill the memory.
    match node:
        case ast.Constant(value=int() | str() as constant):
            return constant
        case ast.Name(id=name):
            return FIELDS[name](problem)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](value(left), value(right))
        case ast.BoolOp(op=op, values=values):
            results = (value(inner) for inner in values)
            return all(results) if isinstance(op, ast.And) else any(results)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not value(operand)
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return [value(element) for element in elements]
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in _COMPARE for op in ops):
            operands = [value(left), *(value(inner) for inner in comparators)]
            pairs = zip(ops, operands, operands[1:], strict=False)
            return all(_COMPARE[type(op)](first, second) for op, first, second in pairs)
    raise PredicateError(f"predicate {text!r}: {ast.unparse(node)!r} is not allowed here")
