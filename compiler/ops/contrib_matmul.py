"""Products of the domain com.microsoft with integer or packed weights and float results."""

from __future__ import annotations

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest
from ..kernel.nodes import BinaryOp, Expr
from .contraction import accumulator, contract, gemm, matmul_shape, scaled
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


# --- MatMulNBits ------------------------------------------------------------------------------


def _nbits_type(ctx: OpContext) -> list[TensorType]:
    if ctx.int_attr("bits", 4) not in (1, 2, 4, 8):
        ctx.fail("E0203", f"bits is {ctx.int_attr('bits')}, expected is 1, 2, 4 or 8")
    return [TensorType(ctx.dtype(0), (*ctx.shape(0)[:-1], ctx.int_attr("N")))]


def _packed(ctx: OpContext, byte: Expr, at: Expr, bits: int) -> Expr:
    """Code number `at` of a row, out of the byte that holds it; the first code is in the low bits."""
    shift = build.cast(build.mul(build.floormod(at, 8 // bits), bits), DType.INT32)
    wide = build.cast(byte, DType.INT32)
    return build.bitwise(BinaryOp.AND, build.bitwise(BinaryOp.SHR, wide, shift), (1 << bits) - 1)


def _nbits(ctx: OpContext) -> list[Nest]:
    n, depth, bits, block = (ctx.int_attr(name, default) for name, default in (("N", 0), ("K", 0), ("bits", 4), ("block_size", 32)))
    blocks, wide = -(-depth // block), accumulator(ctx.dtype(0))
    row_bytes, block_bytes = -(-blocks * bits // 8), -(-block * bits // 8)

    def flat(position: int, shape: tuple[int, ...], *indices: Expr) -> Expr:
        """An element of a tensor of the given meaning that the model may hold in any shape of that size."""
        offset = build.linearize(indices, shape)
        held = tuple(d for d in ctx.shape(position) if isinstance(d, int))
        return ctx.read(position, *(indices if held == shape else build.delinearize(offset, held)))

    def zero_point(column: Expr, group: Expr) -> Expr:
        if not ctx.has(3):
            return const(1 << (bits - 1), wide)
        if ctx.dtype(3) is not DType.UINT8:
            return build.cast(flat(3, (n, blocks), column, group), wide)
        byte = flat(3, (n, row_bytes), column, build.floordiv(build.mul(group, bits), 8))
        return build.cast(_packed(ctx, byte, group, bits), wide)

    def term(axes: tuple[Expr, ...], taps: tuple[Expr, ...]) -> Expr:
        *rows, column = axes
        (k,) = taps
        part, inner = build.floordiv(k, block), build.floormod(k, block)
        byte = flat(1, (n, blocks, block_bytes), column, part, build.floordiv(build.mul(inner, bits), 8))
        group = build.cast(ctx.read(4, k), DType.INT64) if ctx.has(4) else part
        centred = build.sub(build.cast(_packed(ctx, byte, inner, bits), wide), zero_point(column, group))
        weight = build.mul(centred, build.cast(flat(2, (n, blocks), column, group), wide))
        return build.mul(build.cast(ctx.read(0, *rows, k), wide), weight)

    def finish(acc: Expr, axes: tuple[Expr, ...]) -> Expr:
        if ctx.has(5):
            acc = build.add(acc, build.cast(ctx.read(5, axes[-1]), wide))
        return build.cast(acc, ctx.dtype(0))

    return [contract(_nbits_type(ctx)[0].shape, (depth,), term, finish)]


def _float_product(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.FLOAT32, matmul_shape(ctx))]


register(
    OpDef("QGemm", _qgemm_type, Nests(_qgemm), MICROSOFT),
    OpDef("MatMulIntegerToFloat", _float_product, Rewrite(_integer_to_float), MICROSOFT),
    OpDef("DynamicQuantizeMatMul", _float_product, Rewrite(_dynamic_quantize), MICROSOFT),
    OpDef("MatMulNBits", _nbits_type, Nests(_nbits), MICROSOFT, doc="Packed weights are unpacked where they are used."),
)
