"""NonMaxSuppression: sort by score, mark the boxes that stay, list the marks.

The sort and the list are operators of the table; only the marking is a kernel of its own, `KeepBoxes`,
which needs no memory but the marks themselves.
"""

from __future__ import annotations

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import INDEX, const
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import Buffer, Expr, Scope
from .scatter import Buffers
from .table import Imperative, OpContext, OpDef, Rewrite, RewriteBuilder, register

BOXES, SCORES, ORDER, LIMIT, OVERLAP, THRESHOLD = range(6)
"""Inputs of `KeepBoxes`: boxes `[b, n, 4]`, scores and their order `[b, c, n]`, best first, and three scalars."""


def _rewrite(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    boxes, scores = ctx.value(0), ctx.value(1)
    optional = [ctx.value(k) if ctx.has(k) else None for k in range(2, 5)]
    best, order = b.ops("TopK", 2, scores, b.op("Shape", scores, start=2, end=3), axis=-1)
    kept = b.op("onnxc::KeepBoxes", boxes, best, order, *optional, center_point_box=ctx.int_attr("center_point_box"))
    place = b.op("Transpose", b.op("NonZero", kept), perm=(1, 0))
    box = b.op("Unsqueeze", b.op("GatherND", order, place), b.const([1]))
    return [b.op("Concat", b.op("Slice", place, b.const([0]), b.const([2]), b.const([1])), box, axis=1)]


def _keep(ctx: OpContext, k: KernelBuilder, inputs: Buffers, outputs: Buffers) -> None:
    boxes, scores, order = inputs[BOXES], inputs[SCORES], inputs[ORDER]
    (kept,) = outputs
    assert boxes is not None and scores is not None and order is not None and kept is not None
    batches, classes, count = (build.index(d) for d in ctx.shape(SCORES))
    with k.loop("batch", batches) as batch, k.loop("class", classes) as label, k.local(INDEX, 2, "state", Scope.STACK) as state:
        selected, overlaps = const(0), const(1)
        row = build.mul(build.add(build.mul(batch, classes), label), count)
        first_box = build.mul(batch, count)
        k.store(state, selected, 0)
        with k.loop("i", count) as i:
            at = build.add(row, i)
            candidate = build.lt(build.load(state, selected), _limit(inputs))
            if (threshold := _scalar(inputs, THRESHOLD)) is not None:
                candidate = build.logical_and(candidate, build.gt(build.load(scores, at), threshold))
            k.store(kept, at, build.FALSE)
            with k.when(candidate):
                k.store(state, overlaps, 0)
                with k.loop("j", i) as j, k.when(build.load(kept, build.add(row, j))):
                    a, other = (build.add(first_box, build.load(order, build.add(row, n))) for n in (i, j))
                    with k.when(_overlap(ctx, boxes, a, other, _scalar(inputs, OVERLAP))):
                        k.store(state, overlaps, 1)
                with k.when(build.eq(build.load(state, overlaps), 0)):
                    k.store(kept, at, build.TRUE)
                    k.store(state, selected, build.add(build.load(state, selected), 1))


def _scalar(inputs: Buffers, position: int) -> Expr | None:
    buffer = inputs[position] if position < len(inputs) else None
    return None if buffer is None else build.load(buffer, 0)


def _limit(inputs: Buffers) -> Expr:
    limit = _scalar(inputs, LIMIT)
    return const(0) if limit is None else build.cast(limit, INDEX)


def _overlap(ctx: OpContext, boxes: Buffer, a: Expr, b: Expr, limit: Expr | None) -> Expr:
    """True if intersection over union of two boxes is above the limit."""
    zero = const(0, boxes.dtype)
    width, w_a, w_b = _common(*_side(ctx, boxes, a, 1), *_side(ctx, boxes, b, 1))
    height, h_a, h_b = _common(*_side(ctx, boxes, a, 0), *_side(ctx, boxes, b, 0))
    common, area_a, area_b = build.mul(width, height), build.mul(w_a, h_a), build.mul(w_b, h_b)
    union = build.sub(build.add(area_a, area_b), common)
    sides = (build.gt(e, zero) for e in (width, height, area_a, area_b, union))
    return build.logical_and(*sides, build.gt(build.div(common, union), zero if limit is None else limit))


def _side(ctx: OpContext, boxes: Buffer, box: Expr, axis: int) -> tuple[Expr, Expr]:
    """Lower and upper end of a box along y (0) or x (1)."""
    first = build.mul(box, 4)
    if ctx.int_attr("center_point_box"):
        center, extent = (build.load(boxes, build.add(first, 1 - axis + skip)) for skip in (0, 2))
        half = build.mul(extent, 0.5)
        return build.sub(center, half), build.add(center, half)
    a, b = (build.load(boxes, build.add(first, axis + skip)) for skip in (0, 2))
    return build.minimum(a, b), build.maximum(a, b)


def _common(low_a: Expr, high_a: Expr, low_b: Expr, high_b: Expr) -> tuple[Expr, Expr, Expr]:
    """Length of the intersection of two intervals, and the length of each."""
    shared = build.sub(build.minimum(high_a, high_b), build.maximum(low_a, low_b))
    return shared, build.sub(high_a, low_a), build.sub(high_b, low_b)


register(
    OpDef(
        "NonMaxSuppression",
        lambda ctx: [TensorType(DType.INT64, (ctx.fresh("count"), 3))],
        Rewrite(_rewrite),
        defaults={"center_point_box": 0},
    ),
    OpDef("KeepBoxes", lambda ctx: [TensorType(DType.BOOL, ctx.shape(SCORES))], Imperative(_keep), "onnxc"),
)
