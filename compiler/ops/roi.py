"""RoiAlign and MaxRoiPool: pooling of regions whose corners are data, as kernels with loops over each bin.

Where a bin lies, and what its samples read and weigh, is found once for many channels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from ..graph.nodes import Attribute, TensorType
from ..kernel import build
from ..kernel.build import INDEX, const
from ..kernel.builder import KernelBuilder
from ..kernel.nest import Combine
from ..kernel.nodes import Buffer, CastMode, Dim, Expr, LoopKind, MathFn, Scope
from .pooling import accumulator
from .scatter import Buffers
from .table import Imperative, OpContext, OpDef, RawNode, register

CHANNELS = 64
"""Channels of a bin that go together: their sums lie on the stack."""


def _whole(x: Expr) -> Expr:
    return build.cast(x, INDEX, CastMode.SATURATE)


def _ceil(x: Expr) -> Expr:
    return _whole(build.math_fn(MathFn.CEIL, x))


def _plane(ctx: OpContext, batch: Expr, channel: Expr) -> Expr:
    """Offset of a channel's first element."""
    _, channels, *spatial = ctx.shape(0)
    return build.mul(build.add(build.mul(batch, build.index(channels)), channel), build.index(build.product(spatial)))


@dataclass(frozen=True, slots=True)
class _Channels:
    """Some channels of a bin."""

    first: Expr
    count: Expr

    def each(self, k: KernelBuilder) -> AbstractContextManager[Expr]:
        """A loop over them, from 0."""
        return k.loop("c", build.dim(self.count))


@contextmanager
def _bins(k: KernelBuilder, shape: tuple[Dim, ...]) -> Iterator[tuple[Expr, _Channels, Expr, Expr]]:
    """A parallel loop over the bins of all regions, for some channels at a time: (region, channels, row, column)."""
    regions, channels, rows, columns = shape
    parts = (regions, build.dim(build.ceildiv(build.index(channels), CHANNELS)), rows, columns)
    with k.loop("bin", build.product(parts), LoopKind.PARALLEL) as at:
        region, part, row, column = build.delinearize(at, parts)
        first = build.mul(part, CHANNELS)
        yield region, _Channels(first, build.minimum(build.sub(build.index(channels), first), CHANNELS)), row, column


# --- RoiAlign ---------------------------------------------------------------------------------


def _align_type(ctx: OpContext) -> list[TensorType]:
    size = ctx.int_attr("output_height", 1), ctx.int_attr("output_width", 1)
    ctx.same_extent(ctx.shape(1)[1], 4, "numbers of a region and of two corners")
    count = ctx.same_extent(ctx.shape(1)[0], ctx.shape(2)[0], "the numbers of regions and of batch indices")
    return [TensorType(ctx.dtype(0), (count, ctx.shape(0)[1], *size))]


@dataclass(frozen=True, slots=True)
class _Span:
    """A bin of a region along one axis."""

    start: Expr
    """Where the bin begins."""
    step: Expr
    """Distance of its samples."""
    samples: Expr
    """How many there are, int64."""

    def known(self, k: KernelBuilder, lets: ExitStack) -> _Span:
        """The same with values that are computed once."""
        return _Span(*(lets.enter_context(k.let(part)) for part in (self.start, self.step, self.samples)))

    def at(self, i: Expr) -> Expr:
        """The coordinate of a sample: the middle of its part of the bin."""
        return build.add(self.start, build.mul(build.add(build.cast(i, self.step.dtype), 0.5), self.step))


def _span(ctx: OpContext, rois: Buffer, roi: Expr, x_or_y: int, part: Expr, parts: int) -> _Span:
    dtype = accumulator(ctx.dtype(0))
    half_pixel = ctx.str_attr("coordinate_transformation_mode", "half_pixel").lower() == "half_pixel"

    def corner(k: int) -> Expr:
        at = build.cast(build.load(rois, build.add(build.mul(roi, 4), k)), dtype)
        return build.sub(build.mul(at, ctx.float_attr("spatial_scale", 1.0)), 0.5 if half_pixel else 0.0)

    start = corner(x_or_y)
    extent = build.sub(corner(x_or_y + 2), start)
    bin_extent = build.div(extent if half_pixel else build.maximum(extent, 1.0), float(parts))
    ratio = ctx.int_attr("sampling_ratio")
    samples = const(ratio) if ratio > 0 else build.maximum(_ceil(bin_extent), 0)
    step = build.div(bin_extent, build.cast(samples, dtype))
    return _Span(build.add(start, build.mul(build.cast(part, dtype), bin_extent)), step, samples)


