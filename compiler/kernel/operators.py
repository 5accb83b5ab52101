"""The operators of kernel expressions: on one operand, on two, functions of floats, and how casts convert."""

from __future__ import annotations

import enum


class UnaryOp(enum.Enum):
    """Operations on one operand whose result has its type."""

    NEG = "neg"
    NOT = "not"  # logical on bool, bitwise on integers
    ABS = "abs"

    __hash__ = object.__hash__  # members are one object each; the hash of Enum is slow


class BinaryOp(enum.Enum):
    """Operations on two operands of one type."""

    ADD = "add"
    SUB = "sub"
    MUL = "mul"
    DIV = "div"  # floats: IEEE; integers: towards zero, x / 0 == 0, MIN / -1 wraps
    MOD = "mod"  # floats: C fmod; integers: sign of the dividend, x % 0 == 0
    FLOORDIV = "floordiv"  # integers: towards minus infinity; x // 0 == 0
    FLOORMOD = "floormod"  # integers: sign of the divisor; x mod 0 == 0
    MIN = "min"  # floats: NaN if one is NaN, as numpy.minimum
    MAX = "max"
    AND = "and"  # logical on bool, bitwise on integers
    OR = "or"
    XOR = "xor"
    SHL = "shl"  # a shift by the width or more gives 0
    SHR = "shr"
    EQ = "eq"  # comparisons give bool
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"

    __hash__ = object.__hash__  # members are one object each; the hash of Enum is slow


COMPARISONS = frozenset({BinaryOp.EQ, BinaryOp.NE, BinaryOp.LT, BinaryOp.LE, BinaryOp.GT, BinaryOp.GE})


class MathFn(enum.Enum):
    """Functions of floats. The first group is an instruction on most targets, the second is expanded
    into polynomials by `passes/kernel/expand_math.py`.
    """

    SQRT = "sqrt"
    FLOOR = "floor"
    CEIL = "ceil"
    TRUNC = "trunc"
    ROUND = "round"  # half to even
    FMA = "fma"  # a * b + c, rounded once where the target has the instruction
    ISNAN = "isnan"  # gives bool
    ISINF = "isinf"  # gives bool
    COPYSIGN = "copysign"

    EXP = "exp"
    EXP2 = "exp2"
    EXPM1 = "expm1"
    LOG = "log"
    LOG1P = "log1p"
    SIN = "sin"
    COS = "cos"
    TAN = "tan"
    ASIN = "asin"
    ACOS = "acos"
    ATAN = "atan"
    SINH = "sinh"
    COSH = "cosh"
    TANH = "tanh"
    ASINH = "asinh"
    ACOSH = "acosh"
    ATANH = "atanh"
    ERF = "erf"
    SIGMOID = "sigmoid"
    POW = "pow"

    __hash__ = object.__hash__  # members are one object each; the hash of Enum is slow


class CastMode(enum.Enum):
    """How a cast treats values that the new type cannot hold."""

    CONVERT = "convert"  # as numpy: floats towards zero, integers wrap; float out of range is any value
    SATURATE = "saturate"  # to the nearest value of the new type; NaN gives 0 for integers
    BITS = "bits"  # same bits, same width

    __hash__ = object.__hash__  # members are one object each; the hash of Enum is slow
