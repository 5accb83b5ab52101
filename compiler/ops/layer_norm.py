"""Normalization of rows: LayerNormalization, RMSNormalization and ONNX Runtime's fused forms of them.

All are rewritten into reductions over the trailing axes that keep their rank, between elementwise
operators, so that a later pass can make one kernel of a row. Statistics are computed in `stash_type`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from .reduction_axes import reduced_shape
from .table import OpContext, OpDef, Rewrite, RewriteBuilder, register
from .types import FLOATS, attr_dtype, check_dtype

MICROSOFT = "com.microsoft"


def cast_to(b: RewriteBuilder, x: Value, dtype: DType) -> Value:
    """`x` in a type; itself if it has it."""
    return x if x.type.dtype is dtype else b.op("Cast", x, to=dtype)


def centred_and_variance(b: RewriteBuilder, x: Value, axes: Sequence[int]) -> tuple[Value, Value, Value]:
    """Return the mean over `axes` (rank kept), the input minus it, and its population variance."""
    over = b.const(list(axes), DType.INT64)
    mean = b.op("ReduceMean", x, over, keepdims=1)
    centred = b.op("Sub", x, mean)
    return mean, centred, b.op("ReduceMean", b.op("Mul", centred, centred), over, keepdims=1)


def inverse_deviation(b: RewriteBuilder, variance: Value, epsilon: float) -> Value:
    """`1 / sqrt(variance + epsilon)`."""
    return b.op("Reciprocal", b.op("Sqrt", b.op("Add", variance, b.const(epsilon, variance.type.dtype))))


def _row_axes(ctx: OpContext) -> tuple[int, ...]:
    return tuple(range(ctx.axis_attr("axis", -1), ctx.rank()))


def _stash(ctx: OpContext) -> DType:
    dtype = attr_dtype(ctx, "stash_type")
    if dtype is None or dtype not in FLOATS:
        ctx.fail("E0203", "attribute stash_type must name a floating-point type")
    return dtype


def _layer_norm(ctx: OpContext, b: RewriteBuilder, x: Value, scale: Value, bias: Value | None) -> list[Value]:
    dtype = scale.type.dtype
    mean, centred, variance = centred_and_variance(b, cast_to(b, x, _stash(ctx)), _row_axes(ctx))
    inverse = inverse_deviation(b, variance, ctx.float_attr("epsilon"))
    y = b.op("Mul", cast_to(b, b.op("Mul", centred, inverse), dtype), scale)
    return [y if bias is None else b.op("Add", y, bias), mean, inverse]


def _rms_norm(ctx: OpContext, b: RewriteBuilder, x: Value, scale: Value) -> list[Value]:
    dtype, over = scale.type.dtype, b.const(list(_row_axes(ctx)), DType.INT64)
    wide = cast_to(b, x, _stash(ctx))
    inverse = inverse_deviation(b, b.op("ReduceMean", b.op("Mul", wide, wide), over, keepdims=1), ctx.float_attr("epsilon"))
    return [b.op("Mul", cast_to(b, b.op("Mul", wide, inverse), dtype), scale), inverse]


def _optional(ctx: OpContext, position: int) -> Value | None:
    return ctx.value(position) if ctx.has(position) else None


def _layer_row(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    return _layer_norm(ctx, b, ctx.value(0), ctx.value(1), _optional(ctx, 2))[: len(ctx.node.outputs)]


def _rms_row(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    return _rms_norm(ctx, b, ctx.value(0), ctx.value(1))[: len(ctx.node.outputs)]


def _with_skip(ctx: OpContext, b: RewriteBuilder, bias: int) -> Value:
    """`input + skip + bias`; the bias is optional."""
    total = b.op("Add", ctx.value(0), ctx.value(1))
    return b.op("Add", total, ctx.value(bias)) if ctx.has(bias) else total


def _skip_layer_row(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    total = _with_skip(ctx, b, 4)
    return [*_layer_norm(ctx, b, total, ctx.value(2), _optional(ctx, 3)), total][: len(ctx.node.outputs)]


def _skip_rms_row(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    total, outputs = _with_skip(ctx, b, 3), ctx.node.outputs
    y, inverse = _rms_norm(ctx, b, total, ctx.value(2))
    wants_mean = len(outputs) > 1 and outputs[1] is not None
    over = b.const(list(_row_axes(ctx)), DType.INT64)
    mean = b.op("ReduceMean", cast_to(b, total, _stash(ctx)), over, keepdims=1) if wants_mean else None
    return [y, mean, inverse, total][: len(outputs)]


# --- Types ------------------------------------------------------------------------------------


def _statistics(ctx: OpContext) -> TensorType:
    return TensorType(_stash(ctx), reduced_shape(ctx.shape(), _row_axes(ctx), keepdims=True))


def _output(ctx: OpContext, scale: int) -> TensorType:
    check_dtype(ctx, 0, FLOATS)
    return TensorType(check_dtype(ctx, scale, FLOATS), ctx.shape())


def _layer_infer(ctx: OpContext) -> list[TensorType]:
    return [_output(ctx, 1), _statistics(ctx), _statistics(ctx)]


def _rms_infer(ctx: OpContext) -> list[TensorType]:
    return [_output(ctx, 1), _statistics(ctx)]


def _skip_infer(ctx: OpContext) -> list[TensorType]:
    return [_output(ctx, 2), _statistics(ctx), _statistics(ctx), TensorType(ctx.dtype(0), ctx.shape())]


_DEFAULTS = {"axis": -1, "epsilon": 1e-5, "stash_type": 1}
_SKIP_DEFAULTS = {"axis": -1, "epsilon": 1e-12, "stash_type": 1}

register(
    OpDef("LayerNormalization", _layer_infer, Rewrite(_layer_row), defaults=_DEFAULTS),
    OpDef("RMSNormalization", _rms_infer, Rewrite(_rms_row), defaults=_DEFAULTS),
    OpDef("SimplifiedLayerNormalization", _rms_infer, Rewrite(_rms_row), defaults=_DEFAULTS, doc="ONNX Runtime's RMSNormalization"),
    OpDef("SkipLayerNormalization", _skip_infer, Rewrite(_skip_layer_row), MICROSOFT, _SKIP_DEFAULTS),
    OpDef("SkipSimplifiedLayerNormalization", _skip_infer, Rewrite(_skip_rms_row), MICROSOFT, _SKIP_DEFAULTS),
)
