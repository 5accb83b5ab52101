"""How far above its output an input must lie for a kernel to read each element before it is written over.

A kernel that makes its output from front to back, and reads its input from front to back, needs little more memory than the
larger of the two: the output follows the input at a distance, the lead. The idea is that of diagonal memory optimization
(Blacker et al., "Diagonal Memory Optimisation for Machine Learning on Micro-controllers", 2020). The lead is computed from the
offsets in a loop form, for schedules that keep the order of its outer loops; whatever happens inside them may happen in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Value
from ...compiler.kernel.build import const
from ...compiler.kernel.nodes import Buffer, Const, Expr, Scope
from ...compiler.kernel.traverse import substitute
from ...compiler.program.stages import ScheduledKernel
from .loop_form import Loop, LoopForm, stride

MAX_STEPS = 1 << 18
"""Iterations of the outer loops up to which leads are looked for."""
BYTES = (DType.INT8, DType.UINT8)


def with_leads(scheduled: ScheduledKernel, form: LoopForm, outer: Sequence[Loop], output: Value, together: int = 1) -> ScheduledKernel:
    """Add the leads of a kernel.

    Args:
        scheduled: runs `outer` in order, outermost first, and all else of `form` inside of them.
        form: all that the kernel loads and stores.
        outer: the first loops of the form, or some of them.
        output: what the kernel makes.
        together: number of iterations of the joined outer loops whose accesses may be mixed.
    """
    leads: list[int | None] = []
    for value, buffer in zip(scheduled.operands, scheduled.kernel.buffers, strict=True):
        is_input = value is not output and buffer is not form.target and buffer.scope is Scope.GLOBAL
        leads.append(lead_bytes(form, outer, buffer, together) if is_input and are_aliases(buffer.dtype, form.target.dtype) else None)
    if all(lead is None for lead in leads):
        return scheduled
    found = {buffer for buffer, lead in zip(scheduled.kernel.buffers, leads, strict=True) if lead is not None}
    kernel = replace(scheduled.kernel, overlapping=frozenset({form.target, *found}))
    return replace(scheduled, kernel=kernel, leads=tuple(leads))


def are_aliases(one: DType, other: DType) -> bool:
    """C compilers assume that objects of different types do not overlap, but for bytes."""
    return one is other or (one in BYTES and other in BYTES)


def lead_bytes(form: LoopForm, outer: Sequence[Loop], buffer: Buffer, together: int = 1) -> int | None:
    """The lead of one input; None if it is not known, or no less than the output is long.

    With `w(s)` the end of what is written in step `s` of the outer loops, and `r(s)` the start of what is read, it is the
    maximum of `w(s) - r(t)` over all steps `t >= s`.
    """
    loads = [load for load in form.loads() if load.buffer is buffer]
    steps = math.prod(extent for _, extent in outer if isinstance(extent, int))
    if not loads or not 0 < steps <= MAX_STEPS or not all(isinstance(extent, int) for _, extent in (*outer, *form.axes, *form.reduce)):
        return None
    written = _bounds(form.at, form, outer, at_end=True)
    reads = [_bounds(load.index, form, outer, at_end=False) for load in loads]
    if written is None or any(read is None for read in reads):
        return None
    read = np.maximum(np.min(np.stack([r for r in reads if r is not None]), axis=0), 0)
    lead = _lead((written + 1) * form.target.dtype.bytes, read * buffer.dtype.bytes, together)
    size = form.target.size * form.target.dtype.bytes if isinstance(form.target.size, int) else 0
    return lead if lead < size else None


def _lead(written: np.ndarray, read: np.ndarray, together: int) -> int:
    rest = -len(read) % together
    ends = np.pad(written, (0, rest), mode="edge").reshape(-1, together).max(axis=1)
    begins = np.pad(read, (0, rest), mode="edge").reshape(-1, together).min(axis=1)
    later = np.minimum.accumulate(begins[::-1])[::-1]
    return int((ends - later).max())


def _bounds(offset: Expr, form: LoopForm, outer: Sequence[Loop], *, at_end: bool) -> np.ndarray | None:
    """For each step of the outer loops the least or greatest offset that the other loops reach; None if it is not linear."""
    loops = dict((*form.axes, *form.reduce))
    factors = {var: stride(offset, var) for var in loops}
    start = substitute(offset, {var: const(0) for var in loops})
    if any(factor is None for factor in factors.values()) or not isinstance(start, Const):
        return None
    total = np.full((1,), int(start.value), np.int64)
    for var, extent in outer:
        total = np.add.outer(total, np.arange(int(extent)) * (factors[var] or 0)).reshape(-1)  # type: ignore[arg-type]
    inner = {var: extent for var, extent in loops.items() if all(var is not other for other, _ in outer)}
    ends = [(factors[var] or 0) * (int(extent) - 1) for var, extent in inner.items()]  # type: ignore[arg-type]
    return total + sum(max(end, 0) if at_end else min(end, 0) for end in ends)
