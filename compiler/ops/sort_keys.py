"""An element and its position in one integer: sorting by value, then by position, compares integers without looking anything up.

The upper half is the element as an integer of the same order (the bits of a float, those of negative ones turned around),
the lower half the position. NaN counts as the largest number, and the zeros of both signs are equal.
"""

from __future__ import annotations

from ..dtypes import DType, Kind
from ..kernel import build
from ..kernel.build import INDEX, const
from ..kernel.nodes import BinaryOp, CastMode, Expr

HALF = 2**32


def has_key(dtype: DType) -> bool:
    """True for elements that fit into half an integer; there must be less than 2^31 of them."""
    return dtype.bits <= 32 and (dtype.is_float or dtype.kind in (Kind.INT, Kind.UINT))


def pack(value: Expr, position: Expr, largest: bool) -> Expr:
    """An int64 that is the smaller the earlier an element stands in the sorted order."""
    key = _ordered(value)
    return build.add(build.mul(build.sub(-1, key) if largest else key, HALF), position)


def position_of(packed: Expr) -> Expr:
    """The position in a packed element."""
    return build.bitwise(BinaryOp.AND, packed, const(HALF - 1))


def _ordered(value: Expr) -> Expr:
    """An int64 from -2^31 to 2^31 - 1 of the same order."""
    if not value.dtype.is_float:
        whole = build.cast(value, INDEX)
        return build.sub(whole, 2**31) if value.dtype is DType.UINT32 else whole
    wide = build.cast(value, DType.FLOAT32)
    bits = build.cast(build.cast(wide, DType.INT32, CastMode.BITS), INDEX)
    turned = build.select(build.lt(bits, 0), build.sub(-(2**31) - 1, bits), bits)
    ordered = build.select(build.eq(wide, 0.0), const(0), turned)
    return build.select(build.ne(wide, wide), const(2**31 - 1), ordered)
