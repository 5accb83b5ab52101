"""CumSum and CumProd: running totals along one axis, as kernels that carry the total in a register.

Lines that lie side by side in memory go together, one in each lane of a vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import const
from ..kernel.builder import KernelBuilder
from ..kernel.nest import Combine
from ..kernel.nodes import Buffer, Const, Expr, LoopKind, Scope
from .pooling import accumulator
from .scatter import LANES, Buffers
from .shape import table_of
from .table import Imperative, OpContext, OpDef, register


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
        rows, count, inner = _line(ctx)
        wide = accumulator(ctx.dtype(0))

        def offset(row: Expr, step: Expr) -> Expr:
            at = build.sub(build.sub(count, 1), step) if ctx.int_attr("reverse") else step
            outer, rest = build.floordiv(row, inner), build.floormod(row, inner)
            return build.add(build.mul(build.add(build.mul(outer, count), at), inner), rest)

        def line(row: Expr) -> None:
            with k.local(wide, 1, "total", Scope.REGISTER) as total:
                run(row, total)

        def run(row: Expr, total: Buffer) -> None:
            k.store(total, 0, combine.identity(wide))
            with k.loop("i", build.dim(count)) as step, k.let(offset(row, step)) as at:
                joined = combine.apply(build.load(total, 0), build.cast(build.load(x, at), wide))
                if ctx.int_attr("exclusive"):
                    k.store(out, at, build.cast(build.load(total, 0), ctx.dtype(0)))
                    k.store(total, 0, joined)
                else:
                    k.store(total, 0, joined)
                    k.store(out, at, build.cast(build.load(total, 0), ctx.dtype(0)))

        lanes = math.gcd(inner.value, LANES) if isinstance(inner, Const) and isinstance(inner.value, int) else 1
        with k.loop("rows", build.dim(build.floordiv(rows, lanes)), LoopKind.PARALLEL) as block:
            if lanes == 1:
                line(block)
            else:
                with k.loop("l", lanes, LoopKind.VECTOR) as lane:
                    line(build.add(build.mul(block, lanes), lane))

    return kernel


def _type(ctx: OpContext) -> list[TensorType]:
    _line(ctx)
    return [TensorType(ctx.dtype(0), ctx.shape(0))]


register(
    OpDef("CumSum", _type, Imperative(_running(Combine.SUM)), defaults={"exclusive": 0, "reverse": 0}),
    OpDef("CumProd", _type, Imperative(_running(Combine.PROD)), defaults={"exclusive": 0, "reverse": 0}),
)
