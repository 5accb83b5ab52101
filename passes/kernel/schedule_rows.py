"""The schedule of everything that is not a contraction: maps, reductions, and groups that share rows.

Outer loops are parallel, the innermost one runs in vectors. In a group of several stages each row is
carried through all stages before the next, with the values in between on the stack; rows that lie side by
side in memory (a softmax over channels) are carried through together, one in each lane.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nodes import Buffer, Dim, Expr, Load, LoopKind, Scope
from ...compiler.kernel.traverse import free_vars, substitute
from ...compiler.kernel.vector_loop import vector_loop
from ...compiler.program.stages import Group, ScheduledKernel, Stage, shift_symbol
from .emit_loops import VectorShape, emit_map, emit_plain_reduction, emit_reduction, prefers_along
from .find_leads import with_leads
from .loop_form import Loop, LoopForm, collapse, loop_form, physical_offset, physical_shape, stride
from .repeated_rows import take_repeated
from .share_coordinates import emit_shared, find_shared
from .split_loops import split_divided_loops
from .transposed_map import TransposedMap, find_transposed_map

CHUNK = 4096
"""Elements of one parallel iteration of a one-dimensional loop."""
MAX_ABREAST_BYTES = 1 << 15
"""Stack of rows that go together."""
ENOUGH_PARALLEL = 64
"""Parallel iterations beyond which further loops stay serial."""


class Binder:
    """Buffers of a group's values: arguments for what lives outside, stack arrays for the rest."""

    def __init__(self, group: Group, is_constant: Callable[[Value], bool]) -> None:
        self.group = group
        made = {stage.value.name for stage in group.stages}
        read = dict.fromkeys(v for stage in group.stages for v in stage.operands if v.name not in made)
        self.arguments: dict[str, Buffer] = {}
        self.values: list[Value] = []
        for value in read:
            self._argument(value, Scope.CONST if is_constant(value) else Scope.GLOBAL)
        for value in group.outputs:
            if value.name not in group.in_place:
                self._argument(value, Scope.GLOBAL)
        self.locals: dict[str, Buffer] = {}
        for stage in group.stages:
            if stage.value not in group.outputs:
                self.locals[stage.value.name] = self._local(stage.value)

    def _local(self, value: Value) -> Buffer:
        """Memory of the kernel for a row of a value."""
        size = build.product(value.type.shape[self.group.rows :])
        assert isinstance(size, int), "values of unknown size are outputs of their group"
        return Buffer(f"row{len(self.locals)}", value.type.dtype, size, Scope.STACK, 64)

    def _argument(self, value: Value, scope: Scope) -> None:
        root = self._root(value)
        if root in self.values:
            return
        size = build.product(physical_shape(root.type))
        self.arguments[root.name] = Buffer(f"b{len(self.values)}", root.type.dtype, size, scope)
        self.values.append(root)

    @property
    def in_blocks(self) -> frozenset[Buffer]:
        """Buffers of values whose layout has blocks: the last block is filled with zeros."""
        return frozenset(self.arguments[value.name] for value in self.values if value.type.layout.block > 1)

    def _root(self, value: Value) -> Value:
        """The value in whose memory a value lies."""
        placed = self.group.placements.get(value.name)
        return value if placed is None else placed.root

    def offset(self, value: Value, indices: tuple[Expr, ...]) -> Expr:
        """Where an element of a value lies in its buffer."""
        if value.name in self.locals:
            rows = self.group.rows
            return build.linearize(indices[rows:], value.type.shape[rows:])
        placed = self.group.placements.get(value.name)
        if placed is None:
            return physical_offset(value.type, indices)
        return build.add(physical_offset(placed.root.type, indices), shift_symbol(self.group.values.index(value)))

    def buffer(self, value: Value) -> Buffer:
        """The buffer of a value."""
        return self.locals.get(value.name) or self.arguments[self._root(self.group.in_place.get(value.name, value)).name]

    def load(self, value: Value, indices: tuple[Expr, ...]) -> Load:
        """An element of a value."""
        return build.load(self.buffer(value), self.offset(value, indices))

    def form(self, stage: Stage) -> LoopForm:
        """A stage bound to these buffers."""
        return loop_form(stage, self.load, self.buffer(stage.value), lambda at: self.offset(stage.value, at))


