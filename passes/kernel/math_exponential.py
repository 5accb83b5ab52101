"""Exponential functions as kernel IR: exp, exp2, expm1, sinh, cosh, tanh, sigmoid, erf.

Method of exp: `x = n * ln(2) + r` with |r| <= ln(2) / 2, a polynomial in `r`, and `n` added to the
exponent (W. J. Cody and W. Waite, Software Manual for the Elementary Functions, 1980). The others
are arranged around the same reduction so that nothing cancels, but tanh and erf of float32, which are quotients: about 3 units in
the last place for half of the operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Binary, BinaryOp, Broadcast, Const, Expr, Unary, UnaryOp
from . import math_coefficients as tables
from .float_parts import FORMATS, at_least, at_most, copysign, fma, horner, nearest_exponent, power_of_two, scale, scale_down

_LOG2_E = 1.4426950408889634


@dataclass(frozen=True, slots=True)
class _Range:
    """Limits of the exponential functions of one type."""

    ln2_high: float
    """ln(2) with so few bits that products with exponents are exact."""
    ln2_low: float
    """The rest of ln(2)."""
    lowest: float
    """exp is 0 from here down."""
    highest: float
    """exp is infinite from here up."""
    tanh_is_one: float
    """exp(x) is so large that (exp(x) - 1) / (exp(x) + 1) rounds to 1."""


_RANGES = {
    DType.FLOAT32: _Range(0.693359375, -2.1219444005469057e-04, -104.0, 89.0, 20.0),
    DType.FLOAT64: _Range(6.93147180369123816490e-01, 1.90821492927058770002e-10, -746.0, 710.0, 42.0),
}


_SMALL = 42.0
"""exp(x) is far from too large, and exp(x) / (1 + exp(x)) rounds to 1."""
_ERF_IS_ONE = 6.0
"""From here on erf rounds to 1 in float64."""


def _reduce(x: Expr, biases: float) -> tuple[Expr, Expr]:
    """Return `r` and the exponent of `x = n * ln(2) + r`, whose offset is the bias of exponents times `biases`."""
    limits = _RANGES[x.dtype]
    n, exponent = nearest_exponent(x, _LOG2_E, int(FORMATS[x.dtype].bias * biases))
    return fma(n, -limits.ln2_low, fma(n, -limits.ln2_high, x)), exponent


def _growth(r: Expr) -> Expr:
    """`exp(r) - 1` for the rest of a reduction."""
    return fma(build.mul(r, r), horner(r, tables.EXPM1[r.dtype]), r)


def _power(r: Expr) -> Expr:
    """`exp(r)` for the rest of a reduction."""
    return horner(r, tables.EXP[r.dtype])


def exp(x: Expr) -> Expr:
    """e**x."""
    limits = _RANGES[x.dtype]
    if _is_small(x):
        r, exponent = _reduce(at_least(x, limits.lowest), 1.5)
        return scale_down(_power(r), exponent)
    r, exponent = _reduce(at_least(at_most(x, limits.highest), limits.lowest), 2)
    return scale(_power(r), exponent)


def _is_small(x: Expr) -> bool:
    """True for a minimum with a number up to `_SMALL` and for `-|x|`."""
    match x:
        case Binary(op=BinaryOp.MIN, a=a, b=b):
            limits = (e.value if isinstance(e, Broadcast) else e for e in (a, b))
            return any(isinstance(limit, Const) and limit.value <= _SMALL for limit in limits)
        case Unary(op=UnaryOp.NEG, a=Unary(op=UnaryOp.ABS)):
            return True
    return False


def exp2(x: Expr) -> Expr:
    """2**x."""
    bound = 152.0 if x.dtype is DType.FLOAT32 else 1080.0
    x = at_least(at_most(x, bound), -bound)
    n, exponent = nearest_exponent(x, 1.0, 2 * FORMATS[x.dtype].bias)
    r = build.sub(x, n)
    return scale(fma(r, horner(r, tables.EXP2[x.dtype]), 1.0), exponent)


def expm1(x: Expr) -> Expr:
    """e**x - 1: `2**n * (exp(r) - 1) + (2**n - 1)`, doubled at the end so that n = 128 does not overflow."""
    limits = _RANGES[x.dtype]
    lowest = -2 * limits.tanh_is_one
    r, n = _reduce(at_least(at_most(x, limits.highest), lowest), 1)
    power = power_of_two(build.sub(n, 1), x.dtype)
    half = fma(power, _growth(r), build.sub(power, 0.5))
    tiny = 2.0**-30 if x.dtype is DType.FLOAT32 else 2.0**-60
    return build.select(build.lt(build.absolute(x), tiny), x, build.mul(half, 2.0))


def _half_exp(x: Expr) -> Expr:
    """e**x / 2 for x >= 0; infinite only where the half is."""
    r, n = _reduce(at_most(x, _RANGES[x.dtype].highest + 1), 2)
    return scale(build.add(_growth(r), 1.0), build.sub(n, 1))


def sinh(x: Expr) -> Expr:
    """(e**x - e**-x) / 2; a polynomial below 1."""
    size = build.absolute(x)
    half = _half_exp(size)
    large = build.sub(half, build.div(0.25, half))
    square = build.mul(x, x)
    small = fma(build.mul(x, square), horner(square, tables.SINH[x.dtype]), x)
    tiny = 1e-5 if x.dtype is DType.FLOAT32 else 1e-9
    small = build.select(build.lt(size, tiny), x, small)
    return build.select(build.lt(size, 1.0), small, copysign(large, x))


def cosh(x: Expr) -> Expr:
    """(e**x + e**-x) / 2."""
    half = _half_exp(build.absolute(x))
    return build.add(half, build.div(0.25, half))


def sigmoid(x: Expr) -> Expr:
    """`e / (1 + e)` with e = exp(x), where x is so bounded that the quotient rounds to 1 from there on; both multiplied by 2**k."""
    k = FORMATS[x.dtype].bias // 2
    r, exponent = _reduce(at_least(at_most(x, _SMALL), _RANGES[x.dtype].lowest), 1.5)
    grown = build.mul(_power(r), power_of_two(exponent, x.dtype))
    return build.div(grown, build.add(grown, 2.0**k))


def tanh(x: Expr) -> Expr:
    """Made of the function of half the argument in float32; t / (t + 2) for t = exp(2|x|) - 1 in float64."""
    if x.dtype is DType.FLOAT32:
        return _double(x, 8.66, tables.HALF_TANH)
    size = build.absolute(x)
    r, n = _reduce(at_most(build.add(size, size), _RANGES[x.dtype].tanh_is_one), 1)
    power = power_of_two(n, x.dtype)
    grown = fma(power, _growth(r), build.sub(power, 1.0))
    return copysign(build.div(grown, build.add(grown, 2.0)), x)


def erf(x: Expr) -> Expr:
    """Through tanh(artanh(erf(x)) / 2) in float32; in float64 a polynomial below 1 and `1 - exp(-Q(|x|))` above."""
    if x.dtype is DType.FLOAT32:
        return _double(x, 3.88, tables.HALF_ERF)
    size = build.absolute(x)
    square = build.mul(x, x)
    small = fma(x, horner(square, tables.ERF), x)
    r, n = _reduce(build.neg(horner(at_most(size, _ERF_IS_ONE), tables.ERFC)), 1)
    large = build.sub(1.0, build.mul(build.add(_growth(r), 1.0), power_of_two(n, x.dtype)))
    return build.select(build.lt(size, 1.0), small, copysign(large, x))


def _double(x: Expr, bound: float, half: tuple[Sequence[float], Sequence[float]]) -> Expr:
    """2u / (1 + u**2) == 2ab / (a**2 + b**2), where u = a / b == x * P(x**2) / Q(x**2).

    An error of u enters multiplied with (1 - u**2) / (1 + u**2), which vanishes where the function nears 1: short polynomials do,
    and no result exceeds 1.

    Args:
        x: float32.
        bound: where the result is 1, rounded as it is here, whether `fma` is fused or not.
        half: coefficients of P and Q.
    """
    x = at_least(at_most(x, bound), -bound)
    square = build.mul(x, x)
    a, b = build.mul(x, horner(square, half[0])), horner(square, half[1])
    product = build.mul(a, b)
    return build.div(build.add(product, product), fma(a, a, build.mul(b, b)))
