"""Expressions as Python functions, which the interpreter of kernels calls once for each element.

What depends on the node alone (its operator, type and parts) is looked up when the function is made, not at each call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from . import scalar
from .nodes import Binary, Broadcast, Buffer, Cast, Const, Expr, Lane, Load, Math, Ramp, Select, Unary, Var
from .scalar import Scalar
from .traverse import children, walk

Environment: TypeAlias = dict[str, tuple[Scalar, ...]]
"""Values of the variables by lane, by name."""
Memory: TypeAlias = dict[Buffer, np.ndarray]


class AccessError(IndexError):
    """A kernel touched memory outside of a buffer, or wrote a constant one: a fault of the compiler."""


@dataclass(slots=True)
class Moment:
    """What the expressions of one statement see while it executes."""

    env: Environment
    memory: Memory
    place: str
    """Name of the kernel, for messages."""
    memo: dict[object, Scalar] = field(default_factory=dict)
    """Values of shared parts."""

    def position(self, buffer: Buffer, index: Scalar) -> int:
        """Checked position of an access."""
        at = int(index)
        if buffer not in self.memory:
            raise AccessError(f"{self.place}: buffer {buffer.name} is neither an argument nor allocated here")
        if not 0 <= at < len(self.memory[buffer]):
            raise AccessError(f"{self.place}: {buffer.name}[{at}] is outside of {len(self.memory[buffer])} elements")
        return at


ExprFunction: TypeAlias = Callable[[Moment, int], Scalar]
"""(moment, lane) -> that lane of the expression; a scalar is the same for all lanes."""


def expr_functions(exprs: Sequence[Expr]) -> tuple[ExprFunction, ...]:
    """A function for each of some expressions that are evaluated at the same moments; parts that they share are computed once."""
    maker = _Maker(exprs)
    return tuple(maker.function(e) for e in exprs)


class _Maker:
    def __init__(self, exprs: Sequence[Expr]) -> None:
        most_lanes = max(e.lanes for e in exprs)
        uses = Counter(exprs)
        for e in exprs:
            uses[e] += e.lanes < most_lanes
        for e in walk(*exprs):
            for child in children(e):
                uses[child] += 1 + (child.lanes < e.lanes)  # each lane of a vector asks for its scalar parts
        self.shared = {e for e, count in uses.items() if count > 1 and not isinstance(e, (Const, Var))}
        self.made: dict[Expr, ExprFunction] = {}

    def function(self, e: Expr) -> ExprFunction:
        """The function of an expression."""
        if e not in self.made:
            found = self._plain(e)
            self.made[e] = _remembered(e, found) if e in self.shared else found
        return self.made[e]

    def _plain(self, e: Expr) -> ExprFunction:
        match e:
            case Const():
                number = scalar.number(e.value, e.dtype)
                return lambda now, lane: number
            case Var(name=name):
                return (lambda now, lane: now.env[name][0]) if e.lanes == 1 else (lambda now, lane: now.env[name][lane])
            case Load():
                return self._load(e)
            case Unary():
                a, unary = self.function(e.a), scalar.unary(e.op, e.dtype)
                return lambda now, lane: unary(a(now, lane))
            case Binary():
                return self._binary(e)
            case Math():
                args, math_fn = [self.function(a) for a in e.args], scalar.math_fn(e.fn, e.args[0].dtype)
                return lambda now, lane: math_fn(*[a(now, lane) for a in args])
            case Select():
                cond, then, other = self.function(e.cond), self.function(e.then), self.function(e.other)
                return lambda now, lane: then(now, lane) if cond(now, lane) else other(now, lane)
            case Cast():
                value, cast = self.function(e.value), scalar.cast(e.value.dtype, e.dtype, e.mode)
                return lambda now, lane: cast(value(now, lane))
            case Ramp():
                return self._ramp(e)
            case Broadcast():
                repeated = self.function(e.value)
                return lambda now, lane: repeated(now, 0)
            case Lane():
                vector, chosen = self.function(e.vector), e.index
                return lambda now, lane: vector(now, chosen)
            case _:
                raise AssertionError(f"{type(e).__name__} belongs to nests; kernels have Load")

    def _binary(self, e: Binary) -> ExprFunction:
        a, b, binary = self.function(e.a), self.function(e.b), scalar.binary(e.op, e.a.dtype)
        if isinstance(e.b, Const):  # most index arithmetic
            number = scalar.number(e.b.value, e.b.dtype)
            return lambda now, lane: binary(a(now, lane), number)
        return lambda now, lane: binary(a(now, lane), b(now, lane))

    def _load(self, e: Load) -> ExprFunction:
        buffer, index, element = e.buffer, self.function(e.index), scalar.from_array(e.dtype)

        def load(now: Moment, lane: int) -> Scalar:
            return element(now.memory[buffer][now.position(buffer, index(now, lane))])

        if e.mask is None:
            return load
        mask, zero = self.function(e.mask), scalar.number(0, e.dtype)
        return lambda now, lane: load(now, lane) if mask(now, lane) else zero

    def _ramp(self, e: Ramp) -> ExprFunction:
        base, stride, dtype = self.function(e.base), self.function(e.stride), e.dtype
        if dtype.is_float:
            return lambda now, lane: base(now, 0) + stride(now, 0) * dtype.numpy.type(lane)
        return lambda now, lane: scalar.wrap(int(base(now, 0)) + int(stride(now, 0)) * lane, dtype)


def _remembered(e: Expr, function: ExprFunction) -> ExprFunction:
    """The function of a shared part."""

    def of_scalar(now: Moment, lane: int) -> Scalar:
        found = now.memo.get(e)
        if found is None:
            found = now.memo[e] = function(now, 0)
        return found

    def of_vector(now: Moment, lane: int) -> Scalar:
        key = (e, lane)
        found = now.memo.get(key)
        if found is None:
            found = now.memo[key] = function(now, lane)
        return found

    return of_scalar if e.lanes == 1 else of_vector
