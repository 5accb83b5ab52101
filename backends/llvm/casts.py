"""Casts as LLVM instructions.

A float that the new integer type cannot hold is "any value" in `CONVERT` mode: results are frozen so
that LLVM treats it as a value, and small integers go through 32 bits as numpy does.
"""

from __future__ import annotations

from ...compiler.dtypes import DType, Kind
from ...compiler.kernel.float_bounds import float_bounds
from ...compiler.kernel.nodes import Binary, BinaryOp, Broadcast, Cast, CastMode, Const, Expr, Math, MathFn
from .expressions import splat, typed, value
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
    if target is DType.INT32 and (found := _rounded_code(w, e.value)) is not None:
        return _code(w, *found, e.value.dtype, e.lanes)
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
    found = _rounded_code(w, e)
    if found is not None:
        return _saturate_rounded(w, e, *found)
    bits, a = vector("i1", lanes), value(w, e.value)
    number = w.let(f"fcmp ord {kind} {a}, {a}")
    a = w.let(f"select {bits} {number}, {kind} {a}, {kind} {literal(0.0, source, lanes)}")
    for predicate, limit in (("ogt", target.limits[0]), ("olt", target.limits[1])):
        bound = literal(float(limit), source, lanes)
        outside = w.let(f"fcmp {predicate} {kind} {bound}, {a}")
        a = w.let(f"select {bits} {outside}, {kind} {bound}, {kind} {a}")
    whole = w.let(f"fptosi {kind} {a} to {vector('i32', lanes)}")
    return _resize(w, whole, DType.INT32, target, lanes)


# --- Codes of quantized numbers ---------------------------------------------------------------


def _rounded(e: Expr) -> tuple[Expr, Expr | None] | None:
    """(x, zero point) if an expression is `round(x)` or `round(x) + float(zero point)` with a byte or a number like one."""
    if isinstance(e, Math) and e.fn is MathFn.ROUND:
        return e.args[0], None
    if isinstance(e, Binary) and e.op is BinaryOp.ADD:
        for rounded, zero in ((e.a, e.b), (e.b, e.a)):
            if isinstance(rounded, Math) and rounded.fn is MathFn.ROUND and _is_byte(zero):
                return rounded.args[0], zero
    return None


def _is_byte(e: Expr) -> bool:
    inner = e.value if isinstance(e, Broadcast) else e
    if isinstance(inner, Const):
        return float(inner.value).is_integer() and -128 <= inner.value <= 255
    return isinstance(inner, Cast) and inner.value.dtype in (DType.INT8, DType.UINT8)


def _rounded_code(w: Writer, e: Expr) -> tuple[Expr, Expr | None] | None:
    """(x, zero point) if an expression is a byte, `saturate(round(x) + zero point)`, and the CPU converts with ties to even."""
    is_code = isinstance(e, Cast) and e.mode is CastMode.SATURATE and e.dtype.bits == 8 and e.dtype.is_int
    if not is_code or not w.features.is_x86 or not isinstance(e, Cast) or e.value.dtype is not DType.FLOAT32:
        return None
    return _rounded(e.value)


def _saturate_rounded(w: Writer, e: Cast, x: Expr, zero: Expr | None) -> str:
    """Round as the conversion does it (ties to even), then saturate twice as the packing instructions do.

    Saturating to 16 bits before the zero point is added changes nothing: what is cut off is beyond 8 bits with any zero point.
    """
    lanes = e.lanes
    half = vector("i16", lanes)
    found = float_bounds(x)
    a = _number(w, x, zero) if found is None else value(w, x)
    if found is None or found[1] > 32767.0 or found[0] < -1e9:
        a = _least(w, a, literal(32767.0, DType.FLOAT32, lanes), lanes)
    a = _limit(w, _whole(w, a, lanes), DType.INT32, DType.INT16, lanes)
    if zero is not None:
        a = w.let(f"call {half} @llvm.sadd.sat.{suffix(DType.INT16, lanes)}({half} {a}, {half} {_as_whole(w, zero, DType.INT16)})")
    return _limit(w, a, DType.INT16, e.dtype, lanes)


def _code(w: Writer, x: Expr, zero: Expr | None, dtype: DType, lanes: int) -> str:
    """A byte that is wanted in 32 bits, and so is never packed: limits minus the zero point, then rounded."""
    real = vector("float", lanes)
    ends = [literal(float(limit), DType.FLOAT32, lanes) for limit in dtype.limits]
    if zero is not None:
        ends = [w.let(f"fsub {real} {end}, {value(w, zero)}") for end in ends]
    a = _least(w, _number(w, x, zero), ends[1], lanes)
    below = w.let(f"fcmp ogt {real} {ends[0]}, {a}")
    a = _whole(w, w.let(f"select {vector('i1', lanes)} {below}, {real} {ends[0]}, {real} {a}"), lanes)
    return a if zero is None else w.let(f"add {vector('i32', lanes)} {a}, {_as_whole(w, zero, DType.INT32)}")


def _number(w: Writer, x: Expr, zero: Expr | None) -> str:
    """x, or for NaN what gives the code 0."""
    lanes = x.lanes
    real, a, instead = vector("float", lanes), value(w, x), literal(0.0, DType.FLOAT32, lanes)
    if zero is not None:
        instead = w.let(f"fneg {real} {value(w, zero)}")
    number = w.let(f"fcmp ord {real} {a}, {a}")
    return w.let(f"select {vector('i1', lanes)} {number}, {real} {a}, {real} {instead}")


def _least(w: Writer, a: str, bound: str, lanes: int) -> str:
    above = w.let(f"fcmp olt {vector('float', lanes)} {bound}, {a}")
    return w.let(f"select {vector('i1', lanes)} {above}, {vector('float', lanes)} {bound}, {vector('float', lanes)} {a}")


def _whole(w: Writer, a: str, lanes: int) -> str:
    """Rounded as the mode of the processor says: ties to even."""
    name = f"{suffix(DType.INT32, lanes)}.{suffix(DType.FLOAT32, lanes)}"
    return w.let(f"call {vector('i32', lanes)} @llvm.lrint.{name}({vector('float', lanes)} {a})")


def _limit(w: Writer, a: str, source: DType, target: DType, lanes: int) -> str:
    """A signed integer, limited to a narrower type and in it: a packing instruction."""
    kind = register_type(source, lanes)
    for name, limit in (("max", target.limits[0]), ("min", target.limits[1])):
        a = w.let(f"call {kind} @llvm.s{name}.{suffix(source, lanes)}({kind} {a}, {kind} {literal(limit, source, lanes)})")
    return w.let(f"trunc {kind} {a} to {register_type(target, lanes)}")


def _as_whole(w: Writer, zero: Expr, dtype: DType) -> str:
    """A zero point as an integer in all lanes."""
    inner = zero.value if isinstance(zero, Broadcast) else zero
    if isinstance(inner, Const):
        return literal(int(inner.value), dtype, zero.lanes)
    assert isinstance(inner, Cast)
    wide = _resize(w, value(w, inner.value), inner.value.dtype, dtype, inner.lanes)
    return splat(w, wide, register_type(dtype), zero.lanes) if isinstance(zero, Broadcast) else wide
