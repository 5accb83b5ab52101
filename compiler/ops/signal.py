"""DFT and STFT: axes, lengths and frames; `fourier.py` has the transform itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Dim, Expr
from .fourier import in_stages, roots
from .table import Nests, OpContext, OpDef, RawNode, Rewrite, RewriteBuilder, register

# --- DFT --------------------------------------------------------------------------------------


def _length(ctx: OpContext, extent: Dim) -> Dim:
    if ctx.has(1):
        return ctx.number(1)
    if ctx.int_attr("inverse") and ctx.int_attr("onesided"):
        return build.dim(build.mul(build.sub(build.index(extent), 1), 2))
    return extent


def _dft_axis(ctx: OpContext) -> int | None:
    """The axis; None if it is known only at run time."""
    axis = ctx.number(2) if ctx.has(2) else -2
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
    return in_stages(b, x, table, axis, inverse=ctx.int_attr("inverse"), onesided=ctx.int_attr("onesided"))


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


# --- An axis that is known only at run time -------------------------------------------------


def _swapped_axis(ctx: OpContext, position: int) -> Expr:
    """The axis counted from the front."""
    given = build.index(ctx.number(position))
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
    step = ctx.number(1)
    if ctx.has(3):
        return ctx.number(3), step
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
    return [in_stages(b, frames, table, 2, inverse=0, onesided=ctx.int_attr("onesided", 1))]


def _scalar(b: RewriteBuilder, known: Dim, value: Value) -> Value:
    return b.const(known) if isinstance(known, int) else b.op("Cast", value, to=7)


def _frame_values(ctx: OpContext, b: RewriteBuilder) -> tuple[Value, Value]:
    """Length and step as values."""
    if ctx.has(3):
        return ctx.value(3), ctx.value(1)
    window, axis = (ctx.value(2), 0) if ctx.has(2) else (ctx.value(0), 1)
    return b.op("Gather", b.op("Shape", window), b.const(axis), axis=0), ctx.value(1)


def _frames_type(ctx: OpContext) -> list[TensorType]:
    length, step = ctx.number(1), ctx.ints(2)[0]
    batch, samples = ctx.shape(0)[:2]
    if ctx.has(3):
        ctx.same_extent(ctx.shape(3)[0], length, "the lengths of the window and of a frame")
    count = _frames_within(samples, length, step)
    return [TensorType(ctx.dtype(0), (batch, count, length, ctx.shape(0)[2] if ctx.rank(0) == 3 else 1))]


def _frames(ctx: OpContext) -> list[Nest]:
    """`[batch, frame, sample, part]`, weighted with the window."""
    step = build.index(ctx.number(2))

    def element(n: Expr, frame: Expr, sample: Expr, part: Expr) -> Expr:
        at = (n, build.add(build.mul(frame, step), sample))
        x = ctx.read(0, *at, part) if ctx.rank(0) == 3 else ctx.read(0, *at)
        return build.mul(x, ctx.read(3, sample)) if ctx.has(3) else x

    return [pointwise(_frames_type(ctx)[0].shape, element)]


register(
    OpDef("DFT", _dft_type, Rewrite(_dft), adapt={20: _axis_to_input}),
    OpDef("STFT", _stft_type, Rewrite(_stft)),
    OpDef("Frames", _frames_type, Nests(_frames), "onnxc", doc="signal, length, step, window -> overlapping frames"),
    OpDef("SwapAxes", _swap_type, Nests(_swap), "onnxc", doc="tensor, axis -> the tensor with this axis and the last but one swapped"),
)
