"""The schedule of largest bytes in windows (MaxPool), for targets with a row that takes neighbouring channels at once.

    for pixels of the output
      bounds of the taps that lie inside the data                          (window_bounds)
      for channels, as many as the row takes: the largest of the taps      (a row of the target)
      store what the epilogue makes of them, if there is one

The channels of data and output lie side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import const, load
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import DotRows
from ...compiler.kernel.nest import Combine
from ...compiler.kernel.nodes import Expr, Extern, Load, Scope, Select, Var
from ...compiler.kernel.traverse import free_vars, substitute
from ...compiler.program.stages import Group, ScheduledKernel
from .find_leads import with_leads
from .loop_form import LoopForm, collapse, stride
from .schedule_rows import Binder, total_work
from .window_bounds import Windows, find_windows

MAX_TAP_LOOPS = 2


def schedule_window_max(group: Group, rows: DotRows, is_constant: Callable[[Value], bool]) -> Sequence[ScheduledKernel] | str:
    """Schedule a group of one largest element in a window of bytes, or say why it is not one."""
    if len(group.stages) != 1 or group.stages[0].is_map:
        return "not one reduction"
    binder = Binder(group, is_constant)
    form = collapse((binder.form(group.stages[0]),))[0][0]
    if form.combine is not Combine.MAX or not form.axes:
        return "not the largest element of a window"
    row = rows.largest.get(form.term.dtype)
    if row is None:
        return "no instruction for this type"
    windows = find_windows(form.term, form.reduce, None, None, Combine.MAX.identity(form.term.dtype))
    found = _factor(form, windows)
    if isinstance(found, str):
        return found
    steps = [stride(found.index, var) for var, _ in form.reduce]
    known = [step for step in steps if step is not None]
    if len(known) < len(steps) or len(steps) > MAX_TAP_LOOPS:
        return "the window is not walked in even steps of two loops"
    if form.result is not form.acc and not isinstance(form.axes[-1][1], int):
        return "the number of channels is not known"
    k = KernelBuilder()
    _emit(k, form, windows, found, row, known)
    kernel = k.kernel("largest", tuple(binder.arguments.values()), group.stages[0].loc, f"window_max(row={row})")
    made = ScheduledKernel(kernel, tuple(binder.values), 1, build.dim(total_work(group)))
    return (with_leads(made, form, form.axes[:-1], group.stages[0].value),)


def _factor(form: LoopForm, windows: Windows) -> Load | str:
    """The data that the window goes over."""
    channel = form.axes[-1][0]
    if isinstance(windows.factor, Select):
        return "what is inside is not said by bounds of single taps"
    data = windows.factor
    if not isinstance(data, Load) or data.mask is not None or data.buffer.scope is not Scope.GLOBAL:
        return "the data are not read as they are"
    if stride(data.index, channel) != 1 or stride(form.at, channel) != 1:
        return "neighbouring channels do not lie side by side"
    if any(channel in free_vars(test.rest) for test in windows.tests):
        return "the channel decides what is inside"
    return data


def _emit(k: KernelBuilder, form: LoopForm, windows: Windows, data: Load, row: str, steps: Sequence[int]) -> None:
    """The loops over pixels, with a call of the row in each."""
    channel, channels = form.axes[-1]
    missing = MAX_TAP_LOOPS - len(steps)
    with ExitStack() as blocks:
        here: dict[Var, Expr] = {}
        for var, extent in form.axes[:-1]:
            here[var] = blocks.enter_context(k.loop(var.name, extent))
        bounds = {loop[0]: windows.range(loop, here) for loop in form.reduce}
        source = substitute(data.index, here | {channel: const(0)} | {var: first for var, (first, _) in bounds.items()})
        counts = [count for _, count in bounds.values()]
        numbers = (*[const(1)] * missing, *counts, *[const(0)] * missing, *map(const, steps), build.index(channels))
        if form.result is form.acc:
            k.emit(Extern(row, (substitute(form.at, here | {channel: const(0)}), source, *numbers), (form.target, data.buffer)))
            return
        assert isinstance(channels, int)
        most = blocks.enter_context(k.local(data.dtype, channels, "most", Scope.STACK))
        k.emit(Extern(row, (const(0), source, *numbers), (most, data.buffer)))
        with k.loop(channel.name, channels) as c:
            pixel = form.substitute(here | {channel: c})
            k.store(pixel.target, pixel.at, substitute(pixel.result, {pixel.acc: load(most, c)}))
