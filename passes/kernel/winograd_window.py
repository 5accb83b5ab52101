"""Find the window of a convolution that Winograd's algorithm can do: square, and moved over two axes by single steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...compiler.kernel.nodes import Expr, Var
from .loop_form import Loop, stride


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """The loops of a convolution."""

    row: Loop
    """The output loop over rows of pixels."""
    column: Loop
    """The output loop over the pixels of a row."""
    tap_row: Var
    tap_column: Var
    taps: int
    """Extent of the window along either axis."""
    images: tuple[Loop, ...]
    """The other output loops."""
    channels: tuple[Loop, ...]
    """The other reduction loops."""


def sliding_window(index: Expr, outputs: Sequence[Loop], reduce: Sequence[Loop]) -> SlidingWindow | str:
    """Find pairs of an output loop and a reduction loop that move through the data alike.

    Args:
        index: where the data are read.
        outputs: the output loops, without those over channels.
        reduce: the reduction loops.
    """
    steps = {loop: stride(index, loop[0]) for loop in (*outputs, *reduce)}
    pairs = [(loop, tap) for loop in outputs for tap in reduce if steps[loop] and steps[loop] == steps[tap] and tap[1] != 1]
    if len(pairs) != 2 or len({loop for pair in pairs for loop in pair}) != 4:
        return "no window that moves over two axes by single steps"
    (row, tap_row), (column, tap_column) = sorted(pairs, key=lambda pair: -abs(steps[pair[0]] or 0))
    if tap_row[1] != tap_column[1] or not isinstance(tap_row[1], int):
        return "the window is no square"
    images = tuple(loop for loop in outputs if loop not in (row, column))
    channels = tuple(loop for loop in reduce if loop not in (tap_row, tap_column))
    return SlidingWindow(row, column, tap_row[0], tap_column[0], tap_row[1], images, channels)


def extent_of(loop: Loop) -> int:
    """Extent of a loop that is known to have one."""
    assert isinstance(loop[1], int)
    return loop[1]
