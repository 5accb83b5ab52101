"""Evaluation of nests element by element on integers that may be symbolic.

This is what carries shapes through `Shape -> Gather -> Mul -> Concat -> Reshape`: each element of such a
small tensor becomes an index expression over the symbols of the model. Integers of every width are held
as int64 expressions, floats as constants or as exact ratios of an integer expression (so that
`floor(h * 2.0)` is `2 * h`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from ..dtypes import DType, Kind
from ..kernel import build
from ..kernel.nest import Combine, Nest
from ..kernel.nodes import COMPARISONS, Binary, BinaryOp, Cast, Const, Expr, Math, MathFn, Read, Select, Unary, UnaryOp, Var
from ..kernel.scalar_numpy import apply_binary, apply_cast, apply_math, apply_unary
from ..kernel.traverse import children
from .index_intervals import IsExtent, interval, is_non_negative

MAX_TERMS = 4096
"""Terms of reductions and elements that are evaluated one by one at most."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """The float `numerator / denominator`, exact."""

    numerator: Expr
    denominator: int


Element: TypeAlias = Expr | Ratio


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an operand: its shape and each element in row-major order, None if not known."""

    shape: tuple[int, ...]
    elements: Sequence[Element | None]


class NotKnown(Exception):
    """An element depends on something that is not known."""


def evaluate_elements(nest: Nest, operands: Sequence[Known | None], is_extent: IsExtent) -> list[Element | None]:
    """The elements of a nest's output as far as they follow from the operands.

    Args:
        nest: a definition of static shape.
        operands: what is known of the inputs, None for nothing.
        is_extent: whether a symbol is a size, and so not negative.
    """
    shape = [d for d in nest.shape if isinstance(d, int)]
    terms = [d for d in nest.reduce_shape if isinstance(d, int)]
    count = math.prod(shape)
    if len(shape) != len(nest.shape) or len(terms) != len(nest.reduce_shape) or count * math.prod(terms) > MAX_TERMS:
        return [None] * (count if len(shape) == len(nest.shape) else 0)
    if math.prod(terms) and _reads_unknown(nest.body, operands):
        return [None] * count
    return [_element(nest, at, terms, operands, is_extent) for at in itertools.product(*map(range, shape))]


def _reads_unknown(body: Expr, operands: Sequence[Known | None]) -> bool:
    """True if every element needs an operand of which nothing is known: it is read outside the branches of selections."""
    seen: set[Expr] = set()
    stack = [body]
    while stack:
        e = stack.pop()
        if isinstance(e, Read) and operands[e.operand] is None:
            return True
        if e not in seen:
            seen.add(e)
            stack.extend((e.cond,) if isinstance(e, Select) else children(e))
    return False


def _element(nest: Nest, at: tuple[int, ...], terms: list[int], operands: Sequence[Known | None], is_extent: IsExtent) -> Element | None:
    env: dict[Var, Element] = {axis: build.const(i) for axis, i in zip(nest.axes, at, strict=True)}
    try:
        if nest.combine is None:
            return _Evaluator(operands, env, is_extent).value(nest.body)
        total: Element = from_number(nest.combine.identity(nest.body.dtype).value, nest.body.dtype)
        for k in itertools.product(*map(range, terms)):
            inner = env | {axis: build.const(i) for axis, i in zip(nest.reduce_axes, k, strict=True)}
            total = _combine(nest.combine, total, _Evaluator(operands, inner, is_extent).value(nest.body), nest.body.dtype, is_extent)
        return total if nest.finish is None else _Evaluator(operands, env | {nest.acc: total}, is_extent).value(nest.finish)
    except NotKnown:
        return None


_OPERATIONS = {
    Combine.SUM: BinaryOp.ADD, Combine.PROD: BinaryOp.MUL, Combine.MAX: BinaryOp.MAX, Combine.MIN: BinaryOp.MIN,
    Combine.LARGEST: BinaryOp.MAX,
}  # fmt: skip


def _combine(combine: Combine, a: Element, b: Element, dtype: DType, is_extent: IsExtent) -> Element:
    if dtype.kind is Kind.BOOL:
        op = BinaryOp.OR if combine in (Combine.SUM, Combine.MAX) else BinaryOp.AND
    else:
        op = _OPERATIONS[combine]
    return binary_element(op, a, b, dtype, is_extent)


