"""Attention and MultiHeadAttention of the domain com.microsoft, rewritten into products and Softmax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.nodes import Dim
from .attention import appended, default_scale, join_heads, scores, split_heads
from .composite import MICROSOFT, optional
from .extents import times, total
from .table import OpContext, OpDef, Rewrite, RewriteBuilder, register


@dataclass(frozen=True, slots=True)
class Heads:
    """Queries, keys and values as `[batch, heads, sequence, size]`."""

    query: Value
    key: Value
    value: Value
    last: Value
    """The keys behind those of the past, of which the first belongs to the first query."""


def attend(ctx: OpContext, b: RewriteBuilder, heads: Heads, mask: Value | None, bias: Value | None) -> tuple[Value, Value]:
    """Output `[batch, sequence, hidden]` and the scores before the softmax."""
    found = scores(b, heads.query, heads.key, default_scale(ctx, heads.query.type.shape[3]))
    causal = ctx.int_attr("unidirectional")
    if mask is not None or causal:
        hidden = ctx.float_attr("mask_filter_value", -10000.0)
        found = b.op("Add", found, b.op("onnxc::AttentionMask", found, mask, heads.last, causal=causal, filter=hidden))
    if bias is not None:
        found = b.op("Add", found, bias)
    return join_heads(b, b.op("MatMul", b.op("Softmax", found, axis=-1), heads.value)), found


def _heads_attr(ctx: OpContext) -> int:
    heads = ctx.int_attr("num_heads")
    if heads < 1:
        ctx.fail("E0203", "num_heads must be positive")
    return heads


def cut(b: RewriteBuilder, x: Value, axis: int, start: int, end: int) -> Value:
    """A part of a tensor along one axis."""
    return b.op("Slice", x, b.const([start]), b.const([end]), b.const([axis]))


# --- Attention --------------------------------------------------------------------------------


def projected_sizes(ctx: OpContext) -> tuple[int, int, int]:
    """Widths of the projected queries, keys and values."""
    width = ctx.shape(1)[1]
    given = ctx.ints_attr("qkv_hidden_sizes", 3)
    if given:
        return given[0], given[1], given[2]
    if not isinstance(width, int):
        ctx.fail("E0204", "the width of the weights must be known when compiling")
    return width // 3, width // 3, width // 3


def _attention_type(ctx: OpContext) -> list[TensorType]:
    batch, sequence, _ = ctx.shape(0)
    heads, (query, _, value), dtype = _heads_attr(ctx), projected_sizes(ctx), ctx.dtype(0)
    past = ctx.shape(4)[3] if ctx.has(4) else 0
    present = TensorType(dtype, (2, batch, heads, total(past, sequence), query // heads))
    return [TensorType(dtype, (batch, sequence, value)), present]


def _attention(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    if ctx.int_attr("past_present_share_buffer") or ctx.int_attr("do_rotary"):
        ctx.fail("E0203", "Attention with a shared cache buffer or rotary embedding is not supported", "use GroupQueryAttention")
    projected = b.op("MatMul", ctx.value(0), ctx.value(1))
    if ctx.has(2):
        projected = b.op("Add", projected, ctx.value(2))
    return attention_of(ctx, b, projected, optional(ctx, 3), optional(ctx, 4), optional(ctx, 5))


def attention_of(
    ctx: OpContext, b: RewriteBuilder, projected: Value, mask: Value | None, past: Value | None, bias: Value | None = None
) -> Sequence[Value | None]:
    """Output and cache of a node whose input is projected to queries, keys and values side by side."""
    starts, parts = 0, []
    for size in projected_sizes(ctx):
        parts.append(split_heads(b, cut(b, projected, 2, starts, starts + size), _heads_attr(ctx)))
        starts += size
    query, key, value = parts
    present, last = None, key
    if past is not None or len(ctx.node.outputs) > 1:
        present = b.op("Concat", *(b.op("Unsqueeze", x, b.const([0])) for x in (key, value)), axis=0)
    if past is not None:
        present = b.op("Concat", past, present, axis=3)
        key, value = (b.op("Squeeze", cut(b, present, 0, i, i + 1), b.const([0])) for i in range(2))
    output, _ = attend(ctx, b, Heads(query, key, value, last), mask, bias)
    return [output, present][: len(ctx.node.outputs)]


# --- MultiHeadAttention -----------------------------------------------------------------------


def _multi_head_type(ctx: OpContext) -> list[TensorType]:
    heads, dtype, query = _heads_attr(ctx), ctx.dtype(0), ctx.shape(0)
    batch, sequence = query[:2]
    head = query[4] if len(query) == 5 else _quotient(query[2], heads)
    keys, value_head = sequence, head
    if ctx.has(1):
        key = ctx.shape(1)
        keys = key[2] if len(key) == 4 else key[1]
        if ctx.has(2):
            value = ctx.shape(2)
            value_head = value[3] if len(value) == 4 else _quotient(value[2], heads)
    past = ctx.shape(6)[2] if ctx.has(6) else 0
    whole = total(past, keys)
    kept, seen = (past, total(ctx.number(8), keys)) if ctx.has(8) and ctx.has(6) else (whole, whole)
    return [
        TensorType(dtype, (batch, sequence, times(heads, value_head))),
        TensorType(dtype, (batch, heads, kept, head)),
        TensorType(dtype, (batch, heads, kept, value_head)),
        TensorType(dtype, (batch, heads, sequence, seen)),
    ]


def _quotient(whole: Dim, parts: int) -> Dim:
    return build.dim(build.floordiv(build.index(whole), parts))


def _multi_head(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    refuse_beams(ctx, 9)
    query, last, value = (biased(ctx, b, x, i, 3) for i, x in enumerate(_operands(ctx, b)))
    key, seen_key = extended(b, optional(ctx, 6), last, optional(ctx, 8))
    value, seen_value = extended(b, optional(ctx, 7), value, optional(ctx, 8))
    output, before = attend(ctx, b, Heads(query, seen_key, seen_value, last), optional(ctx, 4), optional(ctx, 5))
    return [output, key, value, before]


def refuse_beams(ctx: OpContext, position: int) -> None:
    """E0203 if a table says which beam each key comes from."""
    if ctx.has(position):
        ctx.fail("E0203", "a cache that beams share (cache_indirection) is not supported", "search with one beam, or reorder the cache")


def extended(b: RewriteBuilder, past: Value | None, new: Value, length: Value | None) -> tuple[Value, Value]:
    """Keys or values with the new ones: as they are handed on, and those that are there.

    With a length, the past is a buffer that has room for the new ones behind that many.
    """
    if past is None or length is None:
        whole = appended(b, past, new)
        return whole, whole
    count = b.op("Slice", b.op("Shape", new), b.const([2]), b.const([3]))
    total = b.op("Add", b.op("Cast", b.op("Reshape", length, b.const([1])), to=DType.INT64.onnx), count)
    last = b.op("Expand", b.op("Sub", total, b.const([1])), b.op("Slice", b.op("Shape", new), b.const([0]), b.const([1])))
    present = b.op("onnxc::CacheAppend", past, new, last)
    return present, b.op("onnxc::CacheRows", present, None, total, axis=2, rows=0)


def _operands(ctx: OpContext, b: RewriteBuilder) -> tuple[Value, Value, Value]:
    """Queries, keys and values by heads; packed ones are taken apart."""
    heads = _heads_attr(ctx)
    if not ctx.has(1):
        query, key, value = (_unpacked(b, ctx.value(0), i) for i in range(3))
        return query, key, value
    query = split_heads(b, ctx.value(0), heads)
    if not ctx.has(2):
        return query, _unpacked(b, ctx.value(1), 0), _unpacked(b, ctx.value(1), 1)
    key, value = (ctx.value(i) if ctx.rank(i) == 4 else split_heads(b, ctx.value(i), heads) for i in (1, 2))
    return query, key, value


def _unpacked(b: RewriteBuilder, packed: Value, which: int) -> Value:
    """Part `which` of `[batch, sequence, heads, parts, size]`."""
    part = b.op("Squeeze", cut(b, packed, 3, which, which + 1), b.const([3]))
    return b.op("Transpose", part, perm=(0, 2, 1, 3))


def biased(ctx: OpContext, b: RewriteBuilder, x: Value, which: int, position: int) -> Value:
    """Add the part of the bias that belongs to queries, keys or values."""
    if not ctx.has(position) or (which > 0 and ctx.has(1) and ctx.rank(1) == 4):
        return x
    heads = _heads_attr(ctx)
    hidden = times(heads, x.type.shape[3])
    all_biases = ctx.shape(position)[0]
    if not isinstance(hidden, int) or not isinstance(all_biases, int):
        ctx.fail("E0204", "the hidden size must be known when compiling")
    start = all_biases - hidden if which == 2 else which * hidden
    part = cut(b, ctx.value(position), 0, start, start + hidden)
    return b.op("Add", x, b.op("Reshape", part, b.const([heads, 1, hidden // heads])))


register(
    OpDef("Attention", _attention_type, Rewrite(_attention), MICROSOFT, ranks=(3, 2, 1, None, 5)),
    OpDef("MultiHeadAttention", _multi_head_type, Rewrite(_multi_head), MICROSOFT),
)
