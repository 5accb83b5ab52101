"""Interpolation along one axis: the taps that a coordinate reads and their weights.

Weights of linear and cubic interpolation, plain and stretched over several input elements for reducing
without aliasing, as the Resize and GridSample operators define them (cubic: R. Keys, 1981).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..kernel import build
from ..kernel.build import const
from ..kernel.nodes import Dim, Expr
from .coordinates import F32, Coordinate


@dataclass(frozen=True, slots=True)
class Tap:
    """One element that takes part: its index, which may lie outside the axis, and its weight."""

    at: Expr
    weight: Expr


def linear_taps(x: Coordinate) -> list[Tap]:
    """The two neighbours of a coordinate."""
    low, t = x.floor(), x.above_floor()
    return [Tap(low, build.sub(const(1.0, F32), t)), Tap(build.add(low, 1), t)]


def cubic_taps(x: Coordinate, a: float) -> list[Tap]:
    """The four neighbours of a coordinate; `a` is the attribute `cubic_coeff_a`."""
    low, t = x.floor(), x.above_floor()
    away = build.sub(const(1.0, F32), t)
    weights = (_outer(build.add(t, 1.0), a), _inner(t, a), _inner(away, a), _outer(build.add(away, 1.0), a))
    return [Tap(build.add(low, k - 1), w) for k, w in enumerate(weights)]


def _inner(x: Expr, a: float) -> Expr:
    """`(a + 2) |x|^3 - (a + 3) |x|^2 + 1` for |x| <= 1."""
    return build.add(build.mul(build.mul(build.sub(build.mul(x, a + 2), a + 3), x), x), 1.0)


def _outer(x: Expr, a: float) -> Expr:
    """`a |x|^3 - 5a |x|^2 + 8a |x| - 4a` for 1 < |x| < 2."""
    return build.sub(build.mul(build.add(build.mul(build.sub(build.mul(x, a), 5 * a), x), 8 * a), x), 4 * a)


def linear_weight(x: Expr) -> Expr:
    """The weight of an element at distance `x`."""
    return build.maximum(build.sub(const(1.0, F32), build.absolute(x)), 0.0)


def cubic_weight(x: Expr, a: float) -> Expr:
    """The weight of an element at distance `x`."""
    x = build.absolute(x)
    far = build.select(build.lt(x, 2.0), _outer(x, a), const(0.0, F32))
    return build.select(build.le(x, 1.0), _inner(x, a), far)


def without_outside(taps: Sequence[Tap], extent: Dim) -> list[Tap]:
    """Set the weights of taps outside [0, extent) to 0 and normalize the others."""
    kept = [Tap(t.at, mask_outside(t, extent)) for t in taps]
    total = sum_of([t.weight for t in kept])
    return [Tap(t.at, build.div(t.weight, total)) for t in kept]


def mask_outside(tap: Tap, extent: Dim) -> Expr:
    """The weight of a tap, 0 if it lies outside [0, extent)."""
    inside = build.logical_and(build.ge(tap.at, 0), build.lt(tap.at, build.index(extent)))
    return build.select(inside, tap.weight, const(0.0, F32))


def sum_of(terms: Sequence[Expr]) -> Expr:
    """The terms added from left to right."""
    result = terms[0]
    for term in terms[1:]:
        result = build.add(result, term)
    return result


def blend(taps: Sequence[Sequence[Tap]], read: Callable[[tuple[Expr, ...]], Expr], at: tuple[Expr, ...] = ()) -> Expr:
    """Interpolate over several axes, the innermost first.

    Args:
        taps: the taps of each axis.
        read: (one index for each axis) -> float32 element.
        at: indices of the axes that are done.
    """
    if not taps:
        return read(at)
    parts = [(tap.weight, blend(taps[1:], read, (*at, tap.at))) for tap in taps[0]]
    return sum_of([build.mul(build.cast(weight, part.dtype), part) for weight, part in parts])
