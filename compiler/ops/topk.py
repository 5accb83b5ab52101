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
from .sort_keys import has_key, pack, position_of
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
            order = _top_order(ctx, x, values, indices, read, place(size))
            with k.local(x.dtype, 1, "worst", Scope.REGISTER) as worst:
                _select(k, order, count, size, Candidates(worst, lambda at: build.load(x, read(at)), bool(ctx.int_attr("largest", 1))))
            if indices is not None:
                with k.loop("i", size) as i, k.let(order.position(order.heap.entry(i))) as at:
                    order.heap.put(k, i, at)
                    if values is not None:
                        k.store(values, place(size)(i), build.load(x, read(at)))


@dataclass(frozen=True, slots=True)
class Order:
    """What the heap of the best holds."""

    heap: Heap
    entry: Callable[[Expr], Expr]
    """The entry for a position."""
    value: Callable[[Expr], Expr]
    """The value of an entry."""
    position: Callable[[Expr], Expr]
    """The position of an entry; not asked for if entries are values."""


def _top_order(
    ctx: OpContext, x: Buffer, values: Buffer | None, indices: Buffer | None, read: Callable[[Expr], Expr], write: Callable[[Expr], Expr]
) -> Order:
    """A heap of values and positions in one number, of positions, or of values if only those are wanted; equal ones go by position."""
    largest = bool(ctx.int_attr("largest", 1))

    def value(at: Expr) -> Expr:
        return build.load(x, read(at))

    if indices is None:
        assert values is not None
        return Order(Heap(values, write, lambda _, a, b: before(a, b, largest)), value, lambda entry: entry, lambda entry: entry)
    if has_key(x.dtype):
        packed = Heap(indices, write, lambda _, a, b: build.lt(a, b))
        return Order(packed, lambda at: pack(value(at), at, largest), lambda entry: value(position_of(entry)), position_of)
    return Order(Heap(indices, write, by_value(value, largest)), lambda at: at, value, lambda entry: entry)


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is selected from, in the order of its positions."""

    worst: Buffer
    """Holds the value of the worst entry of the heap."""
    read: Callable[[Expr], Expr]
    """The value at a position."""
    largest: bool

    def beats(self, at: Expr) -> Expr:
        """True if the value at a position goes before that of the worst entry."""
        return before(self.read(at), build.load(self.worst, 0), self.largest)


def _select(k: KernelBuilder, order: Order, count: Expr, size: Expr, given: Candidates) -> None:
    """Fill the heap with the best `size` of `count` entries and sort it."""
    heap = order.heap
    with k.loop("i", size) as i:
        heap.put(k, i, order.entry(i))
    heap.arrange(k, size)
    k.store(given.worst, 0, order.value(heap.entry(const(0))))
    # An equal value stands further back than all in the heap, so it never goes before one of them.
    with k.loop("i", build.sub(count, size)) as i, k.when(given.beats(build.add(i, size))):
        heap.put(k, const(0), order.entry(build.add(i, size)))
        heap.sink(k, const(0), size)
        k.store(given.worst, 0, order.value(heap.entry(const(0))))
    heap.sort(k, size)


def _k_attribute_to_input(node: RawNode) -> None:
    node.inputs.append(node.constant(np.array([node.attrs.pop("k")], np.int64)))


# --- SortRows ---------------------------------------------------------------------------------


def _sort_rows(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    """`order[i]`: the row of `[n, m]` that stands at place `i` in lexicographic order, equal rows by number."""
    (x,), (order,) = inputs, outputs
    assert x is not None and order is not None
    rows, width = (build.index(d) for d in ctx.shape(0))
    packs = width is const(1) and has_key(x.dtype)
    with k.loop("i", rows) as i:
        k.store(order, i, pack(build.load(x, i), i, largest=False) if packs else i)
    with k.local(INDEX, 2, "state", Scope.REGISTER) as state:
        better = by_value(lambda at: build.load(x, at), largest=False) if width is const(1) else _by_row(x, width, state)
        heap = Heap(order, lambda slot: slot, (lambda _, a, b: build.lt(a, b)) if packs else better)
        heap.arrange(k, rows)
        heap.sort(k, rows)
    if packs:
        with k.loop("i", rows) as i:
            k.store(order, i, position_of(build.load(order, i)))


def _by_row(x: Buffer, width: Expr, state: Buffer) -> Callable[[KernelBuilder, Expr, Expr], Expr]:
    """The lexicographic order of rows; equal rows go by number. A loop looks for the first column that differs."""
    column, sign = const(0), const(1)

    def better(k: KernelBuilder, a: Expr, b: Expr) -> Expr:
        k.store(state, column, 0)
        k.store(state, sign, build.select(build.lt(a, b), const(1), const(0)))
        with k.repeat(build.lt(build.load(state, column), width)), k.let(build.load(state, column)) as at:
            x_a, x_b = (build.load(x, build.add(build.mul(row, width), at)) for row in (a, b))
            differs = build.logical_or(before(x_a, x_b, False), before(x_b, x_a, False))
            k.store(state, column, build.add(at, 1))
            with k.when(differs):
                k.store(state, sign, build.select(before(x_a, x_b, False), const(1), const(0)))
                k.store(state, column, width)
        return build.gt(build.load(state, sign), 0)

    return better


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
