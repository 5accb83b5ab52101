"""Random numbers: RandomUniform, RandomNormal, Bernoulli, Multinomial, Dropout.

The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3; SC 2011), which makes four
words of a counter and a key without a state: an element depends on its position alone, so that these operators are nests like others,
on every target and for any number of threads. The key is the seed; without one, it is made of the node's name, and loops around
the node count, too. A compiled model has no state: each run draws the same numbers (`docs/decisions/0013-random-numbers.md`).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence

import numpy as np

from ..dtypes import DType
from ..graph.nodes import TensorType, Value
from ..kernel import build
from ..kernel.build import const
from ..kernel.nest import Nest, pointwise
from ..kernel.nodes import BinaryOp, Dim, Expr, MathFn
from .table import Nests, OpContext, OpDef, RawNode, Rewrite, RewriteBuilder, register
from .types import FLOATS, attr_dtype, check_dtype

ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_STEPS = (0x9E3779B9, 0xBB67AE85)
"""Constants of Philox4x32: what counters are multiplied by, and what the keys grow by."""
DRAWS = {
    "RandomUniform": 0, "RandomNormal": 0, "RandomUniformLike": 1, "RandomNormalLike": 1, "Bernoulli": 1, "Multinomial": 1, "Dropout": 3,
}  # fmt: skip
"""Operators that draw random numbers, with the number of their operands. Further ones count the iterations of loops around the node."""
MAX_LOOPS = 2
"""Loops around a node whose iterations the counter has room for."""
Words = tuple[Expr, Expr, Expr, Expr]
Element = Callable[[OpContext, Words, DType], Expr]
"""(context, random words, type) -> a random number."""


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Four random words (uint32) of a counter and a key."""
    a, b, c, d = counter
    for n in range(ROUNDS):
        high, low = _product(_MULTIPLIERS[0], a)
        high2, low2 = _product(_MULTIPLIERS[1], c)
        keys = [const((k + n * step) % 2**32, DType.UINT32) for k, step in zip(key, _STEPS, strict=True)]
        a, b, c, d = _xor(high2, b, keys[0]), low2, _xor(high, d, keys[1]), low
    return a, b, c, d


def _product(factor: int, word: Expr) -> tuple[Expr, Expr]:
    """High and low half of a product of words."""
    whole = build.mul(build.cast(word, DType.UINT64), const(factor, DType.UINT64))
    high = build.bitwise(BinaryOp.SHR, whole, const(32, DType.UINT64))
    return build.cast(high, DType.UINT32), build.cast(whole, DType.UINT32)


def _xor(*words: Expr) -> Expr:
    first, *others = words
    for word in others:
        first = build.bitwise(BinaryOp.XOR, first, word)
    return first


def _words(ctx: OpContext, at: Sequence[Expr], shape: Sequence[Dim]) -> Words:
    """The random words of an element."""
    place = build.cast(build.linearize(at, shape), DType.UINT64)
    low, high = build.cast(place, DType.UINT32), build.cast(build.bitwise(BinaryOp.SHR, place, const(32, DType.UINT64)), DType.UINT32)
    counters: list[Expr] = [build.cast(ctx.read(k), DType.UINT32) for k in range(DRAWS[ctx.node.op], len(ctx.node.inputs))]
    zero = const(0, DType.UINT32)
    inner, outer = (*counters, zero, zero)[:MAX_LOOPS]
    return philox((low, high, inner, outer), _key(ctx))


def _key(ctx: OpContext) -> tuple[int, int]:
    """The seed; or a number made of the node's name, in another half of the keys."""
    seed = ctx.node.attrs.get("seed")
    if isinstance(seed, (int, float)) and math.isfinite(seed):
        return int(seed) % 2**32, 0
    return zlib.crc32(ctx.node.loc.node.encode("utf-8", "surrogateescape")), 1


