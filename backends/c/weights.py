"""Constants of a program as C arrays: their numbers, or where there are very many, their bytes as a string.

A compiler takes 6 microseconds and 330 bytes of memory for each float that it reads as a number, 0.4 and 60 for one that is
four bytes of a string (gcc 12).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...compiler.dtypes import DType, Kind
from ...compiler.program.weights import PackedConstant
from .dialect import Dialect

WIDTH = 118
LARGE_BYTES = 1 << 20
"""Constants of this size are written as strings. Those of microcontrollers are smaller: the text stays readable, and fit for any order
of bytes.
"""
_ORDER = """#if defined(__BYTE_ORDER__) && defined(__ORDER_LITTLE_ENDIAN__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "constants of this size are written for processors that store the lowest byte first"
#endif
"""
_LONG_STRING = """#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverlength-strings"
#endif
{}
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
"""


@dataclass(frozen=True, slots=True)
class ConstantText:
    """A constant of a program in C."""

    type: str
    """The definition of its type, if that has one."""
    declaration: str
    """What is put behind `extern`, `static` or attributes to declare it."""
    definition: str
    """The same with its value."""
    elements: str
    """An expression for the address of the first element."""


def constant_text(name: str, array: np.ndarray, dialect: Dialect) -> ConstantText:
    """The text of a constant of any size."""
    if array.nbytes < LARGE_BYTES or element_type(array) is DType.FLOAT64:  # AVR has doubles of four bytes
        return ConstantText("", declaration(name, array, dialect), definition(name, array, dialect), name)
    data = _bytes(array, element_type(array))
    members = f"unsigned char bytes[{len(data) + 1}]; {dialect.type(element_type(array))} elements[{array.size}];"
    declared = f"const union {name}_data {name}"
    value = f"{declared} = {{\n{_string(data)}}};"
    return ConstantText(f"{_ORDER}union {name}_data {{ {members} }};\n", declared, value, f"{name}.elements")


def defined(text: ConstantText, before: str) -> str:
    """The definition of a constant with its storage class and attributes."""
    whole = f"{before} {text.definition}"
    return _LONG_STRING.format(whole) if text.type else whole


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


def _texts(flat: np.ndarray, dtype: DType, dialect: Dialect) -> Sequence[str]:
    if dtype is DType.FLOAT32:
        pairs = [(f"{x:.9g}", x) for x in flat.tolist()]
        return [f"{text}f" if "." in text or "e" in text else dialect.constant(x, dtype) for text, x in pairs]
    if dtype.is_narrow_float:
        return [f"{n}u" for n in flat.view(np.uint16 if dtype.bits == 16 else np.uint8).tolist()]
    if dtype.is_int or dtype.kind is Kind.BOOL:
        plain = flat.astype(np.int64) if dtype is not DType.UINT64 else flat
        if dtype.bits <= 16 or dtype.kind is Kind.BOOL:
            return [str(n) for n in plain.tolist()]
        return [dialect.constant(n, dtype) for n in plain.tolist()]
    return [dialect.constant(x, dtype) for x in flat.tolist()]


def _bytes(array: np.ndarray, dtype: DType) -> bytes:
    """The elements as a processor stores them that has the lowest byte first."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if dtype.is_int or dtype.kind is Kind.BOOL:
        flat = flat.astype(f"<{'i' if dtype.is_int and dtype.is_signed else 'u'}{dtype.bytes}")
    elif not dtype.is_narrow_float:
        flat = flat.astype("<f4")
    return flat.tobytes()


_CHARACTERS = np.array(
    [chr(n) if 32 <= n < 127 and chr(n) not in '"\\?' else f"\\{n:03o}" for n in range(256)], dtype="S4"
)  # no question marks: two of them begin a trigraph


def _string(data: bytes, width: int = 32) -> str:
    """Literals in lines."""
    whole = len(data) // width * width
    texts = _CHARACTERS[np.frombuffer(data, np.uint8)]
    lines = np.full((whole // width, width + 2), b'"', dtype="S4")
    lines[:, 1:-1] = texts[:whole].reshape(-1, width)
    lines[:, -1] = b'"\n'
    found = lines.tobytes() + b'"' + texts[whole:].tobytes() + b'"'
    return found.replace(b"\0", b"").decode("ascii")
