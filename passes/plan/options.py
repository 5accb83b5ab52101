"""What a target decides about its programs; the argument of `lower_graph`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Value
from ...compiler.kernel.nodes import Kernel
from ...compiler.program.stages import Group, ScheduledKernel
from ..fusion.fixed_point import Numerics

Schedule = Callable[[Group, Callable[[Value], bool]], Sequence[ScheduledKernel]]
"""(group, is this value a constant) -> kernels in order."""


@dataclass(frozen=True, slots=True)
class LoweringOptions:
    """What a target decides about its programs."""

    schedule: Schedule
    kernel_passes: tuple[Callable[[Kernel], Kernel], ...]
    """What happens to each kernel, in order."""
    clear_halo: Callable[[Value], ScheduledKernel]
    """Makes the kernel that clears the halo of a value."""
    joins: Callable[[Group], bool] | None = None
    """Whether there is a schedule for the group of a product, a softmax over its rows and a product with these; None if for none."""
    numerics: Numerics = Numerics.ONNX
    """How int32 sums become codes."""
    has_fma: bool = False
    """Whether a multiply-add rounds once, and floats are cheap: codes of sums are computed with it."""
    heap: bool = True
    """Whether programs may allocate memory of sizes that are known only while running."""
    align: int = 64
    """Bytes to which temporary tensors are aligned: those of a cache line, or of the widest load."""
    saves_memory: bool = False
    """Whether units run in the order that takes the least memory, and write over inputs that nobody reads again."""
    tabulates: bool = False
    """Whether looking a code up in a table costs less than the few float operations that requantize it."""
    rows_may_cost: float = 0.0
    """The part of all operations that it may cost to run neighbouring groups row by row, where the arena falls; 0 for whole groups."""
    copies: Mapping[DType, str] = field(default_factory=lambda: MappingProxyType({}))
    """Functions that copy elements of a type, for kernels: (target, source, count)."""
