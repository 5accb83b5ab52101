"""Replaces the functions that no instruction computes by arithmetic, the same on every target.

Runs late, before vectorization or after it: the expansions are branch-free and keep the number of lanes.
Narrow floats are computed in float32. `EXPANSIONS` is the table, with the error of each function in
units in the last place, which `tests/kernel/test_expand_math.py` holds it to.

What reduces large angles takes most of the time of a sine, and angles are seldom large: a statement that
stores functions of angles gets a branch without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Expr, If, Kernel, Lane, Math, MathFn, Stmt, Store
from ...compiler.kernel.traverse import map_expr, map_statement, walk
from . import math_exponential as exponential
from . import math_logarithm as logarithm
from . import math_trigonometric as trigonometric
from .argument_reduction import is_moderate, reduce_moderate_angle


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


_ANGULAR: dict[MathFn, Callable[[Expr, trigonometric.Reduction], Expr]] = {
    MathFn.SIN: trigonometric.sin, MathFn.COS: trigonometric.cos, MathFn.TAN: trigonometric.tan,
}  # fmt: skip


def expand_math(kernel: Kernel) -> Kernel:
    """Expand every function of `EXPANSIONS` in a kernel."""
    memo: dict[Expr, Expr] = {}
    moderate: dict[Expr, Expr] = {}

    def statement(stmt: Stmt) -> Stmt:
        expanded = map_statement(stmt, lambda e: expand_expr(e, memo), statement)
        angles = _angles(stmt.value) if isinstance(stmt, Store) else ()
        if not angles:
            return expanded
        quick = map_statement(stmt, lambda e: expand_expr(e, moderate, are_moderate=True), statement)
        return If(_all(is_moderate(_widened(expand_expr(angle, memo))) for angle in angles), quick, expanded)

    return replace(kernel, body=statement(kernel.body))


def _all(conditions: Iterable[Expr]) -> Expr:
    """True if conditions hold in all lanes."""
    held = build.logical_and(*conditions)
    return held if held.lanes == 1 else build.logical_and(*(Lane(held, k) for k in range(held.lanes)))


def _is_angular(e: Expr) -> bool:
    return isinstance(e, Math) and e.fn in _ANGULAR and not any(map(_is_angular, (part for a in e.args for part in walk(a))))


def _angles(e: Expr) -> tuple[Expr, ...]:
    """Arguments of functions of angles, which are not made of other ones."""
    return tuple(dict.fromkeys(part.args[0] for part in walk(e) if isinstance(part, Math) and _is_angular(part)))


def expand_expr(e: Expr, memo: dict[Expr, Expr] | None = None, *, are_moderate: bool = False) -> Expr:
    """Expand the functions in an expression; its angles may be known to be moderate."""
    memo = {} if memo is None else memo

    def leaf(node: Expr) -> Expr | None:
        if not (isinstance(node, Math) and node.fn in EXPANSIONS):
            return None
        args = tuple(map_expr(a, leaf, memo) for a in node.args)
        if are_moderate and _is_angular(node):
            return build.cast(_ANGULAR[node.fn](_widened(args[0]), reduce_moderate_angle), node.dtype)
        return build.cast(EXPANSIONS[node.fn].expand(*map(_widened, args)), node.dtype)

    return map_expr(e, leaf, memo)


def _widened(e: Expr) -> Expr:
    """Narrow floats as float32."""
    return build.cast(e, DType.FLOAT32) if e.dtype.is_narrow_float else e
