"""Rearrange a constant factor at compile time, so that a kernel reads it front to back.

A packed factor has the dimensions [outer..., column block, reduction..., lane]. Each is a step of known size
through the constant; places beyond the extents (the padding of the last block) hold zeros.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...compiler.dtypes import DType


@dataclass(frozen=True, slots=True)
class Limit:
    """`coarse * block + fine < extent` for two dimensions of the packed array."""

    coarse: int
    """Position of the dimension that counts blocks."""
    fine: int
    """Position of the dimension inside a block."""
    block: int
    extent: int

    def boxes(self) -> tuple[dict[int, slice], ...]:
        """The parts of the two dimensions that are inside, as boxes."""
        whole, rest = divmod(self.extent, self.block)
        found = [{self.coarse: slice(0, whole)}] if whole else []
        if rest:
            found.append({self.coarse: slice(whole, whole + 1), self.fine: slice(0, rest)})
        return tuple(found)


@dataclass(frozen=True, slots=True)
class StridedPack:
    """Packs by walking a constant with fixed steps; implements `Pack`."""

    dims: tuple[int, ...]
    """Extents of the packed array."""
    steps: tuple[int, ...]
    """Elements of the constant between neighbours of each dimension."""
    offset: int
    """Element of the constant at the origin."""
    limits: tuple[Limit, ...]
    dtype: DType
    """Element type of the packed array."""

    @property
    def size(self) -> int:
        """Elements of the packed array."""
        return math.prod(self.dims)

    @property
    def numpy_dtype(self) -> np.dtype:
        """Element type of the packed array, to numpy."""
        return self.dtype.numpy

    def apply(self, data: np.ndarray) -> np.ndarray:
        """Return the packed constant, flat."""
        source = np.ascontiguousarray(data).reshape(-1)
        packed = np.zeros(self.dims, self.dtype.numpy)
        for ranges in self._regions():
            self._fill(packed, source, ranges)
        return packed.reshape(-1)

    def is_within(self, size: int) -> bool:
        """True if all that is read lies in a source of so many elements."""
        return all(start >= 0 and last < size for start, last in map(self._ends, self._regions()))

    def _regions(self) -> Iterator[list[slice]]:
        """The parts of the packed array that are filled from the source."""
        for boxes in itertools.product(*(limit.boxes() for limit in self.limits)):
            ranges = self._region(boxes)
            if all(r.stop > r.start for r in ranges):
                yield ranges

    def _region(self, boxes: tuple[dict[int, slice], ...]) -> list[slice]:
        ranges = [slice(0, extent) for extent in self.dims]
        for box in boxes:
            for position, part in box.items():
                now = ranges[position]
                ranges[position] = slice(max(now.start, part.start), min(now.stop, part.stop))
        return ranges

    def _ends(self, ranges: list[slice]) -> tuple[int, int]:
        """Where a part begins and ends in the source."""
        start = self.offset + sum(r.start * step for r, step in zip(ranges, self.steps, strict=True))
        return start, start + sum((r.stop - r.start - 1) * step for r, step in zip(ranges, self.steps, strict=True))

    def _fill(self, packed: np.ndarray, source: np.ndarray, ranges: list[slice]) -> None:
        start, last = self._ends(ranges)
        assert start >= 0 and last < source.size, "a packed constant is read beyond its end"
        strides = [step * source.itemsize for step in self.steps]
        extents = [r.stop - r.start for r in ranges]
        view = np.lib.stride_tricks.as_strided(source[start:], extents, strides, writeable=False)
        packed[tuple(ranges)] = view
