"""`onnxc::WalkSets`: trees whose nodes may ask whether a feature is one of a set, or are shared by many parents.

The kernel goes through the rows of X in parallel, follows every tree from its root to a leaf, and adds (or takes the extremum of) the
weights of that leaf. `tree_walk.py` is faster where nodes only compare with thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import load
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import Buffer, Expr, LoopKind
from .table import INTERNAL, Imperative, OpContext, OpDef, register
from .tree_tables import LEAF
from .tree_walk import COMPARISONS, combined, neutral

MEMBER = 6
"""Mode of a node that tests membership."""


def _sums_type(ctx: OpContext) -> list[TensorType]:
    if ctx.rank(0) != 2:
        ctx.fail("E0203", "the features must have two axes")
    return [TensorType(ctx.dtype(10), (ctx.shape(0)[0], ctx.int_attr("targets")))]


def _walk(ctx: OpContext, k: KernelBuilder, inputs: Sequence[Buffer | None], outputs: Sequence[Buffer | None]) -> None:
    x, feature, _, mode, yes, no, _, roots, first, target, weight = (i for i in inputs[:11] if i is not None)
    (y,) = (o for o in outputs if o is not None)
    targets, aggregate, count = ctx.int_attr("targets"), ctx.str_attr("aggregate"), ctx.shape(7)[0]
    start = neutral(aggregate, y.dtype)
    with k.loop("n", ctx.shape(0)[0], LoopKind.PARALLEL) as n, k.local(DType.INT64, 1, "node") as node, k.local(y.dtype, targets) as acc:
        with k.loop("j", targets) as j:
            k.store(acc, j, start)
        with k.loop("t", count) as t:
            k.store(node, 0, load(roots, t))
            with k.repeat(build.ne(load(mode, load(node, 0)), LEAF)), k.let(load(node, 0)) as here:
                row = build.mul(n, build.index(ctx.shape(0)[1]))
                with k.let(load(x, build.add(row, load(feature, here)))) as value:
                    _step(ctx, k, inputs, node, here, value, yes, no)
            begin, end = load(first, load(node, 0)), load(first, build.add(load(node, 0), 1))
            with k.let(begin) as start_here, k.loop("w", build.sub(end, start_here)) as w:
                entry = build.add(start_here, w)
                with k.let(load(target, entry)) as which:
                    k.store(acc, which, combined(aggregate, load(acc, which), load(weight, entry)))
        with k.loop("j", targets) as j:
            total: Expr = load(acc, j)
            if aggregate == "AVERAGE":
                total = build.div(total, build.cast(build.index(count), y.dtype))
            k.store(y, build.add(build.mul(n, targets), j), total)


def _step(
    ctx: OpContext, k: KernelBuilder, inputs: Sequence[Buffer | None], node: Buffer, here: Expr, x: Expr, yes: Buffer, no: Buffer
) -> None:
    """Move `node` to the child that the feature `x` leads to."""
    threshold, mode, missing = inputs[2], inputs[3], inputs[6]
    assert threshold is not None and mode is not None and missing is not None
    feature = build.cast(x, threshold.dtype)
    limit, present = load(threshold, here), ctx.ints_attr("modes") or ()
    with k.local(DType.BOOL, 1, "holds") as holds:
        taken: Expr = build.FALSE
        for which in (m for m in present if m != MEMBER):
            met = COMPARISONS[which](feature, limit)
            taken = met if taken is build.FALSE else build.select(build.eq(load(mode, here), which), met, taken)
        k.store(holds, 0, taken)
        if MEMBER in present:
            first, members = inputs[11], inputs[12]
            assert first is not None and members is not None
            with k.when(build.eq(load(mode, here), MEMBER)):
                k.store(holds, 0, build.FALSE)
                begin, count = load(first, here), build.sub(load(first, build.add(here, 1)), load(first, here))
                with k.loop("m", count) as m, k.when(build.eq(feature, load(members, build.add(begin, m)))):
                    k.store(holds, 0, build.TRUE)
        is_missing = build.logical_and(build.ne(feature, feature), build.ne(load(missing, here), 0))
        k.store(node, 0, build.select(build.logical_or(load(holds, 0), is_missing), load(yes, here), load(no, here)))


register(OpDef("WalkSets", _sums_type, Imperative(_walk), INTERNAL, doc="features, tables -> sums of the leaves that are reached"))
