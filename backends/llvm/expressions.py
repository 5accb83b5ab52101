"""Expressions of kernel IR as LLVM instructions.

`value` gives every expression one name and emits it at most once as long as that name holds (see
`writer.py`). Arithmetic, casts and memory have pages of their own.
"""

from __future__ import annotations

from typing import assert_never

from ...compiler.dtypes import DType, Kind
from ...compiler.kernel.nodes import (
    Binary,
    BinaryOp,
    Broadcast,
    Cast,
    Const,
    Expr,
    Lane,
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
from ...compiler.kernel.traverse import children
from .llvmtypes import literal, register_type, suffix, vector
from .writer import Writer


def value(w: Writer, e: Expr) -> str:
    """The operand text of an expression: a constant or the name of a register."""
    stack = [e]
    while True:
        top = stack[-1]
        found = _known(w, top)
        if found is None:
            waiting = [c for c in _operands(top) if _known(w, c) is None]
            if waiting:
                stack.extend(waiting)
                continue
            found = w.keep(top, _emit(w, top))
        stack.pop()
        if not stack:
            return found


def typed(w: Writer, e: Expr) -> str:
    """The operand with its type, as `float %t3`."""
    return f"{register_type(e.dtype, e.lanes)} {value(w, e)}"


def _known(w: Writer, e: Expr) -> str | None:
    return literal(e.value, e.dtype) if isinstance(e, Const) else w.find(e)


def _operands(e: Expr) -> tuple[Expr, ...]:
    """What must have a value before the expression is emitted; loads see to their addresses themselves."""
    if isinstance(e, Load):
        return ()
    vector = all_lanes(e)
    return children(e) if vector is None else (vector,)


def all_lanes(e: Expr) -> Expr | None:
    """The vector of bools all of whose lanes are asked for by an expression, if that is what it is."""
    if not (isinstance(e, Binary) and e.op is BinaryOp.AND and e.dtype is DType.BOOL and e.lanes == 1):
        return None
    lanes: list[Lane] = []
    parts: list[Expr] = [e]
    while parts:
        part = parts.pop()
        if isinstance(part, Binary) and part.op is BinaryOp.AND:
            parts += (part.a, part.b)
        elif isinstance(part, Lane) and (not lanes or part.vector is lanes[0].vector):
            lanes.append(part)
        else:
            return None
    vector = lanes[0].vector
    return vector if {lane.index for lane in lanes} == set(range(vector.lanes)) else None


def _emit(w: Writer, e: Expr) -> str:
    from .arithmetic import binary
    from .casts import cast
    from .memory import load

    match e:
        case Load():
            return load(w, e)
        case Binary():
            return binary(w, e)
        case Cast():
            return cast(w, e)
        case Unary():
            return _unary(w, e)
        case Math():
            return _math(w, e)
        case Select():
            return _select(w, e)
        case Broadcast():
            return _broadcast(w, e)
        case Ramp():
            return _ramp(w, e)
        case Lane():
            return w.let(f"extractelement {typed(w, e.vector)}, i32 {e.index}")
        case Var():
            raise AssertionError(f"variable {e.name} has no value here")
        case Read():
            raise AssertionError("a slot of a nest was not lowered")
        case Const():
            return literal(e.value, e.dtype)
    assert_never(e)


def splat(w: Writer, scalar: str, scalar_type: str, lanes: int) -> str:
    """A vector whose lanes are all `scalar`."""
    kind = vector(scalar_type, lanes)
    first = w.let(f"insertelement {kind} poison, {scalar_type} {scalar}, i64 0")
    return w.let(f"shufflevector {kind} {first}, {kind} poison, <{lanes} x i32> zeroinitializer")


def _broadcast(w: Writer, e: Broadcast) -> str:
    if isinstance(e.value, Const):
        return literal(e.value.value, e.dtype, e.lanes)
    return splat(w, value(w, e.value), register_type(e.dtype), e.lanes)


def _ramp(w: Writer, e: Ramp) -> str:
    scalar, kind = register_type(e.dtype), register_type(e.dtype, e.lanes)
    if isinstance(e.stride, Const):
        steps = "<" + ", ".join(f"{scalar} {int(e.stride.value) * k}" for k in range(e.lanes)) + ">"
    else:
        lanes = "<" + ", ".join(f"{scalar} {k}" for k in range(e.lanes)) + ">"
        steps = w.let(f"mul {kind} {splat(w, value(w, e.stride), scalar, e.lanes)}, {lanes}")
    return w.let(f"add {kind} {splat(w, value(w, e.base), scalar, e.lanes)}, {steps}")


def _unary(w: Writer, e: Unary) -> str:
    kind, a = register_type(e.dtype, e.lanes), value(w, e.a)
    match e.op:
        case UnaryOp.NOT:
            return w.let(f"xor {kind} {a}, {literal(True if e.dtype.kind is Kind.BOOL else -1, e.dtype, e.lanes)}")
        case UnaryOp.NEG:
            return w.let(f"fneg {kind} {a}" if e.dtype.is_float else f"sub {kind} {literal(0, e.dtype, e.lanes)}, {a}")
        case UnaryOp.ABS:
            if e.dtype.is_float:
                return w.let(f"call {kind} @llvm.fabs.{suffix(e.dtype, e.lanes)}({kind} {a})")
            if not e.dtype.is_signed:
                return a
            return w.let(f"call {kind} @llvm.abs.{suffix(e.dtype, e.lanes)}({kind} {a}, i1 false)")


# Functions that are an instruction of most targets, and what LLVM calls them.
_INTRINSICS = {
    MathFn.SQRT: "sqrt", MathFn.FLOOR: "floor", MathFn.CEIL: "ceil", MathFn.TRUNC: "trunc",
    MathFn.ROUND: "roundeven", MathFn.COPYSIGN: "copysign",
}  # fmt: skip


def _math(w: Writer, e: Math) -> str:
    operand = e.args[0]
    kind, name = register_type(operand.dtype, e.lanes), suffix(operand.dtype, e.lanes)
    args = [typed(w, a) for a in e.args]
    match e.fn:
        case MathFn.FMA:
            if w.features.has_fma:
                return w.let(f"call {kind} @llvm.fma.{name}({', '.join(args)})")
            product = w.let(f"fmul {args[0]}, {value(w, e.args[1])}")
            return w.let(f"fadd {kind} {product}, {value(w, e.args[2])}")
        case MathFn.ISNAN:
            return w.let(f"fcmp uno {args[0]}, {value(w, operand)}")
        case MathFn.ISINF:
            size = w.let(f"call {kind} @llvm.fabs.{name}({args[0]})")
            return w.let(f"fcmp oeq {kind} {size}, {literal(float('inf'), operand.dtype, e.lanes)}")
    assert e.fn in _INTRINSICS, f"{e.fn} was not expanded"
    return w.let(f"call {kind} @llvm.{_INTRINSICS[e.fn]}.{name}({', '.join(args)})")


def _select(w: Writer, e: Select) -> str:
    cond = e.cond.value if isinstance(e.cond, Broadcast) else e.cond
    return w.let(f"select {typed(w, cond)}, {typed(w, e.then)}, {typed(w, e.other)}")
