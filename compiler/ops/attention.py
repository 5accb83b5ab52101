"""Parts that the attention operators share: heads, scores, masks and caches of keys and values.

    output = softmax(scale * Q K' + bias) V

Attention of the default domain has a function body in its schema, which the frontend inlines; the
operators of com.microsoft are rewritten with the parts here (`contrib_attention.py`, `contrib_gqa.py`).
Query heads that share a key head stand on an axis of their own, so nothing is repeated in memory.
"""

from __future__ import annotations

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const, mul
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Dim, Expr
from .table import Nests, OpContext, OpDef, RewriteBuilder, register


def split_heads(b: RewriteBuilder, x: Value, heads: int) -> Value:
    """`[batch, sequence, heads * size]` as `[batch, heads, sequence, size]`."""
    return b.op("Transpose", b.op("Reshape", x, b.const([0, 0, heads, -1])), perm=(0, 2, 1, 3))


def join_heads(b: RewriteBuilder, x: Value) -> Value:
    """`[batch, heads, sequence, size]` as `[batch, sequence, heads * size]`."""
    return b.op("Reshape", b.op("Transpose", x, perm=(0, 2, 1, 3)), b.const([0, 0, -1]))


def scores(b: RewriteBuilder, query: Value, key: Value, scale: float) -> Value:
    """`scale * Q K'` over the last two axes."""
    order = (*range(len(key.type.shape) - 2), len(key.type.shape) - 1, len(key.type.shape) - 2)
    return b.op("Mul", b.op("MatMul", query, b.op("Transpose", key, perm=order)), b.const(scale, query.type.dtype))


def appended(b: RewriteBuilder, past: Value | None, new: Value) -> Value:
    """Keys or values of the past in front of the new ones."""
    return new if past is None else b.op("Concat", past, new, axis=2)


def default_scale(ctx: OpContext, head: Dim) -> float:
    """The attribute `scale`, or one by the square root of the head size."""
    given = ctx.float_attr("scale")
    if given:
        return given
    return float(known_head(ctx, head) ** -0.5)


def known_head(ctx: OpContext, head: Dim) -> int:
    """The size of a head; E0204 if it is known only at run time."""
    if not isinstance(head, int):
        ctx.fail("E0204", "the size of a head must be known when compiling")
    return head


def lowest(dtype: DType) -> float:
    """The most negative finite number of a float type."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype.numpy).min)  # type: ignore[no-untyped-call]


# --- Masks ------------------------------------------------------------------------------------


def _mask_type(ctx: OpContext) -> list[TensorType]:
    batch, _, rows, columns = ctx.shape(0)
    if ctx.has(1) and not 1 <= ctx.rank(1) <= 4:
        ctx.fail("E0203", f"the mask has {ctx.rank(1)} axes, but one to four are possible")
    if ctx.has(1) and ctx.rank(1) in (2, 3):
        wanted = (batch, columns) if ctx.rank(1) == 2 else (batch, rows, columns)
        for axis, (given, extent) in enumerate(zip(ctx.shape(1), wanted, strict=True)):
            ctx.same_extent(given, extent, f"axis {axis} of the mask and what the scores want")
    elif ctx.has(1) and ctx.rank(1) == 4:
        largest = build.minimum(build.index(ctx.shape(1)[2]), build.index(ctx.shape(1)[3]))
        ctx.require(build.ge(largest, build.index(columns)), "the mask is smaller than the scores")
    elif ctx.has(1):
        ctx.require(build.ge(build.index(ctx.shape(1)[0]), build.index(batch)), "the mask is smaller than the batch")
    return [TensorType(ctx.dtype(0), (batch, 1, rows, columns))]


def _mask(ctx: OpContext) -> list[Nest]:
    """What is added to the scores: `filter` where the mask says so, the lowest number above the diagonal."""
    dtype, shape = ctx.dtype(0), _mask_type(ctx)[0].shape
    past = build.sub(build.index(shape[3]), build.index(ctx.shape(2)[2]))
    hidden = const(ctx.float_attr("filter"), dtype)

    def element(n: Expr, _: Expr, i: Expr, j: Expr) -> Expr:
        seen = build.TRUE if not ctx.has(1) else _is_seen(ctx, n, i, j, past)
        value = build.select(seen, const(0, dtype), hidden)
        if not ctx.int_attr("causal"):
            return value
        is_future = build.gt(j, build.add(i, past))
        return build.select(is_future, const(lowest(dtype), dtype), value)

    return [pointwise(shape, element)]


def _is_seen(ctx: OpContext, n: Expr, i: Expr, j: Expr, past: Expr) -> Expr:
    """By the mask of `[batch]` lengths, `[2 * batch]` ends and starts, or zeros and ones of rank 2 to 4."""
    rank = ctx.rank(1)
    if rank == 2:
        return build.ne(ctx.read(1, n, j), 0)
    if rank == 3:
        return build.ne(ctx.read(1, n, i, j), 0)
    if rank == 4:
        return build.ne(ctx.read(1, n, const(0), build.add(i, past), j), 0)
    before_end = build.lt(j, build.cast(ctx.read(1, n), DType.INT64))
    has_starts = _has_starts(ctx)
    start = build.cast(ctx.read(1, build.add(n, build.index(ctx.shape(0)[0]))), DType.INT64)
    return build.select(has_starts, build.logical_and(before_end, build.ge(j, start)), before_end)


def _has_starts(ctx: OpContext) -> Expr:
    """True for a mask of ends and starts; behind lengths, places of packed queries and keys may stand: `[3 * batch + 2]`."""
    batch, extent = build.index(ctx.shape(0)[0]), ctx.shape(1)[0]
    if extent in (ctx.shape(0)[0], build.dim(build.add(mul(batch, 3), 2))):
        return build.FALSE
    return build.eq(build.index(extent), mul(batch, 2))


register(
    OpDef(
        "AttentionMask", _mask_type, Nests(_mask), "onnxc", doc="scores, mask, keys behind those of the past -> what is added to the scores"
    ),
)
