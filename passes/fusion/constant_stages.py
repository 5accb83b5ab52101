"""Constants that fusion makes: expressions of constants only, evaluated at compile time and read by a stage.

`Constants` knows the arrays of the graph and those that were made; `Known` units hand these to the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.graph.facts import GraphFacts
from ...compiler.graph.nodes import TensorType, Value
from ...compiler.kernel.build import const
from ...compiler.kernel.evaluate import evaluate_nest
from ...compiler.kernel.nest import Nest
from ...compiler.kernel.nodes import Binary, BinaryOp, Cast, CastMode, Const, Dim, Expr, Read, Select, Unary, UnaryOp, Var
from ...compiler.kernel.traverse import free_vars, walk
from ...compiler.program.stages import Stage

MAX_ELEMENTS = 1 << 18
"""Largest table that is made of expressions."""
MAX_TERMS = 1 << 30
"""Limit of the arithmetic for one table."""
Range = tuple[int, int]
"""The least and the greatest value of an integer expression."""


@dataclass(slots=True)
class Constants:
    """The arrays that are known at compile time."""

    facts: GraphFacts
    made: dict[str, np.ndarray] = field(default_factory=dict)
    """By name, those that fusion made."""
    ranges: dict[str, Range] = field(default_factory=dict)
    """Least and greatest element of those that were asked for."""

    def array(self, value: Value) -> np.ndarray | None:
        """The content of a constant; None for a value that is computed."""
        if value.name in self.made:
            return self.made[value.name]
        owner = self.facts.owner(value.name)
        return None if owner is None else owner.constants.get(value.name)

    def add(self, name: str, array: np.ndarray, dtype: DType) -> Value:
        """A new constant; a number follows its name where others have it already, as two factors of one product may."""
        taken = name
        for number in count(2):
            if taken not in self.made:
                break
            taken = f"{name}.{number}"
        self.made[taken] = array
        return Value(taken, TensorType(dtype, array.shape))

    def is_constant(self, e: Expr, operands: Sequence[Value]) -> bool:
        """True if an expression depends on axes and constants only."""
        return all(self.array(operands[r.operand]) is not None for r in walk(e) if isinstance(r, Read))

    def table(self, e: Expr, stage: Stage, summed: bool = False) -> Table | None:
        """The values of a constant expression for the axes of a stage that it depends on.

        Args:
            e: reads constants of the stage only.
            stage: says the extents of the axes, and which operand is which.
            summed: whether to sum over the reduction axes of the stage.

        Returns:
            The values, or None if extents are not known or there are too many elements.
        """
        nest = stage.nest
        extents = dict(zip(nest.axes, nest.shape, strict=True))
        if not summed:
            extents |= dict(zip(nest.reduce_axes, nest.reduce_shape, strict=True))
        axes = tuple(v for v in extents if v in free_vars(e))
        inner = nest.reduce_axes if summed else ()
        shape = known_shape(tuple(extents[v] for v in axes))
        reduced = known_shape(nest.reduce_shape) if summed else ()
        if shape is None or reduced is None or not set(free_vars(e)) <= {*axes, *inner}:
            return None
        elements = int(np.prod(shape, dtype=np.int64))
        if elements > MAX_ELEMENTS or elements * int(np.prod(reduced, dtype=np.int64)) > MAX_TERMS:
            return None
        definition = Nest(axes, shape, e, e.dtype)
        if summed:
            definition = replace(definition, reduce_axes=inner, reduce_shape=reduced, combine=nest.combine)
        return Table(axes, evaluate_nest(definition, [self.array(v) for v in stage.operands], {}))

    def range(self, e: Expr, operands: Sequence[Value]) -> Range | None:
        """Bounds of an integer expression; None where they are not known or it may wrap."""
        found = self._range(e, operands)
        if found is None or not e.dtype.is_int:
            return None
        low, high = e.dtype.limits
        return found if low <= found[0] and found[1] <= high else None

    def _range(self, e: Expr, operands: Sequence[Value]) -> Range | None:
        match e:
            case Const(value=value) if e.dtype.is_int:
                return int(value), int(value)
            case Read(operand=operand):
                return self._read_range(operands[operand], e.dtype)
            case Cast(value=value, mode=CastMode.CONVERT) if value.dtype.is_int:
                return self.range(value, operands)
            case Select(then=then, other=other):
                return _joined(self.range(then, operands), self.range(other, operands))
            case Unary(op=UnaryOp.NEG, a=a):
                found = self.range(a, operands)
                return None if found is None else (-found[1], -found[0])
            case Binary(op=op, a=a, b=b) if op in _INTERVALS:
                left, right = self.range(a, operands), self.range(b, operands)
                return None if left is None or right is None else _INTERVALS[op](left, right)
        return None

    def _read_range(self, value: Value, dtype: DType) -> Range | None:
        if not dtype.is_int:
            return None
        array = self.array(value)
        if array is None or array.size == 0:
            return int(dtype.limits[0]), int(dtype.limits[1])
        if value.name not in self.ranges:
            wide = array.astype(np.int64) if array.dtype.kind not in "iu" else array
            self.ranges[value.name] = (int(wide.min()), int(wide.max()))
        return self.ranges[value.name]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Values of an expression."""

    axes: tuple[Var, ...]
    """What the dimensions of `values` stand for."""
    values: np.ndarray

    def over(self, axes: tuple[Var, ...]) -> np.ndarray:
        """The values with the dimensions `axes`, among which are all of the table's; extent 1 where it does not depend on one."""
        shape = tuple(self.values.shape[self.axes.index(a)] if a in self.axes else 1 for a in axes)
        order = [self.axes.index(a) for a in axes if a in self.axes]
        return self.values.transpose(order).reshape(shape)


def known_shape(shape: tuple[Dim, ...]) -> tuple[int, ...] | None:
    """A shape of known extents."""
    found = tuple(d for d in shape if isinstance(d, int))
    return found if len(found) == len(shape) else None


@dataclass(slots=True)
class Operands:
    """The operands of a stage that is being rewritten, to which constants are added."""

    values: list[Value]

    def read(self, value: Value, axes: tuple[Var, ...]) -> Read:
        """The element of a new operand at the axes that its dimensions stand for."""
        self.values.append(value)
        indices = tuple(const(0) if extent == 1 else axis for axis, extent in zip(axes, value.type.shape, strict=True))
        return Read(len(self.values) - 1, indices, value.type.dtype)


def _joined(a: Range | None, b: Range | None) -> Range | None:
    return None if a is None or b is None else (min(a[0], b[0]), max(a[1], b[1]))


def _product(a: Range, b: Range) -> Range:
    corners = [x * y for x in a for y in b]
    return min(corners), max(corners)


_INTERVALS: dict[BinaryOp, Callable[[Range, Range], Range]] = {
    BinaryOp.ADD: lambda a, b: (a[0] + b[0], a[1] + b[1]),
    BinaryOp.SUB: lambda a, b: (a[0] - b[1], a[1] - b[0]),
    BinaryOp.MUL: _product,
    BinaryOp.MIN: lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    BinaryOp.MAX: lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
}
