"""A chain of groups as steps: kernels that make a row each, called in nested loops.

    for rows of the last group (the root)
      compute it:
        ask for the rows of each tensor that it reads:
          move the rows that are still needed to the front of their memory
          for rows that are missing: compute them, in the same way
        call the kernel of the row

Who asks for what is found out before (`walk_rows`). A root that folds rows (a mean over an image) takes them in one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, mul, sub
from ...compiler.kernel.nodes import Dim, Expr, Var
from ...compiler.kernel.traverse import substitute
from ...compiler.program.nodes import Branch, Place, Repeat, Rows, SetSymbol, Storage
from ...compiler.program.stages import Chain, Placement, ScheduledKernel, Stage
from ..kernel.fold_rows import Fold, fold_rows
from ..kernel.row_windows import RowWindow, fold_window, folded_axis, row_elements, row_window, rows_of
from ..kernel.schedule_row import (
    BASE,
    Start,
    from_starts,
    move_rows,
    move_symbols,
    row_group,
    row_symbol,
    schedule_row,
    starts_of,
    with_rows,
)
from ..kernel.walk_rows import Pull, RowWalk, walk_rows
from .control_flow import inner_steps
from .lower_group import call_kernel

if TYPE_CHECKING:
    from .lower_graph import Lowering


def lower_chain(lowering: Lowering, chain: Chain, wanted: Mapping[str, Storage]) -> None:
    """Append the steps of a chain."""
    walk = walk_rows(chain.stages)
    assert isinstance(walk, RowWalk), walk
    lowering.place(chain.output, wanted.get(chain.output.name))
    _Chain(lowering, chain, walk).lower()


@dataclass(frozen=True, slots=True)
class _Kept:
    """The rows of one tensor that there are."""

    value: Value
    """Their memory."""
    rows: int
    """Rows of the whole tensor."""
    elements: int
    """Elements of a row."""
    base: Var
    """Number of the first row that is kept."""
    end: Var
    """One more than the number of the last row."""

    @classmethod
    def of(cls, stage: Stage, rows: int, number: int) -> _Kept:
        """Some rows of what a stage makes."""
        count = rows_of(stage.value.type)
        base, end = (Var(f"chain.{what}{number}", build.INDEX, 1, count + 1) for what in ("base", "end"))
        return cls(with_rows(stage.value, f"{stage.value.name}#rows", rows), count, row_elements(stage.value), base, end)


class _Chain:
    """The steps of one chain."""

    def __init__(self, lowering: Lowering, chain: Chain, walk: RowWalk) -> None:
        self.lowering, self.chain, self.walk, self.root = lowering, chain, walk, len(chain.stages) - 1
        self.kept = [_Kept.of(stage, rows, k) for k, (stage, rows) in enumerate(zip(chain.stages, walk.kept, strict=False))]
        self.number = {stage.value.name: k for k, stage in enumerate(chain.stages)}
        self.scratch: dict[str, Storage] = {}
        rows = self.kept[walk.pulls[self.root][0].made].rows if walk.folds else rows_of(chain.output.type)
        self.row, self.rows = Var("chain.row", build.INDEX, 1, rows + 1), rows
        self.fold = self._fold() if walk.folds else None

    def lower(self) -> None:
        """Append them."""
        counters = (self.row, *(symbol for kept in self.kept for symbol in (kept.base, kept.end)))
        with inner_steps(self.lowering) as body:
            self.lowering.known.update(counters)
            if self.fold is not None:
                self._run(self.root, self.fold.begin, {}, {})
            with inner_steps(self.lowering) as loop:
                self._row(self.root, self.row)
                loop.append(SetSymbol(self.row, add(self.row, 1)))
            body.append(Repeat(build.lt(self.row, self.rows), tuple(loop)))
            if self.fold is not None:
                self._run(self.root, self.fold.finish, {}, {})
        self.lowering.steps.append(Rows(counters, tuple(body)))
        self._leads()

    def _leads(self) -> None:
        """The output may lie over what the chain has read. No kernel sees that: a row is written below all that is still to be read."""
        output = self.lowering.storages[self.chain.output.name]
        for name, lead in self.walk.leads.items():
            given = self.lowering.storages.get(name)
            if given is not None and given.place is output.place is Place.ARENA and given != output:
                self.lowering.leads[output.index, given.index] = lead

    # --- Rows ---------------------------------------------------------------------------------

    def _row(self, number: int, row: Var) -> None:
        """A row of a stage, and before it all that it asks for."""
        for pull in self.walk.pulls[number]:
            self._pull(pull, row)
        stage = self.chain.stages[number]
        if self.fold is not None and number == self.root:
            starts = starts_of(self.fold.group, stage, fold_window)
            self._run(number, from_starts(self.fold.take_in, starts), {}, self._symbols(number, starts, row, self.rows))
            return
        group = row_group(stage, {name: self.kept[k].value for name, k in self.number.items() if k != self.root})
        starts = starts_of(group, stage, partial(_window, stage))
        lowering = self.lowering
        kernels, values = lowering.pool.schedule(
            group, lambda g, known: schedule_row(g, starts, lowering.options.schedule, known), lowering.is_constant
        )
        for _, scheduled in kernels:
            self._run(number, scheduled, values, self._symbols(number, starts, row, rows_of(stage.value.type)))

    def _symbols(self, number: int, starts: Mapping[Var, Start], row: Var, rows: int) -> dict[Var, Dim]:
        """The arguments of the kernel of a row."""
        found: dict[Var, Dim] = {row_symbol(rows): row}
        for start in starts.values():
            made = self.number[start.operand] if start.operand else number
            base: Expr = const(0) if made == self.root else self.kept[made].base
            found[start.symbol] = build.dim(substitute(start.given, {row_symbol(rows): row, BASE: base}))
        return found

    def _run(self, number: int, scheduled: ScheduledKernel, values: Mapping[str, Value], symbols: Mapping[Var, Dim]) -> None:
        """Call a kernel."""
        name = self.lowering.pool.add(scheduled.kernel)
        call_kernel(self.lowering, (self.chain.stages[number],), name, scheduled, values, symbols, self.scratch)

    def _pull(self, pull: Pull, row: Var) -> None:
        """Make sure that the rows of a window are there."""
        kept, steps = self.kept[pull.made], self.lowering.steps
        low = pull.window.low(row, pull.delay)
        if self.walk.moved_bytes[pull.made]:
            with inner_steps(self.lowering) as move:
                self._move(kept, low)
                move.append(SetSymbol(kept.base, low))
            steps.append(Branch(build.lt(kept.base, low), tuple(move), ()))
        else:
            steps.append(SetSymbol(kept.base, low))
        if self.walk.skips[pull.made]:
            steps.append(SetSymbol(kept.end, build.maximum(kept.end, low)))
        with inner_steps(self.lowering) as missing:
            self._row(pull.made, kept.end)
            missing.append(SetSymbol(kept.end, add(kept.end, 1)))
        steps.append(Repeat(build.lt(kept.end, pull.window.high(row)), tuple(missing)))

    def _move(self, kept: _Kept, low: Expr) -> None:
        """Move the rows from `low` on to the front."""
        start = mul(sub(low, kept.base), kept.elements)
        count = mul(build.maximum(sub(kept.end, low), 0), kept.elements)
        scheduled = move_rows(kept.value, kept.elements, self.lowering.options.copies)
        name = self.lowering.pool.add(scheduled.kernel)
        call_kernel(self.lowering, (), name, scheduled, {}, move_symbols(kept.value, build.dim(start), build.dim(count)), self.scratch)

    # --- A root that folds rows ---------------------------------------------------------------

    def _fold(self) -> Fold:
        """The parts of the root."""
        (stage,) = (group := self.chain.groups[-1]).stages
        operands = [v for v in stage.operands if v.name in self.number]
        axes = [axis for axis in (folded_axis(stage, v) for v in operands) if axis is not None]
        placements = {v.name: Placement(self.kept[self.number[v.name]].value, ()) for v in operands}
        group = replace(group, placements=placements)
        return fold_rows(group, axes[0], row_symbol(self.rows), self.lowering.is_constant)


def _window(stage: Stage, operand: Value) -> RowWindow:
    """The window of an operand that lies in the chain, which has one."""
    found = row_window(stage, operand)
    assert found is not None
    return found
