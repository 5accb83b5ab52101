"""Turn loops marked `vector` into vector expressions and stores.

Runs before the printers of targets with vector types. The loop's variable becomes a ramp, and so does
every index that is affine in it; a condition that differs between lanes becomes a mask on the loads and
stores below it; loops inside stay loops if their extent is the same in all lanes. The schedule that
marked the loop promises that its iterations are independent; what this pass can see to break the
promise, and what has no vector form, makes the loop a serial one, with the reason.
"""

from __future__ import annotations

from dataclasses import replace

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.build import add, broadcast, logical_and, logical_not, logical_or, mul
from ...compiler.kernel.nodes import (
    Alloc,
    Assert,
    Barrier,
    Binary,
    BinaryOp,
    Block,
    Broadcast,
    Buffer,
    Cast,
    CastMode,
    Const,
    Expr,
    Extern,
    For,
    If,
    Kernel,
    Lane,
    Let,
    Load,
    LoopKind,
    Ramp,
    Stmt,
    Store,
    Unary,
    UnaryOp,
    Var,
    While,
)
from ...compiler.kernel.traverse import children, map_expr, map_statement, statement_exprs, walk, walk_statements


class _Refused(Exception):
    """A part of the loop has no vector form; the text says which."""


def vectorize(kernel: Kernel, refusals: list[str] | None = None) -> Kernel:
    """Return the kernel without vector loops.

    Args:
        kernel: any kernel.
        refusals: receives a line for each loop that became serial instead.
    """
    return replace(kernel, body=_statement(kernel.body, [] if refusals is None else refusals))


def _statement(stmt: Stmt, refusals: list[str]) -> Stmt:
    rebuilt = map_statement(stmt, lambda e: e, lambda s: _statement(s, refusals))
    if not isinstance(rebuilt, For) or rebuilt.kind is not LoopKind.VECTOR:
        return rebuilt
    result = vectorize_loop(rebuilt)
    if isinstance(result, str):
        refusals.append(f"loop {rebuilt.var.name}: {result}")
        return replace(rebuilt, kind=LoopKind.SERIAL)
    return result


def vectorize_loop(loop: For) -> Stmt | str:
    """Return the body of the loop for all its iterations at once, or the reason why there is none."""
    if not isinstance(loop.extent, Const):
        return "its extent is not constant"
    lanes = int(loop.extent.value)
    if lanes < 2:
        return "it has fewer than two iterations"
    try:
        return _Widener(loop.var, lanes, loop.body).statement(loop.body, None)
    except _Refused as refusal:
        return str(refusal)


