"""Det and Inverse by Gaussian elimination with partial pivoting, and TensorScatter."""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import const, load
from ..kernel.builder import KernelBuilder
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Buffer, Expr, LoopKind
from .contraction import accumulator
from .table import Imperative, Nests, OpContext, OpDef, register


def _order(ctx: OpContext) -> int:
    """Extent of the square matrices; E0203 if they are not square, E0204 if it is not known."""
    if ctx.rank(0) < 2:
        ctx.fail("E0203", "the last two axes must hold square matrices")
    order = ctx.same_extent(ctx.shape(0)[-2], ctx.shape(0)[-1], "rows and columns of square matrices")
    if not isinstance(order, int):
        ctx.fail("E0204", "the extent of the matrices must be known when compiling")
    return order


def _pivot(k: KernelBuilder, work: Buffer, width: int, order: int, column: Expr, best: Buffer) -> None:
    """Put the row with the largest element of a column to its place; `best[0]` is the row it came from."""

    def element(row: Expr) -> Expr:
        return build.absolute(load(work, build.add(build.mul(row, width), column)))

    k.store(best, 0, column)
    with k.loop("r", order) as r, k.when(build.logical_and(build.gt(r, column), build.gt(element(r), element(load(best, 0))))):
        k.store(best, 0, r)
    with k.when(build.ne(load(best, 0), column)), k.loop("c", width) as c:
        upper, lower = build.add(build.mul(column, width), c), build.add(build.mul(load(best, 0), width), c)
        with k.let(load(work, upper)) as kept:
            k.store(work, upper, load(work, lower))
            k.store(work, lower, kept)


def _clear(k: KernelBuilder, work: Buffer, width: int, row: Expr, column: Expr) -> None:
    """Subtract from a row what makes its element of the column zero."""
    pivot = load(work, build.add(build.mul(column, width), column))
    with k.let(build.div(load(work, build.add(build.mul(row, width), column)), pivot)) as factor, k.loop("c", width) as c:
        at = build.add(build.mul(row, width), c)
        k.store(work, at, build.sub(load(work, at), build.mul(factor, load(work, build.add(build.mul(column, width), c)))))


def _det_type(ctx: OpContext) -> list[TensorType]:
    _order(ctx)
    return [TensorType(ctx.dtype(0), ctx.shape(0)[:-2])]


def _det(ctx: OpContext, k: KernelBuilder, inputs: Sequence[Buffer | None], outputs: Sequence[Buffer | None]) -> None:
    order, wide, (source, target) = _order(ctx), accumulator(ctx.dtype(0)), (inputs[0], outputs[0])
    assert source is not None and target is not None
    with (
        k.loop("n", build.product(ctx.shape(0)[:-2]), LoopKind.PARALLEL) as n,
        k.local(wide, max(order * order, 1)) as work,
        k.local(DType.INT64, 1) as best,
        k.local(wide, 1) as det,
    ):
        with k.loop("i", order * order) as i:
            k.store(work, i, build.cast(load(source, build.add(build.mul(n, order * order), i)), wide))
        k.store(det, 0, 1)
        with k.loop("p", order) as p:
            _pivot(k, work, order, order, p, best)
            with k.when(build.ne(load(best, 0), p)):
                k.store(det, 0, build.neg(load(det, 0)))
            diagonal = load(work, build.mul(p, order + 1))
            k.store(det, 0, build.mul(load(det, 0), diagonal))
            with k.when(build.ne(diagonal, 0.0)), k.loop("r", order) as r, k.when(build.gt(r, p)):
                _clear(k, work, order, r, p)
        k.store(target, n, build.cast(load(det, 0), target.dtype))


def _inverse_type(ctx: OpContext) -> list[TensorType]:
    _order(ctx)
    return [TensorType(ctx.dtype(0), ctx.shape(0))]


def _inverse(ctx: OpContext, k: KernelBuilder, inputs: Sequence[Buffer | None], outputs: Sequence[Buffer | None]) -> None:
    """Gauss-Jordan elimination of the matrix with the unit matrix beside it; a singular one gives NaN or infinity."""
    order, wide, (source, target) = _order(ctx), accumulator(ctx.dtype(0)), (inputs[0], outputs[0])
    assert source is not None and target is not None
    width = 2 * order
    with (
        k.loop("n", build.product(ctx.shape(0)[:-2]), LoopKind.PARALLEL) as n,
        k.local(wide, max(order * width, 1)) as work,
        k.local(DType.INT64, 1) as best,
    ):
        first = build.mul(n, order * order)
        with k.loops((order, order)) as (r, c):
            k.store(
                work, build.add(build.mul(r, width), c), build.cast(load(source, build.add(first, build.add(build.mul(r, order), c))), wide)
            )
            k.store(work, build.add(build.mul(r, width), build.add(c, order)), build.select(build.eq(r, c), const(1, wide), const(0, wide)))
        with k.loop("p", order) as p:
            _pivot(k, work, width, order, p, best)
            with k.loop("r", order) as r, k.when(build.ne(r, p)):
                _clear(k, work, width, r, p)
        with k.loops((order, order)) as (r, c):
            value = build.div(load(work, build.add(build.mul(r, width), build.add(c, order))), load(work, build.mul(r, width + 1)))
            k.store(target, build.add(first, build.add(build.mul(r, order), c)), build.cast(value, target.dtype))


def _tensor_scatter(ctx: OpContext) -> list[Nest]:
    """Rows of the update from `write_indices[batch]` on, those of the past elsewhere."""
    axis, shape, update = ctx.axis_attr("axis", -2), ctx.shape(0), ctx.shape(1)
    if axis == 0:
        ctx.fail("E0203", "TensorScatter cannot write along the batch axis")
    mode = ctx.str_attr("mode", "linear")

    def element(*axes: Expr) -> Expr:
        start = build.cast(ctx.read(2, axes[0]), DType.INT64) if ctx.has(2) else const(0)
        offset = build.sub(axes[axis], start)
        if mode == "circular":
            offset = build.floormod(offset, build.index(shape[axis]))
        is_new = build.logical_and(build.ge(offset, 0), build.lt(offset, build.index(update[axis])))
        return build.select(is_new, ctx.read(1, *axes[:axis], offset, *axes[axis + 1 :]), ctx.read(0, *axes))

    return [pointwise(shape, element)]


register(
    OpDef("Det", _det_type, Imperative(_det)),
    OpDef("Inverse", _inverse_type, Imperative(_inverse), "com.microsoft"),
    OpDef("TensorScatter", lambda ctx: [TensorType(ctx.dtype(0), ctx.shape(0))], Nests(_tensor_scatter)),
)
