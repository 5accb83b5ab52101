"""Kernel IR as LLVM IR text: the last step of the `llvm` backend.

A kernel becomes one function over its buffers, symbols and the range of its outermost parallel loop,
and a task `@name.task(ptr args, i64 begin, i64 end)` that unpacks a table of pointers and integers, so
that the thread pool calls every kernel in one way. Both return a status, 0 for success.
Loops marked `unroll` are repeated here; loops marked `vector` must be gone (`passes/kernel/vectorize.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from ...compiler.kernel.build import const
from ...compiler.kernel.nodes import (
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
    Stmt,
    Store,
    While,
)
from ...compiler.kernel.traverse import walk_statements
from ...compiler.program.foreign import calls_of
from .expressions import typed, value
from .externs import declaration, emit_extern, written
from .features import CpuFeatures
from .llvmtypes import memory_type
from .memory import ZEROS, store
from .writer import Writer

LOCAL_ALIGN_BYTES = 64


def print_module(
    kernels: Iterable[tuple[str, Kernel]], features: CpuFeatures, *, visibility: str = "", declarations: str = "", functions: str = ""
) -> str:
    """The text of a module.

    Args:
        kernels: what it holds, each under its symbol name.
        features: the CPU.
        visibility: of the kernels' tasks; may be `hidden`.
        declarations: what else it declares.
        functions: what else it defines.
    """
    kernels = list(kernels)
    texts = [print_kernel(kernel, features, symbol_name=name, visibility=visibility) for name, kernel in kernels]
    called = dict.fromkeys(declaration(call) for _, kernel in kernels for call in calls_of(kernel))
    parts = [f'target triple = "{features.triple}"', ZEROS if kernels else "", declarations, *called, *texts, functions]
    return "\n\n".join(filter(None, parts)) + "\n"


def print_kernel(kernel: Kernel, features: CpuFeatures, *, symbol_name: str, visibility: str = "") -> str:
    """The text of a kernel's function and of its task."""
    w = Writer(features)
    printer = _Printer(w, kernel)
    stored = printer.stored(kernel.body)
    parameters = [_buffer_parameter(w, k, buffer, buffer in stored) for k, buffer in enumerate(kernel.buffers)]
    for k, symbol in enumerate(kernel.symbols):
        w.index_vars.add(symbol)
        w.keep(symbol, f"%sym{k}")
        parameters.append(f"i64 %sym{k}")
    printer.outermost(kernel.body)
    attributes = _attributes(features)
    signature = ", ".join([*parameters, "i64 %begin", "i64 %end"])
    head = f"define internal i32 @{quoted(symbol_name)}({signature}) noinline {attributes} {{"
    lines = [head, "entry:", *w.allocas, *w.lines, "  ret i32 0", "}"]
    return "\n".join(lines) + "\n\n" + _task(symbol_name, len(kernel.buffers), len(kernel.symbols), visibility)


def quoted(name: str) -> str:
    """A global name in quotes, with everything unusual escaped."""
    plain = "._-$0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    return '"' + "".join(c if c in plain else "".join(f"\\{b:02X}" for b in c.encode()) for c in name) + '"'


def _buffer_parameter(w: Writer, position: int, buffer: Buffer, is_written: bool) -> str:
    name = f"%b{position}"
    w.pointers[buffer] = name
    access = "" if is_written else " readonly"
    return f"ptr noalias nonnull align {max(buffer.align, buffer.dtype.bytes)}{access} captures(none) {name}"


def _attributes(features: CpuFeatures) -> str:
    width = features.vector_bits
    tune = f' "tune-cpu"="{features.cpu}"' if features.is_x86 else ""
    return f'nounwind{tune} "prefer-vector-width"="{width}" "min-legal-vector-width"="{width}" "no-trapping-math"="true" "no-builtins"'


def _task(symbol_name: str, buffers: int, symbols: int, visibility: str) -> str:
    lines = [f"define {visibility} i32 @{quoted(symbol_name + '.task')}(ptr %args, i64 %begin, i64 %end) nounwind {{"]
    args = []
    for k in range(buffers + symbols):
        kind = "ptr" if k < buffers else "i64"
        lines.append(f"  %p{k} = getelementptr i64, ptr %args, i64 {k}")
        lines.append(f"  %a{k} = load {kind}, ptr %p{k}, align 8")
        args.append(f"{kind} %a{k}")
    lines.append(f"  %status = call i32 @{quoted(symbol_name)}({', '.join([*args, 'i64 %begin', 'i64 %end'])})")
    return "\n".join([*lines, "  ret i32 %status", "}"])


