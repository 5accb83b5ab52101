"""Call a compiled model from Python: check inputs, bind symbols, find memory, hand out outputs.

The same for every backend that runs in this process; a `Session` is the bare function. A runner may be
used from several threads at once: each run has an arena of its own, kept for the next one.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import numpy as np

from ..diagnostics import CompileError
from ..dtypes import DType
from ..kernel import build
from ..kernel.traverse import free_vars
from .interface import Interface, Port, evaluate_dim
from .kv_cache import KvCache
from .nodes import ROOM

ALIGN = 64
PLANS = 256
"""Shapes of inputs whose consequences are remembered."""
COPIED_BYTES = 1 << 15
"""Outputs that the model allocates are copied below this."""
STATUS_MEANINGS = {255: "out of memory"}


class Entry(Protocol):
    """The compiled function: addresses of the pointer tables, of the symbols and of the arena; gives a status."""

    def __call__(self, inputs: int, outputs: int, symbols: int, arena: int) -> int:
        """Run once."""
        ...


@dataclass(frozen=True, slots=True)
class _Plan:
    """What follows from the extents of the inputs; kept for the next run with the same ones."""

    symbols: Mapping[str, int]
    inputs: tuple[tuple[int, ...], ...]
    """Shapes that the inputs must have."""
    outputs: tuple[tuple[int, ...] | None, ...]
    """Shapes of the outputs; None for those that the model allocates."""
    arena_bytes: int


class _Frame:
    """Memory of one run: pointer tables, symbols and arena, kept for the next one."""

    def __init__(self, face: Interface) -> None:
        self.inputs = (ctypes.c_void_p * max(1, len(face.inputs)))()
        self.outputs = (ctypes.c_void_p * max(1, len(face.outputs)))()
        self.symbols = (ctypes.c_int64 * max(1, len(face.symbols) + len(face.locals)))()
        self.tables = (ctypes.addressof(self.inputs), ctypes.addressof(self.outputs), ctypes.addressof(self.symbols))
        self.arena_bytes = -1

    def reserve(self, size: int) -> None:
        """Have at least this much working memory."""
        if size > self.arena_bytes:
            self._raw = np.empty(size + ALIGN, np.uint8)
            self.arena_bytes = size
            self.arena = -(-self._raw.ctypes.data // ALIGN) * ALIGN


class Runner:
    """A callable model."""

    def __init__(self, interface: Interface, entry: Entry) -> None:
        self.interface = interface
        self.entry = entry
        self._cache_inputs = frozenset(cache.input for cache in interface.caches)
        self._cache_outputs = frozenset(cache.output for cache in interface.caches)
        self._names = tuple(port.name for port in interface.inputs)
        self._checks = tuple(_InputCheck(port, k in self._cache_inputs) for k, port in enumerate(interface.inputs))
        self._results = tuple(port.name for port in interface.outputs)
        self._dtypes = tuple(port.dtype.numpy for port in interface.outputs)
        self._sources = tuple((s.input, s.axis) for s in interface.symbols)
        self._late = sorted({*interface.heap_outputs, *interface.capacities})
        extents = [build.index(extent) for k in self._late for extent in interface.outputs[k].shape]
        self._late_symbols = tuple(symbol.name for symbol in free_vars(*extents))
        self._late_shapes: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = {}
        self._frames: list[_Frame] = []
        self._plans: dict[tuple[int, ...], _Plan] = {}

    def run(self, inputs: Mapping[str, object], cache: KvCache | None = None) -> dict[str, np.ndarray]:
        """Run on arrays by name; returns the outputs by name.

        Args:
            inputs: all of them, or all but those that `cache` holds.
            cache: keys and values of earlier runs, to which this one adds; its outputs are not returned.

        Raises:
            CompileError: E0401 for inputs that do not fit, E0402 if a check fails at run time.
        """
        if self._cache_inputs or cache is not None:
            return self._run_with_cache(inputs, cache)
        return self._run(self._arrays(inputs), None)[0]

    def _run_with_cache(self, inputs: Mapping[str, object], given: KvCache | None) -> dict[str, np.ndarray]:
        """A run that writes rows into a cache: the caller's, or a copy of the rows among the inputs."""
        face = self.interface
        if given is not None:
            if not given.belongs_to(face):
                raise CompileError("E0401", "the cache was made for another model", hint="use this model's `new_cache`")
            inputs = {**inputs, **{face.inputs[position].name: rows for position, rows in given.rows().items()}}
        arrays = self._arrays(inputs)
        symbols = {s.symbol.name: arrays[s.input].shape[s.axis] for s in face.symbols if s.axis != ROOM}
        cache = given or KvCache.holding(face, {position: arrays[position] for position in self._cache_inputs}, symbols)
        cache.check_room(symbols)
        outputs, known = self._run(arrays, cache)
        first = face.caches[0]
        cache.grow(evaluate_dim(face.outputs[first.output].shape[first.axis], known))
        if given is not None:
            return {name: array for k, (name, array) in enumerate(outputs.items()) if k not in self._cache_outputs}
        rows = {face.outputs[position].name: array for position, array in cache.outputs()}
        return {name: rows.get(name, array) for name, array in outputs.items()}

    def _run(self, arrays: list[np.ndarray], cache: KvCache | None) -> tuple[dict[str, np.ndarray], Mapping[str, int]]:
        """Run on the inputs in order; returns the outputs by name, and all symbols."""
        room = 0 if cache is None else cache.capacity
        extents = tuple([room if axis == ROOM else arrays[k].shape[axis] for k, axis in self._sources])
        plan = self._plans.get(extents) or self._make_plan(extents)
        for check, array, shape in zip(self._checks, arrays, plan.inputs, strict=True):
            if array.shape != shape:
                check.refuse_shape(array.shape, shape)
        outputs = [None if shape is None else np.empty(shape, dtype) for shape, dtype in zip(plan.outputs, self._dtypes, strict=True)]
        try:
            frame = self._frames.pop()
        except IndexError:
            frame = _Frame(self.interface)
        frame.reserve(plan.arena_bytes)
        for k, array in enumerate(arrays):
            frame.inputs[k] = _address(array)
        if cache is not None:
            for k, address in cache.addresses.items():
                frame.inputs[k] = address
        for k, output in enumerate(outputs):
            frame.outputs[k] = None if output is None else _address(output)
        frame.symbols[: len(extents)] = list(extents)
        status = self.entry(*frame.tables, frame.arena)
        if status:
            self._frames.append(frame)
            meaning = STATUS_MEANINGS.get(status) or self.interface.messages.get(status)
            raise CompileError("E0402", meaning or f"the model stopped with status {status}")
        symbols = self._all_symbols(plan, frame) if self._late or cache is not None else plan.symbols
        if self._late:
            for k, array in self._late_outputs(symbols, frame, outputs).items():
                outputs[k] = array
        self._frames.append(frame)
        return dict(zip(self._results, outputs, strict=True)), symbols  # type: ignore[arg-type]

    def _arrays(self, inputs: Mapping[str, object]) -> list[np.ndarray]:
        if len(inputs) == len(self._names):
            try:
                return [check(inputs[name]) for name, check in zip(self._names, self._checks, strict=True)]
            except KeyError:
                pass
        unknown = [name for name in inputs if name not in self._names]
        missing = [name for name in self._names if name not in inputs]
        wrong = f"input '{unknown[0]}' is unknown" if unknown else f"input '{missing[0]}' is missing"
        raise CompileError("E0401", wrong, hint=f"inputs are: {', '.join(self._names) or 'none'}")

    def _make_plan(self, extents: tuple[int, ...]) -> _Plan:
        face = self.interface
        symbols = {s.symbol.name: extent for s, extent in zip(face.symbols, extents, strict=True)}
        plan = _Plan(
            symbols,
            tuple(_shape(port, symbols) for port in face.inputs),
            tuple(self._room(k, port, symbols) for k, port in enumerate(face.outputs)),
            max(0, evaluate_dim(face.arena_bytes, symbols)),
        )
        if len(self._plans) >= PLANS:
            self._plans.clear()
        self._plans[extents] = plan
        return plan

    def _room(self, position: int, port: Port, symbols: Mapping[str, int]) -> tuple[int, ...] | None:
        """Shape of the array that an output is written to; None if the model allocates it, or extends an input in place."""
        if position in self.interface.heap_outputs or position in self._cache_outputs:
            return None
        capacity = self.interface.capacities.get(position)
        return _shape(port, symbols) if capacity is None else (capacity,)

    def _all_symbols(self, plan: _Plan, frame: _Frame) -> Mapping[str, int]:
        """The symbols of the inputs and those that the run determined."""
        face = self.interface
        found = frame.symbols[len(face.symbols) : len(face.symbols) + len(face.locals)]
        return {**plan.symbols, **dict(zip(face.locals, found, strict=True))}

    def _late_outputs(self, symbols: Mapping[str, int], frame: _Frame, outputs: Sequence[np.ndarray | None]) -> dict[int, np.ndarray]:
        """The outputs whose sizes were determined at run time."""
        values = tuple([symbols[name] for name in self._late_symbols])
        shapes = self._late_shapes.get(values)
        if shapes is None:
            if len(self._late_shapes) >= PLANS:
                self._late_shapes.clear()
            shapes = self._late_shapes[values] = tuple(_shape(self.interface.outputs[k], symbols) for k in self._late)
        late: dict[int, np.ndarray] = {}
        for k, shape in zip(self._late, shapes, strict=True):
            array, dtype = outputs[k], self.interface.outputs[k].dtype
            late[k] = _take(frame.outputs[k], shape, dtype) if array is None else array[: math.prod(shape)].reshape(shape)
        return late


