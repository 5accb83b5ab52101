"""Caches of keys and values that a decoder extends in place: made by the pass `grow_caches`, never by a model.

The cache is memory for more rows than there are yet. `CacheStore` puts new rows behind those of earlier runs and
touches nothing else; `CacheRows` reads the rows that there are, which costs nothing, as it is an index map.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import add, load, mul
from ..kernel.builder import KernelBuilder
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Buffer, Dim, Expr, LoopKind, Var
from ..kernel.vector_loop import vector_loop
from .extents import total
from .table import INTERNAL, Imperative, Nests, OpContext, OpDef, register

CACHE, NEW, LENGTHS = range(3)
TOTAL = 2
NO_ROOM = 2
"""Status of a run whose new rows would lie outside the cache."""
LANES = 16
"""Elements that are copied at once."""


def rows_before(ctx: OpContext) -> Dim:
    """The rows of earlier runs: the attribute `rows`, a number or the name of a symbol."""
    rows = ctx.node.attrs["rows"]
    return rows if isinstance(rows, int) else Var(str(rows))


# --- Store ------------------------------------------------------------------------------------


def _store_type(ctx: OpContext) -> list[TensorType]:
    cache, axis = ctx.shape(CACHE), ctx.axis_attr()
    if not ctx.has(LENGTHS):
        behind = build.add(build.index(rows_before(ctx)), build.index(ctx.shape(NEW)[axis]))
        ctx.require(build.le(behind, build.index(cache[axis])), "the cache has no room for the new rows")
    return [ctx.type(CACHE)]


def _store(ctx: OpContext, k: KernelBuilder, inputs: Sequence[Buffer | None], outputs: Sequence[Buffer | None]) -> None:
    """Copy the new rows behind the old ones; with lengths, each batch element has its own place for them."""
    cache, new, lengths = outputs[0], inputs[NEW], inputs[LENGTHS] if ctx.has(LENGTHS) else None
    assert cache is not None and new is not None
    axis, shape = ctx.axis_attr(), ctx.shape(NEW)
    inner = build.index(build.product(shape[axis + 1 :]))
    count, room = build.index(shape[axis]), build.index(ctx.shape(CACHE)[axis])
    with k.loop("p", build.product(shape[:axis]), LoopKind.PARALLEL) as part:
        start: Expr = build.index(rows_before(ctx))
        if lengths is not None:
            batch = build.floordiv(part, build.index(build.product(shape[1:axis])))
            start = first_new_row(load(lengths, batch), shape[axis])
        with k.let(start) as first:
            if lengths is not None:
                k.check(build.le(add(first, count), room), NO_ROOM, "the cache has no room for the new rows")
            target = mul(add(mul(part, room), first), inner)
            source = mul(mul(part, count), inner)
            vector_loop(k, build.dim(mul(count, inner)), LANES, lambda at: k.store(cache, add(target, at), load(new, add(source, at))))


def first_new_row(last: Expr, count: Dim) -> Expr:
    """Where `count` new rows begin of which the last one is row number `last`."""
    return build.maximum(build.sub(add(build.cast(last, DType.INT64), 1), build.index(count)), 0)


# --- Rows -------------------------------------------------------------------------------------


def _rows_type(ctx: OpContext) -> list[TensorType]:
    cache, axis, rows = ctx.type(CACHE), ctx.axis_attr(), rows_before(ctx)
    if ctx.has(TOTAL):
        rows = cache_extent(ctx.number(TOTAL), rows)
        ctx.require(build.le(build.index(rows), build.index(cache.shape[axis])), "the cache has no room for the rows of the total length")
    elif ctx.has(NEW):
        rows = total(rows, ctx.shape(NEW)[axis])
    return [TensorType(cache.dtype, (*cache.shape[:axis], rows, *cache.shape[axis + 1 :]))]


def cache_extent(whole: Dim, past: Dim) -> Dim:
    """Rows of a cache that has room for at least those of the past."""
    return whole if past == 0 else build.dim(build.maximum(build.index(whole), build.index(past)))


def _rows(ctx: OpContext) -> list[Nest]:
    return [pointwise(_rows_type(ctx)[0].shape, lambda *axes: ctx.read(CACHE, *axes))]


register(
    OpDef("CacheStore", _store_type, Imperative(_store, in_place=True), INTERNAL, doc="cache, new rows, [number of the last row] -> cache"),
    OpDef("CacheRows", _rows_type, Nests(_rows), INTERNAL, doc="cache, [new rows, [total length]] -> the rows that are there"),
)
