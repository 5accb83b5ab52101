"""A self-test of a model: inputs and expected outputs as arrays, and a function that runs the one and compares with the other.

    int model_selftest(void *arena)

For a device on the bench, or an emulator: no file, no libc. Floats may differ from what is expected by
1e-4 + 1e-3 |expected|, integers of 8 and 16 bits by one step (they are codes as a rule, and references round products that
this target keeps exact), others not at all.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...compiler.diagnostics import CompileError
from ...compiler.dtypes import DType, Kind
from ...compiler.program.interface import Interface
from .names import model_prefix
from .package import VERSION, comment, render
from .print import C99
from .weights import definition

_CODES = frozenset({DType.INT8, DType.UINT8, DType.INT16, DType.UINT16})


def print_self_test(face: Interface, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    """The files of a self-test.

    Args:
        face: how the model is called.
        inputs: all of them by name.
        outputs: what is expected of them, by name.

    Raises:
        CompileError: E0202 for outputs that C cannot compare.
    """
    name = model_prefix(face.name)
    given = [_array(f"input_{k}", inputs[p.name], p.dtype) for k, p in enumerate(face.inputs)]
    expected = [_array(f"expected_{k}", outputs[p.name], p.dtype) for k, p in enumerate(face.outputs)]
    symbols = [f"INT64_C({inputs[face.inputs[s.input].name].shape[s.axis]})" for s in face.symbols]
    results = [
        {"type": C99.type(p.dtype), "size": max(1, outputs[p.name].size), "room": max(1, face.capacities.get(k, outputs[p.name].size)),
         "count": outputs[p.name].size, "kind": _kind(p.dtype), "name": comment(p.name)}
        for k, p in enumerate(face.outputs)
    ]  # fmt: skip
    arguments = [
        *(f"input_{k}" for k in range(len(given))),
        *(f"output_{k}" for k in range(len(results))),
        *symbols,
        *(["NULL"] if face.locals else []),
        "arena",
    ]
    variables = {"name": name, "macro": name.upper(), "version": VERSION, "arrays": [*given, *expected], "results": results,
                 "arguments": ", ".join(arguments), "kinds": [r["kind"] for r in results]}  # fmt: skip
    return {f"{name}_selftest.{end}": render(f"selftest.{end}.j2", variables).encode() for end in ("c", "h")}


def _array(name: str, array: np.ndarray, dtype: DType) -> str:
    return f"static {definition(name, np.asarray(array).astype(dtype.numpy), C99)}"


def _kind(dtype: DType) -> str:
    """How two elements of a type are compared."""
    if dtype.is_narrow_float:
        raise CompileError("E0202", f"a self-test cannot compare {dtype.label} outputs", hint="cast them to float32 in the model")
    if dtype.kind is Kind.BOOL or (dtype.is_int and dtype not in _CODES):
        return "exact"
    return "code" if dtype in _CODES else C99.type(dtype)
