"""DFT and STFT.

A transform is a sum over a table of the roots of unity: `X[k] = sum over n of x[n] * w[(k * n) mod N]`. The
table is a constant if the length is known; the product `k * n` is reduced exactly, in integers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Dim, Expr, MathFn
from .contraction import accumulator, contract
from .table import Nests, OpContext, OpDef, RawNode, Rewrite, RewriteBuilder, register

# --- The sum ----------------------------------------------------------------------------------


def _transform_type(ctx: OpContext) -> list[TensorType]:
    axis, shape = ctx.int_attr("axis"), ctx.shape(0)
    length = ctx.shape(1)[0]
    half = build.dim(build.add(build.floordiv(build.index(length), 2), 1))
    to_real = ctx.int_attr("inverse") and ctx.int_attr("onesided")
    count = half if ctx.int_attr("onesided") and not to_real else length
    return [TensorType(ctx.dtype(0), (*shape[:axis], count, *shape[axis + 1 : -1], 1 if to_real else 2))]


def _transform(ctx: OpContext) -> list[Nest]:
    """Forward or inverse transform along an axis of `[..., 1 or 2]` (real, or real and imaginary parts)."""
    axis, dtype, wide = ctx.int_attr("axis"), ctx.dtype(0), accumulator(ctx.dtype(0))
    length, given, (kind,) = ctx.shape(1)[0], ctx.shape(0)[axis], _transform_type(ctx)
    inverse, mirrored = bool(ctx.int_attr("inverse")), bool(ctx.int_attr("inverse") and ctx.int_attr("onesided"))

    def part(axes: tuple[Expr, ...], n: Expr, which: int) -> Expr:
        """Real or imaginary part of sample `n`; 0 beyond the end; by symmetry for the half that is not stored."""
        at = n
        mirror: Expr = build.FALSE
        if mirrored:
            half = build.floordiv(build.index(length), 2)
            mirror = build.gt(n, half)
            at = build.select(mirror, build.sub(build.index(length), n), n)
        x = build.cast(ctx.read(0, *axes[:axis], at, *axes[axis + 1 : -1], const(which)), wide)
        if mirrored and which == 1:
            is_own = build.logical_or(build.eq(n, 0), build.eq(build.mul(n, 2), build.index(length)))
            x = build.select(is_own, const(0, wide), build.select(mirror, build.neg(x), x))
        if isinstance(length, int) and isinstance(given, int) and given >= (length // 2 + 1 if mirrored else length):
            return x
        return build.select(build.lt(at, build.index(given)), x, const(0, wide))

    def term(axes: tuple[Expr, ...], taps: tuple[Expr, ...]) -> Expr:
        (n,) = taps
        turn = build.floormod(build.mul(axes[axis], n), build.index(length))
        cosine, sine = (build.cast(ctx.read(1, turn, const(i)), wide) for i in range(2))
        if inverse:
            sine = build.neg(sine)
        real = part(axes, n, 0)
        if ctx.shape(0)[-1] == 1:
            return build.mul(real, build.select(build.eq(axes[-1], 0), cosine, build.neg(sine)))
        imaginary = part(axes, n, 1)
        of_real = build.add(build.mul(real, cosine), build.mul(imaginary, sine))
        if kind.shape[-1] == 1:
            return of_real
        of_imaginary = build.sub(build.mul(imaginary, cosine), build.mul(real, sine))
        return build.select(build.eq(axes[-1], 0), of_real, of_imaginary)

    def finish(acc: Expr, axes: tuple[Expr, ...]) -> Expr:
        return build.cast(build.div(acc, build.cast(build.index(length), wide)) if inverse else acc, dtype)

    return [contract(kind.shape, (length,), term, finish)]


def _roots_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.FLOAT32, (ctx.ints(0)[0], 2))]


def _roots(ctx: OpContext) -> list[Nest]:
    """Cosine and sine of `2 pi k / N` for a length that is known when the model runs.

    The angle is reduced to an eighth of a turn in integers, so that zeros and ones are exact.
    """
    (length,) = ctx.ints(0)
    whole = build.index(length)

    def element(k: Expr, which: Expr) -> Expr:
        quarter = build.floordiv(build.add(build.mul(k, 8), whole), build.mul(whole, 2))  # the nearest one
        rest = build.sub(build.mul(k, 4), build.mul(quarter, whole))
        share = build.div(build.cast(rest, DType.FLOAT64), build.cast(whole, DType.FLOAT64))
        angle = build.cast(build.mul(share, math.pi / 2), DType.FLOAT32)
        turned = build.floormod(build.sub(quarter, which), 4)  # sin(x) == cos(x - pi / 2)
        is_odd = build.eq(build.floormod(turned, 2), 1)
        value = build.select(is_odd, build.math_fn(MathFn.SIN, angle), build.math_fn(MathFn.COS, angle))
        is_negative = build.logical_or(build.eq(turned, 1), build.eq(turned, 2))
        return build.select(is_negative, build.neg(value), value)

    return [pointwise((length, 2), element)]


def roots(b: RewriteBuilder, length: Dim, given: Value | None, dtype: DType) -> Value:
    """The table of cosines and sines for a length that is an extent, or the content of `given`."""
    if isinstance(length, int):
        angles = 2 * np.pi * np.arange(length) / max(length, 1)
        return b.const(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(accumulator(dtype).numpy))
    assert given is not None
    return b.op("onnxc::Roots", given)


# --- DFT --------------------------------------------------------------------------------------


def _length(ctx: OpContext, extent: Dim) -> Dim:
    if ctx.has(1):
        return ctx.ints(1)[0]
    if ctx.int_attr("inverse") and ctx.int_attr("onesided"):
        return build.dim(build.mul(build.sub(build.index(extent), 1), 2))
    return extent


def _dft_axis(ctx: OpContext) -> int | None:
    """The axis; None if it is known only while running."""
    axis = ctx.ints(2)[0] if ctx.has(2) else -2
    return ctx.normal_axis(axis, ctx.rank(0)) if isinstance(axis, int) else None


def _dft_type(ctx: OpContext) -> list[TensorType]:
    axis = _dft_axis(ctx)
    if axis is not None:
        return [_transformed_type(ctx, axis, ctx.shape(0))]
    which = _swapped_axis(ctx, 2)
    turned = _transformed_type(ctx, ctx.rank(0) - 2, _swapped(ctx.shape(0), which))
    return [TensorType(turned.dtype, _swapped(turned.shape, which))]


def _transformed_type(ctx: OpContext, axis: int, shape: tuple[Dim, ...]) -> TensorType:
    length = _length(ctx, shape[axis])
    to_real = ctx.int_attr("inverse") and ctx.int_attr("onesided")
    half = build.dim(build.add(build.floordiv(build.index(length), 2), 1))
    count = half if ctx.int_attr("onesided") and not to_real else length
    return TensorType(ctx.dtype(0), (*shape[:axis], count, *shape[axis + 1 : -1], 1 if to_real else 2))


def _dft(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    axis, x = _dft_axis(ctx), ctx.value(0)
    if axis is None:  # bring the axis to a place that is known, and back
        x, axis = b.op("onnxc::SwapAxes", x, ctx.value(2)), ctx.rank(0) - 2
        return [b.op("onnxc::SwapAxes", _transformed(ctx, b, x, axis), ctx.value(2))]
    return [_transformed(ctx, b, x, axis)]


def _transformed(ctx: OpContext, b: RewriteBuilder, x: Value, axis: int) -> Value:
    length = _length(ctx, x.type.shape[axis])
    table = roots(b, length, None if isinstance(length, int) else _length_value(ctx, b, x, axis), ctx.dtype(0))
    return b.op("onnxc::Transform", x, table, axis=axis, inverse=ctx.int_attr("inverse"), onesided=ctx.int_attr("onesided"))


def _length_value(ctx: OpContext, b: RewriteBuilder, x: Value, axis: int) -> Value:
    """The length as a value, for tables that are made when the model runs."""
    if ctx.has(1):
        return ctx.value(1)
    extent = b.op("Gather", b.op("Shape", x), b.const(axis), axis=0)
    if ctx.int_attr("inverse") and ctx.int_attr("onesided"):
        return b.op("Mul", b.op("Sub", extent, b.const(1)), b.const(2))
    return extent


def _axis_to_input(node: RawNode) -> None:
    """Before opset 20, the axis was an attribute with the default 1."""
    axis = node.attrs.pop("axis", 1)
    node.inputs += [""] * (2 - len(node.inputs))
    node.inputs.append(node.constant(np.array(axis, np.int64)))


# --- An axis that is known only while running -------------------------------------------------


def _swapped_axis(ctx: OpContext, position: int) -> Expr:
    """The axis counted from the front."""
    given = build.index(ctx.ints(position)[0])
    return build.select(build.lt(given, 0), build.add(given, ctx.rank(0)), given)


def _swapped(items: Sequence[Dim], axis: Expr) -> tuple[Dim, ...]:
    """A shape or indices with the item at `axis` and the last but one in each other's place."""
    *others, last = items[:-1]
    chosen = build.index(last)
    for k, item in enumerate(others):
        chosen = build.select(build.eq(axis, k), build.index(item), chosen)
    moved = [build.dim(build.select(build.eq(axis, k), build.index(last), build.index(item))) for k, item in enumerate(others)]
    return (*moved, build.dim(chosen), items[-1])


