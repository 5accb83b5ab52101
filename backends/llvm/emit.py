"""Programs to artifacts: print modules as LLVM IR and compile them to objects."""

from __future__ import annotations

from collections.abc import Iterator

from ...compiler.program.foreign import prototypes
from ...compiler.program.interface import interface_of
from ...compiler.program.nodes import Program
from ...compiler.program.weights import pack_weights
from .artifact import LlvmArtifact
from .effort import code_options
from .features import CpuFeatures
from .jit import compile_objects
from .names import model_name
from .pool import pool_module
from .print import print_module
from .print_program import print_program

KERNELS_PER_MODULE = 4
"""Kernels that LLVM compiles together, alone if there are more of them: a module takes some 5 ms, whatever it holds."""


def emit(program: Program, features: CpuFeatures) -> LlvmArtifact:
    """Print and compile a program; modules are compiled in parallel, while others are printed."""
    objects = compile_objects(modules(program, features), features, code_options(program, features), shared=[shared_module(features)])
    return LlvmArtifact(interface_of(program), objects, pack_weights(program.constants), features)


def shared_module(features: CpuFeatures) -> str:
    """The text of the module that models share, also where several stand in one C program: the threads."""
    return pool_module(features, linkage="weak")


def modules(program: Program, features: CpuFeatures) -> Iterator[str]:
    """The texts of a program's own modules: kernels, then what calls them. Names are the model's own."""
    prefix = model_name(program.name)
    prototypes(program)  # all calls of a function of the user's take the same
    if len(program.kernels) <= KERNELS_PER_MODULE:
        yield print_program(program, features, prefix=prefix, kernels=program.kernels)
        return
    kernels = [(f"{prefix}.{name}", kernel) for name, kernel in program.kernels.items()]
    for k in range(0, len(kernels), KERNELS_PER_MODULE):
        yield print_module(kernels[k : k + KERNELS_PER_MODULE], features, visibility="hidden")
    yield print_program(program, features, prefix=prefix, kernels={})
