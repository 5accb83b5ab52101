"""Unique: sort, mark where a new value starts, and gather; a rewrite into operators that have kernels.

Sorted position i belongs to group `rank[i]`, the number of starts up to i. All four outputs follow from
the sort and the starts.
"""

from __future__ import annotations

from ..dtypes import DType, Kind
from ..graph.nodes import TensorType, Value
from ..kernel.build import product
from ..kernel.nodes import Dim
from .string_search import ranks_of
from .table import OpContext, OpDef, Rewrite, RewriteBuilder, register


def _axis(ctx: OpContext) -> int | None:
    return None if ctx.attr("axis", int) is None else ctx.axis_attr()


def _types(ctx: OpContext) -> list[TensorType]:
    axis, shape = _axis(ctx), ctx.shape(0)
    count: Dim = ctx.fresh("count")
    values = (count,) if axis is None else (*shape[:axis], count, *shape[axis + 1 :])
    total = _row_count(ctx)
    return [TensorType(ctx.dtype(0), values), *(TensorType(DType.INT64, (n,)) for n in (count, total, count))]


def _row_count(ctx: OpContext) -> Dim:
    axis = _axis(ctx)
    return product(ctx.shape(0)) if axis is None else ctx.shape(0)[axis]


def _rows(ctx: OpContext, b: RewriteBuilder, x: Value) -> Value:
    """The values that are compared, one a row."""
    axis, rank = _axis(ctx), ctx.rank(0)
    if axis is None:
        return b.op("Reshape", x, b.const([-1, 1]))
    order = (axis, *(k for k in range(rank) if k != axis))
    return b.op("Flatten", b.op("Transpose", x, perm=order), axis=1)


def _starts(b: RewriteBuilder, rows: Value) -> Value:
    """`[n]` bool: true where a sorted row differs from the one before it; the first row always starts."""
    ahead = b.op("Slice", rows, b.const([1]), b.const([2**62]), b.const([0]))
    behind = b.op("Slice", rows, b.const([0]), b.const([-1]), b.const([0]))
    same = b.op("Cast", b.op("Equal", ahead, behind), to=DType.INT64)
    differs = b.op("Equal", b.op("ReduceMin", same, b.const([1]), keepdims=0), b.const(0))
    first = b.op("Slice", b.op("Shape", rows, end=1), b.const([0]), b.const([1]))
    some = b.op("Greater", b.op("Expand", b.const([1]), b.op("Min", first, b.const([1]))), b.const(0))
    return b.op("Concat", some, differs, axis=0)


def _sequence(b: RewriteBuilder, like: Value) -> Value:
    """0, 1, ... as many as `like` (a vector) has elements."""
    return b.op("Range", b.const(0), b.op("Size", like), b.const(1))


def _inverse_permutation(b: RewriteBuilder, order: Value) -> Value:
    return b.op("ScatterElements", order, order, _sequence(b, order), axis=0)


def _rewrite(ctx: OpContext, b: RewriteBuilder, compared: Value) -> list[Value]:
    """All outputs, with the values of `compared` instead of those of the input as far as order and equality go."""
    rows = _rows(ctx, b, compared)
    order = b.op("onnxc::SortRows", rows)
    starts = _starts(b, b.op("Gather", rows, order, axis=0))
    rank = b.op("Sub", b.op("CumSum", b.op("Cast", starts, to=DType.INT64), b.const(0)), b.const(1))
    begin = b.op("Compress", _sequence(b, order), starts, axis=0)
    first = b.op("Gather", order, begin, axis=0)
    end = b.op("Concat", b.op("Slice", begin, b.const([1]), b.const([2**62])), b.op("Shape", order), axis=0)
    # With nothing to sort there is no group, but `end` has an element all the same.
    counts = b.op("Sub", b.op("Slice", end, b.const([0]), b.op("Shape", begin)), begin)
    inverse = b.op("ScatterElements", order, order, rank, axis=0)
    if not ctx.int_attr("sorted", 1):
        # In the order of first occurrence.
        moved = b.op("onnxc::SortRows", b.op("Unsqueeze", first, b.const([1])))
        first, counts = b.op("Gather", first, moved, axis=0), b.op("Gather", counts, moved, axis=0)
        inverse = b.op("Gather", _inverse_permutation(b, moved), inverse, axis=0)
    source = ctx.value(0) if _axis(ctx) is not None else b.op("Reshape", ctx.value(0), b.const([-1]))
    return [b.op("Gather", source, first, axis=_axis(ctx) or 0), first, inverse, counts]


def _unique(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    if ctx.dtype(0).kind is Kind.COMPLEX:
        ctx.fail("E0202", f"values of type {ctx.dtype(0).label} have no order")
    compared = ranks_of(b, ctx.value(0)) if ctx.dtype(0) is DType.STRING else ctx.value(0)
    return _rewrite(ctx, b, compared)[: len(ctx.node.outputs)]


def _contrib(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    values, _, inverse, counts = _rewrite(ctx, b, ctx.value(0))
    return [values, inverse, counts][: len(ctx.node.outputs)]


register(
    OpDef("Unique", _types, Rewrite(_unique), defaults={"sorted": 1}),
    OpDef(
        "Unique",
        lambda ctx: [t for k, t in enumerate(_types(ctx)) if k != 1],
        Rewrite(_contrib),
        "com.microsoft",
        defaults={"sorted": 0},
        doc="Values in the order of their first occurrence, their positions for each element, and counts.",
    ),
)
