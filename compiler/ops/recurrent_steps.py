"""The loops over time of LSTM, GRU and RNN: one kernel for one direction, after the input was projected.

    gates[t] = projected[t] + h[t-1] * R'        then the cell's elementwise part gives h[t]

`R'` is the transposed recurrent matrix `[hidden, gates * hidden]`, so that the inner loop runs along
memory. Batch elements are independent and run in parallel. States are kept in float32 for narrower types.
These operators are the compiler's own (domain `onnxc`); `recurrent.py` makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import load
from ..kernel.builder import KernelBuilder
from ..kernel.nodes import Buffer, Dim, Expr, LoopKind
from .contraction import accumulator
from .recurrent_activation import Functions
from .table import Imperative, OpContext, OpDef, register

PROJECTED, RECURRENT, LENGTHS, INITIAL_H = range(4)
"""Inputs of every step operator; what follows belongs to the cell."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What the kernel of one direction knows."""

    k: KernelBuilder
    ctx: OpContext
    inputs: Sequence[Buffer | None]
    gates: int
    hidden: int
    wide: DType
    """Type of states and sums."""
    functions: Functions

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

    def project(self, gates: Buffer, at: Expr) -> None:
        """Start the gates with the projected input at offset `at`."""
        source = self.given(PROJECTED)
        assert source is not None
        with self.k.loop("j", self.gates * self.hidden) as j:
            self.k.store(gates, j, self.read(source, build.add(at, j)))

    def recur(self, gates: Buffer, state: Buffer, first: int = 0, count: int | None = None, into: int | None = None) -> None:
        """Add the state times the recurrent matrix to gates `first .. first + count`, stored from gate `into` on."""
        matrix, hidden = self.given(RECURRENT), self.hidden
        assert matrix is not None
        columns = hidden * (self.gates if count is None else count)
        target = (first if into is None else into) * hidden
        with self.k.loop("r", hidden) as r, self.k.let(load(state, r)) as x, self.k.loop("j", columns) as j:
            weight = self.read(matrix, build.add(build.mul(r, self.gates * hidden), build.add(j, first * hidden)))
            at = build.add(j, target)
            self.k.store(gates, at, build.add(load(gates, at), build.mul(x, weight)))


Cell = Callable[[Steps, Buffer, Sequence[Buffer], Expr], None]
"""(steps, gates, states, batch) -> emits one step: reads and writes the states, `states[0]` being h."""


def step_types(ctx: OpContext, states: int) -> list[TensorType]:
    """Y `[time, batch, hidden]`, then each final state `[batch, hidden]`."""
    time, batch, _ = ctx.shape(PROJECTED)
    hidden, dtype = ctx.shape(RECURRENT)[0], ctx.dtype(PROJECTED)
    return [TensorType(dtype, (time, batch, hidden)), *[TensorType(dtype, (batch, hidden))] * states]


def step_kernel(gates: int, states: int, cell: Cell, scratch: int = 0) -> Imperative:
    """The definition of a step operator; `scratch` is the number of further gates that the cell needs."""

    def emit(ctx: OpContext, k: KernelBuilder, inputs: Sequence[Buffer | None], outputs: Sequence[Buffer | None]) -> None:
        hidden = ctx.shape(RECURRENT)[0]
        if not isinstance(hidden, int):
            ctx.fail("E0204", "the hidden size must be known when compiling")
        names, alpha, beta = (ctx.attr(name, tuple) or () for name in ("activations", "alpha", "beta"))
        wide = accumulator(ctx.dtype(PROJECTED))
        steps = Steps(k, ctx, inputs, gates, hidden, wide, Functions(names, alpha, beta))
        with k.loop("b", ctx.shape(PROJECTED)[1], LoopKind.PARALLEL) as b, k.local(wide, (gates + scratch) * hidden) as gate:
            _with_states(steps, states, [], lambda kept: _run(steps, cell, gate, kept, b, outputs))

    return Imperative(emit)


def _with_states(steps: Steps, count: int, made: list[Buffer], then: Callable[[list[Buffer]], None]) -> None:
    if len(made) == count:
        then(made)
        return
    with steps.k.local(steps.wide, steps.hidden, "state") as state:
        _with_states(steps, count, [*made, state], then)


