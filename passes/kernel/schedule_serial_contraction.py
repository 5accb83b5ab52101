"""The schedule of contractions for one thread without wide vectors: tiles of scalars, windows without tests.

    for outer loops
      for tiles of rows whose windows lie inside, for tiles of columns: accumulators in registers    (tile_model)
        for the reduction: accumulators += scalars x columns                                         (the row's instruction)
        store what the epilogue makes of the accumulators
      for the other rows, one by one: the same, with bounds on the taps                              (window_bounds)

Loops are nested as they are written: nothing runs in parallel, so no index is divided. Rows are outside of columns, so that
the output may follow the data in the same memory (`find_leads`). A constant factor is
packed at compile time, and a computed one is read where it lies: memory is scarcer than time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, load, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import Mma
from ...compiler.kernel.nodes import Cast, Dim, Expr, LoopKind, Scope, Select, Var
from ...compiler.kernel.traverse import free_vars, substitute
from ...compiler.program.stages import Group, ScheduledKernel
from ...compiler.program.weights import Pack
from .contraction_form import Contraction, contraction_form, single_load
from .contraction_plan import known
from .find_leads import with_leads
from .loop_form import Loop, LoopForm, collapse, stride
from .schedule_rows import Binder, total_work
from .tile_model import choose_tile
from .vector_factor import VectorFactor
from .window_bounds import Windows, find_windows, tap_loop

MAX_TERMS = 16
"""Multiply-adds that are written out in one loop body."""
WHOLE_TERMS = 64
"""The same where that removes the loop."""


def schedule_serial_contraction(group: Group, rows: Sequence[Mma], is_constant: Callable[[Value], bool]) -> Sequence[ScheduledKernel] | str:
    """Schedule a group of one contraction, or say why it is not one.

    Args:
        group: what to schedule.
        rows: the instructions of the target.
        is_constant: whether a value is known at compile time.
    """
    if len(group.stages) != 1 or group.stages[0].is_map:
        return "not one reduction"
    binder = Binder(group, is_constant)
    form = collapse((binder.form(group.stages[0]),))[0][0]
    row = next((r for r in rows if r.operand is r.accumulator is form.term.dtype and r.k == 1), None)
    if row is None:
        return f"no instruction for {form.term.dtype.label}"
    found = contraction_form(form, row.lanes, binder.in_blocks)
    if isinstance(found, str):
        return found
    found = replace(found, form=_in_order_of_memory(found))
    return (_Tiles(group, binder, found, row).kernel(),)


def _in_order_of_memory(c: Contraction) -> LoopForm:
    """The reduction with the shortest steps through the scalar factor innermost."""
    factor = c.scalar.value if isinstance(c.scalar, Cast) else c.scalar
    source = single_load(factor.then if isinstance(factor, Select) else factor)
    steps = {var: None if source is None else stride(source.index, var) for var, _ in c.form.reduce}
    if any(step is None for step in steps.values()):
        return c.form
    return replace(c.form, reduce=tuple(sorted(c.form.reduce, key=lambda loop: -abs(steps[loop[0]] or 0))))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a tile stands."""

    values: dict[Var, Expr]
    """Values of the outer loops."""
    first: Expr
    """The first block of columns."""
    nv: int
    is_partial: bool
    """Whether lanes may lie beyond the columns."""


