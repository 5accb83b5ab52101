"""What `onnxc compile --emit` shows of the `llvm` backend: the modules as text, assembly or objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...compiler.program.nodes import Program
from .effort import FULL, code_options
from .emit import modules, shared_module
from .features import CpuFeatures
from .jit import CodeOptions, assembly, compile_object


def stages(features: CpuFeatures) -> Mapping[str, Callable[[Program], Mapping[str, bytes]]]:
    """The stages by name; each makes files by name."""
    return {
        "llvm": lambda program: _files(program, features, "ll", lambda text, _: text.encode()),
        "asm": lambda program: _files(program, features, "s", lambda text, options: assembly(text, features, options).encode()),
        "object": lambda program: _files(program, features, "o", lambda text, options: compile_object(text, features, options)),
    }


def _files(program: Program, features: CpuFeatures, suffix: str, make: Callable[[str, CodeOptions], bytes]) -> Mapping[str, bytes]:
    options = code_options(program, features)
    texts = [(shared_module(features), FULL), *((text, options) for text in modules(program, features))]
    return {f"code{k}.{suffix}": make(*module) for k, module in enumerate(texts)}