def _shape(port: Port, symbols: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(max(0, evaluate_dim(d, symbols)) for d in port.shape)


def _address(array: np.ndarray) -> int:
    """Address of the first element."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]  # faster than `ctypes.data`
    except (TypeError, ValueError, BufferError):  # read-only, empty, or of a type that buffers do not know
        return array.ctypes.data


class _InputCheck:
    """Turns what a caller gives for one input into an array that the code can read."""

    def __init__(self, port: Port, is_cache: bool) -> None:
        self.port, self.is_cache = port, is_cache
        self.dtype = port.dtype.numpy
        self.rank = len(port.shape)

    def __call__(self, given: object) -> np.ndarray:
        array = given if type(given) is np.ndarray else as_array(given, self.port.name)
        if array.dtype is not self.dtype and array.dtype != self.dtype:
            raise CompileError("E0401", f"input '{self.port.name}' has type {array.dtype}, the model wants {self.dtype}")
        if array.ndim != self.rank:
            raise CompileError("E0401", f"input '{self.port.name}' has rank {array.ndim}, the model wants {self.rank}")
        if self.is_cache:  # read row by row
            return array
        return array if array.flags.carray or _is_readable(array) else np.array(array, order="C")

    def refuse_shape(self, given: tuple[int, ...], wanted: tuple[int, ...]) -> NoReturn:
        """Say which extent does not fit."""
        axis = next(k for k, (a, b) in enumerate(zip(given, wanted, strict=True)) if a != b)
        whose = "the model wants" if isinstance(self.port.shape[axis], int) else "other inputs make it"
        raise CompileError("E0401", f"input '{self.port.name}' has extent {given[axis]} on axis {axis}, {whose} {wanted[axis]}")


def _is_readable(array: np.ndarray) -> bool:
    """True if the elements lie in row-major order; the array may be read-only."""
    return array.flags.c_contiguous and array.flags.aligned


def as_array(given: Any, name: str) -> np.ndarray:
    """An array of anything that has the array interface or speaks DLPack; without a copy where that is possible."""
    if isinstance(given, np.ndarray):
        return given
    try:
        if hasattr(given, "__dlpack__") and not hasattr(given, "__array_interface__"):
            return np.from_dlpack(given)
        return np.asarray(given)
    except Exception as error:  # noqa: BLE001  (whatever a foreign object raises)
        raise CompileError("E0401", f"input '{name}' is not an array: {error}") from None


_LIBC = ctypes.CDLL(None)
_LIBC.free.argtypes = [ctypes.c_void_p]


def _take(address: int | None, shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    """Take over an output that the model allocated; a small one is copied, which is faster than an owner."""
    size = math.prod(shape) * dtype.numpy.itemsize
    if address and size >= COPIED_BYTES:
        block = (ctypes.c_char * size).from_address(address)
        weakref.finalize(block, _LIBC.free, address).atexit = False
        return np.ndarray(shape, dtype.numpy, memoryview(block))
    result = np.empty(shape, dtype.numpy)
    if address:
        ctypes.memmove(result.ctypes.data, address, size)
        _LIBC.free(address)
    return result
