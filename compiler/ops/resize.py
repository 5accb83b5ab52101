"""Resize (Upsample is an older form of it): sampling on another grid, along some axes.

Nearest, linear and cubic interpolation without antialiasing are pointwise nests with their taps spelled
out; antialiasing has as many taps as the scale asks for (`resize_antialias.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction as Ratio

import numpy as np

from ..dtypes import DType
from ..graph.nodes import Attribute, TensorType, Value
from ..kernel import build
from ..kernel.build import INDEX, const
from ..kernel.builder import KernelBuilder
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Buffer, CastMode, Dim, Expr, MathFn
from .coordinates import F32, Coordinate, Real, Scale, nearest, transform
from .interpolation import (
    Tap,
    blend,
    cubic_taps,
    linear_taps,
    without_outside,
)
from .scatter import Buffers
from .table import INTERNAL, Nests, OpContext, OpDef, RawNode, Rewrite, RewriteBuilder, register

ROI, SCALES, SIZES = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Axis:
    """How one axis is resized."""

    position: int
    """Place in `axes`, and so in `scales` and `sizes`."""
    extent: Dim
    output: Dim
    scale: Scale

    @property
    def is_kept(self) -> bool:
        """True if the axis is copied as it is."""
        return self.scale.is_one and self.extent == self.output


# --- Extents and scales -----------------------------------------------------------------------


def _given(ctx: OpContext, position: int) -> bool:
    """True for an operand that is there and not empty (old models give an empty tensor for `absent`)."""
    return ctx.has(position) and ctx.shape(position) != (0,)


def resize_axes(ctx: OpContext) -> dict[int, Axis]:
    """The axes that the node names, by their number."""
    rank, given = ctx.rank(0), ctx.ints_attr("axes")
    numbers = tuple(range(rank)) if given is None else tuple(ctx.normal_axis(a, rank) for a in given)
    for position in (SCALES, SIZES):
        if _given(ctx, position):
            _check_count(ctx, position, len(numbers))
    if _given(ctx, SIZES):
        return _from_sizes(ctx, numbers)
    if not _given(ctx, SCALES):
        ctx.fail("E0205", "either scales or sizes must be given")
    return {axis: _from_scale(ctx, k, ctx.shape(0)[axis]) for k, axis in enumerate(numbers)}


def _check_count(ctx: OpContext, position: int, axes: int) -> None:
    """E0203 for an operand that does not hold one number for each axis, as far as its shape is known."""
    match ctx.shape(position):
        case (int(count),) if count != axes:
            ctx.fail("E0203", f"input {position} has {count} elements for {axes} axes")
        case shape if len(shape) != 1:
            ctx.fail("E0203", f"input {position} has rank {len(shape)}, 1 is needed")


def _from_scale(ctx: OpContext, k: int, extent: Dim) -> Axis:
    scales = ctx.array(SCALES)
    if scales is None:
        return Axis(k, extent, ctx.fresh(f"extent{k}"), Scale(real=build.cast(ctx.read(SCALES, const(k)), F32)))
    value = float(scales[k])
    if not value > 0:
        ctx.fail("E0203", f"the scale {value} is not positive")
    exact = Ratio(value)  # a float is a fraction itself, with a power of two below
    ratio = exact.limit_denominator(4096)
    # float32 1.6 stands for 8/5: position 8 comes from element 5, as it does when the division is done in float32.
    if np.float32(float(ratio)) != np.float32(value):
        ratio = exact
    p, q = ratio.numerator, ratio.denominator
    output = build.dim(build.floordiv(build.mul(build.index(extent), exact.numerator), exact.denominator))
    if max(p, q) >= 1 << 24:
        return Axis(k, extent, output, Scale(real=const(float(np.float32(value)), F32)))
    return Axis(k, extent, output, Scale(p, q))


def _from_sizes(ctx: OpContext, numbers: tuple[int, ...]) -> dict[int, Axis]:
    sizes, policy = ctx.ints(SIZES, len(numbers)), ctx.str_attr("keep_aspect_ratio_policy", "stretch")
    shape = ctx.shape(0)
    if policy == "stretch":
        return {a: Axis(k, shape[a], sizes[k], Scale(sizes[k], shape[a])) for k, a in enumerate(numbers)}
    p, q = _common_scale(sizes, [shape[a] for a in numbers], policy == "not_smaller")
    result = {}
    for k, a in enumerate(numbers):
        doubled = build.add(build.mul(build.mul(build.index(shape[a]), p), 2), q)
        result[a] = Axis(k, shape[a], build.dim(build.floordiv(doubled, build.mul(q, 2))), Scale(build.dim(p), build.dim(q)))
    return result


def _common_scale(sizes: tuple[Dim, ...], extents: list[Dim], largest: bool) -> tuple[Expr, Expr]:
    """The smallest or largest ratio of size to extent, as (p, q)."""
    p, q = build.index(sizes[0]), build.index(extents[0])
    for size, extent in zip(sizes[1:], extents[1:], strict=True):
        s, d = build.index(size), build.index(extent)
        left, right = build.mul(s, q), build.mul(p, d)
        better = build.gt(left, right) if largest else build.lt(left, right)
        p, q = build.select(better, s, p), build.select(better, d, q)
    return p, q


def _type(ctx: OpContext) -> list[TensorType]:
    shape = list(ctx.shape(0))
    for axis, how in resize_axes(ctx).items():
        shape[axis] = how.output
    return [TensorType(ctx.dtype(0), tuple(shape))]


def _sizes(ctx: OpContext, k: KernelBuilder, inputs: Buffers, sizes: Buffer) -> None:
    scales = inputs[SCALES]
    assert scales is not None
    for how in resize_axes(ctx).values():
        store_extent(k, how, scales, sizes)


def store_extent(k: KernelBuilder, how: Axis, scales: Buffer, sizes: Buffer) -> None:
    """Store the extent of an axis whose scale is read at run time, at the axis' position."""
    extent = build.cast(build.index(how.extent), DType.FLOAT64)
    scaled = build.mul(extent, build.cast(build.load(scales, how.position), DType.FLOAT64))
    k.store(sizes, how.position, build.maximum(build.cast(build.math_fn(MathFn.FLOOR, scaled), INDEX, CastMode.SATURATE), 0))