def schedule_rows(group: Group, vector: VectorShape, is_constant: Callable[[Value], bool]) -> ScheduledKernel:
    """Schedule a group as parallel rows with vector loops inside."""
    binder = Binder(group, is_constant)
    forms = tuple(binder.form(stage) for stage in group.stages)
    k = KernelBuilder()
    work = build.dim(total_work(group))

    def made(iterations: Dim) -> ScheduledKernel:
        kernel = k.kernel("rows", tuple(binder.arguments.values()), group.stages[-1].loc, f"rows(lanes={vector.bits // 32})")
        return ScheduledKernel(kernel, tuple(binder.values), iterations, work)

    if len(forms) > 1:
        return made(_emit_rows(k, forms, group.rows, vector, tuple(binder.locals.values())))
    form = collapse(forms)[0][0]
    if vector.threads:
        shared = find_shared(form)
        return made(_emit_single(k, form, vector) if shared is None else _emit_shared(k, form, shared, vector))
    form = split_divided_loops(form)
    return with_leads(made(_emit_single(k, form, vector)), form, form.axes[:-1], group.outputs[0])


def total_work(group: Group) -> Expr:
    """Estimated scalar operations of a group."""
    from ..fusion.stage_graph import element_cost

    total: Expr = build.const(0)
    for stage in group.stages:
        elements = build.product((*stage.nest.shape, *stage.nest.reduce_shape))
        total = build.add(total, build.mul(build.index(elements), element_cost(stage.nest.body) + 1))
    return total


# --- One stage --------------------------------------------------------------------------------


def _emit_single(k: KernelBuilder, form: LoopForm, vector: VectorShape) -> Dim:
    lanes = vector.lanes(form)
    if vector.threads and len(form.axes) == 1:
        form = _split(form, CHUNK if form.combine is None else max(16, lanes * 4))
    transposed = find_transposed_map(form, vector)
    if transposed is not None:
        return _emit_transposed(k, transposed, vector)
    taken = take_repeated(form) if vector.bits else None
    if taken is not None:
        return _emit_repeated(k, *taken, vector)
    inner = 0 if not form.axes or (form.combine is not None and prefers_along(form, form.axes[-1])) else 1
    parallel = _parallel_loops(form.axes, inner)
    with _parallel(k, parallel, vector) as values:
        rest = form.substitute(dict(zip((var for var, _ in parallel), values, strict=True)))
        loops = tuple((var, _replace_dim(d, parallel, values)) for var, d in form.axes[len(parallel) :])
        emit_form(k, rest, loops, lanes, vector)
    return build.product(extent for _, extent in parallel)


def _emit_shared(k: KernelBuilder, form: LoopForm, shared: Loop, vector: VectorShape) -> Dim:
    *others, (last, extent) = (loop for loop in form.axes if loop != shared)
    parallel = tuple(others)
    with _parallel(k, parallel, vector) as values:
        rest = form.substitute(dict(zip((var for var, _ in parallel), values, strict=True)))
        size = _replace_dim(extent, parallel, values)
        vector_loop(k, size, vector.lanes(form), lambda at: emit_shared(k, rest.substitute({last: at}), shared))
    return build.product(count for _, count in parallel)


def _emit_repeated(k: KernelBuilder, form: LoopForm, repeated: Loop, vector: VectorShape) -> Dim:
    parallel = _parallel_loops(form.axes, 1)
    with _parallel(k, parallel, vector) as values:
        rest = form.substitute(dict(zip((var for var, _ in parallel), values, strict=True)))
        emit_map(k, rest, form.axes[len(parallel) :], vector.lanes(form), repeated)
    return build.product(extent for _, extent in parallel)


def _emit_transposed(k: KernelBuilder, transposed: TransposedMap, vector: VectorShape) -> Dim:
    parallel = _parallel_loops(transposed.form.axes, 0)
    with _parallel(k, parallel, vector) as values:
        transposed.emit(k, dict(zip((var for var, _ in parallel), values, strict=True)))
    return build.product(extent for _, extent in parallel)


def _replace_dim(extent: Dim, parallel: tuple[Loop, ...], values: tuple[Expr, ...]) -> Dim:
    if isinstance(extent, int):
        return extent
    return build.dim(substitute(extent, dict(zip((var for var, _ in parallel), values, strict=True))))


def _split(form: LoopForm, chunk: int) -> LoopForm:
    """Split the only loop into chunks, so that there is something to run in parallel."""
    ((var, extent),) = form.axes
    if isinstance(extent, int) and extent <= chunk:
        return form
    count = build.dim(build.ceildiv(extent, chunk))
    outer = build.loop_var(f"{var.name}c", count)
    start = build.mul(outer, chunk)
    even = isinstance(extent, int) and extent % chunk == 0
    size: Dim = chunk if even else build.dim(build.minimum(build.sub(build.index(extent), start), chunk))
    inner = build.loop_var(f"{var.name}w", chunk)
    form = form.substitute({var: build.add(start, inner)})
    return replace(form, axes=((outer, count), (inner, size)))


