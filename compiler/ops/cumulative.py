"""CumSum and CumProd: running totals along one axis, as kernels that carry the total in a register.

Lines that lie side by side in memory go together: each result is that of the step before, which was just written, and one more
element, so that memory is walked through from front to back.
"""

from __future__ import annotations

from collections.abc import Callable

from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import const
from ..kernel.builder import KernelBuilder
from ..kernel.nest import Combine
from ..kernel.nodes import Buffer, Const, Expr, LoopKind, Scope
from ..kernel.vector_loop import vector_loop
from .pooling import accumulator
from .scatter import LANES, Buffers
from .shape import table_of
from .table import Imperative, OpContext, OpDef, register

ABREAST = 512
"""Lines that go together: enough to fetch memory ahead, few enough to run in parallel."""


def _line(ctx: OpContext) -> tuple[Expr, Expr, Expr]:
    """(number of lines, elements in a line, distance of its elements); the axis may be known only at run time."""
    shape = ctx.shape(0)
    axis = 0 if len(shape) == 1 else ctx.number(1)
    if isinstance(axis, int):
        at: Expr = const(ctx.normal_axis(axis, len(shape)))
    else:
        inside = build.logical_and(build.ge(axis, -len(shape)), build.lt(axis, len(shape)))
        ctx.require(inside, f"the axis is out of range for rank {len(shape)}")
        at = build.select(build.lt(axis, 0), build.add(axis, len(shape)), axis)
    others = [build.product((*shape[:k], *shape[k + 1 :])) for k in range(len(shape))]
    inner = [build.product(shape[k + 1 :]) for k in range(len(shape))]
    return table_of(others, at), table_of(shape, at), table_of(inner, at)


def _running(combine: Combine) -> Callable[[OpContext, KernelBuilder, Buffers, Buffers], None]:
    def kernel(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
        x, out = inputs[0], outputs[0]
        assert x is not None and out is not None
        _, _, inner = lines = _line(ctx)
        is_side_by_side = isinstance(inner, Const) and inner is not const(1)
        emit = _side_by_side if is_side_by_side and accumulator(ctx.dtype(0)) is ctx.dtype(0) else _one_by_one
        emit(ctx, k, combine, x, out, lines)

    return kernel


def _step(ctx: OpContext, step: Expr, count: Expr) -> Expr:
    """Which element of its line a step is at."""
    return build.sub(build.sub(count, 1), step) if ctx.int_attr("reverse") else step


def _one_by_one(ctx: OpContext, k: KernelBuilder, combine: Combine, x: Buffer, out: Buffer, lines: tuple[Expr, Expr, Expr]) -> None:
    """Each line with its total in a register."""
    rows, count, inner = lines
    wide = accumulator(ctx.dtype(0))
    with k.loop("rows", build.dim(rows), LoopKind.PARALLEL) as row, k.local(wide, 1, "total", Scope.REGISTER) as total:
        k.store(total, 0, combine.identity(wide))
        first = build.add(build.mul(build.mul(build.floordiv(row, inner), count), inner), build.floormod(row, inner))
        with k.loop("i", build.dim(count)) as step, k.let(build.add(first, build.mul(_step(ctx, step, count), inner))) as at:
            joined = combine.apply(build.load(total, 0), build.cast(build.load(x, at), wide))
            if ctx.int_attr("exclusive"):
                k.store(out, at, build.cast(build.load(total, 0), ctx.dtype(0)))
                k.store(total, 0, joined)
            else:
                k.store(total, 0, joined)
                k.store(out, at, build.cast(build.load(total, 0), ctx.dtype(0)))


def _side_by_side(ctx: OpContext, k: KernelBuilder, combine: Combine, x: Buffer, out: Buffer, lines: tuple[Expr, Expr, Expr]) -> None:
    """Neighbouring lines step by step."""
    rows, count, inner = lines
    blocks = build.ceildiv(inner, ABREAST)
    with k.loop("block", build.dim(build.mul(build.floordiv(rows, inner), blocks)), LoopKind.PARALLEL) as block:
        start = build.mul(build.floormod(block, blocks), ABREAST)
        width = build.dim(build.minimum(build.sub(inner, start), ABREAST))
        first = build.add(build.mul(build.mul(build.floordiv(block, blocks), count), inner), start)

        def each(step: Expr, element: Callable[[Expr, Expr], Expr]) -> None:
            """Store the results of a step, from where they lie and where those of the step before do."""
            places = (build.add(first, build.mul(_step(ctx, at, count), inner)) for at in (step, build.sub(step, 1)))
            with k.let(next(places)) as now, k.let(next(places)) as before:

                def store(at: Expr) -> None:
                    k.store(out, build.add(now, at), element(build.add(now, at), build.add(before, at)))

                vector_loop(k, width, LANES, store)

        is_exclusive = bool(ctx.int_attr("exclusive"))
        with k.when(build.gt(count, 0)):
            each(const(0), lambda now, _: combine.identity(x.dtype) if is_exclusive else build.load(x, now))
        with k.loop("i", build.dim(build.maximum(build.sub(count, 1), 0))) as i:
            each(build.add(i, 1), lambda now, old: combine.apply(build.load(out, old), build.load(x, old if is_exclusive else now)))


def _type(ctx: OpContext) -> list[TensorType]:
    _line(ctx)
    return [TensorType(ctx.dtype(0), ctx.shape(0))]


register(
    OpDef("CumSum", _type, Imperative(_running(Combine.SUM)), defaults={"exclusive": 0, "reverse": 0}),
    OpDef("CumProd", _type, Imperative(_running(Combine.PROD)), defaults={"exclusive": 0, "reverse": 0}),
)
