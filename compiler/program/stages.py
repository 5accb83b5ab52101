"""What is to be computed, between the graph IR and the kernel IR: stages, groups of them, and other units.

A stage is a nest bound to the values it reads and the value it makes. A group is what becomes one kernel.
`passes/graph/form_groups.py` makes units of a graph; the schedules in `passes/kernel` turn groups into kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from ..diagnostics import NOWHERE, Loc
from ..graph.nodes import Node, Value
from ..kernel.nest import Nest
from ..kernel.nodes import Dim, Expr, Kernel, Read, Var
from ..kernel.traverse import map_expr, walk
from .weights import Pack


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A nest with its operands: `Read(k, ...)` in the nest is an element of `operands[k]`."""

    value: Value
    """What the stage computes."""
    operands: tuple[Value, ...]
    """Distinct values, all of them read."""
    nest: Nest
    loc: Loc = NOWHERE
    covers: tuple[str, ...] = ()
    """Names of the ONNX nodes whose work this is, fused ones included."""

    @property
    def is_map(self) -> bool:
        """True if there is no reduction."""
        return self.nest.combine is None

    def reads(self, value: Value) -> tuple[Read, ...]:
        """The distinct reads of an operand, anywhere in the nest."""
        position = self.operands.index(value)
        return tuple(r for r in self.all_reads() if r.operand == position)

    def all_reads(self) -> tuple[Read, ...]:
        """All distinct reads of the nest."""
        exprs = (self.nest.body, self.nest.result)
        return tuple(e for e in walk(*exprs) if isinstance(e, Read))


def make_stage(value: Value, operands: tuple[Value | None, ...], nest: Nest, loc: Loc, covers: tuple[str, ...]) -> Stage:
    """Make a stage, dropping operands that are not read and joining equal ones."""
    exprs = (nest.body, nest.result)
    used = sorted({e.operand for e in walk(*exprs) if isinstance(e, Read)})
    kept: list[Value] = []
    position: dict[int, int] = {}
    for old in used:
        operand = operands[old]
        assert operand is not None
        if operand not in kept:
            kept.append(operand)
        position[old] = kept.index(operand)
    if all(old == new for old, new in position.items()):
        return Stage(value, tuple(kept), nest, loc, covers)
    memo: dict[Expr, Expr] = {}

    def renumber(e: Expr) -> Expr | None:
        if not isinstance(e, Read):
            return None
        return Read(position[e.operand], tuple(map_expr(i, renumber, memo) for i in e.indices), e.dtype)

    finish = None if nest.finish is None else map_expr(nest.finish, renumber, memo)
    return Stage(value, tuple(kept), replace(nest, body=map_expr(nest.body, renumber, memo), finish=finish), loc, covers)


def with_result(stage: Stage, operands: tuple[Value, ...], result: Expr) -> Stage:
    """The stage with another expression for its elements, over these operands."""
    nest = replace(stage.nest, body=result) if stage.is_map else replace(stage.nest, finish=result)
    return make_stage(stage.value, operands, nest, stage.loc, stage.covers)


@dataclass(frozen=True, slots=True)
class Placement:
    """A tensor that is a part of another one, in the other's memory."""

    root: Value
    """The whole."""
    start: tuple[Dim, ...]
    """Logical indices in `root` of the part's first element."""


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Stages that become one kernel: for each row, all stages in order.

    Invariants: all stages have the same extents on the first `rows` axes, and read each other there at
    their own indices. A group of one stage has `rows` 0 and is scheduled freely.
    """

    stages: tuple[Stage, ...]
    outputs: tuple[Value, ...]
    """Values that are used outside; the others live only inside the kernel."""
    rows: int = 0
    placements: Mapping[str, Placement] = field(default_factory=lambda: MappingProxyType({}))
    """Values of the group, by name, that are parts of others; `root` is never a part itself."""
    in_place: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}))
    """For outputs, by name, the operand that is written over: they share a buffer."""

    @property
    def values(self) -> tuple[Value, ...]:
        """All values that the stages read or make, in a fixed order."""
        return tuple(dict.fromkeys(v for stage in self.stages for v in (*stage.operands, stage.value)))


def shift_symbol(position: int) -> Var:
    """The kernel argument that says where value number `position` of a group starts in its root, in elements.

    An argument rather than a constant, so that equal kernels serve parts at different places.
    """
    return Var(f"shift{position}")


def extent_symbol(position: int) -> Var:
    """The kernel argument for an extent that is computed from the symbols of the program."""
    return Var(f"extent{position}")


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """`value` has the bytes of `source`: no code."""

    value: Value
    source: Value


@dataclass(frozen=True, slots=True, eq=False)
class NodeUnit:
    """A node that is not made of nests: an imperative kernel or a control-flow region."""

    node: Node


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A constant that fusion made: no code."""

    value: Value
    array: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """Groups that become one kernel in which they run row by row, each when the next one asks for its rows (`walk_rows.py`).

    Invariants: each group has one stage and one output, and stands after those that it reads; what all but the last one make is
    read by groups of the chain only, and never lies in memory as a whole.
    """

    groups: tuple[Group, ...]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stage of each group."""
        return tuple(stage for group in self.groups for stage in group.stages)

    @property
    def output(self) -> Value:
        """What the last group makes."""
        return self.groups[-1].outputs[0]


Unit: TypeAlias = Group | Chain | View | NodeUnit | Known


# --- What schedules give back -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class ScheduledKernel:
    """A kernel with what the program must pass to it."""

    kernel: Kernel
    operands: tuple[Value, ...]
    """One value for each buffer argument: those read, then those written. A value that the group does not
    know is scratch memory, shared by the kernels of one schedule."""
    iterations: Dim
    """Extent of the parallel loop; 1 without one."""
    work: Dim
    """Estimated cycles of the whole kernel on one core."""
    packs: tuple[Pack | None, ...] = ()
    """For each operand how to rearrange it if it is constant; empty for none at all."""
    leads: tuple[int | None, ...] = ()
    """For each operand by how many bytes it must begin above the group's only output for the two to overlap: each element is
    then read before it is written over. None where they must not overlap; empty for none at all."""