def _swap_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), _swapped(ctx.shape(0), _swapped_axis(ctx, 1)))]


def _swap(ctx: OpContext) -> list[Nest]:
    axis = _swapped_axis(ctx, 1)
    return [pointwise(_swap_type(ctx)[0].shape, lambda *at: ctx.read(0, *map(build.index, _swapped(at, axis))))]


# --- STFT -------------------------------------------------------------------------------------


def _frame(ctx: OpContext) -> tuple[Dim, Dim]:
    """Length of a frame and distance of frames."""
    (step,) = ctx.ints(1)
    if ctx.has(3):
        return ctx.ints(3)[0], step
    return (ctx.shape(2)[0] if ctx.has(2) else ctx.shape(0)[1]), step


def _frame_count(ctx: OpContext) -> Dim:
    return _frames_within(ctx.shape(0)[1], *_frame(ctx))


def _frames_within(samples: Dim, length: Dim, step: Dim) -> Dim:
    rest = build.sub(build.index(samples), build.index(length))
    return build.dim(build.add(build.floordiv(rest, build.index(step)), 1))


def _stft_type(ctx: OpContext) -> list[TensorType]:
    length, _ = _frame(ctx)
    half = build.dim(build.add(build.floordiv(build.index(length), 2), 1))
    return [TensorType(ctx.dtype(0), (ctx.shape(0)[0], _frame_count(ctx), half if ctx.int_attr("onesided", 1) else length, 2))]


