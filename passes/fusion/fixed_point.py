"""Scale int32 sums by an int32 multiplier and a shift, for processors without floats: the numerics `fixed`.

    M = multiplier * 2**(exponent - 31),  0.5 <= multiplier * 2**-31 < 1

    high = (x * 2**left * multiplier + 2**30) >> 31          left  = max(exponent, 0)
    y = high / 2**right, rounded half away from zero         right = max(-exponent, 0)

These are the roundings of TensorFlow Lite's `MultiplyByQuantizedMultiplier` and CMSIS-NN's `arm_nn_requantize`
(without single rounding), so sums give the codes of these libraries. See gemmlowp, docs/quantization.md.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.build import const
from ...compiler.kernel.nodes import BinaryOp, Const, Expr, Read
from ...compiler.kernel.traverse import rebuild
from .constant_stages import Table

SMALLEST_EXPONENT = -31
"""Scales below give 0."""


class Numerics(enum.Enum):
    """How int32 sums become codes."""

    ONNX = "onnx"
    """By a float32 scale, rounded to even: the results of ONNX Runtime."""
    FIXED = "fixed"
    """By an int32 multiplier and a shift: the results of TensorFlow Lite for Microcontrollers."""


def in_doubles(e: Expr) -> Expr:
    """A float32 expression of scales, computed in float64 from what is stored."""
    if isinstance(e, Const):
        return const(float(e.value), DType.FLOAT64)
    if isinstance(e, Read) or e.dtype is not DType.FLOAT32:
        return build.cast(e, DType.FLOAT64)
    return rebuild(e, in_doubles)


def fixed_scale(scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers and exponents of positive scales, as TensorFlow Lite's `QuantizeMultiplier` finds them."""
    fraction, exponent = np.frexp(scale.astype(np.float64))
    multiplier = np.floor(fraction * (1 << 31) + 0.5).astype(np.int64)
    is_one = multiplier == 1 << 31
    multiplier, exponent = np.where(is_one, multiplier >> 1, multiplier), np.where(is_one, exponent + 1, exponent)
    tiny = exponent < SMALLEST_EXPONENT
    return np.where(tiny, 0, multiplier).astype(np.int32), np.where(tiny, 0, exponent).astype(np.int32)


def multiplied(value: Expr, scale: Table, read: Callable[[str, Table], Expr]) -> Expr:
    """An int32 times a scale, rounded to an int32.

    Args:
        value: the int32.
        scale: positive numbers.
        read: makes the read of a new constant, by what it is.
    """
    multiplier, exponent = fixed_scale(scale.values)
    left = _shift("left", np.maximum(exponent, 0), scale, read)
    right = _shift("right", np.maximum(-exponent, 0), scale, read)
    wide = build.cast(build.bitwise(BinaryOp.SHL, value, left), DType.INT64)
    product = build.mul(wide, build.cast(read("multiplier", Table(scale.axes, multiplier)), DType.INT64))
    high = build.cast(build.bitwise(BinaryOp.SHR, build.add(product, 1 << 30), const(31, DType.INT64)), DType.INT32)
    return _divided(high, right)


def _shift(name: str, values: np.ndarray, scale: Table, read: Callable[[str, Table], Expr]) -> Expr:
    """A number if all shifts are equal, else the read of one."""
    if values.size and (values == values.flat[0]).all():
        return const(int(values.flat[0]), DType.INT32)
    return read(name, Table(scale.axes, values))


def _divided(x: Expr, shift: Expr) -> Expr:
    """`x / 2**shift`, rounded half away from zero."""
    if shift is const(0, DType.INT32):
        return x
    mask = build.sub(build.bitwise(BinaryOp.SHL, const(1, DType.INT32), shift), 1)
    half = build.add(build.bitwise(BinaryOp.SHR, mask, const(1, DType.INT32)), build.cast(build.lt(x, 0), DType.INT32))
    rest = build.bitwise(BinaryOp.AND, x, mask)
    return build.add(build.bitwise(BinaryOp.SHR, x, shift), build.cast(build.gt(rest, half), DType.INT32))
