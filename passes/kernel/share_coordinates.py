"""Maps that read where other data say: coordinates that an outer loop does not change are computed once for all its iterations.

Sampling a map of many channels at coordinates from a tensor (`GridSample`, deformed windows) finds the same elements and weights in
each channel. The loop over channels goes inside the vector loop over positions, below what is the same in all channels:

    parallel over the other axes
      for vectors of positions
        elements and weights, from the coordinates
        for channels: read, blend, store
"""

from __future__ import annotations

from contextlib import ExitStack

from ...compiler.kernel import build
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nodes import Binary, BinaryOp, Cast, Const, Expr, Load, Var
from ...compiler.kernel.sums import from_terms, index_terms
from ...compiler.kernel.traverse import free_vars, map_expr, substitute, walk
from .loop_form import Loop, LoopForm

MIN_ROUNDS = 4
"""Rounds of a loop from which on it pays to change the order of the loops."""


def find_shared(form: LoopForm) -> Loop | None:
    """The loop of a map, not the last one, in all iterations of which the same computed elements are read; None if there is none."""
    for var, extent in form.axes[:-1] if form.combine is None else ():
        if isinstance(extent, int) and extent >= MIN_ROUNDS and any(_reads_computed(at, var) for at in form.loads()):
            return var, extent
    return None


def _reads_computed(at: Load, var: Var) -> bool:
    """True for a load in a place that moves with a loop, plus places found from floats in memory that do not."""
    fixed, moving = _split(at.index, var)
    return bool(free_vars(moving)) and any(
        isinstance(e, Cast) and e.value.dtype.is_float and any(isinstance(part, Load) for part in walk(e)) for e in walk(fixed)
    )


def _split(index: Expr, var: Var) -> tuple[Expr, Expr]:
    """An index as the sum of terms without and with a variable."""
    terms = index_terms(index)
    moving = {term: factor for term, factor in terms.items() if any(var in free_vars(f) for f in term)}
    return from_terms({term: factor for term, factor in terms.items() if term not in moving}), from_terms(moving)


def emit_shared(k: KernelBuilder, form: LoopForm, shared: Loop) -> None:
    """Emit one element, or vector, of a map in all iterations of a loop, below what is the same in them."""
    var, extent = shared
    with ExitStack() as lets:
        names: dict[Expr, Expr] = {}

        def named(e: Expr) -> Expr:
            if isinstance(e, (Const, Var)) or not any(isinstance(part, Load) for part in walk(e)):
                return e
            if e not in names:
                names[e] = lets.enter_context(k.let(e))
            return names[e]

        def visit(e: Expr) -> Expr | None:
            if var not in free_vars(e):
                return named(e)
            if isinstance(e, Binary) and e.dtype is build.INDEX and e.op in (BinaryOp.ADD, BinaryOp.MUL):
                fixed, moving = _split(e, var)
                return build.add(named(fixed), moving)
            return None

        result = map_expr(form.result, visit)
        with k.loop(var.name, extent) as at:
            k.store(form.target, *(substitute(e, {var: at}) for e in (form.at, result)))
