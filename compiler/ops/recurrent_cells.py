"""The cells of LSTM, GRU and RNN: what happens to the gates of a block of units in one step.

The step operators stand here too. Their operands lie in the order of `recurrent_blocks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..kernel import build
from ..kernel.build import add, load, mul, sub
from ..kernel.nodes import Buffer, Expr, Scope
from .recurrent_steps import INITIAL_H, Block, Cell, Steps, step_kernel, step_types
from .table import INTERNAL, OpDef, register


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of a block in one row: where its gates and states are found."""

    steps: Steps
    block: Block
    row: Expr
    """Number in the tile."""
    at: Expr
    """The time."""
    j: Expr
    """Number in the block."""
    sums: Buffer
    summed: int
    """Gates that `sums` holds."""

    @property
    def state(self) -> Expr:
        """Its place in a state `[rows, hidden]`."""
        return add(mul(add(self.block.row, self.row), self.steps.hidden), add(self.block.start, self.j))

    @property
    def number(self) -> Expr:
        """Its number among the units of all directions."""
        return add(mul(self.steps.direction, self.steps.hidden), add(self.block.start, self.j))

    def sum(self, gate: int) -> Expr:
        """The sum of a gate."""
        return load(self.sums, self.slot(gate))

    def slot(self, gate: int) -> Expr:
        """Place of the sum of a gate."""
        return add(mul(self.row, self.summed * self.block.size), add(self.j, gate * self.block.size))

    def projected(self, gate: int) -> Expr:
        """The projected input of a gate."""
        return self.steps.projected(self.block, self.at, self.row)(add(self.j, gate * self.block.size))


@dataclass(frozen=True, slots=True)
class Product:
    """Some gates of all units: their projected inputs plus a state times the recurrent matrix."""

    steps: Steps
    state: Buffer
    at: Expr
    first: int
    count: int

    def then(self, finish: Callable[[Unit], None], start: Callable[[Unit, int], Expr] | None = None) -> None:
        """Emit the product block by block, each followed by `finish`; `start` says where the sum of a gate begins."""
        self.steps.blocks(lambda block: self._block(block, finish, start or (lambda unit, gate: unit.projected(self.first + gate))))

    def _block(self, block: Block, finish: Callable[[Unit], None], start: Callable[[Unit, int], Expr]) -> None:
        steps, k = self.steps, self.steps.k

        def each(body: Callable[[Unit], None]) -> None:
            def row(m: Expr) -> None:
                steps.each(block.size, block.lanes, lambda j: body(Unit(steps, block, m, self.at, j, sums, self.count)))

            steps.rows(row)

        with k.local(steps.wide, steps.tiling.rows * block.size * self.count, "sums", Scope.REGISTER, align=64) as sums:
            for gate in range(self.count):
                each(lambda unit, gate=gate: k.store(sums, unit.slot(gate), start(unit, gate)))  # type: ignore[misc]
            steps.recur(sums, self.state, block, self.first, self.count)
            each(finish)


# --- LSTM -------------------------------------------------------------------------------------


def _lstm_cell(steps: Steps, states: Sequence[Buffer], at: Expr, fresh: Buffer) -> None:
    """Gates are i, o, f, c."""
    k, (h, c) = steps.k, states

    def unit(u: Unit) -> None:
        with k.let(load(c, u.state)) as old, k.let(_lstm_gate(u, 0, old)) as i:
            forget = sub(1.0, i) if steps.ctx.int_attr("input_forget") else _lstm_gate(u, 2, old)
            candidate = steps.activate(1, u.sum(3))
            with k.let(add(mul(forget, old), mul(i, candidate))) as new:
                k.store(fresh, u.state, mul(_lstm_gate(u, 1, new), steps.functions.apply(2, new)))
                k.store(c, u.state, new)

    Product(steps, h, at, 0, 4).then(unit)


def _lstm_gate(u: Unit, which: int, looks_at: Expr) -> Expr:
    """Gate i, o or f (0, 1, 2), with its peephole."""
    steps, x = u.steps, u.sum(which)
    if (peephole := steps.given(INITIAL_H + 2)) is not None:
        weights = mul(add(mul(steps.direction, steps.hidden), u.block.start), 3)
        x = add(x, mul(steps.read(peephole, add(weights, add(u.j, which * u.block.size))), looks_at))
    return steps.activate(0, x)


# --- GRU --------------------------------------------------------------------------------------


def _gru_cell(steps: Steps, states: Sequence[Buffer], at: Expr, fresh: Buffer) -> None:
    """Gates are z, r, h."""
    cell = _gru_reset_last if steps.ctx.int_attr("linear_before_reset") else _gru_reset_first
    cell(steps, states[0], at, fresh)


def _mix(update: Expr, candidate: Expr, h: Expr) -> Expr:
    """`(1 - z) * candidate + z * h`"""
    return add(mul(sub(1.0, update), candidate), mul(update, h))


def _gru_reset_last(steps: Steps, h: Buffer, at: Expr, fresh: Buffer) -> None:
    """The reset gate scales `h * R_h + b_h`, which is summed apart from the projected input."""
    bias = steps.given(INITIAL_H + 1)

    def start(u: Unit, gate: int) -> Expr:
        if gate < 2:
            return u.projected(gate)
        return build.const(0, steps.wide) if bias is None else steps.read(bias, u.number)

    def unit(u: Unit) -> None:
        with steps.k.let(steps.activate(0, u.sum(0))) as update, steps.k.let(steps.activate(0, u.sum(1))) as reset:
            candidate = steps.activate(1, add(u.projected(2), mul(reset, u.sum(2))))
            steps.k.store(fresh, u.state, _mix(update, candidate, load(h, u.state)))

    Product(steps, h, at, 0, 3).then(unit, start)


def _gru_reset_first(steps: Steps, h: Buffer, at: Expr, fresh: Buffer) -> None:
    """The reset gate scales h before its product, so all units are reset before the first candidate."""
    k, size = steps.k, steps.tiling.group * steps.hidden

    def gates(u: Unit) -> None:
        k.store(update, u.state, steps.activate(0, u.sum(0)))
        k.store(kept, u.state, mul(steps.activate(0, u.sum(1)), load(h, u.state)))

    def candidate(u: Unit) -> None:
        with k.let(load(update, u.state)) as z:
            k.store(fresh, u.state, _mix(z, steps.activate(1, u.sum(0)), load(h, u.state)))

    with k.local(steps.wide, size, "update", align=64) as update, k.local(steps.wide, size, "reset", align=64) as kept:
        Product(steps, h, at, 0, 2).then(gates)
        Product(steps, kept, at, 2, 1).then(candidate)


# --- RNN --------------------------------------------------------------------------------------


def _rnn_cell(steps: Steps, states: Sequence[Buffer], at: Expr, fresh: Buffer) -> None:
    Product(steps, states[0], at, 0, 1).then(lambda u: steps.k.store(fresh, u.state, steps.activate(0, u.sum(0))))


def _row(name: str, gates: int, states: int, cell: Cell, doc: str) -> OpDef:
    return OpDef(name, lambda ctx: step_types(ctx, states), step_kernel(gates, states, cell), INTERNAL, doc=doc)


register(
    _row("LstmSteps", 4, 2, _lstm_cell, "projected, R', lengths, h, c, peepholes -> Y, h, c of all directions"),
    _row("GruSteps", 3, 1, _gru_cell, "projected, R', lengths, h, recurrent bias -> Y, h of all directions"),
    _row("RnnSteps", 1, 1, _rnn_cell, "projected, R', lengths, h -> Y, h of all directions"),
)
