"""Dequantize at compile time the constant weights that no integer kernel reads.

`fold_constants` keeps `DequantizeLinear` of a constant, for kernels that sum integers. What is left of them when
those have taken theirs would be decoded into memory by every run: on a microcontroller, flash is less scarce
than RAM. Runs after `quantized_contractions`, before constants are folded again; for targets with little memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.graph.rebuild import Rebuilder, rebuild
from .fold_constants import fold_node

DEQUANTIZE = "DequantizeLinear"
BYTES = (DType.INT8, DType.UINT8)
"""Types of codes that are decoded; narrower ones would grow too much."""


def dequantize_weights(graph: Graph) -> Graph:
    """Decode constants that only floats meet."""
    decoded = _decoded(graph)

    def visit(rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
        output = node.outputs[0] if node.outputs else None
        return fold_node(rebuilder.builder, node) if output is not None and output.name in decoded else None

    return rebuild(graph, visit, dequantize_weights.__name__) if decoded else graph


def _decoded(graph: Graph) -> set[str]:
    """Outputs of `DequantizeLinear` of constants whose users read no other codes."""
    constants = {v.name for n in graph.nodes if n.op == DEQUANTIZE and _is_constant(n, graph) for v in n.outputs if v is not None}
    codes = {v.name for n in graph.nodes if n.op == DEQUANTIZE for v in n.outputs if v is not None} - constants
    for node in graph.nodes:  # what is computed of codes alone still stands for codes
        if any(v is not None and v.name in codes for v in node.inputs) and not _computes(node):
            codes.update(v.name for v in node.outputs if v is not None)
    users: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            if value is not None:
                users.setdefault(value.name, []).append(node)
    return {name for name in constants if not _meets(name, users, codes)}


def _meets(name: str, users: dict[str, list[Node]], codes: set[str]) -> bool:
    """True if a user of a constant, perhaps behind movements, also reads codes or makes some."""
    for user in users.get(name, []):
        if user.op == "QuantizeLinear" or any(v is not None and v.name in codes for v in user.inputs):
            return True
        if not _computes(user) and any(_meets(v.name, users, codes) for v in user.outputs if v is not None):
            return True
    return False


def _computes(node: Node) -> bool:
    """False for operators that only move elements."""
    return node.op not in ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Concat", "Slice", "Pad", "MaxPool")


def _is_constant(node: Node, graph: Graph) -> bool:
    codes = node.inputs[0]
    known = all(v is None or v.name in graph.constants for v in node.inputs)
    return codes is not None and codes.type.dtype in BYTES and known