class _Tiles:
    """The schedule of one contraction."""

    def __init__(self, group: Group, binder: Binder, found: Contraction, row: Mma) -> None:
        self.group, self.stage, self.binder, self.row = group, group.stages[0], binder, row
        loops = {var for var, _ in (*found.form.axes, *found.form.reduce)}
        symbols = [var for var in free_vars(found.scalar, found.vector) if var not in loops]
        around = [*(var for var, _ in found.outer), *symbols]
        scalar = find_windows(found.scalar, found.form.reduce, around, found.rows)
        vector = find_windows(found.vector, found.form.reduce, around, found.rows)
        self.windows = Windows(scalar.factor, scalar.tests + vector.tests)
        self.contraction = found = replace(found, scalar=scalar.factor, vector=vector.factor)
        self.factor = VectorFactor(found, self.stage, binder, row.operand, may_copy=False)
        self.inside = self._inside()
        vectors = 1 if found.columns is None and found.is_depthwise else known(found.blocks)
        first, end = self.inside or (0, known(found.row_extent))
        self.mr, self.nv = choose_tile(row, max(1, end - first), vectors)

    def _inside(self) -> tuple[int, int] | None:
        """Rows whose windows lie inside; None if all do."""
        rows = self.contraction.rows
        if rows is None or not isinstance(rows[1], int):
            return None
        found = self.windows.inside(rows, self.contraction.form.reduce)
        return None if found == (0, rows[1]) else found

    def kernel(self) -> ScheduledKernel:
        """The kernel, with how its constant factor is packed."""
        k = KernelBuilder()
        self._emit(k)
        values = list(self.binder.values)
        buffers = [self.binder.arguments[v.name] for v in values]
        packs: list[Pack | None] = [None] * len(values)
        if self.factor.packed_value is not None and self.factor.buffer is not None:
            place = values.index(self.factor.packed_value)
            buffers[place], packs[place] = self.factor.buffer, self.factor.pack
        schedule = f"contract(mr={self.mr}, nv={self.nv}, mma={self.row.name}, pack={self.factor.buffer is not None})"
        kernel = k.kernel("contract", tuple(buffers), self.stage.loc, schedule)
        made = ScheduledKernel(kernel, tuple(values), 1, build.dim(total_work(self.group)), tuple(packs))
        rows = () if self.contraction.rows is None else (self.contraction.rows,)
        together = self.mr if self.inside is None else known(self.contraction.row_extent)
        return with_leads(made, self.contraction.form, (*self.contraction.outer, *rows), self.stage.value, together)

    # --- Loops around the tiles ---------------------------------------------------------------

    def _emit(self, k: KernelBuilder) -> None:
        """The nest of outer loops."""
        with ExitStack() as loops:
            values: dict[Var, Expr] = {var: loops.enter_context(k.loop(var.name, extent)) for var, extent in self.contraction.outer}
            self._rows(k, values)

    def _rows(self, k: KernelBuilder, values: dict[Var, Expr]) -> None:
        """Tiles of the rows whose windows lie inside, then the others one by one."""
        extent = self.contraction.row_extent
        first, end = self.inside or (0, extent)
        inner = build.dim(build.sub(build.index(end), first))
        full = build.dim(build.floordiv(build.index(inner), self.mr))
        if full != 0:
            with k.loop("rt", full) as tile:
                self._columns(k, values, add(mul(tile, self.mr), first), self.mr, True)
        done = add(mul(build.index(full), self.mr), first)
        rest = build.dim(build.sub(build.index(extent), mul(build.index(full), self.mr)))
        if rest == 0:
            return
        if self.inside is None and isinstance(rest, int):
            self._columns(k, values, done, rest, True)
            return
        with k.loop("r", rest) as one:
            row: Expr = add(done, one)
            if self.inside is not None and first:
                row = build.select(build.lt(one, first), one, add(one, build.sub(done, first)))
            self._columns(k, values, row, 1, False)

    def _columns(self, k: KernelBuilder, values: dict[Var, Expr], row: Expr, mr: int, is_inside: bool) -> None:
        """Full tiles of columns, then what is left, block by block if that is not known."""
        c = self.contraction
        has_partial = bool(c.columns_extent)
        whole: Dim = c.blocks
        if has_partial:
            whole = build.dim(build.floordiv(build.index(c.columns_extent), c.lanes))
        full = build.dim(build.floordiv(build.index(whole), self.nv))
        if full != 0:
            with k.loop("ct", full) as tile:
                self._tile(k, _Place(values, mul(tile, self.nv), self.nv, False), row, mr, is_inside)
        done = mul(build.index(full), self.nv)
        rest = build.dim(build.sub(build.index(c.blocks), done))
        if rest == 0:
            return
        if isinstance(rest, int):
            self._tile(k, _Place(values, done, rest, has_partial), row, mr, is_inside)
            return
        with k.loop("cb", rest) as one:
            self._tile(k, _Place(values, add(done, one), 1, has_partial), row, mr, is_inside)

    # --- One tile -----------------------------------------------------------------------------

    def _tile(self, k: KernelBuilder, place: _Place, row: Expr, mr: int, is_inside: bool) -> None:
        """Clear, reduce, store. Outside of the inner rows there is one row, whose value bounds the taps."""
        lanes = self.contraction.lanes
        with k.local(self.row.accumulator, mr * place.nv * lanes, "acc", Scope.REGISTER) as acc:

            def each(body: Callable[[Expr, Expr, Expr, Expr], None]) -> None:
                with (
                    k.loop("i", mr, LoopKind.UNROLL) as i,
                    k.loop("j", place.nv, LoopKind.UNROLL) as j,
                    k.loop("l", lanes, LoopKind.UNROLL) as lane,
                ):
                    body(add(mul(add(mul(i, place.nv), j), lanes), lane), add(row, i), add(place.first, j), lane)

            zero = const(0, self.row.accumulator)
            each(lambda at, i, j, lane: k.store(acc, at, zero))
            around = place.values | self.contraction.at_row(row)
            with self._reduction(k, around, mr * place.nv * lanes, is_inside) as step:
                each(lambda at, i, j, lane: k.store(acc, at, self._product(place, step, load(acc, at), i, j, lane)))
            each(lambda at, i, j, lane: self._store(k, place, load(acc, at), i, j, lane))

    def _product(self, place: _Place, step: dict[Var, Expr], acc: Expr, i: Expr, j: Expr, lane: Expr) -> Expr:
        values = place.values | step
        scalar = self.contraction.scalar_at(values, i, j, lane, is_partial=place.is_partial)
        vector = self.factor.read(values, j, lane, place.is_partial)
        return self.row.step(acc, build.cast(scalar, self.row.operand), build.cast(vector, self.row.operand))

    def _store(self, k: KernelBuilder, place: _Place, acc: Expr, i: Expr, j: Expr, lane: Expr) -> None:
        c = self.contraction
        form = c.form.substitute(place.values | c.at_row(i) | c.at_column(j, lane))
        with k.when(c.is_column(j, lane)) if place.is_partial else ExitStack():
            k.store(form.target, form.at, substitute(form.result, {form.acc: acc}))

    @contextmanager
    def _reduction(self, k: KernelBuilder, around: dict[Var, Expr], terms: int, is_inside: bool) -> Iterator[dict[Var, Expr]]:
        """Loops over the reduction; yields the indices of a step. Steps of the innermost loop are written out."""
        rows = self.contraction.rows
        skip = rows[0] if rows is not None and is_inside else None
        values: dict[Var, Expr] = {}
        with ExitStack() as loops:
            for position, loop in enumerate(self.contraction.form.reduce):
                first, count = self.windows.range(loop, around, skip)
                if position == len(self.contraction.form.reduce) - 1 and count is build.index(loop[1]):
                    values[loop[0]] = self._innermost(k, loops, loop, terms)
                else:
                    values[loop[0]] = add(first, loops.enter_context(tap_loop(k, loop, count)))
            yield values

    def _innermost(self, k: KernelBuilder, loops: ExitStack, loop: Loop, terms: int) -> Expr:
        """The index of the innermost loop, all or some of whose steps are written out."""
        var, extent = loop
        if not isinstance(extent, int):
            return loops.enter_context(k.loop(var.name, extent))
        if extent * terms <= WHOLE_TERMS:
            return loops.enter_context(k.loop(var.name, extent, LoopKind.UNROLL))
        steps = max(n for n in range(1, max(1, MAX_TERMS // terms) + 1) if extent % n == 0)
        outer = loops.enter_context(k.loop(var.name, extent // steps))
        return add(mul(outer, steps), loops.enter_context(k.loop("ku", steps, LoopKind.UNROLL)))
