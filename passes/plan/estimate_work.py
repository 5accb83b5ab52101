"""How much an imperative kernel does, so that the program knows whether threads are worth their start.

Nests tell their work by their extents; a kernel that an operator wrote itself is counted here: each store
is one operation, times the extents of the loops around it. What is known only at run time counts as one.
"""

from __future__ import annotations

from ...compiler.kernel import build
from ...compiler.kernel.nodes import Alloc, Block, Const, Dim, For, If, Kernel, Let, LoopKind, Stmt, Store, While
from .kernel_pool import parallel_extent

LEAST = 1000
"""Operations of an iteration: imperative kernels have loops of unknown length."""


def estimate_work(kernel: Kernel) -> Dim:
    """Scalar operations of the whole kernel; symbolic if the extent of its parallel loop is."""
    body = kernel.body
    inner = body.body if isinstance(body, For) and body.kind is LoopKind.PARALLEL else body
    return build.product((max(LEAST, _count(inner)), parallel_extent(kernel)))


def _count(stmt: Stmt) -> int:
    match stmt:
        case Store():
            return 1
        case For():
            return _count(stmt.body) * (int(stmt.extent.value) if isinstance(stmt.extent, Const) else 1)
        case Block():
            return sum(map(_count, stmt.body))
        case If():
            return max(_count(stmt.then), 0 if stmt.other is None else _count(stmt.other))
        case Let() | Alloc() | While():
            return _count(stmt.body)
        case _:
            return 0
