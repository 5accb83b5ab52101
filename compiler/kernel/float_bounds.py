"""Bounds of float expressions that are certainly numbers, found by their form: what is known of them needs no check for NaN.

`x > low ? x : low` is a number even where `x` is none, since comparisons with NaN do not hold.
"""

from __future__ import annotations

import math
from itertools import product
from typing import TypeAlias

from ..dtypes import DType
from .nodes import Binary, BinaryOp, Broadcast, Cast, CastMode, Const, Expr, Math, MathFn, Select

FloatInterval: TypeAlias = tuple[float, float]
_EVERYTHING = (-math.inf, math.inf)


def float_bounds(e: Expr) -> FloatInterval | None:
    """Bounds of a float32 but for its rounding, which may be infinite; None if it might be NaN."""
    match e:
        case Const(value=number):
            return (float(number), float(number)) if math.isfinite(number) else None
        case Broadcast(value=inner):
            return float_bounds(inner)
        case Cast(value=inner, mode=CastMode.CONVERT) if inner.dtype.is_int and e.dtype.is_float:
            return _integers(inner)
        case Math(fn=MathFn.ROUND, args=(inner,)):
            return float_bounds(inner)
        case Math(fn=MathFn.FMA, args=(a, b, c)):
            return _add(_multiply(_finite(a), _finite(b)), _finite(c))
        case Binary(op=BinaryOp.MUL, a=a, b=b) if e.dtype is DType.FLOAT32:
            return _multiply(_finite(a), _finite(b))
        case Binary(op=BinaryOp.ADD, a=a, b=b) if e.dtype is DType.FLOAT32:
            return _add(_finite(a), _finite(b))
        case Select(cond=Binary(op=BinaryOp.GT | BinaryOp.LT as op, a=x, b=bound), then=then, other=other) if then is x and other is bound:
            return _limited(op, float_bounds(x), float_bounds(bound))
    return None


def _integers(e: Expr) -> FloatInterval:
    """Those of an integer, seen through conversions to a wider type."""
    low, high = e.dtype.limits
    if isinstance(e, Cast) and e.mode is CastMode.CONVERT and e.value.dtype.is_int:
        inner = _integers(e.value)
        if low <= inner[0] and inner[1] <= high:
            return inner
    return float(low), float(high)


def _finite(e: Expr) -> FloatInterval | None:
    """Bounds far from infinity, so that sums and products of a few are numbers too."""
    found = float_bounds(e)
    return found if found is not None and max(abs(end) for end in found) < 1e12 else None


def _multiply(x: FloatInterval | None, y: FloatInterval | None) -> FloatInterval | None:
    if x is None or y is None:
        return None
    ends = [a * b for a, b in product(x, y)]
    return min(ends), max(ends)


def _add(x: FloatInterval | None, y: FloatInterval | None) -> FloatInterval | None:
    return None if x is None or y is None else (x[0] + y[0], x[1] + y[1])


def _limited(op: BinaryOp, x: FloatInterval | None, bound: FloatInterval | None) -> FloatInterval | None:
    """Those of the larger or the smaller of two, where the second one is taken if the first is NaN."""
    if bound is None:
        return None
    low, high = _EVERYTHING if x is None else x
    return (max(low, bound[0]), max(high, bound[1])) if op is BinaryOp.GT else (min(low, bound[0]), min(high, bound[1]))
