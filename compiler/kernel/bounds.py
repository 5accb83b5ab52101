"""Intervals of integer expressions, from the extents of the loops around them.

Used by `verify.py` to prove accesses inside their buffers and by printers to choose narrow index types.
An interval is a pair of integers, or None where nothing is known; every interval holds for all runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from ..dtypes import Kind
from .nodes import COMPARISONS, Binary, BinaryOp, Broadcast, Cast, CastMode, Const, Dim, Expr, Lane, Load, Ramp, Select, Unary, UnaryOp, Var

Interval: TypeAlias = tuple[int, int]
"""Smallest and largest value, both included."""


def largest(extent: Dim, most: Mapping[str, int]) -> int | None:
    """The most that an extent can be if each symbol lies between 0 and its bound; None if that bounds nothing."""
    if isinstance(extent, int):
        return extent
    found = Bounds({name: (0, bound) for name, bound in most.items()}).of(extent)
    return None if found is None else max(0, found[1])


class Bounds:
    """Intervals under given intervals of variables; remembers what it has computed.

    Args:
        variables: what is known of variables beyond the bound that they carry.
    """

    def __init__(self, variables: Mapping[str, Interval] | None = None) -> None:
        self._variables = dict(variables or {})
        self._found: dict[Expr, Interval | None] = {}

    def of(self, e: Expr) -> Interval | None:
        """The interval of an integer or bool expression (of all its lanes), None if unknown."""
        if e not in self._found:
            self._found[e] = self._within_type(e, self._compute(e))
        return self._found[e]

    def holds(self, e: Expr) -> bool:
        """True if a condition holds in all runs."""
        return self.of(e) == (1, 1)

    def _within_type(self, e: Expr, found: Interval | None) -> Interval | None:
        """An interval beyond the type means that the value may wrap: then only the type's limits are known."""
        if e.dtype.is_float:
            return None
        low, high = e.dtype.limits
        if found is not None and low <= found[0] and found[1] <= high:
            return found
        return (low, high) if e.dtype.bits <= 32 else None

    def _compute(self, e: Expr) -> Interval | None:
        match e:
            case Const(value=value):
                return None if isinstance(value, float) else (int(value), int(value))
            case Var(name=name, bound=bound):
                return self._variables.get(name, (0, bound - 1) if bound else None)
            case Binary(op=op, a=a, b=b):
                return self._binary(op, a, b)
            case Unary(op=UnaryOp.NEG, a=a):
                found = self.of(a)
                return None if found is None else (-found[1], -found[0])
            case Unary(op=UnaryOp.NOT, a=a) if e.dtype.kind is Kind.BOOL:
                found = self.of(a)
                return None if found is None else _opposite(found)
            case Unary(op=UnaryOp.ABS, a=a):
                found = self.of(a)
                return None if found is None else _absolute(found)
            case Select(then=then, other=other):
                return _hull(self.of(then), self.of(other))
            case Cast(value=value, mode=mode) if mode is not CastMode.BITS and not value.dtype.is_float:
                return self._cast(e, value, mode)
            case Broadcast(value=value) | Lane(vector=value):
                return self.of(value)
            case Ramp(base=base, stride=stride, lanes=lanes):
                return _add(self.of(base), _multiply(self.of(stride), (0, lanes - 1)))
            case Load():
                return None
        return None

    def _cast(self, e: Cast, value: Expr, mode: CastMode) -> Interval | None:
        found = self.of(value)
        if found is None:
            return None
        low, high = e.dtype.limits
        if mode is CastMode.SATURATE:
            return min(max(found[0], low), high), min(max(found[1], low), high)
        return found if low <= found[0] and found[1] <= high else None

    def _binary(self, op: BinaryOp, a: Expr, b: Expr) -> Interval | None:
        if a.dtype.is_float:
            return None
        x, y = self.of(a), self.of(b)
        if a.dtype.kind is Kind.BOOL and x is not None and y is not None and op in _LOGICAL:
            return _LOGICAL[op](x, y)
        if op is BinaryOp.FLOORMOD or op is BinaryOp.AND:
            return _floormod(x, y) if op is BinaryOp.FLOORMOD else _bit_and(x, y)
        if x is None or y is None:
            return _one_sided(op)
        rule = _RULES.get(op)
        return None if rule is None else rule(x, y)


def _add(x: Interval | None, y: Interval | None) -> Interval | None:
    return None if x is None or y is None else (x[0] + y[0], x[1] + y[1])


