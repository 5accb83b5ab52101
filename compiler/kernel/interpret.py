"""Runs a kernel, one element at a time: the reference for every printer and pass on kernel IR.

Each access is checked against the size of its buffer, memory that was never written holds NaN or a
pattern, and threads of a GPU block advance together from barrier to barrier. Expressions become Python
functions (`expr_functions.py`) over the arithmetic of `scalar.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ..diagnostics import CompileError
from ..dtypes import DType, Kind
from .expr_functions import AccessError, Environment, ExprFunction, Memory, Moment, expr_functions
from .nodes import (
    Alloc,
    Assert,
    Barrier,
    Block,
    Buffer,
    Const,
    Expr,
    Extern,
    For,
    If,
    Kernel,
    Let,
    LoopKind,
    Scope,
    Stmt,
    Store,
    While,
)
from .scalar import Scalar
from .traverse import substatements

ExternMeaning = Callable[[tuple[tuple[Scalar, ...], ...], tuple[np.ndarray, ...]], None]
"""(values of the arguments by lane, arrays of the buffers): carries out an MMA row's instruction."""


def run_kernel(
    kernel: Kernel,
    arrays: Mapping[Buffer, np.ndarray],
    symbols: Mapping[str, int],
    externs: Mapping[str, ExternMeaning] | None = None,
) -> None:
    """Execute a kernel on flat arrays, in place.

    Args:
        kernel: any kernel; vector nodes and GPU loops included.
        arrays: one 1-D array of the element type for each buffer argument, of at least its size.
        symbols: value of each symbol of the kernel and of the sizes of its buffers, by name.
        externs: meanings of `Extern` instructions, by name.

    Raises:
        CompileError: E0402 if an `Assert` of the kernel fails.
        AccessError: on an access outside of a buffer.
    """
    machine = _Machine(kernel, externs or {})
    env: Environment = {v.name: (int(symbols[v.name]),) for v in kernel.symbols}
    memory = {}
    for buffer in kernel.buffers:
        array = arrays[buffer]
        size = int(evaluate(_size(buffer), symbols))
        if array.ndim != 1 or array.dtype != buffer.dtype.numpy or len(array) < size:
            found = f"{array.dtype}{list(array.shape)}"
            raise AccessError(f"{kernel.name}: buffer {buffer.name} needs {size} {buffer.dtype.label}, got {found}")
        memory[buffer] = array[:size]
    with np.errstate(all="ignore"):
        for _ in machine.run(kernel.body, env, memory):
            pass


def evaluate(e: Expr, symbols: Mapping[str, int] | None = None) -> Scalar:
    """Value of a scalar expression without loads, for given values of its variables."""
    env: Environment = {name: (int(value),) for name, value in (symbols or {}).items()}
    with np.errstate(all="ignore"):
        (function,) = expr_functions((e,))
        return function(Moment(env, {}, "expression"), 0)


def _size(buffer: Buffer) -> Expr:
    return Const(buffer.size, DType.INT64) if isinstance(buffer.size, int) else buffer.size


