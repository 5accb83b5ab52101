"""Constants of kernel-IR expressions, and the arithmetic on them that is done at compile time."""

from __future__ import annotations

import ctypes
import functools
import math

from ..dtypes import DType, Kind
from .nodes import COMPARISONS, BinaryOp, CastMode, Const, Dim, Expr

INDEX = DType.INT64
REMEMBERED = 1 << 14
"""Results that each of the functions on indices remembers; interned arguments make a look-up cheap."""


def const(value: int | float | bool, dtype: DType = INDEX) -> Const:
    """Return a constant of the given type; integers wrap to it, float32 is rounded to it."""
    if dtype is INDEX and type(value) is int:
        return _index_const(value)
    if dtype is DType.FLOAT32:
        return Const(ctypes.c_float(value).value, dtype)
    if dtype.is_float:
        return Const(float(value), dtype)
    if dtype.kind is Kind.BOOL:
        return Const(bool(value), dtype)
    low, high = dtype.limits
    return Const((int(value) - low) % (high - low + 1) + low, dtype)


@functools.lru_cache(REMEMBERED)
def _index_const(value: int) -> Const:
    return Const((value + (1 << 63)) % (1 << 64) - (1 << 63), INDEX)


def index(value: Dim) -> Expr:
    """Return a dimension or index as an int64 expression."""
    return const(value) if isinstance(value, int) else value


def dim(value: Dim) -> Dim:
    """Return a dimension as a plain int if it is constant."""
    return int(value.value) if isinstance(value, Const) else value


TRUE = Const(True, DType.BOOL)
FALSE = Const(False, DType.BOOL)


def fold_cast(value: int | float | bool, dtype: DType, mode: CastMode) -> Const | None:
    """A constant in another type, None where the result is left to the target."""
    if dtype.kind is Kind.BOOL:
        return const(value != 0, dtype)
    if dtype is DType.FLOAT32:
        import numpy as np

        with np.errstate(over="ignore"):
            return const(float(np.float32(value)), dtype)
    if dtype is DType.FLOAT64:
        return const(float(value), dtype)
    if not dtype.is_int:
        return None
    low, high = dtype.limits
    if mode is CastMode.SATURATE:
        if value != value:
            return const(0, dtype)
        return const(int(min(max(value, low), high)), dtype)
    if isinstance(value, float) and not (math.isfinite(value) and low <= value <= high):
        return None
    return const(int(value), dtype)


def fold_binary(op: BinaryOp, a: Const, b: Const) -> Const | None:
    """Fold a binary operation of two constants, None where it is left to the target."""
    x, y, dtype = a.value, b.value, a.dtype
    if op in COMPARISONS:
        return const({"eq": x == y, "ne": x != y, "lt": x < y, "le": x <= y, "gt": x > y, "ge": x >= y}[op.value], DType.BOOL)
    if dtype.kind is Kind.BOOL:
        table = {BinaryOp.AND: x and y, BinaryOp.OR: x or y, BinaryOp.XOR: x != y}
        return const(bool(table[op]), dtype) if op in table else None
    if dtype.is_int:
        return const(_fold_int(op, int(x), int(y), dtype), dtype)
    if dtype is DType.FLOAT64 or dtype is DType.FLOAT32:
        return _fold_float(op, float(x), float(y), dtype)
    return None


def _fold_int(op: BinaryOp, x: int, y: int, dtype: DType) -> int:
    towards_zero = 0 if y == 0 else abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)
    match op:
        case BinaryOp.ADD:
            return x + y
        case BinaryOp.SUB:
            return x - y
        case BinaryOp.MUL:
            return x * y
        case BinaryOp.DIV:
            return towards_zero
        case BinaryOp.MOD:
            return x - towards_zero * y if y else 0
        case BinaryOp.FLOORDIV:
            return x // y if y else 0
        case BinaryOp.FLOORMOD:
            return x % y if y else 0
        case BinaryOp.MIN:
            return min(x, y)
        case BinaryOp.MAX:
            return max(x, y)
        case BinaryOp.AND:
            return x & y
        case BinaryOp.OR:
            return x | y
        case BinaryOp.XOR:
            return x ^ y
        case BinaryOp.SHL:
            return x << y if 0 <= y < dtype.bits else 0
        case BinaryOp.SHR:
            return x >> y if 0 <= y < dtype.bits else 0
    raise AssertionError(op)


def _fold_float(op: BinaryOp, x: float, y: float, dtype: DType) -> Const | None:
    import numpy as np

    kind = np.float32 if dtype is DType.FLOAT32 else np.float64
    table = {BinaryOp.ADD: np.add, BinaryOp.SUB: np.subtract, BinaryOp.MUL: np.multiply, BinaryOp.DIV: np.divide,
             BinaryOp.MIN: np.minimum, BinaryOp.MAX: np.maximum, BinaryOp.MOD: np.fmod}  # fmt: skip
    if op not in table:
        return None
    with np.errstate(all="ignore"):
        return const(float(table[op](kind(x), kind(y))), dtype)
