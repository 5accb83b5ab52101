"""The schedule of convolutions of floats by Winograd's algorithm (`winograd_floats`).

    parallel over tasks
      for units of the task: some tiles of an image, some vectors of output channels
        for parts of the input channels
          data of each tile -> transformed data          (scratch, stays in the second-level cache)
          for each point: sums += transformed data x weights       (a product of matrices in register tiles)
        sums of each tile -> results, and the epilogue

Weights are transformed at compile time. Tiles reach beyond the image at its end: there they read its last row again, and the
results outside are dropped. A NaN or an infinity spreads over its tile, three pixels farther than in the direct sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import TensorType, Value
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, floordiv, floormod, load, minimum, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import Mma
from ...compiler.kernel.nodes import Buffer, Expr, LoopKind, Scope, Var
from ...compiler.kernel.traverse import substitute
from ...compiler.program.stages import Group, ScheduledKernel
from ...compiler.program.weights import Pack
from .contraction_form import contraction_form
from .contraction_plan import known
from .loop_form import collapse
from .pack_winograd_floats import FloatWinogradPack, packed_source
from .plan_winograd_floats import WindowedContraction, WinogradPlan, plan_winograd, windowed_contraction
from .schedule_contraction import UNROLL, ContractionTarget
from .schedule_rows import Binder
from .tile_model import parts
from .winograd import Matrix
from .winograd_tile import TileTransform
from .winograd_window import extent_of

LINE = 16
"""Elements between the points in scratch memory beyond what they need, so that they do not share places in the cache."""


def schedule_winograd_floats(
    group: Group, target: ContractionTarget, is_constant: Callable[[Value], bool]
) -> Sequence[ScheduledKernel] | str:
    """Schedule a group of one convolution, or say why another schedule is better."""
    if len(group.stages) != 1 or group.stages[0].is_map:
        return "not one reduction"
    binder = Binder(group, is_constant)
    form = collapse((binder.form(group.stages[0]),))[0][0]
    row = target.row(form.term.dtype, form.term.dtype)
    if row is None or form.term.dtype is not DType.FLOAT32:
        return "not a sum of float32"
    found = contraction_form(form, row.lanes, binder.in_blocks)
    convolution = found if isinstance(found, str) else windowed_contraction(found)
    if isinstance(convolution, str):
        return convolution
    plan = plan_winograd(convolution, row, target.l2_bytes)
    if isinstance(plan, str):
        return plan
    return _FloatWinograds(group, binder, convolution, plan, row).kernels()


class _FloatWinograds:
    """The schedule of one convolution."""

    def __init__(self, group: Group, binder: Binder, convolution: WindowedContraction, plan: WinogradPlan, row: Mma) -> None:
        self.group, self.binder, self.convolution, self.plan, self.row = group, binder, convolution, plan, row
        self.contraction, self.window, self.algorithm = convolution.contraction, convolution.window, plan.algorithm
        self.lanes, self.points = self.contraction.lanes, self.algorithm.products**2
        self.pack = FloatWinogradPack(packed_source(group.stages[0], convolution), self.algorithm, plan.depth, plan.width, plan.nv)
        self.weights = Buffer(convolution.weight.buffer.name, DType.FLOAT32, self.pack.size, Scope.CONST, 64)
        self.data_pitch, self.sum_pitch = plan.tiles * plan.depth + LINE, plan.tiles * plan.width * self.lanes + LINE
        pitches = {"data": self.data_pitch, "sums": self.sum_pitch}
        sizes = {name: plan.tasks * self.points * pitch for name, pitch in pitches.items()}
        made = group.stages[0].value
        self.scratch = tuple(Value(f"{made.name}#{name}", TensorType(DType.FLOAT32, (size,))) for name, size in sizes.items())
        self.data, self.sums = (Buffer(name, DType.FLOAT32, size, Scope.GLOBAL, 64) for name, size in sizes.items())
        self.k = KernelBuilder()

    def kernels(self) -> Sequence[ScheduledKernel]:
        """The kernel."""
        plan, f = self.plan, self.algorithm
        units = build.product((plan.units, self.convolution.more_images))
        per_task = build.ceildiv(units, plan.tasks)
        with self.k.loop("p", plan.tasks, LoopKind.PARALLEL) as task:
            first = mul(task, per_task)
            with self.k.loop("u", build.dim(minimum(per_task, build.sub(build.index(units), first)))) as unit:
                self._unit(task, add(first, unit))
        arguments = self.binder.arguments.values()
        buffers = (self.data, self.sums, *(self.weights if b is self.convolution.weight.buffer else b for b in arguments))
        packs: tuple[Pack | None, ...] = tuple(self.pack if b is self.weights else None for b in buffers)
        sizes = f"depth={plan.depth}, tiles={plan.tiles}, width={plan.width}, mr={plan.mr}, nv={plan.nv}"
        schedule = f"winograd(outputs={f.outputs}, taps={f.taps}, {sizes}, mma={self.row.name})"
        kernel = self.k.kernel("winograd", buffers, self.group.stages[0].loc, schedule)
        work = build.product((int(plan.cycles), self.convolution.more_images))
        return (ScheduledKernel(kernel, (*self.scratch, *self.binder.values), plan.tasks, work, packs),)

    def _unit(self, task: Expr, unit: Expr) -> None:
        """Some tiles of an image, some vectors of output channels."""
        plan, w = self.plan, self.window
        extents = (plan.parts_out, *(d for _, d in w.images), plan.blocks)
        part, *image, block = build.delinearize(unit, extents)
        values = dict(zip((var for var, _ in w.images), image, strict=True))
        first = mul(block, plan.tiles)
        data_at, sums_at = mul(task, self.points * self.data_pitch), mul(task, self.points * self.sum_pitch)
        with self.k.loop("ip", plan.parts_in) as depth:
            with self.k.loop("t", plan.tiles) as tile:
                self._transform_data(values, minimum(add(first, tile), plan.image_tiles - 1), depth, add(data_at, mul(tile, plan.depth)))
            self._multiply(part, depth, data_at, sums_at)
        count = build.dim(minimum(plan.tiles, build.sub(plan.image_tiles, first)))
        with self.k.loop("t", count) as tile:
            where = add(sums_at, mul(tile, plan.width * self.lanes))
            self._transform_sums(values, add(first, tile), mul(part, plan.width), where)

    def _corner(self, tile: Expr) -> tuple[Expr, Expr]:
        """First row and column of a tile's outputs."""
        outputs, across = self.algorithm.outputs, self.plan.across
        return mul(floordiv(tile, across), outputs), mul(floormod(tile, across), outputs)

    # --- Data -------------------------------------------------------------------------------------

    def _transform_data(self, values: dict[Var, Expr], tile: Expr, depth: Expr, at: Expr) -> None:
        """Read the square of data of a tile and transform it."""
        w, n = self.window, self.algorithm.products
        row, column = self._corner(tile)
        last_row, last_column = extent_of(w.row) + w.taps - 2, extent_of(w.column) + w.taps - 2
        transform = self._transform(self.algorithm.data_matrix)
        with self.k.loop("c", self.plan.depth // self.lanes) as c:
            channel = add(mul(depth, self.plan.depth), mul(c, self.lanes))

            def read(i: Expr, j: Expr, lane: Expr) -> Expr:
                place = values | self._channel(channel, lane) | {w.tap_row: const(0), w.tap_column: const(0)}
                place |= {w.row[0]: minimum(add(row, i), last_row), w.column[0]: minimum(add(column, j), last_column)}
                return load(self.convolution.data.buffer, substitute(self.convolution.data.index, place))

            with transform.columns(read) as half, self.k.loop("i", n) as i, transform.vector() as lane:
                start = add(at, add(mul(c, self.lanes), lane))
                transform.row(
                    half, i, lane, lambda j, value: self.k.store(self.data, add(start, mul(add(mul(i, n), j), self.data_pitch)), value)
                )

    def _channel(self, channel: Expr, lane: Expr) -> dict[Var, Expr]:
        """The values of the reduction loops at an input channel, the first one of a vector, and a lane."""
        *blocks, (var, extent) = self.window.channels
        size = known(extent)
        return {var: add(floormod(channel, size), lane), blocks[0][0]: floordiv(channel, size)} if blocks else {var: add(channel, lane)}

    # --- Sums -------------------------------------------------------------------------------------

    def _multiply(self, part: Expr, depth: Expr, data_at: Expr, sums_at: Expr) -> None:
        """For each point the product of the matrices [tiles, channels] and [channels, outputs], added to the sums."""
        plan = self.plan
        panels = plan.width // plan.nv
        extents = (plan.parts_out, plan.parts_in, self.points, panels, plan.depth, plan.nv * self.lanes)
        with self.k.loop("pt", self.points) as point, self.k.loop("cb", panels) as panel:
            weights_at = build.linearize((part, depth, point, panel, const(0), const(0)), extents)
            done = 0
            for mr, count in parts(plan.tiles, plan.mr):
                with self.k.loop("rt", count) as tile:
                    row = add(done, mul(tile, mr))
                    data = add(data_at, add(mul(point, self.data_pitch), mul(row, plan.depth)))
                    sums = add(mul(point, self.sum_pitch), add(mul(row, plan.width * self.lanes), mul(panel, plan.nv * self.lanes)))
                    self._register_tile(mr, depth, data, weights_at, add(sums_at, sums))
                done += mr * count

    def _register_tile(self, mr: int, depth: Expr, data: Expr, weights: Expr, sums: Expr) -> None:
        """Add `mr` tiles x `nv` vectors of products to the sums."""
        plan, lanes = self.plan, self.lanes
        with self.k.local(DType.FLOAT32, mr * plan.nv * lanes, "acc", Scope.REGISTER) as acc:

            def each(body: Callable[[Expr, Expr, Expr, Expr], None]) -> None:
                with (
                    self.k.loop("i", mr, LoopKind.UNROLL) as i,
                    self.k.loop("j", plan.nv, LoopKind.UNROLL) as j,
                    self._vector() as lane,
                ):
                    body(add(mul(add(mul(i, plan.nv), j), lanes), lane), i, j, lane)

            def place(i: Expr, j: Expr, lane: Expr) -> Expr:
                return add(sums, add(mul(i, plan.width * lanes), add(mul(j, lanes), lane)))

            with self.k.when(build.eq(depth, 0)):
                each(lambda at, i, j, lane: self.k.store(acc, at, 0))
            with self.k.otherwise():
                each(lambda at, i, j, lane: self.k.store(acc, at, load(self.sums, place(i, j, lane))))
            with self.k.loop("c", plan.depth // UNROLL) as step, self.k.loop("cu", UNROLL, LoopKind.UNROLL) as within:
                c = add(mul(step, UNROLL), within)
                vectors = add(weights, mul(c, plan.nv * lanes))
                each(lambda at, i, j, lane: self.k.store(acc, at, self.row.step(
                    load(acc, at), load(self.data, add(data, add(mul(i, plan.depth), c))),
                    load(self.weights, add(vectors, add(mul(j, lanes), lane))),
                )))  # fmt: skip
            each(lambda at, i, j, lane: self.k.store(self.sums, place(i, j, lane), load(acc, at)))

    # --- Results ----------------------------------------------------------------------------------

    def _transform_sums(self, values: dict[Var, Expr], tile: Expr, block: Expr, at: Expr) -> None:
        """Transform the sums of a tile, and store what the epilogue makes of those that are inside."""
        w, n, m = self.window, self.algorithm.products, self.algorithm.outputs
        row, column = self._corner(tile)
        rows = build.dim(minimum(m, build.sub(extent_of(w.row), row)))
        columns = build.dim(minimum(m, build.sub(extent_of(w.column), column)))
        transform = self._transform(self.algorithm.output_matrix)
        with self.k.loop("o", self.plan.width) as o, self._line(m) as line:
            start = add(at, mul(o, self.lanes))

            def read(i: Expr, j: Expr, lane: Expr) -> Expr:
                return load(self.sums, add(add(start, lane), mul(add(mul(i, n), j), self.sum_pitch)))

            with transform.columns(read) as half, self.k.loop("i", rows) as i:
                with self._vector() as lane:
                    transform.row(half, i, lane, lambda j, value: self.k.store(line, self._element(const(j), lane), value))
                with self.k.loop("j", columns) as j, self._vector() as lane:
                    there = values | {w.row[0]: add(row, i), w.column[0]: add(column, j)}
                    form = self.contraction.form.substitute(there | self.contraction.at_column(add(block, o), lane))
                    self.k.store(form.target, form.at, substitute(form.result, {form.acc: load(line, self._element(j, lane))}))

    # --- Common -----------------------------------------------------------------------------------

    def _transform(self, matrix: Matrix) -> TileTransform:
        return TileTransform(self.k, matrix, DType.FLOAT32, self.lanes, self.row.step)

    def _line(self, vectors: int) -> AbstractContextManager[Buffer]:
        return self.k.local(DType.FLOAT32, vectors * self.lanes, "line", Scope.STACK, 64)

    def _vector(self) -> AbstractContextManager[Var]:
        return self.k.loop("l", self.lanes, LoopKind.VECTOR)

    def _element(self, vector: Expr, lane: Expr) -> Expr:
        return add(mul(vector, self.lanes), lane)
