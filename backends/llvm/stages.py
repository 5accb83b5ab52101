"""What `onnxc compile --emit` shows of the `llvm` backend: the modules as text, assembly or objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...compiler.program.nodes import Program
from .emit import modules
from .features import CpuFeatures
from .jit import assembly, compile_object


def stages(features: CpuFeatures) -> Mapping[str, Callable[[Program], Mapping[str, bytes]]]:
    """The stages by name; each makes files by name."""
    return {
        "llvm": lambda program: _files(program, features, "ll", lambda text: text.encode()),
        "asm": lambda program: _files(program, features, "s", lambda text: assembly(text, features).encode()),
        "object": lambda program: _files(program, features, "o", lambda text: compile_object(text, features)),
    }


def _files(program: Program, features: CpuFeatures, suffix: str, make: Callable[[str], bytes]) -> Mapping[str, bytes]:
    return {f"code{k}.{suffix}": make(text) for k, text in enumerate(modules(program, features))}