# --- Nests ------------------------------------------------------------------------------------


def coordinate(ctx: OpContext, how: Axis, o: Expr) -> Coordinate:
    """The coordinate along an axis that position `o` of the output is taken from."""
    mode = ctx.str_attr("coordinate_transformation_mode", "half_pixel")
    roi = None
    if mode == "tf_crop_and_resize" and _given(ctx, ROI):
        axes = ctx.ints_attr("axes")
        count = ctx.rank(0) if axes is None else len(axes)
        start, end = (build.cast(ctx.read(ROI, const(how.position + skipped)), F32) for skipped in (0, count))
        roi = start, end
    x = transform(mode, o, how.extent, how.output, how.scale, roi)
    if x is None:
        ctx.fail("E0203", f"the coordinate transformation '{mode}' is unknown or lacks its roi")
    return x


def _extrapolated(ctx: OpContext, axes: dict[int, Axis], at: tuple[Expr, ...], value: Expr) -> Expr:
    """`value`, or the extrapolation value where a region reaches outside the input."""
    if ctx.str_attr("coordinate_transformation_mode") != "tf_crop_and_resize":
        return value
    conditions = []
    for axis, how in axes.items():
        x = coordinate(ctx, how, at[axis])
        last = build.cast(build.sub(build.index(how.extent), 1), F32)
        assert isinstance(x, Real)
        conditions += [build.lt(x.x, 0.0), build.gt(x.x, last)]
    return build.select(build.logical_or(*conditions), const(ctx.float_attr("extrapolation_value"), value.dtype), value)


def _nests(ctx: OpContext) -> list[Nest]:
    mode, axes = ctx.str_attr("mode", "nearest"), resize_axes(ctx)
    crops = ctx.str_attr("coordinate_transformation_mode") == "tf_crop_and_resize"
    used = {axis: how for axis, how in axes.items() if crops or not how.is_kept}
    if mode == "nearest":
        return [pointwise(_type(ctx)[0].shape, lambda *at: _extrapolated(ctx, used, at, ctx.read(0, *_nearest(ctx, used, at))))]
    if mode not in ("linear", "cubic"):
        ctx.fail("E0203", f"there is no interpolation '{mode}'")
    return [pointwise(_type(ctx)[0].shape, lambda *at: _blended(ctx, used, mode, at))]


