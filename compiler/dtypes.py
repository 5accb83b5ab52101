"""The element types of ONNX, and what each is to numpy and to the code generators.

A `DType` is used by both IRs. Types narrower than a byte (int4, uint4, int2, uint2, float4) are held
one element a byte inside the compiler; the packed form exists only in model files.
"""

from __future__ import annotations

import enum
from functools import cached_property

import numpy as np


class Kind(enum.Enum):
    """What arithmetic a type has."""

    BOOL = "bool"
    INT = "int"
    UINT = "uint"
    FLOAT = "float"
    COMPLEX = "complex"
    STRING = "string"


class DType(enum.Enum):
    """One of ONNX's tensor element types; the value is (ONNX TensorProto code, bits, kind)."""

    FLOAT32 = (1, 32, Kind.FLOAT)
    UINT8 = (2, 8, Kind.UINT)
    INT8 = (3, 8, Kind.INT)
    UINT16 = (4, 16, Kind.UINT)
    INT16 = (5, 16, Kind.INT)
    INT32 = (6, 32, Kind.INT)
    INT64 = (7, 64, Kind.INT)
    STRING = (8, 0, Kind.STRING)
    BOOL = (9, 8, Kind.BOOL)
    FLOAT16 = (10, 16, Kind.FLOAT)
    FLOAT64 = (11, 64, Kind.FLOAT)
    UINT32 = (12, 32, Kind.UINT)
    UINT64 = (13, 64, Kind.UINT)
    COMPLEX64 = (14, 64, Kind.COMPLEX)
    COMPLEX128 = (15, 128, Kind.COMPLEX)
    BFLOAT16 = (16, 16, Kind.FLOAT)
    FLOAT8E4M3FN = (17, 8, Kind.FLOAT)
    FLOAT8E4M3FNUZ = (18, 8, Kind.FLOAT)
    FLOAT8E5M2 = (19, 8, Kind.FLOAT)
    FLOAT8E5M2FNUZ = (20, 8, Kind.FLOAT)
    UINT4 = (21, 4, Kind.UINT)
    INT4 = (22, 4, Kind.INT)
    FLOAT4E2M1 = (23, 4, Kind.FLOAT)
    FLOAT8E8M0 = (24, 8, Kind.FLOAT)
    UINT2 = (25, 2, Kind.UINT)
    INT2 = (26, 2, Kind.INT)

    # Members are looked up by identity everywhere; the default Enum hash of the name is slow.
    __hash__ = object.__hash__

    @cached_property
    def label(self) -> str:
        """The name in both text forms, such as `float32`."""
        return self.name.lower()

    @cached_property
    def onnx(self) -> int:
        """The code of this type in `TensorProto.DataType`."""
        return int(self.value[0])

    @cached_property
    def bits(self) -> int:
        """Width of one element as ONNX defines it."""
        return int(self.value[1])

    @cached_property
    def bytes(self) -> int:
        """Width of one element in a buffer of the compiled model."""
        return max(1, self.bits // 8)

    @cached_property
    def kind(self) -> Kind:
        """What arithmetic the type has."""
        return self.value[2]

    @cached_property
    def is_float(self) -> bool:
        """True for every floating-point type, the narrow ones included."""
        return self.kind is Kind.FLOAT

    @cached_property
    def is_int(self) -> bool:
        """True for signed and unsigned integers, false for bool."""
        return self.kind in (Kind.INT, Kind.UINT)

    @cached_property
    def is_signed(self) -> bool:
        """True for types that hold negative numbers."""
        return self.kind in (Kind.INT, Kind.FLOAT)

    @cached_property
    def is_narrow_float(self) -> bool:
        """True for floats without arithmetic of their own: they are computed in float32."""
        return self.is_float and self.bits < 32

    @cached_property
    def numpy(self) -> np.dtype:
        """The numpy (or ml_dtypes) type that holds one element."""
        if self in _PLAIN:
            return np.dtype(_PLAIN[self])
        import ml_dtypes

        found: np.dtype = np.dtype(getattr(ml_dtypes, _EXTENDED[self]))
        return found

    @cached_property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest value of an integer type (bool counts as 0..1)."""
        if self.kind is Kind.BOOL:
            return 0, 1
        if self.kind is Kind.UINT:
            return 0, (1 << self.bits) - 1
        return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1

    @staticmethod
    def of(dtype: np.dtype | type | str) -> DType:
        """Return the type of a numpy or ml_dtypes array; raises KeyError if ONNX has none."""
        found = np.dtype(dtype)
        if found.kind in "OUS":
            return DType.STRING
        return _BY_NUMPY[found.name]

    @staticmethod
    def from_onnx(code: int) -> DType:
        """Return the type with this `TensorProto.DataType` code; raises KeyError if there is none."""
        return _BY_CODE[code]


_PLAIN: dict[DType, str] = {
    DType.FLOAT32: "float32", DType.FLOAT64: "float64", DType.FLOAT16: "float16",
    DType.INT8: "int8", DType.INT16: "int16", DType.INT32: "int32", DType.INT64: "int64",
    DType.UINT8: "uint8", DType.UINT16: "uint16", DType.UINT32: "uint32", DType.UINT64: "uint64",
    DType.BOOL: "bool", DType.COMPLEX64: "complex64", DType.COMPLEX128: "complex128", DType.STRING: "object",
}  # fmt: skip
_EXTENDED: dict[DType, str] = {
    DType.BFLOAT16: "bfloat16", DType.FLOAT8E4M3FN: "float8_e4m3fn", DType.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
    DType.FLOAT8E5M2: "float8_e5m2", DType.FLOAT8E5M2FNUZ: "float8_e5m2fnuz", DType.FLOAT8E8M0: "float8_e8m0fnu",
    DType.FLOAT4E2M1: "float4_e2m1fn", DType.UINT4: "uint4", DType.INT4: "int4", DType.UINT2: "uint2", DType.INT2: "int2",
}  # fmt: skip
_BY_CODE = {dtype.value[0]: dtype for dtype in DType}
_BY_NUMPY = {name: dtype for dtype, name in (_PLAIN | _EXTENDED).items() if dtype is not DType.STRING}
