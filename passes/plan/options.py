"""What a target decides about its programs; the argument of `lower_graph`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Value
from ...compiler.kernel.nodes import Kernel
from ...compiler.pass_runner import Pass
from ...compiler.program.stages import Group, ScheduledKernel
from ..fusion.options import FusionOptions

Schedule = Callable[[Group, Callable[[Value], bool]], Sequence[ScheduledKernel]]
"""(group, is this value a constant) -> kernels in order."""


@dataclass(frozen=True, slots=True)
class LoweringOptions:
    """What a target decides about its programs."""

    schedule: Schedule
    kernel_passes: tuple[Pass[Kernel], ...]
    """What happens to each kernel, in order."""
    clear_halo: Callable[[Value], ScheduledKernel]
    """Makes the kernel that clears the halo of a value."""
    fusion: FusionOptions = field(default_factory=FusionOptions)
    heap: bool = True
    """Whether programs may allocate memory of sizes that are known only at run time."""
    align: int = 64
    """Bytes to which temporary tensors are aligned: those of a cache line, or of the widest load."""
    saves_memory: bool = False
    """Whether units run in the order that takes the least memory, and write over inputs that nothing reads again."""
    rows_may_cost: float = 0.0
    """The part of all operations that it may cost to run neighbouring groups row by row, where the arena falls; 0 for whole groups."""
    copies: Mapping[DType, str] = field(default_factory=lambda: MappingProxyType({}))
    """Functions that copy elements of a type, for kernels: (target, source, count)."""
