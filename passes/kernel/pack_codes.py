"""Rearrange constant codes of few bits at compile time: a word of neighbours in the depth for each column of a vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...compiler.dtypes import DType


@dataclass(frozen=True, slots=True)
class Columns:
    """How columns are packed: tiles of vectors of lanes; a tile is read front to back. Those beyond the columns are zeros."""

    count: int
    lanes: int
    together: int
    """Vectors of a tile."""

    @property
    def tiles(self) -> int:
        """Tiles that cover the columns."""
        return -(-self.count // (self.lanes * self.together))

    def packed(self, data: np.ndarray) -> np.ndarray:
        """`[columns, blocks, ...]` as `[tile, block, vector, ..., lane]`, flat."""
        padded = np.zeros((self.tiles * self.together * self.lanes, *data.shape[1:]), data.dtype)
        padded[: self.count] = data
        tiled = padded.reshape(self.tiles, self.together, self.lanes, *data.shape[1:])
        order = (0, 3, 1, *range(4, tiled.ndim), 2)
        return np.ascontiguousarray(tiled.transpose(order)).reshape(-1)


@dataclass(frozen=True, slots=True)
class CodePack:
    """Packs `[columns, blocks, bytes of a block]` as `[tile, block, vector, word of the block, lane]`; implements `Pack`.

    Each byte of a word has an 8-bit code, or one in its low bits and the one that stands four places later in its high bits:
    `and` and a shift take four codes at once out of each word.
    """

    columns: Columns
    parts: int
    """Blocks of the depth."""
    block: int
    """Codes of a block."""
    bits: int
    """4 or 8."""

    @property
    def per_word(self) -> int:
        """Codes of a word."""
        return 32 // self.bits

    @property
    def size(self) -> int:
        """Words of the packed array."""
        return self.columns.tiles * self.columns.together * self.columns.lanes * self.parts * self.block // self.per_word

    @property
    def numpy_dtype(self) -> np.dtype:
        """Type of a word."""
        return np.dtype("<u4")

    def apply(self, data: np.ndarray) -> np.ndarray:
        """Return the packed constant, flat."""
        codes = np.ascontiguousarray(data).reshape(self.columns.count, self.parts, -1)
        if self.bits == 4:
            quads = np.stack([codes & 15, codes >> 4], -1).reshape(*codes.shape[:2], -1, 2, 4)
            codes = (quads[:, :, :, 0] | quads[:, :, :, 1] << 4).reshape(*codes.shape[:2], -1)
        return self.columns.packed(np.ascontiguousarray(codes).view("<u4"))


@dataclass(frozen=True, slots=True)
class BlockPack:
    """Packs `[columns, blocks]` as `[tile, block, vector, lane]`; implements `Pack`."""

    columns: Columns
    parts: int
    dtype: DType

    @property
    def size(self) -> int:
        """Elements of the packed array."""
        return self.columns.tiles * self.columns.together * self.columns.lanes * self.parts

    @property
    def numpy_dtype(self) -> np.dtype:
        """Element type of the packed array, to numpy."""
        return self.dtype.numpy

    def apply(self, data: np.ndarray) -> np.ndarray:
        """Return the packed constant, flat."""
        return self.columns.packed(np.ascontiguousarray(data).reshape(self.columns.count, self.parts))
