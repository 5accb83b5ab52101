"""The schedule of sums of two tensors of 8-bit codes that lie alike in memory, for targets with a row that adds neighbours at once.

    for all loops but the last
      codes of the sums of neighbours                                      (a row of the target)

The last loop goes over neighbours in memory; where nothing lies between, it goes over all elements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import const
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import DotRows
from ...compiler.kernel.nodes import Const, Expr, Extern, Load, Var
from ...compiler.kernel.traverse import substitute
from ...compiler.program.stages import Group, ScheduledKernel
from .find_leads import with_leads
from .loop_form import collapse
from .requantized_form import find_sum
from .schedule_rows import Binder, total_work


def schedule_code_sums(group: Group, rows: DotRows, is_constant: Callable[[Value], bool]) -> Sequence[ScheduledKernel] | str:
    """Schedule a group of one sum of codes, or say why it is none."""
    if len(group.stages) != 1 or not group.stages[0].is_map:
        return "not one map"
    binder = Binder(group, is_constant)
    form = collapse((binder.form(group.stages[0]),))[0][0]
    row = rows.sums.get(form.target.dtype)
    if row is None or not form.axes:
        return "no instruction for this type"
    last, count = form.axes[-1]
    found = find_sum(form, last)
    if found is None:
        return "not the codes of a sum of codes that lie alike"
    one, other = found.one.codes, found.other.codes
    assert isinstance(one, Load) and isinstance(other, Load)
    k = KernelBuilder()
    with ExitStack() as blocks:
        numbers = [e if isinstance(e, Const) else blocks.enter_context(k.let(e)) for e in found.numbers]
        here: dict[Var, Expr] = {last: const(0)}
        here |= {var: blocks.enter_context(k.loop(var.name, extent)) for var, extent in form.axes[:-1]}
        offsets = [substitute(at, here) for at in (form.at, one.index, other.index)]
        k.emit(Extern(row, (*offsets, *numbers, build.index(count)), (form.target, one.buffer, other.buffer)))
    kernel = k.kernel("sums", tuple(binder.arguments.values()), group.stages[0].loc, f"code_sums(row={row})")
    made = ScheduledKernel(kernel, tuple(binder.values), 1, build.dim(total_work(group)))
    return (with_leads(made, form, form.axes[:-1], group.stages[0].value),)
