"""Transform constant weights of bytes at compile time for Winograd's algorithm, and group them for instructions that add products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...compiler.dtypes import DType
from .pack_rows import RowPack
from .winograd_integers import TAPS, winograd_integers


@dataclass(frozen=True, slots=True)
class IntegerWinogradPack:
    """Packs [channels, 3, 3, depth] as [channels / lanes, n * n, depth / k, lanes, k], with zeros beyond both; implements `Pack`."""

    rows: RowPack
    """Finds the weights of each channel in this order."""
    outputs: int
    """Outputs along a side of a tile."""
    lanes: int
    k: int
    dtype: DType
    """Element type of the packed array."""

    @property
    def places(self) -> int:
        """Products of one square."""
        return winograd_integers(self.outputs).products ** 2

    @property
    def depth(self) -> int:
        """Channels of the data, in whole groups."""
        channels = self.rows.width // TAPS**2
        return -(-channels // self.k) * self.k

    @property
    def blocks(self) -> int:
        """Vectors that cover the channels."""
        return -(-self.rows.rows // self.lanes)

    @property
    def size(self) -> int:
        """Elements of the packed array."""
        return self.blocks * self.lanes * self.places * self.depth

    @property
    def numpy_dtype(self) -> np.dtype:
        """Element type of the packed array, to numpy."""
        return self.dtype.numpy

    def apply(self, data: np.ndarray) -> np.ndarray:
        """Return the packed constant, flat."""
        channels = self.rows.rows
        taps = self.rows.apply(data).reshape(channels, TAPS, TAPS, -1).transpose(1, 2, 0, 3)
        weights = winograd_integers(self.outputs).transform_taps(taps)  # exact: the integers are far below 2 ** 53
        padded = np.zeros((self.blocks * self.lanes, self.places, self.depth), self.dtype.numpy)
        padded[:channels, :, : weights.shape[-1]] = weights.reshape(self.places, channels, -1).transpose(1, 0, 2)
        groups = padded.reshape(self.blocks, self.lanes, self.places, -1, self.k)
        return np.ascontiguousarray(groups.transpose(0, 2, 3, 1, 4)).reshape(-1)
