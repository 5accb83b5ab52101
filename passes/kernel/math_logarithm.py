"""Logarithms, inverse hyperbolic functions and powers as kernel IR.

Method of log: `x = m * 2**k` with m in [sqrt(1/2), sqrt(2)), then log(m) by a polynomial in m - 1
(float32) or in s = (m - 1) / (m + 1) (float64, as in FreeBSD's e_log.c), plus k * ln(2) in two parts.
"""

from __future__ import annotations

import math

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Expr, MathFn
from . import math_coefficients as tables
from .float_parts import FORMATS, Pair, at_least, at_most, bits, copysign, exact_product, fast_sum, fma, horner, mantissa_and_exponent
from .math_exponential import exp2

_LN2 = {DType.FLOAT32: (0.693359375, -2.1219444005469057e-04), DType.FLOAT64: (6.93147180369123816490e-01, 1.90821492927058770002e-10)}
_SMALLEST_NORMAL = {DType.FLOAT32: 2.0**-126, DType.FLOAT64: 2.0**-1022}
_LN2_LARGEST = {DType.FLOAT32: 1e18, DType.FLOAT64: 1e150}


def _log_of_parts(f: Expr, exponent: Expr, correction: Expr | float) -> Expr:
    """`exponent * ln(2) + log(1 + f) + correction`, the correction being small."""
    high, low = _LN2[f.dtype]
    square = build.mul(f, f)
    small = fma(exponent, low, correction)
    if f.dtype is DType.FLOAT32:
        tail = fma(build.mul(f, square), horner(f, tables.LOG[f.dtype]), small)
        tail = fma(square, -0.5, tail)
        return fma(exponent, high, build.add(f, tail))
    half = build.mul(square, 0.5)
    s = build.div(f, build.add(f, 2.0))
    z = build.mul(s, s)
    rest = build.mul(z, horner(z, tables.LOG_S[f.dtype]))
    tail = build.sub(half, fma(s, build.add(half, rest), small))
    return build.sub(build.mul(exponent, high), build.sub(tail, f))


def _normalized(x: Expr) -> tuple[Expr, Expr]:
    """Mantissa in [sqrt(1/2), sqrt(2)) and exponent (a float) of a positive number, denormal ones included."""
    form = FORMATS[x.dtype]
    denormal = build.lt(x, _SMALLEST_NORMAL[x.dtype])
    mantissa, exponent = mantissa_and_exponent(build.select(denormal, build.mul(x, 2.0**form.mantissa), x))
    shift = build.select(denormal, build.const(form.mantissa, form.integer), build.const(0, form.integer))
    return mantissa, build.cast(build.sub(exponent, shift), x.dtype)


def _with_limits(x: Expr, value: Expr, zero: float) -> Expr:
    """`value` for x > zero; -inf at `zero`, NaN below, infinity and NaN themselves."""
    outside = build.select(build.lt(x, zero), math.nan, x)
    outside = build.select(build.eq(x, zero), -math.inf, outside)
    inside = build.logical_and(build.gt(x, zero), build.lt(x, math.inf))
    return build.select(inside, value, outside)


def log(x: Expr) -> Expr:
    """Natural logarithm."""
    mantissa, exponent = _normalized(x)
    return _with_limits(x, _log_of_parts(build.sub(mantissa, 1.0), exponent, 0.0), 0.0)


def log1p(x: Expr) -> Expr:
    """log(1 + x); what 1 + x lost in rounding is added as a first-order term (FreeBSD's s_log1p.c)."""
    grown = build.add(x, 1.0)
    mantissa, exponent = _normalized(grown)
    lost = build.select(build.gt(x, 1.0), build.sub(1.0, build.sub(grown, x)), build.sub(x, build.sub(grown, 1.0)))
    whole = build.eq(exponent, 0.0)
    f = build.select(whole, x, build.sub(mantissa, 1.0))
    correction = build.select(whole, 0.0, build.div(lost, grown))
    tiny = 2.0**-25 if x.dtype is DType.FLOAT32 else 2.0**-54
    value = build.select(build.lt(build.absolute(x), tiny), x, _log_of_parts(f, exponent, correction))
    return _with_limits(x, value, -1.0)


def asinh(x: Expr) -> Expr:
    """sign(x) * log1p(a + a**2 / (1 + sqrt(a**2 + 1))), a = |x|; log(2a) for large a."""
    size = build.absolute(x)
    large = build.gt(size, _LN2_LARGEST[x.dtype])
    square = build.mul(size, size)
    root = build.add(build.math_fn(MathFn.SQRT, build.add(square, 1.0)), 1.0)
    argument = build.select(large, size, build.add(size, build.div(square, root)))
    value = log1p(argument)
    return copysign(build.select(large, build.add(value, math.log(2)), value), x)


def acosh(x: Expr) -> Expr:
    """log1p(t + sqrt(2t + t**2)), t = x - 1; log(2x) for large x."""
    t = build.sub(x, 1.0)
    large = build.gt(x, _LN2_LARGEST[x.dtype])
    root = build.math_fn(MathFn.SQRT, fma(t, t, build.add(t, t)))
    value = log1p(build.select(large, x, build.add(t, root)))
    value = build.select(large, build.add(value, math.log(2)), value)
    return build.select(build.lt(x, 1.0), math.nan, value)


