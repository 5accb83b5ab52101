"""The schedule of contractions: one register-tiled nest for products, convolutions and attention.

    parallel over parts of the output                                 (contraction_plan)
      for tiles of rows x columns: accumulators in registers          (tile_model)
        for the reduction: accumulators += scalars x vectors          (the row's instruction)
        store what the epilogue makes of the accumulators

A reduction whose vectors do not fit the cache is divided: for each part of it, all tiles of the task.
The vector factor is packed where that pays (`vector_factor`); the scalar factor is read where it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, load, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import Mma
from ...compiler.kernel.nodes import Buffer, Dim, Expr, LoopKind, Read, Scope, Var
from ...compiler.kernel.traverse import free_vars, substitute, walk
from ...compiler.program.stages import Group, ScheduledKernel, Stage
from .contraction_form import Contraction, contraction_form
from .contraction_plan import COLUMNS, ROWS, first_and_count, known, plan_depth, plan_loops
from .emit_loops import VectorShape
from .loop_form import collapse
from .schedule_rows import Binder
from .tile_model import choose_tile
from .vector_factor import VectorFactor

UNROLL = 4
"""Steps of a long reduction loop that are written out."""
WHOLE_UNROLL = 16
"""Innermost reduction loops up to this extent are written out entirely."""


@dataclass(frozen=True, slots=True)
class ContractionTarget:
    """What the schedule knows of a machine."""

    rows: tuple[Mma, ...]
    """The instructions, best first for each type."""
    vector: VectorShape
    l2_bytes: int
    winograd: bool = True
    """Whether convolutions may be made by minimal filtering."""

    def row(self, operand: DType, accumulator: DType) -> Mma | None:
        """The row for a pair of types."""
        return next((r for r in self.rows if r.operand is operand and r.accumulator is accumulator and r.k == 1), None)


def schedule_contraction(group: Group, target: ContractionTarget, is_constant: Callable[[Value], bool]) -> Sequence[ScheduledKernel] | str:
    """Schedule a group of one contraction, or say why it is not one."""
    if len(group.stages) != 1 or group.stages[0].is_map:
        return "not one reduction"
    binder = Binder(group, is_constant)
    form = collapse((binder.form(group.stages[0]),))[0][0]
    row = target.row(form.term.dtype, form.term.dtype)
    if row is None:
        return f"no instruction for {form.term.dtype.label}"
    found = contraction_form(form, row.lanes, binder.in_blocks)
    if isinstance(found, str):
        return found
    return Tiles(group.stages[0], binder, found, row, target, is_constant).kernels()


class Tiles:
    """The schedule of one contraction, or of a part of one inside another kernel."""

    def __init__(
        self,
        stage: Stage,
        binder: Binder,
        found: Contraction,
        row: Mma,
        target: ContractionTarget,
        is_constant: Callable[[Value], bool],
        packed: str = "packed",
    ) -> None:
        self.stage, self.binder, self.contraction, self.row = stage, binder, found, row
        self.part: Expr | None = None
        """Number of the part of the reduction that is being emitted."""
        self.factor = VectorFactor(found, self.stage, binder, row.operand, name=packed)
        vectors = 1 if found.columns is None and found.is_depthwise else known(found.blocks)
        self.mr, self.nv = choose_tile(row, known(found.row_extent), vectors)
        self.depth = plan_depth(found, self.nv, target.l2_bytes) if self._result_is_local(is_constant) else None
        self.plan = plan_loops(found, self.mr, self.nv, target.l2_bytes, self.depth)

    def kernels(self) -> Sequence[ScheduledKernel]:
        """The kernel, after the one that packs if there is one."""
        k = KernelBuilder()
        iterations = self._emit(k)
        factor = self.factor
        values, buffers, packs = zip(*factor.bound([(v, self.binder.arguments[v.name], None) for v in self.binder.values]), strict=True)
        parts = "" if self.depth is None else f", depth={self.depth.count}"
        schedule = f"contract(mr={self.mr}, nv={self.nv}{parts}, mma={self.row.name}, pack={factor.buffer is not None})"
        kernel = k.kernel("contract", buffers, self.stage.loc, schedule)
        form = self.contraction.form
        products = build.product(d for _, d in (*form.axes, *form.reduce))
        work = build.dim(build.floordiv(build.index(products), int(self.contraction.lanes * self.row.fma_per_cycle)))
        return (*factor.kernels, ScheduledKernel(kernel, values, iterations, work, packs))

    def _emit(self, k: KernelBuilder) -> Dim:
        """Emit the parallel loop; returns its extent."""
        c = self.contraction
        extents = tuple(part.count for part in self.plan)
        with k.loop("p", build.product(extents), LoopKind.PARALLEL) as p, ExitStack() as names:
            at = tuple(_named(k, names, index) for index in build.delinearize(p, extents))
            where = {part.name: value for part, value in zip(self.plan, at, strict=True)}
            values: dict[Var, Expr] = {var: where[var.name] for var, _ in c.outer}
            first, count = first_and_count(self.plan, at, COLUMNS, c.blocks)
            start, rows = first_and_count(self.plan, at, ROWS, c.row_extent)
            rows = rows if isinstance(rows, int) else build.dim(_named(k, names, build.index(rows)))
            with self._depth_parts(k, values, at):
                if isinstance(c.blocks, int):
                    self._known_columns(k, values, first, start, rows)
                else:
                    self._unknown_columns(k, values, first, count, start, rows)
        return build.product(extents)

    def _result_is_local(self, is_constant: Callable[[Value], bool]) -> bool:
        """True if nothing but constants is read for the result, so that sums may wait in its place whatever shares its memory."""
        reads = {e.operand for e in walk(self.stage.nest.result) if isinstance(e, Read)}
        return all(is_constant(self.stage.operands[operand]) for operand in reads)

    @contextmanager
    def _depth_parts(self, k: KernelBuilder, values: dict[Var, Expr], at: tuple[Expr, ...]) -> Iterator[None]:
        """Loops over the parts of a divided reduction, and in each over the rows of the task."""
        if self.depth is None:
            yield
            return
        var, extent = next(loop for loop in self.contraction.outer if loop[0].name == self.depth.rows.name)
        first, count = first_and_count(self.plan, at, var.name, extent)
        with k.loop("kp", self.depth.count) as part, k.loop(var.name, count) as row:
            self.part = part
            values[var] = add(first, row)
            yield

    def emit_rows(self, k: KernelBuilder, values: dict[Var, Expr], start: Expr, rows: Dim) -> None:
        """Emit the tiles of some rows, with all columns, at some values of the outer loops."""
        count = build.dim(build.ceildiv(self.contraction.blocks, self.nv))
        with k.loop("ct", count) as tile:
            first = mul(tile, self.nv)
            if isinstance(self.contraction.blocks, int):
                self._known_columns(k, values, first, start, rows)
            else:
                left = build.sub(build.index(self.contraction.blocks), first)
                self._unknown_columns(k, values, first, build.dim(build.minimum(self.nv, left)), start, rows)

    # --- Tiles --------------------------------------------------------------------------------

    def _known_columns(self, k: KernelBuilder, values: dict[Var, Expr], first: Expr, start: Expr, rows: Dim) -> None:
        """Tiles over the columns of one part: a full tile, or the last one, which may be narrower."""
        total, is_partial = known(self.contraction.blocks), bool(self.contraction.columns_extent)
        full, rest = divmod(total, self.nv)
        if full == 0 or (rest == 0 and (full == 1 or not is_partial)):
            self._row_tiles(k, values, first, rest or self.nv, start, rows, is_partial)
            return
        last = rest or self.nv
        with k.when(build.lt(first, total - last)):
            self._row_tiles(k, values, first, self.nv, start, rows, False)
        with k.otherwise():
            self._row_tiles(k, values, first, last, start, rows, is_partial)

    def _unknown_columns(self, k: KernelBuilder, values: dict[Var, Expr], first: Expr, count: Dim, start: Expr, rows: Dim) -> None:
        """The same where the number of columns is determined at run time: the last tile goes block by block."""
        c = self.contraction
        is_partial = bool(c.columns_extent)
        whole = build.floordiv(build.index(c.columns_extent), c.lanes) if is_partial else build.index(c.blocks)
        with k.when(build.le(add(first, self.nv), whole)):
            self._row_tiles(k, values, first, self.nv, start, rows, False)
        with k.otherwise(), k.loop("cb", count) as block:
            self._row_tiles(k, values, add(first, block), 1, start, rows, is_partial)

    def _row_tiles(self, k: KernelBuilder, values: dict[Var, Expr], first: Expr, nv: int, start: Expr, rows: Dim, partial: bool) -> None:
        """Tiles over some rows, full ones first."""
        done: Expr = const(0)
        sizes = (self.mr, rows % self.mr) if isinstance(rows, int) else (self.mr, max(1, self.mr // 2), 1)
        for size in dict.fromkeys(s for s in sizes if s):
            count = build.dim(build.floordiv(build.sub(build.index(rows), done), size))
            if count == 0:
                continue
            with k.loop("rt", count) as tile, ExitStack() as names:
                self._tile(k, values, first, nv, _named(k, names, add(start, add(done, mul(tile, size)))), size, partial)
            done = add(done, mul(build.index(count), size))

    def _tile(self, k: KernelBuilder, values: dict[Var, Expr], first: Expr, nv: int, row: Expr, mr: int, partial: bool) -> None:
        """One tile: clear, reduce, store."""
        lanes = self.contraction.lanes
        with k.local(self.row.accumulator, mr * nv * lanes, "acc", Scope.REGISTER) as acc:

            def each(body: Callable[[Expr, Expr, Expr, Expr], None]) -> None:
                with (
                    k.loop("i", mr, LoopKind.UNROLL) as i,
                    k.loop("j", nv, LoopKind.UNROLL) as j,
                    k.loop("l", lanes, LoopKind.VECTOR) as lane,
                ):
                    body(add(mul(add(mul(i, nv), j), lanes), lane), add(row, i), add(first, j), lane)

            zero = const(0, self.row.accumulator)
            if self.part is None:
                each(lambda at, i, j, lane: k.store(acc, at, zero))
            else:
                with k.when(build.eq(self.part, 0)):
                    each(lambda at, i, j, lane: k.store(acc, at, zero))
                with k.otherwise():
                    each(lambda at, i, j, lane: k.store(acc, at, load(*self._place(values, i, j, lane))))
            with self._reduction(k) as step:
                each(lambda at, i, j, lane: k.store(acc, at, self._product(values | step, load(acc, at), i, j, lane, partial)))
            if self.part is None or self.depth is None:
                each(lambda at, i, j, lane: self._store(k, values, load(acc, at), i, j, lane, partial))
                return
            with k.when(build.eq(self.part, self.depth.count - 1)):
                each(lambda at, i, j, lane: self._store(k, values, load(acc, at), i, j, lane, partial))
            with k.otherwise():
                each(lambda at, i, j, lane: k.store(*self._place(values, i, j, lane), load(acc, at)))

    def _place(self, values: dict[Var, Expr], i: Expr, j: Expr, lane: Expr) -> tuple[Buffer, Expr]:
        """Where the result of a lane goes."""
        c = self.contraction
        form = c.form.substitute(values | c.at_row(i) | c.at_column(j, lane))
        return form.target, form.at

    def _product(self, values: dict[Var, Expr], acc: Expr, i: Expr, j: Expr, lane: Expr, partial: bool) -> Expr:
        scalar = self.contraction.scalar_at(values, i, j, lane, is_partial=partial)
        vector = self.factor.read(values, j, lane, partial)
        return self.row.step(acc, build.cast(scalar, self.row.operand), build.cast(vector, self.row.operand))

    def _store(self, k: KernelBuilder, values: dict[Var, Expr], acc: Expr, i: Expr, j: Expr, lane: Expr, partial: bool) -> None:
        c = self.contraction
        form = c.form.substitute(values | c.at_row(i) | c.at_column(j, lane))
        with k.when(c.is_column(j, lane)) if partial else ExitStack():
            k.store(form.target, form.at, substitute(form.result, {form.acc: acc}))

    @contextmanager
    def _reduction(self, k: KernelBuilder) -> Iterator[dict[Var, Expr]]:
        """Loops over the reduction; yields the indices of a step. Steps of the innermost loop are written out."""
        values: dict[Var, Expr] = {}
        with ExitStack() as loops:
            for position, (var, extent) in enumerate(self.contraction.form.reduce):
                if self.depth is not None and self.part is not None and var is self.depth.loop:
                    within = loops.enter_context(k.loop(var.name, self.depth.size))
                    values[var] = add(mul(self.part, self.depth.size), within)
                    continue
                is_last = position == len(self.contraction.form.reduce) - 1
                if is_last and isinstance(extent, int) and extent <= WHOLE_UNROLL:
                    values[var] = loops.enter_context(k.loop(var.name, extent, LoopKind.UNROLL))
                elif is_last and isinstance(extent, int) and extent % UNROLL == 0:
                    step = loops.enter_context(k.loop(var.name, extent // UNROLL))
                    values[var] = add(mul(step, UNROLL), loops.enter_context(k.loop("ku", UNROLL, LoopKind.UNROLL)))
                else:
                    values[var] = loops.enter_context(k.loop(var.name, extent))
            yield values


def _named(k: KernelBuilder, blocks: ExitStack, index: Expr) -> Expr:
    """An index by a name if it is computed from extents that are not known: else every address of a tile would repeat it."""
    is_known = isinstance(index, Var) or all(var.bound for var in free_vars(index))
    return index if is_known else blocks.enter_context(k.let(index))
