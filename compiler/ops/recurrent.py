"""LSTM, GRU and RNN: one product projects the input for all time steps, then a kernel steps through time.

    projected = X * W' + (Wb + Rb)       one MatMul over [time, batch], for each direction
    Y, states = Steps(projected, R')     `recurrent_steps.py`

Directions are computed apart and concatenated; `layout = 1` (batch first) is transposed around all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..graph.nodes import Attribute, TensorType, Value
from ..kernel import build
from ..kernel.nodes import Dim
from .recurrent_activation import functions_of
from .table import OpContext, OpDef, Rewrite, RewriteBuilder, register

X, W, R, B, LENGTHS, INITIAL_H, INITIAL_C, PEEPHOLES = range(8)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """What sets the three operators apart."""

    steps: str
    """The step operator."""
    gates: int
    states: int
    activations: tuple[str, ...]
    extra: Callable[[OpContext, RewriteBuilder, int], tuple[Value | None, ...]]
    """Further inputs of the step operator for a direction."""
    kept: tuple[str, ...] = ()
    """Integer attributes that the step operator needs."""


def _directions(ctx: OpContext) -> int:
    count = 2 if ctx.str_attr("direction", "forward") == "bidirectional" else 1
    if ctx.shape(W)[0] != count:
        ctx.fail("E0203", f"W has {ctx.shape(W)[0]} directions where {ctx.str_attr('direction', 'forward')} has {count}")
    return count


def _types(row: Recurrence, ctx: OpContext) -> list[TensorType]:
    if ctx.rank(X) != 3 or ctx.rank(W) != 3 or ctx.rank(R) != 3:
        ctx.fail("E0203", "X, W and R have three axes")
    directions, hidden, dtype = _directions(ctx), ctx.shape(R)[2], ctx.dtype(X)
    rows = ctx.shape(R)[1]
    if isinstance(hidden, int) and isinstance(rows, int) and rows != row.gates * hidden:
        ctx.fail("E0203", f"R has {rows} rows for {row.gates} gates of {hidden}")
    first, second, _ = ctx.shape(X)
    whole: tuple[Dim, ...] = (first, directions, second, hidden)
    state: tuple[Dim, ...] = (directions, second, hidden)
    if ctx.int_attr("layout"):
        whole, state = (first, second, directions, hidden), (first, directions, hidden)
    return [TensorType(dtype, whole), *[TensorType(dtype, state)] * row.states]


def _rewrite(row: Recurrence, ctx: OpContext, b: RewriteBuilder) -> Sequence[Value | None]:
    directions, batch_first = _directions(ctx), bool(ctx.int_attr("layout"))
    x = b.op("Transpose", ctx.value(X), perm=(1, 0, 2)) if batch_first else ctx.value(X)
    found = [_direction(row, ctx, b, x, d, directions) for d in range(directions)]
    y = _joined(b, [values[0] for values in found], 1)
    states = [_joined(b, [values[1 + s] for values in found], 0) for s in range(row.states)]
    if batch_first:
        y = b.op("Transpose", y, perm=(2, 0, 1, 3))
        states = [b.op("Transpose", state, perm=(1, 0, 2)) for state in states]
    return [y, *states]


def _direction(row: Recurrence, ctx: OpContext, b: RewriteBuilder, x: Value, d: int, directions: int) -> tuple[Value, ...]:
    functions = functions_of(ctx, row.activations, directions).of(d, directions)
    weight, recurrent = (b.op("Transpose", pick(ctx, b, position, d), perm=(1, 0)) for position in (W, R))
    projected = b.op("MatMul", x, weight)
    if ctx.has(B):
        projected = b.op("Add", projected, _bias(row, ctx, b, d))
    attrs: dict[str, Attribute] = {name: ctx.int_attr(name) for name in row.kept}
    backward = ctx.str_attr("direction", "forward") == "reverse" or d == 1
    lengths = ctx.value(LENGTHS) if ctx.has(LENGTHS) else None
    states = tuple(_initial(ctx, b, INITIAL_H + s, d) for s in range(row.states))
    return b.ops(
        row.steps, 1 + row.states, projected, recurrent, lengths, *states, *row.extra(ctx, b, d),
        reverse=int(backward), clip=ctx.float_attr("clip"), activations=functions.names,
        alpha=functions.alpha, beta=functions.beta, **attrs,
    )  # fmt: skip


def _bias(row: Recurrence, ctx: OpContext, b: RewriteBuilder, d: int) -> Value:
    """`Wb + Rb`; without the part of Rb that a GRU with `linear_before_reset` adds before its reset gate."""
    both = pick(ctx, b, B, d)
    size = build.dim(build.floordiv(build.index(both.type.shape[0]), 2))
    if not isinstance(size, int):
        ctx.fail("E0204", "the hidden size must be known when compiling")
    input_bias, recurrent_bias = (_part(b, both, start, start + size) for start in (0, size))
    if ctx.int_attr("linear_before_reset"):
        keep = np.repeat([1.0, 1.0, 0.0], size // row.gates).astype(both.type.dtype.numpy)
        recurrent_bias = b.op("Mul", recurrent_bias, b.const(keep))
    return b.op("Add", input_bias, recurrent_bias)


def _part(b: RewriteBuilder, value: Value, start: int, end: int) -> Value:
    return b.op("Slice", value, b.const([start]), b.const([end]), b.const([0]))


def pick(ctx: OpContext, b: RewriteBuilder, position: int, d: int) -> Value:
    """The part of an input that belongs to direction `d`: element `d` of its first axis."""
    value = ctx.value(position)
    if value.type.shape[0] != 1:
        value = b.op("Slice", value, b.const([d]), b.const([d + 1]), b.const([0]))
    return b.op("Squeeze", value, b.const([0]))


def _initial(ctx: OpContext, b: RewriteBuilder, position: int, d: int) -> Value | None:
    """An initial state `[batch, hidden]` of a direction."""
    if not ctx.has(position):
        return None
    axis = 1 if ctx.int_attr("layout") else 0
    value = ctx.value(position)
    if value.type.shape[axis] != 1:
        value = b.op("Slice", value, b.const([d]), b.const([d + 1]), b.const([axis]))
    return b.op("Squeeze", value, b.const([axis]))


def _joined(b: RewriteBuilder, values: Sequence[Value], axis: int) -> Value:
    """The directions along a new axis."""
    widened = [b.op("Unsqueeze", value, b.const([axis])) for value in values]
    return widened[0] if len(widened) == 1 else b.op("Concat", *widened, axis=axis)


def _peepholes(ctx: OpContext, b: RewriteBuilder, d: int) -> tuple[Value | None, ...]:
    return (pick(ctx, b, PEEPHOLES, d) if ctx.has(PEEPHOLES) else None,)


def _recurrent_bias(ctx: OpContext, b: RewriteBuilder, d: int) -> tuple[Value | None, ...]:
    if not ctx.has(B) or not ctx.int_attr("linear_before_reset"):
        return (None,)
    both = pick(ctx, b, B, d)
    size = both.type.static_shape[0] // 2
    return (_part(b, both, size, 2 * size),)


def _row(name: str, row: Recurrence) -> OpDef:
    return OpDef(name, lambda ctx: _types(row, ctx), Rewrite(lambda ctx, b: _rewrite(row, ctx, b)))


register(
    _row("LSTM", Recurrence("onnxc::LstmSteps", 4, 2, ("Sigmoid", "Tanh", "Tanh"), _peepholes, ("input_forget",))),
    _row("GRU", Recurrence("onnxc::GruSteps", 3, 1, ("Sigmoid", "Tanh"), _recurrent_bias, ("linear_before_reset",))),
    _row("RNN", Recurrence("onnxc::RnnSteps", 1, 1, ("Tanh",), lambda ctx, b, d: ())),
)
