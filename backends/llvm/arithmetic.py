"""Binary operations as LLVM instructions, with the guards that kernel IR promises.

Integer division never traps, shifts by too much give zero, and minimum and maximum of floats give NaN
if one operand is NaN. On x86 the last is compare and select in the one form that is a single `maxps`
when an operand is a known number, and a maximum for which the sign of zero does not matter otherwise: three instructions,
and no branch.
"""

from __future__ import annotations

from ...compiler.dtypes import DType, Kind
from ...compiler.kernel.build import range_of
from ...compiler.kernel.nodes import COMPARISONS, Binary, BinaryOp, Broadcast, Const, Expr
from .expressions import all_lanes, typed, value
from .llvmtypes import literal, register_type, suffix, vector
from .writer import Writer

_FLOAT_OPS = {BinaryOp.ADD: "fadd", BinaryOp.SUB: "fsub", BinaryOp.MUL: "fmul", BinaryOp.DIV: "fdiv", BinaryOp.MOD: "frem"}
_INT_OPS = {
    BinaryOp.ADD: "add", BinaryOp.SUB: "sub", BinaryOp.MUL: "mul", BinaryOp.AND: "and", BinaryOp.OR: "or", BinaryOp.XOR: "xor",
}  # fmt: skip
_BOOL_OPS = {
    BinaryOp.ADD: "or", BinaryOp.MUL: "and", BinaryOp.AND: "and", BinaryOp.OR: "or", BinaryOp.XOR: "xor",
    BinaryOp.MIN: "and", BinaryOp.MAX: "or", BinaryOp.SUB: "xor",
}  # fmt: skip
_MAY_NOT_OVERFLOW = frozenset({BinaryOp.ADD, BinaryOp.SUB, BinaryOp.MUL})


def binary(w: Writer, e: Binary) -> str:
    """Emit a binary operation."""
    dtype = e.a.dtype
    if e.op in COMPARISONS:
        return _compare(w, e)
    if dtype.is_float:
        if e.op in (BinaryOp.MIN, BinaryOp.MAX):
            return _minmax_float(w, e)
        return w.let(f"{_FLOAT_OPS[e.op]} {typed(w, e.a)}, {value(w, e.b)}")
    if dtype.kind is Kind.BOOL:
        if (whole := all_lanes(e)) is not None:
            return w.let(f"call i1 @llvm.vector.reduce.and.v{whole.lanes}i1({typed(w, whole)})")
        return w.let(f"{_BOOL_OPS[e.op]} {typed(w, e.a)}, {value(w, e.b)}")
    if e.op in _INT_OPS:
        exact = " nsw" if e.op in _MAY_NOT_OVERFLOW and dtype is DType.INT64 and w.is_index(e) else ""
        return w.let(f"{_INT_OPS[e.op]}{exact} {typed(w, e.a)}, {value(w, e.b)}")
    if e.op in (BinaryOp.MIN, BinaryOp.MAX):
        name = f"{'s' if dtype.is_signed else 'u'}{e.op.value}"
        kind = register_type(dtype, e.lanes)
        return w.let(f"call {kind} @llvm.{name}.{suffix(dtype, e.lanes)}({typed(w, e.a)}, {typed(w, e.b)})")
    if e.op in (BinaryOp.SHL, BinaryOp.SHR):
        return _shift(w, e)
    return _divide(w, e)


def constant_of(e: Expr) -> int | float | bool | None:
    """The number that an expression is in all lanes, if it is constant."""
    e = e.value if isinstance(e, Broadcast) else e
    return e.value if isinstance(e, Const) else None


def _compare(w: Writer, e: Binary) -> str:
    if e.a.dtype.is_float:
        return w.let(f"fcmp {'une' if e.op is BinaryOp.NE else 'o' + e.op.value} {typed(w, e.a)}, {value(w, e.b)}")
    signed = "s" if e.a.dtype.kind is Kind.INT else "u"
    predicate = e.op.value if e.op in (BinaryOp.EQ, BinaryOp.NE) else signed + e.op.value
    return w.let(f"icmp {predicate} {typed(w, e.a)}, {value(w, e.b)}")


def _minmax_float(w: Writer, e: Binary) -> str:
    a, b = e.a, e.b
    kind, bits = register_type(e.dtype, e.lanes), vector("i1", e.lanes)
    if constant_of(b) is not None:
        a, b = b, a
    known = constant_of(a)
    if not w.features.is_x86 or known is None or known != known:
        # On x86 three instructions if the sign of zero does not matter: maximum, test for NaN, and choice.
        flag = "nsz " if w.features.is_x86 else ""
        return w.let(f"call {flag}{kind} @llvm.{e.op.value}imum.{suffix(e.dtype, e.lanes)}({typed(w, a)}, {typed(w, b)})")
    x, y = value(w, a), value(w, b)
    order = w.let(f"fcmp {'olt' if e.op is BinaryOp.MIN else 'ogt'} {kind} {x}, {y}")
    return w.let(f"select {bits} {order}, {kind} {x}, {kind} {y}")  # NaN in b gives b: one instruction


