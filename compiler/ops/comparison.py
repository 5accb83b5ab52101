"""Comparisons, logic, tests for special numbers, and the choice between two tensors."""

from __future__ import annotations

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import FALSE
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import BinaryOp, Expr, MathFn
from .elementwise import broadcast_read, broadcast_shape, elementwise
from .strings import expanded, halves
from .table import Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register
from .types import BOOL, FLOAT8, FLOATS, NUMERIC, ORDERED, WITH_STRINGS, check_dtype, check_same


def _widened(x: Expr) -> Expr:
    """Float8 has no tests of its own."""
    return build.cast(x, DType.FLOAT32) if x.dtype.bits < 16 else x


def _is_nan(x: Expr) -> Expr:
    return build.math_fn(MathFn.ISNAN, _widened(x))


def _is_inf(ctx: OpContext, x: Expr) -> Expr:
    x = _widened(x)
    positive, negative = ctx.int_attr("detect_positive", 1), ctx.int_attr("detect_negative", 1)
    if not positive and not negative:
        return FALSE
    infinite = build.math_fn(MathFn.ISINF, x)
    if positive and negative:
        return infinite
    return build.logical_and(infinite, build.gt(x, 0) if positive else build.lt(x, 0))


def _where_infer(ctx: OpContext) -> list[TensorType]:
    check_dtype(ctx, 0, BOOL)
    dtype = check_dtype(ctx, 1, WITH_STRINGS)
    check_same(ctx, 1, 2)
    return [TensorType(dtype, broadcast_shape(ctx, ctx.shape(0), ctx.shape(1), ctx.shape(2)))]


def _where(ctx: OpContext) -> list[Nest | None]:
    shape = _where_infer(ctx)[0].shape

    def element(*axes: Expr) -> Expr:
        return build.select(*(broadcast_read(ctx, i, axes, shape) for i in range(3)))

    return [pointwise(shape, element)]


def _equal_strings(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    sides = [expanded(b, ctx.value(k), ctx.value(1 - k)) for k in range(2)]
    return [b.op("onnxc::EqualStrings", *(half for side in sides for half in halves(b, side)))]


register(
    elementwise("Equal", build.eq, accepts=ORDERED | {DType.STRING}, result=DType.BOOL, strings=Rewrite(_equal_strings)),
    elementwise("Less", build.lt, accepts=NUMERIC, result=DType.BOOL),
    elementwise("LessOrEqual", build.le, accepts=NUMERIC, result=DType.BOOL),
    elementwise("Greater", build.gt, accepts=NUMERIC, result=DType.BOOL),
    elementwise("GreaterOrEqual", build.ge, accepts=NUMERIC, result=DType.BOOL),
    elementwise("And", lambda a, b: build.logical_and(a, b), accepts=BOOL),
    elementwise("Or", lambda a, b: build.logical_or(a, b), accepts=BOOL),
    elementwise("Xor", lambda a, b: build.binary(BinaryOp.XOR, a, b), accepts=BOOL),
    elementwise("Not", build.logical_not, accepts=BOOL),
    elementwise("IsNaN", _is_nan, accepts=FLOATS | FLOAT8, result=DType.BOOL),
    elementwise("IsInf", _is_inf, accepts=FLOATS | FLOAT8, result=DType.BOOL, defaults={"detect_positive": 1, "detect_negative": 1}),
    OpDef("Where", _where_infer, Nests(_where)),
)
