"""onnxc compiles an ONNX model into code for one target.

This is the face of the package: `compile`, `load`, `quantize`, `CompileError` and `onnx_backend`, each imported when it is first used,
so that `import onnxc` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

    from .compiler.diagnostics import CompileError as CompileError
    from .compiler.driver import CompiledModel as CompiledModel
    from .compiler.driver import compile as compile
    from .compiler.driver import load as load
    from .compiler.quantize.quantize import quantize as quantize

    onnx_backend: ModuleType

__version__ = "0.1.0"
__all__ = ["CompileError", "CompiledModel", "compile", "load", "onnx_backend", "quantize"]

_PLACES = {"CompileError": "diagnostics", "CompiledModel": "driver", "compile": "driver", "load": "driver", "quantize": "quantize.quantize"}


def __getattr__(name: str) -> object:
    if name == "onnx_backend":
        return import_module(".compiler.onnx_backend", __name__)
    if name in _PLACES:
        return getattr(import_module(f".compiler.{_PLACES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
