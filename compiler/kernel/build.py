"""Constructors of kernel-IR expressions. They check types, fold constants and keep index arithmetic small.

Integer expressions (indices and symbolic dimensions) are kept in a canonical sum: terms with constant
factors, sorted, constants last. That is enough to prove two extents equal and to cancel the divisions
that reshapes introduce: `(x // 6) * 6 + x % 6` becomes `x`.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import math
import weakref
from collections.abc import Callable, Iterable, Sequence

from ..dtypes import DType, Kind
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
    Read,
    Select,
    Unary,
    UnaryOp,
    Var,
)

INDEX = DType.INT64
_REMEMBERED = 1 << 14
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


@functools.lru_cache(_REMEMBERED)
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
    return _add_indices(a, b) if a.dtype is INDEX and a.lanes == 1 else _binary(BinaryOp.ADD, a, b)


@functools.lru_cache(_REMEMBERED)
def _add_indices(a: Expr, b: Expr) -> Expr:
    if isinstance(b, Const) and not isinstance(a, Const):  # the constant of a sum stands last
        rest: Expr = a
        known = 0
        if isinstance(a, Binary) and a.op is BinaryOp.ADD and isinstance(a.b, Const):
            rest, known = a.a, int(a.b.value)
        total = const(known + int(b.value))
        return Binary(BinaryOp.ADD, rest, total, INDEX, 1) if total.value else rest
    return from_terms(_sum_terms(index_terms(a), index_terms(b), 1))


def sub(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """`a - b`."""
    a, b = _pair(a, b)
    if a.dtype is INDEX and a.lanes == 1:
        return from_terms(_sum_terms(index_terms(a), index_terms(b), -1))
    return _binary(BinaryOp.SUB, a, b)


def mul(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """`a * b`; distributes constants over sums of indices."""
    a, b = _pair(a, b)
    return _multiply_indices(a, b) if a.dtype is INDEX and a.lanes == 1 else _binary(BinaryOp.MUL, a, b)


@functools.lru_cache(_REMEMBERED)
def _multiply_indices(a: Expr, b: Expr) -> Expr:
    if isinstance(a, Const):
        a, b = b, a
    if isinstance(b, Const):
        return from_terms({t: c * int(b.value) for t, c in index_terms(a).items()})
    return from_terms(_product_terms(index_terms(a), index_terms(b)))


def div(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """Floats: IEEE division. Integers: towards zero, 0 for a zero divisor."""
    return _binary(BinaryOp.DIV, *_pair(a, b))


def mod(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """C's remainder (fmod for floats)."""
    return _binary(BinaryOp.MOD, *_pair(a, b))


def floordiv(a: Expr | int, b: Expr | int) -> Expr:
    """Integer division towards minus infinity; 0 for a zero divisor."""
    a, b = _pair(a, b)
    if isinstance(b, Const) and a.dtype is INDEX and a.lanes == 1:
        divisor = int(b.value)
        if divisor == 1:
            return a
        if divisor > 0:
            return _floordiv_const(a, divisor)
    quotient = _exact_quotient(a, b) if isinstance(b, Var) and a.dtype is INDEX and a.lanes == 1 else None
    if quotient is not None:
        return quotient  # symbols used as divisors are extents; an empty extent has no element to index
    return _binary(BinaryOp.FLOORDIV, a, b)


def floormod(a: Expr | int, b: Expr | int) -> Expr:
    """Integer remainder with the sign of the divisor; 0 for a zero divisor."""
    a, b = _pair(a, b)
    if isinstance(b, Const) and a.dtype is INDEX and a.lanes == 1:
        divisor = int(b.value)
        if divisor == 1:
            return const(0)
        if divisor > 0:
            return _floormod_const(a, divisor)
    if isinstance(b, Var) and a.dtype is INDEX and a.lanes == 1 and _exact_quotient(a, b) is not None:
        return const(0)
    return _binary(BinaryOp.FLOORMOD, a, b)


def _exact_quotient(a: Expr, b: Var) -> Expr | None:
    """`a / b` if every term of `a` has the factor `b`, else None."""
    quotient: _Terms = {}
    for term, factor in index_terms(a).items():
        if b not in term:
            return None
        position = term.index(b)
        quotient[term[:position] + term[position + 1 :]] = factor
    return from_terms(quotient)


