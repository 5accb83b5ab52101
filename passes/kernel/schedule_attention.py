"""The schedule of a product, a softmax over its rows and a product with the result, in one kernel.

    parallel over tasks
      for blocks of rows of the task
        scores of the block                    (register tiles of the first product)
        for each row: the stages between       (as in `schedule_rows`)
        the rows of the result                 (register tiles of the second product)

The scores of a block stay in the second-level cache; those of all rows never exist. Stages of whole rows write over each other
where nothing reads the older one again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import TensorType, Value
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, minimum, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nodes import Buffer, Dim, Expr, LoopKind, Scope, Var
from ...compiler.program.stages import Group, ScheduledKernel, Stage
from ..fusion.join_attention import row_places
from .contraction_form import Contraction, contraction_form
from .contraction_plan import ENOUGH_TASKS, known
from .emit_loops import VectorShape
from .loop_form import drop_unit_loops
from .schedule_contraction import ContractionTarget, Tiles
from .schedule_rows import Binder, emit_form, total_work
from .vector_factor import Argument

L2_SHARE = 0.5
"""Share of the second-level cache for the scores of a block."""
MIN_ROWS, MAX_ROWS = 6, 48
MIN_SCORES = 1 << 14
"""Scores for which the kernel is worth its size."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Sizes of the schedule."""

    outer: tuple[Dim, ...]
    """Extents of the row axes but the last."""
    extent: Dim
    """Rows along the last row axis."""
    rows: int
    """Of these, rows in a block."""
    pitch: Dim
    """Scores of a row."""

    @property
    def held_rows(self) -> Dim:
        """Rows for which a task has memory."""
        return build.dim(minimum(self.rows, build.index(self.extent)))

    @property
    def blocks(self) -> Dim:
        """Blocks along the last row axis."""
        return build.dim(build.ceildiv(self.extent, self.rows))

    @property
    def units(self) -> Dim:
        """All blocks."""
        return build.product((*self.outer, self.blocks))

    @property
    def tasks(self) -> int:
        """Parallel tasks: enough for the threads, few enough for the memory that each has."""
        return min(self.units, ENOUGH_TASKS) if isinstance(self.units, int) else ENOUGH_TASKS


class _BlockBinder(Binder):
    """Buffers of a group whose whole rows lie in scratch memory, a block of rows for each task."""

    def __init__(self, group: Group, is_constant: Callable[[Value], bool], plan: _Plan, task: Var, first: Var) -> None:
        self.plan, self.task, self.first = plan, task, first
        self.shared = _shared(group)
        self.scratch: dict[str, Buffer] = {}
        super().__init__(group, is_constant)

    def _local(self, value: Value) -> Buffer:
        if value.name not in self.shared:
            return super()._local(value)
        name = self.shared[value.name]
        if name not in self.scratch:
            size = build.product((self.plan.tasks, self.plan.held_rows, self.plan.pitch))
            self.scratch[name] = Buffer(f"scores{len(self.scratch)}", value.type.dtype, size, Scope.GLOBAL, 64)
        return self.scratch[name]

    def offset(self, value: Value, indices: tuple[Expr, ...]) -> Expr:
        """Where an element of a value lies in its buffer."""
        if value.name not in self.shared:
            return super().offset(value, indices)
        *_, row, column = indices
        place = add(mul(self.task, build.index(self.plan.held_rows)), build.sub(row, self.first))
        return add(mul(place, build.index(self.plan.pitch)), column)

    @property
    def stack(self) -> tuple[Buffer, ...]:
        """What a row needs on the stack."""
        return tuple(buffer for name, buffer in self.locals.items() if name not in self.shared)


