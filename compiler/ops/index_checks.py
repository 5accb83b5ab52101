"""The operators that stand between indices and what they pick from, and stop a run whose indices are out of range.

`passes/graph/check_indices.py` puts them there. Few indices are read as symbols and compared; of many, a kernel tells whether all
are in range.
"""

from __future__ import annotations

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Combine, Nest, pointwise, reduction
from ..kernel.nodes import Dim, Expr, Var
from .shape import table_of
from .table import INTERNAL, Nests, OpContext, OpDef, register

MESSAGE = "an index is out of range"


def extents_of(ctx: OpContext) -> tuple[Dim, ...]:
    """The extents that indices (input 0) count in, of the data (input 1): that of `axis`, or one for each of the last axis."""
    axis, shape = ctx.attr("axis", int), ctx.shape(1)
    if axis is not None:
        return (shape[ctx.normal_axis(axis, len(shape))],)
    first, depth = ctx.int_attr("first"), ctx.shape(0)[-1]
    assert isinstance(depth, int)
    return shape[first : first + depth]


def _is_inside(index: Expr, extent: Expr) -> Expr:
    return build.logical_and(build.ge(index, build.neg(extent)), build.lt(index, extent))


def _kept(ctx: OpContext) -> list[TensorType]:
    """Types for few indices, each of which is compared."""
    extents = extents_of(ctx)
    for k, index in enumerate(ctx.ints(0)):
        ctx.require(_is_inside(build.index(index), build.index(extents[k % len(extents)])), MESSAGE)
    return [TensorType(ctx.dtype(0), ctx.shape(0))]


def _same(ctx: OpContext) -> list[Nest]:
    return [pointwise(_kept(ctx)[0].shape, lambda *at: ctx.read(0, *at))]


def _are_inside(ctx: OpContext) -> list[Nest]:
    """1 if all indices are in range, else 0."""
    extents, shape = extents_of(ctx), ctx.shape(0)

    def term(_: tuple[Var, ...], at: tuple[Var, ...]) -> Expr:
        extent = build.index(extents[0]) if len(extents) == 1 else table_of(extents, at[-1])
        return build.cast(_is_inside(build.cast(ctx.read(0, *at), build.INDEX), extent), DType.INT64)

    def finish(all_inside: Expr, _: tuple[Var, ...]) -> Expr:
        return build.minimum(all_inside, const(1))  # no index gives the identity of the minimum

    return [reduction((1,), shape, Combine.MIN, term, finish)]


register(
    OpDef("CheckedIndices", _kept, Nests(_same), INTERNAL, is_view=True),
    OpDef("AreIndicesInside", lambda ctx: [TensorType(DType.INT64, (1,))], Nests(_are_inside), INTERNAL),
)
