"""The C functions of a user that a program calls (`ops/custom.py`): what a header or a module declares of them."""

from __future__ import annotations

from dataclasses import dataclass

from ..diagnostics import CompileError
from ..dtypes import DType
from ..kernel.nodes import Extern, Kernel
from ..kernel.traverse import walk_statements
from .nodes import Program


@dataclass(frozen=True, slots=True)
class Prototype:
    """How a function is called: pointers to inputs and outputs, then numbers (int64 or double)."""

    inputs: tuple[DType, ...]
    outputs: tuple[DType, ...]
    numbers: tuple[DType, ...]


def calls_of(kernel: Kernel) -> list[Extern]:
    """The calls of a user's functions in a kernel."""
    return [s for s in walk_statements(kernel.body) if isinstance(s, Extern) and s.results]


def prototype(call: Extern) -> Prototype:
    """The prototype that a call needs."""
    types = [b.dtype for b in call.buffers]
    first = len(types) - call.results
    return Prototype(tuple(types[:first]), tuple(types[first:]), tuple(a.dtype for a in call.args))


def prototypes(program: Program) -> dict[str, Prototype]:
    """All functions of a user that a program calls, by name.

    Raises:
        CompileError: E0206 if nodes call one with different types, which a C function cannot take.
    """
    found: dict[str, Prototype] = {}
    for kernel in program.kernels.values():
        for call in calls_of(kernel):
            if found.setdefault(call.name, prototype(call)) != prototype(call):
                hint = "define an operator for each, with a function of its own"
                raise CompileError("E0206", f"nodes call the C function {call.name} with different types or ranks", kernel.loc, hint)
    return found
