"""A loop in vectors with a scalar tail, for schedules and for operators that write their own kernels.

The loop kind only marks what `vectorize` and the printers do later; the meaning is that of a plain loop.
"""

from __future__ import annotations

from collections.abc import Callable

from . import build
from .build import add, mul
from .builder import KernelBuilder
from .nodes import Dim, Expr, LoopKind


def halves(lanes: int) -> tuple[int, ...]:
    """The powers of two below `lanes`, itself one, that are vectors: the largest first."""
    return tuple(1 << power for power in reversed(range(1, lanes.bit_length() - 1)))


def vector_loop(k: KernelBuilder, extent: Dim, lanes: int, body: Callable[[Expr], None], *, costly: bool = False) -> None:
    """Emit `for i in range(extent): body(i)` in steps of `lanes`, with a scalar tail.

    A known extent below `lanes` takes the largest power of two that fits.

    Args:
        k: where to.
        extent: iterations.
        lanes: of a vector register.
        body: one iteration.
        costly: if an iteration is a long chain of operations. Two vectors side by side then hide its latency, and what they leave
            of a known extent goes in ever smaller vectors.
    """
    sizes: tuple[int, ...] = (2 * lanes, lanes) if costly else (lanes,)
    if isinstance(extent, int):
        smaller = halves(lanes)
        sizes = (*sizes, *smaller) if costly else tuple(size for size in (lanes, *smaller) if size <= extent)[:1]
    done: Expr = build.const(0)
    for size in sizes if lanes > 1 else ():
        count = build.dim(build.floordiv(build.sub(build.index(extent), done), size))
        if count != 0:
            with k.loop("v", count) as step, k.loop("l", size, LoopKind.VECTOR) as lane:
                body(add(add(done, mul(step, size)), lane))
            done = add(done, mul(build.index(count), size))
    rest = build.dim(build.sub(build.index(extent), done))
    if rest != 0:
        with k.loop("t", rest) as at:
            body(add(done, at))
