"""TopK, and the internal `SortRows` that Unique is made of: selection and sorting in the output buffers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import INDEX, const
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import Buffer, Dim, Expr, LoopKind, Scope
from .heap import Heap, before, by_value
from .scatter import Buffers
from .table import Imperative, OpContext, OpDef, RawNode, register

# --- TopK -------------------------------------------------------------------------------------


def _kept(ctx: OpContext) -> Dim:
    extent, wanted = ctx.shape(0)[ctx.axis_attr("axis", -1)], ctx.ints(1)[0]
    if isinstance(extent, int) and isinstance(wanted, int) and not 0 <= wanted <= extent:
        ctx.fail("E0203", f"k is {wanted}, the axis has {extent} elements")
    if wanted == extent or (isinstance(extent, int) and isinstance(wanted, int)):
        return wanted
    return build.dim(build.clamp(build.index(wanted), const(0), build.index(extent)))


def _top_types(ctx: OpContext) -> list[TensorType]:
    axis, shape = ctx.axis_attr("axis", -1), ctx.shape(0)
    kept = (*shape[:axis], _kept(ctx), *shape[axis + 1 :])
    return [TensorType(ctx.dtype(0), kept), TensorType(DType.INT64, kept)]


def _top(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    x, values = inputs[0], outputs[0]
    indices = outputs[1] if len(outputs) > 1 else None
    assert x is not None
    axis, shape = ctx.axis_attr("axis", -1), ctx.shape(0)
    count, size = build.index(shape[axis]), build.index(_kept(ctx))
    inner = build.index(build.product(shape[axis + 1 :]))
    with k.loop("row", build.product((*shape[:axis], *shape[axis + 1 :])), LoopKind.PARALLEL) as row:
        outer, rest = build.floordiv(row, inner), build.floormod(row, inner)

        def place(extent: Expr) -> Callable[[Expr], Expr]:
            return lambda at: build.add(build.mul(build.add(build.mul(outer, extent), at), inner), rest)

        read = place(count)
        with k.when(build.gt(size, 0)):
            heap = _top_heap(ctx, x, values, indices, read, place(size))
            _select(k, heap, count, size, lambda i: i if indices is not None else build.load(x, read(i)))
            if indices is not None and values is not None:
                with k.loop("i", size) as i:
                    k.store(values, place(size)(i), build.load(x, read(heap.entry(i))))


def _top_heap(
    ctx: OpContext, x: Buffer, values: Buffer | None, indices: Buffer | None, read: Callable[[Expr], Expr], write: Callable[[Expr], Expr]
) -> Heap:
    """A heap of indices, or of values if only those are wanted; equal elements go by index."""
    largest = bool(ctx.int_attr("largest", 1))
    if indices is None:
        assert values is not None
        return Heap(values, write, lambda a, b: before(a, b, largest))
    return Heap(indices, write, by_value(lambda at: build.load(x, read(at)), largest))


def _select(k: KernelBuilder, heap: Heap, count: Expr, size: Expr, entry: Callable[[Expr], Expr]) -> None:
    """Fill the heap with the best `size` of `count` entries and sort it."""
    with k.loop("i", size) as i:
        heap.put(k, i, entry(i))
    heap.arrange(k, size)
    with k.loop("i", build.sub(count, size)) as i, k.let(entry(build.add(i, size))) as challenger:
        beats = heap.better(challenger, heap.entry(const(0)))
        with k.when(beats):
            heap.put(k, const(0), challenger)
            heap.sink(k, const(0), size)
    heap.sort(k, size)


def _k_attribute_to_input(node: RawNode) -> None:
    node.inputs.append(node.constant(np.array([node.attrs.pop("k")], np.int64)))


# --- SortRows ---------------------------------------------------------------------------------


def _sort_rows(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    """`order[i]`: the row of `[n, m]` that stands at place `i` in lexicographic order, equal rows by number."""
    (x,), (order,) = inputs, outputs
    assert x is not None and order is not None
    rows, width = (build.index(d) for d in ctx.shape(0))
    with k.loop("i", rows) as i:
        k.store(order, i, i)
    # The comparison of rows needs a loop, so the rank is counted instead of sorting with a heap when m > 1.
    if ctx.shape(0)[1] == 1:
        heap = Heap(order, lambda slot: slot, by_value(lambda at: build.load(x, at), largest=False))
        heap.arrange(k, rows)
        heap.sort(k, rows)
        return
    with k.loop("row", rows) as row, k.local(INDEX, 2, "state", Scope.STACK) as state:
        rank, sign = const(0), const(1)
        k.store(state, rank, 0)
        with k.loop("other", rows) as other:
            k.store(state, sign, 0)
            with k.loop("column", width) as column, k.when(build.eq(build.load(state, sign), 0)):
                a = build.load(x, build.add(build.mul(row, width), column))
                b = build.load(x, build.add(build.mul(other, width), column))
                smaller = build.select(before(b, a, False), const(1), const(0))
                k.store(state, sign, build.select(before(a, b, False), const(-1), smaller))
            earlier = build.logical_and(build.eq(build.load(state, sign), 0), build.lt(other, row))
            with k.when(build.logical_or(build.gt(build.load(state, sign), 0), earlier)):
                k.store(state, rank, build.add(build.load(state, rank), 1))
        k.store(order, build.load(state, rank), row)


register(
    OpDef(
        "TopK",
        _top_types,
        Imperative(_top),
        defaults={"axis": -1, "largest": 1, "sorted": 1},
        adapt={10: _k_attribute_to_input},
    ),
    OpDef("SortRows", lambda ctx: [TensorType(DType.INT64, ctx.shape(0)[:1])], Imperative(_sort_rows), "onnxc"),
)