class _Machine:
    """Executes statements. `run` is a generator that yields at each barrier."""

    def __init__(self, kernel: Kernel, externs: Mapping[str, ExternMeaning]) -> None:
        self.kernel, self.externs = kernel, externs
        self.has_barrier: dict[int, bool] = {}
        self.functions: dict[object, tuple[ExprFunction, ...]] = {}
        self.shared: Memory = {}

    def value(self, e: Expr, env: Environment, memory: Memory) -> Scalar:
        return self.functions_of(e)[0](self.now(env, memory), 0)

    def lanes(self, e: Expr, env: Environment, memory: Memory) -> tuple[Scalar, ...]:
        """All lanes of an expression."""
        now, (function,) = self.now(env, memory), self.functions_of(e)
        return tuple(function(now, lane) for lane in range(e.lanes))

    def now(self, env: Environment, memory: Memory) -> Moment:
        return Moment(env, memory, self.kernel.name)

    def functions_of(self, *exprs: Expr) -> tuple[ExprFunction, ...]:
        """The functions of expressions of one statement, made once."""
        if exprs not in self.functions:
            self.functions[exprs] = expr_functions(exprs)
        return self.functions[exprs]

    def run(self, stmt: Stmt, env: Environment, memory: Memory) -> Iterator[None]:
        if self.waits(stmt):
            yield from self.step(stmt, env, memory)
        else:
            self.finish(stmt, env, memory)

    def waits(self, stmt: Stmt) -> bool:
        """True if a barrier stands in the statement (statements without one need no generator)."""
        found = self.has_barrier.get(id(stmt))
        if found is None:
            found = isinstance(stmt, Barrier) or any(self.waits(s) for s in substatements(stmt))
            self.has_barrier[id(stmt)] = found
        return found

    def step(self, stmt: Stmt, env: Environment, memory: Memory) -> Iterator[None]:
        """Execute a statement that holds a barrier."""
        match stmt:
            case Barrier():
                yield
            case Block():
                for s in stmt.body:
                    yield from self.run(s, env, memory)
            case For(kind=LoopKind.BLOCK):
                yield from self.threads(stmt, env, memory)
            case For():
                for i in range(int(self.value(stmt.extent, env, memory))):
                    if stmt.kind is LoopKind.GRID:
                        self.shared = {}
                    yield from self.run(stmt.body, env | {stmt.var.name: (i,)}, memory)
            case While():
                while self.value(stmt.cond, env, memory):
                    yield from self.run(stmt.body, env, memory)
            case If():
                chosen = stmt.then if self.value(stmt.cond, env, memory) else stmt.other
                if chosen is not None:
                    yield from self.run(chosen, env, memory)
            case Let():
                yield from self.run(stmt.body, env | {stmt.var.name: self.lanes(stmt.value, env, memory)}, memory)
            case Alloc():
                yield from self.run(stmt.body, env, memory | {stmt.buffer: self.allocate(stmt.buffer, env, memory)})
            case _:
                raise AssertionError(stmt)

    def threads(self, loop: For, env: Environment, memory: Memory) -> Iterator[None]:
        """Advance all threads of a block to the next barrier, again and again; all must reach the same number."""
        extent = int(self.value(loop.extent, env, memory))
        alive = [self.run(loop.body, env | {loop.var.name: (i,)}, memory) for i in range(extent)]
        while alive:
            waiting = [t for t in alive if next(t, "done") is None]
            if waiting and len(waiting) != len(alive):
                raise AssertionError(f"{self.kernel.name}: a barrier is not reached by all threads")
            alive = waiting
            if alive:
                yield

    def finish(self, stmt: Stmt, env: Environment, memory: Memory) -> None:
        """Execute a statement without barriers."""
        match stmt:
            case Block():
                for s in stmt.body:
                    self.finish(s, env, memory)
            case For():
                self.loop(stmt, dict(env), memory)
            case While():
                while self.value(stmt.cond, env, memory):
                    self.finish(stmt.body, env, memory)
            case Store():
                self.store(stmt, self.now(env, memory))
            case If():
                chosen = stmt.then if self.value(stmt.cond, env, memory) else stmt.other
                if chosen is not None:
                    self.finish(chosen, env, memory)
            case Let():
                self.finish(stmt.body, env | {stmt.var.name: self.lanes(stmt.value, env, memory)}, memory)
            case Alloc():
                self.finish(stmt.body, env, memory | {stmt.buffer: self.allocate(stmt.buffer, env, memory)})
            case Assert():
                if not self.value(stmt.cond, env, memory):
                    raise CompileError("E0402", stmt.message or f"check {stmt.code} failed", self.kernel.loc)
            case Extern():
                if stmt.name not in self.externs:
                    hint = "give its row a meaning: a function of numpy arrays"
                    raise CompileError(
                        "E0302", f"the C function {stmt.name} of a custom operator runs on targets only", self.kernel.loc, hint
                    )
                self.externs[stmt.name](tuple(self.lanes(a, env, memory) for a in stmt.args), tuple(memory[b] for b in stmt.buffers))
            case Barrier():
                raise AssertionError("barriers are handled by step")

    def loop(self, stmt: For, env: Environment, memory: Memory) -> None:
        for i in range(int(self.value(stmt.extent, env, memory))):
            if stmt.kind is LoopKind.GRID:
                self.shared = {}
            env[stmt.var.name] = (i,)
            self.finish(stmt.body, env, memory)

    def store(self, stmt: Store, now: Moment) -> None:
        if stmt.buffer.scope is Scope.CONST:
            raise AccessError(f"{self.kernel.name}: store into constant buffer {stmt.buffer.name}")
        exprs = (stmt.index, stmt.value) if stmt.mask is None else (stmt.index, stmt.value, stmt.mask)
        index, value, *masks = self.functions_of(*exprs)
        lanes = range(max(stmt.index.lanes, stmt.value.lanes))
        written = [lane for lane in lanes if not masks or masks[0](now, lane)]
        values = [(now.position(stmt.buffer, index(now, lane)), value(now, lane)) for lane in written]
        for at, element in values:
            now.memory[stmt.buffer][at] = element

    def allocate(self, buffer: Buffer, env: Environment, memory: Memory) -> np.ndarray:
        if buffer.scope is Scope.SHARED and buffer in self.shared:
            return self.shared[buffer]
        array = _undefined(buffer.dtype, int(self.value(_size(buffer), env, memory)))
        if buffer.scope is Scope.SHARED:
            self.shared[buffer] = array
        return array


def _undefined(dtype: DType, size: int) -> np.ndarray:
    """Content of fresh memory: NaN for floats, a conspicuous number for integers."""
    if dtype.is_float or dtype.kind is Kind.BOOL:
        return np.full(size, np.nan if dtype.is_float else True, dtype.numpy)
    return np.full(size, dtype.limits[1] - dtype.limits[1] // 3, dtype.numpy)
