"""Runs a kernel, one element at a time: the reference for every printer and pass on kernel IR.

Each access is checked against the size of its buffer, memory that was never written holds NaN or a
pattern, and threads of a GPU block advance together from barrier to barrier. The arithmetic stands in
`scalar.py`. Slow by design.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ..diagnostics import CompileError
from ..dtypes import DType, Kind
from . import scalar
from .nodes import (
    Alloc,
    Assert,
    Barrier,
    Binary,
    Block,
    Broadcast,
    Buffer,
    Cast,
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
    Math,
    Ramp,
    Read,
    Scope,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    While,
)
from .scalar import Scalar
from .traverse import substatements

ExternMeaning = Callable[[tuple[tuple[Scalar, ...], ...], tuple[np.ndarray, ...]], None]
"""(values of the arguments by lane, arrays of the buffers): carries out an MMA row's instruction."""


class AccessError(IndexError):
    """A kernel touched memory outside of a buffer, or wrote a constant one: a fault of the compiler."""


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
    env: _Env = {v.name: (int(symbols[v.name]),) for v in kernel.symbols}
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
    env: _Env = {name: (int(value),) for name, value in (symbols or {}).items()}
    with np.errstate(all="ignore"):
        return _Evaluation(env, {}, "expression").at(e, 0)


def _size(buffer: Buffer) -> Expr:
    return Const(buffer.size, DType.INT64) if isinstance(buffer.size, int) else buffer.size


_Env = dict[str, tuple[Scalar, ...]]
_Memory = dict[Buffer, np.ndarray]


class _Evaluation:
    """Evaluates the expressions of one statement at one moment; shared parts are computed once."""

    def __init__(self, env: _Env, memory: _Memory, place: str) -> None:
        self.env, self.memory, self.place = env, memory, place
        self.memo: dict[tuple[Expr, int], Scalar] = {}

    def at(self, e: Expr, lane: int) -> Scalar:
        """Lane `lane` of an expression; that of a scalar is the same for all lanes."""
        if isinstance(e, Const):
            return scalar.number(e.value, e.dtype)
        key = (e, lane if e.lanes > 1 else 0)
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = _EVALUATE[type(e)](self, e, key[1])
        return found

    def lanes(self, e: Expr) -> tuple[Scalar, ...]:
        """All lanes of an expression."""
        return tuple(self.at(e, lane) for lane in range(e.lanes))

    def var(self, e: Var, lane: int) -> Scalar:
        return self.env[e.name][lane]

    def load(self, e: Load, lane: int) -> Scalar:
        if e.mask is not None and not self.at(e.mask, lane):
            return scalar.number(0, e.dtype)
        return scalar.from_array(self.memory[e.buffer][self.offset(e.buffer, e.index, lane)], e.dtype)

    def offset(self, buffer: Buffer, index: Expr, lane: int) -> int:
        """Checked position of an access."""
        at = int(self.at(index, lane))
        if buffer not in self.memory:
            raise AccessError(f"{self.place}: buffer {buffer.name} is neither an argument nor allocated here")
        if not 0 <= at < len(self.memory[buffer]):
            raise AccessError(f"{self.place}: {buffer.name}[{at}] is outside of {len(self.memory[buffer])} elements")
        return at

    def unary(self, e: Unary, lane: int) -> Scalar:
        return scalar.unary(e.op, self.at(e.a, lane), e.dtype)

    def binary(self, e: Binary, lane: int) -> Scalar:
        return scalar.binary(e.op, self.at(e.a, lane), self.at(e.b, lane), e.a.dtype)

    def math(self, e: Math, lane: int) -> Scalar:
        return scalar.math_fn(e.fn, tuple(self.at(a, lane) for a in e.args), e.args[0].dtype)

    def select(self, e: Select, lane: int) -> Scalar:
        return self.at(e.then if self.at(e.cond, lane) else e.other, lane)

    def cast(self, e: Cast, lane: int) -> Scalar:
        return scalar.cast(self.at(e.value, lane), e.value.dtype, e.dtype, e.mode)

    def ramp(self, e: Ramp, lane: int) -> Scalar:
        base, stride = self.at(e.base, 0), self.at(e.stride, 0)
        if e.dtype.is_float:
            return base + stride * e.dtype.numpy.type(lane)  # type: ignore[no-any-return]
        return scalar.wrap(int(base) + int(stride) * lane, e.dtype)

    def broadcast(self, e: Broadcast, lane: int) -> Scalar:
        return self.at(e.value, 0)

    def lane(self, e: Lane, lane: int) -> Scalar:
        return self.at(e.vector, e.index)

    def read(self, e: Read, lane: int) -> Scalar:
        raise AssertionError("Read belongs to nests; kernels have Load")


