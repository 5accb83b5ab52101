"""A deterministic order of expressions, the same in every process: what canonical sums are sorted by."""

from __future__ import annotations

import functools
import hashlib
import weakref

from .constants import REMEMBERED
from .nodes import Binary, Broadcast, Cast, Const, Expr, Load, Math, Ramp, Read, Select, Unary, Var


@functools.lru_cache(REMEMBERED)
def order(e: Expr) -> tuple[int, str]:
    """A deterministic order of factors: variables by name first, then other expressions by their text."""
    return (0, e.name) if isinstance(e, Var) else (1, spelling(e))


_texts: weakref.WeakKeyDictionary[Expr, str] = weakref.WeakKeyDictionary()


def spelling(e: Expr) -> str:
    """The text of an expression, or its digest if that is long: shared parts would be spelled exponentially often."""
    found = _texts.get(e)
    if found is None:
        found = _spell(e)
        if len(found) > 120:
            found = hashlib.blake2b(found.encode(), digest_size=16).hexdigest()
        _texts[e] = found
    return found


def _spell(e: Expr) -> str:
    match e:
        case Const():
            return str(e.value)
        case Var():
            return e.name
        case Load():
            return f"{e.buffer.name}[{spelling(e.index)}]"
        case Binary():
            return f"({spelling(e.a)} {e.op.value} {spelling(e.b)})"
        case Unary():
            return f"{e.op.value}({spelling(e.a)})"
        case Select():
            return f"select({spelling(e.cond)},{spelling(e.then)},{spelling(e.other)})"
        case Cast():
            return f"{e.dtype.label}({spelling(e.value)})"
        case Read():
            return f"read{e.operand}({','.join(map(spelling, e.indices))})"
        case Math():
            return f"{e.fn.value}({','.join(map(spelling, e.args))})"
        case Ramp():
            return f"ramp({spelling(e.base)},{spelling(e.stride)},{e.lanes})"
        case Broadcast():
            return f"x{e.lanes}({spelling(e.value)})"
    return f"lane({spelling(e.vector)},{e.index})"
