"""Choose the register tile of a contraction from its extents and the row: analytic, no measuring.

A tile holds `mr * nv` accumulators: `mr` rows that share each vector of the one factor, `nv` vectors that
share each scalar of the other. Its cost a step is what the multiply-adds and the loads need, whichever is
more; the cost of the whole is summed over full tiles and remainders, so that 7 rows are not cut into 6 and 1
when 4 and 3 are better.
"""

from __future__ import annotations

from functools import cache

from ...compiler.kernel.mma import DotStep, Mma

MAX_SCALARS = 20
"""Accumulators of a tile of scalars: beyond that, flash grows faster than time falls."""
MAX_ROWS = 14
MAX_VECTORS = 8
LATENCY_CYCLES = 4
"""A multiply-add may follow the one before it in the same accumulator after this time."""


@cache
def choose_tile(row: Mma | DotStep, rows: int, vectors: int) -> tuple[int, int]:
    """Return (mr, nv) for a contraction with this many rows and vectors of columns."""
    best: tuple[float, int, int] | None = None
    for mr in range(1, min(MAX_ROWS, rows) + 1):
        for nv in range(1, min(MAX_VECTORS, vectors) + 1):
            if not fits(row, mr, nv):
                continue
            cost = sum(count_m * count_n * step_cost(row, m, n) for m, count_m in parts(rows, mr) for n, count_n in parts(vectors, nv))
            if best is None or cost < best[0] - 1e-9:
                best = cost, mr, nv
    assert best is not None
    return best[1], best[2]


def parts(total: int, size: int) -> list[tuple[int, int]]:
    """(tile size, how many) for full tiles and the remainder."""
    found = [(size, total // size), (total % size, 1)]
    return [(s, n) for s, n in found if s and n]


def fits(row: Mma | DotStep, mr: int, nv: int) -> bool:
    """True if the accumulators, one vector of each column and a scalar fit the registers."""
    if row.is_vector:
        return mr * nv + nv + 1 <= row.registers
    return mr * nv * row.lanes <= MAX_SCALARS and (mr + 1) * nv * row.lanes + 1 <= row.registers


def step_cost(row: Mma | DotStep, mr: int, nv: int) -> float:
    """Cost of one step of a tile: cycles, or for scalars instructions, with a little for the loop."""
    if row.is_vector:
        return step_cycles(row, mr, nv)
    return mr * nv * row.lanes + mr + nv * row.lanes + 2


def step_cycles(row: Mma | DotStep, mr: int, nv: int) -> float:
    """Cycles for one step of a tile, with a little for the loop."""
    return max(mr * nv / row.fma_per_cycle, (mr + nv) / row.loads_per_cycle, LATENCY_CYCLES) + 0.4
