"""Evaluate nodes whose inputs are constants, and small tensors that shapes determine.

Runs first, so that other passes see constants, and again after decomposition. A value is folded only if
it fits the budget and is not much larger than what it is made of. `DequantizeLinear` of a constant stays:
the quantized form is smaller, and a quantized kernel wants it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...compiler.graph.builder import GraphBuilder
from ...compiler.graph.interpret import run_node
from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.graph.rebuild import Rebuilder, rebuild
from ...compiler.kernel import build
from ...compiler.ops.table import Imperative, Nests, OpContext, Region, context, lookup
from .random_operators import RANDOM_OPERATORS

BUDGET_BYTES = 64 << 20
"""Largest constant that is made."""
GROWTH, SLACK_BYTES = 4, 1 << 20
"""A folded value has at most `GROWTH` times the bytes of its inputs, and this much more."""
FILL_BYTES = 1 << 30
"""Largest constant that is one number repeated."""
MAX_TERMS = 1 << 27
"""Limit of the arithmetic for one value."""
MAX_IMPERATIVE_BYTES = 1 << 16
"""Limit of the data for operators that only the kernel interpreter can run."""
_KEPT = RANDOM_OPERATORS | {"DequantizeLinear"}


def fold_constants(graph: Graph) -> Graph:
    """Evaluate what does not depend on the inputs, and inline an If whose branch is known."""
    return rebuild(graph, _fold, fold_constants.__name__)


def _fold(rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
    if node.op == "If":
        return _fold_if(rebuilder, node)
    row = lookup(node.op)
    if node.regions or node.op in _KEPT or row is None or isinstance(row.define, Region):
        return None
    builder = rebuilder.builder
    if all(v is None or v.name in _constants(builder, v) for v in node.inputs) and any(v is not None for v in node.inputs):
        return fold_node(builder, node)
    return _fold_contents(rebuilder, node)


def _constants(builder: GraphBuilder, value: Value) -> dict[str, np.ndarray]:
    owner = builder.facts.owner(value.name)
    return {} if owner is None else owner.constants


def _fold_if(rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
    """The branch instead of the node, if the condition is known."""
    assert node.inputs[0] is not None
    cond = rebuilder.builder.array(node.inputs[0])
    return None if cond is None else rebuilder.inline(node.regions[0 if bool(cond.reshape(-1)[0]) else 1])


def fold_node(builder: GraphBuilder, node: Node) -> Sequence[Value | None] | None:
    """Constants for the outputs of a node whose inputs are constants; None if they would be too large."""
    arrays = [None if v is None else builder.array(v) for v in node.inputs]
    if node.op == "ConstantOfShape":
        return _fold_fill(builder, node)
    source_bytes = sum(a.nbytes for a in arrays if a is not None)
    limit = min(BUDGET_BYTES, GROWTH * source_bytes + SLACK_BYTES)
    if not _is_affordable(context(node, builder.facts), source_bytes, limit):
        return None
    results = run_node(builder.facts, node, arrays)
    if sum(a.nbytes for a in results if a is not None) > limit:
        return None
    return [
        None if old is None or array is None else builder.constant(old.name, np.ascontiguousarray(array).reshape(array.shape))
        for old, array in zip(node.outputs, results, strict=True)
    ]


def _fold_fill(builder: GraphBuilder, node: Node) -> Sequence[Value | None] | None:
    """A tensor of one number: an array without memory of its own, so that even large weights may be so."""
    (output,) = node.outputs
    if output is None or not output.type.is_static or output.type.element_count * output.type.dtype.bytes > FILL_BYTES:
        return None
    fill = node.attrs.get("value")
    number = np.zeros((), np.float32) if fill is None else np.asarray(fill).reshape(-1)[0]
    return [builder.constant(output.name, np.broadcast_to(np.asarray(number, output.type.dtype.numpy), output.type.static_shape))]


def _is_affordable(ctx: OpContext, source_bytes: int, limit: int) -> bool:
    """Whether the outputs fit and the work is small, as far as the types say."""
    outputs = [v for v in ctx.node.outputs if v is not None]
    if sum(v.type.element_count * v.type.dtype.bytes for v in outputs if v.type.is_static) > limit:
        return False
    row = lookup(ctx.node.op)
    assert row is not None
    if isinstance(row.define, Imperative) and row.define.calls and row.meaning is None:
        return False
    if isinstance(row.define, Imperative) and row.meaning is None:
        return source_bytes <= MAX_IMPERATIVE_BYTES
    if not isinstance(row.define, Nests):
        return True
    sizes = [build.product((*nest.shape, *nest.reduce_shape)) for nest in row.define.build(ctx) if nest is not None]
    return all(isinstance(size, int) for size in sizes) and math.fsum(s for s in sizes if isinstance(s, int)) <= MAX_TERMS


def _fold_contents(rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
    """Constants for small outputs that the types of the inputs determine, as those of Shape."""
    made = rebuilder.keep(node)
    builder = rebuilder.builder
    arrays = [None if v is None else builder.array(v) for v in made]
    if any(v is not None and a is None for v, a in zip(made, arrays, strict=True)):
        return made
    return [None if a is None else builder.const(a) for a in arrays]
