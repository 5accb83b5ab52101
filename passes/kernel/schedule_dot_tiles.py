"""The schedule of sums of products of bytes for CPUs with wide vectors: register tiles over patches.

    parallel over parts of the channels and of the pixels
      for tiles of pixels
        fill the patch of each pixel: its window, widened to what the instruction takes
        for tiles of channels: accumulators in registers                   (tile_model)
          for the depth: accumulators += groups of data x weights          (the row's instruction)
          store what the epilogue makes of the accumulators

The patches make every window a matrix product with even steps, whatever the layout and the padding; they stay in the
first-level cache while all channels of the part pass by. A zero point is taken from the data where the patch has room
for the difference. Else sums are taken of the data as they are, minus the sums for a pixel that is zero everywhere. All sums
are exact: where an instruction sums only small data, the upper bits of large ones come after the rest (split_patches).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, load, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import DotStep, LaneStep
from ...compiler.kernel.nodes import Binary, BinaryOp, Buffer, Const, Dim, Expr, Extern, Load, LoopKind, Scope, Var
from ...compiler.kernel.traverse import free_vars, map_expr, substitute, walk
from ...compiler.kernel.vector_loop import vector_loop
from ...compiler.program.stages import Group, ScheduledKernel
from ...compiler.program.weights import Pack
from .contraction_plan import ENOUGH_TASKS, RESIDENT, known
from .dot_form import Dot, dot_form
from .hoist_channel_terms import LINE_BYTES, hoist_channel_terms
from .loop_form import collapse
from .pack_groups import GroupPack
from .pack_rows import ChannelSums, RowPack
from .schedule_dot import named_places, packed_weights
from .schedule_rows import Binder
from .split_patches import PatchSplitter
from .tile_model import choose_tile

UNROLL = 1
"""Steps of the depth that are written out."""
MIN_PIXELS = 48
"""Pixels of a task, if there are as many: fewer would load the weights too often."""


@dataclass(frozen=True, slots=True)
class DotTarget:
    """What the schedule knows of a machine."""

    steps: tuple[DotStep, ...]
    """The instructions, best first."""
    lanes: tuple[LaneStep, ...]
    """Those for products that stay in their lane."""
    vector_bits: int
    l2_bytes: int

    def step(self, dot: Dot) -> DotStep | None:
        """The best instruction for a sum. One that sums small data is for those in which the lowest number stands for 0."""
        is_low = dot.zero is None and dot.form.zero_code == dot.data.dtype.limits[0]
        for row in self.steps:
            if (row.weight is dot.weight.dtype or row.weight.bits > 8) and (row.guard is None or is_low):
                return row
        return None


def schedule_dot_tiles(group: Group, target: DotTarget, is_constant: Callable[[Value], bool]) -> Sequence[ScheduledKernel] | str:
    """Schedule a group of one sum of products of bytes, or say why it is not one."""
    found = centred_dot(group, is_constant)
    if isinstance(found, str):
        return found
    binder, dot, zero = found
    if dot.is_depthwise:
        return "each channel reads only itself"
    row = target.step(dot)
    if row is None:
        return "no instruction for these types"
    if any(var in free_vars(zero) for var, _ in (*dot.form.reduce, dot.channel)):
        return "the zero point changes along the reduction"
    if not row.centres and any(var in free_vars(zero) for var, _ in dot.pixels):
        return "the zero point differs between pixels"
    rows = packed_weights(dot, -(-dot.window.size // row.k) * row.k)
    return rows if isinstance(rows, str) else _Tiles(group, binder, dot, zero, row, target, rows).kernels()


def centred_dot(group: Group, is_constant: Callable[[Value], bool]) -> tuple[Binder, Dot, Expr] | str:
    """A group's only stage bound to buffers and taken apart, and the zero point that is still to be taken from its data."""
    if len(group.stages) != 1 or group.stages[0].is_map:
        return "not one reduction"
    binder = Binder(group, is_constant)
    dot = dot_form(collapse((binder.form(group.stages[0]),))[0][0])
    return dot if isinstance(dot, str) else (binder, dot, const(0, DType.INT32) if dot.zero is None else dot.zero)