class _Widener:
    """The body of one loop."""

    def __init__(self, var: Var, lanes: int, body: Stmt) -> None:
        self.lanes = lanes
        self.ramp = build.ramp(build.const(0, var.dtype), 1, lanes)
        self._values: dict[Var, Expr] = {var: self.ramp}
        self._private: dict[Buffer, Buffer] = {}
        self._memo: dict[tuple[Expr, Expr | None], Expr] = {}
        exprs = walk(*(e for s in walk_statements(body) for e in statement_exprs(s)))
        self._loaded = {e.buffer for e in exprs if isinstance(e, Load)}

    # --- Statements ---------------------------------------------------------------------------

    def statement(self, stmt: Stmt, mask: Expr | None) -> Stmt:
        """`stmt` for the lanes of `mask`, for all lanes without one."""
        match stmt:
            case Block():
                return Block(tuple(self.statement(s, mask) for s in stmt.body))
            case Store():
                return self._store(stmt, mask)
            case If():
                return self._if(stmt, mask)
            case Let():
                return self._let(stmt, mask)
            case For():
                extent = self.widen(stmt.extent, mask)
                if extent.lanes > 1:
                    raise _Refused(f"the extent of loop {stmt.var.name} differs between lanes")
                kind = LoopKind.SERIAL if stmt.kind is LoopKind.PARALLEL else stmt.kind
                return For(stmt.var, extent, kind, self.statement(stmt.body, mask))
            case Alloc():
                return self._alloc(stmt, mask)
            case Assert():
                return Assert(self._all_lanes(self.widen(stmt.cond, mask), mask), stmt.code, stmt.message)
            case Barrier():
                return stmt
            case While():
                raise _Refused("it holds a while loop")
            case Extern():
                raise _Refused(f"it calls {stmt.name}")

    def _store(self, stmt: Store, mask: Expr | None) -> Stmt:
        buffer, at = self._place(stmt.buffer, self.widen(stmt.index, mask))
        value = self.widen(stmt.value, mask)
        own = None if stmt.mask is None else self.widen(stmt.mask, mask)
        both = own if mask is None else mask if own is None else _and(own, mask)
        if at.lanes > 1:
            return Store(buffer, at, broadcast(value, self.lanes), None if both is None else broadcast(both, self.lanes))
        if stmt.buffer in self._loaded:
            raise _Refused(f"its iterations share an element of {stmt.buffer.name}")
        if both is not None and both.lanes > 1:
            raise _Refused(f"lanes of a mask store to one element of {stmt.buffer.name}")
        return Store(buffer, at, Lane(value, self.lanes - 1) if value.lanes > 1 else value, both)

    def _if(self, stmt: If, mask: Expr | None) -> Stmt:
        cond = self.widen(stmt.cond, mask)
        if cond.lanes == 1:
            return If(cond, self.statement(stmt.then, mask), None if stmt.other is None else self.statement(stmt.other, mask))
        # The condition is fixed before the branches run: they may change what it reads.
        fixed = Var(f"mask.{len(self._values)}", DType.BOOL, self.lanes)
        self._values[fixed] = fixed
        parts = [self.statement(stmt.then, _and(fixed, mask))]
        if stmt.other is not None:
            parts.append(self.statement(stmt.other, _and(logical_not(fixed), mask)))
        return Let(fixed, cond, Block(tuple(parts)))

    def _let(self, stmt: Let, mask: Expr | None) -> Stmt:
        value = self.widen(stmt.value, mask)
        var = stmt.var if value.lanes == stmt.var.lanes else Var(stmt.var.name, stmt.var.dtype, value.lanes)
        self._values[stmt.var] = var
        return Let(var, value, self.statement(stmt.body, mask))

    def _alloc(self, stmt: Alloc, mask: Expr | None) -> Stmt:
        """Each iteration has an array of its own: element `i` of lane `l` is `i * lanes + l`."""
        own = stmt.buffer
        if not isinstance(own.size, int):
            raise _Refused(f"the size of {own.name} is not constant")
        align = max(own.align, min(64, own.dtype.bytes * (self.lanes & -self.lanes)))
        self._private[own] = Buffer(own.name, own.dtype, own.size * self.lanes, own.scope, align)
        return Alloc(self._private[own], self.statement(stmt.body, mask))

    def _place(self, buffer: Buffer, at: Expr) -> tuple[Buffer, Expr]:
        private = self._private.get(buffer)
        return (buffer, at) if private is None else (private, _add(_mul(at, build.const(self.lanes)), self.ramp))

    def _all_lanes(self, cond: Expr, mask: Expr | None) -> Expr:
        if mask is not None:
            cond = logical_or(*(broadcast(c, self.lanes) for c in (cond, logical_not(mask))))
        return cond if cond.lanes == 1 else logical_and(*(Lane(cond, k) for k in range(cond.lanes)))

    # --- Expressions --------------------------------------------------------------------------

    def widen(self, e: Expr, mask: Expr | None) -> Expr:
        """`e` for all lanes: a vector, or a scalar if it is the same in all."""
        found = self._memo.get((e, mask))
        if found is None:
            found = self._memo[e, mask] = self._widen(e, mask)
        return found

    def _widen(self, e: Expr, mask: Expr | None) -> Expr:
        if isinstance(e, Var):
            return self._values.get(e, e)
        if isinstance(e, Load):
            return self._load(e, mask)
        parts = {c: self.widen(c, mask) for c in children(e)}
        if all(new is old for old, new in parts.items()):
            return e
        if e.lanes > 1 or isinstance(e, Lane):
            if any(new.lanes != old.lanes for old, new in parts.items()):
                raise _Refused("it holds vectors already")
        elif (affine := _affine(e, parts)) is not None:
            return affine
        return map_expr(e, lambda node: None if node is e else parts[node])

    def _load(self, e: Load, mask: Expr | None) -> Expr:
        buffer, at = self._place(e.buffer, self.widen(e.index, mask))
        own = None if e.mask is None else self.widen(e.mask, mask)
        if e.lanes > 1 and (at.lanes != e.lanes or mask is not None):
            raise _Refused("it holds vectors already")
        both = own if mask is None else mask if own is None else _and(own, mask)
        lanes = max(at.lanes, 1 if both is None else both.lanes)
        return Load(buffer, broadcast(at, lanes), None if both is None else broadcast(both, lanes))


