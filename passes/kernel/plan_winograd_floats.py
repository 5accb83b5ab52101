"""Convolutions of floats that Winograd's algorithm can do, and the sizes with which it pays (`winograd_floats`).

A contraction qualifies if it slides a square window without steps over two axes, sums over channels that lie in vectors, and
has constant weights and known extents, but for the number of images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ...compiler.kernel import build
from ...compiler.kernel.build import const
from ...compiler.kernel.mma import Mma
from ...compiler.kernel.nodes import Const, Dim, Load, Scope
from ...compiler.kernel.traverse import free_vars, substitute
from .contraction_form import Contraction, single_load
from .contraction_plan import ENOUGH_TASKS
from .loop_form import stride
from .tile_model import MAX_ROWS, MAX_VECTORS, fits, parts, step_cycles
from .winograd import Winograd
from .winograd_floats import POINTS, winograd_floats
from .winograd_window import SlidingWindow, extent_of, sliding_window

MORE_TASKS = 4
"""Times as many tasks where the number of images is not known: there may be as many more."""
GAIN = 0.85
"""Share of the time of the direct sum that the algorithm must stay below, by the estimate: it takes more memory."""
L2_SHARE = 0.7
"""Share of the second-level cache for transformed data and sums."""
STREAM_BYTES_PER_CYCLE = 5
"""What one core gets of weights that are in no cache of its own."""
DIRECT_EFFICIENCY = 0.9
"""Share of its peak that the direct sum reaches."""
MIN_TILES = 4
"""Tiles that should go together at least, for the use that is made of each weight."""
WAIT = 1.5
"""Cycles to store a vector of sums and load it again."""
DATA_CYCLES = 4.0
"""For each vector of transformed data."""
RESULT_CYCLES = 2.5
"""For each vector that goes into or comes out of the last transform, and each product."""


@dataclass(frozen=True, slots=True)
class WindowedContraction:
    """A convolution over two axes."""

    contraction: Contraction
    data: Load
    weight: Load
    window: SlidingWindow
    """Its reduction loops `channels` are that inside a block, and one over blocks before it if there is more than one."""

    @property
    def channels(self) -> int:
        """Input channels, those that fill the last block included."""
        return math.prod(map(extent_of, self.window.channels))

    @property
    def images(self) -> int:
        """Images that are known of; one if their number is not known."""
        return math.prod(extent for _, extent in self.window.images if isinstance(extent, int))

    @property
    def more_images(self) -> Dim:
        """How many times as many there are, which only a run knows; 1 if all are known of."""
        return build.product(extent for _, extent in self.window.images if not isinstance(extent, int))

    @property
    def output_blocks(self) -> int:
        """Vectors of output channels."""
        assert isinstance(self.contraction.blocks, int)
        return self.contraction.blocks


def windowed_contraction(c: Contraction) -> WindowedContraction | str:
    """Find the window in a contraction, or say why there is none."""
    data, weight = single_load(c.scalar), single_load(c.vector)
    if data is None or weight is None or weight.buffer.scope is not Scope.CONST:
        return "a factor is computed"
    if c.rows is None or c.columns is None or c.is_depthwise or c.columns_extent:
        return "no blocks of channels and rows of pixels"
    outputs = (*c.outer, c.rows)
    loops = (*outputs, c.columns, *c.form.reduce)
    in_weight = free_vars(c.vector)
    if any(var in in_weight for var, _ in outputs):
        return "the weights change"
    window = sliding_window(data.index, outputs, c.form.reduce)
    if isinstance(window, str):
        return window
    if any(not isinstance(loop[1], int) for loop in loops if loop not in window.images):
        return "unknown extents"
    channels = window.channels
    if not 1 <= len(channels) <= 2 or stride(data.index, channels[-1][0]) != 1 or extent_of(channels[-1]) % c.lanes:
        return "the channels do not lie in vectors"
    if not isinstance(substitute(weight.index, {var: const(0) for var, _ in (*loops, c.lane)}), Const):
        return "the weights begin at an unknown place"
    return WindowedContraction(c, data, weight, window)


@dataclass(frozen=True, slots=True)
class WinogradPlan:
    """The sizes of the schedule."""

    algorithm: Winograd
    across: int
    """Tiles side by side in an image."""
    image_tiles: int
    """All tiles of an image."""
    images: int
    """As `WindowedContraction.images`."""
    has_more_images: bool
    tiles: int
    """Tiles of an image that go together."""
    depth: int
    """Input channels that are summed at once."""
    width: int
    """Vectors of output channels that a task makes."""
    mr: int
    nv: int
    """The register tile: tiles x vectors."""
    parts_in: int
    """Parts of the input channels."""
    parts_out: int
    """Parts of the output channels."""
    cycles: float
    """Estimated for the whole convolution on one core."""

    @property
    def blocks(self) -> int:
        """Groups of tiles in an image."""
        return -(-self.image_tiles // self.tiles)

    @property
    def units(self) -> int:
        """What is done one after the other: groups of tiles, for some of the output channels; times the images that are not known of."""
        return self.parts_out * self.images * self.blocks

    @property
    def tasks(self) -> int:
        """Parallel tasks: enough for the threads, few enough for the memory that each has."""
        return min(self.units * (MORE_TASKS if self.has_more_images else 1), ENOUGH_TASKS)


def plan_winograd(w: WindowedContraction, row: Mma, l2_bytes: int) -> WinogradPlan | str:
    """The sizes that take the least time, or why the direct sum is better."""
    plans = [
        plan
        for products in POINTS
        if products > w.window.taps
        for depth in _divisors(w.channels, w.contraction.lanes)
        for width in _divisors(w.output_blocks, 1)
        for plan in [_plan(w, row, l2_bytes, winograd_floats(products - w.window.taps + 1, w.window.taps), depth, width)]
        if plan is not None
    ]
    direct = _pixels(w) * w.window.taps**2 * w.channels * w.output_blocks / row.fma_per_cycle / DIRECT_EFFICIENCY
    best = min(plans, key=lambda plan: plan.cycles, default=None)
    return "the direct sum is faster" if best is None or best.cycles > GAIN * direct else best


def _pixels(w: WindowedContraction) -> int:
    return w.images * extent_of(w.window.row) * extent_of(w.window.column)


def _divisors(total: int, step: int) -> list[int]:
    return [n for n in range(step, total + 1, step) if total % n == 0]


def _plan(w: WindowedContraction, row: Mma, l2_bytes: int, f: Winograd, depth: int, width: int) -> WinogradPlan | None:
    """A plan with the tiles that fit the cache; None if too few do to reuse the weights."""
    points, lanes = f.products**2, w.contraction.lanes
    down, across = -(-extent_of(w.window.row) // f.outputs), -(-extent_of(w.window.column) // f.outputs)
    most = int(L2_SHARE * l2_bytes) // (4 * points * (depth + width * lanes))
    if most < min(down * across, MIN_TILES):
        return None
    tiles = -(-down * across // -(-down * across // most))
    mr, nv = _register_tile(row, tiles, width)
    parts_in, parts_out = w.channels // depth, w.output_blocks // width
    made = WinogradPlan(f, across, down * across, w.images, w.more_images != 1, tiles, depth, width, mr, nv, parts_in, parts_out, 0)
    return replace(made, cycles=made.units * _unit_cycles(made, row, w.channels, lanes))


def _unit_cycles(plan: WinogradPlan, row: Mma, channels: int, lanes: int) -> float:
    """Estimated time of one unit."""
    f, points = plan.algorithm, plan.algorithm.products**2
    steps = sum(n * step_cycles(row, m, plan.nv) for m, n in parts(plan.tiles, plan.mr)) * (plan.width // plan.nv)
    sums = points * (steps * channels + WAIT * plan.tiles * plan.width * plan.parts_in)
    weights = points * channels * plan.width * lanes * 4 / STREAM_BYTES_PER_CYCLE
    data = plan.tiles * (channels // lanes) * f.products * DATA_CYCLES * f.products
    results = plan.tiles * plan.width * (f.products + f.outputs) * RESULT_CYCLES * f.products
    return max(sums, weights) + data + results


def _register_tile(row: Mma, tiles: int, width: int) -> tuple[int, int]:
    """The register tile for whole vectors only."""
    counts = [nv for nv in _divisors(width, 1) if nv <= MAX_VECTORS]
    tilings = [(mr, nv) for nv in counts for mr in range(1, min(MAX_ROWS, tiles) + 1) if fits(row, mr, nv)]
    return min(tilings, key=lambda t: sum(n * step_cycles(row, m, t[1]) for m, n in parts(tiles, t[0])) * (width // t[1]))
