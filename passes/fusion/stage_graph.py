"""The working state of fusion: the stages of a graph, who uses whom, and what must exist in memory.

Made of a typed graph by `make_stage_graph`; changed by the passes of this folder; turned into units by
`form_groups`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from ...compiler.graph.facts import MAX_ELEMENTS, GraphFacts
from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.kernel import build
from ...compiler.kernel.nest import Combine, Nest
from ...compiler.kernel.nodes import Binary, BinaryOp, Cast, Expr, Math, MathFn, Read, Select
from ...compiler.kernel.traverse import children, free_vars
from ...compiler.ops.table import Nests, context, lookup
from ...compiler.program.stages import NodeUnit, Placement, Stage, View, make_stage
from .constant_stages import Constants
from .inline_numbers import inline_numbers

NATIVE_MATH = frozenset({MathFn.SQRT, MathFn.FLOOR, MathFn.CEIL, MathFn.TRUNC, MathFn.ROUND, MathFn.FMA, MathFn.ISNAN, MathFn.ISINF})


@dataclass(slots=True)
class StageGraph:
    """Stages by the name of their value, in an order in which operands come first; and the rest."""

    stages: dict[str, Stage] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    others: list[NodeUnit] = field(default_factory=list)
    needed: set[str] = field(default_factory=set)
    """Values that must lie in memory because an output, a view, another node or a region uses them."""
    placements: dict[str, Placement] = field(default_factory=dict)
    """Values that are parts of another one's memory."""
    roots: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Values that are made of their parts: the names of the parts."""
    constants: Constants = field(default_factory=lambda: Constants(GraphFacts()))
    """What is known at compile time, and what fusion adds to it."""

    def placement(self, value: Value) -> Placement | None:
        """Where a value lies in the root that is no part itself; None if it has memory of its own."""
        found = self.placements.get(value.name)
        if found is None:
            return None
        outer = self.placement(found.root)
        if outer is None:
            return found
        starts = zip(found.start, outer.start, strict=True)
        return Placement(outer.root, tuple(build.dim(build.add(build.index(a), build.index(b))) for a, b in starts))

    def users(self) -> dict[str, list[str]]:
        """For each value the names of the stages that read it."""
        found: dict[str, list[str]] = {}
        for name, stage in self.stages.items():
            for operand in stage.operands:
                found.setdefault(operand.name, []).append(name)
        return found


def make_stage_graph(graph: Graph, facts: GraphFacts) -> StageGraph:
    """Define every node of a graph by its row of the operator table."""
    result = StageGraph(needed={v.name for v in graph.outputs}, constants=Constants(facts))
    for node in graph.nodes:
        row = lookup(node.op)
        assert row is not None, node.op
        if row.is_view and node.inputs[0] is not None and node.outputs[0] is not None and _same_layout(node):
            result.views[node.outputs[0].name] = View(node.outputs[0], node.inputs[0])
            result.needed.add(node.inputs[0].name)
        elif isinstance(row.define, Nests):
            _add_stages(result, node, facts, row.define)
            if row.define.sizes is not None:  # the kernel that finds the sizes reads the operands
                result.needed.update(used_names(node))
        else:
            result.others.append(NodeUnit(node))
            result.needed.update(used_names(node))
            _root_integers(node, facts)
    # Only now all definitions have asked for the integers that they read as symbols.
    result.needed.update(value for value, _ in facts.data_symbols.values())
    return result


def _root_integers(node: Node, facts: GraphFacts) -> None:
    """Take note of the symbols that the definition of an imperative kernel may ask for later."""
    for value in node.inputs:
        if value is not None and value.type.dtype.is_int and value.type.is_static and value.type.element_count <= MAX_ELEMENTS:
            facts.run_time_contents(value)


def _same_layout(node: Node) -> bool:
    """True if the elements of output and input lie in the same order in memory."""
    source, target = node.inputs[0], node.outputs[0]
    if source is None or target is None or node.op == "onnxc::HaloView":
        return True
    return source.type.layout.is_plain and target.type.layout.is_plain


def _add_stages(result: StageGraph, node: Node, facts: GraphFacts, define: Nests) -> None:
    nests = define.build(context(node, facts))
    for value, nest in zip(node.outputs, nests, strict=False):
        if value is not None and nest is not None:
            nest = inline_numbers(nest, node, facts)
            result.stages[value.name] = make_stage(value, node.inputs, nest, node.loc, (node.loc.node,) if node.loc.node else ())


def used_names(node: Node) -> set[str]:
    """Values that a node or its regions use."""
    names = {v.name for v in node.inputs if v is not None}
    for region in node.regions:
        names.update(v.name for v in region.outputs)
        for inner in region.nodes:
            names.update(used_names(inner))
    return names


# --- Questions about stages -------------------------------------------------------------------


@functools.lru_cache(4096)
def element_cost(e: Expr) -> int:
    """Rough number of instructions to compute an expression once; addresses of reads count one."""
    seen: set[Expr] = set()

    def visit(node: Expr) -> int:
        if node in seen:
            return 0
        seen.add(node)
        if isinstance(node, Read):
            return 1 + sum(visit(c) for c in node.indices if any_read(c))
        return _own_cost(node) + sum(visit(c) for c in children(node))

    return visit(e)


def _own_cost(node: Expr) -> int:
    match node:
        case Math(fn=fn):
            return 2 if fn in NATIVE_MATH else 15
        case Binary(op=BinaryOp.DIV):
            return 5
        case Binary(op=BinaryOp.FLOORDIV | BinaryOp.FLOORMOD | BinaryOp.MOD):
            return 8
        case Binary() | Cast() | Select():
            return 1
    return 0


def any_read(e: Expr) -> bool:
    """True if an expression depends on memory."""
    return isinstance(e, Read) or any(any_read(c) for c in children(e))


def is_movement(stage: Stage) -> bool:
    """True if each element is one element of one operand: only indices change, and they are not read."""
    body = stage.nest.body
    return stage.is_map and isinstance(body, Read) and not any(any_read(i) for i in body.indices)


def contraction_factors(nest: Nest) -> tuple[Expr, Expr] | None:
    """The two factors if the nest is a sum of products in which an output axis is in one factor only."""
    if nest.combine is not Combine.SUM or nest.in_order or not (nest.dtype.is_float or nest.dtype.is_int):
        return None
    body = nest.body
    if isinstance(body, Cast):
        body = body.value
    if not (isinstance(body, Binary) and body.op is BinaryOp.MUL and any_read(body.a) and any_read(body.b)):
        return None
    left, right = (set(free_vars(f)) for f in (body.a, body.b))
    outputs = {axis for axis, extent in zip(nest.axes, nest.shape, strict=True) if extent != 1}
    return (body.a, body.b) if (left ^ right) & outputs else None
