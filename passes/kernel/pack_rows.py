"""Rearrange constant weights at compile time: one row for each channel, in the order of the data, padded with zeros; and sum them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...compiler.dtypes import DType


@dataclass(frozen=True, slots=True)
class RowPack:
    """Rows of a constant that fixed steps walk through; implements `Pack`."""

    rows: int
    row_step: int
    """Elements of the constant between neighbouring rows."""
    dims: tuple[int, ...]
    """Extents of the loops inside a row."""
    steps: tuple[int, ...]
    """Elements of the constant between neighbours of each of them."""
    offset: int
    """Element of the constant at the origin."""
    width: int
    """Elements of a packed row; those beyond the loops are 0."""
    dtype: DType

    @property
    def size(self) -> int:
        """Elements of the packed array."""
        return self.rows * self.width

    @property
    def numpy_dtype(self) -> np.dtype:
        """Element type of the packed array, to numpy."""
        return self.dtype.numpy

    def apply(self, data: np.ndarray) -> np.ndarray:
        """Return the packed constant, flat."""
        source = np.ascontiguousarray(data).reshape(-1)
        at = self.offset + np.arange(self.rows).reshape(-1, *(1 for _ in self.dims)) * self.row_step
        for k, (extent, step) in enumerate(zip(self.dims, self.steps, strict=True)):
            at = at + np.arange(extent).reshape(-1, *(1 for _ in self.dims[k + 1 :])) * step
        depth = math.prod(self.dims)
        packed = np.zeros((self.rows, self.width), self.dtype.numpy)
        packed[:, :depth] = source[at.reshape(self.rows, depth)]
        return packed.reshape(-1)


@dataclass(frozen=True, slots=True)
class ChannelSums:
    """The sum of the weights of each channel; implements `Pack`."""

    weights: RowPack
    channels: int
    """Number of channels: the rows, or (depthwise) the last dimension inside the only row."""

    @property
    def size(self) -> int:
        """One sum for each channel."""
        return self.channels

    @property
    def numpy_dtype(self) -> np.dtype:
        """The type of the sums that they correct."""
        return np.dtype(np.int32)

    def apply(self, data: np.ndarray) -> np.ndarray:
        """Return the sums."""
        packed = self.weights.apply(data).astype(np.int32)
        by_rows = self.weights.rows == self.channels
        table = packed.reshape(self.channels, -1) if by_rows else packed.reshape(-1, self.channels).T
        return np.asarray(table.sum(axis=1, dtype=np.int32))
