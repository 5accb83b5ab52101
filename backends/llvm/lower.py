"""The kernel passes of the `llvm` backend, in their order: from a schedule's kernel to one that prints.

Selects lose their lazy branches while conditions are still scalars, vector loops become vectors, then
functions and types that the target lacks are expanded.
"""

from __future__ import annotations

from ...compiler.dtypes import DType
from ...compiler.kernel.nodes import Kernel
from ...passes.kernel.expand_math import expand_math
from ...passes.kernel.guard_loads import guard_loads
from ...passes.kernel.legalize_floats import legalize_floats
from ...passes.kernel.vectorize import vectorize
from .features import CpuFeatures


def lower(kernel: Kernel, features: CpuFeatures) -> Kernel:
    """Return the kernel in the form that `print_kernel` takes."""
    native = frozenset({DType.FLOAT16}) if features.has_f16c else frozenset[DType]()
    return legalize_floats(expand_math(vectorize(guard_loads(kernel))), native)
