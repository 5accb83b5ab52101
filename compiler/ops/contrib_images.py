"""CropAndResize, UnfoldTensor and MaxpoolWithMask of the domain com.microsoft: windows of tensors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import INDEX, const, load
from ..kernel.builder import KernelBuilder
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import CastMode, Expr, LoopKind, MathFn, Scope
from .attention import lowest
from .pooling import pool_window
from .scatter import Buffers
from .table import Imperative, Nests, OpContext, OpDef, register

MICROSOFT = "com.microsoft"
F32 = DType.FLOAT32

# --- CropAndResize ----------------------------------------------------------------------------


def _crop_type(ctx: OpContext) -> list[TensorType]:
    size = ctx.ints(3)
    if len(size) != 2 or ctx.rank(0) != 4:
        ctx.fail("E0203", "images have four axes, and crop_size two elements")
    return [TensorType(ctx.dtype(0), (ctx.shape(1)[0], ctx.shape(0)[1], *size))]


def _crop(ctx: OpContext) -> list[Nest]:
    """Corners of a crop are corners of its box; what lies outside the image has a value of its own."""
    (kind,), mode = _crop_type(ctx), ctx.str_attr("mode", "bilinear")
    if mode not in ("bilinear", "nearest"):
        ctx.fail("E0203", f"there is no interpolation '{mode}'")
    spatial = ctx.shape(0)[2:]

    def coordinate(box: Expr, axis: int, at: Expr) -> Expr:
        low, high = (build.cast(ctx.read(1, box, const(axis + end)), F32) for end in (0, 2))
        last = build.cast(build.sub(build.index(spatial[axis]), 1), F32)
        steps = build.sub(build.index(kind.shape[2 + axis]), 1)
        step = build.div(build.mul(build.sub(high, low), last), build.cast(build.maximum(steps, 1), F32))
        along = build.add(build.mul(low, last), build.mul(build.cast(at, F32), step))
        middle = build.mul(build.mul(build.add(low, high), 0.5), last)
        return build.select(build.gt(steps, 0), along, middle)

    def element(box: Expr, channel: Expr, i: Expr, j: Expr) -> Expr:
        y, x = coordinate(box, 0, i), coordinate(box, 1, j)
        batch = build.clamp(build.cast(ctx.read(2, box), INDEX), const(0), build.sub(build.index(ctx.shape(0)[0]), 1))

        def read(v: Expr, u: Expr) -> Expr:
            places = (build.clamp(build.cast(c, INDEX, CastMode.SATURATE), const(0), build.sub(build.index(d), 1))
                      for c, d in zip((v, u), spatial, strict=True))  # fmt: skip
            return build.cast(ctx.read(0, batch, channel, *places), F32)

        inside = [build.logical_and(build.ge(c, 0.0), build.le(c, build.cast(build.sub(build.index(d), 1), F32)))
                  for c, d in zip((y, x), spatial, strict=True)]  # fmt: skip
        value = read(_nearest(y), _nearest(x)) if mode == "nearest" else _bilinear(read, y, x)
        outside = const(ctx.float_attr("extrapolation_value"), F32)
        return build.cast(build.select(build.logical_and(*inside), value, outside), kind.dtype)

    return [pointwise(kind.shape, element)]


def _nearest(x: Expr) -> Expr:
    """A coordinate rounded, halves up."""
    return build.math_fn(MathFn.FLOOR, build.add(x, 0.5))


def _bilinear(read: Callable[[Expr, Expr], Expr], y: Expr, x: Expr) -> Expr:
    """The value between the four neighbours of a place."""
    top, left = build.math_fn(MathFn.FLOOR, y), build.math_fn(MathFn.FLOOR, x)
    bottom, right = build.math_fn(MathFn.CEIL, y), build.math_fn(MathFn.CEIL, x)
    v, u = build.sub(y, top), build.sub(x, left)

    def row(at: Expr) -> Expr:
        first = read(at, left)
        return build.add(first, build.mul(build.sub(read(at, right), first), u))

    above = row(top)
    return build.add(above, build.mul(build.sub(row(bottom), above), v))


# --- UnfoldTensor -----------------------------------------------------------------------------


def _unfold_type(ctx: OpContext) -> list[TensorType]:
    axis, size, step = ctx.axis_attr("dim", -1), ctx.int_attr("size"), ctx.int_attr("step", 1)
    shape = ctx.shape(0)
    if size < 1 or step < 1:
        ctx.fail("E0203", "size and step must be positive")
    ctx.require(build.ge(build.index(shape[axis]), size), "the axis is shorter than a slice")
    count = build.dim(build.add(build.floordiv(build.sub(build.index(shape[axis]), size), step), 1))
    return [TensorType(ctx.dtype(0), (*shape[:axis], count, *shape[axis + 1 :], size))]


def _unfold(ctx: OpContext) -> list[Nest]:
    axis, step = ctx.axis_attr("dim", -1), ctx.int_attr("step", 1)

    def element(*at: Expr) -> Expr:
        place = build.add(build.mul(at[axis], step), at[-1])
        return ctx.read(0, *at[:axis], place, *at[axis + 1 : -1])

    return [pointwise(_unfold_type(ctx)[0].shape, element)]


# --- MaxpoolWithMask --------------------------------------------------------------------------


def _masked_pool_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), (*ctx.shape(0)[:2], *pool_window(ctx).output))]


def _masked_pool(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    """The largest element of a window; each row of it ends where the mask is 0. The mask repeats over batch and channels."""
    (x, mask), (out,), w = inputs, outputs, pool_window(ctx)
    assert x is not None and mask is not None and out is not None
    shape, spatial = _masked_pool_type(ctx)[0].shape, ctx.shape(0)[2:]
    plane, channels = build.index(build.product(spatial)), build.index(build.product(ctx.shape(1)[:2]))
    dtype = ctx.dtype(0)
    with (
        k.loop("cell", build.product(shape), LoopKind.PARALLEL) as cell,
        k.local(dtype, 1, "best", Scope.REGISTER) as best,
        k.local(DType.INT32, 1, "open", Scope.REGISTER) as is_open,
    ):
        image, *at = build.delinearize(cell, (build.product(shape[:2]), *shape[2:]))
        k.store(best, 0, lowest(dtype))
        with ExitStack() as loops:
            taps = [loops.enter_context(k.loop("tap", extent)) for extent in w.kernel[:-1]]
            k.store(is_open, 0, 1)
            places = w.positions(at, [*taps, loops.enter_context(k.loop("tap", w.kernel[-1]))])
            offset = build.linearize(places, spatial)
            with k.when(build.logical_and(w.inside(places), build.ne(load(is_open, 0), 0))):
                seen = build.ne(load(mask, build.add(build.mul(build.floormod(image, channels), plane), offset)), 0)
                if len(spatial) > 1:  # ONNX Runtime does not look at the mask of the first element
                    seen = build.logical_or(seen, build.eq(offset, 0))
                with k.when(seen):
                    k.store(best, 0, build.maximum(load(best, 0), load(x, build.add(build.mul(image, plane), offset))))
                with k.otherwise():
                    k.store(is_open, 0, 0)
        k.store(out, cell, load(best, 0))


register(
    OpDef("CropAndResize", _crop_type, Nests(_crop), MICROSOFT),
    OpDef("UnfoldTensor", _unfold_type, Nests(_unfold), MICROSOFT),
    OpDef("MaxpoolWithMask", _masked_pool_type, Imperative(_masked_pool), MICROSOFT),
)
