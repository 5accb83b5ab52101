"""Which axes a reduction runs over, and the index maps that follow.

Axes are usually known; then loops run over them alone. Axes that are read while the model runs give a nest
with a reduction loop for every axis, whose extent is 1 where the axis turns out to be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.nodes import Dim, Expr, Var
from .table import OpContext

Indices = Callable[[tuple[Var, ...], tuple[Var, ...]], list[Expr]]


@dataclass(frozen=True, slots=True)
class ReductionSpace:
    """Loops of a reduction."""

    shape: tuple[Dim, ...]
    """Extents of the output."""
    extents: tuple[Dim, ...]
    """Extents of the reduction; empty if nothing is reduced."""
    operand: Indices
    """(output indices, reduction indices) -> indices into the operand."""


def reduction_space(ctx: OpContext) -> ReductionSpace:
    """The loops of a node with the inputs (data, axes) and the attributes keepdims and noop_with_empty_axes."""
    keepdims, shape = ctx.int_attr("keepdims") != 0, ctx.shape()
    axes = known_axes(ctx)
    if axes is None:
        return _run_time_space(ctx, keepdims)

    def operand(outer: tuple[Var, ...], inner: tuple[Var, ...]) -> list[Expr]:
        return operand_indices(len(shape), axes, keepdims, outer, inner)

    return ReductionSpace(reduced_shape(shape, axes, keepdims), tuple(shape[axis] for axis in axes), operand)


def known_axes(ctx: OpContext) -> tuple[int, ...] | None:
    """The axes that are reduced, sorted, or None if they are known only at run time."""
    rank = ctx.rank(0)
    is_given = ctx.has(1) and ctx.shape(1) != (0,)
    given: tuple[Dim, ...] | None = ctx.facts.contents(ctx.value(1)) if is_given else ()
    if given is None or not all(isinstance(axis, int) for axis in given):
        return None if rank else ()
    if not given:
        return () if ctx.int_attr("noop_with_empty_axes") else tuple(range(rank))
    return tuple(sorted({ctx.normal_axis(axis, rank) for axis in given if rank and isinstance(axis, int)}))


def reduced_shape(shape: tuple[Dim, ...], axes: Collection[int], keepdims: bool) -> tuple[Dim, ...]:
    """The shape after a reduction over known axes."""
    if keepdims:
        return tuple(1 if axis in axes else extent for axis, extent in enumerate(shape))
    return tuple(extent for axis, extent in enumerate(shape) if axis not in axes)


def reduced_type(ctx: OpContext) -> TensorType:
    """Type of the output if it has the input's element type."""
    return TensorType(ctx.dtype(0), reduction_space(ctx).shape)


def operand_indices(rank: int, axes: tuple[int, ...], keepdims: bool, outer: tuple[Var, ...], inner: tuple[Var, ...]) -> list[Expr]:
    """Indices into the operand of a reduction over known axes from the output's and the reduction's."""
    kept = iter([v for axis, v in enumerate(outer) if axis not in axes] if keepdims else outer)
    reduced = iter(inner)
    return [next(reduced) if axis in axes else next(kept) for axis in range(rank)]


# --- Axes that are known at run time only -----------------------------------------------------


def _run_time_space(ctx: OpContext, keepdims: bool) -> ReductionSpace:
    shape, rank = ctx.shape(), ctx.rank()
    axes = ctx.ints(1)
    if len(axes) > rank:
        ctx.fail("E0203", f"{len(axes)} axes cannot be reduced in rank {rank}")
    reduced = [_is_among(axis, axes, rank) for axis in range(rank)]
    extents = tuple(build.dim(build.select(r, build.index(d), 1)) for r, d in zip(reduced, shape, strict=True))
    if keepdims:
        kept = tuple(build.dim(build.select(r, 1, build.index(d))) for r, d in zip(reduced, shape, strict=True))

        def in_place(outer: tuple[Var, ...], inner: tuple[Var, ...]) -> list[Expr]:
            return [build.select(r, k, i) for r, k, i in zip(reduced, inner, outer, strict=True)]

        return ReductionSpace(kept, extents, in_place)

    places = _places(reduced)

    def operand(outer: tuple[Var, ...], inner: tuple[Var, ...]) -> list[Expr]:
        return [build.select(r, k, _pick(place, outer)) for r, k, place in zip(reduced, inner, places, strict=True)]

    return ReductionSpace(_kept_extents(shape, reduced, places, rank - len(axes)), extents, operand)


def _is_among(axis: int, axes: tuple[Dim, ...], rank: int) -> Expr:
    return build.logical_or(*(build.logical_or(build.eq(build.index(a), axis), build.eq(build.index(a), axis - rank)) for a in axes))


def _places(reduced: list[Expr]) -> list[Expr]:
    """For each axis how many kept ones stand before it."""
    places: list[Expr] = [build.const(0)]
    for flag in reduced[:-1]:
        places.append(build.add(places[-1], build.select(flag, build.const(0), build.const(1))))
    return places


def _pick(place: Expr, choices: tuple[Var, ...]) -> Expr:
    """`choices[place]`; 0 if there is none."""
    result: Expr = build.const(0)
    for k, choice in reversed(list(enumerate(choices))):
        result = build.select(build.eq(place, k), choice, result)
    return result


def _kept_extents(shape: tuple[Dim, ...], reduced: list[Expr], places: list[Expr], count: int) -> tuple[Dim, ...]:
    """Extent of each kept axis: the one input axis that lands on it."""
    extents: list[Dim] = []
    for k in range(count):
        extent: Expr = build.const(0)
        for d, flag, place in zip(shape, reduced, places, strict=True):
            here = build.logical_and(build.logical_not(flag), build.eq(place, k))
            extent = build.select(here, build.index(d), extent)
        extents.append(build.dim(extent))
    return tuple(extents)
