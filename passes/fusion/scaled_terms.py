"""Take float terms apart into an integer and a scale: what `DequantizeLinear` makes, and products of such."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Set
from dataclasses import dataclass

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.build import const
from ...compiler.kernel.nodes import Binary, BinaryOp, Cast, CastMode, Const, Expr, Select, Unary, UnaryOp, Var
from ...compiler.kernel.traverse import free_vars, walk
from ...compiler.program.stages import Stage
from .stage_graph import element_cost

CHEAP = 10
"""Cost of an element up to which codes are decoded again by each user."""


def dequantizes(stage: Stage) -> bool:
    """True for a map of stored integers times scales that costs little to compute again."""
    return stage.is_map and stage.nest.dtype is DType.FLOAT32 and isinstance(stage.nest.body, Binary) and _is_dequantized(stage.nest.body)


@functools.lru_cache(4096)
def _is_dequantized(e: Expr) -> bool:
    found = factored(e, frozenset()) if element_cost(e) <= CHEAP else "expensive"
    if not isinstance(found, Factored) or found.scale is None or isinstance(found.value, Const):
        return False
    return not any(e.dtype.is_float for e in walk(found.value))


@dataclass(frozen=True, slots=True)
class Factored:
    """A float32 expression as `float32(value) * scale`."""

    value: Expr
    """An int32."""
    scale: Expr | None = None
    """A float32 that is the same for all terms of the sum; None for 1."""


def factored(e: Expr, summed: Set[Var]) -> Factored | str:
    """Take the scale out of a term, or say why that cannot be done.

    Args:
        e: the term, a float32.
        summed: the axes of the sum, on which the scale must not depend.
    """
    found: dict[Expr, Factored | str] = {}
    for part in walk(e):  # operands before users, shared ones once
        if part.dtype is DType.FLOAT32:
            found[part] = _factored(part, summed, found)
    return found.get(e, f"a term of {e.dtype.label}")


def _factored(e: Expr, summed: Set[Var], found: Mapping[Expr, Factored | str]) -> Factored | str:
    """The same, where the operands are known."""
    match e:
        case Const(value=0):
            return Factored(const(0, DType.INT32))
        case Cast(value=value, mode=CastMode.CONVERT) if value.dtype.is_int and value.dtype.bits <= 32 and value.dtype is not DType.UINT32:
            return Factored(build.cast(value, DType.INT32))
        case Binary(op=BinaryOp.MUL, a=a, b=b):
            left, right = found[a], found[b]
            if isinstance(left, Factored) and isinstance(right, Factored):
                return Factored(_times(left.value, right.value), _scale_product(left.scale, right.scale))
            return left if isinstance(left, str) else right
        case Binary(op=BinaryOp.DIV, a=a, b=b) if not summed & set(free_vars(b)):
            left = found[a]
            return left if isinstance(left, str) else Factored(left.value, build.div(left.scale or const(1.0, DType.FLOAT32), b))
        case Unary(op=UnaryOp.NEG, a=a):
            inner = found[a]
            return inner if isinstance(inner, str) else Factored(build.neg(inner.value), inner.scale)
        case Select(cond=cond, then=then, other=other):
            return _select(cond, found[then], found[other])
    if summed & set(free_vars(e)):
        return "a factor is neither an integer nor the same for all terms"
    return Factored(const(1, DType.INT32), e)


def _times(a: Expr, b: Expr) -> Expr:
    one = const(1, DType.INT32)
    return b if a is one else a if b is one else build.mul(a, b)


def _scale_product(a: Expr | None, b: Expr | None) -> Expr | None:
    return b if a is None else a if b is None else build.mul(a, b)


def _select(cond: Expr, then: Factored | str, other: Factored | str) -> Factored | str:
    if isinstance(then, str) or isinstance(other, str):
        return then if isinstance(then, str) else other
    zero = const(0, DType.INT32)
    if then.scale is other.scale or other.value is zero:
        return Factored(build.select(cond, then.value, other.value), then.scale)
    if then.value is zero:
        return Factored(build.select(cond, then.value, other.value), other.scale)
    return "the scale depends on a condition"