def _stft(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value]:
    length, step = (_scalar(b, *pair) for pair in zip(_frame(ctx), _frame_values(ctx, b), strict=True))
    frames = b.op("onnxc::Frames", ctx.value(0), length, step, ctx.value(2) if ctx.has(2) else None)
    table = roots(b, _frame(ctx)[0], length, ctx.dtype(0))
    return [b.op("onnxc::Transform", frames, table, axis=2, inverse=0, onesided=ctx.int_attr("onesided", 1))]


def _scalar(b: RewriteBuilder, known: Dim, value: Value) -> Value:
    return b.const(known) if isinstance(known, int) else b.op("Cast", value, to=7)


def _frame_values(ctx: OpContext, b: RewriteBuilder) -> tuple[Value, Value]:
    """Length and step as values."""
    if ctx.has(3):
        return ctx.value(3), ctx.value(1)
    window, axis = (ctx.value(2), 0) if ctx.has(2) else (ctx.value(0), 1)
    return b.op("Gather", b.op("Shape", window), b.const(axis), axis=0), ctx.value(1)


def _frames_type(ctx: OpContext) -> list[TensorType]:
    length, step = ctx.ints(1)[0], ctx.ints(2)[0]
    batch, samples = ctx.shape(0)[:2]
    count = _frames_within(samples, length, step)
    return [TensorType(ctx.dtype(0), (batch, count, length, ctx.shape(0)[2] if ctx.rank(0) == 3 else 1))]


def _frames(ctx: OpContext) -> list[Nest]:
    """`[batch, frame, sample, part]`, weighted with the window."""
    step = build.index(ctx.ints(2)[0])

    def element(n: Expr, frame: Expr, sample: Expr, part: Expr) -> Expr:
        at = (n, build.add(build.mul(frame, step), sample))
        x = ctx.read(0, *at, part) if ctx.rank(0) == 3 else ctx.read(0, *at)
        return build.mul(x, ctx.read(3, sample)) if ctx.has(3) else x

    return [pointwise(_frames_type(ctx)[0].shape, element)]


register(
    OpDef("DFT", _dft_type, Rewrite(_dft), adapt={20: _axis_to_input}),
    OpDef("STFT", _stft_type, Rewrite(_stft)),
    OpDef("Transform", _transform_type, Nests(_transform), "onnxc", doc="signal, roots of unity -> its discrete Fourier transform"),
    OpDef("Roots", _roots_type, Nests(_roots), "onnxc", doc="length -> cosines and sines of its fractions of a turn"),
    OpDef("Frames", _frames_type, Nests(_frames), "onnxc", doc="signal, length, step, window -> overlapping frames"),
    OpDef("SwapAxes", _swap_type, Nests(_swap), "onnxc", doc="tensor, axis -> the tensor with this axis and the last but one swapped"),
)
