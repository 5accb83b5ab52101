"""EmbedLayerNormalization of the domain com.microsoft and its quantized form: gathered embeddings, summed and normalized."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from .table import OpContext, OpDef, Rewrite, RewriteBuilder, register

IDS, SEGMENT_IDS, WORDS, POSITIONS, SEGMENTS, GAMMA, BETA, MASK, POSITION_IDS = range(9)
RANKS = (2, 2, 2, 2, 2, 1, 1)
SCALES, ZERO_POINTS = 8, 13
"""Of the quantized form, for the inputs from `WORDS` to `BETA`."""

Real = Callable[[OpContext, RewriteBuilder, int, Value], Value]
"""(node, builder, position of a table, elements of it) -> their real values."""


def _types(ctx: OpContext) -> list[TensorType]:
    batch, sequence = ctx.shape(IDS)
    dtype = ctx.dtype(WORDS) if ctx.dtype(WORDS).is_float else ctx.dtype(SCALES)
    whole = TensorType(dtype, (batch, sequence, ctx.shape(WORDS)[1]))
    return [whole, TensorType(DType.INT32, (batch,)), whole]


def _rewrite(real: Real, ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    ids = ctx.value(IDS)

    def gathered(table: int, at: Value) -> Value:
        return real(ctx, b, table, b.op("Gather", ctx.value(table), at, axis=0))

    summed = b.op("Add", gathered(WORDS, ids), _positions(real, ctx, b))
    if ctx.has(SEGMENT_IDS) and ctx.has(SEGMENTS):
        summed = b.op("Add", summed, gathered(SEGMENTS, ctx.value(SEGMENT_IDS)))
    epsilon = ctx.float_attr("epsilon", 1e-12)
    gamma, beta = (real(ctx, b, i, ctx.value(i)) for i in (GAMMA, BETA))
    normalized = b.op("LayerNormalization", summed, gamma, beta, axis=-1, epsilon=epsilon)
    return [normalized, _mask_index(ctx, b), summed][: len(ctx.node.outputs)]


def _positions(real: Real, ctx: OpContext, b: RewriteBuilder) -> Value:
    """Embeddings of the positions: those of `position_ids`, else the first rows of the table."""
    table = ctx.value(POSITIONS)
    if real is _stored and ctx.has(POSITION_IDS):
        return b.op("Gather", table, ctx.value(POSITION_IDS), axis=0)
    length = b.op("Slice", b.op("Shape", ctx.value(IDS)), b.const([1]), b.const([2]), b.const([0]))
    return real(ctx, b, POSITIONS, b.op("Slice", table, b.const([0]), length, b.const([0])))


def _stored(ctx: OpContext, b: RewriteBuilder, position: int, part: Value) -> Value:
    return part


def _dequantized(ctx: OpContext, b: RewriteBuilder, position: int, part: Value) -> Value:
    scale, zero_point = (start + position - WORDS for start in (SCALES, ZERO_POINTS))
    return b.op("DequantizeLinear", part, ctx.value(scale), ctx.value(zero_point) if ctx.has(zero_point) else None)


def _mask_index(ctx: OpContext, b: RewriteBuilder) -> Value | None:
    """Number of unmasked tokens of each batch element, 0 without a mask."""
    if len(ctx.node.outputs) < 2 or ctx.node.outputs[1] is None:
        return None
    if ctx.has(MASK):
        return b.op("ReduceSum", ctx.value(MASK), b.const([1]), keepdims=0)
    zeros = b.op("Mul", b.op("Cast", ctx.value(IDS), to=DType.INT32.onnx), b.const(0, DType.INT32))
    return b.op("ReduceSum", zeros, b.const([1]), keepdims=0)


def _row(name: str, real: Real) -> OpDef:
    return OpDef(name, _types, Rewrite(lambda ctx, b: _rewrite(real, ctx, b)), "com.microsoft", defaults={"epsilon": 1e-12}, ranks=RANKS)


register(_row("EmbedLayerNormalization", _stored), _row("QEmbedLayerNormalization", _dequantized))