def _run(steps: Steps, cell: Cell, gate: Buffer, states: Sequence[Buffer], b: Expr, outputs: Sequence[Buffer | None]) -> None:
    """One batch element: load the states, step through time, store the states."""
    k, hidden = steps.k, steps.hidden
    time, batch = (build.index(d) for d in steps.ctx.shape(PROJECTED)[:2])
    row = build.mul(b, hidden)
    for which, state in enumerate(states):
        source = steps.given(INITIAL_H + which)
        with k.loop("j", hidden) as j:
            k.store(state, j, build.const(0, steps.wide) if source is None else steps.read(source, build.add(row, j)))
    lengths = steps.given(LENGTHS)
    length = time if lengths is None else build.clamp(build.cast(load(lengths, b), DType.INT64), 0, time)
    with k.let(length, "length") as steps_here, k.loop("t", steps_here) as t:
        at = build.sub(build.sub(steps_here, 1), t) if steps.ctx.int_attr("reverse") else t
        place = build.add(build.mul(at, batch), b)
        steps.project(gate, build.mul(place, steps.gates * hidden))
        cell(steps, gate, states, b)
        _emit_row(steps, outputs[0], build.mul(place, hidden), states[0])
    if lengths is not None:
        with k.let(length, "length") as done, k.loop("t", build.sub(time, done)) as t:
            _emit_row(steps, outputs[0], build.mul(build.add(build.mul(build.add(done, t), batch), b), hidden), None)
    for which, state in enumerate(states):
        _emit_row(steps, outputs[1 + which] if 1 + which < len(outputs) else None, row, state)


def _emit_row(steps: Steps, target: Buffer | None, at: Expr, state: Buffer | None) -> None:
    """Store a state (zeros for None) to a row of an output, if that is wanted."""
    if target is None:
        return
    with steps.k.loop("j", steps.hidden) as j:
        value = build.const(0, steps.wide) if state is None else load(state, j)
        steps.k.store(target, build.add(at, j), build.cast(value, target.dtype))


# --- Cells ------------------------------------------------------------------------------------


def _lstm_cell(steps: Steps, gates: Buffer, states: Sequence[Buffer], b: Expr) -> None:
    k, hidden, peephole = steps.k, steps.hidden, steps.given(5)
    h, c = states
    steps.recur(gates, h)

    def gate(which: int, j: Expr, looks_at: Expr) -> Expr:
        """Gate i, o or f (0, 1, 2), with its peephole."""
        x: Expr = load(gates, build.add(j, which * hidden))
        if peephole is not None:
            x = build.add(x, build.mul(steps.read(peephole, build.add(j, which * hidden)), looks_at))
        return steps.activate(0, x)

    with k.loop("j", hidden) as j, k.let(load(c, j)) as old, k.let(gate(0, j, old)) as i:
        forget = build.sub(1.0, i) if steps.ctx.int_attr("input_forget") else gate(2, j, old)
        candidate = steps.activate(1, load(gates, build.add(j, 3 * hidden)))
        with k.let(build.add(build.mul(forget, old), build.mul(i, candidate))) as new:
            k.store(h, j, build.mul(gate(1, j, new), steps.functions.apply(2, new)))
            k.store(c, j, new)


def _gru_cell(steps: Steps, gates: Buffer, states: Sequence[Buffer], b: Expr) -> None:
    """Gates are z, r, h and, as scratch, `h[t-1] * R_h` (or `r * h[t-1]`)."""
    k, hidden, bias = steps.k, steps.hidden, steps.given(4)
    (h,) = states
    steps.recur(gates, h, 0, 2)
    if steps.ctx.int_attr("linear_before_reset"):
        with k.loop("j", hidden) as j:
            start = build.const(0, steps.wide) if bias is None else steps.read(bias, build.add(j, 2 * hidden))
            k.store(gates, build.add(j, 3 * hidden), start)
        steps.recur(gates, h, 2, 1, into=3)
        with k.loop("j", hidden) as j:
            reset = steps.activate(0, load(gates, build.add(j, hidden)))
            at = build.add(j, 2 * hidden)
            k.store(gates, at, build.add(load(gates, at), build.mul(reset, load(gates, build.add(j, 3 * hidden)))))
    else:
        with k.local(steps.wide, hidden, "reset") as kept:
            with k.loop("j", hidden) as j:
                k.store(kept, j, build.mul(steps.activate(0, load(gates, build.add(j, hidden))), load(h, j)))
            steps.recur(gates, kept, 2, 1)
    with k.loop("j", hidden) as j, k.let(steps.activate(0, load(gates, j))) as update:
        candidate = steps.activate(1, load(gates, build.add(j, 2 * hidden)))
        k.store(h, j, build.add(build.mul(build.sub(1.0, update), candidate), build.mul(update, load(h, j))))


def _rnn_cell(steps: Steps, gates: Buffer, states: Sequence[Buffer], b: Expr) -> None:
    steps.recur(gates, states[0])
    with steps.k.loop("j", steps.hidden) as j:
        steps.k.store(states[0], j, steps.activate(0, load(gates, j)))


register(
    OpDef("LstmSteps", lambda ctx: step_types(ctx, 2), step_kernel(4, 2, _lstm_cell), "onnxc",
          doc="projected, R', lengths, h, c, peepholes -> Y, h, c of one direction"),
    OpDef("GruSteps", lambda ctx: step_types(ctx, 1), step_kernel(3, 1, _gru_cell, scratch=1), "onnxc",
          doc="projected, R', lengths, h, recurrent bias -> Y, h of one direction"),
    OpDef("RnnSteps", lambda ctx: step_types(ctx, 1), step_kernel(1, 1, _rnn_cell), "onnxc",
          doc="projected, R', lengths, h -> Y, h of one direction"),
)  # fmt: skip
