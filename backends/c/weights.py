"""Constants of a program as C arrays."""

from __future__ import annotations

import numpy as np

from ...compiler.dtypes import DType, Kind
from ...compiler.program.weights import PackedConstant
from .dialect import Dialect

WIDTH = 118


def element_type(array: np.ndarray | PackedConstant) -> DType:
    """The element type of a constant."""
    return DType.of(array.dtype)


def declaration(name: str, array: np.ndarray, dialect: Dialect) -> str:
    """`const float name[n]`, without what makes it extern, static or defined."""
    return f"const {dialect.type(element_type(array))} {name}[{max(array.size, 1)}]"


def definition(name: str, array: np.ndarray, dialect: Dialect) -> str:
    """The array with its numbers."""
    return f"{declaration(name, array, dialect)} = {{\n{numbers(array, dialect)}\n}};\n"


def numbers(array: np.ndarray, dialect: Dialect) -> str:
    """The elements in lines."""
    dtype = element_type(array)
    flat = np.ascontiguousarray(array).reshape(-1)
    if not flat.size:
        return "    0"
    texts = _texts(flat, dtype, dialect)
    count = max(1, WIDTH // (max(map(len, texts)) + 2))
    return ",\n".join("    " + ", ".join(texts[k : k + count]) for k in range(0, len(texts), count))


def _texts(flat: np.ndarray, dtype: DType, dialect: Dialect) -> list[str]:
    if dtype.is_narrow_float:
        return [f"{n}u" for n in flat.view(np.uint16 if dtype.bits == 16 else np.uint8).tolist()]
    if dtype.is_int or dtype.kind is Kind.BOOL:
        plain = flat.astype(np.int64) if dtype is not DType.UINT64 else flat
        if dtype.bits <= 16 or dtype.kind is Kind.BOOL:
            return [str(n) for n in plain.tolist()]
        return [dialect.constant(n, dtype) for n in plain.tolist()]
    return [dialect.constant(x, dtype) for x in flat.tolist()]