def _multiply(x: Interval | None, y: Interval | None) -> Interval | None:
    return None if x is None or y is None else _corners(lambda a, b: a * b, x, y)


def _corners(apply: Callable[[int, int], int], x: Interval, y: Interval) -> Interval:
    values = [apply(a, b) for a in x for b in y]
    return min(values), max(values)


def _absolute(x: Interval) -> Interval:
    return (0 if x[0] <= 0 <= x[1] else min(abs(x[0]), abs(x[1]))), max(abs(x[0]), abs(x[1]))


def _hull(x: Interval | None, y: Interval | None) -> Interval | None:
    return None if x is None or y is None else (min(x[0], y[0]), max(x[1], y[1]))


def _floordiv(x: Interval, y: Interval) -> Interval | None:
    if y[0] > 0 or y[1] < 0:
        return _corners(lambda a, b: a // b, x, y)
    return min(x[0], -x[1], 0), max(x[1], -x[0], 0)


def _div(x: Interval, y: Interval) -> Interval | None:
    if x[0] >= 0 and y[0] >= 0:
        return (x[0] // y[1] if y[0] > 0 else 0), x[1] // max(y[0], 1)
    largest = max(abs(x[0]), abs(x[1]))
    return -largest, largest


def _mod(x: Interval, y: Interval) -> Interval | None:
    largest = min(max(abs(y[0]), abs(y[1]), 1) - 1, max(abs(x[0]), abs(x[1])))
    return (0 if x[0] >= 0 else -largest), (0 if x[1] <= 0 else largest)


def _floormod(x: Interval | None, y: Interval | None) -> Interval | None:
    if y is None:
        return None
    if x is not None and y[0] == y[1] > 0 and x[0] // y[0] == x[1] // y[0]:
        return x[0] % y[0], x[1] % y[0]
    return min(y[0] + 1, 0), max(y[1] - 1, 0)


def _bit_and(x: Interval | None, y: Interval | None) -> Interval | None:
    """A non-negative operand bounds the result from above, and makes it non-negative."""
    known = [i for i in (x, y) if i is not None and i[0] >= 0]
    return (0, min(i[1] for i in known)) if known else None


def _shift_right(x: Interval, y: Interval) -> Interval | None:
    if y[0] < 0:
        return None
    return min(x[0] >> y[0], 0), max(x[1] >> y[0], 0)


def _one_sided(op: BinaryOp) -> Interval | None:
    """Comparisons are 0 or 1 whatever the operands."""
    return (0, 1) if op in COMPARISONS else None


def _less(x: Interval, y: Interval) -> Interval:
    return int(x[1] < y[0]), int(x[0] < y[1])


def _equal(x: Interval, y: Interval) -> Interval:
    return int(x[0] == x[1] == y[0] == y[1]), int(x[0] <= y[1] and y[0] <= x[1])


def _opposite(x: Interval) -> Interval:
    return 1 - x[1], 1 - x[0]


_RULES: dict[BinaryOp, Callable[[Interval, Interval], Interval | None]] = {
    BinaryOp.ADD: _add,
    BinaryOp.SUB: lambda x, y: (x[0] - y[1], x[1] - y[0]),
    BinaryOp.MUL: _multiply,
    BinaryOp.DIV: _div,
    BinaryOp.MOD: _mod,
    BinaryOp.FLOORDIV: _floordiv,
    BinaryOp.MIN: lambda x, y: (min(x[0], y[0]), min(x[1], y[1])),
    BinaryOp.MAX: lambda x, y: (max(x[0], y[0]), max(x[1], y[1])),
    BinaryOp.SHR: _shift_right,
    BinaryOp.EQ: _equal,
    BinaryOp.NE: lambda x, y: _opposite(_equal(x, y)),
    BinaryOp.LT: _less,
    BinaryOp.LE: lambda x, y: _opposite(_less(y, x)),
    BinaryOp.GT: lambda x, y: _less(y, x),
    BinaryOp.GE: lambda x, y: _opposite(_less(x, y)),
}
_LOGICAL: dict[BinaryOp, Callable[[Interval, Interval], Interval]] = {
    BinaryOp.AND: lambda x, y: (min(x[0], y[0]), min(x[1], y[1])),
    BinaryOp.OR: lambda x, y: (max(x[0], y[0]), max(x[1], y[1])),
}
