"""Scalar rules of affine quantization that the integer contractions share, exact bit for bit.

    real = (stored - zero_point) * scale
    stored = saturate(round_half_even(real / scale) + zero_point)

Scales are multiplied in float32 as `x_scale * w_scale / y_scale`, then with the int32 sum.
"""

from __future__ import annotations

from ..dtypes import DType
from ..kernel import build
from ..kernel.nodes import CastMode, Const, Expr, MathFn
from .table import OpContext


def per_channel(ctx: OpContext, position: int, channel: Expr) -> Expr:
    """Element of a scale or zero point that is a scalar, has one element, or has one for each channel."""
    shape = ctx.shape(position)
    if not shape:
        return ctx.read(position)
    if len(shape) != 1:
        ctx.fail("E0203", f"input {position} must be a scalar or have one axis")
    if isinstance(shape[0], int) or isinstance(channel, Const):
        return ctx.read(position, build.index(0) if shape[0] == 1 else channel)
    return ctx.read(position, build.minimum(channel, build.sub(build.index(shape[0]), 1)))


def is_zero(ctx: OpContext, position: int) -> bool:
    """True if a zero point is absent or known to be zero everywhere."""
    if not ctx.has(position):
        return True
    known = ctx.array(position)
    return known is not None and not known.any()


def centered(ctx: OpContext, stored: Expr, position: int, zero_point: Expr | None) -> Expr:
    """`stored - zero_point` in int32; the subtraction is left out where input `position` is known to be zero."""
    wide = build.cast(stored, DType.INT32)
    if zero_point is None or is_zero(ctx, position):
        return wide
    return build.sub(wide, build.cast(zero_point, DType.INT32))


def as_float(value: Expr) -> Expr:
    """A scale or a sum in float32, the type in which values are requantized."""
    return build.cast(value, DType.FLOAT32)


def multiplier(x_scale: Expr, w_scale: Expr, y_scale: Expr) -> Expr:
    """What the int32 sum is multiplied with to become the output in units of its scale."""
    return build.div(build.mul(as_float(x_scale), as_float(w_scale)), as_float(y_scale))


def quantized(units: Expr, zero_point: Expr | None, dtype: DType) -> Expr:
    """`saturate(round(units) + zero_point)` for a float32 number of scale units."""
    rounded = build.math_fn(MathFn.ROUND, units)
    if zero_point is not None:
        rounded = build.add(rounded, as_float(zero_point))
    return build.cast(rounded, dtype, CastMode.SATURATE)
