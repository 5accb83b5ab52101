"""The text form of kernel IR: printing. `parse.py` reads it back.

One statement a line; expressions are written as calls. What an expression uses more than once is named in
front of its statement (`#0 = mul(%i, 4)`), so that shared parts are printed once. Names with unusual
characters stand in quotes with escapes, so that a name can never look like something else.
`docs/ir-kernel.md` shows the grammar.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from ..diagnostics import NOWHERE
from ..dtypes import DType
from .nodes import (
    Alloc,
    Assert,
    Barrier,
    Binary,
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
from .traverse import children, statement_exprs, walk

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.~]*")


def print_kernel(kernel: Kernel) -> str:
    """The text of a kernel; equal structure gives equal text."""
    return "\n".join(_Printer(kernel).kernel_lines()) + "\n"


def print_expr(e: Expr) -> str:
    """The text of one expression on its own, for people: variables by name, shared parts repeated."""
    return _Printer(None).value(e)


def quoted(name: str) -> str:
    """A name as it stands in the text."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name)


class _Printer:
    """Prints one kernel."""

    def __init__(self, kernel: Kernel | None) -> None:
        self.kernel = kernel
        self.buffers: dict[Buffer, str] = {}
        self.taken: set[str] = set()
        self.scope: dict[str, Var] = {}
        self.named: dict[Expr, str] = {}

    # --- Statements ---------------------------------------------------------------------------

    def kernel_lines(self) -> Iterator[str]:
        """All lines."""
        kernel = self.kernel
        assert kernel is not None
        self.scope = {v.name: v for v in kernel.symbols}
        yield f"kernel {quoted(kernel.name)} {{"
        for symbol in kernel.symbols:
            yield f"  symbol {self.defined(symbol)}"
        for buffer in kernel.buffers:
            yield f"  buffer {self.declared(buffer)}{' overlapping' if buffer in kernel.overlapping else ''}"
        if kernel.loc != NOWHERE:
            loc = kernel.loc
            yield f"  loc {' '.join(json.dumps(part) for part in (loc.model, loc.node, loc.op_type, loc.origin))} {loc.opset}"
        if kernel.schedule:
            yield f"  schedule {json.dumps(kernel.schedule)}"
        yield from self.lines(kernel.body, "  ")
        yield "}"

    def lines(self, stmt: Stmt, indent: str) -> Iterator[str]:
        """Lines of a statement, after those of the parts that it shares."""
        for line in self.shared(statement_exprs(stmt)):
            yield indent + line
        head, bodies = self.head(stmt)
        self.named = {}
        if not bodies:
            yield indent + head
            return
        yield f"{indent}{head} {{"
        before = self.scope
        if isinstance(stmt, (For, Let)):
            self.scope = self.scope | {stmt.var.name: stmt.var}
        for position, body in enumerate(bodies):
            if position:
                yield f"{indent}}} else {{"
            for s in body:
                yield from self.lines(s, indent + "  ")
        self.scope = before
        yield f"{indent}}}"

    def head(self, stmt: Stmt) -> tuple[str, list[tuple[Stmt, ...]]]:
        """The first line of a statement without its brace, and what stands in its braces."""
        v = self.value
        match stmt:
            case For():
                return f"for {self.defined(stmt.var)} in {v(stmt.extent)} {stmt.kind.value}", [_parts(stmt.body)]
            case While():
                return f"while {v(stmt.cond)}", [_parts(stmt.body)]
            case Block():
                return "block", [stmt.body]
            case Store():
                mask = "" if stmt.mask is None else f" if {v(stmt.mask)}"
                return f"store {self.buffer(stmt.buffer)}[{v(stmt.index)}] = {v(stmt.value)}{mask}", []
            case If():
                return f"if {v(stmt.cond)}", [_parts(stmt.then), *([] if stmt.other is None else [_parts(stmt.other)])]
            case Let():
                return f"let {self.defined(stmt.var)} = {v(stmt.value)}", [_parts(stmt.body)]
            case Alloc():
                return f"alloc {self.declared(stmt.buffer)}", [_parts(stmt.body)]
            case Barrier():
                return "barrier", []
            case Assert():
                return f"assert {v(stmt.cond)} {stmt.code} {json.dumps(stmt.message)}", []
            case Extern():
                args, buffers = ", ".join(map(v, stmt.args)), ", ".join(map(self.buffer, stmt.buffers))
                results = f" results {stmt.results}" if stmt.results else ""
                return f"extern {quoted(stmt.name)}({args}) on ({buffers}){results}", []

    def shared(self, exprs: Iterable[Expr]) -> Iterator[str]:
        """Lines that name the parts which expressions use more than once."""
        exprs = tuple(exprs)
        uses: dict[Expr, int] = {}
        for used in (*exprs, *(c for e in walk(*exprs) for c in children(e))):
            uses[used] = uses.get(used, 0) + 1
        for e in walk(*exprs):
            if uses.get(e, 0) > 1 and not isinstance(e, (Const, Var)):
                text = self.value(e)
                self.named[e] = f"#{len(self.named)}"
                yield f"{self.named[e]} = {text}"

    # --- Names --------------------------------------------------------------------------------

    def declared(self, buffer: Buffer) -> str:
        """A buffer with all that is known of it, where it comes into being."""
        align = f" align {buffer.align}" if buffer.align else ""
        size = str(buffer.size) if isinstance(buffer.size, int) else self.value(buffer.size)
        return f"{self.buffer(buffer)}: {buffer.dtype.label}[{size}] {buffer.scope.value}{align}"

    def buffer(self, buffer: Buffer) -> str:
        """The name of a buffer; a second one of the same name gets a suffix."""
        found = self.buffers.get(buffer)
        if found is None:
            name, count = buffer.name, 1
            while name in self.taken:
                count += 1
                name = f"{buffer.name}~{count}"
            self.taken.add(name)
            found = self.buffers[buffer] = f"@{quoted(name)}"
        return found

    def defined(self, var: Var) -> str:
        """A variable with its type, where it comes into being."""
        lanes = f" x {var.lanes}" if var.lanes > 1 else ""
        bound = f" < {var.bound}" if var.bound else ""
        return f"%{quoted(var.name)}: {var.dtype.label}{lanes}{bound}"

    # --- Expressions --------------------------------------------------------------------------

    def value(self, e: Expr) -> str:
        """The text of an expression."""
        name = self.named.get(e)
        if name is not None:
            return name
        match e:
            case Const():
                return _number(e)
            case Var():
                known = self.kernel is None or self.scope.get(e.name) is e
                return f"%{quoted(e.name)}" if known else f"({self.defined(e)})"
            case Load():
                mask = () if e.mask is None else (e.mask,)
                return f"load({', '.join([self.buffer(e.buffer), *map(self.value, (e.index, *mask))])})"
        return f"{_head(e)}({', '.join(map(self.value, children(e)))})"


def _parts(stmt: Stmt) -> tuple[Stmt, ...]:
    """The statements of a body: braces stand for a block, unless it has one statement."""
    return stmt.body if isinstance(stmt, Block) and len(stmt.body) != 1 else (stmt,)


def _number(e: Const) -> str:
    text = str(e.value).lower() if isinstance(e.value, bool) else repr(e.value)
    return text if e.dtype is DType.INT64 or e.dtype is DType.BOOL else f"{text}:{e.dtype.label}"


def _head(e: Expr) -> str:
    """What stands before the operands of a node."""
    match e:
        case Read():
            return f"read.{e.operand}.{e.dtype.label}"
        case Unary() | Binary():
            return str(e.op.value)
        case Math():
            return f"math.{e.fn.value}"
        case Select():
            return "select"
        case Cast():
            return f"cast.{e.dtype.label}" + ("" if e.mode is CastMode.CONVERT else f".{e.mode.value}")
        case Ramp() | Broadcast():
            return f"{'ramp' if isinstance(e, Ramp) else 'broadcast'}.{e.lanes}"
        case Lane():
            return f"lane.{e.index}"
    raise AssertionError(e)
