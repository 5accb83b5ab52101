"""Spread the iterations of a kernel's parallel loop over the threads of a grid.

Runs first of the kernel passes of targets that launch kernels on grids. A schedule that writes `GRID` and
`BLOCK` loops itself is left alone; a kernel without a parallel loop runs on one thread.

    parallel i < n: body   ->   grid g, block t: if g * T + t < n: let i = g * T + t: body
"""

from __future__ import annotations

from dataclasses import replace

from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, mul
from ...compiler.kernel.nodes import Dim, For, If, Kernel, Let, LoopKind, Stmt, Var
from ...compiler.kernel.traverse import walk_statements

MAX_THREADS = 256
"""Threads of a block: enough of them in flight at any number of registers."""
MANY_ITERATIONS = 1 << 16
"""Iterations from which blocks are full; fewer go into small blocks, so that more multiprocessors have work."""
SMALL_BLOCK = 64
WARP = 32


def place_on_grid(kernel: Kernel) -> Kernel:
    """Return the kernel as one grid of blocks."""
    if any(isinstance(s, For) and s.kind is LoopKind.GRID for s in walk_statements(kernel.body)):
        return kernel
    body = kernel.body
    if isinstance(body, For) and body.kind is LoopKind.PARALLEL:
        return replace(kernel, body=_spread(body))
    return replace(kernel, body=_grid(1, 1, body))


def _grid(blocks: Dim, threads: int, body: Stmt) -> Stmt:
    block, thread = _loops(blocks, threads)
    return For(block, build.index(blocks), LoopKind.GRID, For(thread, const(threads), LoopKind.BLOCK, body))


def _loops(blocks: Dim, threads: int) -> tuple[Var, Var]:
    return build.loop_var("block", blocks), build.loop_var("thread", threads)


def _spread(loop: For) -> Stmt:
    extent = build.dim(loop.extent)
    threads = block_size(extent)
    blocks = build.dim(build.ceildiv(extent, threads))
    block, thread = _loops(blocks, threads)
    at = add(mul(block, threads), thread)
    body: Stmt = Let(loop.var, at, loop.body)
    if not (isinstance(extent, int) and extent % threads == 0):
        body = If(build.lt(at, loop.extent), body)
    return _grid(blocks, threads, body)


def block_size(iterations: Dim) -> int:
    """Threads of a block for independent iterations."""
    if not isinstance(iterations, int) or iterations >= MANY_ITERATIONS:
        return MAX_THREADS
    return min(SMALL_BLOCK, max(WARP, -(-iterations // WARP) * WARP))
