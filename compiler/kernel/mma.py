"""The MMA row: one multiply-accumulate instruction as data.

The only place where an instruction is named is `backends/*/mma.py`, in rows of this class. The contraction
schedule builds its register tile from a row and knows nothing else of the machine: a new instruction is a
new row, never a new kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..dtypes import DType
from .nodes import Expr


@dataclass(frozen=True, slots=True)
class Mma:
    """`acc[lanes] += scalar * vector[lanes]`, summed over `k` consecutive products."""

    name: str
    """Unique in its backend, such as `fma.v8f32`."""
    lanes: int
    """Accumulators of one instruction: the width of the vector operand."""
    k: int
    """Products that one instruction adds into each accumulator."""
    operand: DType
    """Type of both factors."""
    accumulator: DType
    registers: int
    """Vector registers that a tile may use."""
    step: Callable[[Expr, Expr, Expr], Expr]
    """(accumulator, scalar factor, vector factor) -> new accumulator, as kernel IR: also the row's meaning."""
    fma_per_cycle: float = 2.0
    """Instructions that start in a cycle, for the choice of tiles."""
    loads_per_cycle: float = 1.35
    """Vector or broadcast loads that a tile really gets in a cycle: less than the ports promise (Zen 3 measured)."""
    source: str = ""
    """The document that defines the instruction."""

    def __post_init__(self) -> None:
        assert self.lanes >= 1 and self.k >= 1 and self.registers >= 3, self.name
