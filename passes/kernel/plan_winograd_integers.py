"""Convolutions of bytes that Winograd's algorithm can do, and what it costs there (`winograd_integers`)."""

from __future__ import annotations

from ...compiler.kernel import build
from ...compiler.kernel.mma import DotStep
from ...compiler.kernel.nodes import Binary, Expr, Var
from ...compiler.kernel.traverse import conjuncts, free_vars
from .contraction_plan import known
from .dot_form import Dot
from .loop_form import coefficient, stride
from .tile_model import choose_tile, parts, step_cycles
from .winograd_integers import TAPS, IntegerWinograd
from .winograd_window import SlidingWindow, extent_of, sliding_window

MOVES = 2.5
"""Instructions for each element of the data and for each output of a square, in vectors, beside the additions."""


def window_3x3(dot: Dot) -> SlidingWindow | str:
    """Find a window of three by three, and channels that lie side by side."""
    window = sliding_window(dot.data.index, dot.pixels, dot.form.reduce)
    if isinstance(window, str):
        return window
    if dot.is_depthwise or window.taps != TAPS or len(window.channels) != 1 or stride(dot.data.index, window.channels[0][0]) != 1:
        return "no window of three by three in which channels lie side by side"
    for tap, (at, extent) in ((window.tap_row, window.row), (window.tap_column, window.column)):
        if not isinstance(extent, int) or not _move_together(dot.inside, tap, at):
            return "the window does not move by single steps"
    if any(var in free_vars(dot.inside) for var, _ in (*window.images, *window.channels)):
        return "channels or images decide what is inside"
    return window


def _move_together(inside: Expr, tap: Var, at: Var) -> bool:
    """True if conditions depend on the sum of two variables only."""
    for part in conjuncts(inside):
        assert isinstance(part, Binary)
        for side in (part.a, part.b):
            by_tap, by_place = coefficient(side, tap), coefficient(side, at)
            if by_place is None or by_tap is not by_place:
                return False
    return True


def has_room(algorithm: IntegerWinograd, largest: int, dot: Dot) -> bool:
    """True if transforms of data up to `largest` are 16-bit integers, and outputs leave the upper bits free."""
    weight = max(-dot.weight.dtype.limits[0], dot.weight.dtype.limits[1])
    output = dot.window.size * largest * weight
    spread = max(sum(map(abs, row)) for row in algorithm.tap_matrix) ** 2
    return algorithm.growth * largest < 1 << 15 and spread * weight < 1 << 15 and output < 1 << (31 - algorithm.lost_bits)


# --- Costs ------------------------------------------------------------------------------------


def _steps_cost(row: DotStep, pixels: int, blocks: int) -> float:
    """Cycles of one step of the depth for all tiles."""
    mr, nv = choose_tile(row, pixels, blocks)
    return sum(cm * cn * step_cycles(row, m, n) for m, cm in parts(pixels, mr) for n, cn in parts(blocks, nv))


def direct_cost(dot: Dot, row: DotStep, channels: int) -> float:
    """Cycles of the sums as they are."""
    pixels = build.product(extent for _, extent in dot.pixels)
    return _steps_cost(row, known(pixels), -(-channels // row.lanes)) * -(-dot.window.size // row.k)


class WinogradCost:
    """Cycles of an algorithm."""

    def __init__(self, algorithm: IntegerWinograd, window: SlidingWindow, channels: int, row: DotStep) -> None:
        n, depth = algorithm.products, extent_of(window.channels[0])
        places = n**2
        high, wide = (-(-extent_of(loop) // algorithm.outputs) for loop in (window.row, window.column))
        images = known(build.product(extent for _, extent in window.images))
        blocks = -(-channels // row.lanes)
        self.sums = images * places * _steps_cost(row, high * wide, blocks) * (depth // row.k)
        additions = sum(bool(c) for line in (*algorithm.data_matrix, *algorithm.output_matrix) for c in line) / n
        each = places * (additions + MOVES) / row.steps_per_cycle
        self.data = images * high * wide * each * depth / (2 * row.lanes)
        self.outputs = images * high * wide * each * blocks

    @property
    def total(self) -> float:
        """All of it."""
        return self.sums + self.data + self.outputs
