"""The schedules of the `llvm` backend: the first one that takes a group makes its kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...compiler.graph.nodes import Value
from ...compiler.program.stages import Group, ScheduledKernel
from ...passes.kernel.emit_loops import VectorShape
from ...passes.kernel.schedule_attention import schedule_attention
from ...passes.kernel.schedule_codes import CodeTarget, schedule_codes
from ...passes.kernel.schedule_contraction import ContractionTarget, schedule_contraction
from ...passes.kernel.schedule_depthwise_tiles import schedule_depthwise_tiles
from ...passes.kernel.schedule_dot_tiles import DotTarget, schedule_dot_tiles
from ...passes.kernel.schedule_rows import schedule_rows
from ...passes.kernel.schedule_winograd_floats import schedule_winograd_floats
from ...passes.kernel.schedule_winograd_integers import schedule_winograd_integers
from .byte_rows import dot_steps, lane_steps
from .code_rows import code_steps
from .features import CpuFeatures
from .mma import rows


@dataclass(frozen=True, slots=True)
class Machine:
    """What the schedules know of a CPU."""

    contractions: ContractionTarget
    dots: DotTarget
    """For sums of products of bytes."""
    codes: CodeTarget
    """For weights of few bits."""

    @classmethod
    def of(cls, features: CpuFeatures) -> Machine:
        """What they know of a CPU with some features."""
        return cls(
            ContractionTarget(rows(features), VectorShape(features.vector_bits), features.l2_bytes, features.has_winograd),
            DotTarget(dot_steps(features), lane_steps(features), features.vector_bits, features.l2_bytes),
            CodeTarget(rows(features)[0], code_steps(features)),
        )


def schedule(group: Group, machine: Machine, is_constant: Callable[[Value], bool]) -> Sequence[ScheduledKernel]:
    """The kernels of a group: tiles if it is a contraction, of bytes or of anything else, and rows otherwise."""
    dots, floats = machine.dots, machine.contractions
    attempts: tuple[Callable[[], Sequence[ScheduledKernel] | str], ...] = (
        lambda: schedule_winograd_integers(group, dots, is_constant),
        lambda: schedule_codes(group, machine.codes, is_constant),
        lambda: schedule_dot_tiles(group, dots, is_constant),
        lambda: schedule_depthwise_tiles(group, dots.lanes, dots.vector_bits, is_constant),
        lambda: schedule_attention(group, floats, is_constant),
        lambda: schedule_winograd_floats(group, floats, is_constant) if floats.winograd else "switched off",
        lambda: schedule_contraction(group, floats, is_constant),
    )
    for attempt in attempts:
        found = attempt()
        if not isinstance(found, str):
            return found
    return (schedule_rows(group, floats.vector, is_constant),)
