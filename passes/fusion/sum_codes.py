"""Requantize the sum of two quantized tensors (a residual connection) by two multiply-adds, where every code stays the same.

    Q(max(DQ(a) + DQ(b), 0))  ==  saturate(round(fma(a, A, fma(b, B, C))) + zero)

There are 256 * 256 pairs of codes, so both sides are compared for all of them at compile time. Where some differ because their real
values are close to ties, slightly different `C` are tried; if none fits, the sum stays as it is. This saves the division, the
conversion to a code and back where an operand is rounded just before, and the check for NaN. Runs after
`tabulate_codes`, for targets that have the instruction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.build import const
from ...compiler.kernel.evaluate import evaluate_nest
from ...compiler.kernel.nest import pointwise
from ...compiler.kernel.nodes import Binary, BinaryOp, Cast, CastMode, Const, Expr, Math, MathFn, Read
from ...compiler.kernel.traverse import map_expr, rebuild, walk
from ...compiler.program.stages import Stage, with_result
from .constant_stages import Constants
from .stage_graph import StageGraph
from .tabulate_codes import CODES, codes_of

F32 = DType.FLOAT32
MOVES = 12
"""Values of `C` that are tried on each side of the fitted one."""
STEP = 2.0**-19
"""Distance of these values: an ulp of numbers beyond 16."""
LARGEST = 1e4
"""Sums with larger factors give only the smallest and the largest code."""


def sum_codes(graph: StageGraph) -> None:
    """Put multiply-adds into the stages that compute codes of sums."""
    for name, stage in list(graph.stages.items()):
        found = summed(stage, graph.constants)
        if isinstance(found, Stage):
            graph.stages[name] = found


def summed(stage: Stage, constants: Constants) -> Stage | str:
    """The stage with multiply-adds, or why it has none."""
    result = _Sums(stage, constants).rewrite(stage.nest.result)
    if result is stage.nest.result:
        return "no sum of two codes that multiply-adds give for all pairs"
    return with_result(stage, stage.operands, result)


@dataclass(frozen=True, slots=True)
class _Term:
    """A code as a float: `value + zero`."""

    value: Expr
    zero: int


class _Sums:
    """The rewriting of one stage."""

    def __init__(self, stage: Stage, constants: Constants) -> None:
        self.stage, self.constants = stage, constants
        self.done: dict[Expr, Expr] = {}

    def rewrite(self, e: Expr) -> Expr:
        """An expression with multiply-adds, the outermost first."""
        if e not in self.done:
            found = self._sum(e)
            self.done[e] = rebuild(e, self.rewrite) if found is None else found
        return self.done[e]

    def _sum(self, e: Expr) -> Expr | None:
        """The codes of a sum of two codes that is divided by a scale."""
        if not (isinstance(e, Cast) and e.mode is CastMode.SATURATE and e.dtype in CODES):
            return None
        seen: set[Expr] = set()
        codes = codes_of(e, seen, self.stage, self.constants)
        if codes is None or len(codes) != 2 or not any(isinstance(part, Binary) and part.op is BinaryOp.DIV for part in seen):
            return None
        real, zero = _rounded(e)
        if real is None:
            return None
        one, other = (code for code in walk(e) if code in codes)
        terms = self._term(one), self._term(other)
        table, reals = (self._table(part, one, other) for part in (e, real))
        offset = 0.0 if zero is None else float(evaluate_nest(pointwise((1,), lambda _: zero), self._arrays(), {})[0])
        a, b = (np.arange(256) + int(code.dtype.limits[0]) - term.zero for code, term in zip((one, other), terms, strict=True))
        found = next((c for c in _candidates(table, reals, offset, a, b) if c.gives(table, a, b)), None)
        return None if found is None else found.expr(terms[0].value, terms[1].value, e.dtype, table)

    def _arrays(self) -> list[np.ndarray | None]:
        return [self.constants.array(v) for v in self.stage.operands]

    def _table(self, e: Expr, one: Expr, other: Expr) -> np.ndarray:
        """An expression for all pairs of codes."""

        def code(at: Expr, of: Expr) -> Expr:
            return build.cast(build.add(at, int(of.dtype.limits[0])), of.dtype)

        nest = pointwise((256, 256), lambda i, j: map_expr(e, {one: code(i, one), other: code(j, other)}.get))
        return evaluate_nest(nest, self._arrays(), {})

    def _term(self, code: Expr) -> _Term:
        """A code as a float: one that is rounded here is not made a code before."""
        if isinstance(code, Cast) and code.mode is CastMode.SATURATE and code.value.dtype is F32:
            rounded: Expr = code.value
            zero = 0.0
            if isinstance(rounded, Binary) and rounded.op is BinaryOp.ADD and isinstance(rounded.b, Const):
                zero, rounded = float(rounded.b.value), rounded.a
            if isinstance(rounded, Math) and rounded.fn is MathFn.ROUND and zero.is_integer() and self._is_number(rounded.args[0]):
                low, high = (const(float(limit) - zero, F32) for limit in code.dtype.limits)
                x = rounded.args[0]
                above = build.select(build.gt(x, low), x, low)
                within = build.select(build.lt(above, high), above, high)
                return _Term(build.math_fn(MathFn.ROUND, within), int(zero))
        return _Term(build.cast(build.cast(code, DType.INT32), F32), 0)

    def _is_number(self, x: Expr) -> bool:
        """True for an integer times a constant: no NaN."""
        if not (isinstance(x, Binary) and x.op is BinaryOp.MUL):
            return False
        for product, scale in ((x.a, x.b), (x.b, x.a)):
            if isinstance(product, Cast) and product.value.dtype.is_int and isinstance(scale, Read):
                array = self.constants.array(self.stage.operands[scale.operand])
                return array is not None and bool(np.isfinite(array).all())
        return False


@dataclass(frozen=True, slots=True)
class _Candidate:
    """`saturate(round(fma(a, by_a, fma(b, by_b, offset))) + zero)`."""

    by_a: np.float32
    by_b: np.float32
    offset: np.float32
    zero: int

    def gives(self, table: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
        """True if it gives a table."""
        inner, is_exact = _fma(b, self.by_b, np.full(256, self.offset))
        outer, is_exact_too = _fma(a[:, None], self.by_a, np.broadcast_to(inner, (256, 256)))
        codes = np.clip(np.rint(outer) + self.zero, *_limits(table))
        return is_exact and is_exact_too and bool((codes == table).all())

    def expr(self, a: Expr, b: Expr, dtype: DType, table: np.ndarray) -> Expr:
        """The expression for two codes."""
        inner = build.math_fn(MathFn.FMA, b, const(float(self.by_b), F32), const(float(self.offset), F32))
        rounded = build.math_fn(MathFn.ROUND, build.math_fn(MathFn.FMA, a, const(float(self.by_a), F32), inner))
        code = build.cast(build.add(rounded, float(self.zero)) if self.zero else rounded, dtype, CastMode.SATURATE)
        low, high = _limits(table)
        code = build.maximum(code, const(low, dtype)) if low > dtype.limits[0] else code
        return build.minimum(code, const(high, dtype)) if high < dtype.limits[1] else code


def _fma(a: np.ndarray, b: np.float32, c: np.ndarray) -> tuple[np.ndarray, bool]:
    """`a * b + c` rounded once, for integers of few bits; and whether that is so: the sum in doubles is exact."""
    product, addend = a.astype(np.float64) * np.float64(b), c.astype(np.float64)
    total = product + addend
    part = total - product
    lost = (product - (total - part)) + (addend - part)
    return total.astype(np.float32), not lost.any()


def _rounded(e: Cast) -> tuple[Expr | None, Expr | None]:
    """`x` and `zero` of `saturate(round(x) + zero)`."""
    rounded: Expr = e.value
    zero: Expr | None = None
    if isinstance(rounded, Binary) and rounded.op is BinaryOp.ADD:
        rounded, zero = (rounded.a, rounded.b) if isinstance(rounded.a, Math) else (rounded.b, rounded.a)
    return (rounded.args[0] if isinstance(rounded, Math) and rounded.fn is MathFn.ROUND else None), zero


def _limits(table: np.ndarray) -> tuple[int, int]:
    return int(table.min()), int(table.max())


def _candidates(table: np.ndarray, reals: np.ndarray, zero: float, a: np.ndarray, b: np.ndarray) -> Iterator[_Candidate]:
    """Factors fitted to the reals where codes are not at their limits, with offsets nearby, which the zero point is a part of or not."""
    low, high = _limits(table)
    at = np.nonzero((table > low) & (table < high))
    points = np.stack([a[at[0]], b[at[1]], np.ones(len(at[0]))], 1)
    if len(points) < 3 or np.linalg.matrix_rank(points) < 3:
        return
    (by_a, by_b, offset), *_ = np.linalg.lstsq(points, reals[at].astype(np.float64), rcond=None)
    if not max(abs(by_a), abs(by_b), abs(offset)) < LARGEST:
        return
    for inside, outside in dict.fromkeys(((zero, 0), (0.0, int(zero)))):
        for move in sorted(range(-MOVES, MOVES + 1), key=abs):
            yield _Candidate(np.float32(by_a), np.float32(by_b), np.float32(offset + inside + move * STEP), outside)
