"""Sequences: chains of nodes from tensors to tensors with sequences between them."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

from ..content import MOVED
from ..draft import Draft, Misfit, Operand
from .registry import sample


class _Chain:
    """Nodes that are run together."""

    def __init__(self, d: Draft, *operands: Operand) -> None:
        self.d = d
        self.nodes: list[NodeProto] = []
        self.operands = list(operands)

    def then(self, op: str, *inputs: str | Operand | int, **attrs: object) -> str:
        """Append a node of one output, with numbers as constants; its name."""
        names = []
        for given in inputs:
            if isinstance(given, str):
                names.append(given)
                continue
            operand = given if isinstance(given, Operand) else self.d.constant(np.array(given, np.int64), listed=False)
            self.operands.append(operand)
            names.append(operand.name)
        self.nodes.append(helper.make_node(op, names, [self.d.name("v")], **attrs))
        return str(self.nodes[-1].output[0])

    def finish(self) -> None:
        self.d.append(self.nodes, self.operands)


def _read(d: Draft, chain: _Chain, sequence: str, length: int) -> None:
    """End a chain with one element, all joined, or their number."""
    kind = d.choose(("element", "joined", "stacked", "length"))
    if kind == "length" or not length:
        chain.then("SequenceLength", sequence)
    elif kind == "element":
        chain.then("SequenceAt", sequence, d.int(-length, length - 1))
    else:
        chain.then("ConcatFromSequence", sequence, axis=d.int(0, 1), new_axis=1 if kind == "stacked" else 0)
    chain.finish()


@sample("SequenceConstruct", "SequenceInsert", "SequenceErase", weight=2)
def construct(d: Draft, op: str) -> None:
    """Operators on a sequence of tensors that need not have one shape."""
    x = d.pick(*MOVED)
    fits = [v for v in d.visible() if v.dtype == x.dtype and v.rank == x.rank and (d.chance(30) or v.shape == x.shape)]
    parts = [x, *(d.choose(fits) for _ in range(d.int(0, 2) if fits else 0))]
    chain, length = _Chain(d, *parts), len(parts)
    sequence = chain.then("SequenceConstruct", *(v.name for v in parts))
    if op == "SequenceInsert":
        sequence = chain.then(op, sequence, x, *([d.int(-length, length)] if d.chance(60) else ()))
        length += 1
    if op == "SequenceErase":
        sequence = chain.then(op, sequence, *([d.int(-length, length - 1)] if d.chance(60) else ()))
        length -= 1
    _read(d, chain, sequence, length)


@sample("SplitToSequence", weight=2)
def split(d: Draft, op: str) -> None:
    x = d.pick(*MOVED, rank=range(1, 5))
    axis = d.axis(x.rank)
    n = x.shape[axis]
    if not n:
        raise Misfit
    kind = d.choose(("each", "size", "sizes"))
    chain = _Chain(d, x)
    if kind == "each":
        sequence, length = chain.then(op, x.name, axis=axis, keepdims=d.int(0, 1)), n
    elif kind == "size":
        size = d.int(1, n)
        sequence, length = chain.then(op, x.name, size, axis=axis), -(-n // size)
    else:
        cut = d.int(0, n)
        sizes = d.constant([cut, n - cut], listed=False)
        sequence, length = chain.then(op, x.name, sizes, axis=axis), 2
    _read(d, chain, sequence, length)


@sample("Optional", weight=1)
def optional(d: Draft, op: str) -> None:
    x = d.pick(*MOVED)
    chain = _Chain(d, x)
    chain.then(d.choose(("OptionalGetElement", "OptionalHasElement")), chain.then(op, x.name))
    chain.finish()
