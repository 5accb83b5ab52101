"""Where in the input a position of a resized output lies: exact fractions wherever sizes and scales allow.

A scale that is a ratio of integers gives coordinates `(a * o + b) / d` in integers, whose floor and
rounding need no floats at all and which stay affine in `o` (`o // 2` for doubling). Scales and regions
that are floats known only at run time give float32 coordinates.
Formulas: the attribute `coordinate_transformation_mode` of Resize.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..dtypes import DType
from ..kernel import build
from ..kernel.build import INDEX, const
from ..kernel.nodes import BinaryOp, Const, Dim, Expr, MathFn

F32 = DType.FLOAT32


@dataclass(frozen=True, slots=True)
class Fraction:
    """The coordinate `(a * o + b) / d`, with `d` positive (or 0 for a coordinate of 0)."""

    o: Expr
    a: Expr
    b: Expr
    d: Expr

    def floor(self, shift: int = 0, of: int = 1) -> Expr:
        """`floor(x + shift / of)`."""
        a, b, d = build.mul(self.a, of), build.add(build.mul(self.b, of), build.mul(self.d, shift)), build.mul(self.d, of)
        if isinstance(a, Const) and isinstance(d, Const):
            common = math.gcd(int(a.value), int(d.value)) or 1
            a, b, d = const(int(a.value) // common), build.floordiv(b, const(common)), const(int(d.value) // common)
        return build.floordiv(build.add(build.mul(a, self.o), b), d)

    def ceil(self, shift: int = 0, of: int = 1) -> Expr:
        """`ceil(x + shift / of)`."""
        negated = Fraction(self.o, build.neg(self.a), build.neg(self.b), self.d)
        return build.neg(negated.floor(-shift, of))

    def above_floor(self) -> Expr:
        """`x - floor(x)` as float32."""
        numerator = build.add(build.mul(self.a, self.o), self.b)
        rest = build.sub(numerator, build.mul(self.floor(), self.d))
        return build.div(build.cast(rest, F32), build.cast(build.maximum(self.d, 1), F32))


@dataclass(frozen=True, slots=True)
class Real:
    """A coordinate that is a float32 expression."""

    x: Expr

    def floor(self, shift: int = 0, of: int = 1) -> Expr:
        """`floor(x + shift / of)`."""
        return build.cast(build.math_fn(MathFn.FLOOR, build.add(self.x, shift / of)), INDEX)

    def ceil(self, shift: int = 0, of: int = 1) -> Expr:
        """`ceil(x + shift / of)`."""
        return build.cast(build.math_fn(MathFn.CEIL, build.add(self.x, shift / of)), INDEX)

    def above_floor(self) -> Expr:
        """`x - floor(x)`."""
        return build.sub(self.x, build.math_fn(MathFn.FLOOR, self.x))


Coordinate = Fraction | Real


def nearest(x: Coordinate, mode: str) -> Expr | None:
    """The index that a coordinate is rounded to; None for an unknown mode."""
    match mode:
        case "floor":
            return x.floor()
        case "ceil":
            return x.ceil()
        case "round_prefer_floor":
            return x.ceil(-1, 2)
        case "round_prefer_ceil":
            return x.floor(1, 2)
    return None


@dataclass(frozen=True, slots=True)
class Scale:
    """Output extent per input extent: `p / q` where that is a ratio of integers, else the float32 `real`."""

    p: Dim = 1
    q: Dim = 1
    real: Expr | None = None

    @property
    def is_one(self) -> bool:
        """True if the axis keeps its extent."""
        return self.real is None and self.p == self.q

    def value(self) -> Expr:
        """The scale as float32."""
        if self.real is not None:
            return self.real
        return build.div(build.cast(build.index(self.p), F32), build.cast(build.index(self.q), F32))


def transform(mode: str, o: Expr, extent: Dim, output: Dim, scale: Scale, roi: tuple[Expr, Expr] | None) -> Coordinate | None:
    """The input coordinate of output position `o`; None for an unknown mode.

    Args:
        mode: `coordinate_transformation_mode`.
        o: position along the output axis.
        extent: extent of the input axis.
        output: extent of the output axis.
        scale: output extent over input extent.
        roi: start and end of the region in units of the input axis, for `tf_crop_and_resize`.
    """
    if mode == "tf_crop_and_resize":
        return None if roi is None else _crop(o, extent, output, roi)
    make = _real if scale.real is not None else _fraction
    return make(mode, o, build.index(extent), build.index(output), scale)


def _fraction(mode: str, o: Expr, extent: Expr, output: Expr, scale: Scale) -> Coordinate | None:
    p, q = build.index(scale.p), build.index(scale.q)
    half = Fraction(o, build.mul(q, 2), build.sub(q, p), build.mul(p, 2))
    match mode:
        case "asymmetric":
            return Fraction(o, q, const(0), p)
        case "half_pixel":
            return half
        case "tf_half_pixel_for_nn":
            return Fraction(o, build.mul(q, 2), q, build.mul(p, 2))
        case "pytorch_half_pixel":
            single = build.eq(output, 1)
            return Fraction(o, build.select(single, const(0), half.a), build.select(single, const(0), half.b), half.d)
        case "half_pixel_symmetric":
            start = build.add(build.mul(q, build.sub(1, output)), build.mul(p, build.sub(extent, 1)))
            return Fraction(o, half.a, start, half.d)
        case "align_corners":
            span = build.sub(build.mul(p, extent), q)
            return Fraction(o, build.mul(build.sub(extent, 1), q), const(0), span)
    return None


def _real(mode: str, o: Expr, extent: Expr, output: Expr, scale: Scale) -> Coordinate | None:
    at, factor, n, m = build.cast(o, F32), scale.value(), build.cast(extent, F32), build.cast(output, F32)
    half = build.sub(build.div(build.add(at, 0.5), factor), 0.5)
    match mode:
        case "asymmetric":
            return Real(build.div(at, factor))
        case "half_pixel":
            return Real(half)
        case "tf_half_pixel_for_nn":
            return Real(build.div(build.add(at, 0.5), factor))
        case "pytorch_half_pixel":
            return Real(build.select(build.eq(output, 1), const(0.0, F32), half))
        case "half_pixel_symmetric":
            adjustment = build.div(m, build.mul(factor, n))
            return Real(build.add(build.mul(build.mul(n, 0.5), build.sub(const(1.0, F32), adjustment)), half))
        case "align_corners":
            span = build.sub(build.mul(factor, n), 1.0)
            moved = build.div(build.mul(at, build.sub(n, 1.0)), span)
            return Real(build.select(build.compare(BinaryOp.EQ, span, 0.0), const(0.0, F32), moved))
    return None


def _crop(o: Expr, extent: Dim, output: Dim, roi: tuple[Expr, Expr]) -> Coordinate:
    start, end = roi
    last = build.cast(build.sub(build.index(extent), 1), F32)
    steps = build.cast(build.sub(build.index(output), 1), F32)
    moved = build.div(build.mul(build.mul(build.cast(o, F32), build.sub(end, start)), last), build.maximum(steps, 1.0))
    several = build.add(build.mul(start, last), moved)
    single = build.mul(build.mul(build.add(start, end), 0.5), last)
    return Real(build.select(build.gt(build.index(output), 1), several, single))
