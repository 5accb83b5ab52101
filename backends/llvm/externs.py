"""Texts of instructions that kernel IR calls by name: `Extern(name, args, buffers)`.

The rows of `mma.py` register themselves here, so that the printer names no instruction.
"""

from __future__ import annotations

from collections.abc import Callable

from ...compiler.kernel.nodes import Buffer, Extern
from .expressions import typed
from .llvmtypes import register_type
from .writer import Writer

EXTERNS: dict[str, Callable[[Writer, Extern], None]] = {}
"""Name of the instruction to the function that emits it."""
WRITES: dict[str, Callable[[Extern], tuple[Buffer, ...]]] = {}
"""Name of the instruction to the buffers that it writes; all of its buffers if not listed."""


def emit_extern(w: Writer, stmt: Extern) -> None:
    """Emit the instruction, or the call of a user's function."""
    if stmt.results:
        operands = [f"ptr {w.pointers[b]}" for b in stmt.buffers] + [typed(w, a) for a in stmt.args]
        w.line(f"call void @{stmt.name}({', '.join(operands)})")
        return
    EXTERNS[stmt.name](w, stmt)


def declaration(stmt: Extern) -> str:
    """What a module says of a user's function."""
    return f"declare void @{stmt.name}({', '.join(['ptr' for _ in stmt.buffers] + [register_type(a.dtype, 1) for a in stmt.args])})"


def written(stmt: Extern) -> tuple[Buffer, ...]:
    """Buffers that the instruction may write."""
    if stmt.results:
        return stmt.filled
    return WRITES[stmt.name](stmt) if stmt.name in WRITES else stmt.buffers
