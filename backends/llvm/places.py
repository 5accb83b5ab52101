"""Where the lanes of an index lie: a scalar, and the distance of each lane from it, if these are known when printing.

Enlarged images, reflected edges and reversed rows read neighbours out of order: such vectors are shuffles of plain ones (`memory.py`).
"""

from __future__ import annotations

from ...compiler.kernel import build
from ...compiler.kernel.build import INDEX, const
from ...compiler.kernel.nodes import Binary, BinaryOp, Broadcast, Const, Expr, Ramp
from ...compiler.kernel.scalar import binary

Places = tuple[Expr, tuple[int, ...]]


def places(at: Expr) -> Places | None:
    """An index vector as a scalar and distances; None if the distances are not known."""
    match at:
        case Broadcast(value=base, lanes=lanes):
            return base, (0,) * lanes
        case Ramp(base=base, stride=Const(value=stride), lanes=lanes):
            return base, tuple(k * int(stride) for k in range(lanes))
        case Binary() if at.dtype is INDEX:
            a, b = places(at.a), places(at.b)
            return None if a is None or b is None else _combined(at.op, a, b)
    return None


def _combined(op: BinaryOp, a: Places, b: Places) -> Places | None:
    (x, first), (y, second) = a, b
    if op is BinaryOp.ADD:
        return build.add(x, y), tuple(p + q for p, q in zip(first, second, strict=True))
    if not (isinstance(x, Const) and isinstance(y, Const)):
        return None
    apply = binary(op, INDEX)
    return const(0), tuple(int(apply(int(x.value) + p, int(y.value) + q)) for p, q in zip(first, second, strict=True))
