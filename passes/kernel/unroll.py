"""Write out loops that are marked `unroll` or `vector`, for targets whose compiler makes neither.

Runs first of the kernel passes of the `c` backend. After it every index of a register tile is a constant, so
the printer can give each accumulator a name of its own. A loop whose copies would be longer than `MAX_STORES`
stays a loop, and so does what contains it: flash is dearer than the branch. Loops of one iteration vanish.
"""

from __future__ import annotations

from dataclasses import replace

from ...compiler.kernel.nodes import Block, Const, Expr, For, If, Kernel, LoopKind, Stmt, Store, Var
from ...compiler.kernel.traverse import map_statement, substitute, walk_statements

MAX_STORES = 64
"""Assignments that the copies of a loop's body may hold."""
WRITTEN_OUT = (LoopKind.UNROLL, LoopKind.VECTOR)


def unroll(kernel: Kernel) -> Kernel:
    """Return the kernel with short marked loops written out."""
    return replace(kernel, body=_statement(kernel.body))


def _statement(stmt: Stmt) -> Stmt:
    match stmt:
        case For(extent=Const(value=1)):
            return _flat(_statement(_at(stmt.body, stmt.var, 0)))
        case For(extent=Const(value=count), kind=kind) if kind in WRITTEN_OUT:
            return _loop(stmt, int(count))
        case Block():
            return _flat(Block(tuple(map(_statement, stmt.body))))
        case If(cond=Const(value=holds)):
            taken = stmt.then if holds else stmt.other
            return Block(()) if taken is None else _statement(taken)
        case _:
            return map_statement(stmt, _same, _statement)


def _loop(stmt: For, count: int) -> Stmt:
    body = _statement(stmt.body)
    if count * _stores(body) > MAX_STORES or any(isinstance(s, For) for s in walk_statements(body)):
        return For(stmt.var, stmt.extent, LoopKind.SERIAL, body)
    return _flat(Block(tuple(_statement(_at(body, stmt.var, k)) for k in range(count))))


def _stores(stmt: Stmt) -> int:
    return sum(isinstance(s, Store) for s in walk_statements(stmt))


def _at(stmt: Stmt, var: Var, value: int) -> Stmt:
    """A statement with a number instead of a variable."""
    values: dict[Var, Expr] = {var: Const(value, var.dtype)}

    def inner(stmt: Stmt) -> Stmt:
        return map_statement(stmt, lambda e: substitute(e, values), inner)

    return inner(stmt)


def _flat(stmt: Stmt) -> Stmt:
    """Blocks inside a block dissolve in it."""
    if not isinstance(stmt, Block):
        return stmt
    parts = tuple(part for s in stmt.body for part in (s.body if isinstance(s, Block) else (s,)))
    return parts[0] if len(parts) == 1 else Block(parts)


def _same(e: Expr) -> Expr:
    return e
