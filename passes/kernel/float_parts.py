"""Pieces of which `expand_math` builds functions: Horner sums, exponents taken apart, exact sums and products.

Everything is branch-free, works on scalars and vectors alike, and is right whether or not the target
rounds `fma` once: no exactness argument below rests on a fused product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.nodes import BinaryOp, CastMode, Expr, MathFn


@dataclass(frozen=True, slots=True)
class FloatFormat:
    """How an IEEE type is laid out."""

    dtype: DType
    integer: DType
    """Signed integer of the same width."""
    unsigned: DType
    """Unsigned integer of the same width."""
    mantissa: int
    """Stored bits of the significand."""
    bias: int
    """Of the exponent."""
    sqrt_half: int
    """Bits of the largest number below sqrt(1/2) that starts a mantissa range."""

    @property
    def magic(self) -> float:
        """Adding 1.5 * 2**mantissa rounds a small number to an integer, which then stands in the low bits."""
        return 1.5 * 2.0**self.mantissa

    @property
    def magic_bits(self) -> int:
        """The bits of `magic`."""
        return ((self.mantissa + self.bias) << self.mantissa) | (1 << (self.mantissa - 1))

    @property
    def one_bits(self) -> int:
        """The bits of 1.0."""
        return self.bias << self.mantissa


FORMATS = {
    DType.FLOAT32: FloatFormat(DType.FLOAT32, DType.INT32, DType.UINT32, 23, 127, 0x3F3504F3),
    DType.FLOAT64: FloatFormat(DType.FLOAT64, DType.INT64, DType.UINT64, 52, 1023, 0x3FE6A09E667F3BCD),
}


def fma(a: Expr, b: Expr | float, c: Expr | float) -> Expr:
    """`a * b + c`, in one instruction where there is one."""
    return build.math_fn(MathFn.FMA, a, b, c)


def horner(x: Expr, coefficients: Sequence[float]) -> Expr:
    """The polynomial with these coefficients, lowest power first."""
    result: Expr = build.const(coefficients[-1], x.dtype)
    for coefficient in reversed(coefficients[:-1]):
        result = build.math_fn(MathFn.FMA, result, x, coefficient)
    return result


def bits(x: Expr) -> Expr:
    """The bits of a float as a signed integer."""
    return build.cast(x, FORMATS[x.dtype].integer, CastMode.BITS)


def from_bits(n: Expr, dtype: DType) -> Expr:
    """The float with these bits."""
    return build.cast(n, dtype, CastMode.BITS)


def shift_left(n: Expr, by: int) -> Expr:
    """`n << by`."""
    return build.bitwise(BinaryOp.SHL, n, by)


def shift_right(n: Expr, by: int) -> Expr:
    """`n >> by`, arithmetic for signed types."""
    return build.bitwise(BinaryOp.SHR, n, by)


def bit_and(n: Expr, mask: int) -> Expr:
    """`n & mask`."""
    return build.bitwise(BinaryOp.AND, n, mask)


def at_most(x: Expr, limit: float) -> Expr:
    """`min(x, limit)`, keeping NaN; one instruction on most targets, unlike MIN."""
    return build.select(build.gt(x, limit), limit, x)


def at_least(x: Expr, limit: float) -> Expr:
    """`max(x, limit)`, keeping NaN."""
    return build.select(build.lt(x, limit), limit, x)


def nearest(x: Expr, factor: float) -> tuple[Expr, Expr]:
    """`x * factor` rounded to an integer, as a float and as an integer; for products below 2**(mantissa - 2)."""
    form = FORMATS[x.dtype]
    shifted = fma(x, factor, form.magic)
    return build.sub(shifted, form.magic), build.sub(bits(shifted), form.magic_bits)


def nearest_exponent(x: Expr, factor: float, offset: int) -> tuple[Expr, Expr]:
    """`x * factor` rounded to an integer n, as a float and as an exponent.

    An exponent is an unsigned integer with `n + offset` in its low bits. Powers of two are made of it by shifts, which drop what
    stands above; the offset saves additions. What is added to an exponent is added to n.
    """
    form = FORMATS[x.dtype]
    shifted = fma(x, factor, form.magic + offset)
    return build.sub(shifted, form.magic + offset), build.cast(shifted, form.unsigned, CastMode.BITS)


def power_of_two(exponent: Expr, dtype: DType) -> Expr:
    """`2**n` for an exponent with the offset `bias`, where that is a normal number."""
    return from_bits(shift_left(exponent, FORMATS[dtype].mantissa), dtype)


def scale(x: Expr, exponent: Expr) -> Expr:
    """`x * 2**n` for an exponent with the offset `2 * bias`, in two steps, so that results may be denormal or infinite."""
    half = shift_right(exponent, 1)
    return build.mul(build.mul(x, power_of_two(half, x.dtype)), power_of_two(build.sub(exponent, half), x.dtype))


def scale_down(x: Expr, exponent: Expr) -> Expr:
    """`x * 2**n` for an exponent with the offset `bias + bias // 2`: results may be denormal, but n is at most half the bias."""
    return build.mul(build.mul(x, power_of_two(exponent, x.dtype)), 2.0 ** -(FORMATS[x.dtype].bias // 2))


def mantissa_and_exponent(x: Expr) -> tuple[Expr, Expr]:
    """Split a positive normal number into `m * 2**k` with `m` in [sqrt(1/2), sqrt(2)); `k` is an integer."""
    form = FORMATS[x.dtype]
    moved = build.add(bits(x), form.one_bits - form.sqrt_half)
    exponent = build.sub(shift_right(moved, form.mantissa), form.bias)
    return from_bits(build.add(bit_and(moved, (1 << form.mantissa) - 1), form.sqrt_half), x.dtype), exponent


def copysign(x: Expr, sign: Expr) -> Expr:
    """`x` with the sign of `sign`."""
    return build.math_fn(MathFn.COPYSIGN, x, sign)


# --- Sums and products without error: T. J. Dekker, 1971 ----------------------------------------


@dataclass(frozen=True, slots=True)
class Pair:
    """The unevaluated sum of a number and a much smaller one."""

    high: Expr
    low: Expr


def fast_sum(a: Expr, b: Expr) -> Pair:
    """`a + b` exactly, if |a| >= |b|."""
    total = build.add(a, b)
    return Pair(total, build.sub(b, build.sub(total, a)))


def exact_product(a: Expr, b: Expr) -> Pair:
    """`a * b` exactly, by splitting both into halves."""
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    product = build.mul(a, b)
    rest = build.sub(build.mul(a1, b1), product)
    rest = build.add(build.add(rest, build.mul(a1, b2)), build.mul(a2, b1))
    return Pair(product, build.add(rest, build.mul(a2, b2)))


def _halves(a: Expr) -> tuple[Expr, Expr]:
    """The upper bits and the rest, by masking: no overflow, and products of halves are exact."""
    upper = upper_half(a)
    return upper, build.sub(a, upper)


def upper_half(a: Expr) -> Expr:
    """`a` with the lower half of its significand cut off; its square is exact."""
    return from_bits(bit_and(bits(a), -(1 << ((FORMATS[a.dtype].mantissa + 2) // 2))), a.dtype)
