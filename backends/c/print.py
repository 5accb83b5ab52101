"""Kernel IR as C99 text: one static function for each kernel.

Runs last. Short marked loops are written out before (`passes/kernel/unroll.py`), functions without an
instruction expanded (`passes/kernel/expand_math.py`), narrow floats legalized and loads guarded. What is left
of vector loops is plain loops, the C compiler does the rest. Local arrays of which only fixed elements are used
become one variable for each element, which compilers keep in registers at every level of optimization.
A kernel with a check returns its status, 0 for success; others return nothing.
`backends/cuda` derives its printer from this one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

from ...compiler.kernel.bounds import Bounds, Interval
from ...compiler.kernel.nodes import (
    Alloc,
    Assert,
    Barrier,
    Block,
    Buffer,
    Cast,
    Const,
    Expr,
    Extern,
    For,
    If,
    Kernel,
    Let,
    Load,
    Stmt,
    Store,
    Var,
    While,
)
from ...compiler.kernel.traverse import free_vars, statement_exprs, walk, walk_statements
from .casts import code_operands
from .dialect import Dialect
from .expressions import ExprPrinter
from .lines import Lines, mentions
from .mma import add_texts
from .names import clean

C99 = Dialect(codes=True)
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
        super().__init__(self.expressions(dialect, helpers, Bounds(intervals(kernel))))
        self.kernel, self.dialect = kernel, dialect
        self.e.is_exact = any(isinstance(e, Cast) and code_operands(self.dialect, e) for e in _expressions(kernel))
        self.stored = {s.buffer for s in walk_statements(kernel.body) if isinstance(s, Store)}
        self.stored |= {b for s in walk_statements(kernel.body) if isinstance(s, Extern) for b in s.filled}

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
        """A pointer; the compiler is told if nothing else in the kernel overlaps what it points to."""
        name = self.e.buffers[buffer] = self.e.names.fresh(buffer.name)
        access = "" if buffer in self.stored else "const "
        restrict = "" if buffer in self.kernel.overlapping else f"{self.dialect.restrict} "
        return f"{access}{self.dialect.type(buffer.dtype)} *{restrict}{name}"

    def symbol_parameter(self, symbol: Var) -> str:
        """A dimension known at run time."""
        name = self.e.vars[symbol.name] = self.e.names.fresh(symbol.name)
        return f"{self.e.type(symbol)} {name}"

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
                for batch in batches(stmt.body, self.e.scalars):
                    if len(batch) > 1:
                        self.together(batch)
                    else:
                        self.statement(batch[0])
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

    def together(self, stores: Sequence[Stmt]) -> None:
        """Assignments that do not depend on each other; what they share is evaluated once."""
        found = [s for s in stores if isinstance(s, Store)]
        texts = self.values(*(e for s in found for e in (s.index, s.value)))
        for stmt, at, value in zip(found, texts[::2], texts[1::2], strict=True):
            scalars = self.e.scalars.get(stmt.buffer)
            target = f"{self.e.buffers[stmt.buffer]}[{at}]" if scalars is None else scalars[stmt.index]
            self.line(f"{target} = {self._assigned(stmt.value, value)};")

    def store(self, stmt: Store) -> None:
        """An assignment, under its mask."""
        if stmt.buffer in self.e.scalars and stmt.mask is None:
            self.scoped(f"{self.e.scalars[stmt.buffer][stmt.index]} = {self._assigned(stmt.value, '{0}')};", stmt.value)
            return
        name = self.e.buffers[stmt.buffer]
        if stmt.mask is not None:
            self.scoped(f"if ({{2}}) {{{{ {name}[{{0}}] = {self._assigned(stmt.value)}; }}}}", stmt.index, stmt.value, stmt.mask)
        else:
            self.scoped(f"{name}[{{0}}] = {self._assigned(stmt.value)};", stmt.index, stmt.value)

    def _assigned(self, e: Expr, text: str = "{1}") -> str:
        return self.e.converted(e, text) if not isinstance(e, (Const, Var)) else text

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
            wide = c_type == "int32_t" and not self.e.is_narrow(stmt.extent)
            self.line(f"const {c_type} {extent} = {f'(int32_t){text}' if wide else text};")
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
        """A loop that evaluates its condition, locals and all, before each iteration."""
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
        """A named value; nothing if the body does not mention it, which happens where loops of one iteration were resolved."""
        self.open("")
        start = len(self.lines)
        (text,) = self.values(stmt.value)
        name = self.e.names.fresh(stmt.var.name)
        c_type = self.e.type(stmt.var)
        is_wider = c_type == "int32_t" and self.e.type(stmt.value) == "int64_t"
        self.line(f"const {c_type} {name} = {f'(int32_t){text}' if is_wider else self.e.converted(stmt.value, text)};")
        before, first = self.e.vars.get(stmt.var.name), len(self.lines)
        self.e.vars[stmt.var.name] = name
        self.statement(stmt.body)
        if not mentions(self.lines[first:], name):
            del self.lines[start:first]
        self._restore(stmt.var.name, before)
        self.close()

    def alloc(self, stmt: Alloc) -> None:
        """A local array, or variables in its place."""
        assert isinstance(stmt.buffer.size, int), f"local buffer {stmt.buffer.name} of unknown size"
        self.open("")
        name = self.e.names.fresh(stmt.buffer.name)
        elements = fixed_elements(stmt)
        if elements is None:
            self.e.buffers[stmt.buffer] = name
            for line in self.local_array(stmt.buffer, name, max(stmt.buffer.size, 1)).splitlines():
                self.line(line)
        else:
            names: dict[Expr, str] = {at: f"{name}_{at.value}" if stmt.buffer.size > 1 else name for at in elements}
            self.e.scalars[stmt.buffer] = names
            self.line(f"{self.dialect.type(stmt.buffer.dtype)} {', '.join(names.values())};")
        self.statement(stmt.body)
        self.close()

    def local_array(self, buffer: Buffer, name: str, size: int) -> str:
        """Declaration of a local array; a union aligns it, since C99 has no other means."""
        c_type = self.dialect.type(buffer.dtype)
        if buffer.align > max(buffer.dtype.bytes, 1) and buffer.align <= 8:
            return f"union {{ {c_type} data[{size}]; int64_t align; }} {name}_memory;\n{c_type} *const {name} = {name}_memory.data;"
        return f"{c_type} {name}[{size}];"

    def barrier(self) -> None:
        """One thread: nothing to wait for."""

    def extern(self, stmt: Extern) -> None:
        """A call of a row's function: pointers to elements of the buffers, then numbers; or of a user's function."""
        if stmt.results:
            self.foreign(stmt)
            return
        add_texts(stmt.name, self.e.helpers)
        pointers = [self._pointer(buffer, at, k) for k, (buffer, at) in enumerate(zip(stmt.buffers, stmt.args, strict=False))]
        rest = range(len(stmt.buffers), len(stmt.args))
        numbers = [f"{{{k}}}" if stmt.args[k].dtype.is_float else f"(int32_t){{{k}}}" for k in rest]
        self.scoped(f"{stmt.name}({', '.join([*pointers, *numbers])});", *stmt.args)

    def foreign(self, stmt: Extern) -> None:
        """A call of a function that the user links."""
        slots = [f"{{{k}}}" for k in range(len(stmt.args))]
        self.scoped(f"{stmt.name}({', '.join([*(self.e.buffers[b] for b in stmt.buffers), *slots])});", *stmt.args)

    def _pointer(self, buffer: Buffer, at: Expr, k: int) -> str:
        name = self.e.buffers[buffer]
        return name if isinstance(at, Const) and at.value == 0 else f"{name} + {{{k}}}"


def _expressions(kernel: Kernel) -> list[Expr]:
    """All expressions of a kernel and their parts."""
    return walk(*(e for s in walk_statements(kernel.body) for e in statement_exprs(s)))


def intervals(kernel: Kernel) -> dict[str, Interval]:
    """What is known of variables beyond the bounds that they carry: from named values and computed extents, in program order."""
    found: dict[str, Interval] = {}
    unknown: set[str] = set()
    for stmt in walk_statements(kernel.body):
        match stmt:
            case Let(var=var, value=value) if var.dtype.is_int and not var.bound:
                known = Bounds(found).of(value)
            case For(var=var, extent=extent) if not var.bound:
                known = Bounds(found).of(extent)
                known = None if known is None else (0, max(known[1] - 1, 0))
            case _:
                continue
        if known is None or var.name in unknown:  # copies of a statement may give a variable several values
            unknown.add(var.name)
            found.pop(var.name, None)
        else:
            before = found.get(var.name, known)
            found[var.name] = min(before[0], known[0]), max(before[1], known[1])
    return found


def fixed_elements(stmt: Alloc) -> list[Const] | None:
    """The elements of a local array that its block uses, in order; None if one of them is computed, or stored but not read."""
    found: set[Const] = set()
    read: set[Const] = set()
    for inner in walk_statements(stmt.body):
        if isinstance(inner, Extern) and stmt.buffer in inner.buffers:
            return None
        loads = [e for e in walk(*statement_exprs(inner)) if isinstance(e, Load) and e.buffer is stmt.buffer]
        accesses: list[Load | Store] = [*loads, *([inner] if isinstance(inner, Store) and inner.buffer is stmt.buffer else [])]
        for access in accesses:
            if not isinstance(access.index, Const) or access.mask is not None:
                return None
            found.add(access.index)
        read.update(access.index for access in loads if isinstance(access.index, Const))
    return sorted(found, key=lambda at: int(at.value)) if found == read and found else None


def batches(stmts: Sequence[Stmt], scalars: Mapping[Buffer, object]) -> list[list[Stmt]]:
    """Statements in order; neighbouring assignments none of which reads what another writes go together."""
    found: list[list[Stmt]] = []
    written: set[object] = set()
    for stmt in stmts:
        if not isinstance(stmt, Store) or stmt.mask is not None:
            found.append([stmt])
            written = set()
            continue
        read = {_place(e, scalars) for e in walk(stmt.index, stmt.value) if isinstance(e, Load)}
        target = _place(stmt, scalars)
        if written and not written & read and not (stmt.buffer in scalars and target in written):
            found[-1].append(stmt)
        else:
            found.append([stmt])
            written = set()
        written.add(target)
    return found


def _place(access: Load | Store, scalars: Mapping[Buffer, object]) -> object:
    """The variable that an access is to, or its whole buffer."""
    return (access.buffer, access.index) if access.buffer in scalars else access.buffer