def _and(a: Expr, b: Expr | None) -> Expr:
    return a if b is None else logical_and(a, b)


# --- Affine indices ---------------------------------------------------------------------------


def _affine(e: Expr, parts: dict[Expr, Expr]) -> Expr | None:
    """The ramp (or the scalar) that an operation on ramps is, None if it is neither."""
    if isinstance(e, Unary) and e.op is UnaryOp.NEG:
        a = parts[e.a]
        return Ramp(build.neg(a.base), build.neg(a.stride), a.lanes) if isinstance(a, Ramp) else None
    if isinstance(e, Cast) and e.mode is CastMode.CONVERT and e.dtype.is_int and isinstance(parts[e.value], Ramp):
        a = parts[e.value]
        assert isinstance(a, Ramp)
        return Ramp(build.cast(a.base, e.dtype), build.cast(a.stride, e.dtype), a.lanes) if e.dtype.bits <= a.dtype.bits else None
    if not isinstance(e, Binary):
        return None
    a, b = parts[e.a], parts[e.b]
    match e.op:
        case BinaryOp.ADD:
            return _add(a, b) if _is_linear(a, b) else None
        case BinaryOp.SUB:
            return _add(a, _mul(b, build.const(-1, b.dtype))) if _is_linear(a, b) else None
        case BinaryOp.MUL:
            return _mul(a, b) if _is_linear(a, b) and 1 in (a.lanes, b.lanes) else None
        case BinaryOp.FLOORDIV | BinaryOp.FLOORMOD:
            return _divided(e.op, a, b)
    return None


def _is_linear(a: Expr, b: Expr) -> bool:
    return a.dtype.is_int and all(x.lanes == 1 or isinstance(x, (Ramp, Broadcast)) for x in (a, b))


def _parts_of(e: Expr) -> tuple[Expr, Expr]:
    """Base and stride of a ramp, broadcast or scalar."""
    if isinstance(e, Ramp):
        return e.base, e.stride
    return (e.value if isinstance(e, Broadcast) else e), build.const(0, e.dtype)


def _add(a: Expr, b: Expr) -> Expr:
    lanes = max(a.lanes, b.lanes)
    if not _is_linear(a, b) or lanes == 1:
        return add(a, b)
    (x, s), (y, t) = _parts_of(a), _parts_of(b)
    return _ramp(add(x, y), add(s, t), lanes)


def _mul(a: Expr, b: Expr) -> Expr:
    vector, scalar = (a, b) if a.lanes > 1 else (b, a)
    if scalar.lanes > 1 or not isinstance(vector, (Ramp, Broadcast)):
        return mul(a, b)
    x, s = _parts_of(vector)
    return _ramp(mul(x, scalar), mul(s, scalar), vector.lanes)


def _ramp(base: Expr, stride: Expr, lanes: int) -> Expr:
    if isinstance(stride, Const) and stride.value == 0:
        return broadcast(base, lanes)
    return Ramp(base, stride, lanes)


def _divided(op: BinaryOp, a: Expr, b: Expr) -> Expr | None:
    """`(c * x + [0 .. w)) // d` where `c` and `d` are multiples of `w`: all lanes fall into one block."""
    if not (isinstance(a, Ramp) and isinstance(b, Const) and isinstance(a.stride, Const) and a.stride.value == 1):
        return None
    lanes, divisor = a.lanes, int(b.value)
    if divisor <= 0 or divisor % lanes or not _is_multiple(a.base, lanes):
        return None
    if op is BinaryOp.FLOORDIV:
        return build.floordiv(a.base, divisor)
    return Ramp(build.floormod(a.base, divisor), a.stride, lanes)


def _is_multiple(e: Expr, factor: int) -> bool:
    if isinstance(e, Const):
        return int(e.value) % factor == 0
    if isinstance(e, Binary) and e.op is BinaryOp.ADD:
        return _is_multiple(e.a, factor) and _is_multiple(e.b, factor)
    return isinstance(e, Binary) and e.op is BinaryOp.MUL and (_is_multiple(e.a, factor) or _is_multiple(e.b, factor))
