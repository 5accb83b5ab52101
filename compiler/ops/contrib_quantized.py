"""Quantized operators of the domain com.microsoft that are not contractions: dequantize, compute, quantize.

Fusion turns the three steps into one kernel; between them values are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel.nodes import Dim
from .contrib_fused import kept
from .elementwise import broadcast_shape
from .extents import total
from .spatial import window
from .table import OpContext, OpDef, Rewrite, RewriteBuilder, register

MICROSOFT = "com.microsoft"
_POOL = ("auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides")

Shape = tuple[Dim, ...]
Compute = Callable[[OpContext, RewriteBuilder, Sequence[Value]], Value]


def _dequantized(ctx: OpContext, b: RewriteBuilder, first: int) -> Value:
    """The real values of the operand whose codes, scale and zero point are inputs `first` and on."""
    zero_point = ctx.value(first + 2) if ctx.has(first + 2) else None
    return b.op("DequantizeLinear", ctx.value(first), ctx.value(first + 1), zero_point)


def _quantized(ctx: OpContext, b: RewriteBuilder, real: Value, scale: int, zero_point: int, dtype: DType) -> Value:
    """The codes of real values; without a zero point it is 0 of the type of the first operand."""
    zero = ctx.value(zero_point) if ctx.has(zero_point) else b.const(0, dtype)
    if ctx.has(zero_point) and zero.type.shape != ctx.shape(scale):
        zero = b.op("Reshape", zero, b.const([d for d in ctx.shape(scale) if isinstance(d, int)]))
    return b.op("QuantizeLinear", real, ctx.value(scale), zero)


def _row(name: str, operands: Sequence[int], scale: int, shape: Callable[[OpContext], Shape], compute: Compute) -> OpDef:
    """A row whose operands start at the positions `operands` and whose output has scale and zero point at `scale`."""

    def rewrite(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
        real = compute(ctx, b, [_dequantized(ctx, b, first) for first in operands])
        return [_quantized(ctx, b, real, scale, scale + 1, ctx.dtype(operands[0]))]

    return OpDef(name, lambda ctx: [TensorType(ctx.dtype(operands[0]), shape(ctx))], Rewrite(rewrite), MICROSOFT)


def _same(ctx: OpContext) -> Shape:
    return ctx.shape(0)


def _unary(op: str, *names: str) -> Compute:
    return lambda ctx, b, x: b.op(op, x[0], **kept(ctx, *names))


# --- Rounded with the zero point ---------------------------------------------------------------


def _row_of_units(name: str, operands: Sequence[int], scale: int, shape: Callable[[OpContext], Shape], units: Compute) -> OpDef:
    """A row whose result `units` computes in units of its scale, from the codes minus zero points as float32.

    ONNX Runtime's kernels add the zero point to these and round then, so that ties go to even codes, not to even differences.
    """

    def rewrite(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
        found = units(ctx, b, [_centred(ctx, b, first) for first in operands])
        dtype = ctx.dtype(operands[0])
        if ctx.has(scale + 1):
            found = b.op("Add", found, b.op("Cast", ctx.value(scale + 1), to=DType.FLOAT32.onnx))
        return [b.op("QuantizeLinear", found, b.const(1.0), b.const(0, dtype))]

    return OpDef(name, lambda ctx: [TensorType(ctx.dtype(operands[0]), shape(ctx))], Rewrite(rewrite), MICROSOFT)


def _centred(ctx: OpContext, b: RewriteBuilder, first: int) -> Value:
    """The codes of the operand at input `first` minus their zero point, as float32."""
    zero_point = ctx.value(first + 2) if ctx.has(first + 2) else None
    return b.op("DequantizeLinear", ctx.value(first), b.const(1.0), zero_point)


def _add_units(ctx: OpContext, b: RewriteBuilder, x: Sequence[Value]) -> Value:
    return b.op("Add", *(b.op("Mul", part, b.op("Div", ctx.value(scale), ctx.value(6))) for part, scale in zip(x, (1, 4), strict=True)))


def _mul_units(ctx: OpContext, b: RewriteBuilder, x: Sequence[Value]) -> Value:
    return b.op("Mul", b.op("Mul", *x), b.op("Div", b.op("Mul", ctx.value(1), ctx.value(4)), ctx.value(6)))


def _pool_units(ctx: OpContext, b: RewriteBuilder, x: Sequence[Value]) -> Value:
    return b.op("Div", _pooled("AveragePool", *_POOL)(ctx, b, [b.op("Mul", x[0], ctx.value(1))]), ctx.value(3))


# --- Softmax ----------------------------------------------------------------------------------


def _softmax(ctx: OpContext, b: RewriteBuilder, operands: Sequence[Value]) -> Value:
    """Before opset 13, Softmax worked on all axes from `axis` on at once."""
    (x,) = operands
    if ctx.int_attr("opset") >= 13:
        return b.op("Softmax", x, axis=ctx.int_attr("axis", -1))
    axis = ctx.axis_attr("axis", 1)
    if axis == ctx.rank(0) - 1:
        return b.op("Softmax", x, axis=-1)
    flat = b.op("Softmax", b.op("Flatten", x, axis=axis), axis=-1)
    return b.op("Reshape", flat, b.op("Shape", x))


# --- Pooling ----------------------------------------------------------------------------------


def _channels_first(ctx: OpContext) -> Shape:
    shape = ctx.shape(0)
    return (shape[0], shape[-1], *shape[1:-1]) if ctx.int_attr("channels_last") else shape


def _placed(ctx: OpContext, shape: Shape) -> Shape:
    """A shape with channels first, in the node's own order."""
    return (shape[0], *shape[2:], shape[1]) if ctx.int_attr("channels_last") else shape


