"""Slice: every step-th element from start to end, with all four operands known now or at run time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..kernel import build
from ..kernel.build import const
from ..kernel.nodes import Const, Dim, Expr
from .extents import at_least, is_at_least
from .movement import movement
from .table import OpContext, RawNode, register

FAR = 2**31 - 1
"""Bounds at or beyond this mean `as far as it goes`, whatever the extent."""


def _span(ctx: OpContext, axis: int) -> tuple[Expr, Expr, Expr]:
    """(start, end, step) of one axis as given, before clamping; the whole axis if it is not among `axes`."""
    start, end, step = const(0), build.index(ctx.shape(0)[axis]), const(1)
    starts = ctx.ints(1)
    ends = ctx.ints(2, len(starts))
    steps: Sequence[Dim] = ctx.ints(4, len(starts)) if ctx.has(4) else (1,) * len(starts)
    axes: Sequence[Dim] = ctx.ints(3, len(starts)) if ctx.has(3) else tuple(range(len(starts)))
    found: tuple[Expr, Expr, Expr] = (start, end, step)
    for position, given in enumerate(axes):
        here = _is_axis(ctx, build.index(given), axis)
        bounds = (build.index(starts[position]), build.index(ends[position]), build.index(steps[position]))
        found = tuple(build.select(here, new, old) for new, old in zip(bounds, found, strict=True))  # type: ignore[assignment]
    return found


def _is_axis(ctx: OpContext, given: Expr, axis: int) -> Expr:
    if isinstance(given, Const):
        return build.TRUE if ctx.normal_axis(int(given.value), ctx.rank(0)) == axis else build.FALSE
    return build.logical_or(build.eq(given, axis), build.eq(given, axis - ctx.rank(0)))


def _clamp_bound(bound: Expr, extent: Dim, low: int, high: Expr) -> Expr:
    """A start or end counted from the front and put into [low, high]."""
    d = build.index(extent)
    if isinstance(bound, Const):
        if bound.value >= FAR:
            return high
        if bound.value <= -FAR:
            return const(low)
        if bound.value < 0:
            shifted = build.add(d, int(bound.value))
            return shifted if is_at_least(shifted, 0) else build.maximum(shifted, low)
        return bound if is_at_least(build.sub(high, bound), 0) else build.minimum(bound, high)
    if is_at_least(build.sub(high, bound), 0) and is_at_least(bound, 0):
        return bound
    shifted = build.select(build.lt(bound, 0), build.add(bound, d), bound)
    return build.minimum(build.maximum(shifted, low), high)


def _first_and_count(ctx: OpContext, axis: int) -> tuple[Expr, Dim, Expr]:
    """(index of the first element, number of elements, step) of one axis."""
    extent = ctx.shape(0)[axis]
    start, end, step = _span(ctx, axis)
    if isinstance(step, Const):
        if step.value == 0:
            ctx.fail("E0203", f"the step of axis {axis} is 0")
        pick = _forward if step.value > 0 else _backward
        return (*pick(start, end, step, extent), step)
    ctx.require(build.ne(step, 0), f"the step of axis {axis} is 0")
    first, count = _forward(start, end, step, extent)
    last, uncount = _backward(start, end, step, extent)
    up = build.gt(step, 0)
    return build.select(up, first, last), build.dim(build.select(up, build.index(count), build.index(uncount))), step


def _forward(start: Expr, end: Expr, step: Expr, extent: Dim) -> tuple[Expr, Dim]:
    d = build.index(extent)
    stop = _clamp_bound(end, extent, 0, d)
    if stop is d and isinstance(start, Const) and abs(start.value) < FAR:
        # The usual cases x[k:] and x[-k:], with one clamp instead of two.
        rest = build.dim(build.sub(d, int(start.value))) if start.value >= 0 else _at_most(-int(start.value), d)
        rest = at_least(rest, 0)
        return (start if start.value >= 0 else build.sub(d, build.index(rest))), _count(build.index(rest), step)
    first = _clamp_bound(start, extent, 0, d)
    return first, _count(build.sub(stop, first), step)


def _at_most(count: int, extent: Expr) -> Dim:
    return count if is_at_least(build.sub(extent, count), 0) else build.dim(build.minimum(count, extent))


def _backward(start: Expr, end: Expr, step: Expr, extent: Dim) -> tuple[Expr, Dim]:
    last = build.sub(build.index(extent), 1)
    first, stop = _clamp_bound(start, extent, 0, last), _clamp_bound(end, extent, -1, last)
    if isinstance(extent, int) and extent == 0:
        return const(0), 0
    return first, _count(build.sub(first, stop), build.neg(step))


def _count(distance: Expr, step: Expr) -> Dim:
    count = distance if step is const(1) else build.ceildiv(distance, step)
    return build.dim(count) if is_at_least(count, 0) else build.dim(build.maximum(count, 0))


def _shape(ctx: OpContext) -> list[Dim]:
    return [_first_and_count(ctx, axis)[1] for axis in range(ctx.rank(0))]


def _source(ctx: OpContext, axes: tuple[Expr, ...]) -> list[Expr]:
    spans = [_first_and_count(ctx, axis) for axis in range(ctx.rank(0))]
    return [build.add(first, build.mul(i, step)) for i, (first, _, step) in zip(axes, spans, strict=True)]


def _attributes_to_inputs(node: RawNode) -> None:
    for name in ("starts", "ends", "axes"):
        if name in node.attrs:
            node.inputs.append(node.constant(np.array(node.attrs.pop(name), np.int64)))


register(movement("Slice", _shape, _source, adapt={10: _attributes_to_inputs}))
