"""Compute float16, bfloat16 and the 8-bit and 4-bit floats in float32.

Runs after expressions are complete and before the printer. Loads are converted, arithmetic stays in
float32 through a whole expression, and a store or a cast rounds to nearest, ties to even. What only
moves elements (loads, selects, stores) keeps its type. Conversions become integer arithmetic
(`narrow_floats.py`) but for those that the target has as instructions.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Binary, Broadcast, Cast, CastMode, Const, Expr, Kernel, Lane, Let, Load, Math, Select, Stmt, Unary, Var
from ...compiler.kernel.traverse import children, free_vars, map_expr, map_statement, statement_exprs, walk, walk_statements
from .narrow_floats import decode, encode

F32 = DType.FLOAT32


def legalize_floats(kernel: Kernel, native: Set[DType] = frozenset()) -> Kernel:
    """Return the kernel with arithmetic in float32 and float64 only.

    Args:
        kernel: any kernel.
        native: narrow floats that the target converts from and to float32 by an instruction.
    """
    exprs = walk(*(e for s in walk_statements(kernel.body) for e in statement_exprs(s)))
    if not any(e.dtype.is_narrow_float for e in exprs):
        return kernel
    return replace(kernel, body=_Legalizer(native).statement(kernel.body))


class _Legalizer:
    """One kernel."""

    def __init__(self, native: Set[DType]) -> None:
        self._native = native
        self._same: dict[Expr, Expr] = {}
        self._wide: dict[Expr, Expr] = {}
        self._lets: dict[Var, Var] = {}

    def statement(self, stmt: Stmt) -> Stmt:
        """Rebuild one statement."""
        if isinstance(stmt, Let) and stmt.var.dtype.is_narrow_float and not _is_move(stmt.value):
            wide = self._lets[stmt.var] = Var(f"{stmt.var.name}.wide", F32, stmt.var.lanes)
            return Let(wide, self.wide(stmt.value), self.statement(stmt.body))
        return map_statement(stmt, self.same, self.statement)

    def same(self, e: Expr) -> Expr:
        """`e` in its own type."""
        found = self._same.get(e)
        if found is None:
            found = self._same[e] = self._rebuild(e)
        return found

    def wide(self, e: Expr) -> Expr:
        """The narrow float `e` as float32, not rounded again after arithmetic."""
        found = self._wide.get(e)
        if found is None:
            found = self._wide[e] = self._widen(e)
        return found

    def _rebuild(self, e: Expr) -> Expr:
        if isinstance(e, Cast):
            return self._cast(e)
        if e.dtype.is_narrow_float and (not _is_move(e) or any(v in self._lets for v in free_vars(e))):
            return self._from_wide(self.wide(e), e.dtype, CastMode.CONVERT)
        if not e.dtype.is_narrow_float and isinstance(e, (Binary, Math)):
            parts = {c: self.wide(c) if c.dtype.is_narrow_float else self.same(c) for c in children(e)}
        else:
            parts = {c: self.same(c) for c in children(e)}
        return map_expr(e, lambda node: None if node is e else parts[node]) if parts else e

    def _widen(self, e: Expr) -> Expr:
        match e:
            case Const():
                return Const(float(e.dtype.numpy.type(e.value)), F32)
            case Var():
                return self._lets[e] if e in self._lets else self._to_wide(e)
            case Load():
                return self._to_wide(self.same(e))
            case Select():
                return build.select(self.same(e.cond), self.wide(e.then), self.wide(e.other))
            case Broadcast():
                return build.broadcast(self.wide(e.value), e.lanes)
            case Lane():
                return Lane(self.wide(e.vector), e.index)
            case Unary():
                return build.unary(e.op, self.wide(e.a))
            case Binary():
                return build.binary(e.op, self.wide(e.a), self.wide(e.b))
            case Math():
                return build.math_fn(e.fn, *(self.wide(a) for a in e.args))
        return self._to_wide(self.same(e))

    def _cast(self, e: Cast) -> Expr:
        source, target = e.value.dtype, e.dtype
        if e.mode is CastMode.BITS or not (source.is_narrow_float or target.is_narrow_float):
            return build.cast(self.same(e.value), target, e.mode)
        middle = self.wide(e.value) if source.is_narrow_float else build.cast(self.same(e.value), F32)
        return self._from_wide(middle, target, e.mode) if target.is_narrow_float else build.cast(middle, target, e.mode)

    def _to_wide(self, e: Expr) -> Expr:
        return build.cast(e, F32) if e.dtype in self._native else decode(e)

    def _from_wide(self, e: Expr, dtype: DType, mode: CastMode) -> Expr:
        if dtype in self._native and mode is CastMode.CONVERT:
            return build.cast(e, dtype)
        return encode(e, dtype, mode)


def _is_move(e: Expr) -> bool:
    """True if a narrow float is only picked, not computed."""
    match e:
        case Const() | Load() | Cast() | Var():
            return True
        case Broadcast():
            return _is_move(e.value)
        case Lane():
            return _is_move(e.vector)
        case Select():
            return _is_move(e.then) and _is_move(e.other)
    return False
