"""The loop over time of LSTM, GRU and RNN: one kernel for all directions, after the input was projected.

    gates[t] = projected[t] + h[t-1] * R'        then the cell's elementwise part gives h[t]

A step goes through the blocks of units (`recurrent_blocks.py`): the sums of a block's gates stay in
vector registers while the row of h is run through, and the cell follows on them. Directions and groups of
batch elements are independent and run in parallel; the tiles of a group take turns on a block, whose
weights stay in a near cache. States are kept in float32 for narrower types. The step operators
(`recurrent_cells.py`) are the compiler's own; `recurrent.py` makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import add, load, mul, sub
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import Buffer, Dim, Expr, LoopKind, MathFn, Scope
from .contraction import accumulator
from .recurrent_activation import Functions
from .recurrent_blocks import Segment, Tiling
from .table import Imperative, OpContext

PROJECTED, RECURRENT, LENGTHS, INITIAL_H = range(4)
"""Inputs of every step operator; what follows belongs to the cell."""
UNROLL = 4
"""Elements of h that are multiplied in one round."""


@dataclass(frozen=True, slots=True)
class Block:
    """Units whose gates are computed together."""

    start: Expr
    """First unit."""
    size: int
    lanes: int
    row: Expr
    """First row of the tile."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What the kernel knows, for one direction of some batch elements, its rows."""

    k: KernelBuilder
    ctx: OpContext
    inputs: Sequence[Buffer | None]
    tiling: Tiling
    functions: Functions
    direction: Expr
    first: Expr
    """The batch element of the first row."""

    @property
    def hidden(self) -> int:
        """Units of a direction."""
        return self.tiling.hidden

    @property
    def gates(self) -> int:
        """Gates of a unit."""
        return self.tiling.gates

    @property
    def wide(self) -> DType:
        """Type of states and sums."""
        return self.tiling.wide

    @property
    def directions(self) -> int:
        """1 or 2."""
        return self.ctx.type(RECURRENT).static_shape[0]

    @property
    def batch(self) -> Expr:
        """Batch elements."""
        return build.index(self.ctx.shape(PROJECTED)[1])

    def element(self, row: Expr) -> Expr:
        """The batch element of a row; rows beyond the last element repeat it."""
        at = add(self.first, row)
        return at if self.tiling.group == 1 else build.minimum(at, sub(self.batch, 1))

    def rows(self, body: Callable[[Expr], None]) -> None:
        """Emit a body for each row of a tile."""
        with self.k.loop("m", self.tiling.rows, LoopKind.UNROLL) as row:
            body(row)

    def given(self, position: int) -> Buffer | None:
        """An input buffer if the node has it."""
        return self.inputs[position] if position < len(self.inputs) else None

    def read(self, buffer: Buffer, at: Dim) -> Expr:
        """An element in the type of the sums."""
        return build.cast(load(buffer, at), self.wide)

    def activate(self, which: int, x: Expr) -> Expr:
        """Clip, then apply an activation."""
        limit = self.ctx.float_attr("clip")
        return self.functions.apply(which, build.clamp(x, -limit, limit) if limit > 0 else x)

    # --- Blocks -------------------------------------------------------------------------------

    def blocks(self, body: Callable[[Block], None]) -> None:
        """Emit a body for all blocks of units and, within each, all tiles of rows."""
        for segment in self.tiling.segments:
            self._segment(segment, body)

    def _segment(self, segment: Segment, body: Callable[[Block], None]) -> None:
        rows = self.tiling.rows
        tiles = build.minimum(self.tiling.tiles, build.ceildiv(sub(self.batch, self.first), rows))
        with self.k.loop("u", segment.blocks) as u, self.k.loop("tile", build.dim(tiles) if self.tiling.tiles > 1 else 1) as tile:
            body(Block(add(mul(u, segment.size), segment.start), segment.size, segment.lanes, mul(tile, rows)))

    def each(self, count: int, lanes: int, body: Callable[[Expr], None]) -> None:
        """Emit a body for `count` elements in vectors, all of them unrolled."""
        with self.k.loop("v", count // lanes, LoopKind.UNROLL) as v, self.k.loop("l", lanes, LoopKind.VECTOR) as lane:
            body(add(mul(v, lanes), lane))

    def projected(self, block: Block, at: Expr, row: Expr) -> Callable[[Dim], Expr]:
        """Element `gate * size + j` of the projected input of a block at time `at`, for a row."""
        source = self.given(PROJECTED)
        assert source is not None
        place = add(mul(add(mul(at, self.batch), self.element(add(block.row, row))), self.directions), self.direction)
        first = add(mul(place, self.gates * self.hidden), mul(block.start, self.gates))
        return lambda j: self.read(source, add(first, j))

    def recur(self, sums: Buffer, state: Buffer, block: Block, first: int = 0, count: int | None = None) -> None:
        """Add the state times the recurrent matrix to the sums `[rows, count, size]` of gates from `first` on of a block."""
        matrix, gates, hidden = self.given(RECURRENT), self.gates, self.hidden
        width = block.size * (gates if count is None else count)
        assert matrix is not None
        origin = add(mul(self.direction, gates * hidden * hidden), mul(block.start, gates * hidden))

        def element(r: Expr) -> None:
            first_weight = add(origin, add(mul(r, gates * block.size), first * block.size))

            def vector(j: Expr) -> None:
                with self.k.let(self.read(matrix, add(first_weight, j))) as weight:
                    self.rows(
                        lambda row: accumulate(add(mul(row, width), j), load(state, add(mul(add(block.row, row), hidden), r)), weight)
                    )

            self.each(width, block.lanes, vector)

        def accumulate(at: Expr, x: Expr, weight: Expr) -> None:
            self.k.store(sums, at, fma(x, weight, load(sums, at)))

        done = hidden - hidden % UNROLL
        if done:
            with self.k.loop("r", done // UNROLL) as r, self.k.loop("i", UNROLL, LoopKind.UNROLL) as i:
                element(add(mul(r, UNROLL), i))
        if done < hidden:
            with self.k.loop("r", hidden - done) as r:
                element(add(r, done))


def fma(a: Expr, b: Expr, c: Expr) -> Expr:
    """`a * b + c`, in one instruction where there is one."""
    return build.math_fn(MathFn.FMA, a, b, c)


Cell = Callable[[Steps, Sequence[Buffer], Expr, Buffer], None]
"""(steps, states, time, next h) -> emits one step: updates the states, but h in `next h`. All are `[rows, hidden]`."""


def step_types(ctx: OpContext, states: int) -> list[TensorType]:
    """Y `[time, directions, batch, hidden]`, then each final state `[directions, batch, hidden]`."""
    time, batch, _ = ctx.shape(PROJECTED)
    (directions, hidden, _), dtype = ctx.shape(RECURRENT), ctx.dtype(PROJECTED)
    if ctx.has(LENGTHS):
        ctx.same_extent(ctx.shape(LENGTHS)[0], batch, "the batch and the number of sequence lengths")
    for position in range(INITIAL_H, INITIAL_H + states):
        if ctx.has(position):
            for found, wanted in zip(ctx.shape(position), (directions, batch, hidden), strict=True):
                ctx.same_extent(found, wanted, "extents of an initial state and what directions, batch and hidden units want")
    return [TensorType(dtype, (time, directions, batch, hidden)), *[TensorType(dtype, (directions, batch, hidden))] * states]


def step_kernel(gates: int, states: int, cell: Cell) -> Imperative:
    """The definition of a step operator."""

    def emit(ctx: OpContext, k: KernelBuilder, inputs: Sequence[Buffer | None], outputs: Sequence[Buffer | None]) -> None:
        directions, hidden, _ = ctx.type(RECURRENT).static_shape
        names, alpha, beta = (ctx.attr(name, tuple) or () for name in ("activations", "alpha", "beta"))
        tiling = Tiling(hidden, gates, accumulator(ctx.dtype(PROJECTED)), ctx.int_attr("rows", 1), ctx.int_attr("tiles", 1))
        groups = build.ceildiv(build.index(ctx.shape(PROJECTED)[1]), tiling.group)
        with k.loop("group", build.dim(mul(groups, directions)), LoopKind.PARALLEL) as at, ExitStack() as scopes:
            direction, group = (build.const(0), at) if directions == 1 else (build.floordiv(at, groups), build.floormod(at, groups))
            steps = Steps(k, ctx, inputs, tiling, Functions(names, alpha, beta), direction, mul(group, tiling.group))

            def state() -> Buffer:
                return scopes.enter_context(k.local(tiling.wide, tiling.group * hidden, "state", align=64))

            kept, fresh = [state() for _ in range(states)], state()
            _run(steps, _quantizing(cell, state()) if ctx.int_attr("quantize_state") else cell, kept, fresh, outputs)

    return Imperative(emit)


def _run(steps: Steps, cell: Cell, states: Sequence[Buffer], fresh: Buffer, outputs: Sequence[Buffer | None]) -> None:
    """One direction of some batch elements: load the states, step through time, store the states."""
    k, hidden, ctx = steps.k, steps.hidden, steps.ctx
    time, batch = build.index(ctx.shape(PROJECTED)[0]), steps.batch
    for which, state in enumerate(states):
        _load_state(steps, state, steps.given(INITIAL_H + which))
    lengths = steps.given(LENGTHS)
    length = time if lengths is None else build.clamp(build.cast(load(lengths, steps.first), DType.INT64), 0, time)

    def row_of_y(at: Expr) -> Callable[[Expr], Expr]:
        """Where the row of Y of a time starts."""
        return lambda row: add(mul(at, mul(batch, steps.directions * hidden)), _place(steps, row))

    with k.let(length, "length") as count, k.loop("t", time if lengths is None else count) as t, k.let(_time(steps, count, t), "at") as at:
        cell(steps, states, at, fresh)
        _copy(steps, fresh, states[0], lambda row: mul(row, hidden))
        if outputs[0] is not None:
            _copy(steps, fresh, outputs[0], row_of_y(at))
    if lengths is not None and outputs[0] is not None:
        with k.let(length, "length") as done, k.loop("t", sub(time, done)) as t:
            _copy(steps, None, outputs[0], row_of_y(add(done, t)))
    for state, output in zip(states, outputs[1:], strict=False):
        if output is not None:
            _copy(steps, state, output, lambda row: _place(steps, row))


def _quantizing(cell: Cell, rounded: Buffer) -> Cell:
    """A cell whose h goes through 8-bit codes of its range and back, as `DynamicQuantizeLinear` makes them, into a buffer of its own."""

    def step(steps: Steps, states: Sequence[Buffer], at: Expr, fresh: Buffer) -> None:
        with steps.k.loop("m", steps.tiling.group) as row:
            _round_state(steps, states[0], rounded, mul(row, steps.hidden))
        cell(steps, (rounded, *states[1:]), at, fresh)

    return step


def _round_state(steps: Steps, state: Buffer, rounded: Buffer, first: Expr) -> None:
    k, hidden = steps.k, steps.hidden
    with k.local(steps.wide, 2, "range", Scope.REGISTER) as ends:
        for end in range(2):
            k.store(ends, end, build.const(0, steps.wide))
        with k.loop("j", hidden) as j:
            for end, extreme in enumerate((build.minimum, build.maximum)):
                k.store(ends, end, extreme(load(ends, end), load(state, add(first, j))))
        width = build.div(sub(load(ends, 1), load(ends, 0)), 255.0)
        low = build.neg(load(ends, 0))
        with k.let(build.select(build.gt(width, 0.0), width, build.const(1, steps.wide))) as scale, k.loop("j", hidden) as j:
            zero = build.clamp(build.math_fn(MathFn.ROUND, build.div(low, scale)), 0.0, 255.0)
            units = build.math_fn(MathFn.ROUND, build.div(load(state, add(first, j)), scale))
            code = build.clamp(add(units, zero), 0.0, 255.0)
            k.store(rounded, add(first, j), mul(sub(code, zero), scale))


def _place(steps: Steps, row: Expr) -> Expr:
    """Where a row of `[directions, batch, hidden]` starts."""
    return mul(add(mul(steps.direction, steps.batch), steps.element(row)), steps.hidden)


def _time(steps: Steps, length: Expr, t: Expr) -> Expr:
    """The time of step `t`: from the end in a reverse direction."""
    last = sub(sub(length, 1), t)
    if steps.directions == 2:
        return build.select(build.eq(steps.direction, 1), last, t)
    return last if steps.ctx.int_attr("reverse") else t


def _load_state(steps: Steps, state: Buffer, source: Buffer | None) -> None:
    """Start a state with rows of an input, or with zeros."""
    with steps.k.loop("m", steps.tiling.group) as row, steps.k.loop("j", steps.hidden) as j:
        value = build.const(0, steps.wide) if source is None else steps.read(source, add(_place(steps, row), j))
        steps.k.store(state, add(mul(row, steps.hidden), j), value)


def _copy(steps: Steps, source: Buffer | None, target: Buffer, place: Callable[[Expr], Expr]) -> None:
    """Store a state (zeros for None) to rows of a buffer, which start at `place`."""

    def block(block: Block) -> None:
        steps.rows(lambda row: steps.each(block.size, block.lanes, lambda j: unit(add(block.row, row), add(block.start, j))))

    def unit(row: Expr, at: Expr) -> None:
        value = build.const(0, steps.wide) if source is None else load(source, add(mul(row, steps.hidden), at))
        steps.k.store(target, add(place(row), at), build.cast(value, target.dtype))

    steps.blocks(block)
