"""Conversion between real numbers and their affine integer (or float8, float4) codes.

    code = saturate(round(x / scale) + zero_point)        x = (code - zero_point) * scale

Scales come for the whole tensor, for each index of an axis, or for each block of an axis. Results are those
of the specification bit for bit for float32: a true division, ties to even. Narrow floats are computed in
float32.
"""

from __future__ import annotations

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import CastMode, Dim, Expr, MathFn
from .cast import convert
from .table import Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register
from .types import FLOATS, TINY_FLOATS, TINY_INTS, attr_dtype, check_dtype

MICROSOFT = "com.microsoft"
_CODES = frozenset({DType.INT8, DType.UINT8, DType.INT16, DType.UINT16, *TINY_INTS, *TINY_FLOATS} - {DType.FLOAT8E8M0})
_SCALES = FLOATS | {DType.FLOAT8E8M0, DType.INT32}


def _is_single(shape: tuple[Dim, ...]) -> bool:
    """True for the scale of a whole tensor: a number, with or without an axis around it."""
    return all(extent == 1 for extent in shape) and len(shape) < 2


def read_scale(ctx: OpContext, position: int, axes: tuple[Expr, ...]) -> Expr:
    """The scale or zero point that belongs to an element of input 0."""
    shape = ctx.shape(position)
    if _is_single(shape):
        return ctx.read(position, *[const(0)] * len(shape))
    axis = ctx.axis_attr("axis", 1) if ctx.rank() > 1 else 0
    if len(shape) == 1:
        return ctx.read(position, axes[axis])
    block = ctx.int_attr("block_size")
    return ctx.read(position, *(build.floordiv(i, block) if k == axis else i for k, i in enumerate(axes)))


def _check_scale(ctx: OpContext) -> None:
    """E0203 unless the scale is a number, a vector for the axis, or blocked along it."""
    shape, data = ctx.shape(1), ctx.shape(0)
    whole = _is_single(shape)
    if ctx.has(2) and (_is_single(ctx.shape(2)) != whole or (not whole and ctx.rank(2) != ctx.rank(1))):
        ctx.fail("E0203", "scale and zero point differ in shape")
    if whole:
        return
    axis = ctx.axis_attr("axis", 1) if ctx.rank() > 1 else 0
    if len(shape) == 1:
        if not data or (isinstance(shape[0], int) and isinstance(data[axis], int) and shape[0] != data[axis]):
            ctx.fail("E0203", f"the scale has {shape[0]} elements, axis {axis} of the input does not")
        return
    block = ctx.int_attr("block_size")
    if len(shape) != len(data) or block < 1:
        ctx.fail("E0203", "a blocked scale needs the rank of the input and a positive block_size")
    for k, (extent, scales) in enumerate(zip(data, shape, strict=True)):
        expected = build.dim(build.ceildiv(extent, block)) if k == axis else extent
        if isinstance(expected, int) and isinstance(scales, int) and expected != scales:
            ctx.fail("E0203", f"axis {k} of the scale has extent {scales}, expected is {expected}")


# --- QuantizeLinear ---------------------------------------------------------------------------


def _code_type(ctx: OpContext) -> DType:
    dtype = ctx.dtype(2) if ctx.has(2) else attr_dtype(ctx, "output_dtype") or DType.UINT8
    if dtype not in _CODES:
        ctx.fail("E0202", f"quantization to {dtype.label} is not defined")
    return dtype


def _quantize_infer(ctx: OpContext) -> list[TensorType]:
    check_dtype(ctx, 0, FLOATS | {DType.INT32})
    check_dtype(ctx, 1, _SCALES)
    _check_scale(ctx)
    return [TensorType(_code_type(ctx), ctx.shape())]


def _precision(ctx: OpContext) -> DType:
    """Where the division is carried out; narrow types in float32, integers too."""
    dtype = attr_dtype(ctx, "precision") or ctx.dtype(1)
    return DType.FLOAT64 if dtype is DType.FLOAT64 else DType.FLOAT32


