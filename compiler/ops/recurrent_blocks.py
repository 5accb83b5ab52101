"""How the weights of recurrent operators lie in memory: in blocks of units, all gates of a unit together.

A block is so many units that the sums of all their gates fit into vector registers. Its part of the
recurrent matrix is read from front to back, one row for each element of h, and its gates end up in
registers together, so that the cell follows at once.

    rows of an ONNX matrix   gate, unit                       (gate * hidden + unit)
    columns here             block, gate, unit of the block   (first unit of the block * gates + ...)

Blocks that are left at the end are smaller; nothing is padded. A block that starts at unit `s` starts at
`s * gates` of the columns, whatever the sizes of the blocks are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..dtypes import DType
from ..graph.nodes import Value
from ..kernel.nodes import Dim
from .table import RewriteBuilder

VECTOR_BYTES = 64
"""The widest vector of the targets; on those with narrower ones it is several registers."""
GATE_VECTORS = 4
"""Vectors of sums of one batch element."""
MAX_ROWS = 3
"""Batch elements that share a load of the weights; their vectors are half as wide, so that the sums fit into registers."""
MAX_TILES = 2
"""Tiles of rows that share what is read of large weights; more would leave less to run in parallel."""
NEAR_BYTES = 1 << 18
"""Weights of a direction up to this size stay in a near cache from step to step."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive blocks of one size."""

    start: int
    """First unit."""
    blocks: int
    size: int
    """Units of a block."""
    lanes: int
    """Units of a vector; divides the size."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How the units of a direction are cut into blocks."""

    hidden: int
    gates: int
    wide: DType
    """Type of the sums."""
    rows: int = 1
    """Batch elements of a tile: their sums are kept in registers together."""
    tiles: int = 1
    """Tiles of a group, which goes through the steps together."""

    @property
    def group(self) -> int:
        """Batch elements of a group."""
        return self.rows * self.tiles

    @property
    def segments(self) -> Iterator[Segment]:
        """Wide blocks, then blocks of single vectors, then the rest."""
        lanes, start = VECTOR_BYTES // self.wide.bytes // (1 if self.rows == 1 else 2), 0
        for size in dict.fromkeys((lanes * max(1, GATE_VECTORS // self.gates), lanes)):
            if count := (self.hidden - start) // size:
                yield Segment(start, count, size, lanes)
            start += count * size
        if start < self.hidden:
            yield Segment(start, 1, self.hidden - start, self.hidden - start)

    def columns(self, gates: int) -> np.ndarray:
        """The row of an ONNX matrix of so many gates that stands in each column, `[gates * hidden] int64`."""
        rows = np.arange(gates * self.hidden, dtype=np.int64).reshape(gates, self.hidden)
        parts = (rows[:, s.start + b * s.size :][:, : s.size].ravel() for s in self.segments for b in range(s.blocks))
        return np.concatenate(list(parts))


def tiling_for(hidden: int, gates: int, wide: DType, batch: Dim) -> Tiling:
    """The tiling for so many batch elements: large weights are read once for several tiles."""
    rows = rows_together(batch)
    is_near = gates * hidden * hidden * wide.bytes <= NEAR_BYTES
    tiles = 1 if is_near or rows == 1 or not isinstance(batch, int) else min(MAX_TILES, -(-batch // rows))
    return Tiling(hidden, gates, wide, rows, tiles)


def rows_together(batch: Dim) -> int:
    """How many batch elements should go through the steps together, of a number that may be known only at run time.

    A last group that is not full repeats an element, which costs as much as another one.
    """
    if not isinstance(batch, int) or batch == 1:
        return 1
    return min((MAX_ROWS, 2), key=lambda rows: -(-batch // rows) * (2 * rows + 1))


@dataclass(frozen=True, slots=True)
class Packing:
    """Emits the operators that bring operands into this order; they fold if the operands are constants."""

    b: RewriteBuilder
    tiling: Tiling

    def order(self, value: Value, gates: int | None = None) -> Value:
        """Bring axis 1 of `[directions, gates * hidden, ...]` into the order of the columns."""
        order = self.tiling.columns(gates or self.tiling.gates)
        return value if (order == np.arange(order.size)).all() else self.b.op("Gather", value, self.b.const(order), axis=1)

    def input_matrix(self, weight: Value) -> Value:
        """`[directions, gates * hidden, width]` -> `[width, directions * gates * hidden]`."""
        columns = self.b.op("Transpose", self.order(weight), perm=(2, 0, 1))
        return self.b.op("Reshape", columns, self.b.const([-1, weight.type.static_shape[0] * self.tiling.gates * self.tiling.hidden]))

    def recurrent_matrix(self, weight: Value) -> Value:
        """`[directions, gates * hidden, hidden]` -> `[directions, hidden, gates * hidden]`: blocks of `[hidden, gates, size]`."""
        b, gates, hidden, directions = self.b, self.tiling.gates, self.tiling.hidden, weight.type.static_shape[0]
        ordered, parts = self.order(weight), []
        for s in self.tiling.segments:
            start, end = s.start * gates, (s.start + s.blocks * s.size) * gates
            part = ordered if end - start == gates * hidden else b.op("Slice", ordered, b.const([start]), b.const([end]), b.const([1]))
            rows = b.op("Reshape", part, b.const([directions, s.blocks, gates * s.size, hidden]))
            parts.append(b.op("Reshape", b.op("Transpose", rows, perm=(0, 1, 3, 2)), b.const([directions, -1])))
        flat = parts[0] if len(parts) == 1 else b.op("Concat", *parts, axis=1)
        return b.op("Reshape", flat, b.const([directions, hidden, gates * hidden]))
