"""CumSum and CumProd: running totals along one axis, as kernels that carry the total in a register."""

from __future__ import annotations

from collections.abc import Callable

from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.builder import KernelBuilder
from ..kernel.nest import Combine
from ..kernel.nodes import Expr, LoopKind, Scope
from .pooling import accumulator
from .scatter import Buffers
from .table import Imperative, OpContext, OpDef, register


def _axis(ctx: OpContext) -> int:
    if ctx.rank(0) == 1:
        return 0
    return ctx.normal_axis(ctx.static_ints(1, "the axis")[0], ctx.rank(0))


def _running(combine: Combine) -> Callable[[OpContext, KernelBuilder, Buffers, Buffers], None]:
    def kernel(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
        x, out = inputs[0], outputs[0]
        assert x is not None and out is not None
        axis, shape = _axis(ctx), ctx.shape(0)
        count, inner = build.index(shape[axis]), build.index(build.product(shape[axis + 1 :]))
        rows = build.product((*shape[:axis], *shape[axis + 1 :]))
        wide = accumulator(ctx.dtype(0))

        def offset(row: Expr, step: Expr) -> Expr:
            at = build.sub(build.sub(count, 1), step) if ctx.int_attr("reverse") else step
            outer, rest = build.floordiv(row, inner), build.floormod(row, inner)
            return build.add(build.mul(build.add(build.mul(outer, count), at), inner), rest)

        with k.loop("row", rows, LoopKind.PARALLEL) as row, k.local(wide, 1, "total", Scope.REGISTER) as total:
            k.store(total, 0, combine.identity(wide))
            with k.loop("i", shape[axis]) as step, k.let(offset(row, step)) as at:
                joined = combine.apply(build.load(total, 0), build.cast(build.load(x, at), wide))
                if ctx.int_attr("exclusive"):
                    k.store(out, at, build.cast(build.load(total, 0), ctx.dtype(0)))
                    k.store(total, 0, joined)
                else:
                    k.store(total, 0, joined)
                    k.store(out, at, build.cast(build.load(total, 0), ctx.dtype(0)))

    return kernel


def _type(ctx: OpContext) -> list[TensorType]:
    _axis(ctx)
    return [TensorType(ctx.dtype(0), ctx.shape(0))]


register(
    OpDef("CumSum", _type, Imperative(_running(Combine.SUM)), defaults={"exclusive": 0, "reverse": 0}),
    OpDef("CumProd", _type, Imperative(_running(Combine.PROD)), defaults={"exclusive": 0, "reverse": 0}),
)