def from_number(value: int | float | bool, dtype: DType) -> Const:
    """A known number as an element: integers become int64."""
    if dtype.is_int:
        if not -(1 << 63) <= value < 1 << 63:
            raise NotKnown
        return build.const(int(value))
    return build.const(value, dtype)


def _from_array(array: np.ndarray, dtype: DType) -> Const:
    return from_number(array.item() if dtype.kind is Kind.BOOL or dtype.is_int else float(array), dtype)


def _to_array(e: Const, dtype: DType) -> np.ndarray:
    return np.asarray(e.value).astype(dtype.numpy)


@dataclass(slots=True)
class _Evaluator:
    operands: Sequence[Known | None]
    env: dict[Var, Element]
    is_extent: IsExtent
    memo: dict[Expr, Element] = field(default_factory=dict)

    def value(self, e: Expr) -> Element:
        """The element for expression `e`; NotKnown if there is none."""
        found = self.memo.get(e)
        if found is None:
            found = self.memo[e] = self._compute(e)
        return found

    def _compute(self, e: Expr) -> Element:
        match e:
            case Const(value=value, dtype=dtype):
                return from_number(value, dtype)
            case Var():
                return self.env.get(e, e)
            case Read(operand=operand, indices=indices):
                return self._read(operand, indices)
            case Unary(op=op, a=a):
                return _unary(op, self.value(a), e.dtype, self.is_extent)
            case Binary(op=op, a=a, b=b):
                return binary_element(op, self.value(a), self.value(b), a.dtype, self.is_extent)
            case Math(fn=fn, args=args):
                return _math(fn, [self.value(a) for a in args], args[0].dtype, self.is_extent)
            case Select(cond=cond, then=then, other=other):
                return self._select(self.value(cond), then, other)
            case Cast(value=value, dtype=dtype):
                return self._cast(self.value(value), e)
        raise NotKnown

    def _read(self, operand: int, indices: tuple[Expr, ...]) -> Element:
        known = self.operands[operand]
        if known is None:
            raise NotKnown
        offset = 0
        for index, extent in zip(indices, known.shape, strict=True):
            at = self.value(index)
            if not isinstance(at, Const) or not 0 <= at.value < extent:
                raise NotKnown
            offset = offset * extent + int(at.value)
        element = known.elements[offset]
        if element is None:
            raise NotKnown
        return element

    def _select(self, cond: Element, then: Expr, other: Expr) -> Element:
        if isinstance(cond, Const):
            return self.value(then if cond.value else other)
        a, b = self.value(then), self.value(other)
        if isinstance(cond, Ratio) or isinstance(a, Ratio) or isinstance(b, Ratio):
            raise NotKnown
        return build.select(cond, a, b)

    def _cast(self, value: Element, e: Cast) -> Element:
        old, new = e.value.dtype, e.dtype
        if isinstance(value, Const):
            return _from_array(apply_cast(_to_array(value, old), old, new, e.mode), new)
        if isinstance(value, Ratio):
            return value if new.is_float else _truncate(value, self.is_extent)
        if new.kind is Kind.BOOL:
            return binary_element(BinaryOp.NE, value, build.const(0), old, self.is_extent)
        if old.kind is Kind.BOOL:
            if not new.is_int:
                raise NotKnown
            return build.select(value, build.const(1), build.const(0))
        return Ratio(value, 1) if new.is_float else value


def _unary(op: UnaryOp, a: Element, dtype: DType, is_extent: IsExtent) -> Element:
    if isinstance(a, Const):
        return _from_array(apply_unary(op, _to_array(a, dtype), dtype), dtype)
    if isinstance(a, Ratio):
        if op is not UnaryOp.NEG:
            raise NotKnown
        return Ratio(build.neg(a.numerator), a.denominator)
    if op is UnaryOp.NEG:
        return build.neg(a)
    if op is UnaryOp.ABS and is_non_negative(a, is_extent):
        return a
    return build.unary(op, a)


def binary_element(op: BinaryOp, a: Element, b: Element, dtype: DType, is_extent: IsExtent) -> Element:
    """A binary operation on two elements of type `dtype`; NotKnown where the result has no such form."""
    if isinstance(a, Const) and isinstance(b, Const):
        result = apply_binary(op, _to_array(a, dtype), _to_array(b, dtype), dtype)
        return _from_array(result, DType.BOOL if op in COMPARISONS else dtype)
    if dtype.is_float:
        return _ratio_binary(op, _as_ratio(a), _as_ratio(b))
    assert not isinstance(a, Ratio) and not isinstance(b, Ratio)
    if not dtype.is_int:
        return build.binary(op, a, b)
    if op in COMPARISONS or op in (BinaryOp.MIN, BinaryOp.MAX):
        return _ordered(op, a, b, is_extent)
    if op in (BinaryOp.DIV, BinaryOp.MOD) and isinstance(b, Const) and b.value > 0 and is_non_negative(a, is_extent):
        op = BinaryOp.FLOORDIV if op is BinaryOp.DIV else BinaryOp.FLOORMOD
    return build.binary(op, a, b)


