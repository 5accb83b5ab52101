"""The schedule of depthwise convolutions of bytes for CPUs with wide vectors; the channels lie side by side.

    parallel over parts of the pixels
      for pixels
        where the window lies inside the data: read it where it is; else fill a patch with it
        for channels, some vectors at a time
          accumulators = sums over the taps of data x weights              (the row's instruction)
          store what the epilogue makes of the accumulators

A zero point is not taken from the data: the sums for data that are zero everywhere are subtracted in the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import TRUE, add, const, load, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import LaneStep
from ...compiler.kernel.nodes import Buffer, Const, Dim, Expr, Extern, LoopKind, Scope, Var
from ...compiler.kernel.traverse import free_vars, substitute
from ...compiler.kernel.vector_loop import vector_loop
from ...compiler.program.stages import Group, ScheduledKernel
from ...compiler.program.weights import Pack
from .contraction_plan import ENOUGH_TASKS, known
from .dot_form import Dot
from .hoist_channel_terms import LINE_BYTES, hoist_channel_terms
from .loop_form import stride
from .pack_groups import GroupPack
from .pack_rows import RowPack
from .schedule_dot import named_places, packed_weights
from .schedule_dot_tiles import centred_dot
from .schedule_rows import Binder, total_work

MAX_TAPS = 32
"""Taps that are written out."""


def schedule_depthwise_tiles(
    group: Group, rows: Sequence[LaneStep], vector_bits: int, is_constant: Callable[[Value], bool]
) -> Sequence[ScheduledKernel] | str:
    """Schedule a group of one depthwise sum of products of bytes, or say why it is not one."""
    found = centred_dot(group, is_constant)
    if isinstance(found, str):
        return found
    binder, dot, zero = found
    if not dot.is_depthwise:
        return "the channels are mixed"
    channels = dot.channel[1]
    row = next((row for row in rows if row.data is dot.data.dtype and isinstance(channels, int) and channels % row.lanes == 0), None)
    if row is None or not isinstance(channels, int):
        return "no instruction for these types, or the channels are not whole vectors"
    taps = dot.window.size // channels
    if taps > MAX_TAPS:
        return "the window is large"
    if any(var in free_vars(zero) for var, _ in (*dot.form.reduce, *dot.form.axes)):
        return "the zero point changes"
    weights = packed_weights(dot, -(-taps // row.k) * row.k)
    return weights if isinstance(weights, str) else _Depthwise(group, binder, dot, zero, row, vector_bits, weights).kernels()


class _Depthwise:
    """The schedule of one depthwise convolution."""

    def __init__(self, group: Group, binder: Binder, dot: Dot, zero: Expr, row: LaneStep, vector_bits: int, rows: RowPack) -> None:
        self.group, self.binder, self.dot, self.zero, self.row, self.vector_bits = group, binder, dot, zero, row, vector_bits
        self.pack = GroupPack(rows, row.lanes, row.k, row.weight, row.order)
        self.weights = Buffer(dot.weight.buffer.name, row.weight, self.pack.size, Scope.CONST, LINE_BYTES)
        self.channels, self.steps = rows.rows, rows.width // row.k
        self.taps = [(var, extent) for var, extent in dot.form.reduce if isinstance(extent, int)]
        self.k = KernelBuilder()

    def kernels(self) -> Sequence[ScheduledKernel]:
        """The kernel."""
        iterations = self._emit()
        buffers = tuple(self.weights if b is self.dot.weight.buffer else b for b in self.binder.arguments.values())
        packs: tuple[Pack | None, ...] = tuple(self.pack if b is self.weights else None for b in buffers)
        kernel = self.k.kernel("depthwise", buffers, self.group.stages[0].loc, f"depthwise(mma={self.row.name})")
        return (ScheduledKernel(kernel, tuple(self.binder.values), iterations, build.dim(total_work(self.group)), packs),)

    def _emit(self) -> Dim:
        """The parallel loop over parts of the pixels; returns its extent."""
        pixels = build.product(extent for _, extent in self.dot.pixels)
        size = max(1, -(-known(pixels) // ENOUGH_TASKS))
        parts = build.dim(build.ceildiv(pixels, size))
        with self.k.loop("p", parts, LoopKind.PARALLEL) as p, ExitStack() as blocks:
            patch = blocks.enter_context(self.k.local(self.row.data, self.dot.window.size, "patch", Scope.STACK, LINE_BYTES))
            zeros = self._zero_sums(blocks, patch)
            self.dot = hoist_channel_terms(self.k, blocks, self.dot, const(0), self.channels, self.row.lanes)
            start = mul(p, size)
            count = build.dim(build.minimum(build.sub(build.index(pixels), start), size))
            with self.k.loop("i", count) as i, named_places(self.k, self.dot.pixels, add(start, i)) as values:
                self._pixel(patch, zeros, values)
        return parts

    def _pixel(self, patch: Buffer, zeros: Buffer | None, values: dict[Var, Expr]) -> None:
        window = self.dot.window
        inside = window.lies_inside(values, tuple(self.taps))
        start = window.source(values | {var: const(0) for var, _ in window.loops})
        steps = [stride(window.data.index, var) or 0 for var, _ in self.taps]
        distances = [sum(i * step for i, step in zip(at, steps, strict=True)) for at in self._tap_indices()]
        if inside is TRUE:
            self._all_channels(values, zeros, window.data.buffer, start, distances)
            return
        with self.k.when(inside):
            self._all_channels(values, zeros, window.data.buffer, start, distances)
        with self.k.otherwise():
            self._fill(patch, values)
            self._all_channels(values, zeros, patch, const(0), [tap * self.channels for tap in range(len(distances))])

    def _tap_indices(self) -> list[tuple[int, ...]]:
        return list(itertools.product(*(range(extent) for _, extent in self.taps)))

    def _all_channels(self, values: dict[Var, Expr], zeros: Buffer | None, data: Buffer, start: Expr, distances: Sequence[int]) -> None:
        with self.k.loop("c", self.pack.blocks) as c:
            self._channels(values, zeros, data, start, distances, c)

    def _channels(
        self, values: dict[Var, Expr], zeros: Buffer | None, data: Buffer, start: Expr, distances: Sequence[int], first: Expr
    ) -> None:
        """Sums and epilogue of the channels of one step; `first` counts steps."""
        lanes = self.row.lanes
        with self.k.local(DType.INT32, lanes, "acc", Scope.REGISTER, LINE_BYTES) as acc:
            self._sums(acc, data, start, distances, first)
            with self.k.loop("l", lanes, LoopKind.VECTOR) as lane:
                channel = add(mul(first, lanes), lane)
                total: Expr = load(acc, lane)
                if zeros is not None:
                    total = build.sub(total, load(zeros, channel))
                form = self.dot.form.substitute(values | {self.dot.channel[0]: channel})
                self.k.store(form.target, form.at, substitute(form.result, {form.acc: total}))

    def _sums(self, acc: Buffer, data: Buffer, start: Expr, distances: Sequence[int], first: Expr) -> None:
        lanes, k = self.row.lanes, self.row.k
        with self.k.loop("l", lanes, LoopKind.VECTOR) as lane:
            self.k.store(acc, lane, 0)
        for step in range(self.steps):
            taps = [distances[min(step * k + j, len(distances) - 1)] for j in range(k)]  # beyond the last one weights are 0
            weight = mul(add(mul(first, self.steps), step), lanes * k)
            places = [add(add(start, mul(first, lanes)), tap) for tap in taps]
            self.k.emit(Extern(self.row.name, (const(0), *places, weight), (acc, data, self.weights)))
        if self.row.settle:
            self.k.emit(Extern(self.row.settle, (const(0),), (acc,)))

    # --- Patches ------------------------------------------------------------------------------

    def _fill(self, patch: Buffer, values: dict[Var, Expr]) -> None:
        """The window of one pixel, as it is."""
        data = self.dot.data.buffer
        outside = build.cast(substitute(self.dot.outside, values), self.row.data)

        def append(position: Expr, source: Expr | None, count: int) -> None:
            def element(at: Expr) -> None:
                self.k.store(patch, add(position, at), outside if source is None else load(data, add(source, at)))

            vector_loop(self.k, count, self.vector_bits // 8, element)

        self.dot.window.walk(self.k, values, append)

    def _zero_sums(self, blocks: ExitStack, patch: Buffer) -> Buffer | None:
        """The sums for data that are zero everywhere; None if they are zero too."""
        if isinstance(self.zero, Const) and self.zero.value == 0:
            return None
        zero = build.cast(self.zero, self.row.data)
        vector_loop(self.k, self.dot.window.size, self.vector_bits // 8, lambda at: self.k.store(patch, at, zero))
        zeros = blocks.enter_context(self.k.local(DType.INT32, self.channels, "zeros", Scope.STACK, LINE_BYTES))
        distances = [tap * self.channels for tap in range(len(self._tap_indices()))]
        acc = Buffer("zero", DType.INT32, self.row.lanes, Scope.REGISTER, LINE_BYTES)
        with self.k.loop("z", self.pack.blocks) as z, self.k.around(acc):
            self._sums(acc, patch, const(0), distances, z)
            with self.k.loop("l", self.row.lanes, LoopKind.VECTOR) as lane:
                self.k.store(zeros, add(mul(z, self.row.lanes), lane), load(acc, lane))
        return zeros
