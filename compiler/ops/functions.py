"""Functions of one float: roots, rounding, exponentials, trigonometry and the like."""

from __future__ import annotations

from ..kernel import build
from ..kernel.nodes import Expr, MathFn
from .elementwise import elementwise
from .table import OpDef, register
from .types import FLOATS

FUNCTIONS = {
    "Sqrt": MathFn.SQRT, "Exp": MathFn.EXP, "Log": MathFn.LOG, "Erf": MathFn.ERF,
    "Ceil": MathFn.CEIL, "Floor": MathFn.FLOOR, "Round": MathFn.ROUND,
    "Sin": MathFn.SIN, "Cos": MathFn.COS, "Tan": MathFn.TAN, "Asin": MathFn.ASIN, "Acos": MathFn.ACOS, "Atan": MathFn.ATAN,
    "Sinh": MathFn.SINH, "Cosh": MathFn.COSH, "Tanh": MathFn.TANH,
    "Asinh": MathFn.ASINH, "Acosh": MathFn.ACOSH, "Atanh": MathFn.ATANH,
    "Sigmoid": MathFn.SIGMOID,
}  # fmt: skip


def _row(name: str, fn: MathFn) -> OpDef:
    def scalar(x: Expr) -> Expr:
        return build.math_fn(fn, x)

    return elementwise(name, scalar, accepts=FLOATS)


register(*(_row(name, fn) for name, fn in FUNCTIONS.items()))
