"""Exponential functions as kernel IR: exp, exp2, expm1, sinh, cosh, tanh, sigmoid, erf.

Method of exp: `x = n * ln(2) + r` with |r| <= ln(2) / 2, a polynomial in `r`, and `n` added to the
exponent (W. J. Cody and W. Waite, Software Manual for the Elementary Functions, 1980). The others
are arranged around the same reduction so that nothing cancels.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Expr
from . import math_coefficients as tables
from .float_parts import at_least, at_most, copysign, fma, horner, nearest, power_of_two, scale

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
    erf_is_one: float


_RANGES = {
    DType.FLOAT32: _Range(0.693359375, -2.1219444005469057e-04, -104.0, 89.0, 20.0, 4.0),
    DType.FLOAT64: _Range(6.93147180369123816490e-01, 1.90821492927058770002e-10, -746.0, 710.0, 42.0, 6.0),
}


def _reduce(x: Expr) -> tuple[Expr, Expr]:
    """Return `exp(r) - 1` and the integer `n` of `x = n * ln(2) + r`."""
    limits = _RANGES[x.dtype]
    n, exponent = nearest(x, _LOG2_E)
    r = fma(n, -limits.ln2_low, fma(n, -limits.ln2_high, x))
    return fma(build.mul(r, r), horner(r, tables.EXP[x.dtype]), r), exponent


def _limited(x: Expr) -> Expr:
    limits = _RANGES[x.dtype]
    return at_least(at_most(x, limits.highest), limits.lowest)


def exp(x: Expr) -> Expr:
    """e**x."""
    fraction, n = _reduce(_limited(x))
    return scale(build.add(fraction, 1.0), n)


def _exp_in_range(x: Expr) -> Expr:
    """e**x where the result is neither denormal nor too large."""
    fraction, n = _reduce(x)
    return build.mul(build.add(fraction, 1.0), power_of_two(n, x.dtype))


def exp2(x: Expr) -> Expr:
    """2**x."""
    bound = 152.0 if x.dtype is DType.FLOAT32 else 1080.0
    x = at_least(at_most(x, bound), -bound)
    n, exponent = nearest(x, 1.0)
    r = build.sub(x, n)
    return scale(fma(r, horner(r, tables.EXP2[x.dtype]), 1.0), exponent)


def expm1(x: Expr) -> Expr:
    """e**x - 1: `2**n * (exp(r) - 1) + (2**n - 1)`, doubled at the end so that n = 128 does not overflow."""
    limits = _RANGES[x.dtype]
    lowest = -2 * limits.tanh_is_one
    fraction, n = _reduce(at_least(at_most(x, limits.highest), lowest))
    power = power_of_two(build.sub(n, 1), x.dtype)
    half = fma(power, fraction, build.sub(power, 0.5))
    tiny = 2.0**-30 if x.dtype is DType.FLOAT32 else 2.0**-60
    return build.select(build.lt(build.absolute(x), tiny), x, build.mul(half, 2.0))


def _half_exp(x: Expr) -> Expr:
    """e**x / 2 for x >= 0; infinite only where the half is."""
    fraction, n = _reduce(at_most(x, _RANGES[x.dtype].highest + 1))
    return scale(build.add(fraction, 1.0), build.sub(n, 1))


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


def tanh(x: Expr) -> Expr:
    """T / (t + 2) for t = exp(2|x|) - 1."""
    size = build.absolute(x)
    double = at_most(build.add(size, size), _RANGES[x.dtype].tanh_is_one)
    fraction, n = _reduce(double)
    power = power_of_two(n, x.dtype)
    grown = fma(power, fraction, build.sub(power, 1.0))
    return copysign(build.div(grown, build.add(grown, 2.0)), x)


def sigmoid(x: Expr) -> Expr:
    """1 / (1 + e**-x), through e**-|x|, which cannot overflow."""
    decay = exp(build.neg(build.absolute(x)))
    return build.div(build.select(build.lt(x, 0.0), decay, 1.0), build.add(decay, 1.0))


def erf(x: Expr) -> Expr:
    """A polynomial below 1; `1 - exp(-Q(|x|))` with a polynomial Q above."""
    size = build.absolute(x)
    square = build.mul(x, x)
    small = fma(x, horner(square, tables.ERF[x.dtype]), x)
    bounded = at_most(size, _RANGES[x.dtype].erf_is_one)
    large = build.sub(1.0, _exp_in_range(build.neg(horner(bounded, tables.ERFC[x.dtype]))))
    return build.select(build.lt(size, 1.0), small, copysign(large, x))
