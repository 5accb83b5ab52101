"""The rows of C: types, constants, operators and functions as text. CUDA changes some rows.

Every row takes operands that are safe to repeat (names or constants) where the text repeats them; the
expression printer sees to that with the help of `REPEATED`. All texts are clean under -Wconversion: each
says its own type.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ...compiler.dtypes import DType, Kind
from ...compiler.kernel.nodes import BinaryOp, MathFn

INT_TYPES = {
    DType.INT8: "int8_t", DType.INT16: "int16_t", DType.INT32: "int32_t", DType.INT64: "int64_t",
    DType.UINT8: "uint8_t", DType.UINT16: "uint16_t", DType.UINT32: "uint32_t", DType.UINT64: "uint64_t",
    DType.INT4: "int8_t", DType.INT2: "int8_t", DType.UINT4: "uint8_t", DType.UINT2: "uint8_t",
}  # fmt: skip

UNSIGNED = {DType.INT8: "uint32_t", DType.INT16: "uint32_t", DType.INT32: "uint32_t", DType.INT64: "uint64_t", DType.UINT64: "uint64_t"}
"""Type in which sums and products are computed, so that they wrap; at least as wide as `int`."""

MATH_NAMES: Mapping[MathFn, str] = {
    MathFn.SQRT: "sqrt", MathFn.FLOOR: "floor", MathFn.CEIL: "ceil", MathFn.TRUNC: "trunc", MathFn.ROUND: "rint",
    MathFn.COPYSIGN: "copysign",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the languages that look like C."""

    bool_type: str = "uint8_t"
    """Type of bool elements and values."""
    restrict: str = "restrict"
    functions: Mapping[MathFn, str] = field(default_factory=lambda: MATH_NAMES)
    """Names of the double versions; float32 adds an `f`."""
    infinity: str = "INFINITY"
    nan: str = "NAN"
    helper: str = "static"
    """Specifiers of helper functions."""
    kernel: str = "static"
    """Specifiers of kernels."""
    codes: bool = False
    """Whether rounding to bytes has helper functions (`round_texts.py`)."""
    narrow_types: Mapping[DType, str] = field(default_factory=dict)
    """Narrow floats that have a type; others are held as unsigned integers."""

    def type(self, dtype: DType) -> str:
        """The type of one element."""
        if dtype in self.narrow_types:
            return self.narrow_types[dtype]
        if dtype.kind is Kind.BOOL:
            return self.bool_type
        if dtype.is_narrow_float:
            return "uint16_t" if dtype.bits == 16 else "uint8_t"
        return {DType.FLOAT32: "float", DType.FLOAT64: "double"}.get(dtype) or INT_TYPES[dtype]

    def constant(self, value: int | float | bool, dtype: DType) -> str:
        """A constant."""
        if dtype.is_narrow_float:
            return f"{int.from_bytes(dtype.numpy.type(value).tobytes(), 'little')}u"
        if dtype.is_float:
            return self._float(float(value), dtype)
        return integer(int(value), dtype)

    def _float(self, value: float, dtype: DType) -> str:
        single = dtype is DType.FLOAT32
        if math.isnan(value):
            return self.nan if single else f"(double){self.nan}"
        if math.isinf(value):
            text = self.infinity if single else f"(double){self.infinity}"
            return text if value > 0 else f"(-{text})"
        text = f"{value:.9g}" if single else f"{value!r}"
        if not re.search(r"[.e]", text):
            text += ".0"
        text += "f" if single else ""
        return f"({text})" if text.startswith("-") else text


def integer(value: int, dtype: DType) -> str:
    """An integer constant of a type."""
    if dtype is DType.INT64 or dtype is DType.UINT64:
        if value == -(1 << 63):
            return "INT64_MIN"
        text = f"UINT64_C({value})" if dtype is DType.UINT64 else f"INT64_C({abs(value)})"
        return f"(-{text})" if value < 0 else text
    if dtype is DType.UINT32:
        return f"UINT32_C({value})"
    if value == -(1 << 31):
        return "INT32_MIN"
    return f"({value})" if value < 0 else str(value)


# --- Integer operators --------------------------------------------------------------------------


