"""Conversions between element types.

What ONNX leaves open is defined here: a float beyond the range of an integer type gives any value of that
type (the target's conversion instruction decides), to float8 and float4 the rounding is to nearest, ties to
even. `saturate` selects `CastMode.SATURATE` for float8; float4 has neither infinity nor NaN and always
saturates. Float8E8M0 holds powers of two only and is made of the bits of a float32.
"""

from __future__ import annotations

from ..dtypes import DType, Kind
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import BinaryOp, CastMode, Expr
from .string_numbers import cast_strings
from .table import Nests, OpContext, OpDef, Rewrite, RewriteBuilder, register
from .types import ALL, FLOAT8, WITH_STRINGS, attr_dtype, check_dtype


def convert(x: Expr, dtype: DType, *, saturate: bool = True, round_mode: str = "up") -> Expr:
    """`x` in another type under the rules of ONNX's Cast."""
    if x.dtype is dtype:
        return x
    if dtype.kind is Kind.BOOL:
        return build.ne(build.cast(x, DType.FLOAT32) if x.dtype.is_float and x.dtype.bits < 16 else x, 0)
    if dtype is DType.FLOAT8E8M0:
        return _power_of_two(build.cast(x, DType.FLOAT32), saturate, round_mode)
    always = dtype is DType.FLOAT4E2M1
    return build.cast(x, dtype, CastMode.SATURATE if always or (saturate and dtype in FLOAT8) else CastMode.CONVERT)


def _power_of_two(x: Expr, saturate: bool, round_mode: str) -> Expr:
    """The biased exponent of a float32, rounded; it is the code of a Float8E8M0, 255 meaning NaN."""
    bits = build.cast(x, DType.UINT32, CastMode.BITS)
    exponent = build.bitwise(BinaryOp.AND, build.bitwise(BinaryOp.SHR, bits, 23), 0xFF)
    fraction = build.bitwise(BinaryOp.AND, bits, 0x7FFFFF)
    up = {"up": build.gt(fraction, 0), "down": build.FALSE, "nearest": build.ge(fraction, 0x400000)}[round_mode]
    rounded = build.add(exponent, build.select(up, const(1, DType.UINT32), const(0, DType.UINT32)))
    if saturate:
        rounded = build.minimum(rounded, 254)
        is_nan = build.logical_and(build.eq(exponent, 0xFF), build.ne(fraction, 0))
    else:
        is_nan = build.logical_or(build.eq(exponent, 0xFF), build.eq(x, 0.0))
    code = build.select(is_nan, const(255, DType.UINT32), rounded)
    return build.cast(build.cast(code, DType.UINT8), DType.FLOAT8E8M0, CastMode.BITS)


def _target(ctx: OpContext) -> DType:
    dtype = ctx.dtype(1) if ctx.node.op == "CastLike" else attr_dtype(ctx, "to")
    if dtype is None:
        ctx.fail("E0203", "attribute to is missing")
    if dtype not in WITH_STRINGS:
        ctx.fail("E0202", f"conversion to {dtype.label} is not supported")
    return dtype


def _infer(ctx: OpContext) -> list[TensorType]:
    check_dtype(ctx, 0, WITH_STRINGS)
    if ctx.str_attr("round_mode", "up") not in ("up", "down", "nearest"):
        ctx.fail("E0203", "attribute round_mode must be up, down or nearest")
    return [TensorType(_target(ctx), ctx.shape())]


def _cast(ctx: OpContext) -> list[Nest | None]:
    saturate, round_mode = ctx.int_attr("saturate", 1) != 0, ctx.str_attr("round_mode", "up")

    def element(*axes: Expr) -> Expr:
        return convert(ctx.read(0, *axes), _target(ctx), saturate=saturate, round_mode=round_mode)

    return [pointwise(ctx.shape(), element)]


def _cast_strings(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    found = cast_strings(b, ctx.value(0), _target(ctx))
    if found is None:
        ctx.fail("E0202", f"conversion from {ctx.dtype(0).label} to {_target(ctx).label} is not supported", "convert by way of float32")
    return [found]


def _bit_cast_infer(ctx: OpContext) -> list[TensorType]:
    dtype, source = _target(ctx), check_dtype(ctx, 0, ALL)
    if dtype is DType.STRING or dtype.bits != source.bits:
        ctx.fail("E0202", f"{source.label} and {dtype.label} differ in width")
    return [TensorType(dtype, ctx.shape())]


def _bit_cast(ctx: OpContext) -> list[Nest | None]:
    return [pointwise(ctx.shape(), lambda *axes: build.cast(ctx.read(0, *axes), _target(ctx), CastMode.BITS))]


register(
    OpDef("Cast", _infer, Nests(_cast), defaults={"saturate": 1, "round_mode": "up"}, strings=Rewrite(_cast_strings)),
    OpDef("CastLike", _infer, Nests(_cast), defaults={"saturate": 1, "round_mode": "up"}, strings=Rewrite(_cast_strings)),
    OpDef("BitCast", _bit_cast_infer, Nests(_bit_cast)),
)
