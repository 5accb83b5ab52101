"""The schedule of contractions on a grid: a tile of the output for each block, operands through shared memory.

    grid over batches, tiles of rows, tiles of columns; block of 16 x 16 threads
      accumulators in registers
      for slices of the reduction:
        all threads: the slices of both factors -> shared memory
        barrier; each thread: accumulators += row values x column values; barrier
      store what the epilogue makes of the accumulators

Rows are the output loops that occur in one factor only, columns those that occur in the other only and hold
the last output loop; both are numbered through, so convolutions (whose rows or columns are windows of an
image) are the same case as products. Method: the two-level tiling of V. Volkov and J. Demmel, Benchmarking
GPUs to tune dense linear algebra, SC 2008.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, load, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nest import Combine
from ...compiler.kernel.nodes import Barrier, Binary, BinaryOp, Buffer, Cast, Dim, Expr, Load, LoopKind, MathFn, Scope, Var
from ...compiler.kernel.traverse import free_vars, substitute, walk
from ...compiler.program.stages import Group, ScheduledKernel
from .loop_form import Loop, LoopForm, collapse, stride
from .schedule_rows import Binder, total_work

SIDE = 16
"""Threads of a block along rows and along columns."""
THREADS = SIDE * SIDE
DEPTH = 16
"""Steps of the reduction in one slice."""
TILES = (128, 64, 32, 16)
"""Extents of a tile along rows or columns, largest first."""
ENOUGH_BLOCKS = 128
"""Blocks that a large tile must leave: about as many as there are multiprocessors."""
LEAST = 8
"""Rows, columns and terms below which a tile is mostly empty."""


@dataclass(frozen=True, slots=True)
class Side:
    """The rows or the columns of the output."""

    factor: Expr
    loops: tuple[Loop, ...]

    @property
    def extent(self) -> Dim:
        """How many there are."""
        return build.product(extent for _, extent in self.loops)


@dataclass(frozen=True, slots=True)
class Split:
    """A loop form as a product of rows and columns."""

    form: LoopForm
    rows: Side
    columns: Side
    batch: tuple[Loop, ...]
    """Output loops that occur in both factors, or in neither."""


def schedule_grid_contraction(group: Group, is_constant: Callable[[Value], bool]) -> ScheduledKernel | str:
    """Schedule a group of one contraction, or say why it is not one."""
    if len(group.stages) != 1 or group.stages[0].is_map:
        return "not one reduction"
    binder = Binder(group, is_constant)
    found = split_form(collapse((binder.form(group.stages[0]),))[0][0])
    if isinstance(found, str):
        return found
    k = KernelBuilder()
    tiles = _Tiles(k, found)
    tiles.emit()
    schedule = f"tiles(rows={tiles.rows}, columns={tiles.columns}, depth={DEPTH})"
    kernel = k.kernel("tiles", tuple(binder.arguments.values()), group.stages[0].loc, schedule)
    return ScheduledKernel(kernel, tuple(binder.values), tiles.blocks, build.dim(total_work(group)))


def split_form(form: LoopForm) -> Split | str:
    """Tell rows from columns, or say why the form has no tiles."""
    factors = _factors(form)
    if factors is None:
        return "not a sum of products"
    used = [set(free_vars(factor)) for factor in factors]
    only = [tuple(loop for loop in form.axes if loop[0] in used[k] and loop[0] not in used[1 - k]) for k in (0, 1)]
    taken = {loop[0] for loops in only for loop in loops}
    batch = tuple(loop for loop in form.axes if loop[0] not in taken)
    last = form.axes[-1] if form.axes else None
    column = 0 if last in only[0] else 1
    rows, columns = Side(factors[1 - column], only[1 - column]), Side(factors[column], only[column])
    depth = build.product(extent for _, extent in form.reduce)
    if any(isinstance(extent, int) and extent < LEAST for extent in (rows.extent, columns.extent, depth)):
        return "too small for tiles"
    return Split(form, rows, columns, batch)


def _factors(form: LoopForm) -> tuple[Expr, Expr] | None:
    """The factors of the term, in the type in which it is summed."""
    term = form.term
    body = term.value if isinstance(term, Cast) else term
    summed = form.combine is Combine.SUM and not form.in_order and (term.dtype.is_float or term.dtype.is_int)
    if not summed or not isinstance(body, Binary) or body.op is not BinaryOp.MUL:
        return None
    if body.dtype.is_int and term.dtype is not body.dtype:
        return None  # the product may wrap in the narrow type
    return build.cast(body.a, term.dtype), build.cast(body.b, term.dtype)


class _Tiles:
    """Emits the kernel of one contraction."""

    def __init__(self, k: KernelBuilder, split: Split) -> None:
        self.k, self.split, self.form = k, split, split.form
        self.dtype = split.form.term.dtype
        self.depth = build.product(extent for _, extent in split.form.reduce)
        batch = build.product(extent for _, extent in split.batch)
        largest = TILES[0] if self.dtype.bytes <= 4 else TILES[1]
        self.rows, self.columns = choose_tile(batch, split.rows.extent, split.columns.extent, largest)
        self.grid = (batch, _tiles(split.rows.extent, self.rows), _tiles(split.columns.extent, self.columns))
        self.blocks = build.product(self.grid)
        self.mine = self.rows // SIDE, self.columns // SIDE

    def emit(self) -> None:
        """The whole body."""
        k = self.k
        with k.loop("block", self.blocks, LoopKind.GRID) as at, k.loop("thread", THREADS, LoopKind.BLOCK) as thread:
            batch, row_tile, column_tile = build.delinearize(at, self.grid)
            first = mul(row_tile, self.rows), mul(column_tile, self.columns)
            places = _at(self.split.batch, batch)
            with (
                k.local(self.dtype, DEPTH * (self.rows + 1), "row_slice", Scope.SHARED) as rows,
                k.local(self.dtype, DEPTH * (self.columns + 1), "column_slice", Scope.SHARED) as columns,
                k.local(self.dtype, self.mine[0] * self.mine[1], "acc", Scope.REGISTER) as acc,
            ):
                self._each(lambda slot, i, j: k.store(acc, slot, const(0, self.dtype)))
                with k.loop("slice", build.dim(build.ceildiv(self.depth, DEPTH))) as step:
                    start = mul(step, DEPTH)
                    self._fetch(rows, self.rows, self.split.rows, places, first[0], start, thread)
                    self._fetch(columns, self.columns, self.split.columns, places, first[1], start, thread)
                    k.emit(Barrier())
                    self._multiply(acc, rows, columns, thread)
                    k.emit(Barrier())
                self._finish(acc, places, first, thread)

    def _each(self, body: Callable[[Expr, Expr, Expr], None]) -> None:
        """The results of one thread: body(number, row number, column number)."""
        with self.k.loop("i", self.mine[0], LoopKind.UNROLL) as i, self.k.loop("j", self.mine[1], LoopKind.UNROLL) as j:
            body(add(mul(i, self.mine[1]), j), i, j)

    def _fetch(self, target: Buffer, extent: int, side: Side, places: dict[Var, Expr], first: Expr, start: Expr, thread: Var) -> None:
        """A slice of one factor into shared memory, `target[step, place]`; zeros beyond the ends."""
        k, form = self.k, self.form
        with k.loop("fetch", extent * DEPTH // THREADS, LoopKind.UNROLL) as turn:
            at = add(mul(turn, THREADS), thread)
            if _runs_along(side.factor, form.reduce[-1][0]) and not _runs_along(side.factor, side.loops[-1][0]):
                place, step = build.delinearize(at, (extent, DEPTH))
            else:
                step, place = build.delinearize(at, (DEPTH, extent))
            value = self._factor(side, places, add(first, place), add(start, step), extent)
            k.store(target, add(mul(step, extent + 1), place), value)

    def _factor(self, side: Side, places: dict[Var, Expr], at: Expr, term: Expr, tile: int) -> Expr:
        inside: Expr = build.TRUE
        if not _divides(tile, side.extent):
            inside = build.logical_and(inside, build.lt(at, build.index(side.extent)))
        if not _divides(DEPTH, self.depth):
            inside = build.logical_and(inside, build.lt(term, build.index(self.depth)))
        known = places | _at(side.loops, at) | _at(self.form.reduce, term)
        return build.select(inside, substitute(side.factor, known), const(0, self.dtype))

    def _multiply(self, acc: Buffer, rows: Buffer, columns: Buffer, thread: Var) -> None:
        ty, tx = build.delinearize(thread, (SIDE, SIDE))
        with self.k.loop("k", DEPTH, LoopKind.UNROLL) as step:

            def product(slot: Expr, i: Expr, j: Expr) -> None:
                a = load(rows, add(mul(step, self.rows + 1), add(mul(i, SIDE), ty)))
                b = load(columns, add(mul(step, self.columns + 1), add(mul(j, SIDE), tx)))
                self.k.store(acc, slot, _multiply_add(a, b, load(acc, slot)))

            self._each(product)

    def _finish(self, acc: Buffer, places: dict[Var, Expr], first: tuple[Expr, Expr], thread: Var) -> None:
        """Epilogue and store, where the tile lies inside the output."""
        ty, tx = build.delinearize(thread, (SIDE, SIDE))
        rows, columns = self.split.rows, self.split.columns

        def store(slot: Expr, i: Expr, j: Expr) -> None:
            row, column = add(first[0], add(mul(i, SIDE), ty)), add(first[1], add(mul(j, SIDE), tx))
            form = self.form.substitute(places | _at(rows.loops, row) | _at(columns.loops, column))
            inside = build.logical_and(
                build.TRUE if _divides(self.rows, rows.extent) else build.lt(row, build.index(rows.extent)),
                build.TRUE if _divides(self.columns, columns.extent) else build.lt(column, build.index(columns.extent)),
            )
            value = substitute(form.result, {form.acc: load(acc, slot)})
            if inside is build.TRUE:
                self.k.store(form.target, form.at, value)
                return
            with self.k.when(inside):
                self.k.store(form.target, form.at, value)

        self._each(store)


def choose_tile(batch: Dim, rows: Dim, columns: Dim, largest: int) -> tuple[int, int]:
    """Extents of a tile: those up to `largest` that are not mostly empty and leave enough blocks."""
    best = _longest_side(rows, largest), _longest_side(columns, largest)
    while best[0] * best[1] > 32 * 32:
        blocks = build.product((batch, _tiles(rows, best[0]), _tiles(columns, best[1])))
        if not isinstance(blocks, int) or blocks >= ENOUGH_BLOCKS:
            break
        best = (best[0] // 2, best[1]) if best[0] >= best[1] else (best[0], best[1] // 2)
    return best


def _longest_side(extent: Dim, largest: int) -> int:
    """The largest extent of a tile that is at least half filled; a middle one where the extent is unknown."""
    if not isinstance(extent, int):
        return TILES[1]
    return next(tile for tile in TILES if tile <= largest and (tile < 2 * extent or tile == TILES[-1]))


def _tiles(extent: Dim, tile: int) -> Dim:
    return build.dim(build.ceildiv(extent, tile))


def _divides(tile: int, extent: Dim) -> bool:
    return isinstance(extent, int) and extent % tile == 0


def _at(loops: tuple[Loop, ...], at: Expr) -> dict[Var, Expr]:
    values = build.delinearize(at, tuple(extent for _, extent in loops))
    return dict(zip((var for var, _ in loops), values, strict=True))


def _runs_along(factor: Expr, var: Var) -> bool:
    """True if neighbours of a factor in memory are neighbours along a loop."""
    return any(isinstance(e, Load) and stride(e.index, var) == 1 for e in walk(factor))


def _multiply_add(a: Expr, b: Expr, c: Expr) -> Expr:
    return build.math_fn(MathFn.FMA, a, b, c) if a.dtype.is_float else add(c, mul(a, b))
