"""MaxUnpool and Col2Im: elements put back to where a window took them from."""

from __future__ import annotations

from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import const
from ..kernel.builder import KernelBuilder
from ..kernel.nest import Combine, Nest, reduction
from ..kernel.nodes import Dim, Expr, Var
from .extents import exact_quotient
from .padding import inside
from .pooling import accumulator
from .scatter import Buffers
from .spatial import pads_attr, reach, spatial_attr
from .table import Imperative, Nests, OpContext, OpDef, register

# --- MaxUnpool --------------------------------------------------------------------------------


def _natural_shape(ctx: OpContext) -> tuple[Dim, ...]:
    """The shape that the pooled tensor had, as far as the window tells; the indices refer to it."""
    data = ctx.shape(0)[2:]
    kernel, strides = ctx.ints_attr("kernel_shape"), spatial_attr(ctx, "strides", data, 1)
    if kernel is None or len(kernel) != len(data):
        ctx.fail("E0203", f"kernel_shape must have {len(data)} values, one for each spatial axis")
    before, after = pads_attr(ctx, len(data))
    spatial = [
        build.dim(build.add(build.mul(build.sub(build.index(d), 1), s), k - p - q))
        for d, s, k, p, q in zip(data, strides, kernel, before, after, strict=True)
    ]
    return (*ctx.shape(0)[:2], *spatial)


def _unpool_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), ctx.ints(2) if ctx.has(2) else _natural_shape(ctx))]


def _unpool(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    x, indices, out = inputs[0], inputs[1], outputs[0]
    assert x is not None and indices is not None and out is not None
    natural, shape = _natural_shape(ctx), _unpool_type(ctx)[0].shape
    with k.loop("i", out.size) as i:
        k.store(out, i, 0)
    with k.loop("i", x.size) as i, k.let(build.load(indices, i)) as flat:
        at = build.delinearize(flat, natural)
        fits = build.logical_and(build.ge(flat, 0), *(build.lt(a, build.index(d)) for a, d in zip(at, shape, strict=True)))
        with k.when(fits):
            k.store(out, build.linearize(at, shape), build.load(x, i))


# --- Col2Im -----------------------------------------------------------------------------------


def _col2im_type(ctx: OpContext) -> list[TensorType]:
    n, columns = ctx.shape(0)[:2]
    return [TensorType(ctx.dtype(0), (n, exact_quotient([columns], ctx.ints(2)), *ctx.ints(1)))]


def _col2im_nest(ctx: OpContext) -> list[Nest]:
    image, block = ctx.ints(1), ctx.ints(2)
    strides, dilations = spatial_attr(ctx, "strides", image, 1), spatial_attr(ctx, "dilations", image, 1)
    before, after = pads_attr(ctx, len(image))
    wide = accumulator(ctx.dtype(0))
    blocks = [_blocks(*row) for row in zip(image, block, strides, dilations, before, after, strict=True)]

    def term(at: tuple[Var, ...], taps: tuple[Var, ...]) -> Expr:
        """The element of the column that covers this pixel with this tap, if its block starts on the stride."""
        places, conditions = [], []
        for i, tap, s, d, p, n in zip(at[2:], taps, strides, dilations, before, blocks, strict=True):
            start = build.sub(build.add(i, p), build.mul(tap, d))
            place = build.floordiv(start, const(s))
            places.append(place)
            conditions += [build.eq(build.floormod(start, const(s)), 0), inside(place, build.dim(n))]
        row = build.add(build.mul(at[1], build.index(build.product(block))), build.linearize(taps, block))
        value = ctx.read(0, at[0], row, build.linearize(places, [build.dim(n) for n in blocks]))
        return build.select(build.logical_and(*conditions), build.cast(value, wide), const(0, wide))

    return [reduction(_col2im_type(ctx)[0].shape, block, Combine.SUM, term, lambda total, _: build.cast(total, ctx.dtype(0)))]


def _blocks(extent: Dim, taps: Dim, stride: int, dilation: int, before: int, after: int) -> Expr:
    """How many blocks fit along an axis."""
    room = build.sub(build.add(build.index(extent), before + after), reach(taps, dilation))
    return build.add(build.floordiv(room, const(stride)), 1)


register(
    OpDef("MaxUnpool", _unpool_type, Imperative(_unpool)),
    OpDef("Col2Im", _col2im_type, Nests(_col2im_nest), ranks=(3, 1, 1)),
)