class _Tiles:
    """The schedule of one contraction."""

    def __init__(self, group: Group, binder: Binder, dot: Dot, zero: Expr, row: DotStep, target: DotTarget, rows: RowPack) -> None:
        self.stage, self.binder, self.dot, self.zero, self.row, self.target = group.stages[0], binder, dot, zero, row, target
        self.pack = GroupPack(rows, row.lanes, row.k, row.weight)
        self.weights = Buffer(dot.weight.buffer.name, row.weight, self.pack.size, Scope.CONST, LINE_BYTES)
        self.sums = Buffer("sums", DType.INT32, rows.rows, Scope.CONST, LINE_BYTES)
        self.has_sums = False
        self.pixels = build.product(extent for _, extent in dot.pixels)
        self.mr, self.nv = choose_tile(row, known(self.pixels), self.pack.blocks)
        self.width = rows.width
        # An odd number of lines apart, the patches of a tile do not compete for the same places of the cache.
        lines = -(-self.width * row.operand.bytes // LINE_BYTES) | 1
        self.distance = lines * LINE_BYTES // row.operand.bytes
        self.k = KernelBuilder()
        self.splitter: PatchSplitter | None = None

    def kernels(self) -> Sequence[ScheduledKernel]:
        """The kernel."""
        iterations = self._emit()
        buffers = tuple(self.weights if b is self.dot.weight.buffer else b for b in self.binder.arguments.values())
        packs: tuple[Pack | None, ...] = tuple(self.pack if b is self.weights else None for b in buffers)
        values = tuple(self.binder.values)
        if self.has_sums:
            values = (*values, values[buffers.index(self.weights)])
            buffers, packs = (*buffers, self.sums), (*packs, ChannelSums(self.pack.rows, self.pack.rows.rows))
        schedule = f"dot(mr={self.mr}, nv={self.nv}, mma={self.row.name}, depth={self.width})"
        kernel = self.k.kernel("dot", buffers, self.stage.loc, schedule)
        products = build.product((self.pixels, self.pack.blocks, self.width // self.row.k))
        work = build.dim(build.floordiv(build.index(products), int(self.row.steps_per_cycle)))
        return (ScheduledKernel(kernel, values, iterations, work, packs),)

    # --- Parts --------------------------------------------------------------------------------

    def _emit(self) -> Dim:
        """The parallel loop over parts of the channels (in vectors) and of the pixels; returns its extent."""
        columns, vectors = self._column_parts()
        rows, size = self._row_parts(columns)
        with self.k.loop("p", build.product((columns, rows)), LoopKind.PARALLEL) as p, ExitStack() as blocks:
            part, at = build.delinearize(p, (columns, rows))
            patch = blocks.enter_context(self.k.local(self.row.operand, self.mr * self.distance, "patch", Scope.STACK, LINE_BYTES))
            if self.row.guard is not None:
                self.splitter = PatchSplitter(self.k, blocks, patch, self.row.guard, self.row.k, self.width, self.distance)
            first, channels = mul(part, vectors * self.row.lanes), min(vectors, self.pack.blocks) * self.row.lanes
            start = self._start(blocks, first, channels)
            self.dot = hoist_channel_terms(self.k, blocks, self.dot, first, channels, self.row.lanes)
            pixel = mul(at, size)
            is_even = isinstance(self.pixels, int) and self.pixels % size == 0
            count = size if is_even else build.dim(build.minimum(build.sub(build.index(self.pixels), pixel), size))
            self._pixel_tiles(patch, start, part, vectors, pixel, count)
        return build.product((columns, rows))

    def _column_parts(self) -> tuple[int, int]:
        """(parts, vectors in a part): the weights of a part stay in the second-level cache."""
        tile = self.nv * self.row.lanes * self.width * self.row.weight.bytes
        tiles = -(-self.pack.blocks // self.nv)
        fits = max(1, int(RESIDENT * self.target.l2_bytes) // tile)
        parts = -(-tiles // fits)
        return parts, -(-tiles // parts) * self.nv

    def _row_parts(self, columns: int) -> tuple[Dim, int]:
        """(parts, pixels in a part), with a part for each thread if there is enough to do."""
        wanted = -(-known(self.pixels) // max(1, -(-ENOUGH_TASKS // columns)))
        size = max(min(MIN_PIXELS, known(self.pixels)), wanted)
        size = -(-size // self.mr) * self.mr
        return build.dim(build.ceildiv(self.pixels, size)), size

    # --- Tiles --------------------------------------------------------------------------------

    def _pixel_tiles(self, patch: Buffer, start: Buffer | None, part: Expr, vectors: int, pixel: Expr, rows: Dim) -> None:
        """All pixels of a task, in tiles."""
        done: Expr = const(0)
        sizes = (self.mr, rows % self.mr) if isinstance(rows, int) else (self.mr, max(1, self.mr // 2), 1)
        for size in dict.fromkeys(s for s in sizes if s):
            count = build.dim(build.floordiv(build.sub(build.index(rows), done), size))
            if count == 0:
                continue
            with self.k.loop("rt", count) as tile:
                first = add(pixel, add(done, mul(tile, size)))
                with self.k.loop("i", size) as i, named_places(self.k, self.dot.pixels, add(first, i)) as values:
                    self._fill(patch, mul(i, self.distance), values)
                if self.splitter is not None:
                    self.splitter.split(size)
                with ExitStack() as blocks:
                    at = [blocks.enter_context(named_places(self.k, self.dot.pixels, add(first, i))) for i in range(size)]
                    self._channel_tiles(patch, start, part, vectors, at)
            done = add(done, mul(build.index(count), size))

    def _channel_tiles(self, patch: Buffer, start: Buffer | None, part: Expr, vectors: int, at: Sequence[dict[Var, Expr]]) -> None:
        """All channels of a part for some pixels: full tiles, then what is left."""
        begin, count = mul(part, vectors), vectors // self.nv
        is_even, last = self.pack.rows.rows % self.row.lanes == 0, self.pack.blocks % self.nv
        whole = self.pack.blocks // self.nv
        if not is_even and not last:
            whole, last = whole - 1, self.nv
        parts = -(-self.pack.blocks // vectors)
        full: Dim = whole if parts == 1 else build.dim(build.minimum(build.sub(whole, mul(part, count)), count))
        with self.k.loop("ct", full) as tile:
            self._tile(patch, start, begin, mul(tile, self.nv), self.nv, at, False)
        if last:
            with self.k.when(build.eq(part, parts - 1)) if parts > 1 else ExitStack():
                self._tile(patch, start, begin, mul(build.index(full), self.nv), last, at, not is_even)

    def _tile(
        self, patch: Buffer, start: Buffer | None, begin: Expr, inside: Expr, nv: int, at: Sequence[dict[Var, Expr]], partial: bool
    ) -> None:
        """One tile: begin, reduce, store. Its first vector is `begin + inside`."""
        lanes, first = self.row.lanes, add(begin, inside)
        with self.k.local(DType.INT32, len(at) * nv * lanes, "acc", Scope.REGISTER, LINE_BYTES) as acc:
            self._sums(acc, patch, first, len(at), nv, None if start is None else (start, mul(inside, lanes)))
            for i, values in enumerate(at):
                for j in range(0, nv, 2):
                    together = min(2, nv - j) * lanes
                    with self.k.loop("l", together, LoopKind.VECTOR) as lane:
                        total = load(acc, add(lane, (i * nv + j) * lanes))
                        self._store(values, add(mul(add(first, j), lanes), lane), total, partial)

    def _sums(self, acc: Buffer, patch: Buffer, first: Expr, mr: int, nv: int, start: tuple[Buffer, Expr] | None = None) -> None:
        """The accumulators of a tile, which begin with what stands at a place of a buffer, or with 0."""
        lanes, row = self.row.lanes, self.row
        with self.k.loops((mr, nv), LoopKind.UNROLL) as (i, j), self.k.loop("l", lanes, LoopKind.VECTOR) as lane:
            value = 0 if start is None else load(start[0], add(start[1], add(mul(j, lanes), lane)))
            self.k.store(acc, add(mul(add(mul(i, nv), j), lanes), lane), value)
        steps = self.width // row.k
        unroll = next(u for u in (UNROLL, 2, 1) if steps % u == 0)
        with self.k.loop("kk", steps // unroll) as outer, self.k.loop("ku", unroll, LoopKind.UNROLL) as inner:
            self._step(acc, patch, first, mr, nv, add(mul(outer, unroll), inner))
        if self.splitter is not None:
            with self.splitter.steps() as step:
                self._step(acc, self.splitter.rest, first, mr, nv, step)

    def _step(self, acc: Buffer, patch: Buffer, first: Expr, mr: int, nv: int, step: Expr) -> None:
        """One step of the depth."""
        lanes, k, steps = self.row.lanes, self.row.k, self.width // self.row.k
        with self.k.loops((mr, nv), LoopKind.UNROLL) as (i, j):
            data = add(mul(i, self.distance), mul(step, k))
            weights = mul(add(mul(add(first, j), steps), step), lanes * k)
            self.k.emit(Extern(self.row.name, (mul(add(mul(i, nv), j), lanes), data, weights), (acc, patch, self.weights)))

    def _store(self, values: dict[Var, Expr], channel: Expr, total: Expr, partial: bool) -> None:
        form = self.dot.form.substitute(values | {self.dot.channel[0]: channel})
        with self.k.when(build.lt(channel, build.index(self.dot.channel[1]))) if partial else ExitStack():
            self.k.store(form.target, form.at, substitute(form.result, {form.acc: total}))

    # --- Patches ------------------------------------------------------------------------------

    def _fill(self, patch: Buffer, place: Expr, values: dict[Var, Expr]) -> None:
        """The window of one pixel."""
        data, lanes = self.dot.data, self.target.vector_bits // (8 * self.row.operand.bytes)
        outside = self._in_patch(substitute(self.dot.outside, values), values)

        def append(position: Expr, source: Expr | None, count: int) -> None:
            def element(at: Expr) -> None:
                found = outside if source is None else self._in_patch(build.cast(load(data.buffer, add(source, at)), DType.INT32), values)
                self.k.store(patch, add(place, add(position, at)), found)

            vector_loop(self.k, count, lanes, element)

        self.dot.window.walk(self.k, values, append)
        end = self.width if self.splitter is None else self.splitter.width
        vector_loop(self.k, end - self.dot.window.size, lanes, lambda at: self.k.store(patch, add(place, add(at, self.dot.window.size)), 0))

    def _in_patch(self, datum: Expr, values: dict[Var, Expr]) -> Expr:
        """An int32 of the data as it stands in the patch."""
        if self.row.centres:
            datum = build.sub(datum, substitute(self.zero, values))
        return build.cast(add(datum, const(self.row.shift(self.dot.data.dtype), DType.INT32)), self.row.operand)

    def _start(self, blocks: ExitStack, first: Expr, channels: int) -> Buffer | None:
        """What accumulators begin with, for all channels of a part: the bias minus the sums for data that are zero everywhere.

        None if that is nothing.
        """
        zero = const(0, DType.INT32) if self.row.centres else build.cast(self._in_patch(self.zero, {}), DType.INT32)
        bias = self._take_bias()
        if isinstance(zero, Const) and zero.value == 0 and bias is None:
            return None
        start = blocks.enter_context(self.k.local(DType.INT32, channels, "start", Scope.STACK, LINE_BYTES))

        def store(at: Expr) -> None:
            channel = add(first, at)
            value: Expr = const(0, DType.INT32)
            if not (isinstance(zero, Const) and zero.value == 0):
                self.has_sums = True
                value = build.neg(mul(load(self.sums, channel), zero))
            if bias is not None:
                value = add(value, substitute(bias, {self.dot.channel[0]: channel}))
            self.k.store(start, at, value)

        count = build.dim(build.minimum(build.sub(build.index(self.dot.channel[1]), first), channels))
        vector_loop(self.k, count, self.row.lanes, store)
        return start

    def _take_bias(self) -> Expr | None:
        """What the epilogue adds to the sum of each channel, if that is all that it does with sums, and known; taken from the epilogue."""
        form, acc = self.dot.form, self.dot.form.acc
        sums = [e for e in walk(form.result) if isinstance(e, Binary) and e.op is BinaryOp.ADD and acc in (e.a, e.b)]
        if len(sums) != 1:
            return None
        (total,) = sums
        bias = total.b if total.a is acc else total.a
        if set(free_vars(bias)) - {self.dot.channel[0]} or any(
            at.buffer.scope is not Scope.CONST for at in walk(bias) if isinstance(at, Load)
        ):
            return None
        alone = Var("sum", DType.INT32)
        result = map_expr(form.result, lambda e: alone if e is total else None)
        if acc in walk(result):
            return None
        self.dot = replace(self.dot, form=replace(form, result=substitute(result, {alone: acc})))
        return bias