def _align(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (x, rois, batches), (out,) = inputs, outputs
    assert x is not None and rois is not None and batches is not None and out is not None
    shape, dtype = _align_type(ctx)[0].shape, accumulator(ctx.dtype(0))
    combine = Combine.SUM if ctx.str_attr("mode", "avg").lower() == "avg" else Combine.MAX
    with _bins(k, shape) as (roi, channels, row, column), k.local(dtype, CHANNELS, "total", Scope.STACK) as total:
        batch = build.clamp(build.cast(build.load(batches, roi), INDEX), const(0), build.sub(build.index(ctx.shape(0)[0]), 1))

        def add(c: Expr, found: Expr) -> None:
            k.store(total, c, combine.apply(build.load(total, c), found))

        with channels.each(k) as c:
            k.store(total, c, combine.identity(dtype))
        with ExitStack() as known:
            plane = known.enter_context(k.let(_plane(ctx, batch, channels.first)))
            y, across = (_span(ctx, rois, roi, *spec).known(k, known) for spec in ((1, row, shape[2]), (0, column, shape[3])))  # type: ignore[arg-type]
            with k.loop("i", y.samples) as i, k.let(y.at(i)) as v, k.loop("j", across.samples) as j, k.let(across.at(j)) as u:
                outside = build.logical_or(*(c for at, d in zip((v, u), ctx.shape(0)[2:], strict=True) for c in _far_outside(at, d)))
                with k.when(build.logical_not(outside)), ExitStack() as weighed:
                    taps = [(weighed.enter_context(k.let(at)), weighed.enter_context(k.let(w))) for at, w in _taps(ctx, plane, v, u)]
                    with channels.each(k) as c:
                        add(c, _sample(ctx, x, taps, c, combine))
                if combine is Combine.MAX:
                    with k.when(outside), channels.each(k) as c:
                        add(c, const(0.0, dtype))
            count = build.mul(y.samples, across.samples)
            with channels.each(k) as c:
                whole = build.load(total, c)
                mean = build.div(whole, build.cast(build.maximum(count, 1), dtype)) if combine is Combine.SUM else whole
                found = build.cast(build.select(build.gt(count, 0), mean, const(0.0, dtype)), ctx.dtype(0))
                k.store(out, build.linearize((roi, build.add(channels.first, c), row, column), shape), found)


def _taps(ctx: OpContext, plane: Expr, v: Expr, u: Expr) -> list[tuple[Expr, Expr]]:
    """The four neighbours of a coordinate in one plane, with their weights."""
    height, width = ctx.shape(0)[2:]
    return [
        (build.add(plane, build.add(build.mul(row, build.index(width)), column)), build.mul(row_weight, column_weight))
        for row, row_weight in _neighbours(v, height)
        for column, column_weight in _neighbours(u, width)
    ]


def _sample(ctx: OpContext, x: Buffer, taps: Sequence[tuple[Expr, Expr]], channel: Expr, combine: Combine) -> Expr:
    """The value at a coordinate of one channel: bilinear, or the largest of the four weighted neighbours."""
    step = build.mul(channel, build.index(build.product(ctx.shape(0)[2:])))
    first, *rest = [build.mul(weight, build.cast(build.load(x, build.add(at, step)), weight.dtype)) for at, weight in taps]
    return functools.reduce(combine.apply, rest, first)


def _far_outside(at: Expr, extent: Dim) -> Sequence[Expr]:
    return build.lt(at, -1.0), build.gt(at, build.cast(build.index(extent), at.dtype))


def _neighbours(at: Expr, extent: Dim) -> list[tuple[Expr, Expr]]:
    """The two elements around a coordinate with their weights, both inside the axis."""
    last = build.sub(build.index(extent), 1)
    inner = build.clamp(at, 0.0, build.cast(last, at.dtype))
    low = build.clamp(_whole(inner), const(0), last)
    weight = build.sub(inner, build.cast(low, at.dtype))
    return [(low, build.sub(1.0, weight)), (build.minimum(build.add(low, 1), last), weight)]


def _keep_old_coordinates(node: RawNode) -> None:
    node.attrs.setdefault("coordinate_transformation_mode", "output_half_pixel")


# --- MaxRoiPool -------------------------------------------------------------------------------


def _pool_type(ctx: OpContext) -> list[TensorType]:
    size = ctx.ints_attr("pooled_shape")
    if size is None or len(size) != 2 or ctx.rank(0) != 4:
        ctx.fail("E0203", "pooled_shape must have 2 values and the input rank 4")
    ctx.same_extent(ctx.shape(1)[1], 5, "numbers of a region and of a batch index with two corners")
    return [TensorType(ctx.dtype(0), (ctx.shape(1)[0], ctx.shape(0)[1], *size))]


def _pool(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    (x, rois), (out,) = inputs, outputs
    assert x is not None and rois is not None and out is not None
    shape, dtype = _pool_type(ctx)[0].shape, ctx.dtype(0)
    data = ctx.shape(0)
    with _bins(k, shape) as (roi, channels, row, column), ExitStack() as known:
        batch = build.clamp(_whole(_corner(ctx, rois, roi, 0)), const(0), build.sub(build.index(data[0]), 1))
        plane = known.enter_context(k.let(_plane(ctx, batch, channels.first)))
        (top, bottom), (left, right) = (
            tuple(known.enter_context(k.let(end)) for end in _bin(ctx, rois, roi, *spec))
            for spec in ((2, row, shape[2], data[2]), (1, column, shape[3], data[3]))
        )
        empty = build.logical_or(build.le(bottom, top), build.le(right, left))
        with channels.each(k) as c, k.local(dtype, 1, "best", Scope.REGISTER) as best:
            k.store(best, 0, Combine.MAX.identity(dtype))
            here = build.add(plane, build.mul(c, build.index(build.product(data[2:]))))
            with k.loop("i", build.sub(bottom, top)) as i, k.loop("j", build.sub(right, left)) as j:
                at = build.add(build.mul(build.add(top, i), build.index(data[3])), build.add(left, j))
                k.store(best, 0, build.maximum(build.load(best, 0), build.load(x, build.add(here, at))))
            place = build.linearize((roi, build.add(channels.first, c), row, column), shape)
            k.store(out, place, build.select(empty, const(0.0, dtype), build.load(best, 0)))


def _corner(ctx: OpContext, rois: Buffer, roi: Expr, k: int) -> Expr:
    return build.cast(build.load(rois, build.add(build.mul(roi, 5), k)), accumulator(ctx.dtype(0)))


def _bin(ctx: OpContext, rois: Buffer, roi: Expr, x_or_y: int, part: Expr, parts: Dim, extent: Dim) -> tuple[Expr, Expr]:
    """First element of a bin along an axis and the one after its last, inside the data."""
    scale = ctx.float_attr("spatial_scale", 1.0)
    start, end = (_half_up(build.mul(_corner(ctx, rois, roi, x_or_y + skip), scale)) for skip in (0, 2))
    pieces = build.index(parts)
    size = build.maximum(build.add(build.sub(end, start), 1), 1)
    low = build.floordiv(build.mul(part, size), pieces)
    high = build.ceildiv(build.mul(build.add(part, 1), size), pieces)
    low, high = (build.clamp(build.add(at, start), const(0), build.index(extent)) for at in (low, high))
    return low, high


def _half_up(x: Expr) -> Expr:
    """Rounded to the nearest integer, halves away from zero."""
    away = build.math_fn(MathFn.FLOOR, build.add(build.absolute(x), 0.5))
    return _whole(build.math_fn(MathFn.COPYSIGN, away, x))


_ALIGN_DEFAULTS: dict[str, Attribute] = {"mode": "avg", "coordinate_transformation_mode": "half_pixel", "spatial_scale": 1.0}

register(
    OpDef("RoiAlign", _align_type, Imperative(_align), ranks=(4, 2, 1), defaults=_ALIGN_DEFAULTS, adapt={16: _keep_old_coordinates}),
    OpDef("MaxRoiPool", _pool_type, Imperative(_pool), ranks=(4, 2), defaults={"spatial_scale": 1.0}),
)
