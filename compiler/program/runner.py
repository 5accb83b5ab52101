"""Call a compiled model from Python: check inputs, bind symbols, find memory, hand out outputs.

The same for every backend that runs in this process; a `Session` is the bare function. A runner may be
used from several threads at once: each run has an arena of its own, kept for the next one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from ..diagnostics import CompileError
from ..dtypes import DType
from .interface import Interface, Port, evaluate_dim

ALIGN = 64
STATUS_MEANINGS = {255: "out of memory"}


class Entry(Protocol):
    """The compiled function: addresses of the pointer tables, of the symbols and of the arena; gives a status."""

    def __call__(self, inputs: int, outputs: int, symbols: int, arena: int) -> int: ...


class Runner:
    """A callable model."""

    def __init__(self, interface: Interface, entry: Entry) -> None:
        self.interface = interface
        self.entry = entry
        self._arenas: list[np.ndarray] = []
        self._checks = [_InputCheck(port) for port in interface.inputs]

    def run(self, inputs: Mapping[str, object]) -> dict[str, np.ndarray]:
        """Run on arrays by name; returns the outputs by name.

        Raises:
            CompileError: E0401 for inputs that do not fit, E0402 if a check fails while running.
        """
        arrays = self._arrays(inputs)
        environment = self._bind(arrays)
        face = self.interface
        count = len(face.symbols)
        symbols = np.empty(max(1, count + len(face.locals)), np.int64)
        symbols[:count] = [environment[s.symbol.name] for s in face.symbols]
        outputs = [
            None if k in face.heap_outputs else np.empty(self._shape(port, environment), port.dtype.numpy)
            for k, port in enumerate(face.outputs)
        ]
        table_in = (ctypes.c_void_p * max(1, len(arrays)))(*(a.ctypes.data for a in arrays))
        table_out = (ctypes.c_void_p * max(1, len(outputs)))(*(None if o is None else o.ctypes.data for o in outputs))
        arena = self._arena(evaluate_dim(face.arena_bytes, environment))
        status = self.entry(ctypes.addressof(table_in), ctypes.addressof(table_out), symbols.ctypes.data, arena.ctypes.data)
        self._arenas.append(arena)
        if status:
            meaning = STATUS_MEANINGS.get(status) or face.messages.get(status)
            raise CompileError("E0402", meaning or f"the model stopped with status {status}")
        environment |= {name: int(value) for name, value in zip(face.locals, symbols[count:], strict=False)}
        return {
            port.name: _take(table_out[k], self._shape(port, environment), port.dtype) if array is None else array
            for k, (port, array) in enumerate(zip(face.outputs, outputs, strict=True))
        }

    def _shape(self, port: Port, environment: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(max(0, evaluate_dim(d, environment)) for d in port.shape)

    def _arrays(self, inputs: Mapping[str, object]) -> list[np.ndarray]:
        unknown = [name for name in inputs if all(name != port.name for port in self.interface.inputs)]
        missing = [port.name for port in self.interface.inputs if port.name not in inputs]
        if unknown or missing:
            wrong = f"input '{unknown[0]}' is unknown" if unknown else f"input '{missing[0]}' is missing"
            raise CompileError("E0401", wrong, hint=f"inputs are: {', '.join(p.name for p in self.interface.inputs) or 'none'}")
        return [check(inputs[check.port.name]) for check in self._checks]

    def _bind(self, arrays: Sequence[np.ndarray]) -> dict[str, int]:
        """Values of the symbols; all extents must agree with them."""
        environment = {s.symbol.name: arrays[s.input].shape[s.axis] for s in self.interface.symbols}
        for port, array in zip(self.interface.inputs, arrays, strict=True):
            for axis, (wanted, given) in enumerate(zip(port.shape, array.shape, strict=True)):
                if not isinstance(wanted, int) and evaluate_dim(wanted, environment) != given:
                    raise CompileError(
                        "E0401", f"input '{port.name}' has extent {given} on axis {axis}, other inputs make it {evaluate_dim(wanted, environment)}"
                    )
        return environment

    def _arena(self, size: int) -> np.ndarray:
        """Working memory: one that was used before if it is large enough."""
        try:
            arena = self._arenas.pop()
            if arena.nbytes >= size:
                return arena
        except IndexError:
            pass
        raw = np.empty(size + ALIGN, np.uint8)
        start = -raw.ctypes.data % ALIGN
        return raw[start : start + max(size, 1)]


class _InputCheck:
    """Turns what a caller gives for one input into an array that the code can read."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self.dtype = port.dtype.numpy
        self.shape = port.shape

    def __call__(self, given: object) -> np.ndarray:
        array = as_array(given, self.port.name)
        if array.dtype != self.dtype:
            raise CompileError("E0401", f"input '{self.port.name}' has type {array.dtype}, the model wants {self.dtype}")
        if len(array.shape) != len(self.shape):
            raise CompileError("E0401", f"input '{self.port.name}' has rank {array.ndim}, the model wants {len(self.shape)}")
        for axis, (wanted, found) in enumerate(zip(self.shape, array.shape, strict=True)):
            if isinstance(wanted, int) and wanted != found:
                raise CompileError("E0401", f"input '{self.port.name}' has extent {found} on axis {axis}, the model wants {wanted}")
        if not (array.flags.c_contiguous and array.flags.aligned):
            array = np.array(array, order="C")
        return array


def as_array(given: object, name: str) -> np.ndarray:
    """An array of anything that has the array interface or speaks DLPack; without a copy where that is possible."""
    if isinstance(given, np.ndarray):
        return given
    if hasattr(given, "__dlpack__") and not hasattr(given, "__array_interface__"):
        return np.from_dlpack(given)  # type: ignore[arg-type]
    try:
        return np.asarray(given)
    except Exception as error:
        raise CompileError("E0401", f"input '{name}' is not an array: {error}") from None


_LIBC = ctypes.CDLL(None)
_LIBC.free.argtypes = [ctypes.c_void_p]


def _take(address: int | None, shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    """Copy an output that the model allocated, and free it."""
    result = np.empty(shape, dtype.numpy)
    if address:
        if result.nbytes:
            ctypes.memmove(result.ctypes.data, address, result.nbytes)
        _LIBC.free(address)
    return result
