"""Replaces the functions that no instruction computes by arithmetic, the same on every target.

Runs late, before vectorization or after it: the expansions are branch-free and keep the number of lanes.
Narrow floats are computed in float32. `EXPANSIONS` is the table, with the error of each function in
units in the last place, which `tests/kernel/test_expand_math.py` holds it to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Expr, Kernel, Math, MathFn, Stmt
from ...compiler.kernel.traverse import map_expr, map_statement
from . import math_exponential as exponential
from . import math_logarithm as logarithm
from . import math_trigonometric as trigonometric


@dataclass(frozen=True, slots=True)
class Expansion:
    """How a function becomes arithmetic."""

    expand: Callable[..., Expr]
    """(arguments of type float32 or float64) -> value."""
    ulp32: float
    """Largest error for float32."""
    ulp64: float
    """Largest error for float64."""


EXPANSIONS: dict[MathFn, Expansion] = {
    MathFn.EXP: Expansion(exponential.exp, 2.5, 2.0),
    MathFn.EXP2: Expansion(exponential.exp2, 2.0, 2.0),
    MathFn.EXPM1: Expansion(exponential.expm1, 2.0, 2.0),
    MathFn.LOG: Expansion(logarithm.log, 2.0, 2.0),
    MathFn.LOG1P: Expansion(logarithm.log1p, 2.0, 2.0),
    MathFn.SIN: Expansion(trigonometric.sin, 2.0, 2.0),
    MathFn.COS: Expansion(trigonometric.cos, 2.0, 2.0),
    MathFn.TAN: Expansion(trigonometric.tan, 2.5, 2.5),
    MathFn.ASIN: Expansion(trigonometric.asin, 2.0, 2.0),
    MathFn.ACOS: Expansion(trigonometric.acos, 2.0, 2.0),
    MathFn.ATAN: Expansion(trigonometric.atan, 2.0, 2.0),
    MathFn.SINH: Expansion(exponential.sinh, 2.0, 2.5),
    MathFn.COSH: Expansion(exponential.cosh, 2.0, 2.5),
    MathFn.TANH: Expansion(exponential.tanh, 3.5, 2.5),
    MathFn.ASINH: Expansion(logarithm.asinh, 3.0, 3.0),
    MathFn.ACOSH: Expansion(logarithm.acosh, 3.0, 3.0),
    MathFn.ATANH: Expansion(logarithm.atanh, 3.0, 3.0),
    MathFn.ERF: Expansion(exponential.erf, 3.5, 2.0),
    MathFn.SIGMOID: Expansion(exponential.sigmoid, 3.5, 2.5),
    MathFn.POW: Expansion(logarithm.power, 1.0, 2.0),
}


def expand_math(kernel: Kernel) -> Kernel:
    """Expand every function of `EXPANSIONS` in a kernel."""
    memo: dict[Expr, Expr] = {}

    def statement(stmt: Stmt) -> Stmt:
        return map_statement(stmt, lambda e: expand_expr(e, memo), statement)

    return replace(kernel, body=statement(kernel.body))


def expand_expr(e: Expr, memo: dict[Expr, Expr] | None = None) -> Expr:
    """Expand the functions in an expression."""
    memo = {} if memo is None else memo

    def leaf(node: Expr) -> Expr | None:
        if not (isinstance(node, Math) and node.fn in EXPANSIONS):
            return None
        return _expand(node.fn, tuple(map_expr(a, leaf, memo) for a in node.args))

    return map_expr(e, leaf, memo)


def _expand(fn: MathFn, args: tuple[Expr, ...]) -> Expr:
    expand, dtype = EXPANSIONS[fn].expand, args[0].dtype
    if dtype.is_narrow_float:
        return build.cast(expand(*(build.cast(a, DType.FLOAT32) for a in args)), dtype)
    return expand(*args)
