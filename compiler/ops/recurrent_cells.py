"""The cells of LSTM, GRU and RNN: what happens to the gates of a block of units in one step.

The step operators stand here too. Their operands lie in the order of `recurrent_blocks.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..kernel import build
from ..kernel.build import add, load, mul, sub
from ..kernel.nodes import Buffer, Expr, Scope
from .recurrent_steps import INITIAL_H, Block, Cell, Steps, step_kernel, step_types
from .table import INTERNAL, OpDef, register


@contextmanager
def _sums(steps: Steps, block: Block, state: Buffer, place: Expr, first: int = 0, count: int | None = None) -> Iterator[Buffer]:
    """Gates `first .. first + count` of a block: the projected input plus the state times the recurrent matrix."""
    size = block.size * (steps.gates if count is None else count)
    with steps.k.local(steps.wide, size, "sums", Scope.REGISTER, align=64) as sums:
        steps.each(size, block.lanes, lambda j: steps.k.store(sums, j, steps.projected(block, first, j, place)))
        steps.recur(sums, state, block, first, count)
        yield sums


def _lstm_cell(steps: Steps, states: Sequence[Buffer], place: Expr, fresh: Buffer) -> None:
    k, peephole = steps.k, steps.given(INITIAL_H + 2)
    h, c = states

    def cell(block: Block) -> None:
        def gate(which: int, j: Expr, looks_at: Expr) -> Expr:
            """Gate i, o or f (0, 1, 2), with its peephole."""
            x: Expr = load(sums, add(j, which * block.size))
            if peephole is not None:
                weights = mul(add(mul(steps.direction, steps.hidden), block.start), 3)
                x = add(x, mul(steps.read(peephole, add(weights, add(j, which * block.size))), looks_at))
            return steps.activate(0, x)

        def unit(j: Expr) -> None:
            at = add(block.start, j)
            with k.let(load(c, at)) as old, k.let(gate(0, j, old)) as i:
                forget = sub(1.0, i) if steps.ctx.int_attr("input_forget") else gate(2, j, old)
                candidate = steps.activate(1, load(sums, add(j, 3 * block.size)))
                with k.let(add(mul(forget, old), mul(i, candidate))) as new:
                    k.store(fresh, at, mul(gate(1, j, new), steps.functions.apply(2, new)))
                    k.store(c, at, new)

        with _sums(steps, block, h, place) as sums:
            steps.each(block.size, block.lanes, unit)

    steps.blocks(cell)


def _gru_cell(steps: Steps, states: Sequence[Buffer], place: Expr, fresh: Buffer) -> None:
    """Gates are z, r, h."""
    if steps.ctx.int_attr("linear_before_reset"):
        steps.blocks(lambda block: _gru_block(steps, block, states[0], place, fresh))
    else:
        _gru_reset_first(steps, states[0], place, fresh)


def _mix(update: Expr, candidate: Expr, h: Expr) -> Expr:
    """`(1 - z) * candidate + z * h`"""
    return add(mul(sub(1.0, update), candidate), mul(update, h))


def _gru_block(steps: Steps, block: Block, h: Buffer, place: Expr, fresh: Buffer) -> None:
    """The reset gate scales `h * R_h + b_h`, which is summed apart from the projected input."""
    k, size, bias = steps.k, block.size, steps.given(INITIAL_H + 1)

    def start(j: Expr) -> None:
        own = add(mul(steps.direction, steps.hidden), add(block.start, j))
        k.store(sums, add(j, 2 * size), build.const(0, steps.wide) if bias is None else steps.read(bias, own))

    def unit(j: Expr) -> None:
        at = add(block.start, j)
        with k.let(steps.activate(0, load(sums, j))) as update, k.let(steps.activate(0, load(sums, add(j, size)))) as reset:
            scaled = mul(reset, load(sums, add(j, 2 * size)))
            candidate = steps.activate(1, add(steps.projected(block, 2, j, place), scaled))
            k.store(fresh, at, _mix(update, candidate, load(h, at)))

    with k.local(steps.wide, 3 * size, "sums", Scope.REGISTER, align=64) as sums:
        steps.each(2 * size, block.lanes, lambda j: k.store(sums, j, steps.projected(block, 0, j, place)))
        steps.each(size, block.lanes, start)
        steps.recur(sums, h, block)
        steps.each(size, block.lanes, unit)


def _gru_reset_first(steps: Steps, h: Buffer, place: Expr, fresh: Buffer) -> None:
    """The reset gate scales h before its product, so all units are reset before the first candidate."""
    k = steps.k

    def gates(block: Block) -> None:
        def unit(j: Expr) -> None:
            at = add(block.start, j)
            k.store(update, at, steps.activate(0, load(sums, j)))
            k.store(kept, at, mul(steps.activate(0, load(sums, add(j, block.size))), load(h, at)))

        with _sums(steps, block, h, place, 0, 2) as sums:
            steps.each(block.size, block.lanes, unit)

    def candidates(block: Block) -> None:
        def unit(j: Expr) -> None:
            at = add(block.start, j)
            with k.let(load(update, at)) as z:
                k.store(fresh, at, _mix(z, steps.activate(1, load(sums, j)), load(h, at)))

        with _sums(steps, block, kept, place, 2, 1) as sums:
            steps.each(block.size, block.lanes, unit)

    with k.local(steps.wide, steps.hidden, "update", align=64) as update, k.local(steps.wide, steps.hidden, "reset", align=64) as kept:
        steps.blocks(gates)
        steps.blocks(candidates)


def _rnn_cell(steps: Steps, states: Sequence[Buffer], place: Expr, fresh: Buffer) -> None:
    def cell(block: Block) -> None:
        with _sums(steps, block, states[0], place) as sums:
            steps.each(
                block.size, block.lanes,
                lambda j: steps.k.store(fresh, add(block.start, j), steps.activate(0, load(sums, j))),
            )  # fmt: skip

    steps.blocks(cell)


def _row(name: str, gates: int, states: int, cell: Cell, doc: str) -> OpDef:
    return OpDef(name, lambda ctx: step_types(ctx, states), step_kernel(gates, states, cell), INTERNAL, doc=doc)


register(
    _row("LstmSteps", 4, 2, _lstm_cell, "projected, R', lengths, h, c, peepholes -> Y, h, c of all directions"),
    _row("GruSteps", 3, 1, _gru_cell, "projected, R', lengths, h, recurrent bias -> Y, h of all directions"),
    _row("RnnSteps", 1, 1, _rnn_cell, "projected, R', lengths, h -> Y, h of all directions"),
)
