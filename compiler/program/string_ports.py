"""Strings at the boundary of a compiled model: callers see arrays of strings, the code spans and texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..diagnostics import CompileError
from ..dtypes import DType
from ..strings import decode_strings, encode_strings
from .interface import Interface, Port

Texts = Mapping[str, str | bytes]
"""As in `Graph.texts`."""
Run = Callable[..., dict[str, np.ndarray]]
"""Inputs by name, perhaps a cache -> outputs by name."""


def callers_ports(ports: Sequence[Port], texts: Texts) -> tuple[Port, ...]:
    """The inputs or outputs of a model as a caller sees them: spans are strings, and texts are no ports."""
    hidden = {text for text in texts.values() if isinstance(text, str)}
    seen = (port for port in ports if port.name not in hidden)
    return tuple(replace(port, dtype=DType.STRING) if port.name in texts else port for port in seen)


def with_strings(interface: Interface, run: Run) -> Run:
    """The function that takes and gives strings, for one that knows tensors only."""
    texts = interface.texts
    if not texts:
        return run
    ranks = {port.name: len(port.shape) for port in interface.inputs if port.name in texts}

    def wrapped(inputs: Mapping[str, object], *cache: object) -> dict[str, np.ndarray]:
        checked = {name: _checked(x, name, ranks[name]) if name in ranks else x for name, x in inputs.items()}
        return decode_outputs(run(encode_inputs(checked, texts), *cache), texts)

    return wrapped


def encode_inputs(inputs: Mapping[str, object], texts: Texts) -> dict[str, object]:
    """Inputs with spans and texts instead of arrays of strings."""
    plain = dict(inputs)
    for name, given in inputs.items():
        text = texts.get(name)
        if isinstance(text, str):
            plain[name], plain[text] = encode_strings(np.asarray(given))
    return plain


def decode_outputs(outputs: Mapping[str, np.ndarray], texts: Texts) -> dict[str, np.ndarray]:
    """Outputs with arrays of strings instead of spans and texts."""
    hidden = {text for text in texts.values() if isinstance(text, str)}
    found = {name: array for name, array in outputs.items() if name not in hidden}
    for name in found.keys() & texts.keys():
        text = texts[name]
        found[name] = decode_strings(found[name], outputs[text].tobytes() if isinstance(text, str) else text)
    return found


def _checked(given: object, name: str, rank: int) -> np.ndarray:
    """What a caller gives for an input of strings, as an array; E0401 if it does not fit."""
    array = np.asarray(given)
    if array.dtype.kind not in "OUST":
        raise CompileError("E0401", f"input '{name}' has type {array.dtype}, the model wants strings")
    if array.ndim != rank:
        raise CompileError("E0401", f"input '{name}' has rank {array.ndim}, the model wants {rank}")
    return array
