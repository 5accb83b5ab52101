"""Evaluate slow expressions that a loop does not change once, before the loop.

Runs last of the kernel passes of the `c` backend. A C compiler moves additions out of a loop, but no square
root, which may set `errno`, and no division, which may raise a flag: a normalization would do both for every
element. Loads are guarded by then, so evaluating early what stands under a condition does no harm; loops of
unknown extent, which may not run at all, and statements under an `if` are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ...compiler.kernel.nodes import (
    Alloc,
    Binary,
    BinaryOp,
    Block,
    Buffer,
    Const,
    Expr,
    Extern,
    For,
    If,
    Kernel,
    Let,
    Load,
    Math,
    MathFn,
    Stmt,
    Store,
    Var,
    While,
)
from ...compiler.kernel.traverse import children, map_expr, map_statement, statement_exprs, walk, walk_statements

SLOW_FUNCTIONS = frozenset({MathFn.SQRT})
SLOW_OPERATORS = frozenset({BinaryOp.DIV, BinaryOp.MOD})


def hoist_invariants(kernel: Kernel) -> Kernel:
    """Return the kernel with slow invariants named in front of their loops."""
    return replace(kernel, body=_Hoist().statement(kernel.body))


class _Hoist:
    """One kernel."""

    def __init__(self) -> None:
        self._count = 0

    def statement(self, stmt: Stmt) -> Stmt:
        """Inner loops first: what they let go may leave the outer ones too."""
        stmt = map_statement(stmt, lambda e: e, self.statement)
        return self._loop(stmt) if isinstance(stmt, For) and isinstance(stmt.extent, Const) and stmt.extent.value > 1 else stmt

    def _loop(self, loop: For) -> Stmt:
        found = invariants(loop)
        names = {e: Var(f"fixed.{self._count + k}", e.dtype) for k, e in enumerate(found, start=1)}
        self._count += len(names)
        result: Stmt = replace(loop, body=_renamed(loop.body, names))
        for e, var in reversed(names.items()):
            result = Let(var, e, result)
        return result


def _renamed(stmt: Stmt, names: Mapping[Expr, Expr]) -> Stmt:
    """A statement with names for expressions; what an inner loop had let go takes the new name at once."""
    if not names:
        return stmt
    if isinstance(stmt, Let) and stmt.value in names:
        return _renamed(stmt.body, {**names, stmt.var: names[stmt.value]})
    memo: dict[Expr, Expr] = {}
    return map_statement(stmt, lambda e: map_expr(e, names.get, memo), lambda s: _renamed(s, names))


def invariants(loop: For) -> list[Expr]:
    """The largest slow expressions in a loop that are the same in all its iterations, in order."""
    inside = list(walk_statements(loop.body))
    changing = {loop.var, *(s.var for s in inside if isinstance(s, (For, Let)))}
    written: set[Buffer] = {s.buffer for s in inside if isinstance(s, (Store, Alloc))}
    written |= {b for s in inside if isinstance(s, Extern) for b in s.buffers}
    exprs = [e for s in _unconditional(loop.body) for e in statement_exprs(s)]
    fixed: dict[Expr, bool] = {}
    for e in walk(*exprs):
        own = not (e in changing or (isinstance(e, Load) and e.buffer in written))
        fixed[e] = own and all(fixed[c] for c in children(e))
    slow = {e for e in walk(*exprs) if _is_slow(e)}
    return list(dict.fromkeys(_largest(exprs, fixed, slow)))


def _largest(exprs: Sequence[Expr], fixed: dict[Expr, bool], slow: set[Expr]) -> Iterator[Expr]:
    """From the top down to the first fixed expressions; of these the ones with something slow in them."""
    seen: set[Expr] = set()
    stack = list(reversed(exprs))
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if not fixed[e]:
            stack.extend(reversed(children(e)))
        elif not slow.isdisjoint(walk(e)) and not isinstance(e, Const):
            yield e


def _is_slow(e: Expr) -> bool:
    match e:
        case Math(fn=fn):
            return fn in SLOW_FUNCTIONS
        case Binary(op=op):
            return op in SLOW_OPERATORS and e.dtype.is_float
    return False


def _unconditional(stmt: Stmt) -> Iterator[Stmt]:
    """Statements that run in every iteration: not those under a condition or in a loop that may have no iteration."""
    yield stmt
    match stmt:
        case Block(body=parts):
            for part in parts:
                yield from _unconditional(part)
        case Let(body=body) | Alloc(body=body):
            yield from _unconditional(body)
        case For(extent=Const(value=count), body=body) if count > 0:
            yield from _unconditional(body)
        case If() | While() | For():
            return
