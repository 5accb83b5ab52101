"""Normalization of channels, groups and neighbourhoods, and dropout.

Batch normalization becomes `x * a + b` with vectors `a` and `b` of the channels; where the statistics are
constant they fold, and a convolution before it absorbs them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.nest import Combine, Nest, reduction
from ..kernel.nodes import Expr, MathFn, Var
from .layer_norm import cast_to, centred_and_variance, inverse_deviation
from .table import Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register
from .types import FLOATS, attr_dtype, check_dtype


def _same_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(check_dtype(ctx, 0, FLOATS), ctx.shape())]


def _wide(dtype: DType) -> DType:
    return DType.FLOAT32 if dtype.is_narrow_float else dtype


def _per_channel(ctx: OpContext, b: RewriteBuilder, vector: Value) -> Value:
    """A vector over axis 1, shaped to broadcast against input 0."""
    behind = ctx.rank() - 2
    return b.op("Unsqueeze", vector, b.const(list(range(1, 1 + behind)), DType.INT64)) if behind > 0 else vector


def _check_channels(ctx: OpContext, *positions: int) -> None:
    if ctx.rank() < 2:
        ctx.fail("E0203", f"an input of rank {ctx.rank()} has no channels")
    channels = ctx.shape()[1]
    for position in positions:
        extent = ctx.shape(position)[0] if ctx.rank(position) == 1 else None
        if extent is None or (isinstance(extent, int) and isinstance(channels, int) and extent != channels):
            ctx.fail("E0203", f"input {position} must be a vector with an element for each channel")


# --- Batch normalization ----------------------------------------------------------------------


def _batch_infer(ctx: OpContext) -> list[TensorType]:
    dtype = check_dtype(ctx, 0, FLOATS)
    if ctx.rank() > 1:
        _check_channels(ctx, 1, 2, 3, 4)
    if not ctx.int_attr("spatial", 1):
        ctx.fail("E0203", "statistics for each element (spatial = 0) are not supported", "convert the model to opset 9 or newer")
    return [TensorType(dtype, ctx.shape()), ctx.type(3), ctx.type(4)]


def _batch(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    dtype = _wide(ctx.dtype())
    x, scale, bias, mean, variance = (cast_to(b, ctx.value(i), dtype) for i in range(5))
    running: list[Value | None] = []
    if ctx.int_attr("training_mode"):
        mean, variance, running = _batch_statistics(ctx, b, x, mean, variance)
    a = b.op("Mul", scale, inverse_deviation(b, variance, ctx.float_attr("epsilon")))
    c = b.op("Sub", bias, b.op("Mul", mean, a))
    y = b.op("Add", b.op("Mul", x, _per_channel(ctx, b, a)), _per_channel(ctx, b, c))
    return [cast_to(b, y, ctx.dtype()), *(running or [None] * (len(ctx.node.outputs) - 1))]


def _batch_statistics(
    ctx: OpContext, b: RewriteBuilder, x: Value, old_mean: Value, old_variance: Value
) -> tuple[Value, Value, list[Value | None]]:
    """Mean and variance of this batch, and the running ones as output."""
    axes = [axis for axis in range(ctx.rank()) if axis != 1]
    over = b.const(axes, DType.INT64)
    mean, _, variance = centred_and_variance(b, x, axes)
    mean, variance = b.op("Squeeze", mean, over), b.op("Squeeze", variance, over)
    momentum = ctx.float_attr("momentum")
    keep, learn = b.const(momentum, x.type.dtype), b.const(1.0 - momentum, x.type.dtype)
    running: list[Value | None] = []
    for position, old, new in ((3, old_mean, mean), (4, old_variance, variance)):
        blend = b.op("Add", b.op("Mul", old, keep), b.op("Mul", new, learn))
        running.append(cast_to(b, blend, ctx.dtype(position)))
    return mean, variance, running[: len(ctx.node.outputs) - 1]


# --- Instances, groups, whole tensors ---------------------------------------------------------


def _instance_infer(ctx: OpContext) -> list[TensorType]:
    _check_channels(ctx, 1, 2)
    return _same_type(ctx)


def _instance(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    dtype = _wide(ctx.dtype())
    x, scale, bias = (cast_to(b, ctx.value(i), dtype) for i in range(3))
    _, centred, variance = centred_and_variance(b, x, range(2, ctx.rank()))
    factor = b.op("Mul", inverse_deviation(b, variance, ctx.float_attr("epsilon")), _per_channel(ctx, b, scale))
    return [cast_to(b, b.op("Add", b.op("Mul", centred, factor), _per_channel(ctx, b, bias)), ctx.dtype())]


def _group_infer(ctx: OpContext) -> list[TensorType]:
    if ctx.rank() < 2:
        ctx.fail("E0203", f"an input of rank {ctx.rank()} has no channels")
    groups, channels = ctx.int_attr("num_groups"), ctx.shape()[1]
    if groups < 1 or (isinstance(channels, int) and channels % groups):
        ctx.fail("E0203", f"num_groups {groups} does not divide the channels")
    return _same_type(ctx)


def _group(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    """Scale and bias have an element for each channel, before opset 21 for each group."""
    groups, dtype = ctx.int_attr("num_groups"), attr_dtype(ctx, "stash_type") or DType.FLOAT32
    x, scale, bias = (cast_to(b, ctx.value(i), dtype) for i in range(3))
    whole_shape = b.const([int(d) for d in x.type.static_shape]) if x.type.is_static else b.op("Shape", x)
    grouped = b.op("Reshape", x, b.const([0, groups, -1]))
    _, centred, variance = centred_and_variance(b, grouped, [2])
    normal = b.op("Mul", centred, inverse_deviation(b, variance, ctx.float_attr("epsilon")))
    if ctx.shape(1)[0] == groups and ctx.shape()[1] != groups:
        behind = b.const([1])
        normal = b.op("Add", b.op("Mul", normal, b.op("Unsqueeze", scale, behind)), b.op("Unsqueeze", bias, behind))
        y = b.op("Reshape", normal, whole_shape)
    else:
        y = b.op("Mul", b.op("Reshape", normal, whole_shape), _per_channel(ctx, b, scale))
        y = b.op("Add", y, _per_channel(ctx, b, bias))
    return [cast_to(b, y, ctx.dtype())]


def _mean_variance(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    x = cast_to(b, ctx.value(0), _wide(ctx.dtype()))
    axes = sorted(ctx.normal_axis(axis, ctx.rank()) for axis in ctx.ints_attr("axes") or ())
    _, centred, variance = centred_and_variance(b, x, axes)
    deviation = b.op("Add", b.op("Sqrt", variance), b.const(1e-9, x.type.dtype))
    return [cast_to(b, b.op("Div", centred, deviation), ctx.dtype())]


def _lp(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    """`x / norm`, zero where the norm is."""
    p = ctx.int_attr("p")
    if p not in (1, 2):
        ctx.fail("E0203", f"p is {p}, must be 1 or 2")
    x = cast_to(b, ctx.value(0), _wide(ctx.dtype()))
    norm = b.op("ReduceL1" if p == 1 else "ReduceL2", x, b.const([ctx.axis_attr("axis", -1)]), keepdims=1)
    zero = b.const(0.0, x.type.dtype)
    return [cast_to(b, b.op("Where", b.op("Equal", norm, zero), zero, b.op("Div", x, norm)), ctx.dtype())]


# --- Neighbouring channels --------------------------------------------------------------------


def _local_response(ctx: OpContext) -> list[Nest | None]:
    """`x / (bias + alpha / size * sum of squares of the neighbouring channels) ** beta`."""
    size, dtype = ctx.int_attr("size"), _wide(ctx.dtype())
    if size < 1 or ctx.rank() < 2:
        ctx.fail("E0203", "attribute size must be positive and the input have channels")

    def term(at: tuple[Var, ...], inner: tuple[Var, ...]) -> Expr:
        channel = build.add(build.sub(at[1], (size - 1) // 2), inner[0])
        inside = build.logical_and(build.ge(channel, 0), build.lt(channel, build.index(ctx.shape()[1])))
        x = build.cast(ctx.read(0, at[0], channel, *at[2:]), dtype)
        return build.select(inside, build.mul(x, x), 0.0)

    def finish(total: Expr, at: tuple[Var, ...]) -> Expr:
        base = build.add(build.mul(total, ctx.float_attr("alpha") / size), ctx.float_attr("bias"))
        power = build.math_fn(MathFn.POW, base, -ctx.float_attr("beta"))
        return build.cast(build.mul(build.cast(ctx.read(0, *at), dtype), power), ctx.dtype())

    return [reduction(ctx.shape(), (size,), Combine.SUM, term, finish)]


register(
    OpDef("BatchNormalization", _batch_infer, Rewrite(_batch), defaults={"epsilon": 1e-5, "momentum": 0.9, "training_mode": 0}),
    OpDef("InstanceNormalization", _instance_infer, Rewrite(_instance), defaults={"epsilon": 1e-5}),
    OpDef("GroupNormalization", _group_infer, Rewrite(_group), defaults={"epsilon": 1e-5, "stash_type": 1}),
    OpDef("MeanVarianceNormalization", _same_type, Rewrite(_mean_variance), defaults={"axes": (0, 2, 3)}),
    OpDef("LpNormalization", _same_type, Rewrite(_lp), defaults={"axis": -1, "p": 2}),
    OpDef("LRN", _same_type, Nests(_local_response), defaults={"alpha": 1e-4, "beta": 0.75, "bias": 1.0}),
)
