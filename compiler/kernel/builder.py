"""A builder that writes kernel-IR statements in the order in which Python code calls it.

    k = KernelBuilder("count_nonzero", buffers=(x, count))
    with k.loop("i", n) as i:
        with k.when(build.ne(load(x, i), 0)):
            k.store(count, 0, build.add(load(count, 0), 1))
    kernel = k.finish()

Used by imperative operator definitions and by the schedules.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..diagnostics import NOWHERE, Loc
from ..dtypes import DType
from . import build
from .nodes import Alloc, Assert, Block, Buffer, Dim, Expr, For, If, Kernel, Let, LoopKind, Scope, Stmt, Store, Var, While
from .traverse import free_vars, statement_exprs, walk_statements


class KernelBuilder:
    """Collects statements; blocks are `with` blocks."""

    def __init__(self) -> None:
        self._stack: list[list[Stmt]] = [[]]
        self._names = 0

    def emit(self, stmt: Stmt) -> None:
        """Append a statement."""
        self._stack[-1].append(stmt)

    def name(self, prefix: str) -> str:
        """A name that this builder has not given before."""
        self._names += 1
        return f"{prefix}.{self._names}"

    @contextmanager
    def nested(self) -> Iterator[list[Stmt]]:
        """Collect what is emitted in a list instead, for statements that no other method makes."""
        self._stack.append([])
        try:
            yield self._stack[-1]
        finally:
            self._stack.pop()

    @contextmanager
    def loop(self, name: str, extent: Dim, kind: LoopKind = LoopKind.SERIAL) -> Iterator[Var]:
        """`for name in range(extent)`; yields the variable."""
        var = build.loop_var(self.name(name), extent)
        with self.nested() as body:
            yield var
        self.emit(For(var, build.index(extent), kind, block(body)))

    @contextmanager
    def loops(self, extents: tuple[Dim, ...], kind: LoopKind = LoopKind.SERIAL) -> Iterator[tuple[Var, ...]]:
        """Nested loops; yields their variables."""
        variables = tuple(build.loop_var(self.name(f"i{k}"), extent) for k, extent in enumerate(extents))
        with self.nested() as body:
            yield variables
        stmt = block(body)
        for var, extent in zip(reversed(variables), reversed(extents), strict=True):
            stmt = For(var, build.index(extent), kind, stmt)
        self.emit(stmt)

    @contextmanager
    def repeat(self, cond: Expr) -> Iterator[None]:
        """`while cond`; the condition must read what the body changes through `load`."""
        with self.nested() as body:
            yield
        self.emit(While(cond, block(body)))

    @contextmanager
    def when(self, cond: Expr) -> Iterator[None]:
        """`if cond`."""
        with self.nested() as body:
            yield
        self.emit(If(cond, block(body)))

    @contextmanager
    def otherwise(self) -> Iterator[None]:
        """`else` of the `when` just before."""
        before = self._stack[-1].pop()
        assert isinstance(before, If) and before.other is None
        with self.nested() as body:
            yield
        self.emit(If(before.cond, before.then, block(body)))

    def store(self, buffer: Buffer, at: Dim, value: Expr | int | float) -> None:
        """`buffer[at] = value`; a Python number takes the buffer's type."""
        self.emit(Store(buffer, build.index(at), build.as_expr(value, buffer.dtype)))

    def check(self, cond: Expr, code: int, message: str) -> None:
        """Stop the model with status `code` unless `cond` holds."""
        self.emit(Assert(cond, code, message))

    @contextmanager
    def let(self, value: Expr, name: str = "t") -> Iterator[Var]:
        """Evaluate `value` now and name it for the block."""
        var = Var(self.name(name), value.dtype, value.lanes)
        with self.nested() as body:
            yield var
        self.emit(Let(var, value, block(body)))

    @contextmanager
    def local(self, dtype: DType, size: int, name: str = "local", scope: Scope = Scope.STACK, align: int = 0) -> Iterator[Buffer]:
        """A stack (or register) array of the block; its content is undefined at first."""
        with self.around(Buffer(self.name(name), dtype, size, scope, align)) as buffer:
            yield buffer

    @contextmanager
    def around(self, buffer: Buffer) -> Iterator[Buffer]:
        """A stack or register array that is already made lives for the block."""
        with self.nested() as body:
            yield buffer
        self.emit(Alloc(buffer, block(body)))

    def body(self) -> Stmt:
        """All that was emitted."""
        assert len(self._stack) == 1
        return block(self._stack[0])

    def kernel(self, name: str, buffers: tuple[Buffer, ...], loc: Loc = NOWHERE, schedule: str = "") -> Kernel:
        """Make a kernel of all that was emitted; its symbols are the variables that nothing in it defines."""
        body = self.body()
        return Kernel(name, buffers, free_symbols(body), body, loc, schedule)


def block(stmts: list[Stmt]) -> Stmt:
    """One statement for a list of them."""
    return stmts[0] if len(stmts) == 1 else Block(tuple(stmts))


def free_symbols(body: Stmt) -> tuple[Var, ...]:
    """Variables that a statement uses and does not define, in order of their names."""
    defined: set[Var] = set()
    used: dict[Var, None] = {}
    for stmt in walk_statements(body):
        if isinstance(stmt, (For, Let)):
            defined.add(stmt.var)
        used.update(free_vars(*statement_exprs(stmt)))
    return tuple(sorted((v for v in used if v not in defined), key=lambda v: v.name))
