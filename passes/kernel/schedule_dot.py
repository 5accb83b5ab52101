"""The schedule of sums of products of bytes, for targets with small vectors or none.

    for pixels of the output, two at a time
      for groups, if there are any                                         (group_form)
        fill the patch of each: its window, in the order of the weights    (fill_patch)
        for channels of the output, two at a time
          accumulators = patches x weights                                 (a row of the target)
          store what the epilogue makes of the accumulators

Matrix products are windows of one tap. The rows of weights are packed at compile time (pack_rows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, mul
from ...compiler.kernel.builder import KernelBuilder, block
from ...compiler.kernel.mma import DotRow, DotRows
from ...compiler.kernel.nodes import Buffer, Const, Dim, Expr, Extern, Let, Scope, Var
from ...compiler.kernel.traverse import substitute
from ...compiler.program.stages import Group, ScheduledKernel
from ...compiler.program.weights import Pack
from .dot_form import Dot, dot_form
from .fill_patch import PatchFiller
from .find_leads import with_leads
from .group_form import each_group, without_groups
from .loop_form import Loop, LoopForm, collapse, stride
from .pack_rows import ChannelSums, RowPack
from .schedule_rows import Binder, total_work
from .store_codes import Stores

PATCH_ALIGN = 8
"""Bytes to which patches are aligned, for loads of two words."""


def schedule_dot(group: Group, rows: DotRows, is_constant: Callable[[Value], bool]) -> Sequence[ScheduledKernel] | str:
    """Schedule a group of one sum of products of bytes, or say why it is not one."""
    bound = bound_dot(group, is_constant)
    if isinstance(bound, str):
        return bound
    dot = bound.dot
    if dot.is_depthwise:
        return "each channel reads only itself"
    if rows.dot(dot.data.dtype, dot.weight.dtype, 1, 1) is None:
        return "no instruction for these types"
    weights = packed_weights(dot, -(-dot.window.size // rows.k) * rows.k, bound.group)
    if isinstance(weights, str):
        return weights
    return _Dots(group, bound, rows, weights).kernels()


@dataclass(frozen=True, slots=True)
class BoundDot:
    """A group's only stage, bound to buffers and taken apart."""

    binder: Binder
    form: LoopForm
    """The whole."""
    dot: Dot
    """For one group."""
    group: Loop | None
    """The loop over groups."""


def bound_dot(group: Group, is_constant: Callable[[Value], bool]) -> BoundDot | str:
    """Take a group's only stage apart, or say why it is no sum of products of bytes."""
    if len(group.stages) != 1 or group.stages[0].is_map:
        return "not one reduction"
    binder = Binder(group, is_constant)
    form = collapse((binder.form(group.stages[0]),))[0][0]
    one, groups = without_groups(form)
    found = dot_form(one)
    if isinstance(found, str):
        return found
    if groups is None:
        return BoundDot(binder, found.form, found, None)
    if found.zero is not None:
        return "the zero point of grouped data is known only while running"
    return BoundDot(binder, replace(found.form, axes=(*found.form.axes, groups)), found, groups)


def packed_weights(dot: Dot, width: int, group: Loop | None = None) -> RowPack | str:
    """How to pack the weights: a row for each output channel, of `width` elements, those of a group after those of the one before."""
    if sum(at.buffer is dot.weight.buffer for at in dot.form.loads()) != 1:
        return "the weights are read twice"
    (var, channels), groups = dot.channel, () if group is None else (group,)
    steps = [stride(dot.weight.index, loop) for loop, _ in dot.form.reduce]
    step = stride(dot.weight.index, var)
    start = substitute(dot.weight.index, {loop: const(0) for loop, _ in (*dot.form.reduce, dot.channel, *groups)})
    known = tuple(s for s in steps if s is not None)
    if step is None or len(known) < len(steps) or not isinstance(start, Const) or not isinstance(channels, int):
        return "the weights are not walked in even steps"
    for loop, extent in groups:
        if stride(dot.weight.index, loop) != channels * step or not isinstance(extent, int):
            return "the weights of groups do not follow each other"
        channels *= extent
    extents = tuple(extent for _, extent in dot.form.reduce if isinstance(extent, int))
    return RowPack(channels, step, extents, known, int(start.value), width, dot.weight.dtype)


class PackedWeights:
    """The weights as a kernel reads them, and their sums if the data have a zero point."""

    def __init__(self, dot: Dot, pack: RowPack, channels: int, align: int) -> None:
        self.before, self.pack = dot.weight.buffer, pack
        self.buffer = Buffer(self.before.name, pack.dtype, pack.size, Scope.CONST, align)
        self.sums = None if dot.zero is None else Buffer(f"{self.before.name}s", DType.INT32, channels, Scope.CONST)
        self.channels, self.zero = channels, dot.zero

    @property
    def centre(self) -> tuple[Expr, Buffer] | None:
        """Zero point of the data and sums of the weights."""
        return None if self.zero is None or self.sums is None else (self.zero, self.sums)

    def kernel(self, k: KernelBuilder, name: str, group: Group, binder: Binder, schedule: str) -> ScheduledKernel:
        """The kernel of everything that was emitted."""
        buffers = [self.buffer if b is self.before else b for b in binder.arguments.values()]
        packs: list[Pack | None] = [self.pack if b is self.buffer else None for b in buffers]
        values = list(binder.values)
        if self.sums is not None:
            values.insert(0, values[buffers.index(self.buffer)])
            buffers.insert(0, self.sums)
            packs.insert(0, ChannelSums(self.pack, self.channels))
        kernel = k.kernel(name, tuple(buffers), group.stages[0].loc, schedule)
        return ScheduledKernel(kernel, tuple(values), 1, build.dim(total_work(group)), tuple(packs))


