"""Text of LLVM types and constants for the element types of the kernel IR.

A value has a register type (bool is `i1`, int4 is `i4`) and a memory type (never below `i8`). Floats
without arithmetic of their own, float16 excepted, are integers of their width to LLVM.
"""

from __future__ import annotations

import struct

import numpy as np

from ...compiler.dtypes import DType, Kind

_FLOATS = {DType.FLOAT32: ("float", "f32"), DType.FLOAT64: ("double", "f64"), DType.FLOAT16: ("half", "f16")}


def vector(text: str, lanes: int) -> str:
    """A vector of `lanes` elements, the element type itself for one."""
    return text if lanes == 1 else f"<{lanes} x {text}>"


def register_type(dtype: DType, lanes: int = 1) -> str:
    """Type of a value in a register."""
    assert dtype.kind not in (Kind.COMPLEX, Kind.STRING), dtype
    if dtype.kind is Kind.BOOL:
        return vector("i1", lanes)
    return vector(_FLOATS[dtype][0] if dtype in _FLOATS else f"i{dtype.bits}", lanes)


def memory_type(dtype: DType, lanes: int = 1) -> str:
    """Type of a value in memory."""
    return register_type(dtype, lanes) if is_plain(dtype) else vector("i8", lanes)


def is_plain(dtype: DType) -> bool:
    """True if registers and memory hold the type in the same form."""
    return dtype.kind is not Kind.BOOL and dtype.bits >= 8


def suffix(dtype: DType, lanes: int = 1) -> str:
    """The type as it stands in names of intrinsics, such as `v16f32`."""
    name = _FLOATS[dtype][1] if dtype in _FLOATS else register_type(dtype)
    return name if lanes == 1 else f"v{lanes}{name}"


def literal(value: int | float | bool, dtype: DType, lanes: int = 1) -> str:
    """A constant; for vectors all lanes are equal."""
    text = _scalar(value, dtype)
    return text if lanes == 1 else f"splat ({register_type(dtype)} {text})"


def _scalar(value: int | float | bool, dtype: DType) -> str:
    if dtype.kind is Kind.BOOL:
        return "true" if value else "false"
    if dtype is DType.FLOAT16:
        return f"0xH{int(np.float16(value).view(np.uint16)):04X}"
    if dtype in _FLOATS:
        if dtype is DType.FLOAT32:
            with np.errstate(over="ignore"):
                value = float(np.float32(value))
        return "0x" + struct.pack(">d", float(value)).hex().upper()
    if dtype.is_float:
        return str(int.from_bytes(np.array(value).astype(dtype.numpy).tobytes(), "little"))
    return str(int(value))
