"""What a model may ask of the compiler: bounds that keep a small hostile file from taking the machine.

Every bound is far above what real models need, and each violation is one E0103 that names the bound.
`load_graph` takes other limits.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NoReturn

from ..diagnostics import NOWHERE, CompileError, Loc


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on a model; a violation is E0103."""

    model_bytes: int = (1 << 31) - 1
    """Size of the model file; protobuf itself ends at 2 GiB."""
    nodes: int = 1_000_000
    """Nodes that are imported, counting a function body once for each call and a region once for each build."""
    nesting: int = 24
    """Depth of function calls and regions within one another."""
    rank: int = 32
    """Dimensions of a tensor."""
    tensor_bytes: int = 1 << 36
    """Size of one tensor of static shape, constants and intermediate results alike."""
    constant_bytes: int = 1 << 37
    """Size of all constants together."""
    expanded_bytes: int = 1 << 29
    """Size of constants that are larger in memory than in the file (sparse tensors), together."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(f"limit {field.name} is negative")

    def check(self, name: str, amount: int, what: str, loc: Loc = NOWHERE) -> None:
        """Raise E0103 if `amount` exceeds the limit `name`."""
        if amount > getattr(self, name):
            self.exceeded(name, f"{what} has {amount}", loc)

    def exceeded(self, name: str, message: str, loc: Loc = NOWHERE) -> NoReturn:
        """Raise E0103 for the limit `name`."""
        hint = "the limits stand in compiler/frontend/limits.py"
        raise CompileError("E0103", f"{message}, the limit '{name}' is {getattr(self, name)}", loc, hint)


@dataclass(slots=True)
class Budget:
    """What has been used of the limits that hold for a whole model."""

    limits: Limits
    nodes: int = 0
    constant_bytes: int = 0
    expanded_bytes: int = 0

    def spend(self, name: str, amount: int, what: str, loc: Loc = NOWHERE) -> None:
        """Use up `amount` of the limit `name`; E0103 if that is more than is left."""
        used = getattr(self, name) + amount
        setattr(self, name, used)
        if used > getattr(self.limits, name):
            self.limits.exceeded(name, f"{what} brings the model's total to {used}", loc)
