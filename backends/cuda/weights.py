"""Constants of a program as one block of bytes."""

from __future__ import annotations

import numpy as np

from ...compiler.program.nodes import Program

ALIGN = 64


def weight_offsets(program: Program) -> tuple[tuple[int, ...], int]:
    """Offset in bytes of each constant in the block of weights, and the size of the block."""
    offsets, at = [], 0
    for array in program.constants:
        offsets.append(at)
        at += -(-array.nbytes // ALIGN) * ALIGN
    return tuple(offsets), at


def pack_weights(program: Program) -> bytes:
    """All constants in one block."""
    offsets, size = weight_offsets(program)
    block = np.zeros(size, np.uint8)
    for offset, array in zip(offsets, program.constants, strict=True):
        block[offset : offset + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return block.tobytes()
