"""Kernel IR as C99 text: one static function for each kernel.

Runs last. Vector and unrolled loops are printed as plain loops, the C compiler does the rest; functions
without an instruction must be expanded (`passes/kernel/expand_math.py`), narrow floats legalized and loads
guarded before. A kernel with a check returns its status, 0 for success; others return nothing.
`backends/cuda` derives its printer from this one.
"""

from __future__ import annotations

from typing import assert_never

from ...compiler.kernel.bounds import Bounds
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
    Load,
    Scope,
    Stmt,
    Store,
    Var,
    While,
)
from ...compiler.kernel.traverse import free_vars, statement_exprs, walk, walk_statements
from .dialect import Dialect
from .expressions import ExprPrinter
from .lines import Lines, mentions
from .names import clean

C99 = Dialect()
PRELUDE = "#include <stddef.h>\n#include <stdint.h>\n"


def print_kernel_c(kernel: Kernel, helpers: dict[str, str] | None = None, name: str | None = None) -> str:
    """The text of a kernel's function.

    Args:
        kernel: lowered as the module text says.
        helpers: gets the helper functions that the text calls, by name; None to put them in front.
        name: the function's name; None for that of the kernel, cleaned.
    """
    found: dict[str, str] = {} if helpers is None else helpers
    text = CPrinter(kernel, C99, found).function(name or clean(kernel.name))
    return text if helpers is not None else "\n".join([*found.values(), text])


def can_fail(kernel: Kernel) -> bool:
    """True if the kernel's function returns a status."""
    return any(isinstance(s, Assert) for s in walk_statements(kernel.body))


