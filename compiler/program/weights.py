"""The constants of a program: arrays that are rearranged only when somebody writes them down.

Weights are the bulk of a model, so the compiler holds at most one copy of each beside the model's own:
`PackedConstant` remembers how to make its data, and `pack_weights` fills one block with all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

ALIGN = 64
"""Bytes to which each constant is aligned in a block of weights."""


class Pack(Protocol):
    """How a constant operand is rearranged at compile time; hashable, so that equal kernels are shared."""

    @property
    def size(self) -> int:
        """Elements of the packed array."""
        ...

    @property
    def numpy_dtype(self) -> np.dtype:
        """Element type of the packed array."""
        ...

    def apply(self, data: np.ndarray) -> np.ndarray:
        """The constant as the kernel wants it, flat."""
        ...


class PackedConstant:
    """A constant as a kernel reads it; numpy makes an array of it where one is asked for."""

    def __init__(self, source: np.ndarray, pack: Pack | None = None) -> None:
        self._source, self._pack = source, pack
        self.size: int = source.size if pack is None else pack.size
        self.dtype: np.dtype = source.dtype if pack is None else pack.numpy_dtype
        self.nbytes: int = self.size * self.dtype.itemsize

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """The data, flat; made again each time unless the source has it already."""
        data = np.ascontiguousarray(self._source).reshape(-1) if self._pack is None else self._pack.apply(self._source)
        return data if dtype is None else data.astype(dtype)


def weight_offsets(constants: Sequence[PackedConstant]) -> tuple[tuple[int, ...], int]:
    """Offset in bytes of each constant in a block of weights, and the size of the block."""
    offsets, at = [], 0
    for constant in constants:
        offsets.append(at)
        at += -(-constant.nbytes // ALIGN) * ALIGN
    return tuple(offsets), at


def pack_weights(constants: Sequence[PackedConstant]) -> np.ndarray:
    """All constants in one block of bytes, which is aligned in memory too."""
    offsets, size = weight_offsets(constants)
    raw = np.zeros(size + ALIGN, np.uint8)
    start = -raw.ctypes.data % ALIGN
    block = raw[start : start + size]
    for offset, constant in zip(offsets, constants, strict=True):
        block[offset : offset + constant.nbytes] = np.asarray(constant).view(np.uint8)
    return block
