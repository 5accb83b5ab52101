"""Texts of instructions that kernel IR calls by name: `Extern(name, args, buffers)`.

The rows of `mma.py` register themselves here, so that the printer names no instruction.
"""

from __future__ import annotations

from collections.abc import Callable

from ...compiler.kernel.nodes import Buffer, Extern
from .writer import Writer

EXTERNS: dict[str, Callable[[Writer, Extern], None]] = {}
"""Name of the instruction to the function that emits it."""
WRITES: dict[str, Callable[[Extern], tuple[Buffer, ...]]] = {}
"""Name of the instruction to the buffers that it writes; all of its buffers if not listed."""


def emit_extern(w: Writer, stmt: Extern) -> None:
    """Emit the instruction."""
    EXTERNS[stmt.name](w, stmt)


def written(stmt: Extern) -> tuple[Buffer, ...]:
    """Buffers that the instruction may write."""
    return WRITES[stmt.name](stmt) if stmt.name in WRITES else stmt.buffers