def _shared(group: Group) -> dict[str, str]:
    """For each value of a whole row, the first of those that lie in the same memory."""
    found: dict[str, str] = {}
    for position, stage in enumerate(group.stages):
        if stage.value in group.outputs or len(stage.value.type.shape) == group.rows or stage.value.type.shape[group.rows] == 1:
            continue
        later = {v.name for after in group.stages[position + 1 :] for v in after.operands}
        over = [v for v in stage.operands if stage.is_map and v.name in found and v.name not in later and _reads_in_place(stage, v)]
        same = [v for v in over if v.type.dtype is stage.value.type.dtype]
        found[stage.value.name] = found[same[0].name] if same else stage.value.name
    return found


def _reads_in_place(stage: Stage, value: Value) -> bool:
    return all(read.indices[-1] is stage.nest.axes[-1] for read in stage.reads(value))


def can_schedule_attention(group: Group, target: ContractionTarget) -> bool:
    """True if `schedule_attention` takes a group."""
    return not isinstance(_attention(group, target, lambda _: False), str)


def schedule_attention(group: Group, target: ContractionTarget, is_constant: Callable[[Value], bool]) -> Sequence[ScheduledKernel] | str:
    """Schedule a group that `join_attention` made, or say why it is not one."""
    found = _attention(group, target, is_constant)
    return found if isinstance(found, str) else found.kernels()


def _attention(group: Group, target: ContractionTarget, is_constant: Callable[[Value], bool]) -> _Attention | str:
    if len(group.stages) < 3 or not group.rows or len(group.outputs) != 1 or group.stages[-1].value not in group.outputs:
        return "not a product, a softmax and a product"
    scores, product = group.stages[0], group.stages[-1]
    middle = group.stages[-2].value
    places = row_places(product, middle, group.rows) if middle in product.operands else None
    if places is None or places[-1] is None or scores.is_map or product.is_map:
        return "not a product, a softmax and a product"
    if any(stage.value.type.layout.block > 1 or stage.value.type.dtype is not DType.FLOAT32 for stage in group.stages):
        return "not rows of float32"
    plan = _plan(scores, group.rows, target.l2_bytes)
    if isinstance(plan, str):
        return plan
    task, first = build.loop_var("task", plan.tasks), build.loop_var("first", plan.extent)
    binder = _BlockBinder(group, is_constant, plan, task, first)
    axes = tuple(None if place is None else product.nest.axes[place] for place in places)
    first_tiles = _tiles(scores, scores.nest.axes[group.rows - 1], binder, target, is_constant, "keys")
    last_tiles = _tiles(product, axes[-1], binder, target, is_constant, "values")
    if isinstance(first_tiles, str) or isinstance(last_tiles, str):
        return "the products are not made of tiles of rows"
    return _Attention(group, plan, binder, (first_tiles, last_tiles), axes, target.vector)


