"""Conversions between float32 and narrower floats, written with integer operations of kernel IR.

Used by `legalize_floats` for formats without an instruction on the target. A format is a row: widths of
exponent and mantissa, bias, and which bit patterns are not finite numbers. Rounding is to nearest, ties
to even, subnormal numbers included. The method is that of the "magic number" additions in F. Giesen,
"Float->half variants" (https://gist.github.com/rygorous/2156668).
"""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.build import add, bitwise, broadcast, cast, const, eq, gt, lt, select, sub
from ...compiler.kernel.nodes import BinaryOp, CastMode, Const, Expr

F32, U32 = DType.FLOAT32, DType.UINT32


@dataclass(frozen=True, slots=True)
class Format:
    """A float of up to 16 bits."""

    exponent: int
    mantissa: int
    bias: int
    largest: int
    """Bits of the largest finite number."""
    overflow: int
    """Bits that stand for a number too large (without saturation)."""
    nan: int
    """Bits of the NaN that conversions give."""
    nan_is_signed: bool = True
    """The sign of a NaN is kept."""
    has_negative_zero: bool = True

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (self.exponent + self.mantissa)


FORMATS: dict[DType, Format] = {
    DType.FLOAT16: Format(5, 10, 15, 0x7BFF, 0x7C00, 0x7E00),
    DType.BFLOAT16: Format(8, 7, 127, 0x7F7F, 0x7F80, 0x7FC0),
    DType.FLOAT8E5M2: Format(5, 2, 15, 0x7B, 0x7C, 0x7E),
    DType.FLOAT8E4M3FN: Format(4, 3, 7, 0x7E, 0x7F, 0x7F),
    DType.FLOAT8E5M2FNUZ: Format(5, 2, 16, 0x7F, 0x80, 0x80, False, False),
    DType.FLOAT8E4M3FNUZ: Format(4, 3, 8, 0x7F, 0x80, 0x80, False, False),
    DType.FLOAT4E2M1: Format(2, 1, 1, 0x7, 0x7, 0x8, False),
}
BITS_TYPE = {4: DType.UINT4, 8: DType.UINT8, 16: DType.UINT16}


def decode(value: Expr) -> Expr:
    """A narrow float as float32, exactly."""
    bits = cast(cast(value, BITS_TYPE[value.dtype.bits], CastMode.BITS), U32)
    if value.dtype is DType.BFLOAT16:
        return cast(_shl(bits, 16), F32, CastMode.BITS)
    if value.dtype is DType.FLOAT8E8M0:
        return _decode_exponent(bits)
    form = FORMATS[value.dtype]
    magnitude = _and(bits, form.sign - 1)
    # With the fields in place the number is off by a power of two, subnormal numbers too.
    wide = build.mul(cast(_shl(magnitude, 23 - form.mantissa), F32, CastMode.BITS), 2.0 ** (127 - form.bias))
    if form.has_negative_zero and form.overflow != form.largest:
        wide = select(gt(magnitude, _u32(form.largest, bits)), _special(form, magnitude), wide)
    sign = _shl(_and(bits, form.sign), 31 - form.exponent - form.mantissa)
    signed = cast(bitwise(BinaryOp.OR, cast(wide, U32, CastMode.BITS), sign), F32, CastMode.BITS)
    return signed if form.has_negative_zero else select(eq(bits, _u32(form.nan, bits)), _f32(float("nan"), bits), signed)


def _special(form: Format, magnitude: Expr) -> Expr:
    nan = _f32(float("nan"), magnitude)
    return nan if form.overflow == form.nan else select(eq(magnitude, _u32(form.overflow, magnitude)), _f32(float("inf"), magnitude), nan)


def _decode_exponent(bits: Expr) -> Expr:
    """float8e8m0: a power of two, without sign and zero."""
    power = select(eq(bits, _u32(0, bits)), _u32(0x00400000, bits), _shl(bits, 23))
    return select(eq(bits, _u32(255, bits)), _f32(float("nan"), bits), cast(power, F32, CastMode.BITS))


def encode(value: Expr, dtype: DType, mode: CastMode) -> Expr:
    """A float32 rounded to a narrow float."""
    bits = cast(value, U32, CastMode.BITS)
    if dtype is DType.FLOAT8E8M0:
        return _finish(_encode_exponent(bits), dtype)
    form = FORMATS[dtype]
    magnitude = _and(bits, 0x7FFFFFFF)
    sign = bitwise(BinaryOp.SHR, _and(bits, 0x80000000), _u32(31 - form.exponent - form.mantissa, bits))
    rounded = _round(form, magnitude)
    limit = form.largest if mode is CastMode.SATURATE else form.overflow
    finite = select(gt(rounded, _u32(form.largest, bits)), _u32(limit, bits), rounded)
    is_nan = gt(magnitude, _u32(0x7F800000, bits))
    if form.has_negative_zero:
        signed = bitwise(BinaryOp.OR, finite, sign)
        nan = bitwise(BinaryOp.OR, _u32(form.nan, bits), sign) if form.nan_is_signed else _u32(form.nan, bits)
    else:
        unsigned = build.logical_or(eq(finite, _u32(0, bits)), eq(finite, _u32(form.nan, bits)))
        signed = select(unsigned, finite, bitwise(BinaryOp.OR, finite, sign))
        nan = _u32(form.nan, bits)
    return _finish(select(is_nan, nan, signed), dtype)


def _round(form: Format, magnitude: Expr) -> Expr:
    """The bits of a magnitude, rounded; larger than `largest` if it does not fit."""
    drop = 23 - form.mantissa
    odd = _and(bitwise(BinaryOp.SHR, magnitude, _u32(drop, magnitude)), 1)
    normal = bitwise(BinaryOp.SHR, add(add(magnitude, _u32((1 << (drop - 1)) - 1, magnitude)), odd), _u32(drop, magnitude))
    if form.bias == 127:
        return normal
    rebased = sub(normal, _u32((127 - form.bias) << form.mantissa, magnitude))
    # Added to a number whose last digit is worth the smallest subnormal, the hardware rounds.
    magic = 2.0 ** (24 - form.bias - form.mantissa)
    aligned = add(cast(magnitude, F32, CastMode.BITS), magic)
    small = sub(cast(aligned, U32, CastMode.BITS), cast(_f32(magic, magnitude), U32, CastMode.BITS))
    return select(lt(magnitude, _u32((128 - form.bias) << 23, magnitude)), small, rebased)


def _encode_exponent(bits: Expr) -> Expr:
    """The nearest power of two; negative numbers, infinities and NaN give NaN."""
    odd_half = bitwise(BinaryOp.SHR, add(bits, _u32(0x00400000, bits)), _u32(23, bits))
    return select(build.ge(bits, _u32(0x7F800000, bits)), _u32(255, bits), odd_half)


def _finish(bits: Expr, dtype: DType) -> Expr:
    return cast(cast(bits, BITS_TYPE[dtype.bits]), dtype, CastMode.BITS)


def _u32(value: int, like: Expr) -> Expr:
    return broadcast(const(value, U32), like.lanes)


def _f32(value: float, like: Expr) -> Expr:
    return broadcast(Const(value, F32), like.lanes)


def _and(a: Expr, mask: int) -> Expr:
    return bitwise(BinaryOp.AND, a, _u32(mask, a))


def _shl(a: Expr, amount: int) -> Expr:
    return bitwise(BinaryOp.SHL, a, _u32(amount, a))
