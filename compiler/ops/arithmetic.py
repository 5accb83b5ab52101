"""Arithmetic of tensors: sums to powers, extremes, shifts and bits."""

from __future__ import annotations

from functools import reduce

import numpy as np

from ..dtypes import DType
from ..kernel import build
from ..kernel.build import const
from ..kernel.nodes import BinaryOp, CastMode, Expr, MathFn
from .elementwise import elementwise
from .table import OpContext, RawNode, register
from .types import FLOATS, INTS, SIGNED


def _sign(x: Expr) -> Expr:
    """1, -1, or the number itself where it is zero or NaN."""
    return build.select(build.gt(x, 0), 1, build.select(build.lt(x, 0), -1, x)) if x.dtype.is_signed else build.minimum(x, 1)


def _absolute(x: Expr) -> Expr:
    return build.absolute(x) if x.dtype.is_signed else x


def _mean(*terms: Expr) -> Expr:
    return build.div(reduce(build.add, terms), len(terms))


def _mod(ctx: OpContext, a: Expr, b: Expr) -> Expr:
    """Sign of the dividend with `fmod`, else that of the divisor (zeros included)."""
    if ctx.int_attr("fmod"):
        return build.mod(a, b)
    if a.dtype.is_int:
        return build.floormod(a, b)
    rest = build.mod(a, b)
    moved = build.select(build.ne(build.lt(rest, 0), build.lt(b, 0)), build.add(rest, b), rest)
    return build.select(build.eq(rest, 0), build.math_fn(MathFn.COPYSIGN, rest, b), moved)


def _clip(ctx: OpContext, x: Expr, *_: Expr) -> Expr:
    """`min(max(x, low), high)`; the bounds are single elements, of any type for the sake of old attributes."""
    for position, bound in ((1, build.maximum), (2, build.minimum)):
        if ctx.has(position):
            limit = ctx.read(position, *[const(0)] * ctx.rank(position))
            x = bound(x, build.cast(limit, x.dtype, CastMode.SATURATE if x.dtype.is_int else CastMode.CONVERT))
    return x


def _clip_bounds_to_inputs(node: RawNode) -> None:
    """Opset 11 made inputs of the attributes `min` and `max`."""
    for name in ("min", "max"):
        bound = node.attrs.pop(name, None)
        node.inputs.append("" if bound is None else node.constant(np.array(bound, np.float32)))
    while node.inputs and not node.inputs[-1]:
        node.inputs.pop()


# --- Powers -----------------------------------------------------------------------------------


def _pow(ctx: OpContext, x: Expr, y: Expr) -> Expr:
    """`x ** y` in the type of `x`; a known small exponent becomes products and roots."""
    known = ctx.array(1)
    if known is not None and known.size and (known == known.flat[0]).all():
        simple = _simple_power(x, float(known.flat[0]))
        if simple is not None:
            return simple
    if x.dtype.is_int:
        return _int_power(x, y) if y.dtype.is_int else _rounded_power(x, y)
    wide = DType.FLOAT64 if y.dtype is DType.FLOAT64 else x.dtype
    return build.cast(build.math_fn(MathFn.POW, build.cast(x, wide), build.cast(y, wide)), x.dtype)


def _simple_power(x: Expr, exponent: float) -> Expr | None:
    """Powers that need no `pow`; the root takes -inf to NaN where `pow` gives inf."""
    if exponent in (1.0, 2.0, 3.0, 4.0):
        square = build.mul(x, x)
        return {1: x, 2: square, 3: build.mul(square, x), 4: build.mul(square, square)}[int(exponent)]
    if x.dtype.is_float and exponent in (0.5, -0.5):
        root = build.math_fn(MathFn.SQRT, x)
        return root if exponent > 0 else build.div(1.0, root)
    return build.div(1.0, x) if x.dtype.is_float and exponent == -1.0 else None


