"""A nest: what an operator computes for one output element, before anything is said about how.

A nest is the form in which operators are defined and fused: an index space, perhaps reduction axes, and
scalar expressions with `Read` slots for the operands. Schedules turn (groups of) nests into kernels.

    output[axes] = finish(acc = combine over reduce_axes of body, axes)       with a reduction
    output[axes] = body                                                       without
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..dtypes import DType, Kind
from . import build
from .build import const
from .nodes import Const, Dim, Expr, Var


class Combine(enum.Enum):
    """How the terms of a reduction are combined."""

    SUM = "sum"
    PROD = "prod"
    MAX = "max"
    MIN = "min"
    LARGEST = "largest"
    """The largest number: a maximum of floats that passes over NaN, which takes one instruction on most targets."""

    def identity(self, dtype: DType) -> Const:
        """The value that changes nothing, as a constant of `dtype`."""
        if self is Combine.SUM:
            return const(0, dtype)
        if self is Combine.PROD:
            return const(1, dtype)
        largest = self is Combine.MIN
        if dtype.is_float:
            return const(float("inf") if largest else float("-inf"), dtype)
        return const(dtype.limits[1 if largest else 0], dtype)

    def apply(self, a: Expr, b: Expr) -> Expr:
        """Combine two partial results; bool sums and products are `or` and `and`."""
        if a.dtype.kind is Kind.BOOL:
            return (build.logical_or if self in (Combine.SUM, Combine.MAX) else build.logical_and)(a, b)
        return {
            Combine.SUM: build.add,
            Combine.PROD: build.mul,
            Combine.MAX: build.maximum,
            Combine.MIN: build.minimum,
            Combine.LARGEST: _larger,
        }[self](a, b)


def _larger(a: Expr, b: Expr) -> Expr:
    """`b` if it is larger than `a`, which NaN is not."""
    return build.select(build.gt(b, a), b, a)


@dataclass(frozen=True, slots=True)
class Nest:
    """Definition of one output tensor by its elements.

    Invariants: `axes` and `reduce_axes` are distinct variables made by `loop_var`; `finish` uses no
    reduction axis; `acc` occurs in `finish` only.
    """

    axes: tuple[Var, ...]
    """One variable for each dimension of the output."""
    shape: tuple[Dim, ...]
    """Extents of the axes: the output's logical shape."""
    body: Expr
    """The element, or the term that is combined; uses `Read` slots."""
    dtype: DType
    """Element type of the output."""
    reduce_axes: tuple[Var, ...] = ()
    reduce_shape: tuple[Dim, ...] = ()
    combine: Combine | None = None
    """None without a reduction."""
    finish: Expr | None = None
    """What becomes of the combined value `acc(nest)`; None to store it as it is."""
    zero_code: int | None = 0
    """The stored number that stands for 0 in the data of a sum of products, None if it is not known; it only says which numbers
    are frequent."""
    in_order: bool = False
    """Whether terms are combined one by one in the order of the axes, as floats; schedules may split other reductions."""

    @property
    def acc(self) -> Var:
        """The combined value, for use in `finish`."""
        return Var("acc", self.body.dtype)

    @property
    def result(self) -> Expr:
        """The expression that is stored, in terms of `acc` if there is a reduction."""
        if self.combine is None:
            return self.body
        return self.acc if self.finish is None else self.finish

    def with_result(self, result: Expr) -> Nest:
        """Return the nest storing `result` instead (an epilogue was applied)."""
        if self.combine is None:
            return replace(self, body=result, dtype=result.dtype)
        return replace(self, finish=result, dtype=result.dtype)


def pointwise(shape: tuple[Dim, ...], element: Callable[..., Expr]) -> Nest:
    """Make a nest without reduction; `element` is called with one index for each axis."""
    axes = make_axes(shape)
    body = element(*axes)
    return Nest(axes, shape, body, body.dtype)


def reduction(
    shape: tuple[Dim, ...],
    reduce_shape: tuple[Dim, ...],
    combine: Combine,
    term: Callable[[tuple[Var, ...], tuple[Var, ...]], Expr],
    finish: Callable[[Expr, tuple[Var, ...]], Expr] | None = None,
    *,
    in_order: bool = False,
) -> Nest:
    """Make a nest with a reduction.

    Args:
        shape: extents of the output.
        reduce_shape: extents of the reduction axes.
        combine: how terms are combined.
        term: (output indices, reduction indices) -> the term.
        finish: (combined value, output indices) -> the element; None for the combined value.
        in_order: as in `Nest`.
    """
    axes, reduce_axes = make_axes(shape), make_axes(reduce_shape, "k")
    body = term(axes, reduce_axes)
    nest = Nest(axes, shape, body, body.dtype, reduce_axes, reduce_shape, combine, in_order=in_order)
    return nest if finish is None else nest.with_result(finish(nest.acc, axes))


def make_axes(shape: tuple[Dim, ...], prefix: str = "i") -> tuple[Var, ...]:
    """Return one loop variable for each extent: `i0, i1, ...`."""
    return tuple(build.loop_var(f"{prefix}{k}", extent) for k, extent in enumerate(shape))
