"""Arithmetic of extents that operator definitions share: products, exact division, prefix groups, clamping.

Extents are ints where they are known and int64 expressions over symbols otherwise; every function here
takes both. Symbols of shapes are never negative.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from ..kernel import build
from ..kernel.build import const
from ..kernel.nodes import Binary, BinaryOp, Const, Dim, Expr, Var


def total(*extents: Dim) -> Dim:
    """Sum of extents."""
    result: Expr = const(0)
    for extent in extents:
        result = build.add(result, build.index(extent))
    return build.dim(result)


def minus(a: Dim, b: Dim) -> Dim:
    """`a - b`."""
    return build.dim(build.sub(build.index(a), build.index(b)))


def times(a: Dim, b: Dim) -> Dim:
    """`a * b`."""
    return build.dim(build.mul(build.index(a), build.index(b)))


def at_least(a: Dim, low: int) -> Dim:
    """`max(a, low)`, without the maximum where `a` is certainly large enough."""
    if isinstance(a, int):
        return max(a, low)
    return a if is_at_least(a, low) else build.maximum(a, low)


def exact_quotient(whole: Sequence[Dim], parts: Sequence[Dim]) -> Dim:
    """`product(whole) / product(parts)` for a division without remainder; cancels common factors first."""
    above, below = _factors(whole), _factors(parts)
    constant, divisor = above.pop(1), below.pop(1)
    shared = above[0] & below[0]
    top, bottom = _multiply(above[0] - shared), _multiply(below[0] - shared)
    common = math.gcd(constant, divisor) or 1
    top, bottom = build.mul(top, constant // common), build.mul(bottom, divisor // common)
    return build.dim(build.floordiv(top, bottom))


def _factors(extents: Sequence[Dim]) -> list:  # type: ignore[type-arg]
    """[multiset of symbolic factors, constant factor]."""
    found: Counter[Expr] = Counter()
    constant = 1
    stack: list[Expr] = [build.index(e) for e in extents]
    while stack:
        e = stack.pop()
        if isinstance(e, Const):
            constant *= int(e.value)
        elif isinstance(e, Binary) and e.op is BinaryOp.MUL:
            stack += [e.a, e.b]
        else:
            found[e] += 1
    return [found, constant]


def _multiply(factors: Counter[Expr]) -> Expr:
    result: Expr = const(1)
    for factor in factors.elements():
        result = build.mul(result, factor)
    return result


def is_at_least(e: Dim, low: int) -> bool:
    """True if an extent is certainly `low` or more, given that symbols are not negative."""
    if isinstance(e, (int, Const)):
        return int(e.value if isinstance(e, Const) else e) >= low
    smallest = _smallest(e)
    return smallest is not None and smallest >= low


def _smallest(e: Expr) -> int | None:
    match e:
        case Const(value=value):
            return int(value)
        case Var():
            return 0
        case Binary(op=BinaryOp.ADD, a=a, b=b):
            low, other = _smallest(a), _smallest(b)
            return None if low is None or other is None else low + other
        case Binary(op=BinaryOp.MUL, a=a, b=b):
            low, other = _smallest(a), _smallest(b)
            return low * other if low is not None and other is not None and low >= 0 and other >= 0 else None
        case Binary(op=BinaryOp.MAX, a=a, b=b):
            lows = [x for x in (_smallest(a), _smallest(b)) if x is not None]
            return max(lows) if lows else None
        case Binary(op=BinaryOp.MIN, a=a, b=b):
            low, other = _smallest(a), _smallest(b)
            return None if low is None or other is None else min(low, other)
        case Binary(op=BinaryOp.FLOORDIV, a=a, b=Const(value=value)) if value > 0:
            low = _smallest(a)
            return None if low is None else low // int(value)
    return None


Group = tuple[tuple[int, ...], tuple[int, ...]]


def matching_groups(a: Sequence[Dim], b: Sequence[Dim]) -> list[Group]:
    """Split two shapes of one size into the shortest runs of axes with equal products.

    Returns:
        For each run, its axes in `a` and its axes in `b`; together they hold all axes in order.
    """
    groups: list[Group] = []
    i = j = 0
    while i < len(a) and j < len(b):
        rows, columns = _next_group(a[i:], b[j:])
        groups.append((tuple(range(i, i + rows)), tuple(range(j, j + columns))))
        i, j = i + rows, j + columns
    if i < len(a) or j < len(b):
        last = groups.pop() if groups else ((), ())
        groups.append((last[0] + tuple(range(i, len(a))), last[1] + tuple(range(j, len(b)))))
    return groups


def _next_group(a: Sequence[Dim], b: Sequence[Dim]) -> tuple[int, int]:
    for size in range(2, len(a) + len(b) + 1):
        for rows in range(max(1, size - len(b)), min(len(a), size - 1) + 1):
            left, right = build.product(a[:rows]), build.product(b[: size - rows])
            if left == right and left != 0:
                return rows, size - rows
    return len(a), len(b)
