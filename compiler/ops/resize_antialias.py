"""Resize with antialiasing: one axis after another is summed over the taps of a kernel that is stretched as the axis shrinks.

The taps of an axis, `[output, taps]`, follow from its scale alone: they are constants where that is known, and as many as the scale
asks for where it is read at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ..dtypes import DType
from ..graph.nodes import Attribute, TensorType, Value
from ..kernel import build
from ..kernel.build import INDEX, const
from ..kernel.builder import KernelBuilder
from ..kernel.nest import Combine, Nest, pointwise, reduction
from ..kernel.nodes import Buffer, CastMode, Dim, Expr, MathFn
from .coordinates import F32, Real
from .interpolation import cubic_weight, linear_weight
from .resize import DEFAULTS, SCALES, Axis, clamped, coordinate, narrowed, resize_axes, store_extent
from .scatter import Buffers
from .table import INTERNAL, Nests, OpContext, OpDef, RewriteBuilder, register

SUPPORT = {"linear": 1, "cubic": 2}
"""Reach of the kernels before they are stretched."""
MAX_TAPS = 2**31


def antialiased(ctx: OpContext, b: RewriteBuilder, axes: Mapping[int, Axis]) -> Value:
    """The operators for a Resize that shrinks some axes with antialiasing."""
    attrs: dict[str, Attribute] = dict(ctx.node.attrs)
    wide = DType.FLOAT64 if ctx.dtype(0) is DType.FLOAT64 else F32
    result = b.op("Cast", ctx.value(0), to=wide.onnx)
    outside: Value | None = None
    for axis in axes:
        weights, begin, out = b.ops("onnxc::ResizeTaps", 3, *ctx.node.inputs, **attrs, axis=axis)
        weights = b.op("Div", weights, b.op("ReduceSum", weights, b.const([1]), keepdims=1))
        result = b.op("onnxc::SumTaps", result, b.op("Cast", weights, to=wide.onnx), begin, axis=axis)
        out = b.op("Unsqueeze", out, b.const([k for k in range(ctx.rank(0)) if k != axis]))
        outside = out if outside is None else b.op("Or", outside, out)
    if ctx.str_attr("coordinate_transformation_mode") == "tf_crop_and_resize" and outside is not None:
        result = b.op("Where", outside, b.const(np.array(ctx.float_attr("extrapolation_value"), wide.numpy)), result)
    return b.op("onnxc::Narrow", result, to=ctx.dtype(0).onnx)


# --- ResizeTaps: weights [output, taps], index of the first tap [output], whether it is outside [output] ----------


def _axis(ctx: OpContext) -> Axis:
    return resize_axes(ctx)[ctx.int_attr("axis")]


def _taps(ctx: OpContext, axis: Axis) -> Dim:
    """How many taps an output has."""
    if axis.scale.real is not None:
        return ctx.fresh("taps")
    p, q = build.index(axis.scale.p), build.index(axis.scale.q)
    reach = build.mul(build.maximum(p, q), SUPPORT[ctx.str_attr("mode")])
    return build.dim(build.mul(build.ceildiv(build.dim(reach), build.dim(p)), 2))


def _taps_types(ctx: OpContext) -> list[TensorType]:
    axis = _axis(ctx)
    output = axis.output
    return [TensorType(F32, (output, _taps(ctx, axis))), TensorType(DType.INT64, (output,)), TensorType(DType.BOOL, (output,))]


def _taps_sizes(ctx: OpContext, k: KernelBuilder, inputs: Buffers, sizes: Buffer) -> None:
    scales, axes, axis = inputs[SCALES], resize_axes(ctx), _axis(ctx)
    assert scales is not None
    for how in axes.values():
        store_extent(k, how, scales, sizes)
    scale = build.minimum(build.cast(build.load(scales, axis.position), F32), 1.0)
    reach = build.math_fn(MathFn.CEIL, build.div(const(float(SUPPORT[ctx.str_attr("mode")]), F32), scale))
    k.store(sizes, len(axes), build.mul(build.clamp(build.cast(reach, INDEX, CastMode.SATURATE), 1, MAX_TAPS), 2))


def _make_taps(ctx: OpContext) -> list[Nest | None]:
    (weights, _, _), axis = _taps_types(ctx), _axis(ctx)
    output, taps = weights.shape
    first = build.sub(1, build.floordiv(build.index(taps), 2))
    stretch = build.minimum(axis.scale.value(), 1.0)

    def index(o: Expr, k: Expr) -> Expr:
        return build.add(build.add(coordinate(ctx, axis, o).floor(), first), k)

    def weight(o: Expr, k: Expr) -> Expr:
        away = build.sub(build.cast(build.add(first, k), F32), coordinate(ctx, axis, o).above_floor())
        distance = build.mul(away, stretch)
        found = linear_weight(distance) if ctx.str_attr("mode") == "linear" else cubic_weight(distance, ctx.float_attr("cubic_coeff_a"))
        if not ctx.int_attr("exclude_outside"):
            return found
        at = index(o, k)
        inside = build.logical_and(build.ge(at, 0), build.lt(at, build.index(axis.extent)))
        return build.select(inside, found, const(0.0, F32))

    nests = pointwise(weights.shape, weight), pointwise((output,), lambda o: index(o, const(0))), pointwise((output,), _outside(ctx, axis))
    return list(nests[: len(ctx.node.outputs)])


def _outside(ctx: OpContext, axis: Axis) -> Callable[[Expr], Expr]:
    """Whether a region reaches outside the input."""

    def element(o: Expr) -> Expr:
        x = coordinate(ctx, axis, o)
        if not isinstance(x, Real) or ctx.str_attr("coordinate_transformation_mode") != "tf_crop_and_resize":
            return build.FALSE
        last = build.cast(build.sub(build.index(axis.extent), 1), F32)
        return build.logical_or(build.lt(x.x, 0.0), build.gt(x.x, last))

    return element


# --- SumTaps(x, weights, begin), Narrow(x) ----------------------------------------------------------


def _summed_type(ctx: OpContext) -> list[TensorType]:
    shape, axis = list(ctx.shape(0)), ctx.int_attr("axis")
    shape[axis] = ctx.shape(1)[0]
    return [TensorType(ctx.dtype(0), tuple(shape))]


def _sum_taps(ctx: OpContext) -> list[Nest]:
    axis, extent = ctx.int_attr("axis"), ctx.shape(0)[ctx.int_attr("axis")]

    def term(at: tuple[Expr, ...], ks: tuple[Expr, ...]) -> Expr:
        index = clamped(build.add(ctx.read(2, at[axis]), ks[0]), extent)
        return build.mul(ctx.read(0, *at[:axis], index, *at[axis + 1 :]), ctx.read(1, at[axis], ks[0]))

    return [reduction(_summed_type(ctx)[0].shape, (ctx.shape(1)[1],), Combine.SUM, term)]


def _narrow_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.from_onnx(ctx.int_attr("to")), ctx.shape(0))]


def _narrow(ctx: OpContext) -> list[Nest]:
    (type_,) = _narrow_type(ctx)
    return [pointwise(type_.shape, lambda *at: narrowed(ctx.read(0, *at), type_.dtype))]


register(
    OpDef("ResizeTaps", _taps_types, Nests(_make_taps, _taps_sizes), INTERNAL, defaults=DEFAULTS),
    OpDef("SumTaps", _summed_type, Nests(_sum_taps), INTERNAL),
    OpDef("Narrow", _narrow_type, Nests(_narrow), INTERNAL),
)
