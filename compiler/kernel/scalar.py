"""The exact meaning of every operator of the kernel IR on single elements, as a function for each operator and type.

Integers and bool are Python numbers kept inside their type; floats are numpy (ml_dtypes) scalars, so
that each operation rounds to its type. `interpret.py` runs kernels on these; the code generators are
tested against it. Where the IR leaves a result open (a float beyond the range of an integer) one value
is chosen here. Numpy warns of overflow and the like: callers turn that off (`np.errstate`).
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias
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


def from_array(dtype: DType) -> Callable[[np.generic], Scalar]:
    """Makes a scalar of an element of an array."""
    if dtype.is_float:
        return lambda value: value
    return bool if dtype.kind is Kind.BOOL else int


def number(value: int | float | bool, dtype: DType) -> Scalar:
    """A constant as a scalar of its type."""
    if dtype.is_float:
        return cast_type(Scalar, dtype.numpy.type(value))
    return bool(value) if dtype.kind is Kind.BOOL else wrap(int(value), dtype)


# --- Unary and binary operators -----------------------------------------------------------------


@functools.cache
def unary(op: UnaryOp, dtype: DType) -> Callable[[Any], Scalar]:
    """`op(a)` of an operand of type `dtype`."""
    if dtype.kind is Kind.BOOL:
        return operator.not_ if op is UnaryOp.NOT else bool
    function = _UNARY[op]
    return function if dtype.is_float else lambda a: wrap(function(a), dtype)


@functools.cache
def binary(op: BinaryOp, dtype: DType) -> Callable[[Any, Any], Scalar]:
    """`op(a, b)` of operands of type `dtype`."""
    compare = _COMPARE.get(op)
    if compare is not None:
        return lambda a, b: bool(compare(a, b))
    if dtype.is_float:
        return _FLOAT[op]
    function, bits = _INT[op], dtype.bits
    if dtype.kind is Kind.BOOL:
        return lambda a, b: bool(function(a, b))
    if op in (BinaryOp.SHL, BinaryOp.SHR):
        return lambda a, b: wrap(function(a, b), dtype) if 0 <= b < bits else 0
    low, high = dtype.limits

    def wrapped(a: int, b: int) -> int:
        value = function(a, b)
        return value if low <= value <= high else wrap(value, dtype)

    return wrapped


def _towards_zero(a: int, b: int) -> int:
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


_UNARY: dict[UnaryOp, Callable[[Any], Any]] = {UnaryOp.NEG: operator.neg, UnaryOp.ABS: abs, UnaryOp.NOT: operator.invert}
_COMPARE: dict[BinaryOp, Callable[[Any, Any], object]] = {
    BinaryOp.EQ: operator.eq,
    BinaryOp.NE: operator.ne,
    BinaryOp.LT: operator.lt,
    BinaryOp.LE: operator.le,
    BinaryOp.GT: operator.gt,
    BinaryOp.GE: operator.ge,
}
_FLOAT: dict[BinaryOp, Callable[[Any, Any], Any]] = {
    BinaryOp.ADD: operator.add,
    BinaryOp.SUB: operator.sub,
    BinaryOp.MUL: operator.mul,
    BinaryOp.DIV: operator.truediv,
    BinaryOp.MOD: np.fmod,
    BinaryOp.MIN: np.minimum,
    BinaryOp.MAX: np.maximum,
}
_INT: dict[BinaryOp, Callable[[int, int], int]] = {
    BinaryOp.ADD: operator.add,
    BinaryOp.SUB: operator.sub,
    BinaryOp.MUL: operator.mul,
    BinaryOp.DIV: _towards_zero,
    BinaryOp.MOD: lambda a, b: a - b * _towards_zero(a, b) if b else 0,
    BinaryOp.FLOORDIV: lambda a, b: a // b if b else 0,
    BinaryOp.FLOORMOD: lambda a, b: a % b if b else 0,
    BinaryOp.MIN: min,
    BinaryOp.MAX: max,
    BinaryOp.AND: operator.and_,
    BinaryOp.OR: operator.or_,
    BinaryOp.XOR: operator.xor,
    BinaryOp.SHL: operator.lshift,
    BinaryOp.SHR: operator.rshift,
}


# --- Functions ----------------------------------------------------------------------------------


@functools.cache
def math_fn(fn: MathFn, dtype: DType) -> Callable[..., Scalar]:
    """A function of floats of type `dtype`, computed in float64 and rounded once more."""
    if fn is MathFn.ISNAN or fn is MathFn.ISINF:
        test = np.isnan if fn is MathFn.ISNAN else np.isinf
        return lambda a: bool(test(a))
    function, rounded = _MATH[fn], dtype.numpy.type
    return lambda *args: cast_type(Scalar, rounded(function(*map(np.float64, args))))


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


@functools.cache
def cast(source: DType, target: DType, mode: CastMode) -> Callable[[Any], Scalar]:
    """Turns a value of type `source` into one of type `target`."""
    if mode is CastMode.BITS:
        element = from_array(target)
        return lambda value: element(np.asarray([value], source.numpy).view(target.numpy)[0])
    if target.kind is Kind.BOOL:
        return lambda value: bool(value != 0)
    if target.is_float:
        return lambda value: _to_float(value, source, target, mode)
    return lambda value: _to_int(value, target, mode)


def _to_float(value: Scalar, source: DType, target: DType, mode: CastMode) -> Scalar:
    held = np.asarray(value, source.numpy)
    if mode is CastMode.SATURATE and target.is_narrow_float:
        import ml_dtypes

        limits = ml_dtypes.finfo(target.numpy)  # type: ignore[no-untyped-call]
        held = np.clip(held.astype(np.float64), float(limits.min), float(limits.max))
        if source.bits <= 32:
            held = held.astype(np.float32)
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