def _fraction(words: Sequence[Expr], dtype: DType) -> Expr:
    """A number in [0, 1): as many random bits as the type has, so that rounding never gives 1."""
    if dtype is DType.FLOAT64:
        high, low = (build.cast(build.bitwise(BinaryOp.SHR, w, const(s, DType.UINT32)), dtype) for w, s in zip(words, (5, 6), strict=False))
        return build.mul(build.add(build.mul(high, 2.0**26), low), 2.0**-53)
    bits = {DType.FLOAT16: 11, DType.BFLOAT16: 8}.get(dtype, 24)
    kept = build.bitwise(BinaryOp.SHR, words[0], const(32 - bits, DType.UINT32))
    return build.mul(build.cast(kept, DType.FLOAT32), 2.0**-bits)


# --- RandomUniform, RandomNormal ------------------------------------------------------------------


def _uniform(ctx: OpContext, words: Words, dtype: DType) -> Expr:
    low, high = ctx.float_attr("low"), ctx.float_attr("high", 1.0)
    return build.add(build.mul(_fraction(words, dtype), high - low), low)


def _normal(ctx: OpContext, words: Words, dtype: DType) -> Expr:
    """Box and Muller's transform of two uniform numbers."""
    wide = DType.FLOAT64 if dtype is DType.FLOAT64 else DType.FLOAT32
    first = _fraction(words[:2], wide)
    second = _fraction(words[2:], wide)
    radius = build.math_fn(MathFn.SQRT, build.mul(build.math_fn(MathFn.LOG, build.sub(const(1.0, wide), first)), -2.0))
    angle = build.math_fn(MathFn.COS, build.mul(second, 2 * math.pi))
    return build.add(build.mul(build.mul(radius, angle), ctx.float_attr("scale", 1.0)), ctx.float_attr("mean"))


def _drawn(ctx: OpContext) -> TensorType:
    """Type of the result: of the attributes, or of an input like it."""
    like = ctx.node.op.endswith("Like")
    dtype = attr_dtype(ctx, "dtype") or (ctx.dtype(0) if like else DType.FLOAT32)
    if dtype not in FLOATS:
        ctx.fail("E0202", f"random numbers of type {dtype.label} are not defined", "give a dtype that is a float")
    if like:
        return TensorType(dtype, ctx.shape(0))
    shape = ctx.ints_attr("shape")
    if shape is None or any(d < 0 for d in shape):
        ctx.fail("E0203", "the attribute shape must be a list of extents")
    return TensorType(dtype, shape)


def _row(name: str, element: Element, **defaults: float) -> OpDef:
    def nests(ctx: OpContext) -> list[Nest]:
        type_ = _drawn(ctx)

        def drawn(*at: Expr) -> Expr:
            return build.cast(element(ctx, _words(ctx, at, type_.shape), type_.dtype), type_.dtype)

        return [pointwise(type_.shape, drawn)]

    return OpDef(name, lambda ctx: [_drawn(ctx)], Nests(nests), defaults=defaults, doc="Philox4x32-10")


# --- Bernoulli, Multinomial, Dropout --------------------------------------------------------------


def _bernoulli_type(ctx: OpContext) -> list[TensorType]:
    check_dtype(ctx, 0, FLOATS)
    return [TensorType(attr_dtype(ctx, "dtype") or ctx.dtype(0), ctx.shape(0))]


def _bernoulli(ctx: OpContext) -> list[Nest]:
    (type_,), wide = _bernoulli_type(ctx), DType.FLOAT64 if ctx.dtype(0) is DType.FLOAT64 else DType.FLOAT32

    def element(*at: Expr) -> Expr:
        hit = build.lt(_fraction(_words(ctx, at, type_.shape), wide), build.cast(ctx.read(0, *at), wide))
        return build.cast(hit, type_.dtype)

    return [pointwise(type_.shape, element)]


def _draw(ctx: OpContext, b: RewriteBuilder, like: Value) -> Value:
    """Uniform float32 numbers, one for each element of a tensor, with the seed and the loops of the node."""
    return b.op(
        "RandomUniformLike", like, *ctx.node.inputs[DRAWS[ctx.node.op] :], dtype=DType.FLOAT32.onnx, seed=ctx.node.attrs.get("seed")
    )