def atanh(x: Expr) -> Expr:
    """sign(x) * log1p(2a / (1 - a)) / 2, a = |x|."""
    size = build.absolute(x)
    ratio = build.div(build.add(size, size), build.sub(1.0, size))
    value = build.select(build.gt(size, 1.0), math.nan, build.mul(log1p(ratio), 0.5))
    tiny = 2.0**-13 if x.dtype is DType.FLOAT32 else 2.0**-28
    return copysign(build.select(build.lt(size, tiny), size, value), x)


# --- Powers -------------------------------------------------------------------------------------


def power(x: Expr, y: Expr) -> Expr:
    """x**y with the special cases of C's `pow`."""
    size = build.absolute(x)
    whole = build.eq(build.math_fn(MathFn.FLOOR, y), y)
    half = build.mul(y, 0.5)
    odd = build.logical_and(whole, build.ne(build.math_fn(MathFn.FLOOR, half), half))
    one = build.logical_or(build.eq(size, 1.0), build.eq(y, 0.0))
    value = build.select(one, 1.0, _power_of_positive(size, y))
    negative = build.lt(bits(x), 0)
    value = build.select(build.logical_and(negative, odd), build.neg(value), value)
    finite_negative = build.logical_and(build.lt(x, 0.0), build.gt(x, -math.inf))
    undefined = build.logical_and(finite_negative, build.logical_not(whole))
    undefined = build.logical_and(undefined, build.ne(y, 0.0))
    unordered = build.logical_and(build.ne(y, y), build.ne(x, 1.0))
    return build.select(build.logical_or(undefined, unordered), math.nan, value)


def _power_of_positive(x: Expr, y: Expr) -> Expr:
    """x**y for x >= 0. float32 goes through float64, float64 through sums of two numbers."""
    if x.dtype is DType.FLOAT32:
        wide = build.cast(x, DType.FLOAT64)
        exponent = build.mul(build.mul(build.cast(y, DType.FLOAT64), log(wide)), 1.4426950408889634)
        return build.cast(exp2(exponent), DType.FLOAT32)
    logarithm = _log2_pair(x)
    rough = build.mul(y, logarithm.high)
    bounded = at_least(at_most(rough, 1100.0), -1100.0)
    exact = exact_product(y, logarithm.high)
    low = fma(y, logarithm.low, exact.low)
    inside = build.lt(build.absolute(rough), 1100.0)
    low = build.select(inside, low, 0.0)
    value = exp2(bounded)
    # 2**(h + l) == 2**h * (1 + l * ln 2) for tiny l; an infinite or zero power stays as it is
    corrected = fma(value, build.mul(low, math.log(2)), value)
    value = build.select(build.lt(value, math.inf), corrected, value)
    return build.select(build.eq(rough, rough), value, math.nan)


_TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
_LOG2_E = (1.4426950408889634, 2.0355273740931033e-17)


def _log2_pair(x: Expr) -> Pair:
    """log2 of a positive float64 to some 68 bits: k + log2(e) * (2s + 2/3 s**3 + s**5 P(s**2)), leading terms exact."""
    mantissa, exponent = _normalized(x)
    s = _divide(build.sub(mantissa, 1.0), _sum_with_one(mantissa))
    square = _times(s, s)
    cube = _times(_times(square, s), _constant(_TWO_THIRDS))
    z = square.high
    tail = build.mul(build.mul(build.mul(s.high, z), z), horner(z, tables.LOG_TAIL[x.dtype]))
    natural = _add(Pair(build.add(s.high, s.high), build.add(s.low, s.low)), Pair(cube.high, build.add(cube.low, tail)))
    total = _add(Pair(exponent, build.const(0.0, x.dtype)), _times(natural, _constant(_LOG2_E)))
    high = _with_limits(x, total.high, 0.0)
    finite = build.logical_and(build.gt(x, 0.0), build.lt(x, math.inf))
    return Pair(high, build.select(finite, total.low, 0.0))


def _constant(parts: tuple[float, float]) -> Pair:
    return Pair(build.const(parts[0], DType.FLOAT64), build.const(parts[1], DType.FLOAT64))


def _sum_with_one(m: Expr) -> Pair:
    total = build.add(m, 1.0)
    return Pair(total, build.sub(m, build.sub(total, 1.0)))


def _divide(a: Expr, b: Pair) -> Pair:
    quotient = build.div(a, b.high)
    product = exact_product(quotient, b.high)
    rest = build.sub(build.sub(build.sub(a, product.high), product.low), build.mul(quotient, b.low))
    return fast_sum(quotient, build.div(rest, b.high))


def _times(a: Pair, b: Pair) -> Pair:
    product = exact_product(a.high, b.high)
    return fast_sum(product.high, build.add(product.low, fma(a.high, b.low, build.mul(a.low, b.high))))


def _add(a: Pair, b: Pair) -> Pair:
    """Sum of two pairs of any sizes (D. Knuth's exact sum for the upper parts)."""
    total = build.add(a.high, b.high)
    other = build.sub(total, a.high)
    error = build.add(build.sub(a.high, build.sub(total, other)), build.sub(b.high, other))
    return fast_sum(total, build.add(error, build.add(a.low, b.low)))
