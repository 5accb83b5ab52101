"""Which sizes of tensors must be checked while the model runs: extents below zero, and elements so many that their bytes would wrap.

Extents come from data (a shape that is an input, a scale, a number of repetitions), or are differences of extents. Memory is found
for what they say, so a program never takes them on trust.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from ...compiler.graph.nodes import TensorType
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Binary, BinaryOp, Const, Dim, Expr, Select, Var
from ...compiler.kernel.traverse import free_vars

MAX_ELEMENTS = 1 << 46
"""Elements that no tensor has; sizes up to here can be multiplied by the width of every type."""
MESSAGE = "an extent of the result is negative, or the result is too large"


def legal_size(type_: TensorType, entry: Collection[str], is_extent: Callable[[Var], bool]) -> Expr:
    """What must hold of the extents of a type.

    Args:
        type_: type of a tensor.
        entry: symbols that are extents of the model's inputs: memory of that size exists.
        is_extent: tells symbols that are not negative.
    """
    conditions: list[Expr] = [build.ge(build.index(d), 0) for d in type_.shape if not _is_positive(build.index(d), is_extent)]
    late = [v for v in free_vars(*map(build.index, type_.shape)) if isinstance(v, Var) and v.name not in entry]
    if late:
        conditions += _bounded(type_.shape)
    return build.logical_and(*conditions) if conditions else build.TRUE


def _bounded(shape: tuple[Dim, ...]) -> list[Expr]:
    """Extents whose product is at most `MAX_ELEMENTS`; no term of the conditions wraps if those before it hold."""
    found: list[Expr] = []
    before: Expr = build.const(1)
    for extent in shape:
        room = build.floordiv(build.const(MAX_ELEMENTS), build.maximum(before, 1))
        found.append(build.le(build.index(extent), room))
        before = build.mul(before, build.index(extent))
    return found


def _is_positive(e: Expr, is_extent: Callable[[Var], bool]) -> bool:
    """True if an expression is surely not negative."""
    match e:
        case Const(value=value):
            return value >= 0
        case Var():
            return is_extent(e)
        case Binary(op=BinaryOp.ADD | BinaryOp.MUL | BinaryOp.MIN | BinaryOp.FLOORDIV, a=a, b=b):
            return _is_positive(a, is_extent) and _is_positive(b, is_extent)
        case Binary(op=BinaryOp.MAX, a=a, b=b):
            return _is_positive(a, is_extent) or _is_positive(b, is_extent)
        case Binary(op=BinaryOp.FLOORMOD, b=b):
            return _is_positive(b, is_extent)
        case Select(then=then, other=other):
            return _is_positive(then, is_extent) and _is_positive(other, is_extent)
    return False
