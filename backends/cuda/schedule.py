"""Which schedule a group of stages gets on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...compiler.graph.nodes import Value
from ...compiler.program.stages import Group, ScheduledKernel
from ...passes.kernel.schedule_grid import schedule_grid
from ...passes.kernel.schedule_grid_contraction import schedule_grid_contraction
from ...passes.kernel.schedule_grid_rows import schedule_grid_rows


def schedule(group: Group, is_constant: Callable[[Value], bool]) -> Sequence[ScheduledKernel]:
    """Tiles for contractions, blocks or threads for rows and single stages."""
    if len(group.stages) > 1:
        return (schedule_grid_rows(group, is_constant),)
    found = schedule_grid_contraction(group, is_constant)
    return (schedule_grid(group, is_constant) if isinstance(found, str) else found,)
