"""The schedule of contractions: one register-tiled nest for products, convolutions and attention.

    parallel over blocks of the output
      for tiles of rows x columns: accumulators in registers
        for the reduction: accumulators += scalars x vectors          (the row's instruction)
        store what the epilogue makes of the accumulators

A constant vector factor is packed when compiling. One that is computed is packed by a kernel of its own if
its lanes are not neighbours in memory. Tile sizes come from `tile_model`, the order of the outer loops from
what has to pass through the cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import TensorType, Value
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, load, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import Mma
from ...compiler.kernel.nodes import Buffer, Const, Dim, Expr, LoopKind, Scope, Var
from ...compiler.kernel.traverse import free_vars, map_expr, substitute
from ...compiler.program.stages import Group, Pack, ScheduledKernel
from .contraction_form import Contraction, contraction_form, single_load
from .emit_loops import VectorShape, emit_map, over
from .loop_form import Loop, LoopForm, collapse, coefficient, stride
from .pack_constant import Limit, StridedPack
from .schedule_rows import Binder, schedule_rows
from .tile_model import choose_tile

UNKNOWN_EXTENT = 48
"""Rows and vectors assumed for the choice of a tile when an extent is not known."""
UNROLL = 4
"""Steps of a long reduction loop that are written out."""
WHOLE_UNROLL = 16
"""Innermost reduction loops up to this extent are written out entirely."""
ENOUGH_TASKS = 16
"""Parallel iterations to aim for."""


@dataclass(frozen=True, slots=True)
class ContractionTarget:
    """What the schedule knows of a machine."""

    rows: tuple[Mma, ...]
    """The instructions, best first for each type."""
    vector: VectorShape
    l2_bytes: int

    def row(self, operand: DType, accumulator: DType) -> Mma | None:
        """The row for a pair of types."""
        return next((r for r in self.rows if r.operand is operand and r.accumulator is accumulator and r.k == 1), None)


def schedule_contraction(
    group: Group, target: ContractionTarget, is_constant: Callable[[Value], bool]
) -> Sequence[ScheduledKernel] | str:
    """Schedule a group of one contraction, or say why it is not one."""
    if len(group.stages) != 1 or group.stages[0].is_map:
        return "not one reduction"
    binder = Binder(group, is_constant)
    form = collapse((binder.form(group.stages[0]),))[0][0]
    row = target.row(form.term.dtype, form.term.dtype)
    if row is None:
        return f"no instruction for {form.term.dtype.label}"
    found = contraction_form(form, row.lanes)
    if isinstance(found, str):
        return found
    return _Tiles(group, binder, found, row, target).kernels()


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of the output as blocks of lanes."""

    blocks: Dim
    """Number of blocks."""
    extent: Dim
    """Number of columns if the last block may be partly filled, else 0."""