class _Dots:
    """The schedule of one contraction."""

    def __init__(self, group: Group, bound: BoundDot, rows: DotRows, pack: RowPack) -> None:
        self.group, self.bound, self.rows, self.pack = group, bound, rows, pack
        self.dot = dot = bound.dot
        self.channels = pack.rows if bound.group is None else pack.rows // int(bound.group[1])  # type: ignore[arg-type]
        self.weights = PackedWeights(dot, pack, pack.rows, rows.k)
        self.k = KernelBuilder()
        self.filler = PatchFiller(self.k, dot.window, dot.outside, rows, pack.width)
        self.stores = Stores.of(self.k, dot.form, dot.channel[0], rows, self.weights.centre)

    def kernels(self) -> Sequence[ScheduledKernel]:
        """The kernel."""
        count = build.product(extent for _, extent in self.dot.pixels)
        together = self.rows.pixels if count != 1 else 1
        with (
            self.stores.known() as self.stores,
            self.k.local(DType.INT16, together * self.pack.width, "patch", Scope.STACK, PATCH_ALIGN) as patch,
        ):
            self._pixels(patch, count, together)
        names = ",".join(f"{p}x{c}" for p, c in self._sizes(together))
        made = self.weights.kernel(self.k, "dot", self.group, self.bound.binder, f"dot(depth={self.pack.width}, rows={names})")
        return (with_leads(made, self.bound.form, self.dot.pixels, self.group.stages[0].value, together),)

    def _pixels(self, patch: Buffer, count: Dim, together: int) -> None:
        """Pixels, as many at a time as go together, then the rest."""
        done: Expr = const(0)
        for size in dict.fromkeys((together, 1)):
            steps = build.dim(build.floordiv(build.sub(build.index(count), done), size))
            if steps == 0:
                continue
            with self.k.loop("p", steps) as step:
                first = add(done, mul(step, size))
                with each_group(self.k, self.bound.group):
                    self._tile(patch, [add(first, j) for j in range(size)])
            done = add(done, mul(build.index(steps), size))

    def _tile(self, patch: Buffer, pixels: Sequence[Expr]) -> None:
        """All channels (of a group) of some pixels, given by their numbers."""
        for j, pixel in enumerate(pixels):
            with named_places(self.k, self.dot.pixels, pixel) as at:
                self.filler.patch(patch, j, len(pixels), at)
        values = [places(self.dot.pixels, pixel) for pixel in pixels]
        done = 0
        for row in self._channel_rows(len(values)):
            steps = (self.channels - done) // row.channels
            if steps:
                with self.k.loop("c", steps) as step:
                    self._dot(row, patch, values, add(mul(step, row.channels), done))
            done += steps * row.channels

    def _channel_rows(self, pixels: int) -> list[DotRow]:
        """The rows for a number of pixels, those of the most channels first."""
        dtype, weight = self.dot.data.dtype, self.dot.weight.dtype
        found = [r for r in self.rows.dots if (r.data, r.weight, r.pixels) == (dtype, weight, pixels)]
        return sorted(found, key=lambda r: -r.channels)

    def _sizes(self, together: int) -> list[tuple[int, int]]:
        return [(row.pixels, row.channels) for row in self._channel_rows(together)]

    def _dot(self, row: DotRow, patch: Buffer, values: Sequence[dict[Var, Expr]], channel: Expr) -> None:
        """One block of accumulators, and its epilogue."""
        width, channels = self.pack.width, range(row.channels)
        with self.k.local(DType.INT32, row.pixels * row.channels, "acc", Scope.REGISTER) as acc:
            first = channel if self.bound.group is None else add(channel, mul(self.bound.group[0], self.channels))
            weights = [mul(add(first, c), width) for c in channels]
            buffers = (acc, patch, *[self.weights.buffer] * row.channels)
            self.k.emit(Extern(row.name, (const(0), const(0), *weights, const(width)), buffers))
            for j, at in enumerate(values):
                self.stores.emit(at, channel, acc, j * row.channels, row.channels)


def places(loops: tuple[Loop, ...], at: Expr) -> dict[Var, Expr]:
    """The values of some loops at a position of their product."""
    indices = build.delinearize(at, tuple(extent for _, extent in loops))
    return {var: value for (var, _), value in zip(loops, indices, strict=True)}


@contextmanager
def named_places(k: KernelBuilder, loops: tuple[Loop, ...], at: Expr) -> Iterator[dict[Var, Expr]]:
    """The same, computed once for the block."""
    named: dict[Var, tuple[Var, Expr]] = {}
    for (var, extent), value in zip(loops, places(loops, at).values(), strict=True):
        named[var] = (Var(k.name(var.name), build.INDEX, 1, extent if isinstance(extent, int) else 0), value)
    if len(loops) == 1:
        yield places(loops, at)
        return
    with k.nested() as body:
        yield {var: name for var, (name, _) in named.items()}
    stmt = block(body)
    for name, value in reversed(named.values()):
        stmt = Let(name, value, stmt)
    k.emit(stmt)
