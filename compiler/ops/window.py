"""Tables of signal processing: window functions and the mel weight matrix, by the formulas of the specification."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..dtypes import DType
from ..graph.nodes import TensorType
from ..kernel import build
from ..kernel.build import INDEX, const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import Dim, Expr, MathFn
from .extents import at_least
from .table import Nests, OpContext, OpDef, register
from .types import attr_dtype

# --- Windows ----------------------------------------------------------------------------------


def _output_dtype(ctx: OpContext) -> DType:
    return attr_dtype(ctx, "output_datatype") or DType.FLOAT32


def window(name: str, value: Callable[[Callable[[float], Expr]], Expr]) -> OpDef:
    """A row for a window function.

    Args:
        name: the operator.
        value: (t -> cos(2 pi t n / N)) -> the element n of a window of N.
    """

    def infer(ctx: OpContext) -> list[TensorType]:
        return [TensorType(_output_dtype(ctx), (ctx.number(0),))]

    def nests(ctx: OpContext) -> list[Nest]:
        (kind,) = infer(ctx)
        wide = DType.FLOAT64 if kind.dtype is DType.FLOAT64 else DType.FLOAT32
        size = kind.shape[0] if ctx.int_attr("periodic", 1) else build.dim(build.sub(build.index(kind.shape[0]), 1))

        def element(n: Expr) -> Expr:
            turn = build.div(build.cast(n, wide), build.cast(build.index(size), wide))
            result = value(lambda t: build.math_fn(MathFn.COS, build.mul(turn, 2 * math.pi * t)))
            return build.cast(result, kind.dtype)

        return [pointwise(kind.shape, element)]

    return OpDef(name, infer, Nests(nests), defaults={"periodic": 1, "output_datatype": 1})


def _hann(cosine: Callable[[float], Expr]) -> Expr:
    return build.sub(0.5, build.mul(cosine(1.0), 0.5))


def _hamming(cosine: Callable[[float], Expr]) -> Expr:
    return build.sub(25 / 46, build.mul(cosine(1.0), 21 / 46))


def _blackman(cosine: Callable[[float], Expr]) -> Expr:
    return build.add(build.sub(0.42, build.mul(cosine(1.0), 0.5)), build.mul(cosine(2.0), 0.08))


# --- MelWeightMatrix --------------------------------------------------------------------------

BINS, LENGTH, RATE, LOWER, UPPER = range(5)
F64 = DType.FLOAT64


def _mel_type(ctx: OpContext) -> list[TensorType]:
    rows: Dim = build.dim(build.add(build.floordiv(build.index(ctx.number(LENGTH)), 2), 1))
    return [TensorType(_output_dtype(ctx), (at_least(rows, 1), ctx.number(BINS)))]


def _mel_bin(ctx: OpContext, m: Expr) -> Expr:
    """The spectrogram bin in which corner `m` of the triangles lies; bins are equally far apart on the mel scale."""
    to_mel = 2595 / math.log(10)

    def mel(position: int) -> Expr:
        hertz = build.cast(ctx.read(position, *[const(0)] * ctx.rank(position)), F64)
        return build.mul(build.math_fn(MathFn.LOG1P, build.div(hertz, 700.0)), to_mel)

    low, high = mel(LOWER), mel(UPPER)
    corners = build.cast(build.add(build.index(ctx.number(BINS)), 2), F64)
    at = build.add(build.mul(build.cast(m, F64), build.div(build.sub(high, low), corners)), low)
    hertz = build.mul(build.math_fn(MathFn.EXPM1, build.div(at, to_mel)), 700.0)
    points = build.cast(build.add(build.index(ctx.number(LENGTH)), 1), F64)
    scaled = build.div(build.mul(points, hertz), build.cast(build.index(ctx.number(RATE)), F64))
    return build.cast(build.math_fn(MathFn.FLOOR, scaled), INDEX)


def _mel_nest(ctx: OpContext) -> list[Nest]:
    (kind,) = _mel_type(ctx)

    def element(j: Expr, i: Expr) -> Expr:
        left, center, right = (_mel_bin(ctx, build.add(i, k)) for k in range(3))
        width, fall = build.sub(center, left), build.sub(right, center)
        peak = build.select(build.eq(j, center), const(1.0, F64), const(0.0, F64))
        rising = build.select(build.eq(width, 0), peak, _part(build.sub(j, left), width))
        in_rise = build.logical_and(build.ge(j, left), build.le(j, center))
        in_fall = build.logical_and(build.ge(j, center), build.lt(j, right))
        value = build.select(in_fall, _part(build.sub(right, j), fall), build.select(in_rise, rising, const(0.0, F64)))
        return build.cast(value, kind.dtype)

    return [pointwise(kind.shape, element)]


def _part(distance: Expr, whole: Expr) -> Expr:
    return build.div(build.cast(distance, F64), build.cast(whole, F64))


register(
    window("HannWindow", _hann),
    window("HammingWindow", _hamming),
    window("BlackmanWindow", _blackman),
    OpDef("MelWeightMatrix", _mel_type, Nests(_mel_nest), defaults={"output_datatype": 1}),
)