def _ordered(op: BinaryOp, a: Expr, b: Expr, is_extent: IsExtent) -> Expr:
    """A comparison, minimum or maximum, decided where the sign of the difference is known."""
    low, high = interval(build.sub(a, b), is_extent)
    below, above = high is not None and high <= 0, low is not None and low >= 0
    strictly_below, strictly_above = high is not None and high < 0, low is not None and low > 0
    match op:
        case BinaryOp.MIN | BinaryOp.MAX if below or above:
            return a if below == (op is BinaryOp.MIN) else b
        case BinaryOp.LT | BinaryOp.GE if strictly_below or above:
            return build.const(strictly_below == (op is BinaryOp.LT), DType.BOOL)
        case BinaryOp.LE | BinaryOp.GT if below or strictly_above:
            return build.const(below == (op is BinaryOp.LE), DType.BOOL)
        case BinaryOp.EQ | BinaryOp.NE if strictly_below or strictly_above:
            return build.const(op is BinaryOp.NE, DType.BOOL)
    return build.binary(op, a, b)


def _as_ratio(a: Element) -> Ratio:
    if isinstance(a, Ratio):
        return a
    if isinstance(a, Const) and math.isfinite(a.value):
        numerator, denominator = float(a.value).as_integer_ratio()
        if denominator <= 1 << 20 and abs(numerator) < 1 << 40:
            return Ratio(build.const(numerator), denominator)
    raise NotKnown


def _ratio_binary(op: BinaryOp, a: Ratio, b: Ratio) -> Ratio:
    match op:
        case BinaryOp.ADD | BinaryOp.SUB:
            left, right = build.mul(a.numerator, b.denominator), build.mul(b.numerator, a.denominator)
            return _reduced(build.binary(op, left, right), a.denominator * b.denominator)
        case BinaryOp.MUL if isinstance(a.numerator, Const) or isinstance(b.numerator, Const):
            return _reduced(build.mul(a.numerator, b.numerator), a.denominator * b.denominator)
        case BinaryOp.DIV if isinstance(b.numerator, Const) and b.numerator.value != 0:
            sign = 1 if b.numerator.value > 0 else -1
            numerator = build.mul(a.numerator, sign * b.denominator)
            return _reduced(numerator, a.denominator * abs(int(b.numerator.value)))
    raise NotKnown


def _reduced(numerator: Expr, denominator: int) -> Ratio:
    """The same ratio with a common power of two, or the whole denominator, divided out."""
    for divisor in (denominator, *(1 << k for k in range(20, 0, -1))):
        if denominator % divisor == 0 and build.floormod(numerator, divisor) is build.const(0):
            return Ratio(build.floordiv(numerator, divisor), denominator // divisor)
    return Ratio(numerator, denominator)


def _math(fn: MathFn, args: list[Element], dtype: DType, is_extent: IsExtent) -> Element:
    numbers = [a for a in args if isinstance(a, Const)]
    if len(numbers) == len(args):
        result = apply_math(fn, [_to_array(a, dtype) for a in numbers], dtype)
        return _from_array(result, DType.BOOL if result.dtype == bool else dtype)
    ratio = _as_ratio(args[0])
    if fn is MathFn.FLOOR:
        return Ratio(build.floordiv(ratio.numerator, ratio.denominator), 1)
    if fn is MathFn.CEIL:
        return Ratio(build.neg(build.floordiv(build.neg(ratio.numerator), ratio.denominator)), 1)
    if fn is MathFn.TRUNC or (fn is MathFn.ROUND and ratio.denominator == 1):
        return Ratio(_truncate(ratio, is_extent), 1)
    raise NotKnown


def _truncate(ratio: Ratio, is_extent: IsExtent) -> Expr:
    if ratio.denominator == 1:
        return ratio.numerator
    if not is_non_negative(ratio.numerator, is_extent):
        raise NotKnown
    return build.floordiv(ratio.numerator, ratio.denominator)
