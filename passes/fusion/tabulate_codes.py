"""Replace functions from one 8-bit code to another by a table of 256 codes.

    y[i] = Q(sigmoid(DQ(x[i])))  ==  table[x[i]]

The table is computed at compile time, so it is exact. Runs after `requantize`, on maps and on epilogues; sums, and
what depends on two tensors, stay. Cheap arithmetic stays, too: it needs no memory. For targets that compute one element at
a time, or have no FPU, nothing that rounds is cheap.
"""

from __future__ import annotations

from collections.abc import Collection

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.evaluate import evaluate_nest
from ...compiler.kernel.nest import pointwise
from ...compiler.kernel.nodes import Cast, CastMode, Const, Expr, Math, MathFn, Read, Var
from ...compiler.kernel.traverse import children, map_expr, rebuild
from ...compiler.program.stages import Stage, with_result
from .constant_stages import Constants, Operands
from .stage_graph import NATIVE_MATH, StageGraph

CODES = (DType.INT8, DType.UINT8)
MIN_ELEMENTS = 512
"""Tensors of fewer elements are computed: the table would take more memory than it saves work."""


def tabulate_codes(graph: StageGraph, all_rounding: bool = False) -> None:
    """Put tables into the stages that compute functions of single codes: costly ones, or all that round."""
    for name, stage in list(graph.stages.items()):
        found = tabulated(stage, graph.constants, all_rounding)
        if isinstance(found, Stage):
            graph.stages[name] = found


def tabulated(stage: Stage, constants: Constants, all_rounding: bool = False) -> Stage | str:
    """The stage with tables, or why it has none."""
    size = build.product(stage.nest.shape)
    if isinstance(size, int) and size < MIN_ELEMENTS:
        return "small"
    tables = _Tables(stage, constants, NATIVE_MATH - {MathFn.ROUND} if all_rounding else NATIVE_MATH)
    result = tables.rewrite(stage.nest.result)
    if result is stage.nest.result:
        return "no function of one code that is worth a table"
    return with_result(stage, tuple(tables.operands.values), result)


class _Tables:
    """The rewriting of one stage."""

    def __init__(self, stage: Stage, constants: Constants, cheap: Collection[MathFn]) -> None:
        self.stage, self.constants, self.cheap = stage, constants, cheap
        self.operands = Operands(list(stage.operands))
        self.done: dict[Expr, Expr] = {}

    def rewrite(self, e: Expr) -> Expr:
        """An expression with tables, the largest first."""
        if e not in self.done:
            found = self._lookup(e)
            self.done[e] = rebuild(e, self.rewrite) if found is None else found
        return self.done[e]

    def _lookup(self, e: Expr) -> Expr | None:
        """The read of a table for a code that is computed of one other code."""
        if not (isinstance(e, Cast) and e.mode is CastMode.SATURATE and e.dtype in CODES):
            return None
        seen: set[Expr] = set()
        codes = codes_of(e, seen, self.stage, self.constants)
        if codes is None or len(codes) != 1 or not any(isinstance(part, Math) and part.fn not in self.cheap for part in seen):
            return None
        (code,) = codes
        low = int(code.dtype.limits[0])
        nest = pointwise((256,), lambda at: map_expr(e, lambda part: build.cast(build.add(at, low), code.dtype) if part is code else None))
        values = evaluate_nest(nest, [self.constants.array(v) for v in self.stage.operands], {})
        at = build.cast(build.sub(build.cast(self.rewrite(code), DType.INT32), low), DType.INT64)
        self.operands.values.append(self.constants.add(f"{self.stage.value.name}#codes", values, e.dtype))
        return Read(len(self.operands.values) - 1, (at,), e.dtype)


def codes_of(e: Expr, seen: set[Expr], stage: Stage, constants: Constants) -> set[Expr] | None:
    """The codes of which an expression is computed, all that it consists of else being numbers; None if something varies otherwise."""
    found: set[Expr] = set()
    stack = [*children(e)]

    def is_number(part: Expr) -> bool:
        """True for an element of a constant at a place that is known."""
        if not (isinstance(part, Read) and all(isinstance(at, Const) for at in part.indices)):
            return False
        return constants.array(stage.operands[part.operand]) is not None

    while stack:
        part = stack.pop()
        if part in seen:
            continue
        seen.add(part)
        if part.dtype in CODES and not isinstance(part, Const) and not is_number(part):
            found.add(part)
        elif (isinstance(part, Read) and not is_number(part)) or isinstance(part, Var):
            return None
        else:
            stack.extend(children(part))
    return found