def _int_power(x: Expr, y: Expr) -> Expr:
    """Exact integer power modulo the width, by squaring; a negative exponent gives the truncated quotient.

    Computed without sign, as products of int64 are taken for index arithmetic and expanded.
    """
    unsigned = _UNSIGNED[x.dtype]
    square, result = build.cast(x, unsigned), build.cast(const(1, x.dtype), unsigned)
    for bit in range(y.dtype.bits - (1 if y.dtype.is_signed else 0)):
        odd = build.ne(build.bitwise(BinaryOp.AND, y, 1 << bit), 0)
        result = build.select(odd, build.mul(result, square), result)
        square = build.mul(square, square)
    power = build.cast(result, x.dtype)
    return build.select(build.ge(y, 0), power, _int_quotient(x, y)) if y.dtype.is_signed else power


def _int_quotient(x: Expr, y: Expr) -> Expr:
    """`x ** y` truncated for a negative `y`: zero but for 1 and -1."""
    is_unit = build.eq(build.absolute(x) if x.dtype.is_signed else x, 1)
    sign = build.select(build.eq(build.bitwise(BinaryOp.AND, y, 1), 0), const(1, x.dtype), x)
    return build.select(is_unit, sign, const(0, x.dtype))


_UNSIGNED = {dtype: DType[f"UINT{dtype.bits}"] for dtype in INTS}


def _rounded_power(x: Expr, y: Expr) -> Expr:
    """Integer base, float exponent: truncated, but a power within rounding error of an integer is that integer."""
    power = build.math_fn(MathFn.POW, build.cast(x, DType.FLOAT64), build.cast(y, DType.FLOAT64))
    nearest = build.math_fn(MathFn.ROUND, power)
    error = build.absolute(build.sub(power, nearest))
    exact = build.le(error, build.mul(build.absolute(power), 2.0**-44))
    return build.cast(build.select(exact, nearest, power), x.dtype)


# --- Bits -------------------------------------------------------------------------------------


def _bit_shift(ctx: OpContext, x: Expr, y: Expr) -> Expr:
    """A shift by a negative number or by the width or more leaves only what the sign fills in."""
    direction = ctx.str_attr("direction")
    if direction not in ("LEFT", "RIGHT"):
        ctx.fail("E0203", "attribute direction must be LEFT or RIGHT")
    op = BinaryOp.SHL if direction == "LEFT" else BinaryOp.SHR
    if not x.dtype.is_signed:
        return build.bitwise(op, x, y)
    width = x.dtype.bits
    inside = build.logical_and(build.ge(y, 0), build.lt(y, width))
    if op is BinaryOp.SHL:
        return build.select(inside, build.bitwise(op, x, y), const(0, x.dtype))
    return build.bitwise(op, x, build.select(inside, y, width - 1))


register(
    elementwise("Abs", _absolute),
    elementwise("Neg", build.neg, accepts=SIGNED | FLOATS),
    elementwise("Sign", _sign),
    elementwise("Add", build.add),
    elementwise("Sub", build.sub),
    elementwise("Mul", build.mul),
    elementwise("Div", build.div),
    elementwise("Mod", _mod),
    elementwise("Pow", _pow, mixed=True, doc="integer powers are exact modulo the width"),
    elementwise("Reciprocal", lambda x: build.div(1.0, x), accepts=FLOATS),
    elementwise("Sum", lambda *x: reduce(build.add, x), accepts=FLOATS),
    elementwise("Mean", _mean, accepts=FLOATS),
    elementwise("Min", lambda *x: reduce(build.minimum, x)),
    elementwise("Max", lambda *x: reduce(build.maximum, x)),
    elementwise("Clip", _clip, mixed=True, adapt={11: _clip_bounds_to_inputs}),
    elementwise("BitShift", _bit_shift, accepts=INTS),
    elementwise("BitwiseAnd", lambda a, b: build.bitwise(BinaryOp.AND, a, b), accepts=INTS),
    elementwise("BitwiseOr", lambda a, b: build.bitwise(BinaryOp.OR, a, b), accepts=INTS),
    elementwise("BitwiseXor", lambda a, b: build.bitwise(BinaryOp.XOR, a, b), accepts=INTS),
    elementwise("BitwiseNot", build.logical_not, accepts=INTS),
)
