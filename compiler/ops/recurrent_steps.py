"""The loop over time of LSTM, GRU and RNN: one kernel for all directions, after the input was projected.

    gates[t] = projected[t] + h[t-1] * R'        then the cell's elementwise part gives h[t]

A step goes through the blocks of units (`recurrent_blocks.py`): the sums of a block's gates stay in
vector registers while the row of h is run through, and the cell follows on them. Directions and batch
elements are independent and run in parallel. States are kept in float32 for narrower types. The step
operators (`recurrent_cells.py`) are the compiler's own; `recurrent.py` makes them.
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
from ..kernel.nodes import Buffer, Dim, Expr, LoopKind, MathFn
from .contraction import accumulator
from .recurrent_activation import Functions
from .recurrent_blocks import Segment, segments_of
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


@dataclass(frozen=True, slots=True)
class Steps:
    """What the kernel knows, for one direction of one batch element."""

    k: KernelBuilder
    ctx: OpContext
    inputs: Sequence[Buffer | None]
    gates: int
    hidden: int
    wide: DType
    """Type of states and sums."""
    functions: Functions
    direction: Expr
    batch: Expr

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
        """Emit a body for all blocks of units."""
        for segment in segments_of(self.hidden, self.gates, self.wide):
            self._segment(segment, body)

    def _segment(self, segment: Segment, body: Callable[[Block], None]) -> None:
        with self.k.loop("u", segment.blocks) as u:
            body(Block(add(mul(u, segment.size), segment.start), segment.size, segment.lanes))

    def each(self, count: int, lanes: int, body: Callable[[Expr], None]) -> None:
        """Emit a body for `count` elements in vectors, all of them unrolled."""
        with self.k.loop("v", count // lanes, LoopKind.UNROLL) as v, self.k.loop("l", lanes, LoopKind.VECTOR) as lane:
            body(add(mul(v, lanes), lane))

    def projected(self, block: Block, gate: int, j: Dim, place: Expr) -> Expr:
        """The projected input of gate `gate` of unit `j` of a block; `place` is where the step's row starts."""
        source = self.given(PROJECTED)
        assert source is not None
        return self.read(source, add(add(place, mul(block.start, self.gates)), add(j, gate * block.size)))

    def recur(self, sums: Buffer, state: Buffer, block: Block, first: int = 0, count: int | None = None) -> None:
        """Add the state times the recurrent matrix to the sums of gates `first .. first + count` of a block."""
        matrix, gates, hidden = self.given(RECURRENT), self.gates, self.hidden
        width = block.size * (gates if count is None else count)
        assert matrix is not None
        origin = add(mul(self.direction, gates * hidden * hidden), mul(block.start, gates * hidden))

        def row(r: Expr) -> None:
            at = add(origin, add(mul(r, gates * block.size), first * block.size))
            with self.k.let(load(state, r)) as x:
                self.each(width, block.lanes, lambda j: self.k.store(sums, j, fma(x, self.read(matrix, add(at, j)), load(sums, j))))

        done = hidden - hidden % UNROLL
        if done:
            with self.k.loop("r", done // UNROLL) as r, self.k.loop("i", UNROLL, LoopKind.UNROLL) as i:
                row(add(mul(r, UNROLL), i))
        if done < hidden:
            with self.k.loop("r", hidden - done) as r:
                row(add(r, done))


def fma(a: Expr, b: Expr, c: Expr) -> Expr:
    """`a * b + c`, in one instruction where there is one."""
    return build.math_fn(MathFn.FMA, a, b, c)


Cell = Callable[[Steps, Sequence[Buffer], Expr, Buffer], None]
"""(steps, states, place of the projected row, next h) -> emits one step: updates the states, but h in `next h`."""


def step_types(ctx: OpContext, states: int) -> list[TensorType]:
    """Y `[time, directions, batch, hidden]`, then each final state `[directions, batch, hidden]`."""
    time, batch, _ = ctx.shape(PROJECTED)
    (directions, hidden, _), dtype = ctx.shape(RECURRENT), ctx.dtype(PROJECTED)
    return [TensorType(dtype, (time, directions, batch, hidden)), *[TensorType(dtype, (directions, batch, hidden))] * states]


def step_kernel(gates: int, states: int, cell: Cell) -> Imperative:
    """The definition of a step operator."""

    def emit(ctx: OpContext, k: KernelBuilder, inputs: Sequence[Buffer | None], outputs: Sequence[Buffer | None]) -> None:
        directions, hidden, _ = ctx.type(RECURRENT).static_shape
        names, alpha, beta = (ctx.attr(name, tuple) or () for name in ("activations", "alpha", "beta"))
        wide, batch = accumulator(ctx.dtype(PROJECTED)), build.index(ctx.shape(PROJECTED)[1])
        functions = Functions(names, alpha, beta)
        with k.loop("row", build.dim(mul(batch, directions)), LoopKind.PARALLEL) as row, ExitStack() as scopes:
            direction, b = (build.const(0), row) if directions == 1 else (build.floordiv(row, batch), build.floormod(row, batch))
            steps = Steps(k, ctx, inputs, gates, hidden, wide, functions, direction, b)
            kept, fresh = [[scopes.enter_context(k.local(wide, hidden, "state", align=64)) for _ in range(n)] for n in (states, 1)]
            _run(steps, cell, kept, fresh[0], mul(row, hidden), outputs)

    return Imperative(emit)


def _run(steps: Steps, cell: Cell, states: Sequence[Buffer], fresh: Buffer, row: Expr, outputs: Sequence[Buffer | None]) -> None:
    """One direction of one batch element: load the states, step through time, store the states."""
    k, hidden, ctx = steps.k, steps.hidden, steps.ctx
    directions = ctx.type(RECURRENT).static_shape[0]
    time, batch = (build.index(d) for d in ctx.shape(PROJECTED)[:2])
    for which, state in enumerate(states):
        _load_state(steps, state, steps.given(INITIAL_H + which), row)
    lengths = steps.given(LENGTHS)
    length = time if lengths is None else build.clamp(build.cast(load(lengths, steps.batch), DType.INT64), 0, time)

    def target(at: Expr) -> Expr:
        """Where the row of Y of a time starts."""
        return add(mul(at, mul(batch, directions * hidden)), row)

    with k.let(length, "length") as steps_here, k.loop("t", steps_here) as t, k.let(_time(steps, steps_here, t), "at") as at:
        place = mul(add(mul(add(mul(at, batch), steps.batch), directions), steps.direction), steps.gates * hidden)
        with k.let(place, "place") as start:
            cell(steps, states, start, fresh)
        _copy(steps, fresh, states[0])
        if outputs[0] is not None:
            _copy(steps, fresh, outputs[0], target(at))
    if lengths is not None and outputs[0] is not None:
        with k.let(length, "length") as done, k.loop("t", sub(time, done)) as t:
            _copy(steps, None, outputs[0], target(add(done, t)))
    for state, output in zip(states, outputs[1:], strict=False):
        if output is not None:
            _copy(steps, state, output, row)


def _time(steps: Steps, length: Expr, t: Expr) -> Expr:
    """The time of step `t`: from the end in a reverse direction."""
    last = sub(sub(length, 1), t)
    if steps.ctx.type(RECURRENT).static_shape[0] == 2:
        return build.select(build.eq(steps.direction, 1), last, t)
    return last if steps.ctx.int_attr("reverse") else t


def _load_state(steps: Steps, state: Buffer, source: Buffer | None, row: Expr) -> None:
    """Start a state with a row of an input, or with zeros."""
    with steps.k.loop("j", steps.hidden) as j:
        steps.k.store(state, j, build.const(0, steps.wide) if source is None else steps.read(source, add(row, j)))


def _copy(steps: Steps, source: Buffer | None, target: Buffer, at: Expr | None = None) -> None:
    """Store a state (zeros for None) to a row of a buffer."""

    def block(block: Block) -> None:
        def element(j: Expr) -> None:
            unit = add(block.start, j)
            value = build.const(0, steps.wide) if source is None else load(source, unit)
            steps.k.store(target, unit if at is None else add(at, unit), build.cast(value, target.dtype))

        steps.each(block.size, block.lanes, element)

    steps.blocks(block)