def _quantize(ctx: OpContext) -> list[Nest | None]:
    dtype, precision = _code_type(ctx), _precision(ctx)

    def element(*axes: Expr) -> Expr:
        x = build.cast(ctx.read(0, *axes), precision)
        ratio = build.div(x, build.cast(read_scale(ctx, 1, axes), precision))
        if dtype in TINY_FLOATS:
            if ctx.has(2):
                ratio = build.add(ratio, build.cast(read_scale(ctx, 2, axes), precision))
            return convert(ratio, dtype, saturate=ctx.int_attr("saturate", 1) != 0)
        code = build.math_fn(MathFn.ROUND, ratio)
        if ctx.has(2):
            code = build.add(code, build.cast(read_scale(ctx, 2, axes), precision))
        return build.cast(code, dtype, CastMode.SATURATE)

    return [pointwise(ctx.shape(), element)]


# --- DequantizeLinear -------------------------------------------------------------------------


def _dequantize_infer(ctx: OpContext) -> list[TensorType]:
    check_dtype(ctx, 0, _CODES | {DType.INT32})
    scale = check_dtype(ctx, 1, FLOATS | {DType.FLOAT8E8M0})
    _check_scale(ctx)
    return [TensorType(attr_dtype(ctx, "output_dtype") or scale, ctx.shape())]


def _dequantize(ctx: OpContext) -> list[Nest | None]:
    dtype = _dequantize_infer(ctx)[0].dtype
    wide = DType.FLOAT64 if dtype is DType.FLOAT64 else DType.FLOAT32
    between = DType.INT32 if ctx.dtype(0).is_int else wide

    def element(*axes: Expr) -> Expr:
        code = build.cast(ctx.read(0, *axes), between)
        if ctx.has(2):
            code = build.sub(code, build.cast(read_scale(ctx, 2, axes), between))
        scale = build.cast(read_scale(ctx, 1, axes), wide)
        return build.cast(build.mul(build.cast(code, wide), scale), dtype)

    return [pointwise(ctx.shape(), element)]


# --- DynamicQuantizeLinear --------------------------------------------------------------------


def _dynamic_infer(ctx: OpContext) -> list[TensorType]:
    check_dtype(ctx, 0, {DType.FLOAT32})
    return [TensorType(DType.UINT8, ctx.shape()), TensorType(DType.FLOAT32, ()), TensorType(DType.UINT8, ())]


def _dynamic(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    """The range is that of the data and zero; the zero point is `-min` quantized without one. Without a range the scale is 1."""
    x, zero = ctx.value(0), b.const(0.0)
    low = b.op("Min", b.op("ReduceMin", x, keepdims=0), zero)
    high = b.op("Max", b.op("ReduceMax", x, keepdims=0), zero)
    width = b.op("Sub", high, low)
    scale = b.op("Where", b.op("Equal", width, zero), b.const(1.0), b.op("Div", width, b.const(255.0)))
    zero_point = b.op("QuantizeLinear", b.op("Neg", low), scale)
    return [b.op("QuantizeLinear", x, scale, zero_point), scale, zero_point][: len(ctx.node.outputs)]


_QUANTIZE = {"axis": 1, "saturate": 1, "block_size": 0, "output_dtype": 0, "precision": 0}
_DEQUANTIZE = {"axis": 1, "block_size": 0, "output_dtype": 0}

register(
    OpDef("QuantizeLinear", _quantize_infer, Nests(_quantize), defaults=_QUANTIZE),
    OpDef("QuantizeLinear", _quantize_infer, Nests(_quantize), MICROSOFT, _QUANTIZE),
    OpDef("DequantizeLinear", _dequantize_infer, Nests(_dequantize), defaults=_DEQUANTIZE),
    OpDef("DequantizeLinear", _dequantize_infer, Nests(_dequantize), MICROSOFT, _DEQUANTIZE),
    OpDef("DynamicQuantizeLinear", _dynamic_infer, Rewrite(_dynamic)),
)
