"""Walking and rebuilding kernel IR: the one place that knows the parts of every node class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter, is_

from ..dtypes import Kind
from . import build
from .nodes import (
    Alloc,
    Assert,
    Barrier,
    Binary,
    BinaryOp,
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
            found = rebuild(e, lambda child: map_expr(child, leaf, memo))
        memo[e] = found
    return found


def substitute(e: Expr, values: dict[Var, Expr]) -> Expr:
    """Replace variables."""
    return map_expr(e, lambda node: values.get(node) if isinstance(node, Var) else None)


def rebuild(e: Expr, go: Callable[[Expr], Expr]) -> Expr:
    """An expression with `go` applied to its operands, made by the folding constructors if one of them changes."""
    before = children(e)
    after = tuple(map(go, before))
    return e if all(map(is_, before, after)) else _REMAKE[type(e)](e, *after)


# How each class is made of new operands, in the order of `children`.
_REMAKE: dict[type, Callable[..., Expr]] = {
    Load: lambda e, at, mask=None: Load(e.buffer, at, mask),
    Read: lambda e, *indices: Read(e.operand, indices, e.dtype),
    Unary: lambda e, a: build.unary(e.op, a),
    Binary: lambda e, a, b: build.binary(e.op, a, b),
    Math: lambda e, *args: build.math_fn(e.fn, *args),
    Select: lambda e, cond, then, other: build.select(cond, then, other),
    Cast: lambda e, value: build.cast(value, e.dtype, e.mode),
    Ramp: lambda e, base, stride: build.ramp(base, stride, e.lanes),
    Broadcast: lambda e, value: build.broadcast(value, e.lanes),
    Lane: lambda e, vector: Lane(vector, e.index),
}


def children(e: Expr) -> tuple[Expr, ...]:
    """The direct operands of an expression."""
    return _CHILDREN[type(e)](e)


_CHILDREN: dict[type, Callable[..., tuple[Expr, ...]]] = {
    Const: lambda e: (),
    Var: lambda e: (),
    Load: lambda e: (e.index,) if e.mask is None else (e.index, e.mask),
    Read: attrgetter("indices"),
    Unary: lambda e: (e.a,),
    Binary: attrgetter("a", "b"),
    Math: attrgetter("args"),
    Select: attrgetter("cond", "then", "other"),
    Cast: lambda e: (e.value,),
    Ramp: attrgetter("base", "stride"),
    Broadcast: lambda e: (e.value,),
    Lane: lambda e: (e.vector,),
}


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


def tree_size(e: Expr) -> int:
    """Nodes of an expression, common parts counted as often as they occur."""
    sizes: dict[Expr, int] = {}
    for part in walk(e):
        sizes[part] = 1 + sum(sizes[child] for child in children(part))
    return sizes[e]


def free_vars(*roots: Expr) -> dict[Var, None]:
    """Variables that occur, in a deterministic order."""
    return {e: None for e in walk(*roots) if isinstance(e, Var)}


# --- Statements -------------------------------------------------------------------------------


def conjuncts(condition: Expr) -> tuple[Expr, ...]:
    """The parts of a conjunction; none for what always holds."""
    if condition is build.TRUE:
        return ()
    if isinstance(condition, Binary) and condition.op is BinaryOp.AND and condition.dtype.kind is Kind.BOOL:
        return (*conjuncts(condition.a), *conjuncts(condition.b))
    return (condition,)


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
            return Extern(stmt.name, tuple(expr(a) for a in stmt.args), stmt.buffers, stmt.results)
        case Barrier():
            return stmt
