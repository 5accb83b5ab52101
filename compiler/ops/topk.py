"""TopK, and the internal `SortRows` that Unique is made of: selection and sorting in the output buffers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    extent, wanted = ctx.shape(0)[ctx.axis_attr("axis", -1)], ctx.number(1)
    if isinstance(extent, int) and isinstance(wanted, int) and not 0 <= wanted <= extent:
        ctx.fail("E0203", f"k is {wanted}, the axis has {extent} elements")
    if wanted == extent or (isinstance(extent, int) and isinstance(wanted, int)):
        return wanted
    fits = build.logical_and(build.ge(build.index(wanted), 0), build.le(build.index(wanted), build.index(extent)))
    ctx.require(fits, "k is negative, or larger than the extent of the axis")
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
            largest = bool(ctx.int_attr("largest", 1))
            value = (lambda entry: build.load(x, read(entry))) if indices is not None else (lambda entry: entry)
            with k.local(x.dtype, 1, "worst", Scope.REGISTER) as worst:
                _select(k, heap, count, size, Candidates(worst, lambda at: build.load(x, read(at)), value, largest, indices is not None))
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


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is selected from, in the order of its positions."""

    worst: Buffer
    """Holds the value of the worst entry of the heap."""
    read: Callable[[Expr], Expr]
    """The value at a position."""
    value: Callable[[Expr], Expr]
    """The value of an entry."""
    largest: bool
    by_position: bool
    """Whether entries are positions; else they are values."""

    def entry(self, at: Expr) -> Expr:
        """The entry for a position."""
        return at if self.by_position else self.read(at)

    def beats(self, at: Expr) -> Expr:
        """True if the value at a position goes before that of the worst entry."""
        return before(self.read(at), build.load(self.worst, 0), self.largest)


def _select(k: KernelBuilder, heap: Heap, count: Expr, size: Expr, given: Candidates) -> None:
    """Fill the heap with the best `size` of `count` entries and sort it."""
    with k.loop("i", size) as i:
        heap.put(k, i, given.entry(i))
    heap.arrange(k, size)
    k.store(given.worst, 0, given.value(heap.entry(const(0))))
    # An equal value stands further back than all in the heap, so it never goes before one of them.
    with k.loop("i", build.sub(count, size)) as i, k.when(given.beats(build.add(i, size))):
        heap.put(k, const(0), given.entry(build.add(i, size)))
        heap.sink(k, const(0), size)
        k.store(given.worst, 0, given.value(heap.entry(const(0))))
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
