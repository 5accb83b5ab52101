"""DecoderMaskedMultiHeadAttention of the domain com.microsoft: attention of one new token to a cache, or to an encoder's keys."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph.nodes import Value
from .attention import split_heads
from .composite import composite, optional, wanted
from .contrib_attention import Heads, attend, biased, cut, extended, refuse_beams
from .table import OpContext, RewriteBuilder, register

QUERY, KEY, VALUE, MASK, ATTENTION_BIAS, PAST_KEY, PAST_VALUE, PAST_LENGTH, BEAMS, INDIRECTION, BIAS = range(11)


def _attention(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    refuse_beams(ctx, INDIRECTION)
    if len(ctx.node.outputs) > 3:
        ctx.fail("E0203", "the output qk of DecoderMaskedMultiHeadAttention is not supported")
    query, last, value = (biased(ctx, b, x, i, BIAS) for i, x in enumerate(_operands(ctx, b)))
    mask, bias = optional(ctx, MASK), optional(ctx, ATTENTION_BIAS)
    if ctx.has(KEY) and ctx.rank(KEY) == 4:  # those of an encoder, which stay as they are
        return wanted(ctx, attend(ctx, b, Heads(query, last, value, last), mask, bias)[0], last, value)
    length = optional(ctx, PAST_LENGTH) if ctx.int_attr("past_present_share_buffer") else None
    key, seen_key = extended(b, optional(ctx, PAST_KEY), last, length)
    value, seen_value = extended(b, optional(ctx, PAST_VALUE), value, length)
    return wanted(ctx, attend(ctx, b, Heads(query, seen_key, seen_value, last), mask, bias)[0], key, value)


def _operands(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    """Queries, keys and values by heads; packed ones are cut apart."""
    heads = ctx.int_attr("num_heads")
    if heads < 1:
        ctx.fail("E0203", "num_heads must be positive")
    if ctx.has(KEY):
        given = [ctx.value(k) for k in (QUERY, KEY, VALUE)]
        return [x if x.type.rank == 4 else split_heads(b, x, heads) for x in given]
    width = ctx.shape(QUERY)[2]
    if not isinstance(width, int):
        ctx.fail("E0204", "the hidden size must be known when compiling")
    third = width // 3
    return [split_heads(b, cut(b, ctx.value(QUERY), 2, k * third, (k + 1) * third), heads) for k in range(3)]


register(composite("DecoderMaskedMultiHeadAttention", _attention))
