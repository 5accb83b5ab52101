"""The order of the loops around the tiles of a contraction, and what runs in parallel.

Chosen from sizes alone: which factor stays in the second-level cache while the other passes by, and how many
tasks there must be for the threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...compiler.kernel import build
from ...compiler.kernel.build import const, mul
from ...compiler.kernel.nodes import Dim, Expr, Load, Var
from ...compiler.kernel.traverse import free_vars, walk
from .contraction_form import Contraction

UNKNOWN_EXTENT = 48
"""Rows, vectors and the like that are assumed where an extent is not known."""
ENOUGH_TASKS = 16
"""Parallel iterations to aim for."""
COLUMNS, ROWS = "#columns", "#rows"
RESIDENT = 0.4
"""Share of the cache that the vectors of a tile may fill and still stay there."""
DEPTH_PART = 0.2
"""The same for a reduction in parts, where more of the rows passes by."""
MIN_ROWS = 32
"""Rows for which it pays to divide a reduction."""


@dataclass(frozen=True, slots=True)
class Part:
    """One parallel dimension."""

    name: str
    """Name of an outer loop, or `COLUMNS` or `ROWS` for parts of these."""
    count: Dim
    """Extent of the dimension."""
    size: int = 1
    """Elements of the loop in each part."""

    def range(self, at: Expr, extent: Dim) -> tuple[Expr, Dim]:
        """First element and number of elements of part `at` of a loop with this extent."""
        start = mul(at, self.size)
        if isinstance(extent, int) and extent % self.size == 0:
            return start, self.size
        return start, build.dim(build.minimum(build.sub(build.index(extent), start), self.size))


def known(extent: Dim) -> int:
    """An extent, or what is assumed for one that is not known."""
    return extent if isinstance(extent, int) else UNKNOWN_EXTENT


def plan_loops(c: Contraction, mr: int, nv: int, l2_bytes: int, depth: DepthParts | None = None) -> tuple[Part, ...]:
    """The parallel dimensions around tiles of `mr` rows and `nv` vectors, outermost first; `depth` if the reduction is divided."""
    in_scalar, in_vector = free_vars(c.scalar), free_vars(c.vector)
    both = [Part(v.name, d) for v, d in c.outer if (v in in_scalar) == (v in in_vector)]
    scalar = [Part(v.name, d) for v, d in c.outer if v in in_scalar and v not in in_vector]
    vector = [Part(v.name, d) for v, d in c.outer if v in in_vector and v not in in_scalar]
    if not (isinstance(c.blocks, int) and c.blocks <= nv):
        vector.append(Part(COLUMNS, build.dim(build.ceildiv(c.blocks, nv)), nv))
    tasks = math.prod(known(part.count) for part in (*both, *scalar, *vector))
    if depth is not None:
        return (*both, *vector, *(depth.rows if part.name == depth.rows.name else part for part in scalar))
    scalar += _row_parts(c, mr, tasks, l2_bytes)
    if _vectors_stay(c, scalar, nv, l2_bytes):
        return (*both, *scalar, *vector)
    return (*both, *vector, *scalar)


def _depth(c: Contraction) -> int:
    return math.prod(known(d) for _, d in c.form.reduce)


@dataclass(frozen=True, slots=True)
class DepthParts:
    """A reduction in parts, so that the vectors of a part stay in the cache while all rows of a task pass by.

    Between the parts the sums wait where the result will be.
    """

    loop: Var
    """The reduction loop that is divided, the outermost one."""
    count: int
    size: int
    """Iterations of the loop in each part."""
    rows: Part
    """The outer loop that a task walks through for each part."""


def plan_depth(c: Contraction, nv: int, l2_bytes: int) -> DepthParts | None:
    """Parts of the reduction for tiles of `nv` vectors; None if the vectors fit the cache, or little would be gained."""
    panel = 4 * _depth(c) * nv * c.lanes
    if panel <= RESIDENT * l2_bytes or c.columns is None or c.form.target.dtype is not c.form.acc.dtype:
        return None
    in_scalar, in_vector = free_vars(c.scalar), free_vars(c.vector)
    walked = [(v, d) for v, d in c.outer if v in in_scalar and v not in in_vector and isinstance(d, int)]
    var, extent = c.form.reduce[0]
    wanted = -(-panel // int(DEPTH_PART * l2_bytes))
    counts = [n for n in range(wanted, 2 * wanted + 1) if isinstance(extent, int) and extent % n == 0]
    if not walked or not counts:
        return None
    axis, rows = walked[-1]
    tasks = math.prod(known(d) for v, d in c.outer if v is not axis) * -(-known(c.blocks) // nv)
    size = -(-int(rows) // max(1, -(-ENOUGH_TASKS // tasks)))
    if size * known(c.row_extent) < MIN_ROWS:
        return None
    return DepthParts(var, counts[0], int(extent) // counts[0], Part(axis.name, -(-int(rows) // size), size))  # type: ignore[arg-type]


def _row_parts(c: Contraction, mr: int, tasks: int, l2_bytes: int) -> list[Part]:
    """Parts of the rows: enough tasks, and the scalars of a part fit half of the cache."""
    if c.rows is None:
        return []
    extent = c.rows[1]
    fits = max(1, l2_bytes // 2 // (4 * _depth(c)) // mr) * mr
    wanted = -(-known(extent) // max(1, -(-ENOUGH_TASKS // tasks)))
    size = max(mr, min(fits, -(-wanted // mr) * mr))
    if isinstance(extent, int):
        if size >= extent:
            return []
        even = [s for s in range(size, size // 2, -mr) if extent % s == 0]
        size = even[0] if even else size
    return [Part(ROWS, build.dim(build.ceildiv(extent, size)), size)]


def _vectors_stay(c: Contraction, scalar: list[Part], nv: int, l2_bytes: int) -> bool:
    """True if it costs less to walk all columns for each part of the rows than the other way round."""
    vectors = 4 * _depth(c) * known(c.blocks) * c.lanes
    if vectors <= l2_bytes // 2:
        return True
    scalars = sum(4 * known(at.buffer.size) for at in walk(c.scalar) if isinstance(at, Load))
    if scalars <= l2_bytes // 2:
        return False
    return math.prod(known(part.count) for part in scalar) * vectors < -(-known(c.blocks) // nv) * scalars


def first_and_count(parts: tuple[Part, ...], at: tuple[Expr, ...], name: str, extent: Dim) -> tuple[Expr, Dim]:
    """First element and number of elements of a loop that may be divided into parts."""
    for part, where in zip(parts, at, strict=True):
        if part.name == name:
            return part.range(where, extent)
    return const(0), extent
