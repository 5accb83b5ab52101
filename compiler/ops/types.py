"""Sets of element types that operators accept, and the check that names an offending one.

The specification lists types for each operator; the same few lists return, so they have names here.
Types without arithmetic of their own (float8, float4, int4, int2) occur only in conversions,
movement and quantization.
"""

from __future__ import annotations

from collections.abc import Collection

from ..dtypes import DType, Kind
from .table import OpContext

BOOL = frozenset({DType.BOOL})
SIGNED = frozenset({DType.INT8, DType.INT16, DType.INT32, DType.INT64})
UNSIGNED = frozenset({DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64})
INTS = SIGNED | UNSIGNED
FLOATS = frozenset({DType.FLOAT16, DType.BFLOAT16, DType.FLOAT32, DType.FLOAT64})
NUMERIC = INTS | FLOATS
ORDERED = NUMERIC | BOOL
TINY_INTS = frozenset({DType.INT4, DType.UINT4, DType.INT2, DType.UINT2})
FLOAT8 = frozenset({DType.FLOAT8E4M3FN, DType.FLOAT8E4M3FNUZ, DType.FLOAT8E5M2, DType.FLOAT8E5M2FNUZ})
TINY_FLOATS = FLOAT8 | {DType.FLOAT4E2M1, DType.FLOAT8E8M0}
ALL = frozenset(d for d in DType if d.kind not in (Kind.STRING, Kind.COMPLEX))
WITH_STRINGS = ALL | {DType.STRING}


def check_dtype(ctx: OpContext, position: int, accepted: Collection[DType]) -> DType:
    """Return the type of an input; E0202 if the operator does not define it."""
    dtype = ctx.dtype(position)
    if dtype not in accepted:
        names = ", ".join(sorted(d.label for d in accepted))
        ctx.fail("E0202", f"input {position} has type {dtype.label}", f"accepted are {names}")
    return dtype


def check_same(ctx: OpContext, first: int, *others: int) -> None:
    """E0202 unless the inputs given have one type."""
    for position in others:
        if ctx.has(position) and ctx.dtype(position) is not ctx.dtype(first):
            ctx.fail("E0202", f"inputs {first} and {position} have types {ctx.dtype(first).label} and {ctx.dtype(position).label}")


def attr_dtype(ctx: OpContext, name: str) -> DType | None:
    """An attribute that holds an element type; None if it is absent or 0."""
    found = ctx.node.attrs.get(name, ctx.defaults.get(name))
    if isinstance(found, DType):
        return found
    code = ctx.int_attr(name)
    if code == 0:
        return None
    try:
        return DType.from_onnx(code)
    except KeyError:
        ctx.fail("E0202", f"attribute {name} names the unknown element type {code}")