def _shift(w: Writer, e: Binary) -> str:
    dtype, kind = e.dtype, register_type(e.dtype, e.lanes)
    name = "shl" if e.op is BinaryOp.SHL else "ashr" if dtype.is_signed else "lshr"
    amount = constant_of(e.b)
    if amount is not None:
        if not 0 <= amount < dtype.bits:
            return literal(0, dtype, e.lanes)
        return w.let(f"{name} {typed(w, e.a)}, {value(w, e.b)}")
    fits = w.let(f"icmp ult {typed(w, e.b)}, {literal(dtype.bits, dtype, e.lanes)}")
    legal = w.let(f"select {vector('i1', e.lanes)} {fits}, {typed(w, e.b)}, {kind} {literal(0, dtype, e.lanes)}")
    shifted = w.let(f"{name} {typed(w, e.a)}, {legal}")
    return w.let(f"select {vector('i1', e.lanes)} {fits}, {kind} {shifted}, {kind} {literal(0, dtype, e.lanes)}")


# --- Division ---------------------------------------------------------------------------------


def _divide(w: Writer, e: Binary) -> str:
    known = constant_of(e.b)
    divisor = None if known is None else int(known)
    if divisor == 0:
        return literal(0, e.dtype, e.lanes)
    wants_quotient = e.op in (BinaryOp.DIV, BinaryOp.FLOORDIV)
    if not e.dtype.is_signed or (divisor is not None and divisor > 0 and _is_natural(e.a)):
        return _divide_natural(w, e, wants_quotient)
    if divisor is not None and divisor > 0 and e.op in (BinaryOp.FLOORDIV, BinaryOp.FLOORMOD) and divisor & (divisor - 1) == 0:
        if wants_quotient:
            return w.let(f"ashr {typed(w, e.a)}, {literal(divisor.bit_length() - 1, e.dtype, e.lanes)}")
        return w.let(f"and {typed(w, e.a)}, {literal(divisor - 1, e.dtype, e.lanes)}")
    return _divide_signed(w, e, wants_quotient, divisor)


def _is_natural(e: Expr) -> bool:
    """Certainly not negative."""
    found = range_of(e)
    return found is not None and found[0] >= 0


def _divide_natural(w: Writer, e: Binary, wants_quotient: bool) -> str:
    kind, bits = register_type(e.dtype, e.lanes), vector("i1", e.lanes)
    name = "udiv" if wants_quotient else "urem"
    if constant_of(e.b) is not None:
        return w.let(f"{name} {typed(w, e.a)}, {value(w, e.b)}")
    zero = w.let(f"icmp eq {typed(w, e.b)}, {literal(0, e.dtype, e.lanes)}")
    legal = w.let(f"select {bits} {zero}, {kind} {literal(1, e.dtype, e.lanes)}, {typed(w, e.b)}")
    result = w.let(f"{name} {typed(w, e.a)}, {legal}")
    return w.let(f"select {bits} {zero}, {kind} {literal(0, e.dtype, e.lanes)}, {kind} {result}")


def _divide_signed(w: Writer, e: Binary, wants_quotient: bool, divisor: int | None) -> str:
    kind, bits = register_type(e.dtype, e.lanes), vector("i1", e.lanes)
    zero, one, minus_one = (literal(n, e.dtype, e.lanes) for n in (0, 1, -1))
    a, b = value(w, e.a), value(w, e.b)
    legal, is_zero = b, None
    if divisor is None or divisor == -1:
        is_zero = w.let(f"icmp eq {kind} {b}, {zero}")
        lowest = w.let(f"icmp eq {kind} {a}, {literal(e.dtype.limits[0], e.dtype, e.lanes)}")
        wraps = w.let(f"and {bits} {lowest}, {w.let(f'icmp eq {kind} {b}, {minus_one}')}")
        legal = w.let(f"select {bits} {w.let(f'or {bits} {is_zero}, {wraps}')}, {kind} {one}, {kind} {b}")
    quotient = w.let(f"sdiv {kind} {a}, {legal}")
    remainder = w.let(f"sub {kind} {a}, {w.let(f'mul {kind} {quotient}, {legal}')}")
    result = quotient if wants_quotient else remainder
    if e.op in (BinaryOp.FLOORDIV, BinaryOp.FLOORMOD):
        inexact = w.let(f"icmp ne {kind} {remainder}, {zero}")
        differ = w.let(f"icmp slt {kind} {w.let(f'xor {kind} {remainder}, {legal}')}, {zero}")
        adjust = w.let(f"and {bits} {inexact}, {differ}")
        other = w.let(f"add {kind} {quotient}, {minus_one}" if wants_quotient else f"add {kind} {remainder}, {legal}")
        result = w.let(f"select {bits} {adjust}, {kind} {other}, {kind} {result}")
    if is_zero is None:
        return result
    return w.let(f"select {bits} {is_zero}, {kind} {zero}, {kind} {result}")
