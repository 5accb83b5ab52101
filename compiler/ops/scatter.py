"""Scatter: a copy of the data with elements replaced by, or combined with, updates in their order.

Written as kernels: two updates may meet at one element, so the order matters, and no definition by
output elements exists. Indices out of range are clamped, as in `indexing.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import Kind
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import const
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import Buffer, Dim, Expr
from ..kernel.vector_loop import vector_loop
from .indexing import safe_index
from .table import Imperative, OpContext, OpDef, register

Buffers = Sequence[Buffer | None]


def combined(ctx: OpContext, old: Expr, new: Expr) -> Expr:
    """What an element becomes under the node's `reduction`."""
    reduction = ctx.str_attr("reduction", "none")
    if reduction == "none":
        return new
    if reduction not in ("add", "mul", "min", "max"):
        ctx.fail("E0203", f"there is no reduction '{reduction}'")
    if old.dtype.kind is Kind.BOOL:
        return (build.logical_or if reduction in ("add", "max") else build.logical_and)(old, new)
    return {"add": build.add, "mul": build.mul, "min": build.minimum, "max": build.maximum}[reduction](old, new)


LANES = 16
"""Elements of a vector; more than one register of targets with narrower ones."""


def copy_all(k: KernelBuilder, source: Buffer, target: Buffer) -> None:
    """Copy a buffer of the same size."""
    vector_loop(k, source.size, LANES, lambda i: k.store(target, i, build.load(source, i)))


def _elements(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    data, indices, updates = inputs
    (out,) = outputs
    assert data is not None and indices is not None and updates is not None and out is not None
    axis, shape = ctx.axis_attr(), ctx.shape(0)
    copy_all(k, data, out)
    with k.loops(ctx.shape(1)) as at:
        source = build.linearize(at, ctx.shape(1))
        with k.let(safe_index(build.load(indices, source), shape[axis])) as index:
            target = build.linearize((*at[:axis], index, *at[axis + 1 :]), shape)
            k.store(out, target, combined(ctx, build.load(out, target), build.load(updates, source)))


def _nd(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    data, indices, updates = inputs
    (out,) = outputs
    assert data is not None and indices is not None and updates is not None and out is not None
    outer, length = ctx.shape(1)[:-1], _tuple_length(ctx)
    inner: tuple[Dim, ...] = ctx.shape(0)[length:]
    copy_all(k, data, out)
    with k.loop("update", build.product(outer)) as row:
        target = _first_target(ctx, indices, row, length)
        size = build.product(inner)
        with k.let(build.mul(target, build.index(size))) as first, k.let(build.mul(row, build.index(size))) as source:

            def element(i: Expr, first: Expr = first, source: Expr = source) -> None:
                at = build.add(first, i)
                k.store(out, at, combined(ctx, build.load(out, at), build.load(updates, build.add(source, i))))

            vector_loop(k, size, LANES, element)


def _first_target(ctx: OpContext, indices: Buffer, row: Expr, length: int) -> Expr:
    tuples = build.mul(row, length)
    parts = [safe_index(build.load(indices, build.add(tuples, j)), ctx.shape(0)[j]) for j in range(length)]
    return build.linearize(parts, ctx.shape(0)[:length]) if parts else const(0)


def _tuple_length(ctx: OpContext) -> int:
    length = ctx.shape(1)[-1] if ctx.rank(1) else 0
    if not isinstance(length, int):
        ctx.fail("E0204", "the last extent of the indices must be known when compiling")
    if length > ctx.rank(0):
        ctx.fail("E0203", "the last extent of the indices must be at most the rank of the data")
    return length


def _same_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), ctx.shape(0))]


def _elements_type(ctx: OpContext) -> list[TensorType]:
    if not ctx.rank(0) == ctx.rank(1) == ctx.rank(2):
        ctx.fail("E0203", "data, indices and updates must have the same rank")
    axis = ctx.axis_attr()
    for k, (extent, index, update) in enumerate(zip(*(ctx.shape(i) for i in range(3)), strict=True)):
        ctx.same_extent(index, update, f"axis {k} of indices and updates")
        if k != axis:
            ctx.require(build.le(build.index(index), build.index(extent)), f"there are more indices than data along axis {k}")
    return _same_type(ctx)


def _nd_type(ctx: OpContext) -> list[TensorType]:
    wanted = (*ctx.shape(1)[:-1], *ctx.shape(0)[_tuple_length(ctx) :])
    if ctx.rank(2) != len(wanted):
        ctx.fail("E0203", f"the updates have rank {ctx.rank(2)}, {len(wanted)} is needed")
    for k, (found, extent) in enumerate(zip(ctx.shape(2), wanted, strict=True)):
        ctx.same_extent(found, extent, f"axis {k} of the updates and what indices and data want")
    return _same_type(ctx)


register(
    OpDef("ScatterElements", _elements_type, Imperative(_elements), defaults={"axis": 0, "reduction": "none"}),
    OpDef("ScatterND", _nd_type, Imperative(_nd), defaults={"reduction": "none"}),
)
