"""Put constants of one element into the expressions that read them: bounds of a clip, factors, exponents.

Runs as stages are made, before fusion. A number in the code costs no load, and what is done with it can be
simplified. Floats only, and no parameters of quantization: layers of equal shape would no longer share a kernel.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...compiler.dtypes import DType
from ...compiler.graph.facts import GraphFacts
from ...compiler.graph.nodes import Node, Value
from ...compiler.kernel.build import const
from ...compiler.kernel.nest import Nest
from ...compiler.kernel.nodes import Const, Expr, Read
from ...compiler.kernel.traverse import map_expr

FLOATS = (DType.FLOAT32, DType.FLOAT64)
QUANTIZED = ("Quantize", "QLinear", "quantize", "QGemm", "QAttention")
"""Parts of the names of operators whose scales are parameters."""


def inline_numbers(nest: Nest, node: Node, facts: GraphFacts) -> Nest:
    """Return the nest of a node with a number for each read of a constant that has one element."""
    if any(part in node.op for part in QUANTIZED):
        return nest
    numbers = {k: number for k, v in enumerate(node.inputs) if v is not None and (number := _number(v, facts)) is not None}
    if not numbers:
        return nest
    memo: dict[Expr, Expr] = {}

    def leaf(e: Expr) -> Expr | None:
        return numbers.get(e.operand) if isinstance(e, Read) else None

    finish = None if nest.finish is None else map_expr(nest.finish, leaf, memo)
    return replace(nest, body=map_expr(nest.body, leaf, memo), finish=finish)


def _number(value: Value, facts: GraphFacts) -> Const | None:
    """The only element of a constant."""
    if value.type.dtype not in FLOATS or not value.type.is_static or value.type.element_count != 1:
        return None
    owner = facts.owner(value.name)
    array = None if owner is None else owner.constants.get(value.name)
    return None if array is None else const(float(np.asarray(array).reshape(-1)[0]), value.type.dtype)
