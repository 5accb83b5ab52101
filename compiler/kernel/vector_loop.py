"""A loop in vectors with a scalar tail, for schedules and for operators that write their own kernels.

The loop kind only marks what `vectorize` and the printers do later; the meaning is that of a plain loop.
"""

from __future__ import annotations

from collections.abc import Callable

from . import build
from .build import add, mul
from .builder import KernelBuilder
from .nodes import Dim, Expr, LoopKind


def vector_loop(k: KernelBuilder, extent: Dim, lanes: int, body: Callable[[Expr], None]) -> None:
    """Emit `for i in range(extent): body(i)` in steps of `lanes`, with a scalar tail.

    A known extent below `lanes` takes the largest power of two that fits.
    """
    while isinstance(extent, int) and lanes > max(extent, 1):
        lanes //= 2
    if lanes > 1:
        count = build.floordiv(build.index(extent), lanes)
        with k.loop("v", build.dim(count)) as step, k.loop("l", lanes, LoopKind.VECTOR) as lane:
            body(add(mul(step, lanes), lane))
        done = mul(count, lanes)
    else:
        done = build.const(0)
    rest = build.dim(build.sub(build.index(extent), done))
    if rest != 0:
        with k.loop("t", rest) as at:
            body(add(done, at))
