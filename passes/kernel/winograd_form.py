"""Find out whether a sum of products of bytes is a convolution for Winograd's algorithm, and what the algorithm costs."""

from __future__ import annotations

from dataclasses import dataclass

from ...compiler.kernel import build
from ...compiler.kernel.mma import DotStep
from ...compiler.kernel.nodes import Binary, Expr, Var
from ...compiler.kernel.traverse import conjuncts, free_vars
from .contraction_plan import known
from .dot_form import Dot
from .loop_form import Loop, coefficient, stride
from .tile_model import choose_tile, parts, step_cycles
from .winograd import TAPS, Winograd

MOVES = 2.5
"""Instructions for each element of the data and for each output of a square, in vectors, beside the additions."""


@dataclass(frozen=True, slots=True)
class Window3x3:
    """A convolution of three by three, taken apart."""

    taps: tuple[Var, Var]
    """Loops over rows and columns of the window."""
    at: tuple[Loop, Loop]
    """Output loops over rows and columns."""
    outer: tuple[Loop, ...]
    """The other output loops besides the channels."""
    depth: Loop
    """The loop over the channels of the data."""


def extent_of(loop: Loop) -> int:
    """Extent of a loop that is known to have one."""
    assert isinstance(loop[1], int)
    return loop[1]


def window_3x3(dot: Dot) -> Window3x3 | str:
    """Find the loops of a convolution with steps and distances of one."""
    *taps, depth = dot.form.reduce
    if dot.is_depthwise or [extent for _, extent in taps] != [TAPS, TAPS] or stride(dot.data.index, depth[0]) != 1:
        return "no window of three by three in which channels lie side by side"
    at: list[Loop] = []
    for tap, _ in taps:
        step = stride(dot.data.index, tap)
        same = [loop for loop in dot.pixels if stride(dot.data.index, loop[0]) == step and loop not in at]
        if len(same) != 1 or not isinstance(same[0][1], int) or not _move_together(dot.inside, tap, same[0][0]):
            return "the window does not move by single steps"
        at.append(same[0])
    outer = tuple(loop for loop in dot.pixels if loop not in at)
    if any(var in free_vars(dot.inside) for var, _ in (*outer, depth)):
        return "channels or images decide what is inside"
    return Window3x3((taps[0][0], taps[1][0]), (at[0], at[1]), outer, depth)


def _move_together(inside: Expr, tap: Var, at: Var) -> bool:
    """True if conditions depend on the sum of two variables only."""
    for part in conjuncts(inside):
        assert isinstance(part, Binary)
        for side in (part.a, part.b):
            by_tap, by_place = coefficient(side, tap), coefficient(side, at)
            if by_place is None or by_tap is not by_place:
                return False
    return True


def has_room(algorithm: Winograd, largest: int, dot: Dot) -> bool:
    """True if transforms of data up to `largest` are 16-bit integers, and outputs leave the upper bits free."""
    weight = max(-dot.weight.dtype.limits[0], dot.weight.dtype.limits[1])
    output = dot.window.size * largest * weight
    spread = max(sum(map(abs, row)) for row in algorithm.weights) ** 2
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


class SquaresCost:
    """Cycles of an algorithm."""

    def __init__(self, algorithm: Winograd, window: Window3x3, channels: int, row: DotStep) -> None:
        depth, places = extent_of(window.depth), algorithm.n**2
        high, wide = (-(-extent_of(loop) // algorithm.m) for loop in window.at)
        images = known(build.product(extent for _, extent in window.outer))
        blocks = -(-channels // row.lanes)
        self.sums = images * places * _steps_cost(row, high * wide, blocks) * (depth // row.k)
        additions = sum(bool(c) for line in (*algorithm.data, *algorithm.outputs) for c in line) / algorithm.n
        each = places * (additions + MOVES) / row.steps_per_cycle
        self.data = images * high * wide * each * depth / (2 * row.lanes)
        self.outputs = images * high * wide * each * blocks

    @property
    def total(self) -> float:
        """All of it."""
        return self.sums + self.data + self.outputs