def _multinomial_type(ctx: OpContext) -> list[TensorType]:
    check_dtype(ctx, 0, FLOATS)
    dtype = attr_dtype(ctx, "dtype") or DType.INT32
    if ctx.rank(0) != 2 or dtype not in (DType.INT32, DType.INT64):
        ctx.fail("E0203", "samples of type int32 or int64 are drawn from rows of a matrix")
    return [TensorType(dtype, (ctx.shape(0)[0], ctx.int_attr("sample_size", 1)))]


def _multinomial(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    """The first class at which the sum of the probabilities exceeds a random number."""
    (type_,) = _multinomial_type(ctx)
    chances = b.op("Softmax", b.op("Cast", ctx.value(0), to=DType.FLOAT32.onnx), axis=1)
    sums = b.op("CumSum", chances, b.const(np.array(1)))
    total = b.op("Slice", sums, b.const([-1]), b.const([2**62]), b.const([1]))
    drawn = _draw(ctx, b, b.op("Expand", total, b.const([1, ctx.int_attr("sample_size", 1)])))
    reached = b.op("GreaterOrEqual", b.op("Unsqueeze", b.op("Mul", drawn, total), b.const([2])), b.op("Unsqueeze", sums, b.const([1])))
    below = b.op("ReduceSum", b.op("Cast", reached, to=DType.INT64.onnx), b.const([2]), keepdims=0)
    last = b.op("Sub", b.op("Shape", ctx.value(0), start=1, end=2), b.const([1]))
    return [b.op("Cast", b.op("Min", below, last), to=type_.dtype.onnx)]


def _dropout_type(ctx: OpContext) -> list[TensorType]:
    check_dtype(ctx, 0, FLOATS)
    return [TensorType(ctx.dtype(0), ctx.shape(0)), TensorType(DType.BOOL, ctx.shape(0))]


def _drop_ratio(node: RawNode) -> None:
    """Before opset 12 there was no training, so that the ratio decides nothing."""
    node.attrs.pop("ratio", None)


def _dropout(ctx: OpContext, b: RewriteBuilder) -> list[Value]:
    """`where(drawn >= ratio, x / (1 - ratio), 0)` in training, else `x`."""
    x, training = ctx.value(0), ctx.array(2) if ctx.has(2) else np.array(False)
    wanted = len(ctx.node.outputs)
    if training is not None and not training.any():
        return [x, b.op("Expand", b.const(np.array(True)), b.op("Shape", x))][:wanted] if wanted > 1 else [x]
    ratio = b.op("Cast", ctx.value(1), to=DType.FLOAT32.onnx) if ctx.has(1) else b.const(np.array(0.5, np.float32))
    kept = b.op("GreaterOrEqual", _draw(ctx, b, x), ratio)
    scale = b.op("Div", b.const(np.array(1, np.float32)), b.op("Sub", b.const(np.array(1, np.float32)), ratio))
    nothing = b.const(np.zeros((), ctx.dtype(0).numpy))
    y = b.op("Where", kept, b.op("Mul", x, b.op("Cast", scale, to=ctx.dtype(0).onnx)), nothing)
    if training is None:
        mode = ctx.value(2)
        y, kept = b.op("Where", mode, y, x), b.op("Or", kept, b.op("Not", mode))
    return [y, kept][:wanted]


register(
    _row("RandomUniform", _uniform, low=0.0, high=1.0),
    _row("RandomUniformLike", _uniform, low=0.0, high=1.0),
    _row("RandomNormal", _normal, mean=0.0, scale=1.0),
    _row("RandomNormalLike", _normal, mean=0.0, scale=1.0),
    OpDef("Bernoulli", _bernoulli_type, Nests(_bernoulli), doc="Philox4x32-10"),
    OpDef("Multinomial", _multinomial_type, Rewrite(_multinomial), doc="Philox4x32-10"),
    OpDef("Dropout", _dropout_type, Rewrite(_dropout), adapt={12: _drop_ratio}, doc="Philox4x32-10 in training"),
)
