"""Make unsigned 8-bit codes between operators signed: codes and zero points become `int8`, both lowered by 128.

    QuantizeLinear(x, s, uint8 z) - 128 == QuantizeLinear(x, s, int8(z - 128))      both dequantize to the same

For processors whose byte vectors are signed: there patches of uint8 would take 16 bits an element and twice the instructions.
Inputs and outputs of the graph keep their types. Codes become signed where every producer and reader is known: operators with
constant zero points, and operators that only move codes or take their maximum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.graph.builder import GraphBuilder
from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.graph.rebuild import Rebuilder, rebuild
from .layout_copies import captured_names
from .move_quantization import MOVING

HALF = 128
READS: Mapping[str, Mapping[int, int]] = {
    "DequantizeLinear": {0: 2}, "QLinearConv": {0: 2}, "QLinearMatMul": {0: 2, 3: 5}, "ConvInteger": {0: 2}, "MatMulInteger": {0: 2},
}  # fmt: skip
"""By operator: the inputs that are codes, each with the input that is its zero point."""
WRITES: Mapping[str, int] = {"QuantizeLinear": 2, "QLinearConv": 7, "QLinearMatMul": 7}
"""The input that is the zero point of the output."""
KEEPS = frozenset({*MOVING, "Identity", "MaxPool", "Concat"})
"""Operators whose first output holds codes of their data and nothing else."""


def sign_codes(graph: Graph) -> Graph:
    """Make unsigned codes signed."""
    signed = _signed(graph)

    def visit(rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
        inputs, builder = list(node.inputs), rebuilder.builder
        for codes, zero in READS.get(node.op, {}).items():
            read, point = (inputs[k] if k < len(inputs) else None for k in (codes, zero))
            if read is not None and point is not None and read.type.dtype is DType.INT8 and point.type.dtype is DType.UINT8:
                inputs[zero] = _shifted(builder, point)
        output = node.outputs[0] if node.outputs else None
        if node.op in WRITES and output is not None and output.name in signed:
            point = inputs[WRITES[node.op]]
            assert point is not None
            inputs[WRITES[node.op]] = _shifted(builder, point)
        return None if tuple(inputs) == node.inputs else rebuilder.keep(node.with_inputs(*inputs))

    return rebuild(graph, visit, sign_codes.__name__) if signed else graph


def _shifted(builder: GraphBuilder, zero: Value) -> Value:
    array = builder.array(zero)
    assert array is not None
    return builder.const((array.astype(np.int16) - HALF).astype(np.int8))


def _signed(graph: Graph) -> set[str]:
    """Names of the values that become signed: all candidates except those that an operator makes or reads that cannot follow."""
    makers = {v.name: node for node in graph.nodes for v in node.outputs[:1] if v is not None and v.type.dtype is DType.UINT8}
    signed = {name for name, node in makers.items() if node.op in KEEPS or _has_constant(node, WRITES.get(node.op), graph)}
    signed -= {name for name in signed if makers[name].attrs.get("output_dtype")}
    signed -= {v.name for v in graph.outputs} | captured_names(graph)
    while True:
        refused = {name for name in signed if makers[name].op in KEEPS and not _keeps(makers[name], signed)}
        for node in graph.nodes:
            for k, value in enumerate(node.inputs):
                if value is not None and value.name in signed and not _may_read(node, k, signed, graph):
                    refused.add(value.name)
        if not refused:
            return signed
        signed -= refused


def _has_constant(node: Node, position: int | None, graph: Graph) -> bool:
    """True if an input is there and known at compile time."""
    value = node.inputs[position] if position is not None and position < len(node.inputs) else None
    return value is not None and value.name in graph.constants and value.type.dtype is DType.UINT8


def _keeps(node: Node, signed: set[str]) -> bool:
    """True if the data of an operator that keeps codes are all signed."""
    data = node.inputs if node.op == "Concat" else node.inputs[:1]
    others = [v for v in node.outputs[1:] if v is not None and v.type.dtype is DType.UINT8]
    return all(v is not None and v.name in signed for v in data) and not others


def _may_read(node: Node, k: int, signed: set[str], graph: Graph) -> bool:
    """True if a node can read signed codes as an input."""
    if node.op in KEEPS:
        output = node.outputs[0]
        return (k == 0 or node.op == "Concat") and output is not None and output.name in signed
    return k in READS.get(node.op, {}) and _has_constant(node, READS[node.op][k], graph)
