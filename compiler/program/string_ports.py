"""Strings at the boundary of a compiled model: callers see arrays of strings, the code spans and texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..diagnostics import CompileError
from ..dtypes import DType
from ..strings import decode_strings, encode_strings
from .interface import Interface, Port

Run = Callable[..., dict[str, np.ndarray]]
"""Inputs by name, perhaps a cache -> outputs by name."""


def callers_ports(ports: Sequence[Port], texts: Mapping[str, str | bytes]) -> tuple[Port, ...]:
    """The inputs or outputs of a model as a caller sees them: spans are strings, and texts are no ports."""
    hidden = {text for text in texts.values() if isinstance(text, str)}
    seen = (port for port in ports if port.name not in hidden)
    return tuple(replace(port, dtype=DType.STRING) if port.name in texts else port for port in seen)


def with_strings(interface: Interface, run: Run) -> Run:
    """The function that takes and gives strings, for one that knows tensors only."""
    if not interface.texts:
        return run
    texts = interface.texts
    given = [port for port in callers_ports(interface.inputs, texts) if port.name in texts]
    made = [port.name for port in interface.outputs if port.name in texts]

    def wrapped(inputs: Mapping[str, object], *cache: object) -> dict[str, np.ndarray]:
        plain = dict(inputs)
        for port in given:
            if port.name in inputs:
                text = texts[port.name]
                assert isinstance(text, str)
                plain[port.name], plain[text] = encode_strings(_checked(inputs[port.name], port))
        outputs = run(plain, *cache)
        for name in made:
            text = texts[name]
            outputs[name] = decode_strings(outputs[name], outputs.pop(text).tobytes() if isinstance(text, str) else text)
        return outputs

    return wrapped


def _checked(given: object, port: Port) -> np.ndarray:
    """What a caller gives for an input of strings, as an array; E0401 if it does not fit."""
    array = np.asarray(given)
    if array.dtype.kind not in "OUST":
        raise CompileError("E0401", f"input '{port.name}' has type {array.dtype}, the model wants strings")
    if array.ndim != len(port.shape):
        raise CompileError("E0401", f"input '{port.name}' has rank {array.ndim}, the model wants {len(port.shape)}")
    return array

