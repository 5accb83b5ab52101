"""The kernel passes of the `c` backend, in their order: from a schedule's kernel to one that prints.

Tiles are unrolled, loads get masks, functions and narrow floats become arithmetic that C has; what is slow and the same in all
iterations of a loop is computed before it.
"""

from __future__ import annotations

from ...compiler.kernel.nodes import Kernel
from ...compiler.pass_runner import Pass, run_passes
from ...passes.kernel.expand_math import expand_math
from ...passes.kernel.guard_loads import guard_loads
from ...passes.kernel.hoist_invariants import hoist_invariants
from ...passes.kernel.legalize_floats import legalize_floats
from ...passes.kernel.unroll import unroll

KERNEL_PASSES: tuple[Pass[Kernel], ...] = (
    Pass(unroll),
    Pass(guard_loads),
    Pass(expand_math),
    Pass(legalize_floats),
    Pass(hoist_invariants),
)


def lower(kernel: Kernel) -> Kernel:
    """Return the kernel in the form that `print_kernel_c` takes."""
    return run_passes(kernel, KERNEL_PASSES)
