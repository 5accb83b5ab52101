"""The discrete Fourier transform along an axis, for DFT and STFT.

A transform is a sum over a table of the roots of unity: `X[k] = sum over n of x[n] * w[(k * n) mod N]`. The
table is a constant if the length is known; the product `k * n` is reduced exactly, in integers.

A known length with small factors is transformed in stages, one a factor, with turns between them (Cooley and Tukey, "An Algorithm
for the Machine Calculation of Complex Fourier Series", 1965; in the order of Stockham, so that the result needs no sorting).
After stages whose factors have the product `p`, there are `p` signals of the length `N / p` behind one another; a stage with the
factor `r` makes `r` signals of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Combine, Nest, pointwise, reduction
from ..kernel.nodes import Dim, Expr, MathFn
from .contraction import accumulator, contract
from .table import Nests, OpContext, OpDef, RewriteBuilder, register

# --- A stage ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Stage:
    """One factor of the length: the whole length where it is transformed at once."""

    length: Dim
    factor: Dim
    done: Dim
    """The product of the factors of the stages before."""

    @staticmethod
    def of(ctx: OpContext) -> _Stage:
        """The stage that a node is, by its operands `roots` and `[factor, done]`."""
        length = ctx.shape(1)[0]
        factor, done = ctx.ints(2) if ctx.has(2) else (length, 1)
        return _Stage(length, factor, done)

    @property
    def rest(self) -> Expr:
        """The length of a signal after this stage."""
        return build.floordiv(build.index(self.length), build.mul(build.index(self.factor), build.index(self.done)))

    def place(self, at: Expr) -> tuple[Expr, Expr, Expr]:
        """What an index of the result stands for: the signal it comes from, which of its parts, and the index therein."""
        done, signal = build.index(self.done), build.floordiv(at, self.rest)
        return build.floormod(signal, done), build.floordiv(signal, done), build.floormod(at, self.rest)

    def source(self, signal: Expr, tap: Expr, sample: Expr) -> Expr:
        """The index in the operand."""
        part = build.add(build.mul(signal, build.index(self.factor)), tap)
        return build.add(build.mul(part, self.rest), sample)

    def root(self, part: Expr, tap: Expr) -> Expr:
        """Which root of unity a tap is multiplied with."""
        factor = build.index(self.factor)
        return build.mul(build.floormod(build.mul(part, tap), factor), build.floordiv(build.index(self.length), factor))


def _transform_type(ctx: OpContext) -> list[TensorType]:
    axis, shape = ctx.int_attr("axis"), ctx.shape(0)
    parts = build.index(shape[-1])
    ctx.require(build.logical_and(build.ge(parts, 1), build.le(parts, 2)), "the last axis must hold a real or a complex number")
    length = ctx.shape(1)[0]
    half = build.dim(build.add(build.floordiv(build.index(length), 2), 1))
    to_real = ctx.int_attr("inverse") and ctx.int_attr("onesided")
    count = half if ctx.int_attr("onesided") and not to_real else length
    return [TensorType(ctx.dtype(0), (*shape[:axis], count, *shape[axis + 1 : -1], 1 if to_real else 2))]


def _transform(ctx: OpContext) -> list[Nest]:
    """A stage of the forward or inverse transform along an axis of `[..., 1 or 2]` (real, or real and imaginary parts)."""
    axis, dtype, wide = ctx.int_attr("axis"), ctx.dtype(0), accumulator(ctx.dtype(0))
    stage, given, (kind,) = _Stage.of(ctx), ctx.shape(0)[axis], _transform_type(ctx)
    length, parts = stage.length, ctx.shape(0)[-1]
    mirrored = bool(ctx.int_attr("inverse") and ctx.int_attr("onesided"))

    def part(axes: tuple[Expr, ...], n: Expr, which: int) -> Expr:
        """Real or imaginary part of sample `n`; 0 beyond the end; by symmetry for the half that is not stored."""
        at = n
        mirror: Expr = build.FALSE
        if mirrored:
            half = build.floordiv(build.index(length), 2)
            mirror = build.gt(n, half)
            at = build.select(mirror, build.sub(build.index(length), n), n)
        x = build.cast(ctx.read(0, *axes[:axis], at, *axes[axis + 1 : -1], const(which)), wide)
        if which == 1 and not isinstance(parts, int):  # it may turn out to be real
            x = build.select(build.gt(build.index(parts), 1), x, const(0, wide))
        if mirrored and which == 1:
            is_own = build.logical_or(build.eq(n, 0), build.eq(build.mul(n, 2), build.index(length)))
            x = build.select(is_own, const(0, wide), build.select(mirror, build.neg(x), x))
        if isinstance(length, int) and isinstance(given, int) and given >= (length // 2 + 1 if mirrored else length):
            return x
        return build.select(build.lt(at, build.index(given)), x, const(0, wide))

    def term(axes: tuple[Expr, ...], taps: tuple[Expr, ...]) -> Expr:
        (tap,) = taps
        signal, which, sample = stage.place(axes[axis])
        n = stage.source(signal, tap, sample)
        root = _root(ctx, stage.root(which, tap), wide)
        real = part(axes, n, 0)
        if parts == 1:
            return build.mul(real, build.select(build.eq(axes[-1], 0), *root))
        turned = _turned((real, part(axes, n, 1)), root)
        return turned[0] if kind.shape[-1] == 1 else build.select(build.eq(axes[-1], 0), *turned)

    def finish(acc: Expr, axes: tuple[Expr, ...]) -> Expr:
        if ctx.int_attr("of_real"):
            is_real = build.eq(build.floormod(build.mul(axes[axis], 2), build.index(length)), 0)
            acc = build.select(build.logical_and(is_real, build.eq(axes[-1], 1)), const(0, wide), acc)
        return build.cast(build.div(acc, build.cast(build.index(length), wide)) if ctx.int_attr("scaled") else acc, dtype)

    return [contract(kind.shape, (stage.factor,), term, finish)]


def _turn(ctx: OpContext) -> list[Nest]:
    """What a stage has made, each part `d` of a signal turned by `d * sample` of the roots that are left."""
    axis, stage = ctx.int_attr("axis"), _Stage.of(ctx)

    def element(*axes: Expr) -> Expr:
        _, which, sample = stage.place(axes[axis])
        root = _root(ctx, build.mul(build.mul(which, sample), build.index(stage.done)), ctx.dtype(0))
        real, imaginary = (ctx.read(0, *axes[:-1], const(i)) for i in range(2))
        return build.select(build.eq(axes[-1], 0), *_turned((real, imaginary), root))

    return [pointwise(ctx.shape(0), element)]


def _root(ctx: OpContext, index: Expr, dtype: DType) -> tuple[Expr, Expr]:
    """Real and imaginary part of what a sample is multiplied with: a root of the table, or its conjugate in a forward transform."""
    cosine, sine = (build.cast(ctx.read(1, index, const(i)), dtype) for i in range(2))
    return cosine, sine if ctx.int_attr("inverse") else build.neg(sine)


def _turned(x: tuple[Expr, Expr], root: tuple[Expr, Expr]) -> tuple[Expr, Expr]:
    """A product of complex numbers."""
    real = build.sub(build.mul(x[0], root[0]), build.mul(x[1], root[1]))
    return real, build.add(build.mul(x[1], root[0]), build.mul(x[0], root[1]))


# --- Roots of unity ---------------------------------------------------------------------------


def _roots_type(ctx: OpContext) -> list[TensorType]:
    return [TensorType(DType.FLOAT32, (ctx.ints(0)[0], 2))]


def _roots(ctx: OpContext) -> list[Nest]:
    """Cosine and sine of `2 pi k / N` for a length that is known when the model runs.

    The angle is reduced to an eighth of a turn in integers, so that zeros and ones are exact.
    """
    (length,) = ctx.ints(0)
    whole = build.index(length)

    def element(k: Expr, which: Expr) -> Expr:
        quarter = build.floordiv(build.add(build.mul(k, 8), whole), build.mul(whole, 2))  # the nearest one
        rest = build.sub(build.mul(k, 4), build.mul(quarter, whole))
        share = build.div(build.cast(rest, DType.FLOAT64), build.cast(whole, DType.FLOAT64))
        angle = build.cast(build.mul(share, math.pi / 2), DType.FLOAT32)
        turned = build.floormod(build.sub(quarter, which), 4)  # sin(x) == cos(x - pi / 2)
        is_odd = build.eq(build.floormod(turned, 2), 1)
        value = build.select(is_odd, build.math_fn(MathFn.SIN, angle), build.math_fn(MathFn.COS, angle))
        is_negative = build.logical_or(build.eq(turned, 1), build.eq(turned, 2))
        return build.select(is_negative, build.neg(value), value)

    return [pointwise((length, 2), element)]


def roots(b: RewriteBuilder, length: Dim, given: Value | None, dtype: DType) -> Value:
    """The table of cosines and sines for a length that is an extent, or the content of `given`."""
    if isinstance(length, int):
        angles = 2 * np.pi * np.arange(length) / max(length, 1)
        return b.const(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(accumulator(dtype).numpy))
    assert given is not None
    return b.op("onnxc::Roots", given)


# --- All stages -------------------------------------------------------------------------------


def in_stages(b: RewriteBuilder, x: Value, table: Value, axis: int, *, inverse: int, onesided: int) -> Value:
    """A transform by all factors of the length, or at once.

    The inverse is divided by the length. Of a real signal, the first number and the middle one are real exactly, as in a sum over
    one table; with stages, rounding would leave a rest.
    """
    of_real = int(x.type.shape[-1] == 1)
    kind, whole = {"axis": axis, "inverse": inverse}, {"onesided": onesided, "scaled": inverse, "of_real": of_real}
    length = table.type.shape[0]
    stages = [] if inverse and onesided else _stages(b, length) if isinstance(length, int) else _two_stages(b, table)
    if not stages:
        return b.op("onnxc::Transform", x, table, **kind, **whole)
    dtype, x = x.type.dtype, b.op("Cast", x, to=accumulator(x.type.dtype).onnx)
    for stage in stages[:-1]:
        x = b.op("onnxc::Turn", b.op("onnxc::Transform", x, table, stage, **kind), table, stage, **kind)
    return b.op("Cast", b.op("onnxc::Transform", x, table, stages[-1], **kind, **whole), to=dtype.onnx)


def _stages(b: RewriteBuilder, length: int) -> list[Value]:
    """The operands `[factor, done]` of the stages for a length that is known."""
    factors = _factors(length)
    return [b.const(np.array([factor, math.prod(factors[:k])])) for k, factor in enumerate(factors)]


def _two_stages(b: RewriteBuilder, table: Value) -> list[Value]:
    """The same for a length that is known at run time: the two factors that are closest to each other."""
    length, one = b.op("Slice", b.op("Shape", table), b.const([0]), b.const([1])), b.const([1])
    factor = b.op("onnxc::NearestFactor", length)
    return [b.op("Concat", factor, one, axis=0), b.op("Concat", b.op("Div", length, factor), factor, axis=0)]


def _nearest_factor(ctx: OpContext) -> list[Nest]:
    """The greatest factor up to the square root."""
    (length,) = map(build.index, ctx.ints(0))

    def term(axes: Sequence[Expr], taps: Sequence[Expr]) -> Expr:
        (k,) = taps
        is_one = build.logical_and(build.le(build.mul(k, k), length), build.eq(build.floormod(length, k), 0))
        return build.cast(build.select(is_one, build.maximum(k, 1), const(1)), DType.INT64)

    return [reduction((1,), ctx.ints(0), Combine.MAX, term)]


def _factors(length: int) -> list[int]:
    """Factors of a length in ascending order, fours rather than twos; none if they do not save work."""
    found, rest = [], length
    for factor in (4, 2, *range(3, math.isqrt(length) + 1, 2)):
        while rest > 0 and rest % factor == 0:
            found.append(factor)
            rest //= factor
    found += [rest] if rest > 1 else []
    return sorted(found) if sum(found) < length else []


register(
    OpDef("Transform", _transform_type, Nests(_transform), "onnxc", doc="signal, roots of unity, stage -> a stage of the transform"),
    OpDef("Turn", lambda ctx: [ctx.type(0)], Nests(_turn), "onnxc", doc="signals of a stage, roots of unity, stage -> the signals turned"),
    OpDef("NearestFactor", lambda ctx: [ctx.type(0)], Nests(_nearest_factor), "onnxc", doc="n -> its greatest factor up to the root of n"),
    OpDef("Roots", _roots_type, Nests(_roots), "onnxc", doc="length -> cosines and sines of its fractions of a turn"),
)
