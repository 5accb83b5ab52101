"""EmbedLayerNormalization of the domain com.microsoft: gathered embeddings, summed and normalized."""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from .table import OpContext, OpDef, Rewrite, RewriteBuilder, register

IDS, SEGMENT_IDS, WORDS, POSITIONS, SEGMENTS, GAMMA, BETA, MASK, POSITION_IDS = range(9)


def _types(ctx: OpContext) -> list[TensorType]:
    batch, sequence = ctx.shape(IDS)
    whole = TensorType(ctx.dtype(WORDS), (batch, sequence, ctx.shape(WORDS)[1]))
    return [whole, TensorType(DType.INT32, (batch,)), whole]


def _rewrite(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    ids = ctx.value(IDS)
    summed = b.op("Add", b.op("Gather", ctx.value(WORDS), ids, axis=0), _positions(ctx, b))
    if ctx.has(SEGMENT_IDS) and ctx.has(SEGMENTS):
        summed = b.op("Add", summed, b.op("Gather", ctx.value(SEGMENTS), ctx.value(SEGMENT_IDS), axis=0))
    epsilon = ctx.float_attr("epsilon", 1e-12)
    normalized = b.op("LayerNormalization", summed, ctx.value(GAMMA), ctx.value(BETA), axis=-1, epsilon=epsilon)
    return [normalized, _mask_index(ctx, b), summed]


def _positions(ctx: OpContext, b: RewriteBuilder) -> Value:
    """Embeddings of the positions: those of `position_ids`, else the first rows of the table."""
    table = ctx.value(POSITIONS)
    if ctx.has(POSITION_IDS):
        return b.op("Gather", table, ctx.value(POSITION_IDS), axis=0)
    length = b.op("Slice", b.op("Shape", ctx.value(IDS)), b.const([1]), b.const([2]), b.const([0]))
    return b.op("Slice", table, b.const([0]), length, b.const([0]))


def _mask_index(ctx: OpContext, b: RewriteBuilder) -> Value | None:
    """Number of unmasked tokens of each batch element, 0 without a mask."""
    if len(ctx.node.outputs) < 2 or ctx.node.outputs[1] is None:
        return None
    if ctx.has(MASK):
        return b.op("ReduceSum", ctx.value(MASK), b.const([1]), keepdims=0)
    zeros = b.op("Mul", b.op("Cast", ctx.value(IDS), to=DType.INT32.onnx), b.const(0, DType.INT32))
    return b.op("ReduceSum", zeros, b.const([1]), keepdims=0)


register(OpDef("EmbedLayerNormalization", _types, Rewrite(_rewrite), "com.microsoft", defaults={"epsilon": 1e-12}))
