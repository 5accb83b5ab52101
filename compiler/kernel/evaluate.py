"""What a nest means, in numpy: used to fold constants, to interpret graphs and to test kernels.

Expressions are evaluated for all elements at once; every axis is an `arange` that stands in its own
dimension, so subexpressions stay as small as the axes they use. The work is cut into blocks of output
elements to bound memory. A `Read` outside its operand is clamped and marks its elements as poisoned;
`select` drops the poison of the branch that is not taken, and poison that reaches a result is an error
of the operator's definition.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..dtypes import DType, Kind
from .nest import Combine, Nest
from .nodes import Binary, Cast, Const, Dim, Expr, Math, Read, Select, Unary, Var
from .scalar_numpy import apply_binary, apply_cast, apply_math, apply_unary, narrow, widen
from .traverse import walk

BLOCK_ELEMENTS = 1 << 21
"""Largest number of terms that are computed at once."""


def evaluate_nest(nest: Nest, operands: Sequence[np.ndarray | None], symbols: Mapping[str, int]) -> np.ndarray:
    """Compute the output of a nest.

    Args:
        nest: the definition; its `Read`s refer to `operands`.
        operands: the inputs of the node by position, None where absent.
        symbols: values of the symbols that occur.

    Returns:
        The output, of `nest.shape` with the symbols put in.

    Raises:
        IndexError: the definition reads outside an operand.
    """
    shape = tuple(evaluate_dim(d, symbols) for d in nest.shape)
    reduce_shape = tuple(evaluate_dim(d, symbols) for d in nest.reduce_shape)
    output = np.empty(shape, nest.dtype.numpy)
    for block in _blocks(shape, max(1, BLOCK_ELEMENTS // max(1, math.prod(reduce_shape)))):
        output[block] = _evaluate_block(nest, block, reduce_shape, operands, symbols)
    return output


def evaluate_dim(extent: Dim, symbols: Mapping[str, int]) -> int:
    """The value of a dimension for given symbols; KeyError names a symbol that is missing."""
    if isinstance(extent, int):
        return extent
    result, _ = _Evaluator((), {Var(name): np.int64(value) for name, value in symbols.items()}).value(extent)
    return int(result)


def _blocks(shape: tuple[int, ...], limit: int) -> Iterator[tuple[slice, ...]]:
    """Cut an index space into boxes of about `limit` elements, leading axes first."""
    if math.prod(shape) == 0:
        return
    inner = 1
    steps: list[int] = []
    for extent in reversed(shape):
        steps.append(min(extent, max(1, limit // inner)))
        inner *= extent
    steps.reverse()
    for start in np.ndindex(*(-(-extent // step) for extent, step in zip(shape, steps, strict=True))):
        yield tuple(slice(s * step, min((s + 1) * step, extent)) for s, step, extent in zip(start, steps, shape, strict=True))


def _evaluate_block(
    nest: Nest,
    block: tuple[slice, ...],
    reduce_shape: tuple[int, ...],
    operands: Sequence[np.ndarray | None],
    symbols: Mapping[str, int],
) -> np.ndarray:
    ranges = [*block, *(slice(0, n) for n in reduce_shape)]
    variables: dict[Var, np.ndarray | np.generic] = {Var(name): np.int64(value) for name, value in symbols.items()}
    for position, (axis, span) in enumerate(zip((*nest.axes, *nest.reduce_axes), ranges, strict=True)):
        place = [1] * len(ranges)
        place[position] = -1
        variables[axis] = np.arange(span.start, span.stop, dtype=np.int64).reshape(place)
    spans = dict(zip((*nest.axes, *nest.reduce_axes), enumerate(ranges), strict=True))
    evaluator = _Evaluator(operands, variables, spans, len(ranges))
    result = evaluator.clean(nest.body, [s.stop - s.start for s in ranges])
    if nest.combine is None:
        return result
    total = _combine(nest.combine, result, nest.body.dtype, len(block), in_order=nest.in_order)
    if nest.finish is None:
        return total
    variables[nest.acc] = total.reshape(*total.shape, *(1 for _ in reduce_shape))
    finished = _Evaluator(operands, variables, spans, len(ranges)).clean(
        nest.finish, [*(s.stop - s.start for s in block), *(1 for _ in reduce_shape)]
    )
    return finished.reshape(total.shape)


_FUNCTIONS = {
    Combine.SUM: np.add, Combine.PROD: np.multiply, Combine.MAX: np.maximum, Combine.MIN: np.minimum, Combine.LARGEST: np.fmax,
}  # fmt: skip


def _combine(combine: Combine, terms: np.ndarray, dtype: DType, kept: int, *, in_order: bool) -> np.ndarray:
    """Reduce the axes from `kept` on, in the type of the terms."""
    axes = tuple(range(kept, terms.ndim))
    if dtype.kind is Kind.BOOL:
        return np.asarray((np.any if combine in (Combine.SUM, Combine.MAX) else np.all)(terms, axis=axes))
    wide = widen(terms, dtype)
    function = _FUNCTIONS[combine]
    with np.errstate(all="ignore"):
        if in_order and 0 not in wide.shape:  # `reduce` adds in an order of its own
            return narrow(function.accumulate(wide.reshape(*wide.shape[:kept], -1), axis=-1, dtype=wide.dtype)[..., -1], dtype)
        if combine in (Combine.SUM, Combine.PROD):
            return narrow(np.asarray(function.reduce(wide, axis=axes, dtype=wide.dtype)), dtype)
        start = np.asarray(combine.identity(dtype).value).astype(wide.dtype)
        return narrow(np.asarray(function.reduce(wide, axis=axes, initial=start[()])), dtype)


_Poison = np.ndarray | None


@dataclass(slots=True)
class _Evaluator:
    """Values of expressions for one block, each computed once."""

    operands: Sequence[np.ndarray | None]
    variables: Mapping[Var, np.ndarray | np.generic]
    spans: Mapping[Var, tuple[int, slice]] = field(default_factory=dict)
    """Dimension and range of each axis in this block."""
    rank: int = 0
    memo: dict[Expr, tuple[np.ndarray, _Poison]] = field(default_factory=dict)

    def clean(self, e: Expr, shape: list[int]) -> np.ndarray:
        """The value, broadcast to the block; IndexError if it is poisoned."""
        value, poison = self.value(e)
        if poison is not None and poison.any() and 0 not in shape:
            raise IndexError("a nest reads outside an operand")
        return np.broadcast_to(value, shape)

    def value(self, e: Expr) -> tuple[np.ndarray, _Poison]:
        """The value and which of its elements come from outside an operand."""
        with np.errstate(all="ignore"):
            for part in walk(e):
                if part not in self.memo:
                    self.memo[part] = self._compute(part)
        return self.memo[e]

    def _compute(self, e: Expr) -> tuple[np.ndarray, _Poison]:
        memo = self.memo
        match e:
            case Const(value=number, dtype=dtype):
                return np.asarray(number).astype(dtype.numpy), None
            case Var():
                if e not in self.variables:
                    raise KeyError(f"no value for symbol {e.name}")
                return np.asarray(self.variables[e]), None
            case Read():
                return self._read(e)
            case Unary(op=op, a=a):
                return apply_unary(op, memo[a][0], e.dtype), memo[a][1]
            case Binary(op=op, a=a, b=b):
                return apply_binary(op, memo[a][0], memo[b][0], a.dtype), _either(memo[a][1], memo[b][1])
            case Math(fn=fn, args=args):
                poison = None
                for arg in args:
                    poison = _either(poison, memo[arg][1])
                return apply_math(fn, [memo[arg][0] for arg in args], e.args[0].dtype), poison
            case Cast(value=value, dtype=dtype, mode=mode):
                return apply_cast(memo[value][0], value.dtype, dtype, mode), memo[value][1]
            case Select(cond=cond, then=then, other=other):
                return self._select(memo[cond], memo[then], memo[other])
        raise AssertionError(f"{type(e).__name__} in a nest")

    @staticmethod
    def _select(
        cond: tuple[np.ndarray, _Poison], then: tuple[np.ndarray, _Poison], other: tuple[np.ndarray, _Poison]
    ) -> tuple[np.ndarray, _Poison]:
        poison = cond[1]
        if then[1] is not None:
            poison = _either(poison, then[1] & cond[0])
        if other[1] is not None:
            poison = _either(poison, other[1] & ~cond[0])
        return np.where(cond[0], then[0], other[0]), poison

    def _read(self, e: Read) -> tuple[np.ndarray, _Poison]:
        operand = self.operands[e.operand]
        assert operand is not None and operand.ndim == len(e.indices), (e.operand, operand)
        view = self._view(operand, e.indices)
        if view is not None:
            return view, None
        if not e.indices:
            return operand, None
        poison: _Poison = None
        inside: list[np.ndarray] = []
        for at, extent in zip(e.indices, operand.shape, strict=True):
            index, index_poison = self.memo[at]
            outside = (index < 0) | (index >= extent)
            poison = _either(poison, index_poison)
            if outside.any():
                poison = _either(poison, outside)
                index = np.clip(index, 0, max(extent - 1, 0))
            inside.append(index)
        if operand.size == 0:
            shape = np.broadcast_shapes(*(index.shape for index in inside))
            return np.zeros(shape, e.dtype.numpy), np.ones(shape, bool)
        return operand[tuple(inside)], poison

    def _view(self, operand: np.ndarray, indices: tuple[Expr, ...]) -> np.ndarray | None:
        """The elements as a view of the operand, where the indices are distinct axes or constants in range."""
        places: list[int] = []
        slices: list[slice] = []
        for at, extent in zip(indices, operand.shape, strict=True):
            if isinstance(at, Var) and at in self.spans and self.spans[at][1].stop <= extent and self.spans[at][0] not in places:
                places.append(self.spans[at][0])
                slices.append(self.spans[at][1])
            elif isinstance(at, Const) and 0 <= at.value < extent:
                places.append(-1)
                slices.append(slice(int(at.value), int(at.value) + 1))
            else:
                return None
        kept = [k for k, place in enumerate(places) if place >= 0]
        cut = operand[tuple(slices)].squeeze(tuple(k for k, place in enumerate(places) if place < 0))
        order = sorted(range(len(kept)), key=lambda k: places[kept[k]])
        shape = [1] * self.rank
        for k, extent in zip(order, (cut.shape[k] for k in order), strict=True):
            shape[places[kept[k]]] = extent
        return cut.transpose(order).reshape(shape) if self.rank else cut


def _either(a: _Poison, b: _Poison) -> _Poison:
    if a is None:
        return b
    return a if b is None else a | b
