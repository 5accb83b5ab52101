"""What each operator means to a quantizer: a table.

A contraction multiplies codes and sums in int32. A mover's result has the codes of its operand. Arithmetic has codes on
both sides, each with a scale of its own. What is not in the table stays float.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

from ..graph.nodes import Graph, Node, Value


class Role(enum.Enum):
    """How an operator takes part."""

    CONTRACTION = "contraction"
    REDUCTION = "reduction"  # arithmetic that makes less of its operand: it always wants codes
    ARITHMETIC = "arithmetic"  # wants codes if its result is wanted as codes
    MOVER = "mover"  # the same, and both sides have one scale
    FLOAT = "float"


_CONTRACTIONS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_REDUCTIONS = ("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "MaxPool", "GlobalMaxPool", "ReduceMax")
_ARITHMETIC = (
    "Add", "Sub", "Mul", "Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Elu", "Gelu", "Swish",
    "Mish", "Softplus", "Softsign",
)  # fmt: skip
_MOVERS = (
    "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "GatherElements", "GatherND", "Expand", "Tile",
    "DepthToSpace", "SpaceToDepth", "Identity", "Concat", "Pad", "Resize",
)  # fmt: skip
_SAME_CODES = ("MaxPool", "GlobalMaxPool", "ReduceMax")
"""Reductions whose result has the codes of their operand."""

ROLES: Mapping[str, Role] = {
    **dict.fromkeys(_CONTRACTIONS, Role.CONTRACTION),
    **dict.fromkeys(_REDUCTIONS, Role.REDUCTION),
    **dict.fromkeys(_ARITHMETIC, Role.ARITHMETIC),
    **dict.fromkeys(_MOVERS, Role.MOVER),
}

EPILOGUES = ("Relu", "Clip")
"""Operators that happen on the sums of a layer before they become codes: they only bound them."""


def role_of(node: Node, graph: Graph) -> Role:
    """What a node is to the quantizer, its attributes considered."""
    role = ROLES.get(node.op, Role.FLOAT)
    if node.op == "Gemm" and (node.attrs.get("alpha", 1.0) != 1.0 or node.attrs.get("beta", 1.0) != 1.0):
        return Role.FLOAT
    if node.op == "Pad" and not _pads_with_zero(node, graph):
        return Role.FLOAT
    if node.op == "Resize" and node.attrs.get("mode", "nearest") != "nearest":
        return Role.ARITHMETIC
    return role


def keeps_codes(node: Node, graph: Graph) -> bool:
    """Whether the codes of the result are codes of the operands."""
    return role_of(node, graph) is Role.MOVER or node.op in _SAME_CODES


def data_operands(node: Node) -> tuple[Value, ...]:
    """The operands that are data, rather than shapes, indices or bounds."""
    count = len(node.inputs) if node.op == "Concat" else 2 if node.op in ("Add", "Sub", "Mul", "PRelu", *_CONTRACTIONS) else 1
    return tuple(v for v in node.inputs[:count] if v is not None)


def _pads_with_zero(node: Node, graph: Graph) -> bool:
    """True if the pad repeats elements or is zero, which every range holds."""
    if node.attrs.get("mode", "constant") != "constant":
        return True
    value = node.inputs[2] if len(node.inputs) > 2 else None
    array = None if value is None else graph.constants.get(value.name)
    return value is None or (array is not None and not array.any())
