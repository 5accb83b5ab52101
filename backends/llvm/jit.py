"""LLVM IR text to machine code: compile modules in parallel, and load objects into this process.

No C compiler and no linker takes part. Objects are plain relocatable files, so the same bytes go to the
disk cache, into the process, or into a library (`package.py`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import llvmlite.binding as llvm
from llvmlite.binding import ffi

from ...compiler.diagnostics import CompileError
from .features import CpuFeatures


@dataclass(frozen=True, slots=True)
class CodeOptions:
    """How LLVM treats the text."""

    opt_level: int = 2
    """LLVM's optimization level, 0 to 3; `effort.py` chooses it."""
    threads: int = 0
    """Modules compiled at once; 0 for one a core."""


def compile_objects(
    modules: Iterable[str], features: CpuFeatures, options: CodeOptions = CodeOptions(), *, shared: Sequence[str] = ()
) -> list[bytes]:
    """Compile module texts to objects, several at once, each in an LLVM context of its own.

    Args:
        modules: the texts. They may come from a generator that prints them: LLVM works on the first while the others are printed.
        features: the CPU.
        options: how LLVM treats them.
        shared: texts that all programs have: their objects come first, are remembered, and do not depend on the options.
    """
    _initialize(features)
    workers = options.threads or os.cpu_count() or 1
    if workers <= 1:
        return [*(_shared_object(text, features) for text in shared), *(compile_object(text, features, options) for text in modules)]
    with ThreadPoolExecutor(workers) as pool:
        first = pool.map(lambda text: _shared_object(text, features), shared)
        return [*first, *pool.map(lambda text: compile_object(text, features, options), modules)]


def compile_object(text: str, features: CpuFeatures, options: CodeOptions = CodeOptions()) -> bytes:
    """Compile one module to an object."""
    machine, module = _optimized(text, features, options)
    return bytes(machine.emit_object(module))


@functools.lru_cache(8)
def _shared_object(text: str, features: CpuFeatures) -> bytes:
    return compile_object(text, features)


def assembly(text: str, features: CpuFeatures, options: CodeOptions = CodeOptions()) -> str:
    """Compile one module to assembly, for people to read."""
    machine, module = _optimized(text, features, options)
    return str(machine.emit_assembly(module))


def _optimized(text: str, features: CpuFeatures, options: CodeOptions) -> tuple[llvm.TargetMachine, llvm.ModuleRef]:
    _initialize(features)
    machine = _machine(features, options)
    module = llvm.parse_assembly(text, context=llvm.create_context())
    module.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=options.opt_level)
    # Kernels come with their vectors and unrolled tiles; LLVM's own would only spend time and registers.
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = tuning.loop_interleaving = False
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return machine, module


def _machine(features: CpuFeatures, options: CodeOptions) -> llvm.TargetMachine:
    target = llvm.Target.from_triple(features.triple)
    return target.create_target_machine(
        cpu=features.machine_cpu, features=features.feature_string, opt=options.opt_level, reloc="pic", codemodel="default"
    )


# The calls that take time. LLVM needs no lock between contexts, but llvmlite holds one around every call
# (`llvmlite/binding/ffi.py`, `_lib_fn_wrapper`), so that threads would wait for each other.
_LONG_CALLS = ("LLVMPY_ParseAssembly", "LLVMPY_VerifyModule", "LLVMPY_RunNewModulePassManager", "LLVMPY_TargetMachineEmitToMemory")


@functools.cache
def _lift_lock() -> None:
    """Let the long calls run at once; does nothing if llvmlite is built otherwise than we know it."""
    table = getattr(ffi.lib, "_fntab", None)
    if not isinstance(table, dict):
        return
    for name in _LONG_CALLS:
        call = getattr(getattr(ffi.lib, name, None), "_cfn", None)
        if call is not None:
            table[name] = call


def _initialize(features: CpuFeatures) -> None:
    _lift_lock()
    if features.is_host:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()


class Library:
    """Objects loaded into this process; functions live as long as the library."""

    def __init__(self, objects: Sequence[bytes], features: CpuFeatures) -> None:
        _initialize(features)
        self._jit = llvm.create_lljit_compiler(_machine(features, CodeOptions()), use_jit_link=True, suppress_errors=False)
        self._objects = objects
        self._resource: llvm.ResourceTracker | None = None
        self._serial = 0

    def load(self, symbols: Sequence[str]) -> dict[str, int]:
        """Link all objects and return the addresses of some functions."""
        builder = llvm.JITLibraryBuilder()
        for data in self._objects:
            builder.add_object_img(data)
        builder.add_current_process()
        for symbol in symbols:
            builder.export_symbol(symbol)
        self._serial += 1
        try:
            self._resource = builder.link(self._jit, f"onnxc{self._serial}")
        except RuntimeError as error:  # a custom operator's function that this process does not have
            hint = "load the library with the functions of custom operators: c_function(..., library=PATH)"
            raise CompileError("E0303", f"the code calls a function that this process does not have: {error}", hint=hint) from None
        return {symbol: int(self._resource[symbol]) for symbol in symbols}