class CPrinter(Lines):
    """Statements of one kernel."""

    expressions = ExprPrinter

    def __init__(self, kernel: Kernel, dialect: Dialect, helpers: dict[str, str]) -> None:
        super().__init__(self.expressions(dialect, helpers, Bounds()))
        self.kernel, self.dialect = kernel, dialect
        self.stored = {s.buffer for s in walk_statements(kernel.body) if isinstance(s, Store)}
        self.stored |= {b for s in walk_statements(kernel.body) if isinstance(s, Extern) for b in s.buffers if b.scope is not Scope.CONST}

    # --- Functions ----------------------------------------------------------------------------

    def function(self, name: str) -> str:
        """The whole definition."""
        parameters = self.parameters()
        self.depth = 1
        for parameter in self.unused():
            self.line(f"(void){parameter};")
        self.statement(self.kernel.body)
        if can_fail(self.kernel):
            self.line("return 0;")
        kind = "int" if can_fail(self.kernel) else "void"
        head = f"{self.dialect.kernel} {kind} {name}({', '.join(parameters) or 'void'}) {{"
        return "\n".join([head, *self.lines, "}"]) + "\n"

    def parameters(self) -> list[str]:
        """Declarations of the buffers and symbols, which get their names here."""
        return [*map(self.buffer_parameter, self.kernel.buffers), *map(self.symbol_parameter, self.kernel.symbols)]

    def buffer_parameter(self, buffer: Buffer) -> str:
        """A pointer that nothing else in the kernel overlaps."""
        name = self.e.buffers[buffer] = self.e.names.fresh(buffer.name)
        access = "" if buffer in self.stored else "const "
        return f"{access}{self.dialect.type(buffer.dtype)} *{self.dialect.restrict} {name}"

    def symbol_parameter(self, symbol: Var) -> str:
        """A dimension known at run time."""
        name = self.e.vars[symbol.name] = self.e.names.fresh(symbol.name)
        return f"int64_t {name}"

    def unused(self) -> list[str]:
        """Parameters that the body does not mention."""
        exprs = [e for s in walk_statements(self.kernel.body) for e in statement_exprs(s)]
        used = {e.buffer for e in walk(*exprs) if isinstance(e, Load)} | self.stored
        used |= {b for s in walk_statements(self.kernel.body) if isinstance(s, Extern) for b in s.buffers}
        names = {v.name for v in free_vars(*exprs)}
        return [self.e.buffers[b] for b in self.kernel.buffers if b not in used] + [
            self.e.vars[v.name] for v in self.kernel.symbols if v.name not in names
        ]

    # --- Statements ---------------------------------------------------------------------------

    def statement(self, stmt: Stmt) -> None:
        """Print any statement."""
        match stmt:
            case Block():
                for s in stmt.body:
                    self.statement(s)
            case Store():
                self.store(stmt)
            case For():
                self.for_(stmt)
            case While():
                self.while_(stmt)
            case If():
                self.if_(stmt)
            case Let():
                self.let(stmt)
            case Alloc():
                self.alloc(stmt)
            case Assert():
                self.scoped(f"if (!{{0}}) {{{{ return {stmt.code}; }}}}", stmt.cond)
            case Barrier():
                self.barrier()
            case Extern():
                self.extern(stmt)
            case _:
                assert_never(stmt)

    def store(self, stmt: Store) -> None:
        """An assignment, under its mask."""
        name = self.e.buffers[stmt.buffer]
        if stmt.mask is not None:
            self.scoped(f"if ({{2}}) {{{{ {name}[{{0}}] = {self._assigned(stmt.value)}; }}}}", stmt.index, stmt.value, stmt.mask)
        else:
            self.scoped(f"{name}[{{0}}] = {self._assigned(stmt.value)};", stmt.index, stmt.value)

    def _assigned(self, e: Expr) -> str:
        return self.e.converted(e, "{1}") if not isinstance(e, (Const, Var)) else "{1}"

    def for_(self, stmt: For) -> None:
        """A counting loop of any kind."""
        self.counting_loop(stmt)

    def counting_loop(self, stmt: For) -> None:
        """A plain loop; a computed extent is evaluated before it."""
        constant = isinstance(stmt.extent, Const)
        c_type = "int32_t" if self.e.is_narrow(stmt.var) else "int64_t"
        if constant:
            (extent,) = self.values(stmt.extent)
        else:
            self.open("")
            (text,) = self.values(stmt.extent)
            extent = self.e.names.fresh("extent")
            self.line(f"const {c_type} {extent} = {text};")
        var = self.e.names.fresh(stmt.var.name)
        before = self.e.vars.get(stmt.var.name)
        self.e.vars[stmt.var.name] = var
        self.open(f"for ({c_type} {var} = 0; {var} < {extent}; {var}++)")
        self.statement(stmt.body)
        self.close()
        self._restore(stmt.var.name, before)
        if not constant:
            self.close()

    def _restore(self, name: str, before: str | None) -> None:
        if before is None:
            del self.e.vars[name]
        else:
            self.e.vars[name] = before

    def while_(self, stmt: While) -> None:
        """A loop that evaluates its condition, locals and all, before each round."""
        self.open("for (;;)")
        (cond,) = self.values(stmt.cond)
        self.line(f"if (!{cond}) {{ break; }}")
        self.statement(stmt.body)
        self.close()

    def if_(self, stmt: If) -> None:
        """A branch."""
        start = len(self.lines)
        self.depth += 1
        (cond,) = self.values(stmt.cond)
        self.depth -= 1
        needs_block = len(self.lines) > start
        if needs_block:
            self.lines.insert(start, "    " * self.depth + "{")
            self.depth += 1
        self.open(f"if ({cond})")
        self.statement(stmt.then)
        if stmt.other is not None:
            self.close(" else {")
            self.depth += 1
            self.statement(stmt.other)
        self.close()
        if needs_block:
            self.close()

    def let(self, stmt: Let) -> None:
        """A named value; nothing if the body does not mention it, which happens where loops of one round were resolved."""
        self.open("")
        start = len(self.lines)
        (text,) = self.values(stmt.value)
        name = self.e.names.fresh(stmt.var.name)
        self.line(f"const {self.e.type(stmt.var)} {name} = {self.e.converted(stmt.value, text)};")
        before, first = self.e.vars.get(stmt.var.name), len(self.lines)
        self.e.vars[stmt.var.name] = name
        self.statement(stmt.body)
        if not mentions(self.lines[first:], name):
            del self.lines[start:first]
        self._restore(stmt.var.name, before)
        self.close()

    def alloc(self, stmt: Alloc) -> None:
        """A local array."""
        assert isinstance(stmt.buffer.size, int), f"local buffer {stmt.buffer.name} of unknown size"
        self.open("")
        name = self.e.buffers[stmt.buffer] = self.e.names.fresh(stmt.buffer.name)
        self.line(self.local_array(stmt.buffer, name, max(stmt.buffer.size, 1)))
        self.statement(stmt.body)
        self.close()

    def local_array(self, buffer: Buffer, name: str, size: int) -> str:
        """Declaration of a local array."""
        return f"{self.dialect.type(buffer.dtype)} {name}[{size}];"

    def barrier(self) -> None:
        """One thread: nothing to wait for."""

    def extern(self, stmt: Extern) -> None:
        """An instruction of an MMA row."""
        raise AssertionError(f"{stmt.name} is not an instruction of this target")
