"""The kernel passes of the `cuda` backend, in their order: from a schedule's kernel to one that prints."""

from __future__ import annotations

from ...compiler.diagnostics import CompileError
from ...compiler.kernel.nodes import Kernel
from ...compiler.program.foreign import calls_of
from ...passes.kernel.expand_math import expand_math
from ...passes.kernel.guard_loads import guard_loads
from ...passes.kernel.legalize_floats import legalize_floats
from ...passes.kernel.place_on_grid import place_on_grid

KERNEL_PASSES = ("place_on_grid", "guard_loads", "expand_math", "legalize_floats")


def lower(kernel: Kernel) -> Kernel:
    """Return the kernel in the form that `print_kernel_cuda` takes.

    Raises:
        CompileError: E0302 for a call of a user's function: a GPU calls none of the host.
    """
    for call in calls_of(kernel):
        hint = "define it by nests, or compile for another target"
        raise CompileError("E0302", f"the C function {call.name} of a custom operator does not run on a GPU", kernel.loc, hint)
    return legalize_floats(expand_math(guard_loads(place_on_grid(kernel))))
