"""Rearrange constant codes of few bits when compiling: a word of neighbours in the depth for each column of a vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...compiler.dtypes import DType
from .pack_constant import Limit, StridedPack


@dataclass(frozen=True, slots=True)
class CodePack:
    """Packs `[columns, bytes of the depth]` as `[columns / lanes, depth / codes of a word, lanes]` words; implements `Pack`.

    Each byte of a word has an 8-bit code, or one in its low bits and the one that stands four places later in its high bits:
    `and` and a shift take four codes at once out of each word.
    """

    columns: int
    depth: int
    bits: int
    """4 or 8."""
    lanes: int

    @property
    def per_word(self) -> int:
        """Codes of a word."""
        return 32 // self.bits

    @property
    def vectors(self) -> int:
        """Vectors that cover the columns; the last one is filled with zeros."""
        return -(-self.columns // self.lanes)

    @property
    def size(self) -> int:
        """Words of the packed array."""
        return self.vectors * self.lanes * self.depth // self.per_word

    @property
    def numpy_dtype(self) -> np.dtype:
        """Type of a word."""
        return np.dtype("<u4")

    def apply(self, data: np.ndarray) -> np.ndarray:
        """Return the packed constant, flat."""
        rows = np.zeros((self.vectors * self.lanes, self.depth * self.bits // 8), np.uint8)
        rows[: self.columns] = np.ascontiguousarray(data).reshape(self.columns, -1)
        if self.bits == 4:
            quads = np.stack([rows & 15, rows >> 4], -1).reshape(len(rows), -1, 2, 4)
            rows = (quads[:, :, 0] | quads[:, :, 1] << 4).reshape(len(rows), -1)
        words = rows.view("<u4").reshape(self.vectors, self.lanes, -1)
        return np.ascontiguousarray(words.transpose(0, 2, 1)).reshape(-1)


def block_pack(columns: int, parts: int, lanes: int, dtype: DType) -> StridedPack:
    """Packs `[columns, blocks]` as `[columns / lanes, blocks, lanes]`."""
    dims = (-(-columns // lanes), parts, lanes)
    limits = (Limit(0, 2, lanes, columns),) if columns % lanes else ()
    return StridedPack(dims, (lanes * parts, 1, parts), 0, limits, dtype)
