"""Casts as C text: conversions as the operators define them, where C leaves them undefined or to the machine.

`saturate(round(x) + zero)`, which makes a code of a float, is a function with one rounding where the language has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...compiler.dtypes import DType, Kind
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Binary, BinaryOp, Cast, CastMode, Const, Expr, Math, MathFn
from .dialect import Dialect, bits_helper, integer
from .round_texts import code_texts

if TYPE_CHECKING:
    from .expressions import ExprPrinter


def cast(p: ExprPrinter, e: Cast) -> str:
    """A conversion."""
    operands = code_operands(p.dialect, e)
    if operands is not None:
        return _code(p, e.dtype, *operands)
    a, source, target = p.value(e.value), e.value.dtype, e.dtype
    if e.mode is CastMode.BITS:
        return _bits(p, a, source, target)
    if target.kind is Kind.BOOL:
        return f"({a} != 0)"
    if source.is_float and not target.is_float:
        return _saturated_float(p.dialect, a, source, target) if e.mode is CastMode.SATURATE else _truncated(p, e, a)
    if e.mode is CastMode.SATURATE and target.is_int:
        return _saturated_integer(p.dialect, a, source, target)
    return p.fitted(e, f"({p.type(e)}){a}") if not p.is_narrow(e) else a


def code_operands(dialect: Dialect, e: Cast) -> tuple[Expr, Expr] | None:
    """The `x` and the `zero` of `saturate(round(x) + zero)`, if a cast is that."""
    if not dialect.codes or e.mode is not CastMode.SATURATE or e.dtype not in (DType.INT8, DType.UINT8):
        return None
    inner: Expr = e.value
    is_sum = isinstance(inner, Binary) and inner.op is BinaryOp.ADD
    real, zero = (inner.a, inner.b) if isinstance(inner, Binary) and is_sum else (inner, build.const(0.0, DType.FLOAT32))
    offset = _small_integer(zero)
    if not (isinstance(real, Math) and real.fn is MathFn.ROUND and real.dtype is DType.FLOAT32) or offset is None:
        return None
    return real.args[0], offset


def _code(p: ExprPrinter, dtype: DType, value: Expr, zero: Expr) -> str:
    """`saturate(round(value) + zero)` as bytes: a call of a helper."""
    texts = code_texts(dtype.is_signed)
    p.helpers.update(texts)
    return f"{[*texts][-1]}({p.value(value)}, {p.value(zero)})"


def _bits(p: ExprPrinter, a: str, source: DType, target: DType) -> str:
    """The same bits: a cast between integers, a union otherwise."""
    types = p.dialect.type(source), p.dialect.type(target)
    if types[0] == types[1]:
        return a
    if "float" not in types and "double" not in types:
        return f"(({types[1]}){a})"
    name, text = bits_helper(source, target, types, p.dialect.helper)
    p.helpers[name] = text
    return f"{name}({a})"


def _truncated(p: ExprPrinter, e: Cast, a: str) -> str:
    """Float to integer towards zero; small integers wrap by way of a larger one."""
    middle = {DType.UINT32: "int64_t", DType.INT32: "int32_t", DType.INT64: "int64_t", DType.UINT64: "uint64_t"}.get(e.dtype, "int32_t")
    return p.fitted(e, f"({p.dialect.type(e.dtype)})({middle}){a}")


def _saturated_float(dialect: Dialect, a: str, source: DType, target: DType) -> str:
    """Float to the nearest integer of the type; NaN gives 0."""
    low, high = target.limits
    above = dialect.constant(float(high), source)
    below = dialect.constant(float(low), source)
    c_type = dialect.type(target)
    inner = f"{a} > {below} ? ({c_type}){a} : ({a} <= {below} ? {integer(low, target)} : 0)"
    return f"({c_type})({a} >= {above} ? {integer(high, target)} : ({inner}))"


def _saturated_integer(dialect: Dialect, a: str, source: DType, target: DType) -> str:
    """Integer to the nearest one of the type; compares only where the source goes beyond it."""
    (low, high), (least, most) = target.limits, source.limits
    text = f"({dialect.type(target)}){a}"
    if least < low:
        text = f"({a} < {integer(low, source)} ? {integer(low, target)} : {text})"
    if most > high:
        text = f"({a} > {integer(high, source)} ? {integer(high, target)} : {text})"
    return f"(({dialect.type(target)}){text})"


def _small_integer(e: Expr) -> Expr | None:
    """A float that is an integer of a byte or so, as an int32."""
    if isinstance(e, Const) and float(e.value).is_integer() and abs(e.value) < 1 << 16:
        return build.const(int(e.value), DType.INT32)
    if isinstance(e, Cast) and e.value.dtype.is_int and e.value.dtype.bits <= 8:
        return build.cast(e.value, DType.INT32)
    return None
