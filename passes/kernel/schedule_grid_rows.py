"""The schedule of groups that share rows, on a grid: softmax, layer norm and the like.

One block carries a row through all stages; what lies between them stays in shared memory, with a barrier
after each stage. Rows of few elements have one thread each instead, and its values stay with the thread.
Values that do not fit into shared memory go through working memory of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nodes import Barrier, Dim, Expr, LoopKind, Scope, Var
from ...compiler.program.stages import Group, ScheduledKernel, Stage
from .emit_loops import emit_map, emit_reduction
from .loop_form import Loop, LoopForm, collapse
from .schedule_grid import at_index, emit_block_reduction, emit_element, strided, threads_for
from .schedule_rows import Binder, total_work

SHORT_ROW = 32
"""Elements up to which a row is the work of one thread."""
SHARED_BYTES = 40 << 10
"""Shared memory for values of a row; every device has 48 KiB for a block, and reductions need some."""


def schedule_grid_rows(group: Group, is_constant: Callable[[Value], bool]) -> ScheduledKernel:
    """Schedule a group of several stages."""
    group = _spill(group)
    binder = Binder(group, is_constant)
    forms = tuple(binder.form(stage) for stage in group.stages)
    rows = build.product(extent for _, extent in forms[0].axes[: group.rows])
    k = KernelBuilder()
    if _is_short(group):
        _emit_threads(k, *collapse(forms, group.rows), rows, binder)
        schedule = "rows(thread=row)"
    else:
        for name, buffer in binder.locals.items():
            binder.locals[name] = replace(buffer, scope=Scope.SHARED)
        forms = tuple(binder.form(stage) for stage in group.stages)
        threads = threads_for(_longest(group))
        _emit_blocks(k, *collapse(forms, group.rows), rows, binder, threads)
        schedule = f"rows(block=row, threads={threads})"
    kernel = k.kernel("rows", tuple(binder.arguments.values()), group.stages[-1].loc, schedule)
    return ScheduledKernel(kernel, tuple(binder.values), rows, build.dim(total_work(group)))


def _spill(group: Group) -> Group:
    """The group with so many of its inner values as outputs that the rest fits into shared memory, largest first."""
    outputs = {value.name for value in group.outputs}
    inner = [stage.value for stage in group.stages if stage.value.name not in outputs]
    sizes = {value.name: _row_bytes(value, group.rows) for value in inner}
    spilled: list[Value] = []
    for value in sorted(inner, key=lambda v: -sizes[v.name]):
        if sum(sizes.values()) <= SHARED_BYTES:
            break
        sizes.pop(value.name)
        spilled.append(value)
    return replace(group, outputs=(*group.outputs, *spilled))


def _row_bytes(value: Value, rows: int) -> int:
    elements = build.product(value.type.shape[rows:])
    assert isinstance(elements, int), "values of unknown size are outputs of their group"
    return elements * value.type.dtype.bytes


def _stage_work(stage: Stage, rows: int) -> Dim:
    return build.product((*stage.nest.shape[rows:], *stage.nest.reduce_shape))


def _longest(group: Group) -> Dim:
    """Elements of the longest stage of a row; an expression if one is unknown."""
    sizes = [_stage_work(stage, group.rows) for stage in group.stages]
    known = [size for size in sizes if isinstance(size, int)]
    return max(known) if len(known) == len(sizes) else next(size for size in sizes if not isinstance(size, int))


def _is_short(group: Group) -> bool:
    longest = _longest(group)
    return isinstance(longest, int) and longest <= SHORT_ROW


def _at_row(form: LoopForm, rows: int, at: Expr) -> tuple[LoopForm, tuple[Loop, ...]]:
    """A form within one row, and its loops there."""
    return at_index(form, form.axes[:rows], at), form.axes[rows:]


def _emit_threads(k: KernelBuilder, forms: tuple[LoopForm, ...], shared: int, rows: Dim, binder: Binder) -> None:
    """One thread for each row; `place_on_grid` makes the grid."""
    with k.loop("row", rows, LoopKind.PARALLEL) as at, ExitStack() as blocks:
        for buffer in binder.locals.values():
            blocks.enter_context(k.around(buffer))
        for form in forms:
            row, loops = _at_row(form, shared, at)
            (emit_map if form.combine is None else emit_reduction)(k, row, loops, 1)


def _emit_blocks(k: KernelBuilder, forms: tuple[LoopForm, ...], shared: int, rows: Dim, binder: Binder, threads: int) -> None:
    """One block for each row."""
    with ExitStack() as blocks:
        at = blocks.enter_context(k.loop("row", rows, LoopKind.GRID))
        thread = blocks.enter_context(k.loop("thread", threads, LoopKind.BLOCK))
        for buffer in binder.locals.values():
            blocks.enter_context(k.around(buffer))
        for number, form in enumerate(forms):
            if number:
                k.emit(Barrier())
            row, loops = _at_row(form, shared, at)
            _emit_stage(k, row, loops, thread, threads)


def _emit_stage(k: KernelBuilder, row: LoopForm, loops: tuple[Loop, ...], thread: Var, threads: int) -> None:
    results = build.product(extent for _, extent in loops)
    if row.combine is not None and results == 1 and not row.in_order:
        emit_block_reduction(k, at_index(row, loops, build.const(0)), thread, threads)
        return
    with strided(k, results, thread, threads) as at:
        emit_element(k, at_index(row, loops, at))