def _pool_shape(ctx: OpContext) -> Shape:
    batch, channels, *spatial = _channels_first(ctx)
    kernel = ctx.ints_attr("kernel_shape")
    if kernel is None or len(kernel) != len(spatial):
        ctx.fail("E0203", f"kernel_shape must have {len(spatial)} values")
    return _placed(ctx, (batch, channels, *window(ctx, tuple(spatial), kernel).output))


def _global_shape(ctx: OpContext) -> Shape:
    batch, channels, *spatial = _channels_first(ctx)
    return _placed(ctx, (batch, channels, *([1] * len(spatial))))


def _pooled(op: str, *names: str) -> Compute:
    def compute(ctx: OpContext, b: RewriteBuilder, operands: Sequence[Value]) -> Value:
        (x,), rank = operands, ctx.rank(0)
        if not ctx.int_attr("channels_last"):
            return b.op(op, x, **kept(ctx, *names))
        y = b.op(op, b.op("Transpose", x, perm=(0, rank - 1, *range(1, rank - 1))), **kept(ctx, *names))
        return b.op("Transpose", y, perm=(0, *range(2, rank), 1))

    return compute


# --- Concat -----------------------------------------------------------------------------------


def _concat_operands(ctx: OpContext) -> range:
    return range(2, len(ctx.node.inputs), 3)


def _concat_type(ctx: OpContext) -> list[TensorType]:
    axis = ctx.axis_attr("axis", 0, ctx.rank(2))
    joined = total(*(ctx.shape(i)[axis] for i in _concat_operands(ctx)))
    return [TensorType(ctx.dtype(2), (*ctx.shape(2)[:axis], joined, *ctx.shape(2)[axis + 1 :]))]


def _concat(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    parts = [_dequantized(ctx, b, first) for first in _concat_operands(ctx)]
    joined = b.op("Concat", *parts, axis=ctx.int_attr("axis")) if len(parts) > 1 else parts[0]
    return [_quantized(ctx, b, joined, 0, 1, ctx.dtype(2))]


# --- ReduceMean, Where ------------------------------------------------------------------------


def _mean_shape(ctx: OpContext) -> Shape:
    axes = {ctx.normal_axis(a, ctx.rank(0)) for a in ctx.ints_attr("axes") or range(ctx.rank(0))}
    keep = ctx.int_attr("keepdims", 1)
    return tuple(1 if i in axes else d for i, d in enumerate(ctx.shape(0)) if keep or i not in axes)


def _mean(ctx: OpContext, b: RewriteBuilder, operands: Sequence[Value]) -> Value:
    axes = b.const(list(ctx.ints_attr("axes") or range(ctx.rank(0))))
    return b.op("ReduceMean", operands[0], axes, keepdims=ctx.int_attr("keepdims", 1))


def _where(ctx: OpContext, b: RewriteBuilder, operands: Sequence[Value]) -> Value:
    return b.op("Where", ctx.value(0), *operands)


register(
    _row_of_units("QLinearAdd", (0, 3), 6, lambda ctx: broadcast_shape(ctx, ctx.shape(0), ctx.shape(3)), _add_units),
    _row_of_units("QLinearMul", (0, 3), 6, lambda ctx: broadcast_shape(ctx, ctx.shape(0), ctx.shape(3)), _mul_units),
    _row("QLinearSigmoid", (0,), 3, _same, _unary("Sigmoid")),
    _row("QLinearLeakyRelu", (0,), 3, _same, _unary("LeakyRelu", "alpha")),
    _row("QLinearSoftmax", (0,), 3, _same, _softmax),
    _row_of_units("QLinearAveragePool", (0,), 3, _pool_shape, _pool_units),
    _row("QLinearGlobalAveragePool", (0,), 3, _global_shape, _pooled("GlobalAveragePool")),
    _row("QLinearReduceMean", (0,), 3, _mean_shape, _mean),
    _row("QLinearWhere", (1, 4), 7, lambda ctx: broadcast_shape(ctx, *(ctx.shape(i) for i in (0, 1, 4))), _where),
    OpDef("QLinearConcat", _concat_type, Rewrite(_concat), MICROSOFT),
)
