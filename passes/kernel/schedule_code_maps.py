"""The schedule of elementwise maps over 8-bit codes with equal memory layouts, for targets with an instruction row for neighbours.

    for all loops but the last
      codes of the sums of two codes, or elements of a table that codes look up, for neighbours      (a row of the target)

The last loop goes over neighbours in memory; where nothing lies between, it goes over all elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import const
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import DotRows
from ...compiler.kernel.nodes import Buffer, Const, Expr, Extern, Load, Var
from ...compiler.kernel.traverse import substitute
from ...compiler.program.stages import Group, ScheduledKernel
from .find_leads import with_leads
from .loop_form import LoopForm, collapse, stride
from .requantized_form import find_lookup, find_sum
from .schedule_rows import Binder, total_work


@dataclass(frozen=True, slots=True)
class _RowCall:
    """What a row is called with beside the target and the number of neighbours."""

    row: str
    operands: tuple[tuple[Buffer, Expr], ...]
    """Buffers, and where the first neighbour lies in each."""
    numbers: tuple[Expr, ...] = ()
    """The same for all elements."""


def schedule_code_maps(group: Group, rows: DotRows, is_constant: Callable[[Value], bool]) -> Sequence[ScheduledKernel] | str:
    """Schedule a group of one map of codes, or say why it is not one."""
    if len(group.stages) != 1 or not group.stages[0].is_map:
        return "not one map"
    binder = Binder(group, is_constant)
    form = collapse((binder.form(group.stages[0]),))[0][0]
    if not form.axes:
        return "a single element"
    found = _sum(form, rows) or _lookup(form, rows)
    if found is None:
        return "neither a sum of codes nor a table of them, or no instruction for this type"
    last, count = form.axes[-1]
    k = KernelBuilder()
    with ExitStack() as blocks:
        numbers = [e if isinstance(e, Const) else blocks.enter_context(k.let(e)) for e in found.numbers]
        here: dict[Var, Expr] = {last: const(0)}
        here |= {var: blocks.enter_context(k.loop(var.name, extent)) for var, extent in form.axes[:-1]}
        offsets = [substitute(at, here) for at in (form.at, *(at for _, at in found.operands))]
        k.emit(Extern(found.row, (*offsets, *numbers, build.index(count)), (form.target, *(buffer for buffer, _ in found.operands))))
    kernel = k.kernel("codes", tuple(binder.arguments.values()), group.stages[0].loc, f"code_map(row={found.row})")
    made = ScheduledKernel(kernel, tuple(binder.values), 1, build.dim(total_work(group)))
    return (with_leads(made, form, form.axes[:-1], group.stages[0].value),)


def _sum(form: LoopForm, rows: DotRows) -> _RowCall | None:
    """Codes of the sums of two codes."""
    row, found = rows.sums.get(form.target.dtype), find_sum(form, form.axes[-1][0])
    if row is None or found is None:
        return None
    one, other = found.one.codes, found.other.codes
    assert isinstance(one, Load) and isinstance(other, Load)
    return _RowCall(row, ((one.buffer, one.index), (other.buffer, other.index)), found.numbers)


def _lookup(form: LoopForm, rows: DotRows) -> _RowCall | None:
    """Elements of a table (`tabulate_codes`)."""
    found, last = find_lookup(form.result), form.axes[-1][0]
    if found is None or not isinstance(found.code, Load) or found.code.mask is not None:
        return None
    row = rows.lookup.get(found.code.dtype)
    if row is None or stride(found.code.index, last) != 1 or stride(form.at, last) != 1:
        return None
    return _RowCall(row, ((found.code.buffer, found.code.index), (found.table, const(0))))
