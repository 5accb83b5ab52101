"""Casts as LLVM instructions.

A float that the new integer type cannot hold is "any value" in `CONVERT` mode: results are frozen so
that LLVM treats it as a value, and small integers go through 32 bits as numpy does.
"""

from __future__ import annotations

from ...compiler.dtypes import DType, Kind
from ...compiler.kernel.nodes import Cast, CastMode
from .expressions import typed, value
from .llvmtypes import literal, register_type, suffix, vector
from .writer import Writer

_FLOATS = frozenset({DType.FLOAT16, DType.FLOAT32, DType.FLOAT64})


def cast(w: Writer, e: Cast) -> str:
    """Emit a cast."""
    source, target = e.value.dtype, e.dtype
    before, after = register_type(source, e.lanes), register_type(target, e.lanes)
    if e.mode is CastMode.BITS:
        assert source.bits == target.bits, f"{source} as {target}"
        if Kind.BOOL in (source.kind, target.kind) and source is not target:  # a byte in memory, one bit in a register
            return _resize_bool(w, e)
        return value(w, e.value) if before == after else w.let(f"bitcast {typed(w, e.value)} to {after}")
    for dtype in (source, target):
        assert not dtype.is_float or dtype in _FLOATS, f"a cast of {dtype} was not expanded"
    if target.kind is Kind.BOOL:
        predicate = "fcmp une" if source.is_float else "icmp ne"
        return w.let(f"{predicate} {typed(w, e.value)}, {literal(0, source, e.lanes)}")
    if source.is_float and target.is_float:
        name = "fpext" if source.bits < target.bits else "fptrunc"
        return w.let(f"{name} {typed(w, e.value)} to {after}")
    if source.is_float:
        return _saturate_float(w, e) if e.mode is CastMode.SATURATE else _truncate_float(w, e)
    if target.is_float:
        return w.let(f"{'sitofp' if source.kind is Kind.INT else 'uitofp'} {typed(w, e.value)} to {after}")
    return _resize(w, _clamp(w, e) if e.mode is CastMode.SATURATE else value(w, e.value), source, target, e.lanes)


def _resize(w: Writer, a: str, source: DType, target: DType, lanes: int) -> str:
    before, after = register_type(source, lanes), register_type(target, lanes)
    if before == after:
        return a
    wider = register_width(source) < register_width(target)
    name = ("sext" if source.kind is Kind.INT else "zext") if wider else "trunc"
    return w.let(f"{name} {before} {a} to {after}")


def _resize_bool(w: Writer, e: Cast) -> str:
    if e.dtype.kind is Kind.BOOL:
        return w.let(f"icmp ne {typed(w, e.value)}, {literal(0, e.value.dtype, e.lanes)}")
    return w.let(f"zext {typed(w, e.value)} to {register_type(e.dtype, e.lanes)}")


def register_width(dtype: DType) -> int:
    """Bits of the register form."""
    return 1 if dtype.kind is Kind.BOOL else dtype.bits


def _clamp(w: Writer, e: Cast) -> str:
    """The integer operand, limited to what the new type holds, still in its own type."""
    source, target, lanes = e.value.dtype, e.dtype, e.lanes
    kind, a = register_type(source, lanes), value(w, e.value)
    signed = "s" if source.kind is Kind.INT else "u"
    for name, limit, own in (("max", target.limits[0], source.limits[0]), ("min", target.limits[1], source.limits[1])):
        if (limit > own) == (name == "max") and limit != own:
            a = w.let(f"call {kind} @llvm.{signed}{name}.{suffix(source, lanes)}({kind} {a}, {kind} {literal(limit, source, lanes)})")
    return a


def _truncate_float(w: Writer, e: Cast) -> str:
    target = e.dtype
    through = target
    if target.bits < 32:
        through = DType.INT32
    elif target is DType.UINT32:
        through = DType.INT64
    name = "fptoui" if through is DType.UINT64 else "fptosi"
    middle = register_type(through, e.lanes)
    frozen = w.let(f"freeze {middle} {w.let(f'{name} {typed(w, e.value)} to {middle}')}")
    return _resize(w, frozen, through, target, e.lanes)


def _saturate_float(w: Writer, e: Cast) -> str:
    source, target, lanes = e.value.dtype, e.dtype, e.lanes
    after, kind = register_type(target, lanes), register_type(source, lanes)
    if target.bits > 16 or source is DType.FLOAT16:
        name = "fptosi" if target.is_signed else "fptoui"
        return w.let(f"call {after} @llvm.{name}.sat.{suffix(target, lanes)}.{suffix(source, lanes)}({kind} {value(w, e.value)})")
    bits, a = vector("i1", lanes), value(w, e.value)
    number = w.let(f"fcmp ord {kind} {a}, {a}")
    a = w.let(f"select {bits} {number}, {kind} {a}, {kind} {literal(0.0, source, lanes)}")
    for predicate, limit in (("ogt", target.limits[0]), ("olt", target.limits[1])):
        bound = literal(float(limit), source, lanes)
        outside = w.let(f"fcmp {predicate} {kind} {bound}, {a}")
        a = w.let(f"select {bits} {outside}, {kind} {bound}, {kind} {a}")
    whole = w.let(f"fptosi {kind} {a} to {vector('i32', lanes)}")
    return _resize(w, whole, DType.INT32, target, lanes)
