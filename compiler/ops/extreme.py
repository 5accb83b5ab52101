"""ArgMax and ArgMin: the extreme by a reduction, then the first (or last) index where it stands by another.

Two reductions vectorize and run in parallel where one loop that carries a pair does not. The second is
the internal operator `IndexOf`; `MarkAt` is its inverse and serves Hardmax. NaN counts as the extreme,
as in numpy.
"""

from __future__ import annotations

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Combine, Nest, pointwise, reduction
from ..kernel.nodes import Expr, MathFn, Var
from .reduction_axes import operand_indices, reduced_shape
from .table import INTERNAL, Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register
from .types import NUMERIC, check_dtype


def _arg_extreme(reduce_op: str) -> Rewrite:
    def rewrite(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
        x, axes = ctx.value(0), _argument_axes(ctx)
        extreme = b.op(reduce_op, x, b.const(list(axes), DType.INT64), keepdims=1)
        last, keepdims = ctx.int_attr("select_last_index"), ctx.int_attr("keepdims")
        return [b.op("onnxc::IndexOf", x, extreme, axes=axes, keepdims=keepdims, last=last)]

    return Rewrite(rewrite)


def _argument_axes(ctx: OpContext) -> tuple[int, ...]:
    return (ctx.axis_attr("axis"),) if ctx.rank() else ()


def _argument_infer(ctx: OpContext) -> list[TensorType]:
    check_dtype(ctx, 0, NUMERIC)
    return [TensorType(DType.INT64, reduced_shape(ctx.shape(), _argument_axes(ctx), ctx.int_attr("keepdims") != 0))]


# --- The internal operators -------------------------------------------------------------------


def _axes(ctx: OpContext) -> tuple[int, ...]:
    return tuple(ctx.ints_attr("axes") or ())


def _index_infer(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.INT64, reduced_shape(ctx.shape(), _axes(ctx), ctx.int_attr("keepdims") != 0))]


def _index_of(ctx: OpContext) -> list[Nest | None]:
    """Row-major index in `axes` of the first (`last`: last) element that equals input 1."""
    axes, keepdims, last = _axes(ctx), ctx.int_attr("keepdims") != 0, ctx.int_attr("last") != 0
    shape = _index_infer(ctx)[0].shape
    extents = tuple(ctx.shape()[axis] for axis in axes)
    nowhere = const(-1) if last else build.index(build.product(extents))

    def term(outer: tuple[Var, ...], inner: tuple[Var, ...]) -> Expr:
        at = operand_indices(ctx.rank(), axes, keepdims, outer, inner)
        x = ctx.read(0, *at)
        extreme = ctx.read(1, *(const(0) if axis in axes else i for axis, i in enumerate(at)))
        found = build.eq(x, extreme)
        if x.dtype.is_float:
            found = build.logical_or(found, build.math_fn(MathFn.ISNAN, x))
        return build.select(found, build.linearize(inner, extents), nowhere)

    return [reduction(shape, extents, Combine.MAX if last else Combine.MIN, term)]


def _mark_infer(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), ctx.shape())]


def _mark_at(ctx: OpContext) -> list[Nest | None]:
    """One where the row-major index in `axes` equals input 1, else zero; input 0 gives type and shape."""
    axes = _axes(ctx)
    extents = tuple(ctx.shape()[axis] for axis in axes)

    def element(*i: Expr) -> Expr:
        here = build.linearize([i[axis] for axis in axes], extents)
        marked = ctx.read(1, *(const(0) if axis in axes else at for axis, at in enumerate(i)))
        return build.select(build.eq(here, marked), const(1, ctx.dtype(0)), const(0, ctx.dtype(0)))

    return [pointwise(ctx.shape(), element)]


_DEFAULTS = {"axis": 0, "keepdims": 1, "select_last_index": 0}

register(
    OpDef("ArgMax", _argument_infer, _arg_extreme("ReduceMax"), defaults=_DEFAULTS),
    OpDef("ArgMin", _argument_infer, _arg_extreme("ReduceMin"), defaults=_DEFAULTS),
    OpDef("IndexOf", _index_infer, Nests(_index_of), INTERNAL),
    OpDef("MarkAt", _mark_infer, Nests(_mark_at), INTERNAL),
)
