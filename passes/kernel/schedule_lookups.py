"""The schedule of maps that look up codes in a table (`tabulate_codes`), for targets with a row that looks up neighbours at once.

    for all loops but the last
      elements of the table for neighbours                                 (a row of the target)

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
from ...compiler.kernel.nodes import Expr, Extern, Load, Var
from ...compiler.kernel.traverse import substitute
from ...compiler.program.stages import Group, ScheduledKernel
from .find_leads import with_leads
from .loop_form import collapse, stride
from .requantized_form import find_lookup
from .schedule_rows import Binder, total_work


def schedule_lookups(group: Group, rows: DotRows, is_constant: Callable[[Value], bool]) -> Sequence[ScheduledKernel] | str:
    """Schedule a group of one map from codes to elements of a table, or say why it is none."""
    if len(group.stages) != 1 or not group.stages[0].is_map:
        return "not one map"
    binder = Binder(group, is_constant)
    form = collapse((binder.form(group.stages[0]),))[0][0]
    found = find_lookup(form.result)
    if found is None or not form.axes:
        return "no element of a table"
    codes, row = found.code, rows.lookup.get(found.code.dtype)
    last, count = form.axes[-1]
    if row is None or not isinstance(codes, Load) or codes.mask is not None or stride(codes.index, last) != 1 or stride(form.at, last) != 1:
        return "the codes are not neighbours in memory"
    k = KernelBuilder()
    with ExitStack() as blocks:
        here: dict[Var, Expr] = {last: const(0)}
        here |= {var: blocks.enter_context(k.loop(var.name, extent)) for var, extent in form.axes[:-1]}
        places = (substitute(form.at, here), substitute(codes.index, here), const(0), build.index(count))
        k.emit(Extern(row, places, (form.target, codes.buffer, found.table)))
    kernel = k.kernel("lookups", tuple(binder.arguments.values()), group.stages[0].loc, f"lookups(row={row})")
    made = ScheduledKernel(kernel, tuple(binder.values), 1, build.dim(total_work(group)))
    return (with_leads(made, form, form.axes[:-1], group.stages[0].value),)
