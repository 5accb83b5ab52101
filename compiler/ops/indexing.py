"""Indexing: elements picked by an operand of indices, known or computed at run time.

Negative indices count from the end. An index out of range is clamped, so that no model and no input can make
a kernel read outside its operand; `passes/graph/check_indices.py` makes it an error where the target can.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import INDEX, const
from ..kernel.builder import KernelBuilder
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Buffer, CastMode, Const, Dim, Expr
from .table import Nests, OpContext, OpDef, register


def wrapped(at: Expr, extent: Dim) -> Expr:
    """An index of an operand, counted from the front: negative ones are from the end."""
    at = build.cast(at, INDEX)
    if isinstance(at, Const):
        return at if at.value >= 0 else build.add(at, build.index(extent))
    return build.select(build.lt(at, 0), build.add(at, build.index(extent)), at)


def safe_index(at: Expr, extent: Dim) -> Expr:
    """An index of an operand, counted from the front and clamped to [0, extent)."""
    at = wrapped(at, extent)
    if isinstance(at, Const) and at.value >= 0 and (not isinstance(extent, int) or at.value < extent):
        return at
    return build.clamp(at, const(0), build.sub(build.index(extent), 1))


# --- Gather, GatherElements, GatherND ---------------------------------------------------------


def _gather_type(ctx: OpContext) -> list[TensorType]:
    axis, shape = ctx.axis_attr(), ctx.shape(0)
    if not shape:
        ctx.fail("E0203", "a scalar has nothing to gather from")
    return [TensorType(ctx.dtype(0), (*shape[:axis], *ctx.shape(1), *shape[axis + 1 :]))]


def _gather_nest(ctx: OpContext) -> list[Nest]:
    axis, shape, rank = ctx.axis_attr(), ctx.shape(0), ctx.rank(1)

    def element(*axes: Expr) -> Expr:
        at = safe_index(ctx.read(1, *axes[axis : axis + rank]), shape[axis])
        return ctx.read(0, *axes[:axis], at, *axes[axis + rank :])

    return [pointwise(_gather_type(ctx)[0].shape, element)]


def _elements_type(ctx: OpContext) -> list[TensorType]:
    if ctx.rank(0) != ctx.rank(1):
        ctx.fail("E0203", f"data has rank {ctx.rank(0)}, indices have rank {ctx.rank(1)}")
    ctx.axis_attr()
    return [TensorType(ctx.dtype(0), ctx.shape(1))]


def _elements_nest(ctx: OpContext) -> list[Nest]:
    axis = ctx.axis_attr()

    def element(*axes: Expr) -> Expr:
        at = safe_index(ctx.read(1, *axes), ctx.shape(0)[axis])
        return ctx.read(0, *axes[:axis], at, *axes[axis + 1 :])

    return [pointwise(ctx.shape(1), element)]


def _tuple_length(ctx: OpContext) -> int:
    """How many axes an index tuple of GatherND covers."""
    length = ctx.shape(1)[-1] if ctx.rank(1) else 0
    if not isinstance(length, int) or not 1 <= length <= ctx.rank(0) - ctx.int_attr("batch_dims"):
        ctx.fail("E0203", "the last extent of the indices must be known and at most the rank of the data without batch axes")
    return length


def _gather_nd_type(ctx: OpContext) -> list[TensorType]:
    covered = ctx.int_attr("batch_dims") + _tuple_length(ctx)
    return [TensorType(ctx.dtype(0), (*ctx.shape(1)[:-1], *ctx.shape(0)[covered:]))]


def _gather_nd_nest(ctx: OpContext) -> list[Nest]:
    batch, length, outer = ctx.int_attr("batch_dims"), _tuple_length(ctx), ctx.rank(1) - 1

    def element(*axes: Expr) -> Expr:
        at = [safe_index(ctx.read(1, *axes[:outer], const(k)), ctx.shape(0)[batch + k]) for k in range(length)]
        return ctx.read(0, *axes[:batch], *at, *axes[outer:])

    return [pointwise(_gather_nd_type(ctx)[0].shape, element)]


# --- OneHot, Trilu ----------------------------------------------------------------------------


def _one_hot_axis(ctx: OpContext) -> int:
    return ctx.axis_attr("axis", -1, ctx.rank(0) + 1)


def _depth(ctx: OpContext) -> Dim:
    """The number of classes; ONNX allows a float, which only a kernel can turn into an extent at run time."""
    if ctx.dtype(1).is_int:
        return ctx.number(1)
    known = ctx.array(1)
    return ctx.fresh("depth") if known is None else int(known.reshape(-1)[0])


def _depth_size(ctx: OpContext, k: KernelBuilder, inputs: Sequence[Buffer | None], sizes: Buffer) -> None:
    depth = inputs[1]
    assert depth is not None
    k.store(sizes, 0, build.maximum(build.cast(build.load(depth, 0), INDEX, CastMode.SATURATE), 0))


def _one_hot_type(ctx: OpContext) -> list[TensorType]:
    axis, shape = _one_hot_axis(ctx), ctx.shape(0)
    return [TensorType(ctx.dtype(2), (*shape[:axis], _depth(ctx), *shape[axis:]))]


def _one_hot_nest(ctx: OpContext) -> list[Nest]:
    axis, depth = _one_hot_axis(ctx), _depth(ctx)

    def element(*axes: Expr) -> Expr:
        hot = wrapped(ctx.read(0, *axes[:axis], *axes[axis + 1 :]), depth)
        return build.select(build.eq(hot, axes[axis]), ctx.read(2, const(1)), ctx.read(2, const(0)))

    return [pointwise(_one_hot_type(ctx)[0].shape, element)]


def _trilu_nest(ctx: OpContext) -> list[Nest]:
    shift = build.index(ctx.number(1)) if ctx.has(1) else const(0)

    def element(*axes: Expr) -> Expr:
        edge = build.add(axes[-2], shift)
        kept = build.ge(axes[-1], edge) if ctx.int_attr("upper", 1) else build.le(axes[-1], edge)
        return build.select(kept, ctx.read(0, *axes), const(0, ctx.dtype(0)))

    return [pointwise(ctx.shape(0), element)]


def _same_type(ctx: OpContext) -> Sequence[TensorType]:
    return [TensorType(ctx.dtype(0), ctx.shape(0))]


register(
    OpDef("Gather", _gather_type, Nests(_gather_nest), defaults={"axis": 0}),
    OpDef("GatherElements", _elements_type, Nests(_elements_nest), defaults={"axis": 0}),
    OpDef("GatherND", _gather_nd_type, Nests(_gather_nd_nest), defaults={"batch_dims": 0}),
    OpDef("GatherND", _gather_nd_type, Nests(_gather_nd_nest), "com.microsoft"),
    OpDef("OneHot", _one_hot_type, Nests(_one_hot_nest, _depth_size), defaults={"axis": -1}),
    OpDef("Trilu", _same_type, Nests(_trilu_nest), defaults={"upper": 1}),
    OpDef("Trilu", _same_type, Nests(_trilu_nest), "com.microsoft", defaults={"upper": 1}),
)
