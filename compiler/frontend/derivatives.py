"""Derivatives of operators, for the Gradient operator: from the derivative by a node's output to those by its inputs.

Each rule is written in operators of the table, so that gradients are compiled like anything else. Operators without a rule that are
defined by simpler ones are differentiated as these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

import numpy as np

from ..diagnostics import CompileError
from ..graph.builder import GraphBuilder
from ..graph.nodes import Node, Value
from ..kernel import build


@dataclass(frozen=True, slots=True)
class Step:
    """A node and the derivative by its output; arithmetic on values and numbers."""

    b: GraphBuilder
    node: Node
    dy: Value

    @property
    def y(self) -> Value:
        """The first output."""
        (y, *_) = self.node.outputs
        assert y is not None
        return y

    def x(self, position: int = 0) -> Value:
        """An input that is given."""
        x = self.node.inputs[position]
        assert x is not None
        return x

    def op(self, name: str, *operands: Value | float) -> Value:
        """One operator; numbers take the type of the derivative."""
        dtype = self.dy.type.dtype.numpy
        return self.b.op(name, *(v if isinstance(v, Value) else self.b.const(np.array(v, dtype)) for v in operands))

    def times(self, *factors: Value | float) -> Value:
        """The derivative times factors."""
        product = self.dy
        for factor in factors:
            product = self.op("Mul", product, factor)
        return product

    def where(self, condition: Value) -> Value:
        """The derivative where the condition holds, else 0."""
        return self.op("Where", condition, self.dy, 0.0)

    def shaped(self, value: Value, like: Value) -> Value:
        """The same elements in the shape of another value."""
        return self.b.op("Reshape", value, self.b.op("Shape", like), allowzero=1)

    def summed(self, value: Value, like: Value) -> Value:
        """The sum over the axes along which `like` was broadcast."""
        lead = value.type.rank - like.type.rank
        narrow = [axis for axis, d in enumerate(like.type.shape, lead) if d == 1 and value.type.shape[axis] != 1]
        for axis, d in enumerate(like.type.shape, lead):
            if axis not in narrow and build.index(d) != build.index(value.type.shape[axis]):
                self.fail("E0204", f"whether '{like.name}' is repeated along axis {axis - lead} must be known when compiling")
        if not lead and not narrow:
            return value
        total = self.b.op("ReduceSum", value, self.b.const([*range(lead), *narrow]), keepdims=1)
        return self.shaped(total, like) if lead else total

    def restored(self, value: Value) -> Value:
        """What a reduction of the first input has made, repeated along the axes that it was reduced over."""
        if not self.node.attrs.get("keepdims", 1) and value.type.rank < self.x().type.rank:
            axes = self.node.inputs[1] if len(self.node.inputs) > 1 else None
            value = self.b.op("Unsqueeze", value, axes or self.b.const(list(range(self.x().type.rank))))
        return self.b.op("Expand", value, self.b.op("Shape", self.x()))

    def fail(self, code: str, message: str) -> NoReturn:
        """Raise a `CompileError` at this node."""
        raise CompileError(code, f"the derivative: {message}", self.node.loc)


Rule: TypeAlias = Callable[[Step], Sequence[Value | None]]
"""Derivatives by the inputs, None for one that does not matter."""


def _elementwise(rule: Callable[[Step], Value]) -> Rule:
    return lambda s: [rule(s)]


def _broadcast(rule: Callable[[Step], Sequence[Value]]) -> Rule:
    """A rule for operands that are broadcast: its results have the shape of the output."""
    return lambda s: [s.summed(d, s.x(k)) for k, d in enumerate(rule(s))]


# --- Products, reductions, movement -----------------------------------------------------------


def _power(s: Step) -> list[Value]:
    x, e = s.x(0), s.b.op("Cast", s.x(1), to=s.dy.type.dtype.onnx)
    by_base = s.times(e, s.op("Pow", x, s.op("Sub", e, 1.0)))
    by_exponent = s.times(s.op("Where", s.op("Greater", x, 0.0), s.op("Mul", s.y, s.op("Log", x)), 0.0))
    return [by_base, by_exponent]


def _matmul(s: Step) -> list[Value]:
    a, c, dy = s.x(0), s.x(1), s.dy
    if c.type.rank == 1:
        c, dy = s.b.op("Unsqueeze", c, s.b.const([1])), s.b.op("Unsqueeze", dy, s.b.const([-1]))
    if a.type.rank == 1:
        a, dy = s.b.op("Unsqueeze", a, s.b.const([0])), s.b.op("Unsqueeze", dy, s.b.const([-2]))
    by_a = s.summed(s.b.op("MatMul", dy, _transposed(s.b, c)), a)
    by_c = s.summed(s.b.op("MatMul", _transposed(s.b, a), dy), c)
    return [s.shaped(by_a, s.x(0)), s.shaped(by_c, s.x(1))]


def _transposed(b: GraphBuilder, x: Value) -> Value:
    rank = x.type.rank
    return b.op("Transpose", x, perm=(*range(rank - 2), rank - 1, rank - 2))


def _gemm(s: Step) -> list[Value]:
    (a, c), alpha = (s.x(0), s.x(1)), float(s.node.attrs.get("alpha", 1.0))  # type: ignore[arg-type]
    dy, turned_a, turned_c = s.times(alpha), bool(s.node.attrs.get("transA", 0)), bool(s.node.attrs.get("transB", 0))
    by_a = s.b.op("Gemm", c, dy, transA=int(turned_c), transB=1) if turned_a else s.b.op("Gemm", dy, c, transB=int(not turned_c))
    by_c = s.b.op("Gemm", dy, a, transA=1, transB=int(turned_a)) if turned_c else s.b.op("Gemm", a, dy, transA=int(not turned_a))
    if len(s.node.inputs) < 3:
        return [by_a, by_c]
    return [by_a, by_c, s.summed(s.times(float(s.node.attrs.get("beta", 1.0))), s.x(2))]  # type: ignore[arg-type]


def _mean(s: Step) -> list[Value]:
    count = s.b.op("Div", s.b.op("Size", s.x()), s.b.op("Size", s.y))
    return [s.restored(s.op("Div", s.dy, s.b.op("Cast", count, to=s.dy.type.dtype.onnx)))]


def _softmax(s: Step) -> list[Value]:
    axis = s.b.const([s.node.attrs.get("axis", -1)])  # type: ignore[list-item]
    return [s.op("Mul", s.y, s.op("Sub", s.dy, s.b.op("ReduceSum", s.times(s.y), axis)))]


def _log_softmax(s: Step) -> list[Value]:
    axis = s.b.const([s.node.attrs.get("axis", -1)])  # type: ignore[list-item]
    return [s.op("Sub", s.dy, s.op("Mul", s.op("Exp", s.y), s.b.op("ReduceSum", s.dy, axis)))]


def _transpose(s: Step) -> list[Value]:
    rank = s.y.type.rank
    order = s.node.attrs.get("perm", tuple(reversed(range(rank))))
    return [s.b.op("Transpose", s.dy, perm=tuple(int(k) for k in np.argsort(np.array(order))))]


def _concat(s: Step) -> list[Value]:
    axis = int(s.node.attrs["axis"])  # type: ignore[arg-type]
    where = s.b.const([axis % s.y.type.rank])
    extents = s.b.op("Concat", *(s.b.op("Gather", s.b.op("Shape", x), where) for x in s.node.inputs), axis=0)
    return list(s.b.ops("Split", len(s.node.inputs), s.dy, extents, axis=axis))


_RESHAPED: Rule = _elementwise(lambda s: s.shaped(s.dy, s.x()))

RULES: Mapping[str, Rule] = {
    "Abs": _elementwise(lambda s: s.times(s.op("Sign", s.x()))),
    "Add": _broadcast(lambda s: [s.dy, s.dy]),
    "Atan": _elementwise(lambda s: s.op("Div", s.dy, s.op("Add", s.op("Mul", s.x(), s.x()), 1.0))),
    "Cast": _elementwise(lambda s: s.b.op("Cast", s.dy, to=s.x().type.dtype.onnx)),
    "CastLike": lambda s: [s.b.op("Cast", s.dy, to=s.x().type.dtype.onnx), None],
    "Clip": _elementwise(lambda s: s.where(s.op("Equal", s.y, s.x()))),
    "Concat": _concat,
    "Cos": _elementwise(lambda s: s.times(s.op("Neg", s.op("Sin", s.x())))),
    "Cosh": _elementwise(lambda s: s.times(s.op("Sinh", s.x()))),
    "Div": _broadcast(lambda s: [s.op("Div", s.dy, s.x(1)), s.op("Neg", s.op("Div", s.times(s.y), s.x(1)))]),
    "Erf": _elementwise(lambda s: s.times(s.op("Exp", s.op("Neg", s.op("Mul", s.x(), s.x()))), 2 / math.sqrt(math.pi))),
    "Exp": _elementwise(lambda s: s.times(s.y)),
    "Expand": _broadcast(lambda s: [s.dy]),
    "Flatten": _RESHAPED,
    "Gemm": _gemm,
    "Identity": _elementwise(lambda s: s.dy),
    "Log": _elementwise(lambda s: s.op("Div", s.dy, s.x())),
    "LogSoftmax": _log_softmax,
    "MatMul": _matmul,
    "Mul": _broadcast(lambda s: [s.times(s.x(1)), s.times(s.x(0))]),
    "Neg": _elementwise(lambda s: s.op("Neg", s.dy)),
    "Pow": _broadcast(_power),
    "Reciprocal": _elementwise(lambda s: s.op("Neg", s.times(s.y, s.y))),
    "ReduceL2": _elementwise(lambda s: s.op("Mul", s.x(), s.op("Div", s.restored(s.dy), s.restored(s.y)))),
    "ReduceMean": _mean,
    "ReduceSum": _elementwise(lambda s: s.restored(s.dy)),
    "ReduceSumSquare": _elementwise(lambda s: s.op("Mul", s.restored(s.dy), s.op("Add", s.x(), s.x()))),
    "Relu": _elementwise(lambda s: s.where(s.op("Greater", s.x(), 0.0))),
    "Reshape": _RESHAPED,
    "Sigmoid": _elementwise(lambda s: s.times(s.y, s.op("Sub", 1.0, s.y))),
    "Sin": _elementwise(lambda s: s.times(s.op("Cos", s.x()))),
    "Sinh": _elementwise(lambda s: s.times(s.op("Cosh", s.x()))),
    "Softmax": _softmax,
    "Softplus": _elementwise(lambda s: s.times(s.op("Sigmoid", s.x()))),
    "Sqrt": _elementwise(lambda s: s.op("Div", s.dy, s.op("Add", s.y, s.y))),
    "Squeeze": _RESHAPED,
    "Sub": _broadcast(lambda s: [s.dy, s.op("Neg", s.dy)]),
    "Sum": _broadcast(lambda s: [s.dy] * len(s.node.inputs)),
    "Tanh": _elementwise(lambda s: s.times(s.op("Sub", 1.0, s.op("Mul", s.y, s.y)))),
    "Transpose": _transpose,
    "Unsqueeze": _RESHAPED,
    "Where": lambda s: [None, s.summed(s.where(s.x(0)), s.x(1)), s.summed(s.op("Where", s.x(0), 0.0, s.dy), s.x(2))],
}
"""By the key of the operator."""

FLAT = frozenset({"Ceil", "Floor", "Round", "Sign"})
"""Operators whose derivative is 0 wherever it exists."""