def wrapped(dtype: DType, text: Callable[[str, str], str], a: str, b: str, c_type: str) -> str:
    """An operation that wraps: computed in an unsigned type of at least the width of `int`."""
    if dtype is DType.UINT32 or dtype is DType.UINT64:
        return f"({text(a, b)})"
    wide = UNSIGNED.get(dtype, "uint32_t")
    return f"({c_type})({text(f'({wide}){a}', f'({wide}){b}')})"


ARITHMETIC = {BinaryOp.ADD: "+", BinaryOp.SUB: "-", BinaryOp.MUL: "*"}
BITWISE = {BinaryOp.AND: "&", BinaryOp.OR: "|", BinaryOp.XOR: "^"}
LOGICAL = {BinaryOp.AND: "&&", BinaryOp.OR: "||", BinaryOp.XOR: "!="}
COMPARE = {BinaryOp.EQ: "==", BinaryOp.NE: "!=", BinaryOp.LT: "<", BinaryOp.LE: "<=", BinaryOp.GT: ">", BinaryOp.GE: ">="}

DIVISIONS: Mapping[BinaryOp, str] = {
    BinaryOp.DIV: "if (b == 0) {{ return 0; }}\n{minus}    return ({t})(a / b);",
    BinaryOp.MOD: "if (b == 0) {{ return 0; }}\n{minus_mod}    return ({t})(a % b);",
    BinaryOp.FLOORDIV: (
        "if (b == 0) {{ return 0; }}\n{minus}    {t} q = ({t})(a / b);\n    return ({t})((a % b != 0 && (a < 0) != (b < 0)) ? q - 1 : q);"
    ),
    BinaryOp.FLOORMOD: (
        "if (b == 0) {{ return 0; }}\n{minus_mod}    {t} r = ({t})(a % b);\n    return ({t})((r != 0 && (r < 0) != (b < 0)) ? r + b : r);"
    ),
}
"""Bodies of helpers for divisors that are not known; b == -1 is apart, since MIN / -1 traps."""


def division_helper(op: BinaryOp, dtype: DType, c_type: str, specifiers: str) -> tuple[str, str]:
    """Name and text of the function for an integer division."""
    name = f"onnxc_{op.value}_{dtype.label}"
    wide = UNSIGNED.get(dtype, "uint32_t")
    signed = dtype.is_signed
    rows = DIVISIONS[op if signed else {BinaryOp.FLOORDIV: BinaryOp.DIV, BinaryOp.FLOORMOD: BinaryOp.MOD}.get(op, op)]
    minus = f"    if (b == -1) {{ return ({c_type})(0u - ({wide})a); }}\n" if signed else ""
    minus_mod = "    if (b == -1) { return 0; }\n" if signed else ""
    body = rows.format(t=c_type, minus=minus, minus_mod=minus_mod)
    return name, f"{specifiers} {c_type} {name}({c_type} a, {c_type} b) {{\n    {body}\n}}\n"


def bits_helper(source: DType, target: DType, types: tuple[str, str], specifiers: str) -> tuple[str, str]:
    """Name and text of the function that keeps the bits of a value under another type."""
    name = f"onnxc_bits_{source.label}_{target.label}"
    text = (
        f"{specifiers} {types[1]} {name}({types[0]} x) {{\n    union {{\n        {types[0]} from;\n        {types[1]} to;\n    }} bits;\n"
        f"    bits.from = x;\n    return bits.to;\n}}\n"
    )
    return name, text


FAST_FMA = {
    DType.FLOAT32: "defined(__ARM_FEATURE_FMA) || defined(__FMA__) || defined(__FP_FAST_FMAF)",
    DType.FLOAT64: "defined(__FMA__) || defined(__FP_FAST_FMA)",
}
"""How compilers say that a multiply-add is one instruction (ACLE 5.5.2, GCC common predefined macros)."""


def fma_helper(dtype: DType, c_type: str, specifiers: str) -> tuple[str, str]:
    """Name and text of the function `a * b + c`. A library's `fma` in software would be slow, so that rounds twice."""
    name = f"onnxc_fma_{dtype.label}"
    builtin = "__builtin_fmaf" if dtype is DType.FLOAT32 else "__builtin_fma"
    head = f"{specifiers} inline {c_type} {name}({c_type} a, {c_type} b, {c_type} c) {{"
    return name, (
        f"{head}\n#if defined(__GNUC__) && ({FAST_FMA[dtype]})\n    return {builtin}(a, b, c);\n#else\n    return a * b + c;\n#endif\n}}\n"
    )