def _parallel_loops(axes: tuple[Loop, ...], inner: int) -> tuple[Loop, ...]:
    """The leading loops that run in parallel: enough of them, and never the last `inner` ones."""
    taken: list[Loop] = []
    iterations = 1
    for loop in axes[: len(axes) - inner]:
        depends = any(var in free_vars(build.index(loop[1])) for var, _ in taken)
        if iterations >= ENOUGH_PARALLEL or depends:
            break
        taken.append(loop)
        iterations *= loop[1] if isinstance(loop[1], int) else 1
    return tuple(taken)


@contextmanager
def _parallel(k: KernelBuilder, loops: tuple[Loop, ...], vector: VectorShape) -> Iterator[tuple[Expr, ...]]:
    """One parallel loop over the product of some extents, or nested loops without threads; yields their indices."""
    if not loops or not vector.threads:
        with ExitStack() as nest:
            yield tuple(nest.enter_context(k.loop(var.name, extent)) for var, extent in loops)
        return
    extents = tuple(extent for _, extent in loops)
    with k.loop("p", build.product(extents), LoopKind.PARALLEL) as at:
        yield build.delinearize(at, extents)


# --- Rows -------------------------------------------------------------------------------------


def _emit_rows(k: KernelBuilder, forms: tuple[LoopForm, ...], rows: int, vector: VectorShape, local: tuple[Buffer, ...]) -> Dim:
    forms, rows = collapse(forms, rows)
    shared = forms[0].axes[:rows]
    lanes = _rows_abreast(forms, rows, vector, local)
    if lanes > 1:
        return _emit_abreast(k, forms, shared, lanes, local, vector)
    with _parallel(k, shared, vector) as values:
        _emit_row(k, forms, values, vector.lanes, local, vector)
    return build.product(extent for _, extent in shared)


def _emit_row(
    k: KernelBuilder,
    forms: tuple[LoopForm, ...],
    values: tuple[Expr, ...],
    lanes: Callable[[LoopForm], int],
    local: tuple[Buffer, ...],
    vector: VectorShape,
) -> None:
    """One row through all stages."""
    with ExitStack() as blocks:
        for buffer in local:
            blocks.enter_context(k.around(buffer))
        for form in forms:
            row = form.substitute(dict(zip((var for var, _ in form.axes), values, strict=False)))
            emit_form(k, row, form.axes[len(values) :], lanes(form), vector)


def emit_form(k: KernelBuilder, form: LoopForm, loops: tuple[Loop, ...], lanes: int, vector: VectorShape) -> None:
    """The loops of a form that are not yet around it."""
    if form.combine is None:
        emit_map(k, form, loops, lanes)
    elif vector.threads:
        emit_reduction(k, form, loops, lanes)
    else:
        emit_plain_reduction(k, form, loops)


def _rows_abreast(forms: tuple[LoopForm, ...], rows: int, vector: VectorShape, local: tuple[Buffer, ...]) -> int:
    """Rows that go together, one in each lane, where they lie side by side in memory; 1 where they do not."""
    if not rows or not isinstance(extent := forms[0].axes[rows - 1][1], int):
        return 1
    strides = set()
    for form in forms:
        var = form.axes[rows - 1][0]
        strides |= {stride(at.index, var) for at in form.loads()} | {stride(form.at, var)}
    lanes = math.gcd(extent, max(map(vector.lanes, forms)))
    stack_bytes = lanes * sum(buffer.size * buffer.dtype.bytes for buffer in local if isinstance(buffer.size, int))
    return lanes if 1 in strides and strides <= {0, 1} and stack_bytes <= MAX_ABREAST_BYTES else 1


def _emit_abreast(
    k: KernelBuilder, forms: tuple[LoopForm, ...], shared: tuple[Loop, ...], lanes: int, local: tuple[Buffer, ...], vector: VectorShape
) -> Dim:
    """Rows in the lanes of vectors, each with its own values on the stack."""
    *outer, (var, extent) = shared
    assert isinstance(extent, int)
    blocks: tuple[Loop, ...] = (*outer, (var, extent // lanes))
    with _parallel(k, blocks, vector) as values, k.loop("l", lanes, LoopKind.VECTOR) as lane:
        last = build.add(build.mul(values[-1], lanes), lane)
        _emit_row(k, forms, (*values[:-1], last), lambda form: 1, local, vector)
    return build.product(count for _, count in blocks)
