"""A reduction that takes in the rows of its operand one by one, as parts of a kernel of several groups (`passes/plan/lower_chain.py`).

    begin:      sums = identity
    take in:    sums = sums combined with what the reduction has in row number `row`
    finish:     output = what becomes of the sums

The terms are combined in the order of the whole reduction, whose outermost loop the rows are: the result is the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from ...compiler.graph.nodes import TensorType, Value
from ...compiler.kernel import build
from ...compiler.kernel.build import load
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nodes import Buffer, Expr, Scope, Var
from ...compiler.kernel.traverse import substitute
from ...compiler.program.stages import Group, ScheduledKernel
from .loop_form import LoopForm
from .schedule_rows import Binder, total_work


@dataclass(frozen=True, slots=True)
class Fold:
    """The kernels of the three parts. They have the same operands."""

    group: Group
    """What they are the parts of."""
    begin: ScheduledKernel
    take_in: ScheduledKernel
    finish: ScheduledKernel


def fold_rows(group: Group, axis: Var, row: Var, is_constant: Callable[[Value], bool]) -> Fold:
    """The parts of a group of one reduction.

    Args:
        group: reads its operand where the rows are.
        axis: the reduction axis of the rows, the outermost one.
        row: the symbol that the number of the row is given by.
        is_constant: whether a value is known at compile time.
    """
    return _Parts(group, axis, row, is_constant).fold()


class _Parts:
    """The parts of one reduction."""

    def __init__(self, group: Group, axis: Var, row: Var, is_constant: Callable[[Value], bool]) -> None:
        self.stage, self.binder, self.work = group.stages[0], Binder(group, is_constant), build.dim(total_work(group))
        form = self.binder.form(self.stage)
        self.extents = tuple(extent for _, extent in form.axes)
        self.sums = Buffer("sums", form.acc.dtype, build.product(self.extents), Scope.GLOBAL)
        self.value = Value(f"{self.stage.value.name}#sums", TensorType(form.acc.dtype, self.extents))
        self.group, self.form, self.axis, self.row = group, form, axis, row

    def fold(self) -> Fold:
        """The parts."""
        combine = self.form.combine
        assert combine is not None
        return Fold(
            self.group,
            self._part(lambda k, form, at: k.store(self.sums, at, combine.identity(form.acc.dtype))),
            self._part(self._take_in),
            self._part(lambda k, form, at: k.store(form.target, form.at, substitute(form.result, {form.acc: load(self.sums, at)}))),
        )

    def _part(self, body: Callable[[KernelBuilder, LoopForm, Expr], None]) -> ScheduledKernel:
        """A kernel with a loop over all output elements; the body gets the form at one of them, and where its sum is."""
        k = KernelBuilder()
        with k.loops(self.extents) as at:
            form = self.form.substitute({var: value for (var, _), value in zip(self.form.axes, at, strict=True)})
            body(k, form, build.linearize(at, self.extents))
        kernel = k.kernel("fold", (self.sums, *self.binder.arguments.values()), self.stage.loc, "fold")
        return ScheduledKernel(kernel, (self.value, *self.binder.values), 1, self.work)

    def _take_in(self, k: KernelBuilder, form: LoopForm, at: Expr) -> None:
        """Combine one sum with the terms of a row."""
        combine = form.combine
        assert combine is not None
        with k.local(form.acc.dtype, 1, "sum", Scope.REGISTER) as total:
            k.store(total, 0, load(self.sums, at))
            with ExitStack() as loops:
                values: dict[Var, Expr] = {var: loops.enter_context(k.loop(var.name, d)) for var, d in form.reduce if var is not self.axis}
                k.store(total, 0, combine.apply(load(total, 0), substitute(form.term, values | {self.axis: self.row})))
            k.store(self.sums, at, load(total, 0))
