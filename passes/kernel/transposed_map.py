"""Write a map that reads across its output: neighbours in an operand lie far apart in the output, as in a transposition.

    for blocks of both axes, so long that cache lines are read and written whole
      for tiles of a block
        rows of the operands, as vectors, make square tiles in registers
        their columns, as vectors, are rows of the output: the rest of the expression is computed with them

A printer that knows vectors makes the columns of a tile with shuffles. The last tile of an axis begins where it ends with the
axis, and repeats elements of the one before. The order of blocks and tiles is that of Springer et al., "HPTT: A High-Performance
Tensor Transposition C++ Library", 2017. Stands beside `emit_loops.py`, for the schedule of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

from ...compiler.dtypes import DType, Kind
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, load, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nodes import Dim, Expr, Load, LoopKind, Scope, Select, Var
from ...compiler.kernel.traverse import children, map_expr, substitute
from .emit_loops import VectorShape, emit_map
from .loop_form import Loop, LoopForm, coefficient

LINE_BYTES = 64
"""Of a cache."""
LINES_READ, LINES_WRITTEN = 1, 2
"""Lines that a block is long along an operand's rows and along the output's. More rows than that are more pages than a core has at
hand, and where they are a power of two apart, more than a set of the cache holds."""
MAX_ROW_BYTES = 32
"""Rows of a tile; longer ones would need more registers than most machines have."""
MIN_SIDE, MAX_SIDE = 4, 16
"""Elements along either axis of a tile."""


@dataclass(frozen=True, slots=True)
class TransposedMap:
    """A map some of whose operands run along `row` while its output runs along `column`."""

    form: LoopForm
    """Its axes are those around the tiles, the number of a block of columns last; `row` and `column` are free in it."""
    row: Loop
    column: Loop
    side: int
    """Elements along either axis of a tile."""
    block: tuple[int, int]
    """Tiles of a block along the row and along the column."""

    def emit(self, k: KernelBuilder, outer: dict[Var, Expr]) -> None:
        """Emit the tiles.

        Args:
            k: where to.
            outer: values of the first axes, which have loops already.
        """
        with ExitStack() as around:
            inner = self.form.axes[len(outer) :]
            values = outer | {var: around.enter_context(k.loop(var.name, extent)) for var, extent in inner}
            form, left = self.form.substitute(values), mul(values[self.form.axes[-1][0]], self.block[1])
            unsure = [build.ge(build.index(extent), self.side) for _, extent in (self.row, self.column) if not isinstance(extent, int)]
            if not unsure:
                self._tiles(k, form, left)
                return
            with k.when(build.logical_and(*unsure)):
                self._tiles(k, form, left)
            with k.otherwise():
                self._elements(k, form, mul(left, self.side))

    def _tiles(self, k: KernelBuilder, form: LoopForm, left: Expr) -> None:
        """The tiles of a block of columns, from number `left` on."""
        (_, rows), (_, columns), (down, across) = self.row, self.column, self.block
        with k.loop("r", blocks(rows, down * self.side)) as r:
            top = mul(r, down)
            with k.loop("i", self._tiles_of(rows, top, down)) as i, k.loop("j", self._tiles_of(columns, left, across)) as j:
                self._tile(k, form, self._start(rows, add(top, i)), self._start(columns, add(left, j)))

    def _tiles_of(self, extent: Dim, first: Expr, block: int) -> Dim:
        """Tiles of the block that begins with tile number `first`."""
        count = blocks(extent, self.side)
        if isinstance(count, int) and count % block == 0:
            return block
        return build.dim(build.minimum(build.sub(build.index(count), first), block))

    def _start(self, extent: Dim, tile: Expr) -> Expr:
        """The first element of a tile."""
        start = mul(tile, self.side)
        if isinstance(extent, int) and extent % self.side == 0:
            return start
        return build.minimum(start, build.sub(build.index(extent), self.side))

    def _tile(self, k: KernelBuilder, form: LoopForm, top: Expr, left: Expr) -> None:
        """The tile that begins with element `top` of the row and `left` of the column."""
        row, column, side = self.row[0], self.column[0], self.side
        with ExitStack() as tiles:
            held = {at: tiles.enter_context(k.local(held_as(at.dtype), side * side, "tile", Scope.REGISTER)) for at in self._crossing(form)}
            with k.loop("u", side, LoopKind.UNROLL) as u, k.loop("l", side, LoopKind.VECTOR) as lane:
                for at, tile in held.items():
                    element = substitute(at, {row: add(top, lane), column: add(left, u)})
                    k.store(tile, add(mul(u, side), lane), build.cast(element, tile.dtype))
            with k.loop("u", side, LoopKind.UNROLL) as u, k.loop("l", side, LoopKind.VECTOR) as lane:
                values: dict[Expr, Expr] = {row: add(top, u), column: add(left, lane)}
                values |= {at: build.cast(load(tile, add(mul(lane, side), u)), at.dtype) for at, tile in held.items()}
                k.store(form.target, map_expr(form.at, values.get), map_expr(form.result, values.get))

    def _crossing(self, form: LoopForm) -> list[Load]:
        return crossing_loads(form, self.row[0], self.column[0])

    def _elements(self, k: KernelBuilder, form: LoopForm, left: Expr) -> None:
        """A block of columns without tiles, where an axis turns out to be too short for one."""
        (column, extent), part = self.column, Var(f"{self.column[0].name}p")
        size = build.dim(build.minimum(build.sub(build.index(extent), left), self.block[1] * self.side))
        emit_map(k, form.substitute({column: add(left, part)}), (self.row, (part, size)), self.side)


def blocks(extent: Dim, size: int) -> Dim:
    """How many blocks of a size cover an extent."""
    return build.dim(build.ceildiv(extent, size))


def held_as(dtype: DType) -> DType:
    """The type of a tile: vectors of truth values and of codes below a byte are no bytes in registers."""
    if dtype.kind is Kind.BOOL or dtype.bits < 8:
        return DType.INT8 if dtype.is_int and dtype.is_signed else DType.UINT8
    return dtype


# --- Which maps these are ---------------------------------------------------------------------


def find_transposed_map(form: LoopForm, vector: VectorShape) -> TransposedMap | None:
    """The form as tiles, None if no operand lies across or tiles do not fit."""
    if form.combine is not None or not vector.bits or len(form.axes) < 2:
        return None
    *outer, column = form.axes
    if coefficient(form.at, column[0]) is not const(1):
        return None
    row = next((loop for loop in reversed(outer) if crossing_loads(form, loop[0], column[0])), None)
    if row is None:
        return None
    read, written = max(at.dtype.bytes for at in crossing_loads(form, row[0], column[0])), form.target.dtype.bytes
    side = _side(max(read, written), row, column, vector)
    if side < MIN_SIDE:
        return None
    is_whole = all(isinstance(extent, int) and extent % side == 0 for _, extent in (row, column))
    if not is_whole and any(at.buffer is form.target for at in form.loads()):
        return None  # elements would be read again after they are written over
    block = max(1, LINES_READ * LINE_BYTES // (side * read)), max(1, LINES_WRITTEN * LINE_BYTES // (side * written))
    count = blocks(column[1], block[1] * side)
    number = build.loop_var(f"{column[0].name}b", count)
    around = (*(loop for loop in outer if loop is not row), (number, count))
    return TransposedMap(replace(form, axes=around), row, column, side, block)


def _side(width: int, row: Loop, column: Loop, vector: VectorShape) -> int:
    side = min(MAX_SIDE, min(vector.bits // 8, MAX_ROW_BYTES) // width)
    while side > min(extent for extent in (row[1], column[1], side) if isinstance(extent, int)):
        side //= 2
    return side


def crossing_loads(form: LoopForm, row: Var, column: Var) -> list[Load]:
    """The loads that run along `row`, and whose neighbours along `column` are far apart; those of a branch are no part of this."""
    return [
        at
        for at in _performed(form.result)
        if at.mask is None
        and coefficient(at.index, row) is const(1)
        and (step := coefficient(at.index, column)) is not None
        and step not in (const(0), const(1), const(-1))
    ]


def _performed(root: Expr) -> Iterator[Load]:
    """The distinct loads that are performed whatever selects choose, outer ones only."""
    seen: set[Expr] = set()
    stack = [root]
    while stack:
        e = stack.pop()
        if e in seen:
            continue
        seen.add(e)
        if isinstance(e, Load):
            yield e
        else:
            stack.extend((e.cond,) if isinstance(e, Select) else children(e))
