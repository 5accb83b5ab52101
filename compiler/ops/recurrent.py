"""LSTM, GRU and RNN: one product projects the input for all time steps, then a kernel steps through time.

    projected = X * W' + (Wb + Rb)       one MatMul over [time, batch], for each direction
    Y, states = Steps(projected, R')     `recurrent_steps.py`, with R in the order of `recurrent_blocks.py`

Directions share both; with different activations they are computed apart and concatenated. `layout = 1`
(batch first) is transposed around all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..graph.nodes import Attribute, TensorType, Value
from ..kernel import build
from ..kernel.nodes import Dim
from .contraction import accumulator
from .recurrent_activation import Functions, functions_of
from .recurrent_blocks import Packing, tiling_for
from .table import OpContext, OpDef, Rewrite, RewriteBuilder, register

X, W, R, B, LENGTHS, INITIAL_H, INITIAL_C, PEEPHOLES = range(8)
RANKS = (3, 3, 3, 2, 1, 3, 3, 2)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """What sets the three operators apart."""

    steps: str
    """The step operator."""
    gates: int
    states: int
    activations: tuple[str, ...]
    extra: Callable[[Part], tuple[Value | None, ...]]
    """Further inputs of the step operator."""
    kept: tuple[str, ...] = ()
    """Integer attributes that the step operator needs."""


def _directions(ctx: OpContext) -> int:
    return 2 if ctx.str_attr("direction", "forward") == "bidirectional" else 1


def _check(row: Recurrence, ctx: OpContext, hidden: Dim) -> None:
    """All operands must have the extents that X, R and the attributes give; the step operator checks those that are open."""
    directions, rows = _directions(ctx), build.product((row.gates, hidden))
    batch = ctx.shape(X)[0 if ctx.int_attr("layout") else 1]
    state: tuple[Dim, ...] = (batch, directions, hidden) if ctx.int_attr("layout") else (directions, batch, hidden)
    wanted: dict[int, tuple[Dim, ...]] = {
        W: (directions, rows, ctx.shape(X)[2]), R: (directions, rows, hidden), B: (directions, build.product((2, rows))), LENGTHS: (batch,),
        INITIAL_H: state, INITIAL_C: state, PEEPHOLES: (directions, build.product((3, hidden))),
    }  # fmt: skip
    for position, shape in wanted.items():
        if ctx.has(position):
            for axis, (found, extent) in enumerate(zip(ctx.shape(position), shape, strict=True)):
                ctx.same_extent(found, extent, f"axis {axis} of input {position} and what {row.gates} gates of the hidden units want")


def _types(row: Recurrence, ctx: OpContext) -> list[TensorType]:
    directions, hidden, dtype = _directions(ctx), ctx.shape(R)[2], ctx.dtype(X)
    _check(row, ctx, hidden)
    first, second, _ = ctx.shape(X)
    whole: tuple[Dim, ...] = (first, directions, second, hidden)
    state: tuple[Dim, ...] = (directions, second, hidden)
    if ctx.int_attr("layout"):
        whole, state = (first, second, directions, hidden), (first, directions, hidden)
    return [TensorType(dtype, whole), *[TensorType(dtype, state)] * row.states]


def _rewrite(row: Recurrence, ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    directions, batch_first = _directions(ctx), bool(ctx.int_attr("layout"))
    functions = functions_of(ctx, row.activations, directions)
    same = directions == 1 or functions.of(0, 2) == functions.of(1, 2)
    parts = [Part(row, ctx, b, 0, directions)] if same else [Part(row, ctx, b, d, 1) for d in range(directions)]
    found = [part.steps(functions.of(part.first, directions)) for part in parts]
    y = _joined(b, [values[0] for values in found], 1)
    states = [_joined(b, [values[1 + s] for values in found], 0) for s in range(row.states)]
    if batch_first:
        y = b.op("Transpose", y, perm=(2, 0, 1, 3))
        states = [b.op("Transpose", state, perm=(1, 0, 2)) for state in states]
    return [y, *states]


def _joined(b: RewriteBuilder, values: Sequence[Value], axis: int) -> Value:
    return values[0] if len(values) == 1 else b.op("Concat", *values, axis=axis)


@dataclass(frozen=True, slots=True)
class Part:
    """Directions that one step operator computes: all of them, or one if they have different activations."""

    row: Recurrence
    ctx: OpContext
    b: RewriteBuilder
    first: int
    count: int

    @property
    def hidden(self) -> int:
        """Units of a direction."""
        hidden = self.ctx.shape(R)[2]
        if not isinstance(hidden, int):
            self.ctx.fail("E0204", "the hidden size must be known when compiling")
        return hidden

    @property
    def packing(self) -> Packing:
        """The order of the step operator's operands."""
        ctx = self.ctx
        batch = 1 if ctx.has(LENGTHS) else ctx.shape(X)[0 if ctx.int_attr("layout") else 1]
        return Packing(self.b, tiling_for(self.hidden, self.row.gates, accumulator(ctx.dtype(X)), batch))

    def pick(self, position: int, axis: int = 0) -> Value:
        """These directions of an input."""
        value = self.ctx.value(position)
        if value.type.shape[axis] == self.count:
            return value
        return self.cut(value, self.first, self.first + self.count, axis)

    def cut(self, value: Value, start: int, end: int, axis: int) -> Value:
        """A slice of a value."""
        return self.b.op("Slice", value, self.b.const([start]), self.b.const([end]), self.b.const([axis]))

    def steps(self, functions: Functions) -> tuple[Value, ...]:
        """Y and the final states of these directions."""
        row, ctx, b, packing = self.row, self.ctx, self.b, self.packing
        x = b.op("Transpose", ctx.value(X), perm=(1, 0, 2)) if ctx.int_attr("layout") else ctx.value(X)
        projected = b.op("MatMul", x, packing.input_matrix(self.pick(W)))
        if ctx.has(B):
            projected = b.op("Add", projected, self._bias())
        attrs: dict[str, Attribute] = {name: ctx.int_attr(name) for name in row.kept}
        backward = ctx.str_attr("direction", "forward") == "reverse" or self.first == 1
        lengths = ctx.value(LENGTHS) if ctx.has(LENGTHS) else None
        states = tuple(self._initial(INITIAL_H + s) for s in range(row.states))
        return b.ops(
            row.steps, 1 + row.states, projected, packing.recurrent_matrix(self.pick(R)), lengths, *states, *row.extra(self),
            reverse=int(backward), rows=packing.tiling.rows, tiles=packing.tiling.tiles, clip=ctx.float_attr("clip"),
            activations=functions.names, alpha=functions.alpha, beta=functions.beta, **attrs,
        )  # fmt: skip

    def _bias(self) -> Value:
        """`Wb + Rb`; without the part of Rb that a GRU with `linear_before_reset` adds before its reset gate."""
        both, size = self.pick(B), self.row.gates * self.hidden
        input_bias, recurrent_bias = (self.cut(both, start, start + size, 1) for start in (0, size))
        if self.ctx.int_attr("linear_before_reset"):
            keep = np.repeat([1.0, 1.0, 0.0], self.hidden).astype(both.type.dtype.numpy)
            recurrent_bias = self.b.op("Mul", recurrent_bias, self.b.const(keep))
        bias = self.packing.order(self.b.op("Add", input_bias, recurrent_bias))
        return self.b.op("Reshape", bias, self.b.const([self.count * size]))

    def _initial(self, position: int) -> Value | None:
        """An initial state `[directions, batch, hidden]`."""
        if not self.ctx.has(position):
            return None
        if not self.ctx.int_attr("layout"):
            return self.pick(position)
        return self.b.op("Transpose", self.pick(position, 1), perm=(1, 0, 2))


def _peepholes(part: Part) -> tuple[Value | None, ...]:
    return (part.packing.order(part.pick(PEEPHOLES), 3) if part.ctx.has(PEEPHOLES) else None,)


def _recurrent_bias(part: Part) -> tuple[Value | None, ...]:
    """What a GRU adds before its reset gate."""
    if not part.ctx.has(B) or not part.ctx.int_attr("linear_before_reset"):
        return (None,)
    return (part.cut(part.pick(B), 5 * part.hidden, 6 * part.hidden, 1),)


def _row(name: str, row: Recurrence) -> OpDef:
    return OpDef(name, lambda ctx: _types(row, ctx), Rewrite(lambda ctx, b: _rewrite(row, ctx, b)), ranks=RANKS)


register(
    _row("LSTM", Recurrence("onnxc::LstmSteps", 4, 2, ("Sigmoid", "Tanh", "Tanh"), _peepholes, ("input_forget", "quantize_state"))),
    _row("GRU", Recurrence("onnxc::GruSteps", 3, 1, ("Sigmoid", "Tanh"), _recurrent_bias, ("linear_before_reset",))),
    _row("RNN", Recurrence("onnxc::RnnSteps", 1, 1, ("Tanh",), lambda part: ())),
)
