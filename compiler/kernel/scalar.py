"""The exact meaning of every operator of the kernel IR on single elements.

Integers and bool are Python numbers kept inside their type; floats are numpy (ml_dtypes) scalars, so
that each operation rounds to its type. `interpret.py` runs kernels on these; the code generators are
tested against it. Where the IR leaves a result open (a float beyond the range of an integer) one value
is chosen here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import TypeAlias
from typing import cast as cast_type

import numpy as np

from ..dtypes import DType, Kind
from .nodes import BinaryOp, CastMode, MathFn, UnaryOp

Scalar: TypeAlias = int | float | bool | np.generic
"""An element: a Python int or bool, or a numpy scalar of a float type."""


def wrap(value: int, dtype: DType) -> int:
    """Bring an integer into the range of its type, modulo 2**bits."""
    low, high = dtype.limits
    return value if low <= value <= high else (value - low) % (high - low + 1) + low


def from_array(value: np.generic, dtype: DType) -> Scalar:
    """An element of an array as a scalar."""
    if dtype.is_float:
        return value
    return bool(value) if dtype.kind is Kind.BOOL else int(value)


def number(value: int | float | bool, dtype: DType) -> Scalar:
    """A constant as a scalar of its type."""
    if dtype.is_float:
        return cast_type(Scalar, dtype.numpy.type(value))
    return bool(value) if dtype.kind is Kind.BOOL else wrap(int(value), dtype)


# --- Unary and binary operators -----------------------------------------------------------------


def unary(op: UnaryOp, a: Scalar, dtype: DType) -> Scalar:
    """`op(a)`."""
    if dtype.is_float:
        return -a if op is UnaryOp.NEG else abs(a)  # type: ignore[operator,arg-type]
    if dtype.kind is Kind.BOOL:
        return not a if op is UnaryOp.NOT else a
    value = int(a)
    return wrap({UnaryOp.NEG: -value, UnaryOp.ABS: abs(value), UnaryOp.NOT: ~value}[op], dtype)


def binary(op: BinaryOp, a: Scalar, b: Scalar, dtype: DType) -> Scalar:
    """`op(a, b)`; `dtype` is that of the operands."""
    compare = _COMPARE.get(op)
    if compare is not None:
        return bool(compare(a, b))
    if dtype.is_float:
        return _FLOAT[op](a, b)
    if dtype.kind is Kind.BOOL:
        return bool(_INT[op](int(a), int(b)))
    if op in (BinaryOp.SHL, BinaryOp.SHR) and not 0 <= b < dtype.bits:  # type: ignore[operator]
        return 0
    return wrap(_INT[op](int(a), int(b)), dtype)


def _towards_zero(a: int, b: int) -> int:
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


_COMPARE: dict[BinaryOp, Callable[[Scalar, Scalar], object]] = {
    BinaryOp.EQ: lambda a, b: a == b,
    BinaryOp.NE: lambda a, b: a != b,
    BinaryOp.LT: lambda a, b: a < b,  # type: ignore[operator]
    BinaryOp.LE: lambda a, b: a <= b,  # type: ignore[operator]
    BinaryOp.GT: lambda a, b: a > b,  # type: ignore[operator]
    BinaryOp.GE: lambda a, b: a >= b,  # type: ignore[operator]
}
_FLOAT: dict[BinaryOp, Callable[[Scalar, Scalar], Scalar]] = {
    BinaryOp.ADD: np.add,
    BinaryOp.SUB: np.subtract,
    BinaryOp.MUL: np.multiply,
    BinaryOp.DIV: np.divide,
    BinaryOp.MOD: np.fmod,
    BinaryOp.MIN: np.minimum,
    BinaryOp.MAX: np.maximum,
}
_INT: dict[BinaryOp, Callable[[int, int], int]] = {
    BinaryOp.ADD: lambda a, b: a + b,
    BinaryOp.SUB: lambda a, b: a - b,
    BinaryOp.MUL: lambda a, b: a * b,
    BinaryOp.DIV: _towards_zero,
    BinaryOp.MOD: lambda a, b: a - b * _towards_zero(a, b) if b else 0,
    BinaryOp.FLOORDIV: lambda a, b: a // b if b else 0,
    BinaryOp.FLOORMOD: lambda a, b: a % b if b else 0,
    BinaryOp.MIN: min,
    BinaryOp.MAX: max,
    BinaryOp.AND: lambda a, b: a & b,
    BinaryOp.OR: lambda a, b: a | b,
    BinaryOp.XOR: lambda a, b: a ^ b,
    BinaryOp.SHL: lambda a, b: a << b,
    BinaryOp.SHR: lambda a, b: a >> b,
}


# --- Functions ----------------------------------------------------------------------------------


def math_fn(fn: MathFn, args: tuple[Scalar, ...], dtype: DType) -> Scalar:
    """A function of floats of type `dtype`; the second group is computed in float64 and rounded once more."""
    if fn is MathFn.ISNAN or fn is MathFn.ISINF:
        return bool(np.isnan(args[0]) if fn is MathFn.ISNAN else np.isinf(args[0]))
    wide = tuple(np.float64(a) for a in args)
    with np.errstate(all="ignore"):
        return cast_type(Scalar, dtype.numpy.type(_MATH[fn](*wide)))


def _fma(a: np.float64, b: np.float64, c: np.float64) -> np.float64:
    if not (np.isfinite(a) and np.isfinite(b) and np.isfinite(c)) or a * b == 0:
        return a * b + c
    if np.float32(a) == a and np.float32(b) == b:  # the product is exact
        return a * b + c
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    try:
        return np.float64(exact.numerator / exact.denominator) if exact else a * b + c
    except OverflowError:
        return np.float64(math.copysign(math.inf, exact))


def _sigmoid(x: np.float64) -> np.float64:
    return np.float64(1 / (1 + np.exp(-x)) if x >= 0 else np.exp(x) / (1 + np.exp(x)))


_MATH: dict[MathFn, Callable[..., np.float64]] = {
    MathFn.SQRT: np.sqrt,
    MathFn.FLOOR: np.floor,
    MathFn.CEIL: np.ceil,
    MathFn.TRUNC: np.trunc,
    MathFn.ROUND: np.rint,
    MathFn.FMA: _fma,
    MathFn.COPYSIGN: np.copysign,
    MathFn.EXP: np.exp,
    MathFn.EXP2: np.exp2,
    MathFn.EXPM1: np.expm1,
    MathFn.LOG: np.log,
    MathFn.LOG1P: np.log1p,
    MathFn.SIN: np.sin,
    MathFn.COS: np.cos,
    MathFn.TAN: np.tan,
    MathFn.ASIN: np.arcsin,
    MathFn.ACOS: np.arccos,
    MathFn.ATAN: np.arctan,
    MathFn.SINH: np.sinh,
    MathFn.COSH: np.cosh,
    MathFn.TANH: np.tanh,
    MathFn.ASINH: np.arcsinh,
    MathFn.ACOSH: np.arccosh,
    MathFn.ATANH: np.arctanh,
    MathFn.ERF: lambda x: np.float64(math.erf(x)),
    MathFn.SIGMOID: _sigmoid,
    MathFn.POW: np.power,
}


# --- Casts --------------------------------------------------------------------------------------


def cast(value: Scalar, source: DType, target: DType, mode: CastMode) -> Scalar:
    """`value` of type `source` in type `target`."""
    if mode is CastMode.BITS:
        return from_array(np.asarray([value], source.numpy).view(target.numpy)[0], target)
    if target.kind is Kind.BOOL:
        return bool(value != 0)
    if target.is_float:
        return _to_float(value, source, target, mode)
    return _to_int(value, target, mode)


def _to_float(value: Scalar, source: DType, target: DType, mode: CastMode) -> Scalar:
    held = np.asarray(value, source.numpy)
    if mode is CastMode.SATURATE and target.is_narrow_float:
        import ml_dtypes

        limits = ml_dtypes.finfo(target.numpy)  # type: ignore[no-untyped-call]
        held = np.clip(held.astype(np.float64), float(limits.min), float(limits.max))
        if source.bits <= 32:
            held = held.astype(np.float32)
    with np.errstate(over="ignore"):
        return cast_type(Scalar, held.astype(target.numpy)[()])


def _to_int(value: Scalar, target: DType, mode: CastMode) -> int:
    if isinstance(value, (bool, int)):
        exact = int(value)
    elif np.isnan(value):
        return 0
    elif np.isinf(value):
        return target.limits[1 if value > 0 else 0] if mode is CastMode.SATURATE else 0  # type: ignore[operator]
    else:
        exact = int(value)
    low, high = target.limits
    return min(max(exact, low), high) if mode is CastMode.SATURATE else wrap(exact, target)
