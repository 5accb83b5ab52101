"""One row of a group as a kernel of its own: what the steps of a chain call again and again (`passes/plan/lower_chain.py`).

A group is scheduled as if its tensor had one row, whose number is a symbol, so every schedule of a target serves. Its operands
and its output are the few rows that are kept of a tensor; symbols say where these begin. Kernels of equal groups are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, load, mul, sub
from ...compiler.kernel.builder import KernelBuilder, free_symbols
from ...compiler.kernel.nodes import Buffer, Dim, Expr, Extern, LoopKind, Stmt, Var
from ...compiler.kernel.traverse import map_expr, map_statement, substitute
from ...compiler.program.stages import Group, Placement, ScheduledKernel, Stage, shift_symbol
from .loop_form import physical_shape
from .row_windows import RowWindow, row_axis, row_elements, rows_of

Schedule = Callable[[Group, Callable[[Value], bool]], Sequence[ScheduledKernel]]


def row_symbol(rows: int) -> Var:
    """The number of the row that a kernel makes or takes in."""
    return Var("chain.row", build.INDEX, 1, rows)


BASE = Var("chain.base")
"""In `Start.given`: the number of the first row that is kept."""


@dataclass(frozen=True, slots=True)
class Start:
    """A number that a kernel is given for a value whose rows are kept: where its rows begin in their memory, in elements."""

    symbol: Var
    """The kernel's argument; small, and not negative."""
    shift: Expr
    """What stands for the shift of the value (`shift_symbol`), in terms of the argument and the row's number."""
    given: Expr
    """What to give, in terms of the row's number and `BASE`."""
    operand: str
    """Name of the operand whose rows these are; empty for the output."""


def starts_of(group: Group, stage: Stage, window: Callable[[Value], RowWindow]) -> dict[Var, Start]:
    """The starts of a group that makes a row of a stage, by the shifts that they replace.

    An operand starts where its window does, so that the kernel computes nothing from the row's number but what stands outside of
    the operand; where windows reach above the operand, some rows are added.
    """
    found: dict[Var, Start] = {}
    for position, value in enumerate(group.values):
        if value.name not in group.placements:
            continue
        root = group.placements[value.name].root
        name, size = f"chain.start{position}", elements_of(root)
        if value is group.stages[0].value and value.name != stage.value.name:
            symbol, row = Var(name, build.INDEX, 1, size), row_symbol(rows_of(stage.value.type))
            found[shift_symbol(position)] = Start(symbol, symbol, mul(sub(row, BASE), row_elements(stage.value)), "")
        else:
            at, step = window(value), row_elements(value)
            above = max(0, -at.reach[0])
            first = add(substitute(at.first, {at.row: row_symbol(len(at.lows))}), above)
            symbol = Var(name, build.INDEX, 1, size + above * step + 1)
            found[shift_symbol(position)] = Start(symbol, sub(symbol, mul(first, step)), mul(sub(first, BASE), step), value.name)
    return found


def elements_of(value: Value) -> int:
    """Elements of a value in memory."""
    found = build.product(physical_shape(value.type))
    assert isinstance(found, int)
    return found


def with_rows(value: Value, name: str, rows: int) -> Value:
    """The value under another name, with another number of rows."""
    axis = row_axis(value.type)
    assert axis is not None
    return Value(name, replace(value.type, shape=(*value.type.shape[:axis], rows, *value.type.shape[axis + 1 :])))


def row_group(stage: Stage, kept: Mapping[str, Value]) -> Group:
    """The group that makes one row of a stage.

    Args:
        stage: whose output has rows.
        kept: the rows that are kept of values, by name.
    """
    nest, own = stage.nest, row_axis(stage.value.type)
    assert own is not None
    values: dict[Var, Expr] = {nest.axes[own]: row_symbol(rows_of(stage.value.type))}
    row = replace(
        nest,
        axes=(*nest.axes[:own], build.loop_var(nest.axes[own].name, 1), *nest.axes[own + 1 :]),
        shape=(*nest.shape[:own], 1, *nest.shape[own + 1 :]),
        body=substitute(nest.body, values),
        finish=None if nest.finish is None else substitute(nest.finish, values),
    )
    made = with_rows(stage.value, f"{stage.value.name}#row", 1)
    placements = {v.name: Placement(kept[v.name], ()) for v in stage.operands if v.name in kept}
    placements[made.name] = Placement(kept.get(stage.value.name, stage.value), ())
    return Group((replace(stage, value=made, nest=row),), (made,), 0, placements)


def schedule_row(
    group: Group, starts: Mapping[Var, Start], schedule: Schedule, is_constant: Callable[[Value], bool]
) -> Sequence[ScheduledKernel]:
    """Schedule a group that makes one row."""
    return tuple(from_starts(scheduled, starts) for scheduled in schedule(group, is_constant))


def from_starts(scheduled: ScheduledKernel, starts: Mapping[Var, Start]) -> ScheduledKernel:
    """A kernel that takes starts instead of shifts."""
    memo: dict[Expr, Expr] = {}

    def leaf(e: Expr) -> Expr | None:
        return starts[e].shift if isinstance(e, Var) and e in starts else None

    def inner(stmt: Stmt) -> Stmt:
        return map_statement(stmt, lambda e: map_expr(e, leaf, memo), inner)

    body = inner(scheduled.kernel.body)
    return replace(scheduled, kernel=replace(scheduled.kernel, body=body, symbols=free_symbols(body)))


MOVE_FROM, MOVE_COUNT = "chain.from", "chain.count"


def move_rows(kept: Value, row: int, copies: Mapping[DType, str]) -> ScheduledKernel:
    """The kernel that moves elements of some rows to the front: `count` of them, which begin at `from`.

    Args:
        kept: the rows.
        row: elements of a row.
        copies: functions that copy elements of a type: (target, source, count); a loop where there is none.
    """
    size = elements_of(kept)
    buffer = Buffer("b0", kept.type.dtype, size)
    start, count = (Var(name, build.INDEX, 1, size + 1) for name in (MOVE_FROM, MOVE_COUNT))
    k = KernelBuilder()
    if buffer.dtype in copies:
        k.emit(Extern(copies[buffer.dtype], (const(0), start, count), (buffer, buffer)))
    else:
        together = next(n for n in (4, 2, 1) if row % n == 0)
        with k.loop("e", build.dim(build.floordiv(count, together))) as e, k.loop("u", together, LoopKind.UNROLL) as u:
            at = add(mul(e, together), u)
            k.store(buffer, at, load(buffer, add(at, start)))
    return ScheduledKernel(k.kernel("move", (buffer,), schedule="move"), (kept,), 1, size)


def move_symbols(kept: Value, start: Dim, count: Dim) -> dict[Var, Dim]:
    """The arguments of that kernel."""
    size = elements_of(kept)
    return {Var(name, build.INDEX, 1, size + 1): value for name, value in ((MOVE_FROM, start), (MOVE_COUNT, count))}
