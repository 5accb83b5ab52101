"""The schedule of depthwise convolutions of bytes whose channels lie side by side.

    for pixels of the output
      where the window lies inside the data: read them where they are
      else: fill a patch with the window                                  (fill_patch)
      for results of a channel, if there are several, and for channels, four at a time   (group_form)
        accumulators = sums over the taps of data x weights               (a row of the target)
        store what the epilogue makes of the accumulators

The weights are packed at compile time, with the channels innermost as in the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import TRUE, add, const, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import DotRows, TapsRow
from ...compiler.kernel.nodes import Buffer, Dim, Expr, Extern, Scope, Var
from ...compiler.kernel.traverse import substitute
from ...compiler.program.stages import Group, ScheduledKernel
from .dot_form import Dot
from .fill_patch import PatchFiller
from .find_leads import with_leads
from .group_form import each_group
from .loop_form import Loop, stride
from .pack_rows import RowPack
from .schedule_dot import BoundDot, PackedWeights, bound_dot, named_places, places
from .store_codes import Stores


def schedule_depthwise(group: Group, rows: DotRows, is_constant: Callable[[Value], bool]) -> Sequence[ScheduledKernel] | str:
    """Schedule a group of one depthwise sum of products of bytes, or say why it is not one."""
    bound = bound_dot(group, is_constant)
    if isinstance(bound, str):
        return bound
    dot = bound.dot
    if not dot.is_depthwise:
        return "the channels are mixed"
    taps = [row for row in rows.taps if (row.data, row.weight) == (dot.data.dtype, dot.weight.dtype)]
    if not taps:
        return "no instruction for these types"
    if len(dot.form.reduce) > 2:
        return "the window has more than two dimensions"
    weights = _packed_taps(dot, bound.group)
    if isinstance(weights, str):
        return weights
    return _Depthwise(group, bound, rows, sorted(taps, key=lambda row: -row.channels), weights).kernels()


def _packed_taps(dot: Dot, group: Loop | None) -> RowPack | str:
    """How to pack the weights: all channels of a tap, then those of the next; a row for each result of a channel."""
    if sum(at.buffer is dot.weight.buffer for at in dot.form.loads()) != 1:
        return "the weights are read twice"
    loops = (*dot.form.reduce, dot.channel)
    steps = [stride(dot.weight.index, var) for var, _ in loops]
    rows: tuple[Dim, int | None] = (1, 0) if group is None else (group[1], stride(dot.weight.index, group[0]))
    start = build.dim(substitute(dot.weight.index, {var: const(0) for var, _ in (*loops, *((group,) if group else ()))}))
    known, extents = tuple(s for s in steps if s is not None), tuple(extent for _, extent in loops if isinstance(extent, int))
    (count, step) = rows
    if len(known) < len(steps) or len(extents) < len(loops) or not isinstance(start, int) or not isinstance(count, int) or step is None:
        return "the weights are not walked in even steps"
    return RowPack(count, step, extents, known, start, dot.window.size, dot.weight.dtype)


class _Depthwise:
    """The schedule of one depthwise convolution."""

    def __init__(self, group: Group, bound: BoundDot, rows: DotRows, taps: Sequence[TapsRow], pack: RowPack) -> None:
        self.group, self.bound, self.taps, self.pack = group, bound, taps, pack
        self.dot = dot = bound.dot
        self.channels = pack.dims[-1]
        self.weights = PackedWeights(dot, pack, self.channels, rows.k)
        self.k = KernelBuilder()
        self.filler = PatchFiller(self.k, dot.window, dot.outside, rows, dot.window.size)
        self.stores = Stores.of(self.k, dot.form, dot.channel[0], rows, self.weights.centre)

    def kernels(self) -> Sequence[ScheduledKernel]:
        """The kernel."""
        count = build.product(extent for _, extent in self.dot.pixels)
        with (
            self.stores.known() as self.stores,
            self.k.loop("p", count) as p,
            named_places(self.k, self.dot.pixels, p) as values,
        ):
            self._pixel(values, places(self.dot.pixels, p))
        schedule = f"depthwise(channels={self.taps[0].channels})"
        made = self.weights.kernel(self.k, "depthwise", self.group, self.bound.binder, schedule)
        return (with_leads(made, self.bound.form, self.dot.pixels, self.group.stages[0].value),)

    def _pixel(self, values: dict[Var, Expr], plain: dict[Var, Expr]) -> None:
        """One pixel, at values of its loops that are named, and the same as expressions of its number."""
        window, taps = self.dot.window, tuple((var, d) for var, d in self.dot.form.reduce if isinstance(d, int))
        start = window.source(values | {var: const(0) for var, _ in window.loops})
        steps = [stride(window.data.index, var) or 0 for var, _ in taps]
        inside = window.lies_inside(values, taps)
        if inside is TRUE:
            self._channels(plain, window.data.buffer, start, steps)
            return
        with self.k.when(inside):
            self._channels(plain, window.data.buffer, start, steps)
        with self.k.otherwise(), self.k.local(window.data.dtype, window.size, "patch", Scope.STACK, 8) as patch:
            self.filler.bytes(patch, values)
            self._channels(plain, patch, const(0), [self.channels * step for step in _row_major(taps)])

    def _channels(self, values: dict[Var, Expr], data: Buffer, start: Expr, steps: Sequence[int]) -> None:
        """All channels of a pixel, whose window starts at an element of a buffer and has known steps between taps."""
        extents = list(self.pack.dims[:-1])
        sizes = [*[1] * (2 - len(extents)), *extents, *[0] * (2 - len(steps)), *steps]
        with each_group(self.k, self.bound.group):
            self._all_rows(values, data, start, sizes)

    def _all_rows(self, values: dict[Var, Expr], data: Buffer, start: Expr, sizes: Sequence[int]) -> None:
        done = 0
        for row in self.taps:
            count = (self.channels - done) // row.channels
            if count:
                with self.k.loop("c", count) as c:
                    self._sums(row, values, data, start, sizes, add(mul(c, row.channels), done))
            done += count * row.channels

    def _sums(self, row: TapsRow, values: dict[Var, Expr], data: Buffer, start: Expr, sizes: Sequence[int], first: Expr) -> None:
        with self.k.local(DType.INT32, row.channels, "acc", Scope.REGISTER) as acc:
            numbers = [const(n) for n in (*sizes, self.channels)]
            weights = first if self.bound.group is None else add(first, mul(self.bound.group[0], self.pack.width))
            self.k.emit(Extern(row.name, (const(0), add(start, first), weights, *numbers), (acc, data, self.weights.buffer)))
            self.stores.emit(values, first, acc, 0, row.channels)


def _row_major(loops: Sequence[tuple[Var, int]]) -> list[int]:
    """Steps of some loops over an array of their extents."""
    steps, step = [], 1
    for _, extent in reversed(loops):
        steps.append(step)
        step *= extent
    return steps[::-1]
