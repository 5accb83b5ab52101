"""Softmax, LogSoftmax and Hardmax as reductions over axes that are kept, so that a later pass fuses each into one row kernel.

Before opset 13 the input was seen as a matrix, so that the reduction ran over all axes from `axis` on. The
adaptor marks such nodes with the attribute `flatten`; no reshape is needed. Narrow floats are computed in
float32 throughout.
"""

from __future__ import annotations

from collections.abc import Callable

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from .table import OpContext, OpDef, RawNode, Rewrite, RewriteBuilder, register
from .types import FLOATS, check_dtype


def _flatten_before_13(node: RawNode) -> None:
    """Opset 13 reduces one axis, the last by default; before it was a matrix split at axis 1."""
    node.attrs.setdefault("axis", 1)
    node.attrs["flatten"] = 1


def softmax_axes(ctx: OpContext) -> tuple[int, ...]:
    """The axes over which the results sum to one."""
    if not ctx.rank():
        return ()
    axis = ctx.int_attr("axis")
    if ctx.int_attr("flatten"):
        if axis == ctx.rank():
            return ()
        return tuple(range(ctx.normal_axis(axis, ctx.rank()), ctx.rank()))
    return (ctx.normal_axis(axis, ctx.rank()),)


def in_float32(b: RewriteBuilder, x: Value, compute: Callable[[Value], Value]) -> Value:
    """Apply `compute` in float32 if `x` is a narrow float, else in its own type."""
    dtype = x.type.dtype
    if not dtype.is_narrow_float:
        return compute(x)
    return b.op("Cast", compute(b.op("Cast", x, to=DType.FLOAT32)), to=dtype)


def fallen_exponentials(b: RewriteBuilder, x: Value, over: Value) -> tuple[Value, Value]:
    """`x` minus the largest number of its row, and the exponential of that, which is NaN where `x` is.

    The minimum with zero changes nothing. It tells targets that no exponential overflows, which saves them a part of it.
    """
    fallen = b.op("Sub", x, b.op("onnxc::ReduceLargest", x, over, keepdims=1, noop_with_empty_axes=1))
    return fallen, b.op("Exp", b.op("Min", fallen, b.const(0.0, x.type.dtype)))


def _softmax(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    def compute(x: Value) -> Value:
        over = b.const(list(softmax_axes(ctx)), DType.INT64)
        _, terms = fallen_exponentials(b, x, over)
        total = b.op("ReduceSum", terms, over, keepdims=1, noop_with_empty_axes=1)
        return b.op("Mul", terms, b.op("Reciprocal", total))

    return [in_float32(b, ctx.value(0), compute)]


def _log_softmax(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    def compute(x: Value) -> Value:
        over = b.const(list(softmax_axes(ctx)), DType.INT64)
        fallen, terms = fallen_exponentials(b, x, over)
        total = b.op("ReduceSum", terms, over, keepdims=1, noop_with_empty_axes=1)
        return b.op("Sub", fallen, b.op("Log", total))

    return [in_float32(b, ctx.value(0), compute)]


def _hardmax(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    """One at the first largest element, zero elsewhere."""
    x, axes = ctx.value(0), softmax_axes(ctx)
    largest = b.op("ReduceMax", x, b.const(list(axes), DType.INT64), keepdims=1, noop_with_empty_axes=1)
    position = b.op("onnxc::IndexOf", x, largest, axes=axes, keepdims=1)
    return [b.op("onnxc::MarkAt", x, position, axes=axes)]


def _infer(ctx: OpContext) -> list[TensorType]:
    dtype = check_dtype(ctx, 0, FLOATS)
    softmax_axes(ctx)
    return [TensorType(dtype, ctx.shape())]


register(
    OpDef("Softmax", _infer, Rewrite(_softmax), defaults={"axis": -1}, adapt={13: _flatten_before_13}),
    OpDef("LogSoftmax", _infer, Rewrite(_log_softmax), defaults={"axis": -1}, adapt={13: _flatten_before_13}),
    OpDef("Hardmax", _infer, Rewrite(_hardmax), defaults={"axis": -1}, adapt={13: _flatten_before_13}),
)
