"""Memory for the keys and values of a decoder between runs, which the model extends in place.

Made by `CompiledModel.new_cache` for a model that was compiled with `kv_cache`. Each run writes the rows of its own tokens
behind those of earlier runs; nothing else is written and nothing is copied. Setting `length` back forgets the last rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ..diagnostics import CompileError
from ..kernel.nodes import Var
from .interface import CachePorts, Interface, evaluate_dim


class KvCache:
    """The rows of all caches of one sequence (or batch of them)."""

    def __init__(self, interface: Interface, capacity: int, length: int, buffers: Mapping[int, np.ndarray]) -> None:
        self._interface = interface
        self.capacity = capacity
        """Rows that there is room for."""
        self._length = length
        self.buffers = dict(buffers)
        """By the number of the input; extent `capacity` along the axis of the rows."""
        self.addresses = {position: buffer.ctypes.data for position, buffer in self.buffers.items()}

    @classmethod
    def empty(cls, interface: Interface, capacity: int, extents: Mapping[str, int]) -> KvCache:
        """Room for `capacity` rows and none of them there; zeros, as rows that a mask hides are read.

        Args:
            interface: of a model with caches.
            capacity: rows to reserve room for.
            extents: other symbolic extents of the caches, such as the batch, by name.
        """
        buffers = {}
        length = 0
        for cache in interface.caches:
            port = interface.inputs[cache.input]
            if isinstance(rows := port.shape[cache.axis], int):
                length = rows
                capacity = max(capacity, rows)
        for cache in interface.caches:
            port = interface.inputs[cache.input]
            shape = [capacity if k == cache.axis else _extent(d, extents, port.name) for k, d in enumerate(port.shape)]
            buffers[cache.input] = np.zeros(shape, port.dtype.numpy)
        return cls(interface, capacity, length, buffers)

    @classmethod
    def holding(cls, interface: Interface, arrays: Mapping[int, np.ndarray], symbols: Mapping[str, int]) -> KvCache:
        """A copy of rows that a caller has somewhere else, with room for those of the next run."""
        room = max(evaluate_dim(cache.room, symbols) for cache in interface.caches)
        buffers = {}
        for cache in interface.caches:
            array = arrays[cache.input]
            room = max(room, array.shape[cache.axis])
        for cache in interface.caches:
            array = arrays[cache.input]
            shape = [room if k == cache.axis else d for k, d in enumerate(array.shape)]
            buffers[cache.input] = np.zeros(shape, array.dtype)
            _rows(buffers[cache.input], cache, array.shape[cache.axis])[...] = array
        return cls(interface, room, arrays[interface.caches[0].input].shape[interface.caches[0].axis], buffers)

    @property
    def length(self) -> int:
        """Rows that are there."""
        return self._length

    @length.setter
    def length(self, rows: int) -> None:
        if not 0 <= rows <= self._length:
            raise ValueError(f"a cache of {self._length} rows cannot be cut to {rows}")
        self._length = rows

    def grow(self, rows: int) -> None:
        """Take note of the rows that there are after a run."""
        self._length = rows

    def rows(self) -> dict[int, np.ndarray]:
        """The rows that are there, as views, by the number of the input."""
        return {cache.input: _rows(self.buffers[cache.input], cache, self._length) for cache in self._interface.caches}

    def outputs(self) -> Iterable[tuple[int, np.ndarray]]:
        """The same by the number of the output."""
        views = self.rows()
        return ((cache.output, views[cache.input]) for cache in self._interface.caches)

    def belongs_to(self, interface: Interface) -> bool:
        """True if the cache was made for a model with this interface."""
        return self._interface.caches == interface.caches and self._interface.inputs == interface.inputs

    def check_room(self, symbols: Mapping[str, int]) -> None:
        """E0401 if the next run would need more rows than there is room for."""
        room = max(evaluate_dim(cache.room, symbols) for cache in self._interface.caches)
        if room > self.capacity:
            raise CompileError(
                "E0401", f"the cache has room for {self.capacity} rows, the run needs {room}", hint="make it larger, or cut `length`"
            )


def _rows(buffer: np.ndarray, cache: CachePorts, rows: int) -> np.ndarray:
    return buffer[(slice(None),) * cache.axis + (slice(0, rows),)]


def _extent(extent: object, extents: Mapping[str, int], name: str) -> int:
    if isinstance(extent, int):
        return extent
    if isinstance(extent, Var) and extent.name in extents:
        return extents[extent.name]
    wanted = extent.name if isinstance(extent, Var) else "?"
    raise CompileError("E0401", f"extent '{wanted}' of the cache '{name}' is not known", hint=f"new_cache(rows, {wanted}=1)")
