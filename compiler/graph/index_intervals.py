"""Intervals of index expressions over the symbols of a model, open where nothing is known.

Symbols that are extents are 0 or more and have no upper end, so an interval may have one end only. Extents are taken not to wrap:
the program checks sizes before it uses them (`passes/plan/legal_sizes.py`). `kernel/bounds.py` is the other interval analysis: closed,
for all operators of a kernel, and exact where integers wrap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from ..kernel.nodes import Binary, BinaryOp, Const, Expr, Select, Var

IsExtent: TypeAlias = Callable[[Var], bool]
"""Whether a symbol is a size, and so not negative."""
Interval: TypeAlias = tuple[int | None, int | None]
"""The smallest and the largest value, None for no limit."""


def interval(e: Expr, is_extent: IsExtent) -> Interval:
    """The values of an index expression."""
    return _Intervals(is_extent).of(e)


class _Intervals:
    """The values of expressions with common parts, each of which is looked at once: as trees they may be exponentially large."""

    def __init__(self, is_extent: IsExtent) -> None:
        self._is_extent, self._found = is_extent, dict[int, Interval]()

    def of(self, e: Expr) -> Interval:
        """The values of a part of the expression that is asked about, which keeps its identity meanwhile."""
        found = self._found.get(id(e))
        if found is None:
            found = self._found[id(e)] = self._find(e)
        return found

    def _find(self, e: Expr) -> Interval:
        match e:
            case Const(value=value):
                return int(value), int(value)
            case Var(bound=bound) if bound:
                return 0, bound - 1
            case Var():
                return (0, None) if self._is_extent(e) else (None, None)
            case Binary(a=a, b=b) if e.op in _INTERVALS:
                return _INTERVALS[e.op](self.of(a), self.of(b))
            case Select(then=then, other=other):
                return _hull(self.of(then), self.of(other))
        return None, None


def _sum(a: Interval, b: Interval) -> Interval:
    return (
        None if a[0] is None or b[0] is None else a[0] + b[0],
        None if a[1] is None or b[1] is None else a[1] + b[1],
    )


def _product(a: Interval, b: Interval) -> Interval:
    if b[0] is not None and b[0] == b[1]:
        low, high = (None if x is None else x * b[0] for x in a)
        return (low, high) if b[0] >= 0 else (high, low)
    return (0, None) if _is_non_negative(a) and _is_non_negative(b) else (None, None)


def _quotient(a: Interval, b: Interval) -> Interval:
    return (0, a[1]) if _is_non_negative(a) and _is_non_negative(b) else (None, None)


def _remainder(_: Interval, b: Interval) -> Interval:
    return (0, b[1] - 1) if b[0] is not None and b[0] == b[1] and b[0] > 0 and b[1] is not None else (None, None)


def _least(a: Interval, b: Interval) -> Interval:
    tops = [x for x in (a[1], b[1]) if x is not None]
    return _hull(a, b)[0], min(tops, default=None)


def _greatest(a: Interval, b: Interval) -> Interval:
    bottoms = [x for x in (a[0], b[0]) if x is not None]
    return max(bottoms, default=None), _hull(a, b)[1]


def _hull(a: Interval, b: Interval) -> Interval:
    return (
        None if a[0] is None or b[0] is None else min(a[0], b[0]),
        None if a[1] is None or b[1] is None else max(a[1], b[1]),
    )


_INTERVALS: Mapping[BinaryOp, Callable[[Interval, Interval], Interval]] = {
    BinaryOp.ADD: _sum, BinaryOp.MUL: _product, BinaryOp.FLOORDIV: _quotient, BinaryOp.FLOORMOD: _remainder,
    BinaryOp.MIN: _least, BinaryOp.MAX: _greatest,
}  # fmt: skip


def is_non_negative(e: Expr, is_extent: IsExtent) -> bool:
    """True if an index expression is certainly 0 or more."""
    return _is_non_negative(interval(e, is_extent))


def _is_non_negative(values: Interval) -> bool:
    return values[0] is not None and values[0] >= 0
