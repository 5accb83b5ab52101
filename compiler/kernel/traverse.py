"""Walking and rebuilding kernel IR: the one place that knows the parts of every node class."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from . import build
from .nodes import (
    Alloc,
    Assert,
    Barrier,
    Binary,
    Block,
    Broadcast,
    Cast,
    Const,
    Expr,
    Extern,
    For,
    If,
    Lane,
    Let,
    Load,
    Math,
    Ramp,
    Read,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    While,
)


def map_expr(e: Expr, leaf: Callable[[Expr], Expr | None], memo: dict[Expr, Expr] | None = None) -> Expr:
    """Rebuild an expression bottom-up through the folding constructors.

    `leaf` is asked first at every node and replaces it unless it returns None. Shared parts are visited
    once; pass a `memo` to share the work between expressions.
    """
    memo = {} if memo is None else memo
    found = memo.get(e)
    if found is None:
        found = leaf(e)
        if found is None:
            found = _rebuild(e, lambda child: map_expr(child, leaf, memo))
        memo[e] = found
    return found


def substitute(e: Expr, values: dict[Var, Expr]) -> Expr:
    """Replace variables."""
    return map_expr(e, lambda node: values.get(node) if isinstance(node, Var) else None)


def _rebuild(e: Expr, go: Callable[[Expr], Expr]) -> Expr:
    match e:
        case Const() | Var():
            return e
        case Load(buffer=buffer, index=at, mask=mask):
            return Load(buffer, go(at), None if mask is None else go(mask))
        case Read(operand=operand, indices=indices, dtype=dtype):
            return Read(operand, tuple(go(i) for i in indices), dtype)
        case Unary(op=op, a=a):
            return build.unary(op, go(a))
        case Binary(op=op, a=a, b=b):
            return build.binary(op, go(a), go(b))
        case Math(fn=fn, args=args):
            return build.math_fn(fn, *(go(a) for a in args))
        case Select(cond=cond, then=then, other=other):
            return build.select(go(cond), go(then), go(other))
        case Cast(value=value, dtype=dtype, mode=mode):
            return build.cast(go(value), dtype, mode)
        case Ramp(base=base, stride=stride, lanes=lanes):
            return build.ramp(go(base), go(stride), lanes)
        case Broadcast(value=value, lanes=lanes):
            return build.broadcast(go(value), lanes)
        case Lane(vector=vector, index=at):
            return Lane(go(vector), at)


def children(e: Expr) -> tuple[Expr, ...]:
    """The direct operands of an expression."""
    match e:
        case Const() | Var():
            return ()
        case Load(index=at, mask=mask):
            return (at,) if mask is None else (at, mask)
        case Read(indices=indices):
            return indices
        case Unary(a=a):
            return (a,)
        case Binary(a=a, b=b):
            return a, b
        case Math(args=args):
            return args
        case Select(cond=cond, then=then, other=other):
            return cond, then, other
        case Cast(value=value) | Broadcast(value=value):
            return (value,)
        case Ramp(base=base, stride=stride):
            return base, stride
        case Lane(vector=vector):
            return (vector,)


def walk(*roots: Expr) -> list[Expr]:
    """All distinct nodes of some expressions, operands before users."""
    order: dict[Expr, None] = {}
    stack: list[tuple[Expr, bool]] = [(e, False) for e in reversed(roots)]
    while stack:
        e, done = stack.pop()
        if done:
            order[e] = None
        elif e not in order:
            stack.append((e, True))
            stack.extend((c, False) for c in children(e) if c not in order)
    return list(order)


def free_vars(*roots: Expr) -> dict[Var, None]:
    """Variables that occur, in a deterministic order."""
    return {e: None for e in walk(*roots) if isinstance(e, Var)}


# --- Statements -------------------------------------------------------------------------------


def statement_exprs(stmt: Stmt) -> tuple[Expr, ...]:
    """The expressions that stand directly in a statement."""
    match stmt:
        case For(extent=extent):
            return (extent,)
        case While(cond=cond) | If(cond=cond) | Assert(cond=cond):
            return (cond,)
        case Store(index=at, value=value, mask=mask):
            return (at, value) if mask is None else (at, value, mask)
        case Let(value=value):
            return (value,)
        case Extern(args=args):
            return args
        case Block() | Alloc() | Barrier():
            return ()


def substatements(stmt: Stmt) -> tuple[Stmt, ...]:
    """The statements that stand directly in a statement."""
    match stmt:
        case For(body=body) | While(body=body) | Let(body=body) | Alloc(body=body):
            return (body,)
        case Block(body=stmts):
            return stmts
        case If(then=then, other=other):
            return (then,) if other is None else (then, other)
        case Store() | Assert() | Barrier() | Extern():
            return ()


def walk_statements(stmt: Stmt) -> Iterator[Stmt]:
    """All statements, outer before inner, in program order."""
    stack = [stmt]
    while stack:
        current = stack.pop()
        yield current
        stack.extend(reversed(substatements(current)))


def map_statement(stmt: Stmt, expr: Callable[[Expr], Expr], inner: Callable[[Stmt], Stmt]) -> Stmt:
    """Rebuild one statement with `expr` applied to its expressions and `inner` to its statements."""
    match stmt:
        case For():
            return For(stmt.var, expr(stmt.extent), stmt.kind, inner(stmt.body))
        case While():
            return While(expr(stmt.cond), inner(stmt.body))
        case Block():
            return Block(tuple(inner(s) for s in stmt.body))
        case Store():
            return Store(stmt.buffer, expr(stmt.index), expr(stmt.value), None if stmt.mask is None else expr(stmt.mask))
        case If():
            return If(expr(stmt.cond), inner(stmt.then), None if stmt.other is None else inner(stmt.other))
        case Let():
            return Let(stmt.var, expr(stmt.value), inner(stmt.body))
        case Alloc():
            return Alloc(stmt.buffer, inner(stmt.body))
        case Assert():
            return Assert(expr(stmt.cond), stmt.code, stmt.message)
        case Extern():
            return Extern(stmt.name, tuple(expr(a) for a in stmt.args), stmt.buffers)
        case Barrier():
            return stmt
