"""Fused contractions of the domain com.microsoft, taken apart again: the compiler fuses by itself."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph.nodes import Attribute, TensorType, Value
from .contraction import gemm
from .convolution import conv_type
from .elementwise import broadcast_shape
from .table import OpContext, OpDef, Rewrite, RewriteBuilder, register

MICROSOFT = "com.microsoft"
_GEMM = ("alpha", "beta", "transA", "transB")
_CONV = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "LeakyRelu": ("alpha",), "Elu": ("alpha",), "ThresholdedRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"),
    "Selu": ("alpha", "gamma"), "Relu": (), "Sigmoid": (), "Tanh": (), "Softplus": (), "Softsign": (), "HardSwish": (),
}  # fmt: skip
"""Activations that may follow, with the attributes that their parameters become."""


def activated(ctx: OpContext, b: RewriteBuilder, x: Value, name: str, parameters: Sequence[float]) -> Value:
    """Apply an activation named by an attribute; E0203 if it is not known."""
    if not name:
        return x
    if name == "Clip":
        low, high = parameters
        return b.op("Clip", x, b.const(float(low), x.type.dtype), b.const(float(high), x.type.dtype))
    if name not in _PARAMETERS:
        ctx.fail("E0203", f"activation {name} is not known", f"known are Clip, {', '.join(_PARAMETERS)}")
    attrs: dict[str, Attribute] = {key: float(value) for key, value in zip(_PARAMETERS[name], parameters, strict=False)}
    return b.op(name, x, **attrs)


def kept(ctx: OpContext, *names: str) -> dict[str, Attribute]:
    """The attributes of these names that the node has."""
    return {name: ctx.node.attrs[name] for name in names if name in ctx.node.attrs}


# --- FusedMatMul, TransposeMatMul -------------------------------------------------------------


def _order(ctx: OpContext, position: int, side: str) -> tuple[int, ...]:
    """The order of axes that makes an operand one of MatMul."""
    order = list(range(ctx.rank(position)))
    if len(order) > 1 and ctx.int_attr(f"transBatch{side}"):
        order = [*order[1:-1], order[0], order[-1]]
    if len(order) > 1 and ctx.int_attr(f"trans{side}"):
        order[-2], order[-1] = order[-1], order[-2]
    return tuple(order)


def _fused_matmul_type(ctx: OpContext) -> list[TensorType]:
    left, right = (tuple(ctx.shape(i)[axis] for axis in _order(ctx, i, side)) for i, side in ((0, "A"), (1, "B")))
    batch = broadcast_shape(ctx, left[:-2], right[:-2])
    return [TensorType(ctx.dtype(0), (*batch, *left[-2:-1], *(right[-1:] if len(right) > 1 else ())))]


def _fused_matmul(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    operands = []
    for i, side in ((0, "A"), (1, "B")):
        order = _order(ctx, i, side)
        plain = order == tuple(range(len(order)))
        operands.append(ctx.value(i) if plain else b.op("Transpose", ctx.value(i), perm=order))
    product, alpha = b.op("MatMul", *operands), ctx.float_attr("alpha", 1.0)
    return [product if alpha == 1.0 else b.op("Mul", product, b.const(alpha, ctx.dtype(0)))]


# --- FusedGemm, FusedConv ---------------------------------------------------------------------


def _fused_gemm(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    y = b.op("Gemm", *ctx.node.inputs, **kept(ctx, *_GEMM))
    name = ctx.str_attr("activation")
    parameters = [float(given) for key in _PARAMETERS.get(name, ()) if (given := ctx.attr(f"activation_{key}", float)) is not None]
    return [activated(ctx, b, y, name, parameters)]


def _fused_conv(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    y = b.op("Conv", *ctx.node.inputs[:3], **kept(ctx, *_CONV))
    if ctx.has(3):
        y = b.op("Add", y, ctx.value(3))
    return [activated(ctx, b, y, ctx.str_attr("activation"), ctx.attr("activation_params", tuple) or ())]


register(
    OpDef("FusedMatMul", _fused_matmul_type, Rewrite(_fused_matmul), MICROSOFT),
    OpDef("TransposeMatMul", _fused_matmul_type, Rewrite(_fused_matmul), MICROSOFT),
    OpDef("FusedGemm", lambda ctx: [TensorType(ctx.dtype(0), gemm(ctx).shape)], Rewrite(_fused_gemm), MICROSOFT),
    OpDef("FusedConv", conv_type, Rewrite(_fused_conv), MICROSOFT),
)
