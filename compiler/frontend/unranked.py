"""The few operators that take a tensor whose rank is known only at run time: those that look at elements, or at the shape.

Such tensors come out of an If whose branches disagree, and of sequences of tensors of different ranks. What comes after such an If and
needs the rank goes into its branches (`regions.py`). Where the model declares a
rank for one, `ranked` makes it an ordinary tensor, and the compiled model checks it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..diagnostics import Loc
from ..graph.builder import GraphBuilder
from ..graph.nodes import Attribute, Value
from .aggregates import Item, Unranked

if TYPE_CHECKING:
    from .bodies import Call

_FOR_EACH_ELEMENT = frozenset({
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Clip", "Cos", "Cosh", "Elu", "Erf", "Exp",
    "Floor", "Gelu", "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round",
    "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu",
})  # fmt: skip


_BROADCAST = frozenset({
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
    "Max", "Mean", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor",
})  # fmt: skip
_PERHAPS = _BROADCAST | {"CastLike", "Optional", "OptionalGetElement", "Reshape", "SequenceConstruct", "SequenceInsert", "Shape", "Size"}
"""Operators that take such a tensor, or do under conditions; what they give is a matter of its own."""


def needs_rank(calls: Iterable[Call], names: Collection[str]) -> bool:
    """True if one of some nodes, or of those in their regions, surely has to know the ranks of the values that are named."""
    unranked = set(names)
    for call in calls:
        if any(needs_rank(body.calls, unranked) for body in call.regions.values()):
            return True
        if not unranked.isdisjoint(call.inputs):
            if call.op in _FOR_EACH_ELEMENT or call.op == "Identity":
                unranked.update(call.outputs)
            elif call.op not in _PERHAPS:
                return True
    return False


def use_unranked(op: str, inputs: Sequence[Item | None], attrs: Mapping[str, Attribute], b: GraphBuilder, loc: Loc) -> list[Item] | None:
    """The outputs of an operator with inputs of no known rank; None if their ranks decide what the operator does."""
    if not all(item is None or isinstance(item, (Value, Unranked)) for item in inputs):
        return None
    tensors = [item if isinstance(item, (Value, Unranked)) else None for item in inputs]
    with b.at(loc, ""):
        if op in _BROADCAST:
            return _broadcast(op, tensors, attrs, b)
        if op == "CastLike" and isinstance(tensors[1], Unranked):  # asked for its type only
            tensors[1] = tensors[1].elements
        first, *others = tensors
        plain = [x for x in others if not isinstance(x, Unranked)]
        if len(plain) < len(others) or first is None:
            return None
        if isinstance(first, Value):
            return list(b.add(op, [first, *plain], attrs))  # type: ignore[arg-type]
        return _alone(op, first, plain, attrs, b)


def _alone(op: str, first: Unranked, others: Sequence[Value | None], attrs: Mapping[str, Attribute], b: GraphBuilder) -> list[Item] | None:
    """An operator whose first input has no known rank, and whose other inputs are no matter."""
    if op in _FOR_EACH_ELEMENT:
        (result,) = b.add(op, [first.elements, *others], attrs)
        assert result is not None
        return [replace(first, elements=result)]
    if op == "Size":
        return [b.op("Size", first.elements)]
    if op == "Shape" and not attrs:
        return [first.extents]
    if op == "Reshape" and _copies_nothing(b, others, attrs):
        return [b.op("Reshape", first.elements, *others, **attrs)]
    return None


def _broadcast(op: str, inputs: Sequence[Value | Unranked | None], attrs: Mapping[str, Attribute], b: GraphBuilder) -> list[Item] | None:
    """An operator that broadcasts: the result has the rank of an input of known rank, if no other can have more.

    With scalars, a tensor of any rank keeps its own.
    """
    first, *more = [item for item in inputs if isinstance(item, Unranked)]
    if not more and all(item is first or (isinstance(item, Value) and item.type.rank == 0) for item in inputs):
        (result,) = b.add(op, [first.elements if isinstance(item, Unranked) else item for item in inputs], attrs)
        assert result is not None
        return [replace(first, elements=result)]
    rank = max((x.type.rank for x in inputs if isinstance(x, Value)), default=0)
    operands: list[Value | None] = []
    for item in inputs:
        if isinstance(item, Unranked) and (item.most is None or item.most > rank):
            return None
        operands.append(_padded(item, b) if isinstance(item, Unranked) else item)
    return list(b.add(op, operands, attrs))  # type: ignore[arg-type]


def _padded(item: Unranked, b: GraphBuilder) -> Value:
    """A tensor with extents of 1 in front, up to its largest rank."""
    assert item.most is not None
    if item.elements.type.shape == (1,):
        return b.op("Reshape", item.elements, b.const([1] * item.most))
    extents = b.op("onnxc::PadShape", item.extents, rank=item.most)
    return b.op("Reshape", item.elements, extents, allowzero=1)


def _copies_nothing(b: GraphBuilder, others: Sequence[Value | None], attrs: Mapping[str, Attribute]) -> bool:
    """True if a Reshape surely takes no extent from its input."""
    wanted = None if not others or others[0] is None else b.array(others[0])
    return bool(attrs.get("allowzero")) or (wanted is not None and bool(np.all(wanted != 0)))


def ranked(item: Unranked, rank: int, b: GraphBuilder) -> Value:
    """A tensor of unknown rank as one of the rank that the model declares."""
    extents = b.op("onnxc::WithRank", item.extents, rank=rank)
    return b.op("Reshape", item.elements, extents, allowzero=1)