class _Tiles:
    """The schedule of one contraction."""

    def __init__(self, group: Group, binder: Binder, found: Contraction, row: Mma, target: ContractionTarget) -> None:
        self.group, self.binder, self.target = group, binder, target
        self.lanes = _lanes(found.lane[1], row.lanes)
        self.row = replace(row, lanes=self.lanes)
        self.contraction = found
        self.form = found.form
        self.columns = self._column_blocks()
        rows = found.rows[1] if found.rows else 1
        self.mr, self.nv = choose_tile(
            self.row, rows if isinstance(rows, int) else UNKNOWN_EXTENT, self._known(self.columns.blocks) if self._may_widen() else 1
        )
        self.vector: Callable[[dict[Var, Expr], Expr, Expr], Expr] = self._vector_in_place
        self.packs: dict[str, Pack] = {}
        self.extra: list[ScheduledKernel] = []
        self.scratch: tuple[Value, Buffer] | None = None

    def _may_widen(self) -> bool:
        return self.contraction.columns is not None or not self.contraction.is_depthwise

    def _known(self, extent: Dim) -> int:
        return extent if isinstance(extent, int) else UNKNOWN_EXTENT

    def _column_blocks(self) -> _Columns:
        c = self.contraction
        if c.columns is not None:
            return _Columns(c.columns[1], 0)
        blocks = build.dim(build.ceildiv(c.lane[1], self.lanes))
        even = isinstance(c.lane[1], int) and c.lane[1] % self.lanes == 0
        return _Columns(blocks, 0 if even else c.lane[1])

    # --- Kernels ------------------------------------------------------------------------------

    def kernels(self) -> Sequence[ScheduledKernel]:
        """The kernel, after the one that packs if there is one."""
        self._choose_packing()
        k = KernelBuilder()
        iterations = self._emit(k)
        arguments = dict(self.binder.arguments)
        values = list(self.binder.values)
        packs: list[Pack | None] = [self.packs.get(v.name) for v in values]
        buffers = [self._packed_buffer(v, arguments[v.name]) for v in values]
        if self.scratch is not None:
            values.insert(0, self.scratch[0])
            buffers.insert(0, self.scratch[1])
            packs.insert(0, None)
        schedule = f"contract(mr={self.mr}, nv={self.nv}, mma={self.row.name}, pack={bool(self.packs or self.extra)})"
        kernel = k.kernel("contract", tuple(buffers), self.group.stages[0].loc, schedule)
        work = build.product((*(d for _, d in self.form.axes), *(d for _, d in self.form.reduce)))
        return (*self.extra, ScheduledKernel(kernel, tuple(values), iterations, work, tuple(packs)))

    def _packed_buffer(self, value: Value, buffer: Buffer) -> Buffer:
        return self._packed[1] if value.name in self.packs else buffer

    # --- Packing ------------------------------------------------------------------------------

    def _choose_packing(self) -> None:
        source = single_load(self.contraction.vector)
        lane = self.contraction.lane[0]
        if source is None:
            return
        if source.buffer.scope is Scope.CONST and self._pack_constant(source):
            return
        if stride(source.index, lane) != 1:
            self._pack_at_run_time(source)

    def _packed_loops(self) -> tuple[Loop, ...]:
        """Loops that the packed factor is walked by, without column blocks and lanes."""
        used = free_vars(self.contraction.vector)
        return tuple(loop for loop in self.contraction.outer if loop[0] in used)

    def _pack_constant(self, source: object) -> bool:
        from ...compiler.kernel.nodes import Load

        assert isinstance(source, Load)
        value = next(v for v, b in zip(self.binder.values, self.binder.arguments.values(), strict=True) if b is source.buffer)
        outer = self._packed_loops()
        c = self.contraction
        loops = [*outer, *self.form.reduce]
        if not all(isinstance(d, int) for _, d in (*loops, c.lane)) or not isinstance(self.columns.blocks, int):
            return False
        steps = [stride(source.index, var) for var, _ in loops]
        lane_step = stride(source.index, c.lane[0])
        block_step = stride(source.index, c.columns[0]) if c.columns else None
        if lane_step is None or any(s is None for s in steps):
            return False
        if c.columns is None:
            block_step = lane_step * self.lanes
        start = substitute(source.index, {var: const(0) for var, _ in (*loops, c.lane, *((c.columns,) if c.columns else ()))})
        if block_step is None or not isinstance(start, Const):
            return False
        others = [v for v in self.group.stages[0].operands if v == value]
        if len(others) != 1 or sum(at.buffer is source.buffer for at in self.form.loads()) != 1:
            return False
        dims = (*(int(d) for _, d in outer), self.columns.blocks, *(int(d) for _, d in self.form.reduce), self.lanes)  # type: ignore[call-overload]
        known = [s for s in steps if s is not None]
        packed_steps = (*known[: len(outer)], block_step, *known[len(outer) :], lane_step)
        limits = self._limits(outer, len(dims))
        self._set_packed(value, StridedPack(dims, packed_steps, int(start.value), limits, self.row.operand))
        return True

    def _limits(self, outer: tuple[Loop, ...], rank: int) -> tuple[Limit, ...]:
        """Where the packed array ends before its last block does: columns, and a blocked reduction."""
        limits = [*self._column_limit(outer, rank)]
        stage = self.group.stages[0]
        reduce = self.form.reduce
        if len(reduce) > 1 and reduce[0][0].name[:-1] == reduce[-1][0].name[:-1] and reduce[0][0].name.endswith("o"):
            original = dict(zip((v.name for v in stage.nest.reduce_axes), stage.nest.reduce_shape, strict=True))
            extent, block = original.get(reduce[0][0].name[:-1]), reduce[-1][1]
            if isinstance(extent, int) and isinstance(block, int):
                limits.append(Limit(len(outer) + 1, rank - 2, block, extent))
        return tuple(limits)

    def _column_limit(self, outer: tuple[Loop, ...], rank: int) -> Sequence[Limit]:
        """Where the columns end inside a block: the lane loop itself, or the channels of a blocked output."""
        if isinstance(self.columns.extent, int) and self.columns.extent:
            return [Limit(len(outer), rank - 1, self.lanes, self.columns.extent)]
        stage = self.group.stages[0]
        layout = stage.value.type.layout
        extent = stage.value.type.shape[layout.axis] if layout.block > 1 else 0
        if not isinstance(extent, int) or extent % layout.block == 0:
            return []
        blocks = f"{stage.nest.axes[layout.axis].name}o"
        places = [k for k, (var, _) in enumerate(outer) if var.name == blocks]
        return [Limit(places[0] if places else len(outer), rank - 1, layout.block, extent)]

    def _set_packed(self, value: Value, pack: StridedPack) -> None:
        buffer = Buffer(self.binder.arguments[value.name].name, self.row.operand, pack.size, Scope.CONST, 64)
        self.packs[value.name] = pack
        self._packed = (pack, buffer)
        self.vector = lambda values, block, lane: load(buffer, self._packed_offset(pack.dims, values, block, lane))

    def _packed_offset(self, dims: Sequence[Dim], values: dict[Var, Expr], block: Expr, lane: Expr) -> Expr:
        outer = [values[var] for var, _ in self._packed_loops()]
        inner = [values[var] for var, _ in self.form.reduce]
        return build.linearize([*outer, block, *inner, lane], dims)

    def _pack_at_run_time(self, source: object) -> None:
        """Add a kernel that lays the vector factor out as `_pack_constant` would."""
        loops = self._packed_loops()
        dims = (*(d for _, d in loops), self.columns.blocks, *(d for _, d in self.form.reduce), self.lanes)
        size = build.product(dims)
        original = build.product(getattr(source, "buffer").size for _ in range(1))
        if isinstance(size, int) and isinstance(original, int) and size > 4 * original:
            return
        name = f"{self.group.stages[0].value.name}#packed"
        value = Value(name, TensorType(self.row.operand, (size,)))
        buffer = Buffer("p0", self.row.operand, size, Scope.GLOBAL, 64)
        self.extra.append(self._pack_kernel(value, buffer, loops, dims))
        self.scratch = (value, buffer)
        self.vector = lambda values, block, lane: load(buffer, self._packed_offset(dims, values, block, lane))

    def _pack_kernel(self, value: Value, buffer: Buffer, loops: tuple[Loop, ...], dims: tuple[Dim, ...]) -> ScheduledKernel:
        k = KernelBuilder()
        block = build.loop_var("cb", self.columns.blocks)
        lane = build.loop_var("cl", self.lanes)
        values: dict[Var, Expr] = {var: var for var, _ in (*loops, *self.form.reduce)}
        element = self._vector_in_place(values, block, lane)
        if self.columns.extent:
            inside = build.lt(add(mul(block, self.lanes), lane), build.index(self.columns.extent))
            element = build.select(inside, element, const(0, element.dtype))
        at = self._packed_offset(dims, values, block, lane)
        axes = (*loops, (block, self.columns.blocks), *self.form.reduce, (lane, self.lanes))
        form = LoopForm(axes, (), element, element, Var("acc", element.dtype), None, buffer, at)
        parallel = axes[: len(loops) + 1]
        extents = tuple(d for _, d in parallel)
        with k.loop("p", build.product(extents), LoopKind.PARALLEL) as p:
            inner = form.substitute(dict(zip((v for v, _ in parallel), build.delinearize(p, extents), strict=True)))
            emit_map(k, inner, axes[len(parallel) :], self.lanes)
        read = {at.buffer for at in form.loads()}
        operands = [v for v in self.binder.values if self.binder.arguments[v.name] in read]
        kernel = k.kernel("pack", (*(self.binder.arguments[v.name] for v in operands), buffer), self.group.stages[0].loc, "pack()")
        return ScheduledKernel(kernel, (*operands, value), build.product(extents), build.product(dims))

    def _vector_in_place(self, values: dict[Var, Expr], block: Expr, lane: Expr) -> Expr:
        """The vector factor as it lies."""
        return substitute(self.contraction.vector, values | self._at_column(block, lane))

    def _at_column(self, block: Expr, lane: Expr) -> dict[Var, Expr]:
        c = self.contraction
        if c.columns is not None:
            return {c.columns[0]: block, c.lane[0]: lane}
        return {c.lane[0]: add(mul(block, self.lanes), lane)}

    # --- Loops --------------------------------------------------------------------------------

    def _emit(self, k: KernelBuilder) -> Dim:
        """Emit the parallel loop; returns its extent."""
        plan = self._plan()
        extents = tuple(extent for _, extent, _ in plan)
        with k.loop("p", build.product(extents), LoopKind.PARALLEL) as p:
            at = build.delinearize(p, extents)
            found = {name: (where, size) for (name, _, size), where in zip(plan, at, strict=True)}
            values: dict[Var, Expr] = {var: found[var.name][0] for var, _ in self.contraction.outer}
            first, count = self._range(found, "#columns", self.columns.blocks)
            start, rows = self._range(found, "#rows", self.contraction.rows[1] if self.contraction.rows else 1)
            self._column_tiles(k, values, first, count, start, rows)
        return build.product(extents)

    def _range(self, found: dict[str, tuple[Expr, int]], name: str, extent: Dim) -> tuple[Expr, Dim]:
        """First element and number of elements of a part of a loop."""
        if name not in found:
            return const(0), extent
        where, size = found[name]
        start = mul(where, size)
        if isinstance(extent, int) and extent % size == 0:
            return start, size
        return start, build.dim(build.minimum(build.sub(build.index(extent), start), size))

    def _plan(self) -> list[tuple[str, Dim, int]]:
        """The parallel dimensions, outermost first: (name, extent, elements of each part)."""
        c = self.contraction
        both = free_vars(c.scalar, c.vector)
        batch = [(v.name, d, 1) for v, d in c.outer if v in free_vars(c.scalar) and v in free_vars(c.vector) or v not in both]
        scalar_outer = [(v.name, d, 1) for v, d in c.outer if v in free_vars(c.scalar) and (v.name, d, 1) not in batch]
        vector_outer = [(v.name, d, 1) for v, d in c.outer if v in free_vars(c.vector) and (v.name, d, 1) not in batch]
        columns: list[tuple[str, Dim, int]] = []
        if isinstance(self.columns.blocks, int) and self.columns.blocks <= self.nv:
            pass
        else:
            columns = [("#columns", build.dim(build.ceildiv(self.columns.blocks, self.nv)), self.nv)]
        rows = self._row_parts(batch, scalar_outer + vector_outer + columns)
        if self._vectors_stay(scalar_outer, rows):
            return [*batch, *scalar_outer, *rows, *vector_outer, *columns]
        return [*batch, *vector_outer, *columns, *scalar_outer, *rows]

    def _row_parts(self, batch: list[tuple[str, Dim, int]], others: list[tuple[str, Dim, int]]) -> list[tuple[str, Dim, int]]:
        """Parts of the rows, so that there are enough tasks and the scalars of a part stay in the cache."""
        if self.contraction.rows is None:
            return []
        extent = self.contraction.rows[1]
        tasks = math.prod(int(d) if isinstance(d, int) else UNKNOWN_EXTENT for _, d, _ in (*batch, *others))
        known = self._known(extent)
        depth = math.prod(self._known(d) for _, d in self.form.reduce)
        fits = max(1, self.target.l2_bytes // 2 // (4 * depth) // self.mr) * self.mr
        wanted = -(-known // max(1, -(-ENOUGH_TASKS // tasks)))
        size = max(self.mr, min(fits, -(-wanted // self.mr) * self.mr))
        if isinstance(extent, int):
            if size >= extent:
                return []
            exact = [s for s in range(size - size % self.mr, size // 2, -self.mr) if extent % s == 0]
            size = exact[0] if exact else size
        return [("#rows", build.dim(build.ceildiv(extent, size)), size)]

    def _vectors_stay(self, scalar_outer: list[tuple[str, Dim, int]], rows: list[tuple[str, Dim, int]]) -> bool:
        """True if it costs less to walk all columns for each part of the rows than the other way round."""
        depth = math.prod(self._known(d) for _, d in self.form.reduce)
        vectors = 4 * depth * self._known(self.columns.blocks) * self.lanes
        if vectors <= self.target.l2_bytes // 2:
            return True
        parts = math.prod(self._known(d) for _, d, _ in (*scalar_outer, *rows))
        scalars = sum(4 * self._known(build.dim(at.buffer.size)) for at in _loads(self.contraction.scalar))
        if scalars <= self.target.l2_bytes // 2:
            return False
        return parts * vectors < -(-self._known(self.columns.blocks) // self.nv) * scalars

    # --- Tiles --------------------------------------------------------------------------------

    def _column_tiles(self, k: KernelBuilder, values: dict[Var, Expr], first: Expr, count: Dim, start: Expr, rows: Dim) -> None:
        """Tiles over some column blocks."""
        last_is_partial = bool(self.columns.extent)
        total = self.columns.blocks
        if isinstance(total, int):
            sizes = [(size, n) for size, n in ((self.nv, total // self.nv), (total % self.nv, 1)) if size and n]
            if len(sizes) == 1 and (not last_is_partial or sizes[0][1] == 1):
                self._row_tiles(k, values, first, sizes[0][0], start, rows, last_is_partial)
                return
            border = mul(const(total - (sizes[-1][0] if len(sizes) > 1 else self.nv)), 1)
            with k.when(build.lt(first, border)):
                self._row_tiles(k, values, first, self.nv, start, rows, False)
            with k.otherwise():
                self._row_tiles(k, values, first, sizes[-1][0], start, rows, last_is_partial)
            return
        whole = build.floordiv(build.index(self.columns.extent), self.lanes)
        with k.when(build.le(add(first, self.nv), whole)):
            self._row_tiles(k, values, first, self.nv, start, rows, False)
        with k.otherwise(), k.loop("cb", count) as block:
            self._row_tiles(k, values, add(first, block), 1, start, rows, True)

    def _row_tiles(self, k: KernelBuilder, values: dict[Var, Expr], first: Expr, nv: int, start: Expr, rows: Dim, partial: bool) -> None:
        """Tiles over some rows, full ones first."""
        done: Expr = const(0)
        sizes = (self.mr, rows % self.mr) if isinstance(rows, int) else (self.mr, max(1, self.mr // 2), 1)
        for size in dict.fromkeys(s for s in sizes if s):
            count = build.dim(build.floordiv(build.sub(build.index(rows), done), size))
            if count == 0:
                continue
            with k.loop("rt", count) as tile:
                self._tile(k, values, first, nv, add(start, add(done, mul(tile, size))), size, partial)
            done = add(done, mul(build.index(count), size))

    def _tile(self, k: KernelBuilder, values: dict[Var, Expr], first: Expr, nv: int, row: Expr, mr: int, partial: bool) -> None:
        """One tile: clear, reduce, store."""
        with k.local(self.row.accumulator, mr * nv * self.lanes, "acc", Scope.REGISTER) as acc:

            def each(body: Callable[[Expr, Expr, Expr, Expr], None]) -> None:
                with k.loop("i", mr, LoopKind.UNROLL) as i, k.loop("j", nv, LoopKind.UNROLL) as j, k.loop("l", self.lanes, LoopKind.VECTOR) as lane:
                    body(add(mul(add(mul(i, nv), j), self.lanes), lane), add(row, i), add(first, j), lane)

            zero = const(0, self.row.accumulator)
            each(lambda at, i, j, lane: k.store(acc, at, zero))
            with self._reduction(k) as steps:
                for step in steps:
                    each(lambda at, i, j, lane, step=step: k.store(acc, at, self._step(values | step, load(acc, at), i, j, lane, partial)))  # type: ignore[misc]

            def finish(at: Expr, i: Expr, j: Expr, lane: Expr) -> None:
                known = values | self._at_row(i) | self._at_column(j, lane)
                form = self.form.substitute(known)
                result = substitute(form.result, {form.acc: load(acc, at)})
                if not partial:
                    k.store(form.target, form.at, result)
                    return
                with k.when(build.lt(add(mul(j, self.lanes), lane), build.index(self.columns.extent))):
                    k.store(form.target, form.at, result)

            each(finish)

    def _at_row(self, i: Expr) -> dict[Var, Expr]:
        return {self.contraction.rows[0]: i} if self.contraction.rows else {}

    def _step(self, values: dict[Var, Expr], acc: Expr, i: Expr, j: Expr, lane: Expr, partial: bool) -> Expr:
        scalar = substitute(self.contraction.scalar, values | self._at_row(i) | self._at_column(j, lane))
        vector = self.vector(values, j, lane)
        if partial and not self.packs and self.scratch is None:
            inside = build.lt(add(mul(j, self.lanes), lane), build.index(self.columns.extent))
            vector = build.select(inside, vector, const(0, vector.dtype))
        return self.row.step(acc, build.cast(scalar, self.row.operand), build.cast(vector, self.row.operand))

    @contextmanager
    def _reduction(self, k: KernelBuilder) -> Iterator[list[dict[Var, Expr]]]:
        """Loops over the reduction; yields the reduction indices of one step, or of several written out."""
        reduce = self.form.reduce
        if not reduce:
            yield [{}]
            return
        *outer, (var, extent) = reduce
        with ExitStack() as loops:
            values: dict[Var, Expr] = {v: loops.enter_context(k.loop(v.name, d)) for v, d in outer}
            if isinstance(extent, int) and extent <= WHOLE_UNROLL:
                yield [values | {var: loops.enter_context(k.loop(var.name, extent, LoopKind.UNROLL))}]
                return
            if isinstance(extent, int) and extent % UNROLL == 0:
                step = loops.enter_context(k.loop(var.name, extent // UNROLL))
                part = loops.enter_context(k.loop("ku", UNROLL, LoopKind.UNROLL))
                yield [values | {var: add(mul(step, UNROLL), part)}]
                return
            yield [values | {var: loops.enter_context(k.loop(var.name, extent))}]


def _lanes(extent: Dim, lanes: int) -> int:
    """Lanes of the vectors: fewer than the instruction's if the output is narrow."""
    while isinstance(extent, int) and lanes > 1 and lanes // 2 >= extent:
        lanes //= 2
    return lanes


def _loads(e: Expr) -> list:  # type: ignore[type-arg]
    from ...compiler.kernel.nodes import Load
    from ...compiler.kernel.traverse import walk

    return [node for node in walk(e) if isinstance(node, Load)]