def clamped(at: Expr, extent: Dim) -> Expr:
    """The nearest index of an axis."""
    return build.clamp(at, const(0), build.sub(build.index(extent), 1))


def _nearest(ctx: OpContext, axes: dict[int, Axis], at: tuple[Expr, ...]) -> list[Expr]:
    result = list(at)
    for axis, how in axes.items():
        index = nearest(coordinate(ctx, how, at[axis]), ctx.str_attr("nearest_mode", "round_prefer_floor"))
        if index is None:
            ctx.fail("E0203", f"there is no nearest_mode '{ctx.str_attr('nearest_mode')}'")
        reach = build.range_of(index)
        sure = reach is not None and isinstance(how.extent, int) and reach[0] >= 0 and reach[1] < how.extent
        result[axis] = index if sure else clamped(index, how.extent)
    return result


def narrowed(value: Expr, dtype: DType) -> Expr:
    """The interpolated value in the type of the output; integers are rounded to even and saturated."""
    if dtype.is_int:
        return build.cast(build.math_fn(MathFn.ROUND, value), dtype, CastMode.SATURATE)
    return build.cast(value, dtype)


def _wide(ctx: OpContext) -> DType:
    return DType.FLOAT64 if ctx.dtype(0) is DType.FLOAT64 else F32


def _reader(ctx: OpContext, axes: dict[int, Axis], at: tuple[Expr, ...], chosen: tuple[Expr, ...]) -> Expr:
    indices = list(at)
    for (axis, how), index in zip(axes.items(), chosen, strict=True):
        indices[axis] = clamped(index, how.extent)
    return build.cast(ctx.read(0, *indices), _wide(ctx))


def _blended(ctx: OpContext, axes: dict[int, Axis], mode: str, at: tuple[Expr, ...]) -> Expr:
    taps: list[list[Tap]] = []
    for axis, how in axes.items():
        x = coordinate(ctx, how, at[axis])
        found = linear_taps(x) if mode == "linear" else cubic_taps(x, ctx.float_attr("cubic_coeff_a", -0.75))
        taps.append(without_outside(found, how.extent) if ctx.int_attr("exclude_outside") else found)
    value = blend(taps, lambda chosen: _reader(ctx, axes, at, chosen))
    return narrowed(_extrapolated(ctx, axes, at, value), ctx.dtype(0))


def _resize(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    mode, axes = ctx.str_attr("mode"), resize_axes(ctx)
    crops = ctx.str_attr("coordinate_transformation_mode") == "tf_crop_and_resize"
    used = {axis: how for axis, how in axes.items() if crops or not how.is_kept}
    if mode in ("linear", "cubic") and ctx.int_attr("antialias") and used:
        from .resize_antialias import antialiased

        return [antialiased(ctx, b, used)]
    return [b.op("onnxc::Resample", *ctx.node.inputs, **ctx.node.attrs)]


# --- Older forms ------------------------------------------------------------------------------


def _as_asymmetric(node: RawNode) -> None:
    """Before opset 11 (and in Upsample) a position was divided by its scale and rounded down."""
    node.inputs = [node.inputs[0], "", node.inputs[1]]
    node.attrs["coordinate_transformation_mode"] = "asymmetric"
    node.attrs["nearest_mode"] = "floor"


DEFAULTS: dict[str, Attribute] = {
    "mode": "nearest",
    "coordinate_transformation_mode": "half_pixel",
    "cubic_coeff_a": -0.75,
    "extrapolation_value": 0.0,
}

register(
    OpDef("Resize", _type, Rewrite(_resize), defaults=DEFAULTS, adapt={11: _as_asymmetric}),
    OpDef("Resample", _type, Nests(_nests, _sizes), INTERNAL, defaults=DEFAULTS),
)
