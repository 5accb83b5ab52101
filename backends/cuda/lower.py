"""The kernel passes of the `cuda` backend, in their order: from a schedule's kernel to one that prints."""

from __future__ import annotations

from ...compiler.diagnostics import CompileError
from ...compiler.kernel.nodes import Kernel
from ...compiler.pass_runner import Pass
from ...compiler.program.foreign import calls_of
from ...passes.kernel.expand_math import expand_math
from ...passes.kernel.guard_loads import guard_loads
from ...passes.kernel.legalize_floats import legalize_floats
from ...passes.kernel.place_on_grid import place_on_grid


def refuse_host_calls(kernel: Kernel) -> Kernel:
    """Return the kernel as it is if it calls no function of the host, which a GPU cannot do.

    Raises:
        CompileError: E0302 for a call of a user's function.
    """
    for call in calls_of(kernel):
        hint = "define it by nests, or compile for another target"
        raise CompileError("E0302", f"the C function {call.name} of a custom operator does not run on a GPU", kernel.loc, hint)
    return kernel


KERNEL_PASSES: tuple[Pass[Kernel], ...] = (
    Pass(refuse_host_calls),
    Pass(place_on_grid),
    Pass(guard_loads),
    Pass(expand_math),
    Pass(legalize_floats),
)