_EVALUATE: dict[type, Callable[..., Scalar]] = {
    Var: _Evaluation.var,
    Load: _Evaluation.load,
    Read: _Evaluation.read,
    Unary: _Evaluation.unary,
    Binary: _Evaluation.binary,
    Math: _Evaluation.math,
    Select: _Evaluation.select,
    Cast: _Evaluation.cast,
    Ramp: _Evaluation.ramp,
    Broadcast: _Evaluation.broadcast,
    Lane: _Evaluation.lane,
}


class _Machine:
    """Executes statements. `run` is a generator that yields at each barrier."""

    def __init__(self, kernel: Kernel, externs: Mapping[str, ExternMeaning]) -> None:
        self.kernel, self.externs = kernel, externs
        self.has_barrier: dict[int, bool] = {}
        self.shared: _Memory = {}

    def value(self, e: Expr, env: _Env, memory: _Memory) -> Scalar:
        return self.now(env, memory).at(e, 0)

    def now(self, env: _Env, memory: _Memory) -> _Evaluation:
        return _Evaluation(env, memory, self.kernel.name)

    def run(self, stmt: Stmt, env: _Env, memory: _Memory) -> Iterator[None]:
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

    def step(self, stmt: Stmt, env: _Env, memory: _Memory) -> Iterator[None]:
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
                yield from self.run(stmt.body, env | {stmt.var.name: self.now(env, memory).lanes(stmt.value)}, memory)
            case Alloc():
                yield from self.run(stmt.body, env, memory | {stmt.buffer: self.allocate(stmt.buffer, env, memory)})
            case _:
                raise AssertionError(stmt)

    def threads(self, loop: For, env: _Env, memory: _Memory) -> Iterator[None]:
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

    def finish(self, stmt: Stmt, env: _Env, memory: _Memory) -> None:
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
                self.finish(stmt.body, env | {stmt.var.name: self.now(env, memory).lanes(stmt.value)}, memory)
            case Alloc():
                self.finish(stmt.body, env, memory | {stmt.buffer: self.allocate(stmt.buffer, env, memory)})
            case Assert():
                if not self.value(stmt.cond, env, memory):
                    raise CompileError("E0402", stmt.message or f"check {stmt.code} failed", self.kernel.loc)
            case Extern():
                now = self.now(env, memory)
                if stmt.name not in self.externs:
                    hint = "give its row a meaning: a function of numpy arrays"
                    raise CompileError(
                        "E0302", f"the C function {stmt.name} of a custom operator runs on targets only", self.kernel.loc, hint
                    )
                self.externs[stmt.name](tuple(now.lanes(a) for a in stmt.args), tuple(memory[b] for b in stmt.buffers))
            case Barrier():
                raise AssertionError("barriers are handled by step")

    def loop(self, stmt: For, env: _Env, memory: _Memory) -> None:
        for i in range(int(self.value(stmt.extent, env, memory))):
            if stmt.kind is LoopKind.GRID:
                self.shared = {}
            env[stmt.var.name] = (i,)
            self.finish(stmt.body, env, memory)

    def store(self, stmt: Store, now: _Evaluation) -> None:
        if stmt.buffer.scope is Scope.CONST:
            raise AccessError(f"{self.kernel.name}: store into constant buffer {stmt.buffer.name}")
        lanes = range(max(stmt.index.lanes, stmt.value.lanes))
        written = [lane for lane in lanes if stmt.mask is None or now.at(stmt.mask, lane)]
        values = [(now.offset(stmt.buffer, stmt.index, lane), now.at(stmt.value, lane)) for lane in written]
        for at, value in values:
            now.memory[stmt.buffer][at] = value

    def allocate(self, buffer: Buffer, env: _Env, memory: _Memory) -> np.ndarray:
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
