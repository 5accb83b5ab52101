"""Reductions over axes: sums, products, extremes, norms and logarithms of sums.

Sums of narrow floats are kept in float32; means of integers in 64 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.nest import Combine, Nest, pointwise, reduction
from ..kernel.nodes import Expr, MathFn, Var
from .reduction_axes import known_axes, reduced_type, reduction_space
from .table import INTERNAL, Adapt, Nests, OpContext, OpDef, RawNode, Rewrite, RewriteBuilder, register
from .types import FLOATS, NUMERIC, ORDERED, check_dtype


def axes_to_input(node: RawNode) -> None:
    """Opset 13 (ReduceSum) and 18 (the others) made an input of the attribute `axes`."""
    axes = node.attrs.pop("axes", None)
    if axes is not None:
        node.inputs.append(node.constant(np.array(axes, np.int64)))


# --- The family -------------------------------------------------------------------------------


def _same(dtype: DType) -> DType:
    return dtype


def _accumulator(dtype: DType) -> DType:
    return DType.FLOAT32 if dtype.is_narrow_float else dtype


def _wide_accumulator(dtype: DType) -> DType:
    wide_int = DType.INT64 if dtype.is_signed else DType.UINT64
    return wide_int if dtype.is_int else _accumulator(dtype)


def _float_accumulator(dtype: DType) -> DType:
    return DType.FLOAT64 if dtype.is_int else _accumulator(dtype)


def _square(x: Expr) -> Expr:
    return build.mul(x, x)


def _absolute(x: Expr) -> Expr:
    return build.absolute(x) if x.dtype.is_signed else x


def _mean(total: Expr, count: Expr) -> Expr:
    return build.div(total, build.cast(count, total.dtype))


def _root(total: Expr, _: Expr) -> Expr:
    """Of an integer the truncated root, computed in float64."""
    return build.math_fn(MathFn.SQRT, build.cast(total, _float_accumulator(total.dtype)))


def _log(total: Expr, _: Expr) -> Expr:
    return build.math_fn(MathFn.LOG, total)


@dataclass(frozen=True, slots=True)
class _Reduction:
    """`finish(combine(term(x)), number of terms)`."""

    name: str
    combine: Combine
    accumulator: Callable[[DType], DType] = _accumulator
    term: Callable[[Expr], Expr] | None = None
    finish: Callable[[Expr, Expr], Expr] | None = None
    accepts: Collection[DType] = NUMERIC
    axes_since: int = 18
    domain: str = ""

    def row(self) -> OpDef:
        """The operator's row."""
        adapt: dict[int, Adapt] = {self.axes_since: axes_to_input}
        return OpDef(
            self.name, self.infer, Nests(self.nests), self.domain, defaults={"keepdims": 1, "noop_with_empty_axes": 0}, adapt=adapt
        )

    def infer(self, ctx: OpContext) -> list[TensorType]:
        """Type of the output."""
        check_dtype(ctx, 0, self.accepts)
        return [reduced_type(ctx)]

    def _term(self, x: Expr) -> Expr:
        x = build.cast(x, self.accumulator(x.dtype))
        return x if self.term is None else self.term(x)

    def _finish(self, total: Expr, count: Expr, dtype: DType) -> Expr:
        return build.cast(total if self.finish is None else self.finish(total, count), dtype)

    def nests(self, ctx: OpContext) -> list[Nest | None]:
        """The definition; without reduced axes only the elementwise steps remain."""
        dtype, space = ctx.dtype(0), reduction_space(ctx)
        count = build.index(build.product(space.extents))
        if not space.extents:
            return [pointwise(space.shape, lambda *i: self._finish(self._term(ctx.read(0, *i)), count, dtype))]

        def term(outer: tuple[Var, ...], inner: tuple[Var, ...]) -> Expr:
            return self._term(ctx.read(0, *space.operand(outer, inner)))

        def finish(total: Expr, _: tuple[Var, ...]) -> Expr:
            return self._finish(total, count, dtype)

        return [reduction(space.shape, space.extents, self.combine, term, finish)]


# --- The logarithm of a sum of exponentials ---------------------------------------------------


def _log_sum_exp(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    """`m + log(sum(exp(x - m)))` with the largest finite element m, so that nothing overflows."""
    axes, x = known_axes(ctx), ctx.value(0)
    if axes == ():
        return [x]
    if (wide := _float_accumulator(x.type.dtype)) is not x.type.dtype:
        x = b.op("Cast", x, to=wide)
    over = ctx.value(1) if axes is None else b.const(list(axes))
    largest = b.op("ReduceMax", x, over, keepdims=1)
    shift = b.op("Where", b.op("IsInf", largest), b.const(0.0, wide), largest)
    terms = b.op("Exp", b.op("Sub", x, shift))
    keepdims = ctx.int_attr("keepdims")
    total = b.op("ReduceSum", terms, over, keepdims=keepdims)
    if not keepdims:
        shift = b.op("ReduceMax", shift, over, keepdims=0) if axes is None else b.op("Squeeze", shift, over)
    result = b.op("Add", b.op("Log", total), shift)
    return [result if wide is ctx.dtype(0) else b.op("Cast", result, to=ctx.dtype(0))]


_LOG_SUM_EXP = _Reduction("ReduceLogSumExp", Combine.SUM)

register(
    _Reduction("ReduceSum", Combine.SUM, axes_since=13).row(),
    _Reduction("ReduceMean", Combine.SUM, _wide_accumulator, finish=_mean).row(),
    _Reduction("ReduceProd", Combine.PROD).row(),
    _Reduction("ReduceMax", Combine.MAX, _same, accepts=ORDERED).row(),
    _Reduction("ReduceLargest", Combine.LARGEST, _same, accepts=FLOATS, domain=INTERNAL).row(),
    _Reduction("ReduceMin", Combine.MIN, _same, accepts=ORDERED).row(),
    _Reduction("ReduceL1", Combine.SUM, term=_absolute).row(),
    _Reduction("ReduceL2", Combine.SUM, term=_square, finish=_root).row(),
    _Reduction("ReduceSumSquare", Combine.SUM, term=_square).row(),
    _Reduction("ReduceLogSum", Combine.SUM, _float_accumulator, finish=_log).row(),
    OpDef("ReduceLogSumExp", _LOG_SUM_EXP.infer, Rewrite(_log_sum_exp), defaults=_LOG_SUM_EXP.row().defaults, adapt={18: axes_to_input}),
)
