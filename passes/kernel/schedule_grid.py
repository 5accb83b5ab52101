"""The schedule of maps and single reductions on a grid of threads.

A map has one thread for each element, neighbours in memory being neighbours in a warp. A reduction has one
thread for each result where it is short or where neighbouring results lie beside each other, else one block:
each thread combines every T-th term, and a tree in shared memory the threads' parts. The order of combining
depends on the extents alone, so that results are the same on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.build import add, const, load, mul
from ...compiler.kernel.builder import KernelBuilder, block
from ...compiler.kernel.nodes import Barrier, BinaryOp, Buffer, Dim, Expr, If, Let, LoopKind, Scope, Var
from ...compiler.kernel.traverse import substitute
from ...compiler.program.stages import Group, ScheduledKernel
from .emit_loops import over, prefers_along
from .loop_form import Loop, LoopForm, collapse
from .place_on_grid import MAX_THREADS, WARP
from .schedule_rows import Binder, total_work

SHORT_REDUCTION = 64
"""Terms up to which one thread computes a result alone."""
FEW_RESULTS = 2048
"""Results up to which a long reduction gets a block for each, whatever its memory looks like."""
TERMS_PER_THREAD = 4
"""Terms that a thread of a block should have at least."""


def schedule_grid(group: Group, is_constant: Callable[[Value], bool]) -> ScheduledKernel:
    """Schedule a group of one stage."""
    binder = Binder(group, is_constant)
    form = collapse((binder.form(group.stages[0]),))[0][0]
    k = KernelBuilder()
    results = build.product(extent for _, extent in form.axes)
    if form.combine is not None and wants_block(form, results):
        schedule = _emit_blocks(k, form, results)
    else:
        schedule = _emit_threads(k, form, results)
    kernel = k.kernel("grid", tuple(binder.arguments.values()), group.stages[0].loc, schedule)
    return ScheduledKernel(kernel, tuple(binder.values), results, build.dim(total_work(group)))


def wants_block(form: LoopForm, results: Dim) -> bool:
    """True if each result of a reduction should be computed by a block rather than by a thread."""
    depth = build.product(extent for _, extent in form.reduce)
    if form.in_order or (isinstance(depth, int) and depth <= SHORT_REDUCTION):
        return False
    if not form.axes or (isinstance(results, int) and results <= FEW_RESULTS):
        return True
    return prefers_along(form, form.axes[-1])


def _emit_threads(k: KernelBuilder, form: LoopForm, results: Dim) -> str:
    """One thread for each result; `place_on_grid` makes the grid."""
    with k.loop("i", results, LoopKind.PARALLEL) as at:
        emit_element(k, at_index(form, form.axes, at))
    return "grid(thread=element)"


def _emit_blocks(k: KernelBuilder, form: LoopForm, results: Dim) -> str:
    """One block for each result."""
    threads = threads_for(build.product(extent for _, extent in form.reduce))
    with k.loop("block", results, LoopKind.GRID) as at, k.loop("thread", threads, LoopKind.BLOCK) as thread:
        emit_block_reduction(k, at_index(form, form.axes, at), thread, threads)
    return f"grid(block=element, threads={threads})"


def at_index(form: LoopForm, loops: tuple[Loop, ...], at: Expr) -> LoopForm:
    """The form at one point of some loops, which is numbered in the order of memory."""
    values = build.delinearize(at, tuple(extent for _, extent in loops))
    return form.substitute(dict(zip((var for var, _ in loops), values, strict=True)))


def threads_for(work: Dim) -> int:
    """Threads of a block that shares this many terms: a power of two."""
    threads = WARP
    while threads < MAX_THREADS and (not isinstance(work, int) or threads * TERMS_PER_THREAD < work):
        threads *= 2
    return threads


@contextmanager
def strided(k: KernelBuilder, extent: Dim, thread: Expr, threads: int) -> Iterator[Expr]:
    """The iterations of a loop, dealt out to the threads of a block one by one."""
    if isinstance(extent, int) and extent <= threads:
        if extent == threads:
            yield thread
            return
        with k.when(build.lt(thread, extent)):
            yield thread
        return
    with k.loop("step", build.dim(build.ceildiv(extent, threads))) as step:
        at = add(mul(step, threads), thread)
        if isinstance(extent, int) and extent % threads == 0:
            yield at
            return
        var = build.loop_var(k.name("i"), extent)
        with k.nested() as body:
            yield var
        k.emit(If(build.lt(at, build.index(extent)), Let(var, at, block(body))))


# --- One result -------------------------------------------------------------------------------


def emit_element(k: KernelBuilder, form: LoopForm) -> None:
    """One result on one thread: the form has no loops but those of its reduction."""
    if form.combine is None:
        k.store(form.target, form.at, form.result)
        return
    with k.local(form.term.dtype, 1, "acc", Scope.REGISTER) as acc:
        _accumulate(k, form, acc, lambda body: over(k, form, form.reduce, body))
        k.store(form.target, form.at, substitute(form.result, {form.acc: load(acc, 0)}))


def _accumulate(k: KernelBuilder, form: LoopForm, acc: Buffer, each: Callable[[Callable[[LoopForm], None]], None]) -> None:
    combine = form.combine
    assert combine is not None
    k.store(acc, 0, combine.identity(form.term.dtype))
    each(lambda inner: k.store(acc, 0, combine.apply(load(acc, 0), inner.term)))


def emit_block_reduction(k: KernelBuilder, form: LoopForm, thread: Var, threads: int) -> None:
    """One result on all threads of a block; the caller puts barriers between this and other uses of shared memory."""
    combine = form.combine
    assert combine is not None
    with k.local(form.term.dtype, threads, "parts", Scope.SHARED) as parts:
        with k.local(form.term.dtype, 1, "acc", Scope.REGISTER) as acc:
            _accumulate(k, form, acc, lambda body: _dealt(k, form, thread, threads, body))
            k.store(parts, thread, load(acc, 0))
        k.emit(Barrier())
        with k.loop("level", threads.bit_length() - 1) as level:
            half = build.binary(BinaryOp.SHR, const(threads // 2), level)
            with k.when(build.lt(thread, half)):
                k.store(parts, thread, combine.apply(load(parts, thread), load(parts, add(thread, half))))
            k.emit(Barrier())
        with k.when(build.eq(thread, 0)):
            k.store(form.target, form.at, substitute(form.result, {form.acc: load(parts, 0)}))


def _dealt(k: KernelBuilder, form: LoopForm, thread: Var, threads: int, body: Callable[[LoopForm], None]) -> None:
    with strided(k, build.product(extent for _, extent in form.reduce), thread, threads) as at:
        body(at_index(form, form.reduce, at))
