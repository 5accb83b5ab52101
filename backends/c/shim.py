"""A C function with one signature for all models, through which Python calls a model that was compiled from C.

    int onnxc_entry(void **inputs, void **outputs, int64_t *symbols, void *arena)

Not part of the artifact: it is printed from the interface when a model is loaded into this process.
"""

from __future__ import annotations

from ...compiler.program.interface import Interface
from .names import model_prefix
from .print import C99


def print_shim(face: Interface) -> str:
    """The text of the shim of one model."""
    name = model_prefix(face.name)
    inputs = [f"(const {C99.type(p.dtype)} *)inputs[{k}]" for k, p in enumerate(face.inputs)]
    outputs = [f"({C99.type(p.dtype)} *)outputs[{k}]" for k, p in enumerate(face.outputs)]
    symbols = [f"symbols[{k}]" for k in range(len(face.symbols))]
    sizes = [f"symbols + {len(face.symbols)}"] if face.locals else []
    arguments = ", ".join([*inputs, *outputs, *symbols, *sizes, "arena"])
    return (
        f'#include "{name}.h"\n\nint onnxc_entry(void **inputs, void **outputs, int64_t *symbols, void *arena);\n'
        f"int onnxc_entry(void **inputs, void **outputs, int64_t *symbols, void *arena) {{\n"
        f"    (void)inputs;\n    (void)outputs;\n    (void)symbols;\n    return {name}_run({arguments});\n}}\n"
    )
