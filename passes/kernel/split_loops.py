"""Split loops whose variable is divided with some offset, so that no index is divided at run time.

What reshapes, pixel shuffles, enlarged images and blocks of channels leave are quotients and remainders of loop
variables. A loop over `i` with `i // 4` and `i % 4` in it is two loops, over `o` and `r` with `i = 4 * o + r`:
the constructors of index arithmetic then find that the quotient is `o` and the remainder `r`. Used where
loops are plain; a vector loop would rather stay long.
"""

from __future__ import annotations

import math
from dataclasses import replace

from ...compiler.kernel import build
from ...compiler.kernel.build import add, mul
from ...compiler.kernel.nodes import Binary, BinaryOp, Const, Expr, Var
from ...compiler.kernel.traverse import walk
from .loop_form import Loop, LoopForm, coefficient


def split_divided_loops(form: LoopForm) -> LoopForm:
    """Return the form with every loop split that a division takes apart evenly; maps and output loops only."""
    position = 0
    while position < len(form.axes):
        found = split_loop(form, form.axes[position])
        if found is None:
            position += 1
        else:
            form, loops = found
            form = replace(form, axes=(*form.axes[:position], *loops, *form.axes[position + 1 :]))
    return form


def split_loop(form: LoopForm, loop: Loop) -> tuple[LoopForm, tuple[Loop, Loop]] | None:
    """The form with a loop as two, None if nothing is divided that two loops would not."""
    var, extent = loop
    if not isinstance(extent, int):
        return None
    before = _divisions(form, var)
    for size in sorted({_block(e, var) for e in before} - {0, 1}, reverse=True):
        if extent % size or extent == size:
            continue
        outer, inner = build.loop_var(f"{var.name}q", extent // size), build.loop_var(f"{var.name}r", size)
        found = form.substitute({var: add(mul(outer, size), inner)})
        if len(_divisions(found, outer)) + len(_divisions(found, inner)) < len(before):
            return found, ((outer, extent // size), (inner, size))
    return None


def _divisions(form: LoopForm, var: Var) -> list[Expr]:
    """Quotients and remainders of which a variable is a part."""
    divided = [e for e in walk(form.term, form.result, form.at) if isinstance(e, Binary) and e.op in (BinaryOp.FLOORDIV, BinaryOp.FLOORMOD)]
    return [e for e in divided if isinstance(e.b, Const) and _factor(e, var)]


def _factor(e: Expr, var: Var) -> int:
    """By how much the dividend grows with a variable; 0 if it does not, or not evenly."""
    assert isinstance(e, Binary)
    found = coefficient(e.a, var) if e.a.dtype is build.INDEX else None
    return int(found.value) if isinstance(found, Const) else 0


def _block(e: Expr, var: Var) -> int:
    """Values of a variable over which a quotient is the same, if it starts evenly."""
    assert isinstance(e, Binary) and isinstance(e.b, Const)
    divisor = int(e.b.value)
    return divisor // math.gcd(divisor, abs(_factor(e, var))) if divisor > 0 else 0