class _Printer:
    """Statements of one kernel."""

    def __init__(self, w: Writer, kernel: Kernel) -> None:
        self.w = w
        self.kernel = kernel
        self._stored: dict[int, frozenset[Buffer]] = {}

    def stored(self, stmt: Stmt) -> frozenset[Buffer]:
        """Buffers that a statement may write; remembered, since unrolled bodies are asked again."""
        found = self._stored.get(id(stmt))
        if found is None:
            buffers: list[Buffer] = []
            for s in walk_statements(stmt):
                buffers.extend((s.buffer,) if isinstance(s, Store) else written(s) if isinstance(s, Extern) else ())
            found = self._stored[id(stmt)] = frozenset(buffers)
        return found

    def value(self, e: Expr) -> str:
        """Operand text of an expression of the kernel."""
        return value(self.w, self.w.resolve(e))

    def typed(self, e: Expr) -> str:
        """The same with its type."""
        return typed(self.w, self.w.resolve(e))

    def outermost(self, stmt: Stmt) -> None:
        """The body of the kernel: a parallel loop runs the given range only."""
        if isinstance(stmt, For) and stmt.kind is LoopKind.PARALLEL:
            self.loop(stmt, "%begin", "%end", is_empty_possible=True)
        else:
            self.statement(stmt)

    def statement(self, stmt: Stmt) -> None:
        """Emit any statement."""
        match stmt:
            case Block():
                for s in stmt.body:
                    self.statement(s)
            case Store():
                self.store(stmt)
            case For():
                self.for_(stmt)
            case If():
                self.if_(stmt)
            case Let():
                with self.w.binding(stmt.var) as var:
                    self.w.keep(var, self.value(stmt.value))
                    self.statement(stmt.body)
            case Alloc():
                self.alloc(stmt)
            case While():
                self.while_(stmt)
            case Assert():
                self.check(stmt)
            case Extern():
                self.extern(stmt)
            case Barrier():
                pass
            case _:
                assert_never(stmt)

    def store(self, stmt: Store) -> None:
        """Emit a store; what was read from its buffer no longer holds."""
        mask = None if stmt.mask is None else self.w.resolve(stmt.mask)
        store(self.w, Store(stmt.buffer, self.w.resolve(stmt.index), self.w.resolve(stmt.value), mask))
        self.w.touch((stmt.buffer,))

    def extern(self, stmt: Extern) -> None:
        """Emit an instruction of the target."""
        emit_extern(self.w, replace(stmt, args=tuple(self.w.resolve(a) for a in stmt.args)))
        self.w.touch(written(stmt))

    def alloc(self, stmt: Alloc) -> None:
        """Reserve a local array in the entry block, where LLVM turns it into registers if it can."""
        buffer = stmt.buffer
        assert isinstance(buffer.size, int), f"local buffer {buffer.name} of unknown size"
        pointer = f"%local{len(self.w.allocas)}"
        align = max(buffer.align, LOCAL_ALIGN_BYTES)
        self.w.allocas.append(f"  {pointer} = alloca [{buffer.size} x {memory_type(buffer.dtype)}], align {align}")
        self.w.pointers[buffer] = pointer
        self.statement(stmt.body)

    def for_(self, stmt: For) -> None:
        """Emit a loop, or its body once for each value."""
        extent = self.w.resolve(stmt.extent)
        assert stmt.kind is not LoopKind.VECTOR, f"loop {stmt.var.name} was not vectorized"
        if isinstance(extent, Const) and (stmt.kind is LoopKind.UNROLL or extent.value <= 1):
            for k in range(int(extent.value)):
                with self.w.replacing(stmt.var, const(k)):
                    self.statement(stmt.body)
            return
        self.loop(stmt, "0", value(self.w, extent), is_empty_possible=not isinstance(extent, Const))

    def loop(self, stmt: For, begin: str, end: str, *, is_empty_possible: bool) -> None:
        """A loop with its test at the end, entered through a test if it may have no iteration."""
        w = self.w
        before, head, done = w.block, w.label("loop"), w.label("done")
        if is_empty_possible:
            entry = w.label("enter")
            w.line(f"br i1 {w.let(f'icmp slt i64 {begin}, {end}')}, label %{entry}, label %{done}")
            w.start(entry)
            before = entry
        w.line(f"br label %{head}")
        w.start(head)
        w.touch(self.stored(stmt.body))
        with w.scope(), w.binding(stmt.var, is_index=True) as var:
            at, following = w.label("%i"), w.label("%n")
            here = len(w.lines)
            w.keep(var, at)
            self.statement(stmt.body)
            w.lines.insert(here, f"  {at} = phi i64 [ {begin}, %{before} ], [ {following}, %{w.block} ]")
            w.line(f"{following} = add nuw nsw i64 {at}, 1")
            w.line(f"br i1 {w.let(f'icmp slt i64 {following}, {end}')}, label %{head}, label %{done}")
        w.start(done)

    def while_(self, stmt: While) -> None:
        """A loop that tests memory before each iteration."""
        w = self.w
        head, body, done = w.label("while"), w.label("body"), w.label("done")
        w.jump(head)
        w.touch(self.stored(stmt.body))
        with w.scope():
            w.line(f"br {self.typed(stmt.cond)}, label %{body}, label %{done}")
            w.start(body)
            self.statement(stmt.body)
            w.line(f"br label %{head}")
        w.start(done)

    def if_(self, stmt: If) -> None:
        """A branch."""
        w, cond = self.w, self.w.resolve(stmt.cond)
        if isinstance(cond, Const):
            chosen = stmt.then if cond.value else stmt.other
            if chosen is not None:
                self.statement(chosen)
            return
        then, other, done = w.label("then"), w.label("else"), w.label("done")
        w.line(f"br {typed(w, cond)}, label %{then}, label %{other if stmt.other is not None else done}")
        for block, body in ((then, stmt.then), (other, stmt.other)):
            if body is not None:
                w.start(block)
                with w.scope():
                    self.statement(body)
                w.line(f"br label %{done}")
        w.start(done)

    def check(self, stmt: Assert) -> None:
        """Leave the function with the status unless the condition holds."""
        w = self.w
        good, bad = w.label("good"), w.label("bad")
        w.line(f"br {self.typed(stmt.cond)}, label %{good}, label %{bad}")
        w.lines.extend([f"{bad}:", f"  ret i32 {stmt.code}"])
        w.start(good)
