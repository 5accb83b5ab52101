"""Walk over the data of one window in runs of neighbours, telling apart what lies inside and outside the data.

Where a window lies inside, neighbours in memory make one run; at the border each tap is a run of its own.
Used to fill patches for sums of products (`fill_patch.py`, `schedule_depthwise.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from ...compiler.kernel import build
from ...compiler.kernel.build import TRUE, const
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nodes import Expr, Load, Var
from ...compiler.kernel.traverse import free_vars, substitute
from .loop_form import stride

Append = Callable[[Expr, Expr | None, int], None]
"""(position in the window, offset in the data or None for what lies outside, number of elements)."""


@dataclass(frozen=True, slots=True)
class Window:
    """The data that one output element reads."""

    data: Load
    inside: Expr
    """Where the data are read; holds between two taps where it holds."""
    loops: tuple[tuple[Var, int], ...]
    """Loops over the window with their extents; the last ones are neighbours in memory."""

    @property
    def size(self) -> int:
        """Elements of the window."""
        return math.prod(extent for _, extent in self.loops)

    @property
    def short(self) -> int:
        """Neighbours that are inside or outside together."""
        return math.prod(extent for _, extent in self._neighbours(across_checks=False))

    @property
    def long(self) -> int:
        """Neighbours if all are inside."""
        return math.prod(extent for _, extent in self._neighbours(across_checks=True))

    def lies_inside(self, values: dict[Var, Expr], loops: tuple[tuple[Var, int], ...] | None = None) -> Expr:
        """Condition that all taps of some loops are inside: those at the corners are."""
        corners = [substitute(self.inside, values)]
        for var, extent in self.loops if loops is None else loops:
            if var in free_vars(self.inside):
                corners = [substitute(c, {var: const(end)}) for c in corners for end in dict.fromkeys((0, extent - 1))]
        return build.logical_and(*dict.fromkeys(corners))

    def walk(self, k: KernelBuilder, values: dict[Var, Expr], append: Append) -> None:
        """Emit the runs of the window in order, for an output element at the values of its loops."""
        inner = self._neighbours(across_checks=True)
        outer = self.loops[: len(self.loops) - len(inner)]
        with ExitStack() as blocks:
            here = values | {var: blocks.enter_context(k.loop(var.name, extent)) for var, extent in outer}
            start = here | {var: const(0) for var, _ in inner}
            condition = self.lies_inside(here, inner)
            if condition is TRUE:
                append(self._position(start), self.source(start), self.long)
                return
            with k.when(condition):
                append(self._position(start), self.source(start), self.long)
            with k.otherwise():
                self._taps(k, start, inner, append)

    def _taps(self, k: KernelBuilder, start: dict[Var, Expr], inner: tuple[tuple[Var, int], ...], append: Append) -> None:
        """Emit the runs of a row at the border, tap by tap."""
        taps = inner[: len(inner) - len(self._neighbours(across_checks=False))]
        with ExitStack() as blocks:
            here = start | {var: blocks.enter_context(k.loop(var.name, extent)) for var, extent in taps}
            if taps:
                with k.when(substitute(self.inside, here)):
                    append(self._position(here), self.source(here), self.short)
                blocks.enter_context(k.otherwise())
            append(self._position(here), None, self.short)

    def _neighbours(self, across_checks: bool) -> tuple[tuple[Var, int], ...]:
        """The last loops, as far as they walk over neighbouring elements."""
        count, step, checked = 0, 1, free_vars(self.inside)
        for var, extent in reversed(self.loops):
            if stride(self.data.index, var) != step or (var in checked and not across_checks):
                break
            count, step = count + 1, step * extent
        return self.loops[len(self.loops) - count :]

    def _position(self, at: dict[Var, Expr]) -> Expr:
        return build.linearize([at[var] for var, _ in self.loops], [extent for _, extent in self.loops])

    def source(self, at: dict[Var, Expr]) -> Expr:
        """Where a tap stands in the data."""
        return substitute(self.data.index, at)
