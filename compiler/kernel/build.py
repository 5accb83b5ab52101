"""Constructors of kernel-IR expressions. They check types, fold constants and keep index arithmetic small.

Integer expressions (indices and symbolic dimensions) are kept in a canonical sum: terms with constant
factors, sorted, constants last. That is enough to prove two extents equal and to cancel the divisions
that reshapes introduce: `(x // 6) * 6 + x % 6` becomes `x`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..dtypes import DType, Kind
from .constants import FALSE as FALSE
from .constants import INDEX as INDEX
from .constants import TRUE as TRUE
from .constants import const as const
from .constants import dim as dim
from .constants import fold_binary, fold_cast
from .constants import index as index
from .nodes import (
    COMPARISONS,
    Binary,
    BinaryOp,
    Broadcast,
    Buffer,
    Cast,
    CastMode,
    Const,
    Dim,
    Expr,
    Load,
    Math,
    MathFn,
    Ramp,
    Select,
    Unary,
    UnaryOp,
    Var,
)
from .sums import add_indices, divide_indices, extreme_index, multiply_indices, remainder_of_indices, sum_terms
from .sums import from_terms as from_terms
from .sums import index_terms as index_terms
from .sums import range_of as range_of


def as_expr(value: Expr | int | float | bool, dtype: DType) -> Expr:
    """Return `value` as an expression; Python numbers become constants of `dtype`."""
    return const(value, dtype) if isinstance(value, (int, float, bool)) else value


def _pair(a: Expr | int | float, b: Expr | int | float) -> tuple[Expr, Expr]:
    """Give a Python number the type of its partner, and a scalar the lanes of its partner."""
    if isinstance(a, (int, float)):
        a = const(a, b.dtype if not isinstance(b, (int, float)) else INDEX)
    if isinstance(b, (int, float)):
        b = const(b, a.dtype)
    assert a.dtype is b.dtype, f"{a.dtype} and {b.dtype}"
    if a.lanes != b.lanes:
        a, b = broadcast(a, max(a.lanes, b.lanes)), broadcast(b, max(a.lanes, b.lanes))
    return a, b


# --- Arithmetic -------------------------------------------------------------------------------


def add(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """`a + b`; float addition folds only constants (no reassociation)."""
    a, b = _pair(a, b)
    return add_indices(a, b) if _is_index(a) else _binary(BinaryOp.ADD, a, b)


def sub(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """`a - b`."""
    a, b = _pair(a, b)
    if _is_index(a):
        return from_terms(sum_terms(index_terms(a), index_terms(b), -1))
    return _binary(BinaryOp.SUB, a, b)


def mul(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """`a * b`; distributes constants over sums of indices."""
    a, b = _pair(a, b)
    return multiply_indices(a, b) if _is_index(a) else _binary(BinaryOp.MUL, a, b)


def div(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """Floats: IEEE division. Integers: towards zero, 0 for a zero divisor."""
    return _binary(BinaryOp.DIV, *_pair(a, b))


def mod(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """C's remainder (fmod for floats)."""
    return _binary(BinaryOp.MOD, *_pair(a, b))


def floordiv(a: Expr | int, b: Expr | int) -> Expr:
    """Integer division towards minus infinity; 0 for a zero divisor."""
    a, b = _pair(a, b)
    return divide_indices(a, b) if _is_index(a) and not _both_constant(a, b) else _binary(BinaryOp.FLOORDIV, a, b)


def floormod(a: Expr | int, b: Expr | int) -> Expr:
    """Integer remainder with the sign of the divisor; 0 for a zero divisor."""
    a, b = _pair(a, b)
    return remainder_of_indices(a, b) if _is_index(a) and not _both_constant(a, b) else _binary(BinaryOp.FLOORMOD, a, b)


def _is_index(e: Expr) -> bool:
    return e.dtype is INDEX and e.lanes == 1


def _both_constant(a: Expr, b: Expr) -> bool:
    return isinstance(a, Const) and isinstance(b, Const)


def ceildiv(a: Dim, b: Dim) -> Expr:
    """`ceil(a / b)` for a non-negative `a` and a positive `b`."""
    a, b = index(a), index(b)
    return floordiv(add(a, sub(b, 1)), b)


