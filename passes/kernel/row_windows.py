"""Which rows of an operand a stage reads for one row of its own: what lets a chain of stages run row by row.

The rows of a tensor are its outermost loop in memory: lines of an image, steps of a sequence. A convolution reads a window
of lines for each of its own, an addition one line; a mean over the whole image takes them in one after the other (a fold).
Used by `walk_rows` before anything is scheduled.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from ...compiler.graph.nodes import TensorType, Value
from ...compiler.kernel import build
from ...compiler.kernel.build import const
from ...compiler.kernel.nodes import Const, Expr, Read, Var
from ...compiler.kernel.traverse import free_vars, substitute, walk
from ...compiler.program.stages import Stage
from .loop_form import physical_shape, stride

MAX_ROWS = 4096
"""Rows of a tensor up to which chains are looked for."""


def row_axis(type_: TensorType) -> int | None:
    """The logical axis whose indices are one block of memory each, the blocks in order; None if there is none."""
    layout = type_.layout
    if not type_.is_static or any(layout.halo):
        return None
    shape = type_.static_shape
    blocks = -(-shape[layout.axis] // layout.block) if layout.block > 1 else 0
    for axis, extent in enumerate(shape):
        is_blocked = layout.block > 1 and axis == layout.axis
        if (blocks if is_blocked else extent) != 1:
            return None if is_blocked or not 1 < extent <= MAX_ROWS else axis
    return None


def rows_of(type_: TensorType) -> int:
    """Number of rows of a tensor that has them."""
    axis = row_axis(type_)
    assert axis is not None
    return type_.static_shape[axis]


@dataclass(frozen=True, slots=True)
class RowWindow:
    """The rows of an operand that one row of a stage reads, as `first <= row < end`."""

    row: Var
    """The row of the stage, which occurs in the two expressions."""
    first: Expr
    end: Expr
    rows: int
    """Rows of the operand."""
    reach: tuple[int, int]
    """`first` of the first row and `end` of the last one: a window may reach beyond the operand, but nothing is read there."""
    lows: tuple[int, ...]
    """For each row of the stage, the first row that is read."""
    highs: tuple[int, ...]
    """One more than the last one."""

    @property
    def longest(self) -> int:
        """The most rows that one row of the stage reads."""
        return max(high - low for low, high in zip(self.lows, self.highs, strict=True))

    def low(self, row: Expr, delay: int = 0) -> Expr:
        """The first row, or one that is some rows earlier, inside the operand."""
        at = build.sub(substitute(self.first, {self.row: row}), delay)
        return build.maximum(at, 0) if self.reach[0] < delay else at

    def high(self, row: Expr) -> Expr:
        """One more than the last row."""
        at = substitute(self.end, {self.row: row})
        return build.minimum(at, self.rows) if self.reach[1] > self.rows else at


@functools.lru_cache(4096)
def row_window(stage: Stage, operand: Value) -> RowWindow | None:
    """The rows of an operand for each row of a stage; None if they do not go forward with it, or are not known."""
    own, axis = row_axis(stage.value.type), row_axis(operand.type)
    if own is None or axis is None or operand not in stage.operands:
        return None
    nest = stage.nest
    units: dict[Var, Expr] = {var: const(0) for var, extent in zip(nest.axes, nest.shape, strict=True) if extent == 1}
    row, extent = nest.axes[own], nest.shape[own]
    ends = [_ends(substitute(read.indices[axis], units), stage, row) for read in stage.reads(operand)]
    known = [pair for pair in ends if pair is not None]
    if len(known) < len(ends) or not known or not isinstance(extent, int):
        return None
    first, end = known[0]
    for low, high in known[1:]:
        first, end = build.minimum(first, low), build.maximum(end, high)
    firsts, last = _numbers(first, row, extent), _numbers(end, row, extent)
    if firsts is None or last is None:
        return None
    rows = rows_of(operand.type)
    lows, highs = (tuple(min(max(n, 0), rows) for n in numbers) for numbers in (firsts, last))
    return RowWindow(row, first, end, rows, (firsts[0], last[-1]), lows, highs)


def _ends(index: Expr, stage: Stage, row: Var) -> tuple[Expr, Expr] | None:
    """First and one more than the last value of an index, over all loops but that of the rows."""
    low = high = index
    for var, extent in zip(stage.nest.reduce_axes, stage.nest.reduce_shape, strict=True):
        step = stride(index, var)
        if step is None or not isinstance(extent, int):
            return None
        last = const(extent - 1)
        low = substitute(low, {var: last if step < 0 else const(0)})
        high = substitute(high, {var: const(0) if step < 0 else last})
    if any(var is not row for var in free_vars(low, high)) or any(isinstance(e, Read) for e in (low, high)):
        return None
    return low, build.add(high, 1)


def _numbers(index: Expr, row: Var, extent: int) -> list[int] | None:
    """The values of an index for all rows, if they are known and never go back."""
    found: list[int] = []
    for number in range(extent):
        value = substitute(index, {row: const(number)})
        if not isinstance(value, Const) or (found and value.value < found[-1]):
            return None
        found.append(int(value.value))
    return found


@functools.lru_cache(4096)
def folded_axis(stage: Stage, operand: Value) -> Var | None:
    """The reduction axis that takes in the rows of an operand one after the other, outside of all other reductions; None if none does."""
    axis, nest = row_axis(operand.type), stage.nest
    reads = stage.reads(operand) if operand in stage.operands else ()
    if axis is None or len(reads) != 1 or not nest.reduce_axes or nest.combine is None:
        return None
    units: dict[Var, Expr] = {var: const(0) for var, extent in zip(nest.axes, nest.shape, strict=True) if extent == 1}
    index, outermost = substitute(reads[0].indices[axis], units), nest.reduce_axes[0]
    is_whole = nest.reduce_shape[0] == rows_of(operand.type)
    return outermost if index is outermost and is_whole and all(isinstance(d, int) for d in nest.reduce_shape) else None


def is_folded(stage: Stage, operand: Value) -> bool:
    """True if each row of a stage, if it has any, takes in all rows of an operand in order."""
    window = row_window(stage, operand)
    return folded_axis(stage, operand) is not None and (window is None or window.highs[0] == window.rows)


def has_own_weights(stage: Stage, is_constant: Callable[[Value], bool]) -> bool:
    """True if each row of a sum has weights of its own and reads the same data: one channel of a convolution is no matrix product."""
    own, nest = row_axis(stage.value.type), stage.nest
    if own is None or not nest.reduce_axes:
        return False
    reads = [e for e in walk(nest.body) if isinstance(e, Read) and nest.axes[own] in free_vars(*e.indices)]
    return bool(reads) and all(is_constant(stage.operands[read.operand]) for read in reads)


def fold_window(operand: Value) -> RowWindow:
    """A stage that takes in rows one by one."""
    rows = rows_of(operand.type)
    row = build.loop_var("row", rows)
    return RowWindow(row, row, build.add(row, 1), rows, (0, rows), tuple(range(rows)), tuple(range(1, rows + 1)))


@functools.lru_cache(4096)
def row_elements(value: Value) -> int:
    """Elements of a row in memory."""
    total = 1
    for extent in physical_shape(value.type):
        assert isinstance(extent, int)
        total *= extent
    return total // rows_of(value.type)


def row_bytes(value: Value) -> int:
    """Bytes of a row in memory."""
    return row_elements(value) * value.type.dtype.bytes
