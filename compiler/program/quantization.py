"""Scale and zero point of a model's quantized inputs and outputs, which the face of the generated code states.

An 8 or 16 bit integer input is quantized if the nodes that read it say by which scale, and all say the same; an
output if the node that makes it does. Operators that only move elements lie between. Looked at after the passes
over the graph, before it is lowered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..dtypes import DType
from ..graph.nodes import Graph, Node, Quant, Value

READERS: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "DequantizeLinear": ((0, 1, 2),),
    "QLinearConv": ((0, 1, 2),),
    "QLinearMatMul": ((0, 1, 2), (3, 4, 5)),
    "com.microsoft::QGemm": ((0, 1, 2),),
}
"""Operands that are codes, by operator: positions of the codes, their scale and their zero point."""

MAKERS: Mapping[str, tuple[int, int]] = {
    "QuantizeLinear": (1, 2),
    "QLinearConv": (6, 7),
    "QLinearMatMul": (6, 7),
    "com.microsoft::QGemm": (7, 8),
}
"""Operators whose first output is codes: positions of its scale and zero point."""

MOVERS = frozenset({"Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators whose first output has codes of their first input."""

_CODES = frozenset({DType.INT8, DType.UINT8, DType.INT16, DType.UINT16})


def find_quantization(graph: Graph) -> dict[str, Quant]:
    """Scale and zero point of the inputs and outputs of a graph that are quantized as a whole, by name."""
    readers: dict[str, list[tuple[Node, int]]] = {}
    for node in graph.nodes:
        for position, value in enumerate(node.inputs):
            if value is not None:
                readers.setdefault(value.name, []).append((node, position))
    makers = {value.name: node for node in graph.nodes for value in node.outputs[:1] if value is not None}
    found: dict[str, Quant] = {}
    for value in (*graph.inputs, *graph.outputs):
        if value.type.dtype not in _CODES:
            continue
        said = {*_said_by_readers(graph, value, readers), *_said_by_maker(graph, value, makers)}
        if len(said) == 1:
            found[value.name] = said.pop()
    return found


def _said_by_readers(graph: Graph, value: Value, readers: Mapping[str, list[tuple[Node, int]]]) -> Iterator[Quant]:
    pending = [value.name]
    while pending:
        for node, position in readers.get(pending.pop(), ()):
            for codes, scale, zero_point in READERS.get(node.op, ()):
                if codes == position:
                    yield from _quant(graph, node, scale, zero_point, value.type.dtype)
            if node.op in MOVERS and position == 0 and node.outputs[0] is not None:
                pending.append(node.outputs[0].name)


def _said_by_maker(graph: Graph, value: Value, makers: Mapping[str, Node]) -> Iterator[Quant]:
    node = makers.get(value.name)
    while node is not None and node.op in MOVERS and node.inputs[0] is not None:
        node = makers.get(node.inputs[0].name)
    if node is not None and node.op in MAKERS:
        yield from _quant(graph, node, *MAKERS[node.op], value.type.dtype)


def _quant(graph: Graph, node: Node, scale: int, zero_point: int, dtype: DType) -> Iterator[Quant]:
    """The quantization of a node's operand, if it is a constant for the whole tensor."""
    factor, zero = _single(graph, node, scale), _single(graph, node, zero_point)
    if factor is not None and factor > 0:
        yield Quant((factor,), (int(zero or 0),), None, dtype)


def _single(graph: Graph, node: Node, position: int) -> float | None:
    """The number that an operand consists of; None if it is absent, unknown, or several numbers."""
    value = node.inputs[position] if position < len(node.inputs) else None
    array = None if value is None else graph.constants.get(value.name)
    return float(np.asarray(array).reshape(-1)[0]) if array is not None and array.size == 1 else None
