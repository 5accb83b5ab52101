"""Write a loop form as statements: vector loops with a tail, reductions across or along the vector.

Used by the schedule of rows. A target without vectors has `lanes` 1 and gets plain loops. Loop kinds only
mark what `vectorize` and the printers do later; the meaning is that of plain loops.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from ...compiler.kernel import build
from ...compiler.kernel.build import add, load, mul
from ...compiler.kernel.builder import KernelBuilder
from ...compiler.kernel.nest import Combine
from ...compiler.kernel.nodes import Buffer, Dim, Expr, Load, LoopKind, Math, Scope, Var
from ...compiler.kernel.traverse import free_vars, substitute, walk
from ...compiler.kernel.vector_loop import halves, vector_loop
from .expand_math import EXPANSIONS
from .loop_form import Loop, LoopForm, coefficient, stride
from .window_bounds import Windows, find_windows, tap_loop

MAX_WRITTEN_VECTORS, MAX_WRITTEN_NODES = 64, 1 << 12
"""Vectors of a row that is written out, and nodes of their expressions."""
MAX_ACCUMULATORS = 4
"""Vectors in flight in a reduction, to hide the latency of the combining instruction."""
FEW_TERMS = 8
"""Terms along the last reduction axis that fill no vectors: neighbours are reduced side by side even if they lie apart."""
MAX_SHUFFLED_STRIDE = 4
"""Up to this stride the elements of a vector are loaded as whole vectors that are shuffled, beyond it one by one."""


@dataclass(frozen=True, slots=True)
class VectorShape:
    """What the loops are made for."""

    bits: int
    """Width of a vector register; 0 for targets whose compiler makes vectors itself."""
    threads: bool = True
    """Whether iterations may run in parallel. Otherwise loops are nested as they are written, and no index is divided."""

    def lanes(self, form: LoopForm) -> int:
        """Lanes for the widest element type that the form computes with; 1 without vectors."""
        widths = [form.term.dtype.bytes, form.target.dtype.bytes, *(at.dtype.bytes for at in form.loads())]
        return max(1, self.bits // 8 // max(4, *widths))


def emit_map(k: KernelBuilder, form: LoopForm, loops: tuple[Loop, ...], lanes: int, repeated: Loop | None = None) -> None:
    """Emit a form without reduction over the loops given, the last of them in vectors.

    Args:
        k: where to.
        form: the map.
        loops: its loops but for those that are emitted already.
        lanes: of a vector.
        repeated: a short loop that changes only where elements are stored (`repeated_rows.py`).
    """

    def store(form: LoopForm) -> None:
        if repeated is None:
            k.store(form.target, form.at, form.result)
            return
        with k.loop("u", repeated[1], LoopKind.UNROLL) as u:
            k.store(form.target, substitute(form.at, {repeated[0]: u}), form.result)

    over(k, form, loops[:-1], lambda inner: _innermost(k, inner, loops[-1:], lanes, store))


def _innermost(k: KernelBuilder, form: LoopForm, loops: tuple[Loop, ...], lanes: int, body: Callable[[LoopForm], None]) -> None:
    if not loops:
        body(form)
        return
    ((var, extent),) = loops
    if lanes > 1 and isinstance(extent, int) and _is_tabulated(form, var) and _can_be_written_out(form, extent, lanes):
        _write_out(k, extent, lanes, lambda at: body(form.substitute({var: at})))
        return
    costly = _is_even(form, var) and is_costly(form.result)
    vector_loop(k, extent, lanes, lambda at: body(form.substitute({var: at})), costly=costly)


def _write_out(k: KernelBuilder, extent: int, lanes: int, body: Callable[[Expr], None]) -> None:
    """A loop whose vectors all have their own copy of the body; the last one may repeat elements of the one before."""
    with k.loop("v", extent // lanes, LoopKind.UNROLL) as step, k.loop("l", lanes, LoopKind.VECTOR) as lane:
        body(add(mul(step, lanes), lane))
    if extent % lanes:
        with k.loop("l", lanes, LoopKind.VECTOR) as lane:
            body(add(lane, extent - lanes))


def _can_be_written_out(form: LoopForm, extent: int, lanes: int) -> bool:
    """True if the copies stay short, and elements may be computed twice."""
    vectors = -(-extent // lanes)
    is_short = vectors <= MAX_WRITTEN_VECTORS and vectors * len(walk(form.result)) <= MAX_WRITTEN_NODES
    return extent >= lanes and is_short and all(at.buffer is not form.target for at in form.loads())


def _is_tabulated(form: LoopForm, var: Var) -> bool:
    """True if some elements are read in places that only a position on a loop decides, by divisions or bounds: shuffles, written out."""
    return any(_follows_only(at.index, var) for at in form.loads())


def _follows_only(index: Expr, var: Var) -> bool:
    """True if an index is uneven in a variable, and its terms with the variable have no other variable and no load in them."""
    if coefficient(index, var) is not None:
        return False
    factors = [f for term in build.index_terms(index) for f in term if var in free_vars(*term)]
    return all(list(free_vars(f)) in ([var], []) and not any(isinstance(e, Load) for e in walk(f)) for f in factors)


def is_costly(e: Expr) -> bool:
    """True if an expression has a function that becomes a long chain of operations."""
    return any(isinstance(part, Math) and part.fn in EXPANSIONS for part in walk(e))


def _is_even(form: LoopForm, var: Var) -> bool:
    """True if vectors along a loop are whole in memory."""
    return all(stride(at.index, var) in (0, 1) for at in form.loads() if var in free_vars(at.index))


def over(k: KernelBuilder, form: LoopForm, loops: tuple[Loop, ...], body: Callable[[LoopForm], None]) -> None:
    """Emit serial loops around a body, which gets the form with fresh variables."""
    if not loops:
        body(form)
        return
    (var, extent), *rest = loops
    with k.loop(var.name, extent) as fresh:
        over(k, form.substitute({var: fresh}), tuple(rest), body)


# --- Reductions -------------------------------------------------------------------------------


def emit_reduction(k: KernelBuilder, form: LoopForm, loops: tuple[Loop, ...], lanes: int) -> None:
    """Emit a reduction over the output loops given; across the vector or along it, as the loads lie."""
    if loops and lanes > 1 and not prefers_along(form, loops[-1]):
        over(k, form, loops[:-1], lambda inner: _reduce_across(k, inner, loops[-1], lanes))
    else:
        over(k, form, loops, lambda inner: _reduce_along(k, inner, lanes))


def emit_plain_reduction(k: KernelBuilder, form: LoopForm, loops: tuple[Loop, ...]) -> None:
    """Emit a reduction as plain loops. Taps of a padded window that add nothing are left out by bounds of their loops."""
    over(k, form, loops, lambda inner: _reduce_windows(k, inner))


def _reduce_windows(k: KernelBuilder, form: LoopForm) -> None:
    combine, dtype = form.combine, form.term.dtype
    assert combine is not None
    identity = combine.identity(dtype)
    windows = find_windows(form.term, form.reduce, None, None, identity)
    with k.local(dtype, 1, "sum", Scope.REGISTER) as total:
        k.store(total, 0, identity)
        with ExitStack() as loops:
            taps = {loop[0]: _tap(k, windows, loop, None, loops) for loop in form.reduce}
            k.store(total, 0, combine.apply(load(total, 0), substitute(windows.factor, taps)))
        k.store(form.target, form.at, substitute(form.result, {form.acc: load(total, 0)}))


def prefers_along(form: LoopForm, output: Loop) -> bool:
    """True if vectors should run along the last reduction axis rather than across the last output axis."""
    if not form.reduce:
        return False
    var, extent = output
    last, depth = form.reduce[-1]
    if extent == 1 or (isinstance(extent, int) and extent < 4 and isinstance(depth, int) and depth > extent):
        return True
    near = MAX_SHUFFLED_STRIDE if isinstance(depth, int) and depth < FEW_TERMS else 1
    across = sum(1 for at in form.loads() if (step := stride(at.index, var)) is not None and 0 <= step <= near)
    along = sum(1 for at in form.loads() if stride(at.index, last) in (0, 1))
    return along > across


def _reduce_across(k: KernelBuilder, form: LoopForm, loop: Loop, lanes: int) -> None:
    """One output element a lane. Windows that reach over the edges of their data are masked, or taken one by one with bounds."""
    assert form.combine is not None
    (var, extent), identity = loop, form.combine.identity(form.term.dtype)
    windows = find_windows(form.term, form.reduce, None, loop, identity)
    if not windows.tests or not isinstance(extent, int):
        _reduce_tiles(k, replace(form, term=windows.factor), windows, var, (0, extent), lanes)
        return
    first, end = windows.inside(loop, form.reduce)
    around = [v for v in free_vars(form.term) if v is not var]
    masked = find_windows(form.term, form.reduce, around, None, identity)
    if extent >= lanes and all(stride(at.index, var) in (0, 1) for at in form.loads()):
        edges = ((0, lanes if first else 0), (extent - lanes if end < extent else extent, extent))
        for edge in edges:
            _reduce_tiles(k, replace(form, term=masked.factor), masked, var, edge, lanes)
        first, end = edges[0][1], edges[1][0]
    else:
        for low, high in ((0, first), (end, extent)):
            with k.loop(var.name, high - low) as at:
                _reduce_windows(k, form.substitute({var: add(at, low)}))
    _reduce_tiles(k, replace(form, term=windows.factor), windows, var, (first, max(first, end)), lanes)


def _reduce_tiles(k: KernelBuilder, form: LoopForm, windows: Windows, var: Var, part: tuple[int, Dim], lanes: int) -> None:
    """One output element a lane, several vectors of them at once, for a part of the last output loop.

    The last vector may repeat some elements of the one before: that gives the same numbers, and no tail.
    """
    start, end = part
    width, extent = lanes * MAX_ACCUMULATORS, build.dim(build.sub(build.index(end), start))

    def tile(base: Expr, lanes: int, vectors: int) -> None:
        with k.local(form.term.dtype, lanes * vectors, "acc", Scope.REGISTER) as acc:

            def each(body: Callable[[Expr, LoopForm], None], inner: LoopForm = form) -> None:
                with k.loop("u", vectors, LoopKind.UNROLL) as u, k.loop("l", lanes, LoopKind.VECTOR) as lane:
                    at = add(mul(u, lanes), lane)
                    body(at, inner.substitute({var: add(base, at)}))

            assert form.combine is not None
            apply, identity = form.combine.apply, form.combine.identity(form.term.dtype)
            each(lambda at, f: k.store(acc, at, identity))
            with ExitStack() as loops:
                taps = {tap[0]: _tap(k, windows, tap, var, loops) for tap in form.reduce}
                each(lambda at, f: k.store(acc, at, apply(load(acc, at), f.term)), form.substitute(taps))
            each(lambda at, f: k.store(f.target, f.at, substitute(f.result, {form.acc: load(acc, at)})))

    while isinstance(extent, int) and lanes > max(extent, 1):
        lanes //= 2
    done: Expr = build.const(start)
    for size in dict.fromkeys((width, lanes, 1)):
        left = build.sub(build.index(end), done)
        if isinstance(extent, int) and extent >= lanes > size and left is not build.const(0):
            tile(build.const(start + extent - lanes), lanes, 1)
            return
        count = build.dim(build.floordiv(left, size))
        if count == 0:
            continue
        with k.loop("o", count) as step:
            tile(add(done, mul(step, size)), min(size, lanes), max(1, size // lanes) if size > 1 else 1)
        done = add(done, mul(build.index(count), size))


def _tap(k: KernelBuilder, windows: Windows, tap: Loop, row: Var | None, loops: ExitStack) -> Expr:
    """A value of a reduction loop, around which its loop is opened; bounded where tests of the window say so."""
    first, count = windows.range(tap, {}, skip=row)
    if first is build.const(0) and count is build.index(tap[1]):
        return loops.enter_context(k.loop(tap[0].name, tap[1]))
    return add(first, loops.enter_context(tap_loop(k, tap, count)))


def _reduce_along(k: KernelBuilder, form: LoopForm, lanes: int) -> None:
    """One output element; the last reduction axis in vectors that are combined at the end."""
    combine, dtype = form.combine, form.term.dtype
    assert combine is not None
    identity = combine.identity(dtype)
    *outer, (var, extent) = form.reduce if form.reduce else ((Var("k"), 1),)
    lanes = lanes if _is_even(form, var) and not form.in_order else 1
    vectors = MAX_ACCUMULATORS
    if lanes > 1 and is_costly(form.term):
        lanes, vectors = 2 * lanes, 1
    while lanes > 1 and isinstance(extent, int) and lanes * vectors > extent:
        vectors, lanes = (vectors // 2, lanes) if vectors > 1 else (1, lanes // 2)
    with k.local(dtype, 1, "sum", Scope.REGISTER) as total:
        k.store(total, 0, identity)
        if lanes > 1:
            with k.local(dtype, lanes * vectors, "acc", Scope.REGISTER) as acc:
                _reduce_vectors(k, form, tuple(outer), (var, extent), acc, total, lanes, vectors)
        else:
            over(k, form, form.reduce, lambda f: k.store(total, 0, combine.apply(load(total, 0), f.term)))
        k.store(form.target, form.at, substitute(form.result, {form.acc: load(total, 0)}))


def _reduce_vectors(
    k: KernelBuilder, form: LoopForm, outer: tuple[Loop, ...], last: Loop, acc: Buffer, total: Buffer, lanes: int, vectors: int
) -> None:
    """Combine into `vectors` vectors of partial results, then those into one number, in a fixed order.

    What is left of a known extent goes in ever smaller vectors if a term is costly, else one by one.
    """
    assert form.combine is not None
    apply, (var, extent) = form.combine.apply, last
    width = lanes * vectors

    def each(size: int, body: Callable[[Expr], None]) -> None:
        part = min(size, lanes)
        with k.loop("u", size // part, LoopKind.UNROLL) as u, k.loop("l", part, LoopKind.VECTOR) as lane:
            body(add(mul(u, part), lane))

    def step(inner: LoopForm, base: Expr, size: int) -> None:
        each(size, lambda at: k.store(acc, at, apply(load(acc, at), inner.substitute({var: add(base, at)}).term)))

    def row(inner: LoopForm) -> None:
        done: Expr = build.const(0)
        smaller = halves(lanes) if isinstance(extent, int) and is_costly(form.term) else ()
        for size in dict.fromkeys((width, lanes, *smaller)):
            count = build.dim(build.floordiv(build.sub(build.index(extent), done), size))
            if count != 0:
                with k.loop("o", count) as o:
                    step(inner, add(done, mul(o, size)), size)
            done = add(done, mul(build.index(count), size))
        rest = build.dim(build.sub(build.index(extent), done))
        if rest != 0:
            with k.loop("t", rest) as t:
                k.store(total, 0, apply(load(total, 0), inner.substitute({var: add(done, t)}).term))

    identity = form.combine.identity(form.term.dtype)
    each(width, lambda at: k.store(acc, at, identity))
    over(k, form, outer, row)
    _fold_vectors(k, form.combine, acc, total, lanes, vectors)


def _fold_vectors(k: KernelBuilder, combine: Combine, acc: Buffer, total: Buffer, lanes: int, vectors: int) -> None:
    """Combine all partial results into `total[0]`: halves of the vectors first, then halves of the lanes."""
    half = lanes * vectors // 2
    while half:
        width = min(half, lanes)
        with k.loop("u", half // width, LoopKind.UNROLL) as u, k.loop("l", width, LoopKind.VECTOR) as lane:
            at = add(mul(u, width), lane)
            k.store(acc, at, combine.apply(load(acc, at), load(acc, add(at, half))))
        half //= 2
    k.store(total, 0, combine.apply(load(total, 0), load(acc, 0)))
