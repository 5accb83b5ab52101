"""What a run on an emulated device is asked, and what it tells: outputs, instructions, memory.

A backend that can emulate its targets gives `Target.emulate`; `onnxc verify --on` shows what it answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class EmulationOptions:
    """How the model is built for the device."""

    compiler: str = ""
    """`gcc`, `clang` or `zig`; empty for the first that is installed."""
    optimization: str = "3"
    """What stands after -O."""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What one layer of the model took."""

    name: str
    """After the ONNX nodes that it computes, as the generated code has it."""
    nodes: tuple[str, ...]
    """These nodes."""
    function: str
    """Function of the generated code; layers of equal structure share one."""
    instructions: int


@dataclass(frozen=True, slots=True)
class Emulation:
    """One run."""

    outputs: Mapping[str, np.ndarray]
    machine: str
    """Emulator and board."""
    compiler: str
    """Compiler with its version and flags."""
    instructions: int
    """All that the run executed, from its first instruction to its return."""
    layers: tuple[LayerCost, ...]
    outside_instructions: int
    """Of the run, those outside its layers."""
    functions: Mapping[str, int]
    """Instructions by function, the most first; without those of the functions it calls."""
    arena_bytes: int
    static_bytes: int
    """Variables of the model, which are there if it has an arena of its own."""
    io_bytes: int
    """Inputs and outputs, which are the caller's."""
    stack_bytes: int
    """Of the stack, what the run wrote to."""
    stack_bound_bytes: int | None
    """The most stack that any path through the code takes; None if the compiler does not tell."""
    stack_bound_lacks: tuple[str, ...]
    """Functions of the C library whose stack is not in the bound."""
    code_bytes: int
    constant_bytes: int
    """Weights and other constants."""
    notes: tuple[str, ...] = field(default=())
    """How the board differs from the target."""
