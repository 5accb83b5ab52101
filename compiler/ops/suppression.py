"""NonMaxSuppression: take the boxes best first out of a heap, keep those that overlap none kept before.

A kernel of its own, `KeepBoxes`, chooses; the list of what it chose is made by operators of the table. The
heap holds only the boxes above the score threshold, and no more of it is sorted than the limit asks for.
Slots that the heap gives up hold the boxes that are kept, so it needs no memory but its output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import INDEX, add, const, load, mul, sub
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import Buffer, Expr, LoopKind, Scope
from .heap import Heap
from .scatter import Buffers
from .sort_keys import pack, position_of
from .table import INTERNAL, Imperative, OpContext, OpDef, Rewrite, RewriteBuilder, register

BOXES, SCORES, LIMIT, OVERLAP, THRESHOLD = range(5)
"""Inputs: boxes `[b, n, 4]`, scores `[b, c, n]`, and three scalars that may be absent."""


def _rewrite(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    given = [ctx.value(k) if ctx.has(k) else None for k in range(5)]
    order, kept = b.ops("onnxc::KeepBoxes", 2, *given, center_point_box=ctx.int_attr("center_point_box"))
    place = b.op("Transpose", b.op("NonZero", kept), perm=(1, 0))
    box = b.op("Unsqueeze", b.op("GatherND", order, place), b.const([1]))
    return [b.op("Concat", b.op("Slice", place, b.const([0]), b.const([2]), b.const([1])), box, axis=1)]


def _keep_types(ctx: OpContext) -> list[TensorType]:
    batch, _, count = ctx.shape(SCORES)
    for found, wanted, what in zip(ctx.shape(BOXES), (batch, count, 4), ("the batches", "the numbers", "the coordinates (4)"), strict=True):
        ctx.same_extent(found, wanted, f"{what} of boxes and scores")
    return [TensorType(dtype, ctx.shape(SCORES)) for dtype in (DType.INT64, DType.BOOL)]


def _keep(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    """Boxes in the order in which they are kept, `[b, c, n]`, and true for as many places as there are."""
    scores, (order, kept) = inputs[SCORES], outputs
    assert scores is not None and order is not None and kept is not None
    batches, classes, count = (build.index(d) for d in ctx.shape(SCORES))
    with k.loop("line", build.dim(mul(batches, classes)), LoopKind.PARALLEL) as line, k.let(mul(line, count), "row") as row:
        heap = Heap(order, lambda slot: add(row, slot), lambda _, a, b: build.gt(a, b))
        with k.local(INDEX, 1, "size", Scope.REGISTER) as size:
            k.store(size, 0, 0)
            with k.loop("i", build.dim(count)) as i:
                k.store(kept, add(row, i), build.FALSE)
                with k.when(_is_candidate(inputs, load(scores, add(row, i)))):
                    heap.put(k, load(size, 0), pack(load(scores, add(row, i)), i, largest=True))
                    k.store(size, 0, add(load(size, 0), 1))
            with k.let(load(size, 0), "candidates") as candidates, k.when(build.gt(_limit(inputs), 0)):
                heap.arrange(k, candidates)
                first_box = mul(build.floordiv(line, classes), count)
                _choose(ctx, k, inputs, heap, candidates, size, lambda place: k.store(kept, add(row, place), build.TRUE), first_box)


def _is_candidate(inputs: Buffers, score: Expr) -> Expr:
    threshold = _scalar(inputs, THRESHOLD)
    return build.TRUE if threshold is None else build.gt(score, threshold)


def _choose(
    ctx: OpContext, k: KernelBuilder, inputs: Buffers, heap: Heap, candidates: Expr, size: Buffer, mark: Callable[[Expr], None],
    first_box: Expr,
) -> None:  # fmt: skip
    """Keep boxes from a heap of `size` packed scores, the n-th of them in slot `candidates - 1 - n`; then bring them to the front."""
    boxes, zero = inputs[BOXES], const(0)
    assert boxes is not None

    def slot(n: Expr) -> Expr:
        return sub(sub(candidates, 1), n)

    with k.local(INDEX, 2, "state", Scope.REGISTER) as state:
        selected, compared = const(0), const(1)
        k.store(state, selected, 0)
        more = build.logical_and(build.gt(load(size, 0), 0), build.lt(load(state, selected), _limit(inputs)))
        with k.repeat(more), k.let(position_of(heap.entry(zero)), "box") as box, _fixed(k, _box(ctx, boxes, add(first_box, box))) as mine:
            k.store(size, 0, sub(load(size, 0), 1))
            heap.put(k, zero, heap.entry(load(size, 0)))
            heap.sink(k, zero, load(size, 0))
            k.store(state, compared, 0)
            with k.repeat(_is_between(load(state, compared), load(state, selected))), k.let(load(state, compared)) as n:
                other = add(first_box, heap.entry(slot(n)))
                hit = _overlap(mine, _box(ctx, boxes, other), _scalar(inputs, OVERLAP))
                k.store(state, compared, build.select(hit, const(-1), add(n, 1)))
            with k.when(build.ge(load(state, compared), 0)), k.let(load(state, selected)) as n:
                heap.put(k, slot(n), box)
                mark(n)
                k.store(state, selected, add(n, 1))
        with k.loop("i", build.minimum(load(state, selected), build.floordiv(candidates, 2))) as i:
            heap.swap(k, i, slot(i))


def _is_between(n: Expr, end: Expr) -> Expr:
    """True for a place in [0, end); -1 stands for an overlap."""
    return build.logical_and(build.ge(n, 0), build.lt(n, end))


def _scalar(inputs: Buffers, position: int) -> Expr | None:
    buffer = inputs[position] if position < len(inputs) else None
    return None if buffer is None else load(buffer, 0)


def _limit(inputs: Buffers) -> Expr:
    limit = _scalar(inputs, LIMIT)
    return const(0) if limit is None else build.cast(limit, INDEX)


# --- Boxes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Box:
    """Ends of a box along y and x, and its area."""

    low: tuple[Expr, Expr]
    high: tuple[Expr, Expr]
    area: Expr


def _box(ctx: OpContext, boxes: Buffer, at: Expr) -> Box:
    """Box number `at`."""
    low, high = zip(*(_side(ctx, boxes, mul(at, 4), axis) for axis in (0, 1)), strict=True)
    return Box(low, high, mul(sub(high[0], low[0]), sub(high[1], low[1])))


def _side(ctx: OpContext, boxes: Buffer, first: Expr, axis: int) -> tuple[Expr, Expr]:
    """Lower and upper end of a box along y (0) or x (1)."""
    if ctx.int_attr("center_point_box"):
        center, extent = (load(boxes, add(first, 1 - axis + skip)) for skip in (0, 2))
        half = mul(extent, 0.5)
        return sub(center, half), add(center, half)
    a, b = (load(boxes, add(first, axis + skip)) for skip in (0, 2))
    return _lower(a, b), _upper(a, b)


def _lower(a: Expr, b: Expr) -> Expr:
    """The smaller of two coordinates; unlike `minimum` it is one instruction, since NaN needs no care."""
    return build.select(build.lt(a, b), a, b)


def _upper(a: Expr, b: Expr) -> Expr:
    return build.select(build.gt(a, b), a, b)


@contextmanager
def _fixed(k: KernelBuilder, box: Box) -> Iterator[Box]:
    """The same box, read once."""
    with ExitStack() as scopes:
        low, high = (tuple(scopes.enter_context(k.let(e, "side")) for e in side) for side in (box.low, box.high))
        yield Box((low[0], low[1]), (high[0], high[1]), scopes.enter_context(k.let(box.area, "area")))


def _overlap(a: Box, b: Box, limit: Expr | None) -> Expr:
    """True if intersection over union of two boxes is above the limit."""
    zero = const(0, a.area.dtype)
    height, width = (sub(_lower(a.high[k], b.high[k]), _upper(a.low[k], b.low[k])) for k in (0, 1))
    common = mul(width, height)
    union = sub(add(a.area, b.area), common)
    sides = (build.gt(e, zero) for e in (width, height, a.area, b.area, union))
    return build.logical_and(*sides, build.gt(build.div(common, union), zero if limit is None else limit))


register(
    OpDef(
        "NonMaxSuppression",
        lambda ctx: [TensorType(DType.INT64, (ctx.fresh("count"), 3))],
        Rewrite(_rewrite),
        defaults={"center_point_box": 0},
        ranks=(3, 3),
    ),
    OpDef(
        "KeepBoxes",
        _keep_types,
        Imperative(_keep),
        INTERNAL,
        doc="boxes, scores, limits -> boxes in the order in which they are kept, and as many marks",
    ),
)