def ceildiv(a: Dim, b: Dim) -> Expr:
    """`ceil(a / b)` for a non-negative `a` and a positive `b`."""
    a, b = index(a), index(b)
    return floordiv(add(a, sub(b, 1)), b)


def minimum(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """The smaller one; NaN if one is NaN."""
    a, b = _pair(a, b)
    if a.dtype is INDEX and a.lanes == 1:
        return _extreme(BinaryOp.MIN, a, b)
    return a if a is b else _binary(BinaryOp.MIN, a, b)


def maximum(a: Expr | int | float, b: Expr | int | float) -> Expr:
    """The larger one; NaN if one is NaN."""
    a, b = _pair(a, b)
    if a.dtype is INDEX and a.lanes == 1:
        return _extreme(BinaryOp.MAX, a, b)
    return a if a is b else _binary(BinaryOp.MAX, a, b)


@functools.lru_cache(_REMEMBERED)
def _extreme(op: BinaryOp, a: Expr, b: Expr) -> Expr:
    """Minimum or maximum of indices in canonical form: distinct operands in order, a constant last.

    Broadcasting takes the same extents again in every layer, so `max(max(n, m), n)` must not grow.
    """
    dual, pick = (BinaryOp.MAX, min) if op is BinaryOp.MIN else (BinaryOp.MIN, max)
    operands = dict.fromkeys((*_operands(op, a), *_operands(op, b)))
    known = [int(e.value) for e in operands if isinstance(e, Const)]
    free = [e for e in operands if not isinstance(e, Const)]
    free = [e for e in free if not any(other is not e and other in operands for other in _operands(dual, e))]  # max(n, min(n, m)) == n
    ordered: list[Expr] = [*sorted(free, key=_order), *([const(pick(known))] if known else [])]
    result = ordered[0]
    for e in ordered[1:]:
        result = Binary(op, result, e, INDEX, 1)
    return result


def _operands(op: BinaryOp, e: Expr) -> tuple[Expr, ...]:
    """What an associative operation joins."""
    return (*_operands(op, e.a), *_operands(op, e.b)) if isinstance(e, Binary) and e.op is op else (e,)


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
    if a.dtype is INDEX and a.lanes == 1:
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
        folded = _fold_cast(value.value, dtype, mode)
        if folded is not None:
            return folded
    if isinstance(value, Broadcast):
        return broadcast(cast(value.value, dtype, mode), value.lanes)
    return Cast(value, dtype, mode, value.lanes)


def _fold_cast(value: int | float | bool, dtype: DType, mode: CastMode) -> Const | None:
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
        folded = _fold(op, a, b)
        if folded is not None:
            return folded
    if a.dtype.is_int and isinstance(b, Const):
        if b.value == 0 and op in (BinaryOp.ADD, BinaryOp.SUB, BinaryOp.OR, BinaryOp.XOR, BinaryOp.SHL, BinaryOp.SHR):
            return a
        if b.value == 1 and op in (BinaryOp.MUL, BinaryOp.DIV, BinaryOp.FLOORDIV):
            return a
    dtype = DType.BOOL if op in COMPARISONS else a.dtype
    return Binary(op, a, b, dtype, a.lanes)


def _fold(op: BinaryOp, a: Const, b: Const) -> Const | None:
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


# --- Sums of index terms ----------------------------------------------------------------------
# A sum is a dict from a product of factors (a tuple of non-constant expressions, sorted) to its
# constant coefficient; the constant itself stands under the empty product.

_Terms = dict[tuple[Expr, ...], int]


@functools.lru_cache(_REMEMBERED)
def index_terms(e: Expr) -> _Terms:
    """The sum that an index is; not to be changed."""
    if isinstance(e, Const):
        return {(): int(e.value)} if e.value else {}
    if isinstance(e, Binary) and e.dtype is INDEX:
        if e.op is BinaryOp.ADD:
            return _sum_terms(index_terms(e.a), index_terms(e.b), 1)
        if e.op is BinaryOp.MUL:
            return _product_terms(index_terms(e.a), index_terms(e.b))
    return {(e,): 1}


def _sum_terms(a: _Terms, b: _Terms, sign: int) -> _Terms:
    result = dict(a)
    for term, factor in b.items():
        result[term] = result.get(term, 0) + sign * factor
    return result


def _product_terms(a: _Terms, b: _Terms) -> _Terms:
    result: _Terms = {}
    for s, c in a.items():
        for t, d in b.items():
            product = tuple(sorted(s + t, key=_order)) if s and t else s or t
            result[product] = result.get(product, 0) + c * d
    return result


@functools.lru_cache(_REMEMBERED)
def _order(e: Expr) -> tuple[int, str]:
    """A deterministic order of factors: variables by name first, then other expressions by their text."""
    return (0, e.name) if isinstance(e, Var) else (1, _text(e))


_texts: weakref.WeakKeyDictionary[Expr, str] = weakref.WeakKeyDictionary()


def _text(e: Expr) -> str:
    """The text of an expression, or its digest if that is long: shared parts would be spelled exponentially often."""
    found = _texts.get(e)
    if found is None:
        found = _spell(e)
        if len(found) > 120:
            found = hashlib.blake2b(found.encode(), digest_size=16).hexdigest()
        _texts[e] = found
    return found


def _spell(e: Expr) -> str:
    match e:
        case Const():
            return str(e.value)
        case Var():
            return e.name
        case Load():
            return f"{e.buffer.name}[{_text(e.index)}]"
        case Binary():
            return f"({_text(e.a)} {e.op.value} {_text(e.b)})"
        case Unary():
            return f"{e.op.value}({_text(e.a)})"
        case Select():
            return f"select({_text(e.cond)},{_text(e.then)},{_text(e.other)})"
        case Cast():
            return f"{e.dtype.label}({_text(e.value)})"
        case Read():
            return f"read{e.operand}({','.join(map(_text, e.indices))})"
        case Math():
            return f"{e.fn.value}({','.join(map(_text, e.args))})"
        case Ramp():
            return f"ramp({_text(e.base)},{_text(e.stride)},{e.lanes})"
        case Broadcast():
            return f"x{e.lanes}({_text(e.value)})"
    return f"lane({_text(e.vector)},{e.index})"


def from_terms(terms: _Terms) -> Expr:
    """The canonical expression of a sum; the inverse of `index_terms`."""
    terms = _merge_divisions({t: c for t, c in terms.items() if c})
    result: Expr | None = None
    for term in _sorted_terms(terms):
        factor = _product(term, terms[term])
        result = factor if result is None else Binary(BinaryOp.ADD, result, factor, INDEX, 1)
    constant = terms.get((), 0)
    if result is None:
        return const(constant)
    return Binary(BinaryOp.ADD, result, const(constant), INDEX, 1) if constant else result


def _sorted_terms(terms: _Terms) -> list[tuple[Expr, ...]]:
    """All but the constant, in a deterministic order."""
    variable = [t for t in terms if t]
    return sorted(variable, key=lambda t: [_order(f) for f in t]) if len(variable) > 1 else variable


def _product(factors: tuple[Expr, ...], coefficient: int) -> Expr:
    result = factors[0]
    for factor in factors[1:]:
        result = Binary(BinaryOp.MUL, result, factor, INDEX, 1)
    return result if coefficient == 1 else Binary(BinaryOp.MUL, result, const(coefficient), INDEX, 1)


def _merge_divisions(terms: _Terms) -> _Terms:
    """`c*d*(x // d) + c*(x mod d) == c*x`, which undoes what a pair of reshapes did."""
    while any(isinstance(e, Binary) and e.op is BinaryOp.FLOORMOD for term in terms for e in term):
        for term, factor in terms.items():
            merged = _merge_one(terms, term, factor)
            if merged is not None:
                terms = merged
                break
        else:
            break
    return terms


def _merge_one(terms: _Terms, term: tuple[Expr, ...], factor: int) -> _Terms | None:
    for position, e in enumerate(term):
        if not (isinstance(e, Binary) and e.op is BinaryOp.FLOORMOD):
            continue
        quotient = floordiv(e.a, e.b)
        if not (isinstance(quotient, Binary) and quotient.op is BinaryOp.FLOORDIV):
            continue
        rest = term[:position] + term[position + 1 :]
        whole = _product_terms(index_terms(e.b), {tuple(sorted((*rest, quotient), key=_order)): factor})
        if all(terms.get(t) == c for t, c in whole.items()):  # all of a divisor that is a sum, such as `n + 1`
            without = {t: c for t, c in terms.items() if t != term and t not in whole}
            joined = _product_terms({tuple(sorted(rest, key=_order)): factor}, index_terms(e.a))
            return {t: c for t, c in _sum_terms(without, joined, 1).items() if c}
    return None


def _split_multiple(a: Expr, divisor: int) -> tuple[_Terms, _Terms]:
    """Split a sum into the part whose coefficients are multiples of `divisor` and the rest."""
    multiple: _Terms = {}
    rest: _Terms = {}
    for term, factor in index_terms(a).items():
        if term == ():
            if factor - factor % divisor:
                multiple[term] = factor - factor % divisor
            if factor % divisor:
                rest[term] = factor % divisor
        elif factor % divisor == 0:
            multiple[term] = factor
        else:
            rest[term] = factor
    return multiple, rest


def _floordiv_const(a: Expr, divisor: int) -> Expr:
    multiple, rest = _split_multiple(a, divisor)
    whole = from_terms({t: c // divisor for t, c in multiple.items()})
    if _is_below(rest, divisor):
        return whole
    if isinstance(a, Binary) and a.op is BinaryOp.FLOORDIV and isinstance(a.b, Const) and a.b.value > 0:
        return _floordiv_const(a.a, divisor * int(a.b.value))
    common = _common_factor(rest, divisor)
    if common > 1:
        coarse = from_terms({t: c // common for t, c in rest.items() if c % common == 0})
        return add(whole, _floordiv_const(coarse, divisor // common))
    remainder = from_terms(rest)
    if isinstance(remainder, Const):
        return add(whole, int(remainder.value) // divisor)
    return add(whole, Binary(BinaryOp.FLOORDIV, remainder, const(divisor), INDEX, 1))


def _floormod_const(a: Expr, divisor: int) -> Expr:
    _, rest = _split_multiple(a, divisor)
    value = from_terms(rest)
    if _is_below(rest, divisor):
        return value
    if isinstance(value, Const):
        return const(int(value.value) % divisor)
    common = _common_factor(rest, divisor)
    if common > 1:
        coarse = from_terms({t: c // common for t, c in rest.items() if c % common == 0})
        fine = from_terms({t: c for t, c in rest.items() if c % common})
        return add(mul(_floormod_const(coarse, divisor // common), common), fine)
    if isinstance(value, Binary) and value.op is BinaryOp.FLOORMOD and isinstance(value.b, Const) and int(value.b.value) % divisor == 0:
        return _floormod_const(value.a, divisor)
    return Binary(BinaryOp.FLOORMOD, value, const(divisor), INDEX, 1)


def _common_factor(terms: _Terms, divisor: int) -> int:
    """A factor g of the divisor such that the sum is `g * coarse + fine` with fine in [0, g); 1 if there is none.

    Then `(g*coarse + fine) // (g*d) == coarse // d` and `(g*coarse + fine) % (g*d) == g*(coarse % d) + fine`.
    """
    for factor in sorted({math.gcd(c, divisor) for t, c in terms.items() if t}, reverse=True):
        fine = {t: c for t, c in terms.items() if c % factor}
        if 1 < factor < divisor and len(fine) < len(terms) and _is_below(fine, factor):
            return factor
    return 1


def _is_below(terms: _Terms, bound: int) -> bool:
    """True if the sum is certainly in [0, bound): from the extents of bounded variables."""
    low, high = _range_of_terms(terms)
    return low is not None and high is not None and low >= 0 and high < bound


def _range_of_terms(terms: _Terms) -> tuple[int | None, int | None]:
    low, high = 0, 0
    for term, factor in terms.items():
        if term == ():
            low, high = low + factor, high + factor
            continue
        bounds = (1, 1)
        for e in term:
            found = range_of(e)
            if found is None or found[0] < 0:
                return None, None
            bounds = bounds[0] * found[0], bounds[1] * found[1]
        low += min(factor * bounds[0], factor * bounds[1])
        high += max(factor * bounds[0], factor * bounds[1])
    return low, high


def range_of(e: Expr) -> tuple[int, int] | None:
    """Smallest and largest value of an index, None if unknown; from the bounds that loop variables carry."""
    match e:
        case Const():
            return int(e.value), int(e.value)
        case Var():
            return (0, e.bound - 1) if e.bound else None
        case Binary(op=BinaryOp.ADD | BinaryOp.MUL):
            low, high = _range_of_terms(index_terms(e))
            return None if low is None or high is None else (low, high)
        case Binary(op=BinaryOp.FLOORMOD, b=Const(value=value)) if value > 0:
            return 0, int(value) - 1
        case Binary(op=BinaryOp.FLOORDIV, a=a, b=Const(value=value)) if value > 0:
            found = range_of(a)
            return None if found is None else (found[0] // int(value), found[1] // int(value))
    return None


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
