"""Arithmetic of the kernel IR on numpy arrays, operation by operation, as `nodes.py` defines it.

Floats narrower than 32 bits are computed in float32 and rounded once; integers narrower than a byte in
int64, and wrapped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..dtypes import DType, Kind
from .nodes import COMPARISONS, BinaryOp, CastMode, MathFn, UnaryOp


def apply_unary(op: UnaryOp, a: np.ndarray, dtype: DType) -> np.ndarray:
    """A unary operation on elements of `dtype`."""
    if op is UnaryOp.NOT:
        return np.logical_not(a) if dtype.kind is Kind.BOOL else narrow(np.invert(widen(a, dtype)), dtype)
    function = np.negative if op is UnaryOp.NEG else np.abs
    return narrow(np.asarray(function(widen(a, dtype))), dtype)


def apply_binary(op: BinaryOp, a: np.ndarray, b: np.ndarray, dtype: DType) -> np.ndarray:
    """A binary operation on elements of `dtype`; comparisons give bool."""
    if dtype.kind is Kind.STRING:
        return np.asarray(_PLAIN[op](a, b)).astype(bool)
    x, y = widen(a, dtype), widen(b, dtype)
    if op in COMPARISONS:
        return np.asarray(_PLAIN[op](x, y))
    integer = _INTEGER.get(op) if dtype.is_int else None
    if op in (BinaryOp.SHL, BinaryOp.SHR):
        return narrow(_shift(op, x, y, dtype), dtype)
    with np.errstate(all="ignore"):
        return narrow(np.asarray((integer or _PLAIN[op])(x, y)), dtype)


def _truncated_quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        quotient = np.floor_divide(a, b)
    inexact = (b != 0) & (quotient * b != a) & ((a < 0) != (b < 0))
    return np.asarray(quotient + inexact.astype(quotient.dtype))


def _truncated_remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(b == 0, np.zeros_like(a), a - _truncated_quotient(a, b) * b))


def _shift(op: BinaryOp, a: np.ndarray, by: np.ndarray, dtype: DType) -> np.ndarray:
    legal = (by >= 0) & (by < dtype.bits)
    amount = np.where(legal, by, np.zeros_like(by))
    shifted = np.left_shift(a, amount) if op is BinaryOp.SHL else np.right_shift(a, amount)
    return np.asarray(np.where(legal, shifted, np.zeros_like(shifted)))


_PLAIN: dict[BinaryOp, Callable[..., np.ndarray]] = {
    BinaryOp.ADD: np.add, BinaryOp.SUB: np.subtract, BinaryOp.MUL: np.multiply, BinaryOp.DIV: np.divide, BinaryOp.MOD: np.fmod,
    BinaryOp.FLOORDIV: np.floor_divide, BinaryOp.FLOORMOD: np.mod, BinaryOp.MIN: np.minimum, BinaryOp.MAX: np.maximum,
    BinaryOp.AND: np.bitwise_and, BinaryOp.OR: np.bitwise_or, BinaryOp.XOR: np.bitwise_xor,
    BinaryOp.EQ: np.equal, BinaryOp.NE: np.not_equal, BinaryOp.LT: np.less, BinaryOp.LE: np.less_equal,
    BinaryOp.GT: np.greater, BinaryOp.GE: np.greater_equal,
}  # fmt: skip
_INTEGER: dict[BinaryOp, Callable[..., np.ndarray]] = {BinaryOp.DIV: _truncated_quotient, BinaryOp.MOD: _truncated_remainder}


def _erf(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x.astype(np.float64))).astype(x.dtype)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype))


def _fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    wide = np.longdouble if a.dtype == np.float64 else np.float64
    return np.asarray(a.astype(wide) * b + c).astype(a.dtype)


_MATH: dict[MathFn, Callable[..., np.ndarray]] = {
    MathFn.SQRT: np.sqrt, MathFn.FLOOR: np.floor, MathFn.CEIL: np.ceil, MathFn.TRUNC: np.trunc, MathFn.ROUND: np.rint,
    MathFn.FMA: _fma, MathFn.ISNAN: np.isnan, MathFn.ISINF: np.isinf, MathFn.COPYSIGN: np.copysign,
    MathFn.EXP: np.exp, MathFn.EXP2: np.exp2, MathFn.EXPM1: np.expm1, MathFn.LOG: np.log, MathFn.LOG1P: np.log1p,
    MathFn.SIN: np.sin, MathFn.COS: np.cos, MathFn.TAN: np.tan, MathFn.ASIN: np.arcsin, MathFn.ACOS: np.arccos,
    MathFn.ATAN: np.arctan, MathFn.SINH: np.sinh, MathFn.COSH: np.cosh, MathFn.TANH: np.tanh, MathFn.ASINH: np.arcsinh,
    MathFn.ACOSH: np.arccosh, MathFn.ATANH: np.arctanh, MathFn.ERF: _erf, MathFn.SIGMOID: _sigmoid, MathFn.POW: np.power,
}  # fmt: skip


def apply_math(fn: MathFn, args: Sequence[np.ndarray], dtype: DType) -> np.ndarray:
    """A function of floats of `dtype`."""
    with np.errstate(all="ignore"):
        result = np.asarray(_MATH[fn](*(widen(a, dtype) for a in args)))
    return result if fn in (MathFn.ISNAN, MathFn.ISINF) else narrow(result, dtype)


def apply_cast(a: np.ndarray, old: DType, new: DType, mode: CastMode) -> np.ndarray:
    """Elements of type `old` as type `new`."""
    with np.errstate(all="ignore"):
        return _cast(a, old, new, mode)


def _cast(a: np.ndarray, old: DType, new: DType, mode: CastMode) -> np.ndarray:
    if mode is CastMode.BITS:
        return np.ascontiguousarray(a).view(new.numpy).reshape(a.shape)
    if new.kind is Kind.BOOL:
        return np.asarray(widen(a, old) != 0)
    if new.is_int:
        return _to_integer(a, old, new, mode)
    wide = widen(a, old)
    if mode is CastMode.SATURATE and new.bits <= 8:
        import ml_dtypes

        largest = float(ml_dtypes.finfo(new.numpy).max)  # type: ignore[no-untyped-call]
        wide = np.asarray(np.clip(wide.astype(np.float32), -largest, largest))
    return np.asarray(wide.astype(new.numpy))


def _to_integer(a: np.ndarray, old: DType, new: DType, mode: CastMode) -> np.ndarray:
    low, high = new.limits
    if mode is CastMode.SATURATE and old.is_float:
        exact = np.trunc(a.astype(np.float64))
        inside = np.asarray(np.where((exact > low) & (exact < high), exact, 0).astype(new.numpy if new.bits >= 8 else np.int64))
        result = np.where(exact >= high, np.asarray(high, inside.dtype), np.where(exact <= low, np.asarray(low, inside.dtype), inside))
        return np.asarray(result.astype(new.numpy))
    if mode is CastMode.SATURATE and old.is_int:
        old_low, old_high = old.limits
        wide = widen(a, old)
        return np.asarray(np.clip(wide, max(low, old_low), min(high, old_high)).astype(new.numpy))
    wide = widen(a, old)
    if old.is_float and new is not DType.UINT64:
        wide = wide.astype(np.int64)
    return narrow(np.asarray(wide), new)


def widen(a: np.ndarray, dtype: DType) -> np.ndarray:
    """Elements in a type that numpy can compute with."""
    if dtype.is_narrow_float:
        return a.astype(np.float32)
    return a.astype(np.int64) if dtype.is_int and dtype.bits < 8 else a


def narrow(a: np.ndarray, dtype: DType) -> np.ndarray:
    """Back from `widen`: rounded, or wrapped to the bits of the type."""
    if dtype.is_int and dtype.bits < 8:
        low, high = dtype.limits
        a = (a.astype(np.int64) - low) % (high - low + 1) + low
    return a if a.dtype == dtype.numpy else np.asarray(a.astype(dtype.numpy))
