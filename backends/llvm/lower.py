"""The kernel passes of the `llvm` backend, in their order: from a schedule's kernel to one that prints.

Selects lose their lazy branches while conditions are still scalars, vector loops become vectors, then
functions and types that the target lacks are expanded.
"""

from __future__ import annotations

import functools

from ...compiler.dtypes import DType
from ...compiler.kernel.nodes import Kernel
from ...compiler.pass_runner import Pass, run_passes
from ...passes.kernel.expand_math import expand_math
from ...passes.kernel.guard_loads import guard_loads
from ...passes.kernel.legalize_floats import legalize_floats
from ...passes.kernel.vectorize import vectorize
from .features import CpuFeatures


def kernel_passes(features: CpuFeatures) -> tuple[Pass[Kernel], ...]:
    """The passes for a CPU."""
    native = frozenset({DType.FLOAT16}) if features.has_f16c else frozenset[DType]()
    return (
        Pass(guard_loads),
        Pass(vectorize),
        Pass(expand_math),
        Pass(functools.partial(legalize_floats, native=native)),
    )


def lower(kernel: Kernel, features: CpuFeatures) -> Kernel:
    """Return the kernel in the form that `print_kernel` takes."""
    return run_passes(kernel, kernel_passes(features))
