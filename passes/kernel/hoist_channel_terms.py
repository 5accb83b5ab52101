"""Compute what an epilogue needs of each channel once for all pixels of a task: factors of a requantization and the like."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from ...compiler.kernel import build
from ...compiler.kernel.build import add, load
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nodes import Binary, Buffer, Expr, Load, Math, Scope, Var
from ...compiler.kernel.traverse import children, free_vars, map_expr, substitute, walk
from ...compiler.kernel.vector_loop import vector_loop
from .dot_form import Dot

LINE_BYTES = 64


def hoist_channel_terms(k: KernelBuilder, blocks: ExitStack, dot: Dot, first: Expr, channels: int, lanes: int) -> Dot:
    """Emit the loops that compute the terms, and return the form that reads them.

    Args:
        k: where to emit.
        blocks: the block in which the results live.
        dot: the sum whose epilogue is looked at.
        first: the first channel of the task.
        channels: how many it has at most.
        lanes: width of the vectors.
    """
    var, extent = dot.channel
    count = build.dim(build.minimum(build.sub(build.index(extent), first), channels))
    places: dict[Expr, Expr] = {}
    for term in channel_terms(dot.form.result, var):
        buffer = blocks.enter_context(k.local(term.dtype, channels, "channel", Scope.STACK, LINE_BYTES))

        def store(at: Expr, buffer: Buffer = buffer, term: Expr = term) -> None:
            k.store(buffer, at, substitute(term, {var: add(first, at)}))

        vector_loop(k, count, lanes, store)
        places[term] = load(buffer, build.sub(var, first))
    return replace(dot, form=replace(dot.form, result=map_expr(dot.form.result, places.get)))


def channel_terms(result: Expr, channel: Var) -> list[Expr]:
    """The largest parts of an epilogue that constants and the number of the channel decide, and that cost more than a load."""
    found: dict[Expr, None] = {}

    def visit(e: Expr) -> None:
        if e in found or channel not in free_vars(e):
            return
        is_known = set(free_vars(e)) == {channel} and all(at.buffer.scope is Scope.CONST for at in walk(e) if isinstance(at, Load))
        if is_known and e.dtype is not build.INDEX and e.dtype.bits == 32 and isinstance(e, (Binary, Math)):
            found[e] = None
            return
        if not isinstance(e, Load):
            for part in children(e):
                visit(part)

    visit(result)
    return list(found)
