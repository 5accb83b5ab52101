"""Products of the domain com.microsoft with integer weights and float results."""

from __future__ import annotations

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest
from ..kernel.nodes import Expr
from .contraction import contract, gemm, matmul_shape, scaled
from .elementwise import broadcast_indices
from .requantize import as_float, centered, per_channel, quantized
from .table import Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register

MICROSOFT = "com.microsoft"

# --- QGemm ------------------------------------------------------------------------------------


def _qgemm_type(ctx: OpContext) -> list[TensorType]:
    dtype = ctx.dtype(8) if ctx.has(8) else DType.FLOAT32
    return [TensorType(dtype, gemm(ctx, 0, 3).shape)]


def _qgemm(ctx: OpContext) -> list[Nest]:
    maps, zero = gemm(ctx, 0, 3), const(0)

    def finish(acc: Expr, axes: tuple[Expr, ...]) -> Expr:
        if ctx.has(6):
            acc = build.add(acc, ctx.read(6, *broadcast_indices(axes, ctx.shape(6), maps.shape)))
        scale = build.mul(as_float(per_channel(ctx, 1, zero)), as_float(per_channel(ctx, 4, axes[1])))
        scale = scaled(scale, ctx.float_attr("alpha", 1.0))
        if not ctx.has(7):
            return build.mul(as_float(acc), scale)
        scale = build.div(scale, as_float(per_channel(ctx, 7, zero)))
        return quantized(build.mul(as_float(acc), scale), per_channel(ctx, 8, zero) if ctx.has(8) else None, _qgemm_type(ctx)[0].dtype)

    def term(axes: tuple[Expr, ...], taps: tuple[Expr, ...]) -> Expr:
        a, b = maps.operands(ctx, axes, taps[0])
        return build.mul(centered(ctx, a, 2, per_channel(ctx, 2, zero)), centered(ctx, b, 5, per_channel(ctx, 5, axes[1])))

    return [contract(maps.shape, (maps.depth,), term, finish)]


# --- MatMulIntegerToFloat, DynamicQuantizeMatMul ----------------------------------------------


def _dequantized_product(ctx: OpContext, b: RewriteBuilder, product: Value, a_scale: Value, b_scale: Value, bias: int) -> Value:
    """`product * (a_scale * b_scale) + bias`; scales broadcast along columns."""
    real = b.op("Mul", b.op("Cast", product, to=DType.FLOAT32.onnx), b.op("Mul", a_scale, b_scale))
    return b.op("Add", real, ctx.value(bias)) if ctx.has(bias) else real


def _integer_to_float(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    zeros = [ctx.value(i) if ctx.has(i) else None for i in (4, 5)]
    product = b.op("MatMulInteger", ctx.value(0), ctx.value(1), *zeros)
    return [_dequantized_product(ctx, b, product, ctx.value(2), ctx.value(3), 6)]


def _dynamic_quantize(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    codes, scale, zero_point = b.ops("DynamicQuantizeLinear", 3, ctx.value(0))
    product = b.op("MatMulInteger", codes, ctx.value(1), zero_point, ctx.value(3) if ctx.has(3) else None)
    return [_dequantized_product(ctx, b, product, scale, ctx.value(2), 4)]


def _float_product(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.FLOAT32, matmul_shape(ctx))]


register(
    OpDef("QGemm", _qgemm_type, Nests(_qgemm), MICROSOFT),
    OpDef("MatMulIntegerToFloat", _float_product, Rewrite(_integer_to_float), MICROSOFT),
    OpDef("DynamicQuantizeMatMul", _float_product, Rewrite(_dynamic_quantize), MICROSOFT),
)
