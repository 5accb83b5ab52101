"""Deformable convolution: every tap of every output position reads at an offset that another tensor holds.

    y[n, m, o...] = sum over (c, k...) of sample(x[n, c], o*s - p + k*d + offset[n, k, o...]) * mask * w[m, c, k...]

Two steps: the samples (linear interpolation, zero outside) as a tensor `[n, c, k..., o...]`, then the sum. See
J. Dai et al., Deformable Convolutional Networks, 2017, and X. Zhu et al. (with mask), 2018.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Dim, Expr
from .contraction import contract
from .convolution import biased, conv_extents, conv_type, wide_read
from .coordinates import F32, Real
from .interpolation import blend, linear_taps
from .padding import inside
from .table import Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register

_ATTRS = ("kernel_shape", "strides", "pads", "dilations", "group", "offset_group")


def _deform(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value]:
    attrs = {name: ctx.node.attrs[name] for name in _ATTRS if name in ctx.node.attrs}
    mask = ctx.value(4) if ctx.has(4) else None
    samples = b.op("onnxc::DeformedSamples", ctx.value(0), ctx.value(1), ctx.value(2), mask, **attrs)
    bias = ctx.value(3) if ctx.has(3) else None
    return [b.op("onnxc::DeformedSum", samples, ctx.value(1), bias, group=ctx.int_attr("group", 1))]


# --- Samples ----------------------------------------------------------------------------------


def _samples_type(ctx: OpContext) -> list[TensorType]:
    conv = conv_extents(ctx)
    groups, count = ctx.int_attr("offset_group", 1), build.product(conv.window.kernel)
    if groups < 1 or (isinstance(conv.channels, int) and conv.channels % groups):
        ctx.fail("E0203", f"offset_group {groups} does not divide {conv.channels} channels")
    for position, name, per_tap in ((2, "offsets", len(conv.window.kernel)), (3, "mask", 1)):
        if ctx.has(position):
            _check_fits(ctx, position, name, (conv.batch, build.product((groups, count, per_tap)), *conv.window.output))
    return [TensorType(ctx.dtype(0), (conv.batch, conv.channels, *conv.window.kernel, *conv.window.output))]


def _check_fits(ctx: OpContext, position: int, name: str, wanted: tuple[Dim, ...]) -> None:
    if ctx.rank(position) != len(wanted):
        ctx.fail("E0203", f"the {name} have rank {ctx.rank(position)}, {len(wanted)} is needed")
    for axis, (found, extent) in enumerate(zip(ctx.shape(position), wanted, strict=True)):
        ctx.same_extent(found, extent, f"axis {axis} of the {name} and what the window wants")


def _samples(ctx: OpContext) -> list[Nest]:
    conv, (kind,) = conv_extents(ctx), _samples_type(ctx)
    win, spatial = conv.window, len(conv.window.kernel)
    wide = DType.FLOAT64 if kind.dtype is DType.FLOAT64 else F32
    per_group = build.floordiv(build.index(conv.channels), ctx.int_attr("offset_group", 1))

    def element(n: Expr, c: Expr, *rest: Expr) -> Expr:
        taps, at = rest[:spatial], rest[spatial:]
        group = build.floordiv(c, per_group)
        tap = build.linearize((group, *taps), (ctx.int_attr("offset_group", 1), *win.kernel))

        def coordinate(axis: int, start: Expr) -> Expr:
            offset = ctx.read(2, n, build.add(build.mul(tap, spatial), axis), *at)
            return build.add(build.cast(start, F32), build.cast(offset, F32))

        def read(chosen: tuple[Expr, ...]) -> Expr:
            is_inside = build.logical_and(*(inside(i, d) for i, d in zip(chosen, win.data, strict=True)))
            return build.select(is_inside, build.cast(ctx.read(0, n, c, *chosen), wide), const(0, wide))

        places = [linear_taps(Real(coordinate(axis, start))) for axis, start in enumerate(win.positions(at, taps))]
        value = blend(places, read)
        if ctx.has(3):
            value = build.mul(value, build.cast(ctx.read(3, n, tap, *at), wide))
        return build.cast(value, kind.dtype)

    return [pointwise(kind.shape, element)]


# --- The sum ----------------------------------------------------------------------------------


def _sum_type(ctx: OpContext) -> list[TensorType]:
    spatial = ctx.rank(1) - 2
    return [TensorType(ctx.dtype(0), (ctx.shape(0)[0], ctx.shape(1)[0], *ctx.shape(0)[2 + spatial :]))]


def _sum(ctx: OpContext) -> list[Nest]:
    group, weight, (kind,) = ctx.int_attr("group", 1), ctx.shape(1), _sum_type(ctx)
    samples, factors = wide_read(ctx, 0), wide_read(ctx, 1)
    filters = build.floordiv(build.index(weight[0]), group)

    def term(axes: tuple[Expr, ...], taps: tuple[Expr, ...]) -> Expr:
        n, m, *at = axes
        first = const(0) if group == 1 else build.mul(build.floordiv(m, filters), build.index(weight[1]))
        return build.mul(samples((n, build.add(first, taps[0]), *taps[1:], *at)), factors((m, *taps)))

    return [contract(kind.shape, weight[1:], term, biased(ctx))]


register(
    OpDef("DeformConv", conv_type, Rewrite(_deform)),
    OpDef("DeformedSamples", _samples_type, Nests(_samples), "onnxc", doc="data, weight (for its shape), offsets, mask -> samples by tap"),
    OpDef("DeformedSum", _sum_type, Nests(_sum), "onnxc", doc="samples by tap, weight, bias -> their products summed"),
)
