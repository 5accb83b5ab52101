"""Layers of the domain com.microsoft with quantized weights: attention, and an LSTM that quantizes what it computes with."""

from __future__ import annotations

from collections.abc import Sequence

from ..dtypes import DType
from ..graph.nodes import Attribute, TensorType, Value
from .contrib_attention import attention_of, projected_sizes
from .contrib_fused import kept
from .extents import total
from .recurrent import RANKS
from .table import OpContext, OpDef, Rewrite, RewriteBuilder, register

MICROSOFT = "com.microsoft"

# --- QAttention -------------------------------------------------------------------------------

MASK, X_ZERO, W_ZERO, PAST = range(5, 9)


def _optional(ctx: OpContext, position: int) -> Value | None:
    return ctx.value(position) if ctx.has(position) else None


def _attention_type(ctx: OpContext) -> list[TensorType]:
    batch, sequence, _ = ctx.shape(0)
    heads, (query, _, value), dtype = max(1, ctx.int_attr("num_heads")), projected_sizes(ctx), ctx.dtype(3)
    past = ctx.shape(PAST)[3] if ctx.has(PAST) else 0
    present = TensorType(dtype, (2, batch, heads, total(past, sequence), query // heads))
    return [TensorType(dtype, (batch, sequence, value)), present]


def _attention(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    """The projection sums integers; what follows it is float32."""
    zeros = (_optional(ctx, X_ZERO), _optional(ctx, W_ZERO))
    factors = (ctx.value(0), ctx.value(1), ctx.value(3), ctx.value(4), *zeros, _optional(ctx, 2))
    projected = b.op(f"{MICROSOFT}::MatMulIntegerToFloat", *factors)
    return attention_of(ctx, b, projected, _optional(ctx, MASK), _optional(ctx, PAST))


# --- DynamicQuantizeLSTM ----------------------------------------------------------------------

W_SCALE, R_SCALE = 8, 10
_KEPT = ("activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget")


def _lstm_type(ctx: OpContext) -> list[TensorType]:
    (time, batch, _), (directions, hidden, _) = ctx.shape(0), ctx.shape(2)
    state = TensorType(DType.FLOAT32, (directions, batch, hidden))
    return [TensorType(DType.FLOAT32, (time, directions, batch, hidden)), state, state]


def _lstm(ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    """An LSTM of dequantized weights; its input as a whole and h of each step pass through 8-bit codes."""
    codes, scale, zero_point = b.ops("DynamicQuantizeLinear", 3, ctx.value(0))
    x = b.op("DequantizeLinear", codes, scale, zero_point)
    attrs: dict[str, Attribute] = kept(ctx, *_KEPT)
    given = (_optional(ctx, i) for i in range(3, W_SCALE))
    return b.ops("LSTM", 3, x, _matrix(ctx, b, 1, W_SCALE), _matrix(ctx, b, 2, R_SCALE), *given, quantize_state=1, **attrs)


def _matrix(ctx: OpContext, b: RewriteBuilder, position: int, scale: int) -> Value:
    """Dequantized weights `[directions, gates * hidden, width]`; those of the node have the last axes the other way round."""
    axes = b.const([1, 2] if ctx.rank(scale) == 1 else [1])
    real = b.op("Cast", ctx.value(position), to=DType.FLOAT32.onnx)
    if ctx.has(scale + 1):
        real = b.op("Sub", real, b.op("Unsqueeze", b.op("Cast", ctx.value(scale + 1), to=DType.FLOAT32.onnx), axes))
    return b.op("Transpose", b.op("Mul", real, b.op("Unsqueeze", ctx.value(scale), axes)), perm=(0, 2, 1))


register(
    OpDef("QAttention", _attention_type, Rewrite(_attention), MICROSOFT, ranks=(3, 2, 1, *[None] * 5, 5)),
    OpDef(
        "DynamicQuantizeLSTM", _lstm_type, Rewrite(_lstm), MICROSOFT,
        ranks=RANKS, doc="The range of h is that of a batch element by itself; weights are float32 in the artifact.",
    ),
)  # fmt: skip
