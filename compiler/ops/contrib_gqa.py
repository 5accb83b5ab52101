"""GroupQueryAttention of the domain com.microsoft: grouped heads, rotary embedding and a cache with lengths.

`seqlens_k[b] + 1` keys are valid in batch element `b`; the new ones stand right behind those of the past.
Where each new key goes, which keys a query sees and at which position it stands are small nests of
their own (domain `onnxc`), which fuse with what uses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Dim, Expr
from .attention import default_scale, known_head, lowest, scores, split_heads
from .composite import wanted
from .extents import times
from .kv_cache import cache_extent, first_new_row
from .table import Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register

MICROSOFT = "com.microsoft"
QUERY, KEY, VALUE, PAST_KEY, PAST_VALUE, LENGTHS, TOTAL, COS, SIN, POSITIONS, BIAS, SINK = range(12)
BEFORE_SOFTMAX = 1
"""The attribute `qk_output` where the fourth output is the scores, not their softmax."""


def _head(ctx: OpContext) -> tuple[int, int, Dim]:
    """Number of query heads, of key heads, and size of a head."""
    heads, key_heads = ctx.int_attr("num_heads"), ctx.int_attr("kv_num_heads")
    if heads < 1 or key_heads < 1 or heads % key_heads:
        ctx.fail("E0203", f"{key_heads} key heads do not divide {heads} query heads")
    parts = heads if ctx.has(KEY) else heads + 2 * key_heads
    return heads, key_heads, build.dim(build.floordiv(build.index(ctx.shape(QUERY)[2]), parts))


def _types(ctx: OpContext) -> list[TensorType]:
    heads, key_heads, head = _head(ctx)
    batch, sequence = ctx.shape(QUERY)[:2]
    whole = cache_extent(ctx.number(TOTAL), ctx.shape(PAST_KEY)[2] if ctx.has(PAST_KEY) else 0)
    cache = TensorType(ctx.dtype(QUERY), (batch, key_heads, whole, head))
    output = TensorType(ctx.dtype(QUERY), (batch, sequence, times(heads, head)))
    return [output, cache, cache, TensorType(ctx.dtype(QUERY), (batch, heads, sequence, whole))]


def _rewrite(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    if any(ctx.has(i) for i in range(SINK + 1, 16)):
        ctx.fail("E0203", "quantized caches and normalized queries of GroupQueryAttention are not supported")
    if ctx.int_attr("sliding_window_cache"):
        ctx.fail("E0203", "caches of GroupQueryAttention that hold a window only are not supported", "export with sliding_window_cache = 0")
    heads, key_heads, size = _head(ctx)
    head = known_head(ctx, size)
    lengths, whole = ctx.value(LENGTHS), ctx.value(TOTAL)
    query, key, value = (
        split_heads(b, x, n) for x, n in zip(_operands(ctx, b, heads, key_heads, head), (heads, key_heads, key_heads), strict=True)
    )
    if ctx.int_attr("do_rotary"):
        places = ctx.value(POSITIONS) if ctx.has(POSITIONS) else b.op("onnxc::CachePositions", lengths, query)
        turn = {"interleaved": ctx.int_attr("rotary_interleaved"), "rotary_embedding_dim": _turned(ctx)}
        query, key = (b.op("com.microsoft::RotaryEmbedding", x, places, ctx.value(COS), ctx.value(SIN), **turn) for x in (query, key))
    past = [ctx.value(i) if ctx.has(i) else None for i in (PAST_KEY, PAST_VALUE)]
    key, value = (b.op("onnxc::CacheAppend", p, x, lengths, whole) for p, x in zip(past, (key, value), strict=True))
    groups = heads // key_heads
    grouped = b.op("Reshape", query, b.const([0, key_heads, groups, -1, head]))
    seen = [b.op("onnxc::CacheRows", x, None, whole, axis=2, rows=0) if ctx.has(PAST_KEY) else x for x in (key, value)]
    widened = [b.op("Unsqueeze", x, b.const([2])) for x in seen]
    found = scores(b, grouped, widened[0], default_scale(ctx, head))
    cap = ctx.float_attr("softcap")
    if cap > 0:
        limit = b.const(cap, query.type.dtype)
        found = b.op("Mul", b.op("Tanh", b.op("Div", found, limit)), limit)
    mask = b.op("onnxc::CacheMask", lengths, query, seen[0], window=ctx.int_attr("local_window_size", -1), causal=ctx.int_attr("causal", 1))
    mask = b.op("Unsqueeze", mask, b.const([2]))
    found = b.op("Add", found, mask)
    if ctx.has(BIAS):
        found = b.op("Add", found, _grouped_bias(ctx, b, key_heads, groups))
    weights = _weights(ctx, b, found, key_heads, groups)
    joined = b.op("Reshape", b.op("Transpose", b.op("MatMul", weights, widened[1]), perm=(0, 3, 1, 2, 4)), b.const([0, 0, -1]))
    return wanted(ctx, joined, key, value, _shown(ctx, b, query, found, mask, weights) if len(ctx.node.outputs) > 3 else None)


def _shown(ctx: OpContext, b: RewriteBuilder, query: Value, found: Value, mask: Value, weights: Value) -> Value:
    """The scores `[batch, heads, sequence, keys]`, zero where a query does not see a key, or their softmax."""
    if ctx.int_attr("qk_output") == BEFORE_SOFTMAX:
        zero = b.const(0.0, found.type.dtype)
        weights = b.op("Where", b.op("Equal", mask, zero), found, zero)
    outer = b.op("Slice", b.op("Shape", query), b.const([0]), b.const([3]))
    return b.op("Reshape", weights, b.op("Concat", outer, b.const([-1]), axis=0))


def _turned(ctx: OpContext) -> int:
    """How many elements of a head turn: two for each cached angle."""
    cached = ctx.shape(COS)[1]
    if not isinstance(cached, int):
        ctx.fail("E0204", "the width of cos_cache must be known when compiling")
    return 2 * cached


def _operands(ctx: OpContext, b: RewriteBuilder, heads: int, key_heads: int, head: int) -> tuple[Value, Value, Value]:
    """Queries, keys and values; packed ones are cut apart."""
    if ctx.has(KEY):
        return ctx.value(QUERY), ctx.value(KEY), ctx.value(VALUE)
    ends = [0, heads * head, (heads + key_heads) * head, (heads + 2 * key_heads) * head]
    query, key, value = (b.op("Slice", ctx.value(QUERY), b.const([s]), b.const([e]), b.const([2])) for s, e in pairwise(ends))
    return query, key, value


def _grouped_bias(ctx: OpContext, b: RewriteBuilder, key_heads: int, groups: int) -> Value:
    """The additive bias `[batch or 1, heads or 1, sequence, keys]` with heads in groups."""
    bias = ctx.value(BIAS)
    if bias.type.shape[1] == 1:
        return b.op("Unsqueeze", bias, b.const([2]))
    split = b.op("Unsqueeze", bias, b.const([2]))
    folded = [b.op("Slice", split, b.const([i]), b.const([i + groups]), b.const([1])) for i in range(0, key_heads * groups, groups)]
    return b.op("Concat", *(b.op("Transpose", x, perm=(0, 2, 1, 3, 4)) for x in folded), axis=1)


def _weights(ctx: OpContext, b: RewriteBuilder, found: Value, key_heads: int, groups: int) -> Value:
    """Softmax of the scores; with a sink, a further score takes its share and is dropped."""
    if not ctx.has(SINK) and not ctx.int_attr("smooth_softmax"):
        return b.op("Softmax", found, axis=-1)
    if ctx.has(SINK):
        sink = b.op("Reshape", ctx.value(SINK), b.const([key_heads, groups, 1, 1]))
    else:
        sink = b.const(0.0, found.type.dtype)
    top = b.op("Max", b.op("ReduceMax", found, b.const([-1]), keepdims=1), sink)
    exponentials = b.op("Exp", b.op("Sub", found, top))
    whole = b.op("Add", b.op("ReduceSum", exponentials, b.const([-1]), keepdims=1), b.op("Exp", b.op("Sub", sink, top)))
    return b.op("Div", exponentials, whole)


# --- The cache --------------------------------------------------------------------------------


def _past_length(ctx: OpContext, position: int, batch: Expr, sequence: Dim) -> Expr:
    """How many keys batch element `batch` has from earlier calls."""
    at = (batch,) if ctx.rank(position) == 1 else (batch, const(0))
    return first_new_row(ctx.read(position, *at), sequence)


def _append_type(ctx: OpContext) -> list[TensorType]:
    batch, heads, _, head = ctx.shape(1)
    past = ctx.shape(0)[2] if ctx.has(0) else 0
    whole = cache_extent(ctx.number(3), past) if ctx.has(3) else past
    return [TensorType(ctx.dtype(1), (batch, heads, whole, head))]


def _append(ctx: OpContext) -> list[Nest]:
    """New rows behind those of the past; what lies behind them is zero, or as it was in a buffer of full length."""
    sequence = ctx.shape(1)[2]

    def element(n: Expr, h: Expr, j: Expr, d: Expr) -> Expr:
        start = _past_length(ctx, 2, n, sequence)
        offset = build.sub(j, start)
        is_new = build.logical_and(build.ge(offset, 0), build.lt(offset, build.index(sequence)))
        old: Expr = const(0, ctx.dtype(1))
        if ctx.has(0):
            before = build.lt(j, start) if ctx.has(3) else build.TRUE
            kept = build.logical_and(before, build.lt(j, build.index(ctx.shape(0)[2])))
            old = build.select(kept, ctx.read(0, n, h, j, d), old)
        return build.select(is_new, ctx.read(1, n, h, offset, d), old)

    return [pointwise(_append_type(ctx)[0].shape, element)]


def _positions_type(ctx: OpContext) -> list[TensorType]:
    batch, _, sequence, _ = ctx.shape(1)
    return [TensorType(DType.INT64, (batch, sequence))]


def _positions(ctx: OpContext) -> list[Nest]:
    (kind,) = _positions_type(ctx)
    return [pointwise(kind.shape, lambda n, i: build.add(_past_length(ctx, 0, n, kind.shape[1]), i))]


def _mask_type(ctx: OpContext) -> list[TensorType]:
    batch, _, sequence, _ = ctx.shape(1)
    return [TensorType(ctx.dtype(1), (batch, 1, sequence, ctx.shape(2)[2]))]


def _mask(ctx: OpContext) -> list[Nest]:
    (kind,) = _mask_type(ctx)
    window, sequence = ctx.int_attr("window", -1), kind.shape[2]

    def element(n: Expr, _: Expr, i: Expr, j: Expr) -> Expr:
        place = build.add(_past_length(ctx, 0, n, sequence), i)
        at = (n,) if ctx.rank(0) == 1 else (n, const(0))
        seen = build.le(j, build.cast(ctx.read(0, *at), DType.INT64))
        if ctx.int_attr("causal", 1):
            seen = build.logical_and(seen, build.le(j, place))
        if window > 0:
            seen = build.logical_and(seen, build.gt(j, build.sub(place, window)))
        return build.select(seen, const(0, kind.dtype), const(lowest(kind.dtype), kind.dtype))

    return [pointwise(kind.shape, element)]


register(
    OpDef("GroupQueryAttention", _types, Rewrite(_rewrite), MICROSOFT, ranks=(3, 3, 3, 4, 4)),
    OpDef("CacheAppend", _append_type, Nests(_append), "onnxc", doc="past, new, seqlens_k, [total length] -> present"),
    OpDef("CachePositions", _positions_type, Nests(_positions), "onnxc", doc="seqlens_k, query -> position of each query"),
    OpDef("CacheMask", _mask_type, Nests(_mask), "onnxc", doc="seqlens_k, query, present -> what is added to the scores"),
)
