"""Integer contractions: products of 8-bit tensors summed in int32, with requantization in `finish`."""

from __future__ import annotations

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.nest import Nest
from ..kernel.nodes import Dim, Expr
from .contraction import Product, Term, contract, matmul_product, matmul_shape
from .convolution import Element, conv_extents, conv_nest
from .elementwise import broadcast_indices
from .requantize import centered, multiplier, per_channel, quantized
from .table import Nests, OpContext, OpDef, register

# --- MatMulInteger, QLinearMatMul -------------------------------------------------------------


def parameter_at(ctx: OpContext, position: int, at: tuple[Expr, ...], channel: Expr, shape: tuple[Dim, ...]) -> Expr | None:
    """Element of a scale or zero point of a matrix: scalar, one for each `channel`, or broadcast to `shape`."""
    if not ctx.has(position):
        return None
    if ctx.rank(position) < 2:
        return per_channel(ctx, position, channel)
    return ctx.read(position, *broadcast_indices(at, ctx.shape(position), shape))


def centered_term(ctx: OpContext, maps: Product, a: int, a_zero: int, b: int, b_zero: int) -> Term:
    """The product of centred integers."""

    def term(axes: tuple[Expr, ...], taps: tuple[Expr, ...]) -> Expr:
        left, right = maps.left_at(axes, taps[0]), maps.right_at(axes, taps[0])
        a_zero_point = parameter_at(ctx, a_zero, left, maps.row(axes), maps.left)
        b_zero_point = parameter_at(ctx, b_zero, right, maps.column(axes), maps.right)
        x = centered(ctx, ctx.read(a, *left), a_zero, a_zero_point)
        return build.mul(x, centered(ctx, ctx.read(b, *right), b_zero, b_zero_point))

    return term


def _matmul_integer(ctx: OpContext) -> list[Nest]:
    maps = matmul_product(ctx)
    return [contract(maps.shape, (maps.depth,), centered_term(ctx, maps, 0, 2, 1, 3))]


def _qlinear_matmul(ctx: OpContext) -> list[Nest]:
    maps = matmul_product(ctx, 0, 3)

    def finish(acc: Expr, axes: tuple[Expr, ...]) -> Expr:
        def parameter(position: int, channel: Expr) -> Expr:
            found = parameter_at(ctx, position, axes, channel, maps.shape)
            return found if found is not None else build.const(0, ctx.dtype(0))

        row, column = maps.row(axes), maps.column(axes)
        factor = multiplier(parameter(1, row), parameter(4, column), parameter(6, row))
        return quantized(build.mul(build.cast(acc, DType.FLOAT32), factor), parameter(7, row), ctx.dtype(7))

    return [contract(maps.shape, (maps.depth,), centered_term(ctx, maps, 0, 2, 3, 5), finish)]


# --- ConvInteger, QLinearConv -----------------------------------------------------------------


def _integer_conv_elements(ctx: OpContext, x: int, x_zero: int, w: int, w_zero: int) -> tuple[Element, Element]:
    """Readers of centred data and weight for `conv_nest`."""

    def data(at: tuple[Expr, ...]) -> Expr:
        zero = per_channel(ctx, x_zero, build.const(0)) if ctx.has(x_zero) else None
        return centered(ctx, ctx.read(x, *at), x_zero, zero)

    def weight(at: tuple[Expr, ...]) -> Expr:
        zero = per_channel(ctx, w_zero, at[0]) if ctx.has(w_zero) else None
        return centered(ctx, ctx.read(w, *at), w_zero, zero)

    return data, weight


def _conv_integer(ctx: OpContext) -> list[Nest]:
    return [conv_nest(conv_extents(ctx), *_integer_conv_elements(ctx, 0, 2, 1, 3), None)]


def _qlinear_conv(ctx: OpContext) -> list[Nest]:
    def finish(acc: Expr, axes: tuple[Expr, ...]) -> Expr:
        channel = axes[1]
        if ctx.has(8):
            acc = build.add(acc, ctx.read(8, channel))
        factor = multiplier(per_channel(ctx, 1, build.const(0)), per_channel(ctx, 4, channel), per_channel(ctx, 6, build.const(0)))
        units = build.mul(build.cast(acc, DType.FLOAT32), factor)
        return quantized(units, per_channel(ctx, 7, build.const(0)), ctx.dtype(7))

    return [conv_nest(conv_extents(ctx, 0, 3), *_integer_conv_elements(ctx, 0, 2, 3, 5), finish)]


register(
    OpDef("MatMulInteger", lambda ctx: [TensorType(DType.INT32, matmul_shape(ctx))], Nests(_matmul_integer)),
    OpDef("QLinearMatMul", lambda ctx: [TensorType(ctx.dtype(7), matmul_shape(ctx, 0, 3))], Nests(_qlinear_matmul)),
    OpDef("ConvInteger", lambda ctx: [TensorType(DType.INT32, conv_extents(ctx).shape)], Nests(_conv_integer)),
    OpDef("QLinearConv", lambda ctx: [TensorType(ctx.dtype(7), conv_extents(ctx, 0, 3).shape)], Nests(_qlinear_conv)),
)
