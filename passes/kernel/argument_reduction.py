"""Reduction of an angle to [-pi/4, pi/4] and a quadrant, exact enough for every float.

Moderate angles: `x - n * pi/2` with pi/2 in parts so short that their products with `n` are exact
(Cody and Waite). All others: the bits of 1/(2 pi) that matter are multiplied with the integer
significand, in integers (M. Payne and R. Hanek, Radian reduction for trigonometric functions, 1983).
Both give a sum of two floats, and are computed side by side: no branches. Where all angles are known to be moderate, the first is
enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...compiler.dtypes import DType
from ...compiler.kernel import build
from ...compiler.kernel.nodes import BinaryOp, Expr
from .float_parts import FORMATS, Pair, bit_and, bits, exact_product, fast_sum, nearest, shift_left, shift_right

_U64 = DType.UINT64
_OR, _SHL = BinaryOp.OR, BinaryOp.SHL
_WORD = 0xFFFFFFFF

TURN_WORDS = (
    0x00000000,  # before the point
    0x28BE60DB, 0x9391054A, 0x7F09D5F4, 0x7D4D3770, 0x36D8A566, 0x4F10E410, 0x7F9458EA, 0xF7AEF158, 0x6DC91B8E, 0x909374B8,
    0x01924BBA, 0x82746487, 0x3F877AC7, 0x2C4A69CF, 0xBA208D7D, 0x4BAED121, 0x3A671C09, 0xAD17DF90, 0x4E64758E, 0x60D4CE7D,
    0x272117E2, 0xEF7E4A0E, 0xC7FE25FF, 0xF7816603, 0xFBCBC462, 0xD6829B47, 0xDB4D9FB3, 0xC9F2C26D, 0xD3D18FD9, 0xA797FA8B,
    0x5D49EEB1, 0xFAF97C5E, 0xCF41CE7D, 0xE294A4BA, 0x9AFED7EC, 0x47E35742, 0x1580CC11, 0xBF1EDAEA,
)  # fmt: skip
"""1 / (2 pi) in words of 32 bits."""


@dataclass(frozen=True, slots=True)
class _Moderate:
    """Constants of the reduction in floats."""

    limit: float
    """Largest angle for it."""
    parts: tuple[float, ...]
    """pi/2; products of all but the last with quadrant numbers are exact."""


_MODERATE = {
    DType.FLOAT32: _Moderate(3000.0, (1.570556640625, 0.0002396702766418457, 1.5890691429376602e-08, 2.563344151594519e-12)),
    DType.FLOAT64: _Moderate(1.6e6, (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)),
}
_HALF_PI = (1.5707963267948966, 6.123233995736766e-17)


def reduce_angle(x: Expr) -> tuple[Pair, Expr]:
    """Return `r` and the int32 or int64 `q` with `x == q * pi/2 + r` modulo 2 pi and |r| <= pi/4; NaN for infinities."""
    size = build.absolute(x)
    moderate, q = reduce_moderate_angle(x)
    large, q_large = (_reduce_large_32 if x.dtype is DType.FLOAT32 else _reduce_large_64)(size)
    negative = build.lt(x, 0.0)
    large = Pair(*(build.select(negative, build.neg(part), part) for part in (large.high, large.low)))
    q_large = build.select(negative, build.sub(build.const(0, q.dtype), q_large), q_large)
    use = is_moderate(x)
    high = build.select(build.lt(size, math.inf), large.high, math.nan)
    return Pair(build.select(use, moderate.high, high), build.select(use, moderate.low, large.low)), build.select(use, q, q_large)


def is_moderate(x: Expr) -> Expr:
    """Whether `reduce_moderate_angle` is right for an angle."""
    return build.le(build.absolute(x), _MODERATE[x.dtype].limit)


def reduce_moderate_angle(x: Expr) -> tuple[Pair, Expr]:
    """The same for angles that are moderate."""
    parts = _MODERATE[x.dtype].parts
    n, q = nearest(x, 2 / math.pi)
    rest = x
    for part in parts[:-2]:
        rest = build.sub(rest, build.mul(n, part))
    step = build.mul(n, parts[-2])
    high = build.sub(rest, step)
    low = build.sub(build.sub(build.sub(rest, high), step), build.mul(n, parts[-1]))
    return fast_sum(high, low), q


def _window(size: Expr, count: int, words: Sequence[int]) -> tuple[Expr, list[Expr]]:
    """The integer significand of `size`, and the `count` words of 1/(2 pi) whose products with it are not whole turns."""
    form = FORMATS[size.dtype]
    pattern = build.cast(bits(size), _U64)
    significand = build.bitwise(_OR, bit_and(pattern, (1 << form.mantissa) - 1), 1 << form.mantissa)
    start = build.add(shift_right(pattern, form.mantissa), 32 - form.bias - form.mantissa)
    selected = _select_words(words, shift_right(start, 5), count + 1)
    shift = bit_and(start, 31)
    joined = [build.bitwise(_OR, shift_left(a, 32), b) for a, b in pairwise(selected)]
    return significand, [shift_right(build.bitwise(_SHL, pair, shift), 32) for pair in joined]


def _select_words(words: Sequence[int], start: Expr, count: int) -> list[Expr]:
    """`words[start : start + count]` by halving: one layer of selections for each bit of `start`."""
    found: list[Expr] = [build.const(w, _U64) for w in words]
    step = 1 << (len(words).bit_length() - 1)
    while step:
        taken = build.ne(bit_and(start, step), 0)
        found = [build.select(taken, found[min(k + step, len(found) - 1)], found[k]) for k in range(min(count + step - 1, len(found)))]
        step //= 2
    return found


def _quadrant(turn: Expr, integer: DType) -> tuple[Expr, Expr]:
    """Split a fraction of a turn (64 bits) into a quadrant and a signed rest in units of 2**-62 quadrants."""
    quadrant = shift_right(build.add(turn, 1 << 61), 62)
    return build.cast(quadrant, integer), build.cast(build.sub(turn, shift_left(quadrant, 62)), DType.INT64)


def _reduce_large_32(size: Expr) -> tuple[Pair, Expr]:
    significand, (w0, w1, w2) = _window(size, 3, TURN_WORDS[:8])
    product = build.add(build.mul(significand, w1), shift_right(build.mul(significand, w2), 32))
    turn = build.add(shift_left(build.mul(significand, w0), 32), product)
    q, rest = _quadrant(turn, DType.INT32)
    angle = build.mul(build.cast(rest, DType.FLOAT64), _HALF_PI[0] * 2.0**-62)
    high = build.cast(angle, DType.FLOAT32)
    return Pair(high, build.cast(build.sub(angle, build.cast(high, DType.FLOAT64)), DType.FLOAT32)), q


def _reduce_large_64(size: Expr) -> tuple[Pair, Expr]:
    significand, window = _window(size, 6, TURN_WORDS)
    words = _multiply(window, bit_and(significand, _WORD), shift_right(significand, 32))
    q, rest = _quadrant(build.bitwise(_OR, shift_left(words[0], 32), words[1]), DType.INT64)
    below = build.cast(build.bitwise(_OR, shift_left(words[2], 32), words[3]), DType.FLOAT64)
    leading = build.cast(rest, DType.FLOAT64)
    trailing = build.cast(build.sub(rest, build.cast(leading, DType.INT64)), DType.FLOAT64)
    value = fast_sum(leading, build.add(trailing, build.mul(below, 2.0**-64)))
    angle = exact_product(value.high, build.const(_HALF_PI[0] * 2.0**-62, DType.FLOAT64))
    low = build.add(build.mul(value.high, _HALF_PI[1] * 2.0**-62), build.mul(value.low, _HALF_PI[0] * 2.0**-62))
    return fast_sum(angle.high, build.add(angle.low, low)), q


def _multiply(words: Sequence[Expr], low: Expr, high: Expr) -> list[Expr]:
    """The leading words of the fraction `0.words` times the integer `high * 2**32 + low`, modulo 1."""
    by_low = [build.mul(w, low) for w in words]
    by_high = [build.mul(w, high) for w in words]
    result: list[Expr] = []
    carry: Expr = build.const(0, _U64)
    for k in reversed(range(len(words) - 1)):
        column = build.add(carry, bit_and(by_low[k], _WORD))
        column = build.add(column, shift_right(by_low[k + 1], 32))
        column = build.add(column, bit_and(by_high[k + 1], _WORD))
        if k + 2 < len(words):
            column = build.add(column, shift_right(by_high[k + 2], 32))
        result.insert(0, bit_and(column, _WORD))
        carry = shift_right(column, 32)
    return result