def minimum(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """The smaller one; NaN if one is NaN."""
    a, b = _pair(a, b)
    if _is_index(a):
        return extreme_index(BinaryOp.MIN, a, b)
    return a if a is b else _binary(BinaryOp.MIN, a, b)


def maximum(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """The larger one; NaN if one is NaN."""
    a, b = _pair(a, b)
    if _is_index(a):
        return extreme_index(BinaryOp.MAX, a, b)
    return a if a is b else _binary(BinaryOp.MAX, a, b)


def clamp(value: Expr, low: Expr | int | float, high: Expr | int | float) -> Expr:
    """`min(max(value, low), high)`."""
    return minimum(maximum(value, low), high)


def bitwise(op: BinaryOp, a: Expr | int, b: Expr | int) -> Expr:
    """AND, OR, XOR, SHL or SHR of integers."""
    return _binary(op, *_pair(a, b))


def compare(op: BinaryOp, a: Expr | int | float, b: Expr | int | float) -> Expr:
    """A comparison; gives bool."""
    a, b = _pair(a, b)
    if a is b and a.dtype.is_int:
        return broadcast(const(op in (BinaryOp.EQ, BinaryOp.LE, BinaryOp.GE), DType.BOOL), a.lanes)
    return _binary(op, a, b)


def eq(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """`a == b`."""
    return compare(BinaryOp.EQ, a, b)


def ne(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """`a != b`."""
    return compare(BinaryOp.NE, a, b)


def lt(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """`a < b`."""
    return compare(BinaryOp.LT, a, b)


def le(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """`a <= b`."""
    return compare(BinaryOp.LE, a, b)


def gt(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """`a > b`."""
    return compare(BinaryOp.GT, a, b)


def ge(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """`a >= b`."""
    return compare(BinaryOp.GE, a, b)


def logical_and(*conditions: Expr) -> Expr:
    """All conditions hold; TRUE for none."""
    result: Expr = TRUE
    for condition in conditions:
        if result is TRUE or condition is FALSE:
            result = condition
        elif condition is not TRUE and result is not FALSE:
            result = _binary(BinaryOp.AND, *_pair(result, condition))
    return result


def logical_or(*conditions: Expr) -> Expr:
    """One of the conditions holds; FALSE for none."""
    result: Expr = FALSE
    for condition in conditions:
        if result is FALSE or condition is TRUE:
            result = condition
        elif condition is not FALSE and result is not TRUE:
            result = _binary(BinaryOp.OR, *_pair(result, condition))
    return result


def logical_not(a: Expr) -> Expr:
    """`not a` for bool, all bits inverted for integers."""
    return unary(UnaryOp.NOT, a)


def neg(a: Expr) -> Expr:
    """`-a`."""
    if _is_index(a):
        return mul(a, -1)
    return unary(UnaryOp.NEG, a)


def absolute(a: Expr) -> Expr:
    """`|a|`."""
    return unary(UnaryOp.ABS, a)


def unary(op: UnaryOp, a: Expr) -> Expr:
    """A unary operation, folded on constants."""
    if isinstance(a, Const):
        if op is UnaryOp.NEG:
            return const(-a.value, a.dtype)
        if op is UnaryOp.ABS:
            return const(abs(a.value), a.dtype)
        return const(not a.value if a.dtype.kind is Kind.BOOL else ~int(a.value), a.dtype)
    return Unary(op, a, a.dtype, a.lanes)


def math_fn(fn: MathFn, *args: Expr | float) -> Expr:
    """A function of floats; Python numbers take the type of the first expression among `args`."""
    typed = next(a for a in args if not isinstance(a, (int, float)))
    exprs = tuple(as_expr(a, typed.dtype) for a in args)
    lanes = max(e.lanes for e in exprs)
    dtype = DType.BOOL if fn in (MathFn.ISNAN, MathFn.ISINF) else typed.dtype
    return Math(fn, tuple(broadcast(e, lanes) for e in exprs), dtype, lanes)


def select(cond: Expr, then: Expr | int | float, other: Expr | int | float) -> Expr:
    """`then` where `cond`, else `other`."""
    then, other = _pair(then, other)
    if isinstance(cond, Const):
        return then if cond.value else other
    if then is other:
        return then
    lanes = max(cond.lanes, then.lanes)
    return Select(broadcast(cond, lanes), broadcast(then, lanes), broadcast(other, lanes), then.dtype, lanes)


def cast(value: Expr, dtype: DType, mode: CastMode = CastMode.CONVERT) -> Expr:
    """`value` in another type; folded for constants where the result is defined."""
    if value.dtype is dtype:
        return value
    if isinstance(value, Const) and mode is not CastMode.BITS and not dtype.is_narrow_float and not value.dtype.is_narrow_float:
        folded = fold_cast(value.value, dtype, mode)
        if folded is not None:
            return folded
    if isinstance(value, Broadcast):
        return broadcast(cast(value.value, dtype, mode), value.lanes)
    return Cast(value, dtype, mode, value.lanes)


def binary(op: BinaryOp, a: Expr, b: Expr) -> Expr:
    """Any binary operation, through its constructor above."""
    special = _CONSTRUCTORS.get(op)
    if special is not None:
        return special(a, b)
    return compare(op, a, b) if op in COMPARISONS else _binary(op, *_pair(a, b))


# --- Vectors and memory -----------------------------------------------------------------------


def broadcast(value: Expr, lanes: int) -> Expr:
    """A vector of `lanes` copies; the value itself if it has that many lanes already."""
    if value.lanes == lanes:
        return value
    assert value.lanes == 1, f"{value.lanes} lanes cannot become {lanes}"
    return Broadcast(value, lanes)


def ramp(base: Expr, stride: Expr | int, lanes: int) -> Expr:
    """`base + stride * [0 .. lanes)`."""
    stride = as_expr(stride, base.dtype)
    return base if lanes == 1 else Ramp(base, stride, lanes)


def load(buffer: Buffer, at: Dim, mask: Expr | None = None) -> Load:
    """Element `at` of a buffer."""
    return Load(buffer, index(at), mask)


def _logic(a: Expr, b: Expr, op: BinaryOp) -> Expr:
    """AND or OR: logical on bool, bitwise on integers."""
    if a.dtype.kind is Kind.BOOL:
        return logical_and(a, b) if op is BinaryOp.AND else logical_or(a, b)
    return _binary(op, *_pair(a, b))


_CONSTRUCTORS: dict[BinaryOp, Callable[[Expr, Expr], Expr]] = {
    BinaryOp.ADD: add,
    BinaryOp.SUB: sub,
    BinaryOp.MUL: mul,
    BinaryOp.FLOORDIV: floordiv,
    BinaryOp.FLOORMOD: floormod,
    BinaryOp.MIN: minimum,
    BinaryOp.MAX: maximum,
    BinaryOp.AND: lambda a, b: _logic(a, b, BinaryOp.AND),
    BinaryOp.OR: lambda a, b: _logic(a, b, BinaryOp.OR),
}


# --- Folding ----------------------------------------------------------------------------------


def _binary(op: BinaryOp, a: Expr, b: Expr) -> Expr:
    if isinstance(a, Broadcast) and isinstance(b, Broadcast):
        return broadcast(_binary(op, a.value, b.value), a.lanes)
    if isinstance(a, Const) and isinstance(b, Const):
        folded = fold_binary(op, a, b)
        if folded is not None:
            return folded
    if a.dtype.is_int and isinstance(b, Const):
        if b.value == 0 and op in (BinaryOp.ADD, BinaryOp.SUB, BinaryOp.OR, BinaryOp.XOR, BinaryOp.SHL, BinaryOp.SHR):
            return a
        if b.value == 1 and op in (BinaryOp.MUL, BinaryOp.DIV, BinaryOp.FLOORDIV):
            return a
    dtype = DType.BOOL if op in COMPARISONS else a.dtype
    return Binary(op, a, b, dtype, a.lanes)


def loop_var(name: str, extent: Dim) -> Var:
    """Return a variable for a loop of this extent; it carries a known extent as its bound."""
    return Var(name, INDEX, 1, extent if isinstance(extent, int) else 0)


def linearize(indices: Sequence[Expr], shape: Sequence[Dim]) -> Expr:
    """Row-major offset of `indices` in `shape`."""
    assert len(indices) == len(shape)
    offset: Expr = const(0)
    for at, extent in zip(indices, shape, strict=True):
        offset = add(mul(offset, index(extent)), at)
    return offset


def delinearize(offset: Expr, shape: Sequence[Dim]) -> tuple[Expr, ...]:
    """Row-major indices in `shape` of an offset below its size."""
    indices: list[Expr] = []
    for extent in reversed(shape[1:]):
        indices.append(floormod(offset, index(extent)))
        offset = floordiv(offset, index(extent))
    return (*([offset] if shape else []), *reversed(indices))


def product(extents: Iterable[Dim]) -> Dim:
    """Number of elements of a shape."""
    result: Expr = const(1)
    for extent in extents:
        result = mul(result, index(extent))
    return dim(result)
