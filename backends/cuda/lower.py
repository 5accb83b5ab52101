"""The kernel passes of the `cuda` backend, in their order: from a schedule's kernel to one that prints."""

from __future__ import annotations

from ...compiler.kernel.nodes import Kernel
from ...passes.kernel.expand_math import expand_math
from ...passes.kernel.guard_loads import guard_loads
from ...passes.kernel.legalize_floats import legalize_floats
from ...passes.kernel.place_on_grid import place_on_grid

KERNEL_PASSES = ("place_on_grid", "guard_loads", "expand_math", "legalize_floats")


def lower(kernel: Kernel) -> Kernel:
    """Return the kernel in the form that `print_kernel_cuda` takes."""
    return legalize_floats(expand_math(guard_loads(place_on_grid(kernel))))
