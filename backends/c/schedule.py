"""What the `c` backend prefers for each group: the first schedule that takes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...compiler.graph.nodes import Value
from ...compiler.kernel.mma import DotRows, Mma
from ...compiler.program.stages import Group, ScheduledKernel
from ...passes.kernel.emit_loops import VectorShape
from ...passes.kernel.schedule_code_maps import schedule_code_maps
from ...passes.kernel.schedule_depthwise import schedule_depthwise
from ...passes.kernel.schedule_dot import schedule_dot
from ...passes.kernel.schedule_pools import schedule_pools
from ...passes.kernel.schedule_rows import schedule_rows
from ...passes.kernel.schedule_serial_contraction import schedule_serial_contraction

SCALAR = VectorShape(0, threads=False)
"""The C compiler makes vectors itself, if there are any."""

IsConstant = Callable[[Value], bool]


def schedule(group: Group, bytes_: DotRows, float_rows: Sequence[Mma], is_constant: IsConstant) -> Sequence[ScheduledKernel]:
    """Schedule a group for a processor with rows of bytes and of floats: the first schedule that fits; loops take everything."""
    attempts: tuple[Callable[[], Sequence[ScheduledKernel] | str], ...] = (
        lambda: schedule_dot(group, bytes_, is_constant),
        lambda: schedule_depthwise(group, bytes_, is_constant),
        lambda: schedule_pools(group, bytes_, is_constant),
        lambda: schedule_code_maps(group, bytes_, is_constant),
        lambda: schedule_serial_contraction(group, float_rows, is_constant),
    )
    for attempt in attempts:
        found = attempt()
        if not isinstance(found, str):
            return found
    return (schedule_rows(group, SCALAR, is_constant),)
