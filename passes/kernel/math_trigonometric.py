"""Trigonometric functions and their inverses as kernel IR.

Polynomials on [-pi/4, pi/4] after `argument_reduction`, whose second float enters as a first-order
correction; the inverse functions reduce their argument by identities until it is below 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Expr, MathFn
from . import math_coefficients as tables
from .argument_reduction import reduce_angle
from .float_parts import Pair, bit_and, copysign, fma, horner, upper_half

_TINY = {DType.FLOAT32: 2.0**-12, DType.FLOAT64: 2.0**-27}
_PI_LOW = {DType.FLOAT32: -8.742277657347586e-08, DType.FLOAT64: 1.2246467991473532e-16}
"""pi minus pi rounded to the type."""


def _pi(dtype: DType, part: float) -> tuple[float, float]:
    """`part * pi` as a sum of two numbers; `part` is a power of two."""
    return float(dtype.numpy.type(math.pi)) * part, _PI_LOW[dtype] * part


def _sine_and_cosine(r: Pair) -> tuple[Expr, Expr]:
    dtype = r.high.dtype
    square = build.mul(r.high, r.high)
    half = build.mul(square, 0.5)
    about = build.sub(1.0, half)
    lost = build.sub(build.sub(1.0, about), half)
    tail = fma(build.mul(square, square), horner(square, tables.COS[dtype]), build.sub(lost, build.mul(r.high, r.low)))
    cosine = build.add(about, tail)
    cube = build.mul(build.mul(r.high, square), horner(square, tables.SIN[dtype]))
    return build.add(r.high, fma(r.low, about, cube)), cosine


Reduction: TypeAlias = Callable[[Expr], tuple[Pair, Expr]]
"""How an angle is reduced: `reduce_angle`, or `reduce_moderate_angle` where all angles are moderate."""


def _sine(x: Expr, quarter: int, reduce: Reduction) -> Expr:
    """sin(x + quarter * pi/2)."""
    r, q = reduce(x)
    q = build.add(q, quarter)
    sine, cosine = _sine_and_cosine(r)
    value = build.select(build.ne(bit_and(q, 1), 0), cosine, sine)
    return build.select(build.ne(bit_and(q, 2), 0), build.neg(value), value)


def sin(x: Expr, reduce: Reduction = reduce_angle) -> Expr:
    """Sine."""
    return build.select(build.lt(build.absolute(x), _TINY[x.dtype]), x, _sine(x, 0, reduce))


def cos(x: Expr, reduce: Reduction = reduce_angle) -> Expr:
    """Cosine."""
    return _sine(x, 1, reduce)


def tan(x: Expr, reduce: Reduction = reduce_angle) -> Expr:
    """Tangent, the quotient of sine and cosine of the reduced angle."""
    r, q = reduce(x)
    sine, cosine = _sine_and_cosine(r)
    odd = build.ne(bit_and(q, 1), 0)
    value = build.div(build.select(odd, build.neg(cosine), sine), build.select(odd, sine, cosine))
    return build.select(build.lt(build.absolute(x), _TINY[x.dtype]), x, value)


def _asin_tail(t: Expr, square: Expr) -> Expr:
    """asin(t) - t for |t| <= 1/2."""
    return build.mul(build.mul(t, square), horner(square, tables.ASIN[t.dtype]))


def _fold_sine(x: Expr) -> tuple[Expr, Expr, Expr]:
    """A number t whose arcsine is small, t**2, and whether t is |x|: else it is sqrt((1 - |x|) / 2)."""
    size = build.absolute(x)
    inner = build.le(size, 0.5)
    folded = build.mul(build.sub(1.0, size), 0.5)
    square = build.select(inner, build.mul(size, size), folded)
    return build.select(inner, size, build.math_fn(MathFn.SQRT, folded)), square, inner


def asin(x: Expr) -> Expr:
    """Polynomial up to 1/2; above it, pi/2 minus twice the arc sine of sqrt((1 - x) / 2). NaN outside of [-1, 1].

    The root is corrected by what it lost in rounding, as in FreeBSD's e_asin.c.
    """
    t, square, inner = _fold_sine(x)
    tail = _asin_tail(t, square)
    upper = upper_half(t)
    lost = build.sub(square, build.mul(upper, upper))
    lost = build.div(lost, build.select(build.eq(t, 0.0), 1.0, build.add(t, upper)))
    (quarter, _), (_, low) = _pi(x.dtype, 0.25), _pi(x.dtype, 0.5)
    rest = build.sub(build.mul(build.add(tail, lost), 2.0), low)
    outer = build.add(quarter, build.sub(build.sub(quarter, build.mul(upper, 2.0)), rest))
    return copysign(build.select(inner, build.add(t, tail), outer), x)


def acos(x: Expr) -> Expr:
    """pi/2 - asin(x); 2 asin(sqrt((1 - |x|) / 2)) above 1/2, its complement to pi below -1/2."""
    t, square, inner = _fold_sine(x)
    angle = build.add(t, _asin_tail(t, square))
    negative = build.lt(x, 0.0)
    half, half_low = _pi(x.dtype, 0.5)
    signed = build.select(negative, build.neg(angle), angle)
    middle = build.sub(half, build.sub(signed, half_low))
    double = build.add(angle, angle)
    pi, pi_low = _pi(x.dtype, 1.0)
    outer = build.select(negative, build.sub(pi, build.sub(double, pi_low)), double)
    return build.select(inner, middle, outer)


def atan(x: Expr) -> Expr:
    """Arc tangent of t plus k * pi/4 with t = a, (a - 1) / (a + 1) or -1 / a for a = |x| in three ranges, so that |t| < 0.415."""
    dtype = x.dtype
    size = build.absolute(x)
    large, medium = build.gt(size, 1 + math.sqrt(2)), build.gt(size, math.sqrt(2) - 1)
    over = build.select(large, -1.0, build.select(medium, build.sub(size, 1.0), size))
    under = build.select(large, size, build.select(medium, build.add(size, 1.0), build.const(1.0, dtype)))
    t = build.div(over, under)
    square = build.mul(t, t)
    (half, half_low), (quarter, quarter_low) = _pi(dtype, 0.5), _pi(dtype, 0.25)
    offset = build.select(large, build.const(half, dtype), build.select(medium, build.const(quarter, dtype), build.const(0.0, dtype)))
    rest = build.select(large, build.const(half_low, dtype), build.select(medium, build.const(quarter_low, dtype), build.const(0.0, dtype)))
    tail = fma(build.mul(t, square), horner(square, tables.ATAN[dtype]), rest)
    return copysign(build.add(offset, build.add(tail, t)), x)