def _plan(scores: Stage, rows: int, l2_bytes: int) -> _Plan | str:
    """Rows of a block: as many as the cache holds, a number that divides all of them if there is one."""
    *outer, extent = scores.nest.shape[:rows]
    pitch = scores.nest.shape[rows]
    if math.prod(map(known, scores.nest.shape)) < MIN_SCORES:
        return "few scores"
    most = min(MAX_ROWS, int(L2_SHARE * l2_bytes) // (4 * known(pitch)), known(extent)) // MIN_ROWS * MIN_ROWS
    if most < MIN_ROWS:
        return "the rows are long"
    even = [n for n in range(most, most // 2, -MIN_ROWS) if isinstance(extent, int) and extent % n == 0]
    return _Plan(tuple(outer), extent, even[0] if even else most, pitch)


def _tiles(
    stage: Stage, row: Var | None, binder: Binder, target: ContractionTarget, is_constant: Callable[[Value], bool], packed: str
) -> Tiles | str:
    """The register tiles of a product whose rows run along `row`; `packed` names the buffer of its other factor."""
    form = drop_unit_loops(binder.form(stage))
    mma = target.row(form.term.dtype, form.term.dtype)
    found = "no instruction" if mma is None else contraction_form(form, mma.lanes, binder.in_blocks)
    if mma is None or isinstance(found, str):
        return str(found)
    if found.rows is None or found.rows[0] is not row or _cannot_tile(found):
        return "the rows are not those of a tile"
    return Tiles(stage, binder, found, mma, target, is_constant, packed)


def _cannot_tile(found: Contraction) -> bool:
    return found.is_depthwise or found.columns is not None


class _Attention:
    """The schedule of one group."""

    def __init__(
        self,
        group: Group,
        plan: _Plan,
        binder: _BlockBinder,
        tiles: tuple[Tiles, Tiles],
        product_axes: tuple[Var | None, ...],
        vector: VectorShape,
    ) -> None:
        self.group, self.plan, self.binder, self.product_axes = group, plan, binder, product_axes
        self.scores, self.product = tiles
        self.vector = vector
        self.k = KernelBuilder()

    def kernels(self) -> Sequence[ScheduledKernel]:
        """The kernel, after those that pack a factor."""
        plan, binder = self.plan, self.binder
        with self.k.loop("p", plan.tasks, LoopKind.PARALLEL) as task:
            per_task = build.ceildiv(plan.units, plan.tasks)
            begin = mul(task, per_task)
            left = build.maximum(build.sub(build.index(plan.units), begin), const(0))
            with self.k.loop("u", build.dim(minimum(per_task, left))) as unit:
                self._block(task, add(begin, unit))
        tiles = (self.scores, self.product)
        made = self.group.stages[0].value
        scratch = [(Value(f"{made.name}#{b.name}", TensorType(b.dtype, (b.size,))), b) for b in binder.scratch.values()]
        arguments: list[Argument] = [(v, b, None) for v, b in (*scratch, *zip(binder.values, binder.arguments.values(), strict=True))]
        for tile in tiles:
            arguments = tile.factor.bound(arguments)
        values, buffers, packs = zip(*arguments, strict=True)
        schedule = f"attention(rows={plan.rows}, {', '.join(f'mr={t.mr}, nv={t.nv}' for t in tiles)}, mma={self.scores.row.name})"
        kernel = self.k.kernel("attention", buffers, self.group.stages[-1].loc, schedule)
        work = build.dim(build.floordiv(total_work(self.group), 2 * self.scores.row.lanes))
        before = tuple(kernel for tile in tiles for kernel in tile.factor.kernels)
        return (*before, ScheduledKernel(kernel, values, plan.tasks, work, packs))

    def _block(self, task: Expr, unit: Expr) -> None:
        """One block of rows through all stages."""
        plan, binder = self.plan, self.binder
        *outer, block = build.delinearize(unit, (*plan.outer, plan.blocks))
        first = mul(block, plan.rows)
        left = build.sub(build.index(plan.extent), first)
        is_even = isinstance(plan.extent, int) and plan.extent % plan.rows == 0
        count: Dim = plan.rows if is_even else build.dim(minimum(plan.rows, left))
        common: dict[Var, Expr] = {binder.task: task, binder.first: first}
        self.scores.emit_rows(self.k, common | self._at(self.scores.stage.nest.axes[: self.group.rows], outer), first, count)
        with self.k.loop("r", count) as row:
            self._row(common, (*outer, add(first, row)))
        self.product.emit_rows(self.k, common | self._at(self.product_axes, outer), first, count)

    @staticmethod
    def _at(axes: Sequence[Var | None], outer: Sequence[Expr]) -> dict[Var, Expr]:
        """The values of the row axes but the last."""
        return {axis: value for axis, value in zip(axes, outer, strict=False) if axis is not None}

    def _row(self, common: dict[Var, Expr], at: tuple[Expr, ...]) -> None:
        """The stages between the products, for one row."""
        with ExitStack() as blocks:
            for buffer in self.binder.stack:
                blocks.enter_context(self.k.around(buffer))
            for stage in self.group.stages[1:-1]:
                form = self.binder.form(stage)
                row = form.substitute(common | dict(zip((var for var, _ in form.axes), at, strict=False)))
                emit_form(self.k, row, form.axes[len(at) :], self.vector.lanes(form), self.vector)
