"""Weights of few bits in blocks that share a scale, in the domain com.microsoft: MatMulNBits, MatMulBnb4, GatherBlockQuantized.

    weight = (code - zero point of its block) * scale of its block

Codes stay packed: they are taken out of their bytes where they are used. MatMulNBits becomes the internal `MatMulCodes`, whose
constants have plain shapes; the schedules know its form (`passes/kernel/code_form.py`). It can also take activations of 8 bits
with a scale a block, which `passes/graph/quantize_activations.py` makes where the model permits it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import BinaryOp, Expr
from .contraction import accumulator, contract
from .table import INTERNAL, Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register
from .types import FLOAT8

MICROSOFT = "com.microsoft"
UNPACK, MATMUL = "onnxc::UnpackCodes", "onnxc::MatMulCodes"
DATA, DATA_SCALES, CODES, SCALES, ZEROS, GROUPS, BIAS = range(7)
"""Operands of `MatMulCodes`."""


def code_at(byte: Expr, at: Expr, bits: int) -> Expr:
    """Code number `at` of a row, an int32, out of the byte that holds it; the first code is in the low bits."""
    wide = build.cast(byte, DType.INT32)
    if bits == 8:
        return wide
    shift = build.cast(build.mul(build.floormod(at, 8 // bits), bits), DType.INT32)
    return build.bitwise(BinaryOp.AND, build.bitwise(BinaryOp.SHR, wide, shift), (1 << bits) - 1)


# --- MatMulNBits ------------------------------------------------------------------------------


def _sizes(ctx: OpContext) -> tuple[int, int, int, int]:
    """Columns, depth, bits of a code, and codes of a block."""
    columns, depth, bits, block = (ctx.int_attr(name, default) for name, default in (("N", 0), ("K", 0), ("bits", 4), ("block_size", 32)))
    if bits not in (1, 2, 4, 8):
        ctx.fail("E0203", f"bits is {bits}, expected is 1, 2, 4 or 8")
    if min(columns, depth, block) < 1:
        ctx.fail("E0203", "N, K and block_size must be positive")
    return columns, depth, bits, block


def _nbits_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(0), (*ctx.shape(0)[:-1], _sizes(ctx)[0]))]


def _nbits(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    if ctx.int_attr("weight_prepacked"):
        ctx.fail("E0203", "the weights are packed for one kind of GPU", "export the model with weight_prepacked = 0")
    columns, depth, bits, block = _sizes(ctx)
    blocks = -(-depth // block)
    codes = _shaped(ctx, b, 1, (columns, blocks, -(-block * bits // 8)))
    scales = _shaped(ctx, b, 2, (columns, blocks))
    zeros = None
    if ctx.has(3):
        is_packed = ctx.dtype(3) is DType.UINT8 and bits < 8
        zeros = _shaped(ctx, b, 3, (columns, -(-blocks * bits // 8) if is_packed else blocks))
        if is_packed:
            zeros = b.op(UNPACK, zeros, bits=bits, codes=blocks)
    bias = ctx.value(5) if ctx.has(5) else None
    attrs = {"K": depth, "bits": bits, "block_size": block, "accuracy_level": ctx.int_attr("accuracy_level")}
    return [b.op(MATMUL, ctx.value(0), None, codes, scales, zeros, _groups(ctx, depth, block), bias, **attrs)]


def _shaped(ctx: OpContext, b: RewriteBuilder, position: int, shape: tuple[int, ...]) -> Value:
    """An operand that the model may hold in any shape of that size."""
    value = ctx.value(position)
    return value if value.type.shape == shape else b.op("Reshape", value, b.const(shape))


def _groups(ctx: OpContext, depth: int, block: int) -> Value | None:
    """The block of each row of the weights, if they are not in order."""
    if not ctx.has(4):
        return None
    known = ctx.array(4)
    in_order = known is not None and np.array_equal(known.reshape(-1)[:depth], np.arange(depth) // block)
    return None if in_order else ctx.value(4)


# --- The product ------------------------------------------------------------------------------


def _product_type(ctx: OpContext) -> list[TensorType]:
    ctx.same_extent(ctx.shape(DATA)[-1], ctx.int_attr("K"), "the extents of the summed axes")
    return [TensorType(ctx.dtype(SCALES), (*ctx.shape(DATA)[:-1], ctx.shape(CODES)[0]))]


def _product(ctx: OpContext) -> list[Nest]:
    depth, bits, block, wide = ctx.int_attr("K"), ctx.int_attr("bits"), ctx.int_attr("block_size"), accumulator(ctx.dtype(SCALES))

    def zero_point(column: Expr, group: Expr) -> Expr:
        return build.cast(ctx.read(ZEROS, column, group), wide) if ctx.has(ZEROS) else const(1 << (bits - 1), wide)

    def term(axes: tuple[Expr, ...], taps: tuple[Expr, ...]) -> Expr:
        *rows, column = axes
        (k,) = taps
        part, inner = build.floordiv(k, block), build.floormod(k, block)
        byte = ctx.read(CODES, column, part, build.floordiv(build.mul(inner, bits), 8))
        group = build.cast(ctx.read(GROUPS, k), DType.INT64) if ctx.has(GROUPS) else part
        centred = build.sub(build.cast(code_at(byte, inner, bits), wide), zero_point(column, group))
        datum = build.cast(ctx.read(DATA, *rows, k), wide)
        if ctx.has(DATA_SCALES):
            datum = build.mul(datum, build.cast(ctx.read(DATA_SCALES, *rows, part), wide))
        return build.mul(datum, build.mul(centred, build.cast(ctx.read(SCALES, column, group), wide)))

    def finish(acc: Expr, axes: tuple[Expr, ...]) -> Expr:
        if ctx.has(BIAS):
            acc = build.add(acc, build.cast(ctx.read(BIAS, axes[-1]), wide))
        return build.cast(acc, ctx.dtype(SCALES))

    return [contract(_product_type(ctx)[0].shape, (depth,), term, finish)]


def _unpack_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.UINT8, (ctx.shape(0)[0], ctx.int_attr("codes")))]


def _unpack(ctx: OpContext) -> list[Nest]:
    bits = ctx.int_attr("bits")

    def element(row: Expr, at: Expr) -> Expr:
        byte = ctx.read(0, row, build.floordiv(build.mul(at, bits), 8))
        return build.cast(code_at(byte, at, bits), DType.UINT8)

    return [pointwise(_unpack_type(ctx)[0].shape, element)]


# --- MatMulBnb4 -------------------------------------------------------------------------------

_TABLES = {
    0: (0.0, 5.208333333e-03, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25),
    1: (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
        -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
}  # fmt: skip
"""By `quant_type`: FP4 (the codes from 8 on are negative) and NF4 (https://arxiv.org/abs/2305.14314)."""


def _bnb_type(ctx: OpContext) -> list[TensorType]:
    width = ctx.int_attr("N") if ctx.int_attr("transB", 1) else ctx.int_attr("K")
    return [TensorType(ctx.dtype(0), (*ctx.shape(0)[:-1], width))]


def _bnb(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    """Decode the weights; a constant folds, so that the product is one of floats."""
    kind = ctx.int_attr("quant_type")
    if kind not in _TABLES:
        ctx.fail("E0203", f"quant_type is {kind}, expected is 0 (FP4) or 1 (NF4)")
    numbers = _TABLES[kind] if kind else (*_TABLES[0], *(-x for x in _TABLES[0]))
    table = b.const(np.array(numbers, np.float32))
    columns, depth = ctx.int_attr("N"), ctx.int_attr("K")
    weights = b.op("onnxc::DecodeBnb4", ctx.value(1), ctx.value(2), table, N=columns, K=depth, block_size=ctx.int_attr("block_size"))
    return [b.op("MatMul", ctx.value(0), b.op("Transpose", weights, perm=(1, 0)) if ctx.int_attr("transB", 1) else weights)]


def _decode_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(ctx.dtype(1), (ctx.int_attr("N"), ctx.int_attr("K")))]


def _decode(ctx: OpContext) -> list[Nest]:
    """The first code is in the high bits; blocks run over the whole matrix."""
    depth, block, wide = ctx.int_attr("K"), ctx.int_attr("block_size"), accumulator(ctx.dtype(1))
    at_codes, at_scales = ([const(0)] * (ctx.rank(position) - 1) for position in (0, 1))

    def element(column: Expr, k: Expr) -> Expr:
        at = build.add(build.mul(column, depth), k)
        byte = build.cast(_flat(ctx, 0, build.floordiv(at, 2), at_codes), DType.INT32)
        shift = build.cast(build.mul(build.sub(1, build.floormod(at, 2)), 4), DType.INT32)
        code = build.bitwise(BinaryOp.AND, build.bitwise(BinaryOp.SHR, byte, shift), 15)
        number = build.cast(ctx.read(2, build.cast(code, DType.INT64)), wide)
        scale = build.cast(_flat(ctx, 1, build.floordiv(at, block), at_scales), wide)
        return build.cast(build.mul(number, scale), ctx.dtype(1))

    return [pointwise(_decode_type(ctx)[0].shape, element)]


def _flat(ctx: OpContext, position: int, at: Expr, first: Sequence[Expr]) -> Expr:
    """An element of a tensor by its place in memory; most have one axis."""
    return ctx.read(position, *(build.delinearize(at, ctx.shape(position)) if first else (at,)))


# --- GatherBlockQuantized ---------------------------------------------------------------------


def _gathered_type(ctx: OpContext) -> list[TensorType]:
    shape, axis = _gather_shape(ctx), ctx.axis_attr("gather_axis", 0)
    return [TensorType(ctx.dtype(2), (*shape[:axis], *ctx.shape(1), *shape[axis + 1 :]))]


def _packing(ctx: OpContext) -> int:
    """Codes in an element of the data: several in a byte of 8 bits."""
    if ctx.dtype(0) is not DType.UINT8:
        return 1
    bits = ctx.int_attr("bits", 4)
    if bits not in (2, 4, 8):
        ctx.fail("E0203", f"bits is {bits}, expected is 2, 4 or 8")
    return 8 // bits


def _gather_shape(ctx: OpContext) -> tuple[int, ...]:
    """The shape of the data as numbers, one for each code."""
    *outer, last = ctx.shape(0)
    if not all(isinstance(d, int) for d in (*outer, last)):
        ctx.fail("E0204", "the shape of the weights must be known when compiling")
    return (*(int(d) for d in outer), int(last) * _packing(ctx))  # type: ignore[arg-type]


def _gathered(ctx: OpContext) -> list[Nest]:
    """`(code - zero point) * scale` of the slices that the indices name; zeros where there is none."""
    (kind,), shape = _gathered_type(ctx), _gather_shape(ctx)
    axis, quantized = ctx.axis_attr("gather_axis", 0), ctx.axis_attr("quantize_axis", 1)
    packing, block, wide = _packing(ctx), ctx.int_attr("block_size", 128) or shape[quantized], accumulator(kind.dtype)
    bits = 8 // packing

    def element(*at: Expr) -> Expr:
        index = build.cast(ctx.read(1, *at[axis : axis + ctx.rank(1)]), DType.INT64)
        row = build.select(build.lt(index, 0), build.add(index, shape[axis]), index)
        place = (*at[:axis], row, *at[axis + ctx.rank(1) :])
        scale_at = tuple(build.floordiv(i, block) if k == quantized else i for k, i in enumerate(place))
        scale_at = tuple(const(0) if d == 1 else i for d, i in zip(ctx.shape(2), scale_at, strict=True))
        number = build.cast(_code(ctx, 0, place, bits), wide)
        if ctx.has(3):
            number = build.sub(number, build.cast(_code(ctx, 3, scale_at, bits), wide))
        elif ctx.dtype(0) is DType.UINT8:
            number = build.sub(number, const(1 << (bits - 1), wide))
        value = build.cast(build.mul(number, build.cast(ctx.read(2, *scale_at), wide)), kind.dtype)
        inside = build.logical_and(build.ge(row, 0), build.lt(row, shape[axis]))
        return build.select(inside, value, const(0, kind.dtype))

    return [pointwise(kind.shape, element)]


def _code(ctx: OpContext, position: int, at: tuple[Expr, ...], bits: int) -> Expr:
    """The code at some indices; several stand in a byte along the last axis."""
    if ctx.dtype(position) is not DType.UINT8 or bits == 8:
        return ctx.read(position, *at)
    byte = ctx.read(position, *at[:-1], build.floordiv(at[-1], 8 // bits))
    return code_at(byte, at[-1], bits)


def _gather_infer(ctx: OpContext) -> list[TensorType]:
    if ctx.has(3) and ctx.dtype(0) in (*FLOAT8, DType.FLOAT4E2M1):
        ctx.fail("E0203", "floats have no zero points")
    return _gathered_type(ctx)


register(
    OpDef("MatMulNBits", _nbits_type, Rewrite(_nbits), MICROSOFT, doc="Packed weights are unpacked where they are used."),
    OpDef("MatMulBnb4", _bnb_type, Rewrite(_bnb), MICROSOFT, doc="Weights of FP4 or NF4 are decoded when compiling."),
    OpDef("GatherBlockQuantized", _gather_infer, Nests(_gathered), MICROSOFT),
    OpDef("MatMulCodes", _product_type, Nests(_product), INTERNAL, doc="data, [scales of the data], codes, scales, [zero points], "
          "[block of each row], [bias] -> product"),
    OpDef("UnpackCodes", _unpack_type, Nests(_unpack), INTERNAL, doc="rows of packed codes -> one code in a byte"),
    OpDef("DecodeBnb4", _decode_type, Nests(_decode), INTERNAL, doc="codes, scales, table -> weights"),
)  # fmt: skip
