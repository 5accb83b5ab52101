"""The schedule of max and average pools of 8-bit codes, for targets with an instruction row for neighbouring channels.

    for pixels of the output
      bounds of the taps that lie inside the data                          (window_bounds)
      for channels, as many as the row takes: the largest of the taps, or the code of their mean     (rows of the target)
      store what the epilogue makes of the largest, if there is one

The channels of data and output lie side by side. Means are those of real numbers, added in their order as the operator adds them:
codes at halves depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import const, load
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.mma import DotRows
from ...compiler.kernel.nest import Combine
from ...compiler.kernel.nodes import Const, Expr, Extern, Load, Scope, Var
from ...compiler.kernel.traverse import free_vars, substitute
from ...compiler.program.stages import Group, ScheduledKernel
from .find_leads import with_leads
from .loop_form import LoopForm, collapse, stride
from .requantized_form import CodeMean, find_lookup, find_mean
from .schedule_rows import Binder, total_work
from .window_bounds import Windows, find_windows

MAX_TAP_LOOPS = 2


def schedule_pools(group: Group, rows: DotRows, is_constant: Callable[[Value], bool]) -> Sequence[ScheduledKernel] | str:
    """Schedule a group of one max or average pool of codes, or say why it is not one."""
    if len(group.stages) != 1 or group.stages[0].is_map:
        return "not one reduction"
    binder = Binder(group, is_constant)
    form = collapse((binder.form(group.stages[0]),))[0][0]
    if form.combine not in (Combine.MAX, Combine.SUM) or not form.axes:
        return "not the largest element or the mean of a window"
    windows = find_windows(form.term, form.reduce, None, None, form.combine.identity(form.term.dtype))
    mean = find_mean(form, windows.factor, form.axes[-1][0]) if form.combine is Combine.SUM else None
    if form.combine is Combine.SUM and mean is None:
        return "not the mean of codes"
    data = windows.factor if mean is None else mean.one.codes
    row = (rows.largest if mean is None else rows.means).get(data.dtype)
    if row is None:
        return "no instruction for this type"
    reason = _refuse(form, windows, data)
    if reason is not None:
        return reason
    assert isinstance(data, Load)
    k = KernelBuilder()
    _Pool(k, form, windows, data, mean, rows, row).emit()
    name = "largest" if mean is None else "means"
    kernel = k.kernel(name, tuple(binder.arguments.values()), group.stages[0].loc, f"pool(row={row})")
    made = ScheduledKernel(kernel, tuple(binder.values), 1, build.dim(total_work(group)))
    return (with_leads(made, form, form.axes[:-1], group.stages[0].value),)


def _refuse(form: LoopForm, windows: Windows, data: Expr) -> str | None:
    """Why a row cannot take neighbouring channels; None if it can."""
    channel, channels = form.axes[-1]
    if not isinstance(data, Load) or data.mask is not None or data.buffer.scope is not Scope.GLOBAL:
        return "the data are not read as they are"
    if stride(data.index, channel) != 1 or stride(form.at, channel) != 1:
        return "neighbouring channels do not lie side by side"
    if any(channel in free_vars(test.rest) for test in windows.tests):
        return "the channel decides what is inside"
    steps = [stride(data.index, var) for var, _ in form.reduce]
    if None in steps or len(steps) > MAX_TAP_LOOPS:
        return "the window is not walked in even steps of two loops"
    if form.combine is Combine.MAX and form.result is not form.acc and not isinstance(channels, int):
        return "the number of channels is not known"
    return None


@dataclass(frozen=True, slots=True)
class _Pool:
    """The loops over pixels, with a call of the row in each."""

    k: KernelBuilder
    form: LoopForm
    windows: Windows
    data: Load
    mean: CodeMean | None
    rows: DotRows
    row: str

    def emit(self) -> None:
        """Emit them."""
        channel, _ = self.form.axes[-1]
        with ExitStack() as blocks:
            fixed = () if self.mean is None else [self._named(blocks, e) for e in self._fixed(self.mean)]
            here: dict[Var, Expr] = {channel: const(0)}
            for var, extent in self.form.axes[:-1]:
                here[var] = blocks.enter_context(self.k.loop(var.name, extent))
            window = self._window(here)
            if self.mean is None:
                self._largest(here, window)
            else:
                self._mean(self.mean, blocks, here, window, fixed)

    def _window(self, here: dict[Var, Expr]) -> tuple[Expr, ...]:
        """Where the taps that are inside start; rows, columns, and the steps between them."""
        bounds = {loop[0]: self.windows.range(loop, here) for loop in self.form.reduce}
        source = substitute(self.data.index, here | {var: first for var, (first, _) in bounds.items()})
        counts = [count for _, count in bounds.values()]
        steps = [const(stride(self.data.index, var) or 0) for var, _ in self.form.reduce]
        missing = MAX_TAP_LOOPS - len(steps)
        return (source, *[const(1)] * missing, *counts, *[const(0)] * missing, *steps)

    def _fixed(self, mean: CodeMean) -> tuple[Expr, ...]:
        """Zero points and scales of data and mean, with the inverse of the last."""
        return (mean.one.zero, mean.zero, mean.one.scale, mean.scale, build.div(const(1.0, mean.scale.dtype), mean.scale))

    def _named(self, blocks: ExitStack, e: Expr) -> Expr:
        return e if isinstance(e, Const) else blocks.enter_context(self.k.let(e))

    def _mean(self, mean: CodeMean, blocks: ExitStack, here: dict[Var, Expr], window: tuple[Expr, ...], fixed: Sequence[Expr]) -> None:
        terms = self._named(blocks, substitute(mean.terms, here))
        part = self._named(blocks, build.div(const(1.0, terms.dtype), terms))
        one_zero, zero, one_scale, scale, inverse = fixed
        numbers = (one_zero, zero, one_scale, terms, part, scale, inverse, build.index(self.form.axes[-1][1]))
        self.k.emit(Extern(self.row, (substitute(self.form.at, here), *window, *numbers), (self.form.target, self.data.buffer)))

    def _largest(self, here: dict[Var, Expr], window: tuple[Expr, ...]) -> None:
        form, (channel, channels) = self.form, self.form.axes[-1]
        count, at, lookup = build.index(channels), substitute(form.at, here), find_lookup(form.result)
        is_lookup = lookup is not None and lookup.code is form.acc and form.acc.dtype is form.result.dtype
        if form.result is form.acc or is_lookup:
            self.k.emit(Extern(self.row, (at, *window, count), (form.target, self.data.buffer)))
            if lookup is not None and is_lookup:
                row = self.rows.lookup[form.acc.dtype]
                self.k.emit(Extern(row, (at, at, const(0), count), (form.target, form.target, lookup.table)))
            return
        assert isinstance(channels, int)
        with self.k.local(self.data.dtype, channels, "most", Scope.STACK) as most:
            self.k.emit(Extern(self.row, (const(0), *window, count), (most, self.data.buffer)))
            with self.k.loop(channel.name, channels) as c:
                pixel = form.substitute(here | {channel: c})
                self.k.store(pixel.target, pixel.at, substitute(pixel.result, {pixel.acc: load(most, c)}))
