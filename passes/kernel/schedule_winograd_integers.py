"""The schedule of convolutions of bytes with windows of three by three, by Winograd's algorithm (`winograd_integers`).

    parallel over parts of the channels and bands of the output
      for rows of squares in the band
        copy the data of the row, with what lies outside, as 16-bit integers
        transform each square of the data
      for tiles of channels
        for each of the n * n places: sums over the depth of data x weights     (the row's instruction)
        for squares: transform the sums into m * m outputs, and store what the epilogue makes of them

The weights are transformed at compile time. All sums are exact modulo 2 ** 32, so results are those of `schedule_dot_tiles`
bit for bit; which of the two runs is decided by counting instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, load, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import DotStep
from ...compiler.kernel.nodes import BinaryOp, Buffer, Dim, Expr, Extern, LoopKind, Scope, Var
from ...compiler.kernel.traverse import free_vars, substitute
from ...compiler.kernel.vector_loop import vector_loop
from ...compiler.program.stages import Group, ScheduledKernel
from ...compiler.program.weights import Pack
from .contraction_plan import ENOUGH_TASKS, known
from .dot_form import Dot
from .hoist_channel_terms import LINE_BYTES, hoist_channel_terms
from .pack_rows import RowPack
from .pack_winograd_integers import IntegerWinogradPack
from .plan_winograd_integers import WinogradCost, direct_cost, has_room, window_3x3
from .schedule_dot import named_places, packed_weights
from .schedule_dot_tiles import DotTarget, centred_dot
from .schedule_rows import Binder
from .tile_model import choose_tile
from .winograd_integers import IntegerWinograd, winograd_integers
from .winograd_tile import TileTransform
from .winograd_window import SlidingWindow, extent_of

SIZES = (2, 3, 4)
"""Sides of the squares of outputs."""
BAND_BYTES = 256 << 10
"""Transformed data of a band at most: they are on the stack, and should stay in the second-level cache."""
MIN_SQUARES = 5
"""Squares of a band, if there are as many: fewer would load the weights too often."""
GAIN = 0.9
"""The algorithm is taken if it needs less than this share of the instructions."""
REDONE = 0.04
"""Share of the work that tasks which have the same band, and other channels, may do again."""


def schedule_winograd_integers(group: Group, target: DotTarget, is_constant: Callable[[Value], bool]) -> Sequence[ScheduledKernel] | str:
    """Schedule a group of one convolution of bytes, or say why it is no such convolution or why another schedule is better."""
    found = centred_dot(group, is_constant)
    if isinstance(found, str):
        return found
    binder, dot, zero = found
    window = window_3x3(dot)
    if isinstance(window, str):
        return window
    if any(var in free_vars(zero) for var, _ in (*dot.form.reduce, *dot.form.axes)):
        return "the zero point changes"
    direct = target.step(dot)
    row = next((r for r in target.steps if r.operand is DType.INT16 and r.weight is DType.INT16), None)
    if direct is None or row is None or extent_of(window.channels[0]) % row.k:
        return "no instruction for these types"
    rows = packed_weights(dot, dot.window.size)
    if isinstance(rows, str):
        return rows
    limits = dot.data.dtype.limits
    largest = 255 if dot.zero is not None else max(-limits[0], limits[1])
    algorithms = [algorithm for algorithm in map(winograd_integers, SIZES) if has_room(algorithm, largest, dot)]
    costs = {algorithm: WinogradCost(algorithm, window, rows.rows, row) for algorithm in algorithms}
    best = min(algorithms, key=lambda algorithm: costs[algorithm].total, default=None)
    if best is None or costs[best].total > GAIN * direct_cost(dot, direct, rows.rows):
        return "the products as they are cost less"
    return _IntegerWinograds(group, binder, dot, zero, window, row, best, costs[best], rows).kernels()


# --- The schedule -----------------------------------------------------------------------------


class _IntegerWinograds:
    """The schedule of one convolution."""

    def __init__(
        self, group: Group, binder: Binder, dot: Dot, zero: Expr, window: SlidingWindow, row: DotStep,
        algorithm: IntegerWinograd, cost: WinogradCost, rows: RowPack,
    ) -> None:  # fmt: skip
        self.stage, self.binder, self.dot, self.zero = group.stages[0], binder, dot, zero
        self.window, self.row, self.algorithm, self.cost = window, row, algorithm, cost
        self.pack = IntegerWinogradPack(rows, algorithm.outputs, row.lanes, row.k, row.weight)
        self.weights = Buffer(dot.weight.buffer.name, row.weight, self.pack.size, Scope.CONST, LINE_BYTES)
        self.depth, self.places, self.steps = extent_of(window.channels[0]), algorithm.products**2, self.pack.depth // row.k
        self.high, self.wide = (-(-extent_of(loop) // algorithm.outputs) for loop in (window.row, window.column))
        self.band = self._band()
        self.squares = self.band * self.wide
        self.mr, self.nv = choose_tile(row, self.squares, self.pack.blocks)
        self.k = KernelBuilder()

    def kernels(self) -> Sequence[ScheduledKernel]:
        """The kernel."""
        iterations = self._emit()
        buffers = tuple(self.weights if b is self.dot.weight.buffer else b for b in self.binder.arguments.values())
        packs: tuple[Pack | None, ...] = tuple(self.pack if b is self.weights else None for b in buffers)
        sizes = f"depth={self.depth}, band={self.band}, mr={self.mr}, nv={self.nv}"
        schedule = f"winograd(outputs={self.algorithm.outputs}, taps={self.algorithm.taps}, {sizes}, mma={self.row.name})"
        kernel = self.k.kernel("winograd", buffers, self.stage.loc, schedule)
        return (ScheduledKernel(kernel, tuple(self.binder.values), iterations, int(self.cost.total), packs),)

    def _band(self) -> int:
        """Rows of squares that are transformed together."""
        row = self.places * self.wide * self.depth * self.row.operand.bytes
        wanted = max(1, min(BAND_BYTES // row, -(-MIN_SQUARES // self.wide), self.high))
        return -(-self.high // -(-self.high // wanted))

    def _column_parts(self, bands: int) -> int:
        """Parts of the channels, so that there are enough tasks and little is done twice."""
        tiles = -(-self.pack.blocks // self.nv)
        wanted = -(-ENOUGH_TASKS // bands)
        cheap = 1 + int(REDONE * self.cost.sums / self.cost.data)
        return -(-tiles // -(-tiles // max(1, min(wanted, cheap, tiles))))

    def _emit(self) -> Dim:
        """The parallel loop; returns its extent."""
        bands = -(-self.high // self.band)
        images = build.product(extent for _, extent in self.window.images)
        tiles = -(-self.pack.blocks // self.nv)
        columns = self._column_parts(bands * known(images))
        each = -(-tiles // columns)
        size = self.places * self.squares * self.pack.depth
        with self.k.loop("p", build.product((columns, images, bands)), LoopKind.PARALLEL) as p, ExitStack() as blocks:
            part, image, band = build.delinearize(p, (columns, images, bands))
            transformed = blocks.enter_context(self.k.local(self.row.operand, size, "transformed", Scope.STACK, LINE_BYTES))
            values = blocks.enter_context(named_places(self.k, self.window.images, image)) if self.window.images else {}
            first = mul(band, self.band)
            count = self.band if self.high % self.band == 0 else build.dim(build.minimum(build.sub(self.high, first), self.band))
            self._transform_band(transformed, values, first, count)
            begin = mul(part, each)
            channels = min(each * self.nv, self.pack.blocks) * self.row.lanes
            self.dot = hoist_channel_terms(self.k, blocks, self.dot, mul(begin, self.nv * self.row.lanes), channels, self.row.lanes)
            self._channel_tiles(transformed, values, begin, each, first, count)
        return build.product((columns, images, bands))

    # --- Data ---------------------------------------------------------------------------------

    def _transform_band(self, transformed: Buffer, values: dict[Var, Expr], first: Expr, count: Dim) -> None:
        """The squares of a band as [n * n, squares, depth]."""
        m, n = self.algorithm.outputs, self.algorithm.products
        across = self.wide * m + self.window.taps - 1
        with (
            self.k.loop("r", count) as r,
            self.k.local(self.row.operand, n * across * self.depth, "strip", Scope.STACK, LINE_BYTES) as strip,
        ):
            self._copy_strip(strip, values, add(first, r), across)
            with self.k.loop("s", self.wide) as s:
                self._transform_square(strip, across, mul(s, m), transformed, add(mul(r, self.wide), s))

    def _copy_strip(self, strip: Buffer, values: dict[Var, Expr], row: Expr, across: int) -> None:
        """The data of a row of squares, minus their zero point, and what stands outside of them."""
        w, m, n = self.window, self.algorithm.outputs, self.algorithm.products
        with self.k.loop("y", n) as y, self.k.loop("x", across) as x:
            # Outputs of the last squares that are none read beyond the data.
            here = values | {w.row[0]: mul(row, m), w.column[0]: const(0), w.tap_row: y, w.tap_column: x}
            inside = substitute(self.dot.inside, here)
            if self.high * m > extent_of(w.row):
                inside = build.logical_and(inside, build.lt(add(mul(row, m), y), extent_of(w.row) + w.taps - 1))
            if self.wide * m > extent_of(w.column):
                inside = build.logical_and(inside, build.lt(x, extent_of(w.column) + w.taps - 1))
            place = mul(add(mul(y, across), x), self.depth)
            with self.k.when(inside):
                source = substitute(self.dot.data.index, here | {w.channels[0][0]: const(0)})
                self._copy(strip, place, lambda at: build.cast(load(self.dot.data.buffer, add(source, at)), DType.INT32))
            with self.k.otherwise():
                self._copy(strip, place, lambda _: substitute(self.dot.outside, values))

    def _copy(self, strip: Buffer, place: Expr, datum: Callable[[Expr], Expr]) -> None:
        def element(at: Expr) -> None:
            self.k.store(strip, add(place, at), build.cast(build.sub(datum(at), self.zero), strip.dtype))

        vector_loop(self.k, self.depth, 2 * self.row.lanes, element)

    def _transform_square(self, strip: Buffer, across: int, column: Expr, transformed: Buffer, square: Expr) -> None:
        """B d B^T for all channels, in vectors of 16-bit integers."""
        n, lanes = self.algorithm.products, 2 * self.row.lanes
        while self.depth % lanes:
            lanes //= 2
        distance = self.squares * self.pack.depth
        transform = TileTransform(self.k, self.algorithm.data_matrix, strip.dtype, lanes)
        with self.k.loop("c", self.depth // lanes) as c, ExitStack() as blocks:
            channel = mul(c, lanes)
            half = blocks.enter_context(transform.columns(lambda y, x, lane: load(
                strip, add(mul(add(mul(y, across), add(column, x)), self.depth), add(channel, lane)))))  # fmt: skip
            with self.k.loop("y", n) as y, transform.vector() as lane:
                start = add(add(mul(mul(y, n), distance), mul(square, self.pack.depth)), add(channel, lane))
                transform.row(half, y, lane, lambda x, value: self.k.store(transformed, add(start, x * distance), value))

    # --- Sums ---------------------------------------------------------------------------------

    def _channel_tiles(self, transformed: Buffer, values: dict[Var, Expr], begin: Expr, each: int, first: Expr, count: Dim) -> None:
        """All tiles of channels of a part: full ones, then what is left."""
        tiles, rest = divmod(self.pack.blocks, self.nv)
        is_even = self.pack.rows.rows % self.row.lanes == 0
        if not is_even and not rest:
            tiles, rest = tiles - 1, self.nv
        full = each if begin is const(0) and each == tiles else build.dim(build.minimum(build.sub(tiles, begin), each))
        with self.k.loop("ct", full) as tile:
            self._channels(transformed, values, mul(add(begin, tile), self.nv), self.nv, first, count, False)
        if rest:
            with self.k.when(build.lt(build.index(tiles), add(begin, each))):
                self._channels(transformed, values, const(tiles * self.nv), rest, first, count, not is_even)

    def _channels(self, transformed: Buffer, values: dict[Var, Expr], block: Expr, nv: int, first: Expr, count: Dim, partial: bool) -> None:
        """Some vectors of channels for all squares of the band."""
        with self.k.local(DType.INT32, self.places * self.squares * nv * self.row.lanes, "sums", Scope.STACK, LINE_BYTES) as sums:
            squares = build.dim(mul(build.index(count), self.wide))
            with self.k.loop("q", self.places) as place:
                self._place(transformed, sums, block, nv, place, squares)
            with self.k.loop("r", count) as r, self.k.loop("s", self.wide) as s:
                self._outputs(sums, values, block, nv, (add(first, r), s), add(mul(r, self.wide), s), partial)

    def _place(self, transformed: Buffer, sums: Buffer, block: Expr, nv: int, place: Expr, squares: Dim) -> None:
        """The sums at one place of all squares."""
        done: Expr = const(0)
        sizes = (self.mr, squares % self.mr) if isinstance(squares, int) else (self.mr, max(1, self.mr // 2), 1)
        for size in dict.fromkeys(s for s in sizes if s):
            tiles = build.dim(build.floordiv(build.sub(build.index(squares), done), size))
            if tiles == 0:
                continue
            with self.k.loop("rt", tiles) as tile:
                self._tile(transformed, sums, block, nv, place, add(done, mul(tile, size)), size)
            done = add(done, mul(build.index(tiles), size))

    def _tile(self, transformed: Buffer, sums: Buffer, block: Expr, nv: int, place: Expr, square: Expr, size: int) -> None:
        """One register tile."""
        lanes, k, depth = self.row.lanes, self.row.k, self.pack.depth
        at = add(mul(place, self.squares), square)
        with self.k.local(DType.INT32, size * nv * lanes, "acc", Scope.REGISTER, LINE_BYTES) as acc:
            with self.k.loop("i", size * nv, LoopKind.UNROLL) as i, self.k.loop("l", lanes, LoopKind.VECTOR) as lane:
                self.k.store(acc, add(mul(i, lanes), lane), 0)
            with self.k.loop("kk", self.steps) as step, self.k.loops((size, nv), LoopKind.UNROLL) as (i, j):
                data = add(mul(add(at, i), depth), mul(step, k))
                row = add(mul(add(mul(add(block, j), self.places), place), self.steps), step)
                operands = (mul(add(mul(i, nv), j), lanes), data, mul(row, lanes * k))
                self.k.emit(Extern(self.row.name, operands, (acc, transformed, self.weights)))
            with self.k.loop("i", size * nv, LoopKind.UNROLL) as i, self.k.loop("l", lanes, LoopKind.VECTOR) as lane:
                self.k.store(sums, add(mul(add(mul(at, nv), i), lanes), lane), load(acc, add(mul(i, lanes), lane)))

    # --- Outputs ------------------------------------------------------------------------------

    def _outputs(
        self, sums: Buffer, values: dict[Var, Expr], block: Expr, nv: int, at: tuple[Expr, Expr], square: Expr, partial: bool
    ) -> None:
        """A M A^T for one square, divided by its factors, and the epilogue."""
        w, m, width = self.window, self.algorithm.outputs, nv * self.row.lanes
        with self.k.local(DType.INT32, m * m * width, "outputs", Scope.STACK, LINE_BYTES) as outputs:
            with self.k.loop("j", nv) as j:
                self._transform_sums(sums, outputs, mul(j, self.row.lanes), width, square)
            down, right = at
            rows, columns = (
                m if extent_of(loop) % m == 0 else build.dim(build.minimum(build.sub(extent_of(loop), mul(start, m)), m))
                for loop, start in ((w.row, down), (w.column, right))
            )
            with self.k.loop("y", rows) as y, self.k.loop("x", columns) as x:
                here = values | {w.row[0]: add(mul(down, m), y), w.column[0]: add(mul(right, m), x)}
                for start in range(0, width, 2 * self.row.lanes):
                    with self.k.loop("l", min(2 * self.row.lanes, width - start), LoopKind.VECTOR) as lane:
                        total = load(outputs, add(mul(add(mul(y, m), x), width), add(lane, start)))
                        self._store(here, add(mul(block, self.row.lanes), add(lane, start)), total, partial)

    def _transform_sums(self, sums: Buffer, outputs: Buffer, first: Expr, width: int, square: Expr) -> None:
        """One vector of channels."""
        m, n = self.algorithm.outputs, self.algorithm.products
        transform = TileTransform(self.k, self.algorithm.output_matrix, DType.INT32, self.row.lanes)

        def read(y: Expr, x: Expr, lane: Expr) -> Expr:
            place = add(mul(add(mul(y, n), x), self.squares), square)
            return load(sums, add(mul(place, width), add(first, lane)))

        with transform.columns(read) as half, transform.vector() as lane:

            def put(i: int, j: int, value: Expr) -> None:
                self.k.store(outputs, add(add(first, lane), (i * m + j) * width), self._divided(value, i, j))

            for i in range(m):
                transform.row(half, const(i), lane, partial(put, i))

    def _divided(self, value: Expr, i: int, j: int) -> Expr:
        """An output without its factors."""
        if self.algorithm.odd != 1:
            value = mul(value, const(self.algorithm.inverse, DType.INT32))
        return build.bitwise(BinaryOp.SHR, value, const(self.algorithm.shifts[i][j], DType.INT32))

    def _store(self, values: dict[Var, Expr], channel: Expr, total: Expr, partial: bool) -> None:
        form = self.dot.form.substitute(values | {self.dot.channel[0]: channel})
        with self.k.when(build.lt(channel, build.index(self.dot.channel[1]))) if partial else ExitStack():
            self.k.store(form.target, form.at, substitute(form.result, {form.acc: total}))
