"""Rearrange constant weights at compile time for instructions that add several products into each lane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...compiler.dtypes import DType
from .pack_rows import RowPack


@dataclass(frozen=True, slots=True)
class GroupPack:
    """Packs [channels, depth] as [channels / lanes, depth / k, lanes, k], with zeros beyond both; implements `Pack`."""

    rows: RowPack
    """Finds the weights of each channel in the order of the reduction; its width is a multiple of `k`."""
    lanes: int
    k: int
    dtype: DType
    """Element type of the packed array."""
    order: tuple[int, ...] = ()
    """The channel that each lane holds; empty if they are in order."""

    @property
    def blocks(self) -> int:
        """Vectors that cover the channels."""
        return -(-self.rows.rows // self.lanes)

    @property
    def size(self) -> int:
        """Elements of the packed array."""
        return self.blocks * self.lanes * self.rows.width

    @property
    def numpy_dtype(self) -> np.dtype:
        """Element type of the packed array, to numpy."""
        return self.dtype.numpy

    def apply(self, data: np.ndarray) -> np.ndarray:
        """Return the packed constant, flat."""
        rows = self.rows.apply(data).reshape(self.rows.rows, self.rows.width)
        padded = np.zeros((self.blocks * self.lanes, self.rows.width), self.dtype.numpy)
        padded[: self.rows.rows] = rows
        lanes = padded.reshape(self.blocks, self.lanes, -1, self.k)
        if self.order:
            lanes = lanes[:, list(self.order)]
        return np.ascontiguousarray(lanes.transpose(0, 2, 1, 3)).reshape(-1)
