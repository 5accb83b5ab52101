"""Limits of a device's memory: a program that does not fit them is refused, with what takes the most of it.

Checked after the memory plan, before anything is printed: `onnxc compile --max-ram 64K --max-flash 256K`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..diagnostics import CompileError, Diagnostic, Loc
from .memory_use import MemoryUse, memory_use
from .nodes import Program

SHOWN = 8
"""Tensors and weights that a message lists."""
NAME_LENGTH = 60


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes that a model may take; None for no limit."""

    ram: int | None = None
    """Arena and stack; inputs and outputs are the caller's."""
    flash: int | None = None
    """Weights and code."""

    @property
    def is_limited(self) -> bool:
        """True if there is a limit at all."""
        return self.ram is not None or self.flash is not None


def check_budget(program: Program, budget: Budget) -> None:
    """Refuse a program that takes more than it may.

    Raises:
        CompileError: E0305 with a line for each tensor that lives at the peak and for the largest weights; E0304 if the
            arena has no size before the run.
    """
    if not budget.is_limited:
        return
    if not isinstance(program.arena_bytes, int):
        names = ", ".join(f"'{s.symbol.name}'" for s in program.symbols)
        hint = "fix the dimensions with --bind NAME=N, or bound them with --max NAME=N"
        raise CompileError("E0304", f"memory cannot be compared with a limit: it depends on {names}", hint=hint)
    use = memory_use(program)
    found = [*_ram(use, budget.ram), *_flash(use, budget.flash)]
    if found:
        raise CompileError.collect(found)


def _ram(use: MemoryUse, limit: int | None) -> Iterator[Diagnostic]:
    if limit is None or use.ram_bytes <= limit:
        return
    peak = use.peak
    parts = f"{use.arena_bytes:,} of arena and an estimated {use.stack_bytes:,} of stack"
    hint = f"{use.ram_bytes - limit:,} bytes too many; below are the tensors of the peak, layer {peak}; inputs and outputs do not count"
    yield Diagnostic("E0305", f"RAM: {use.ram_bytes:,} bytes are needed ({parts}), {limit:,} are allowed", hint=hint)
    for tensor in use.live(peak)[:SHOWN]:
        yield _row("RAM", tensor.bytes, f"layers {tensor.first:>3} to {tensor.last:>3}", tensor.loc)


def _flash(use: MemoryUse, limit: int | None) -> Iterator[Diagnostic]:
    if limit is None or use.flash_bytes <= limit:
        return
    parts = f"{use.weight_bytes:,} of weights and an estimated {use.code_bytes:,} of code"
    hint = f"{use.flash_bytes - limit:,} bytes too many; below are the largest weights; 8 bit quantization takes a quarter of float32"
    yield Diagnostic("E0305", f"flash: {use.flash_bytes:,} bytes are needed ({parts}), {limit:,} are allowed", hint=hint)
    for weights in sorted(use.weights, key=lambda w: -w.bytes)[:SHOWN]:
        yield _row("flash", weights.bytes, f"layer {weights.layer:>3}", weights.loc)


def _row(memory: str, size: int, layers: str, loc: Loc) -> Diagnostic:
    """A line of the table of what takes most."""
    name = loc.node if len(loc.node) <= NAME_LENGTH else f"{loc.node[:NAME_LENGTH]}..."
    return Diagnostic("E0305", f"{memory}: {size:>11,} bytes  {layers}  {loc.op_type} '{name}'")
