"""Replaces nodes by the simpler operators that define them, as deep as definitions go."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..ops.table import Rewrite, context, lookup
from .nodes import Graph, Node, Value
from .rebuild import Rebuilder, rebuild

MAX_ROUNDS = 16
"""Depth of definitions by definitions; more means a definition that never ends."""

Definition = Callable[[Node], Rewrite | None]


def definition_of(node: Node) -> Rewrite | None:
    """The simpler operators that define a node; None if it is a nest, a kernel or control flow."""
    row = lookup(node.op)
    return row.define if row is not None and isinstance(row.define, Rewrite) else None


def expand(graph: Graph, definition: Definition, origin: str) -> Graph:
    """Replace nodes by their definitions until none has one.

    Args:
        graph: the graph.
        definition: what a node is to be replaced by, if it is.
        origin: name of the pass, noted at the nodes that it makes.
    """

    def visit(rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
        define = definition(node)
        return None if define is None else define.build(context(node, rebuilder.builder.facts), rebuilder.builder)

    for _ in range(MAX_ROUNDS):
        if not any_node(graph, lambda node: definition(node) is not None):
            return graph
        graph = rebuild(graph, visit, origin)
    raise AssertionError("a definition of an operator uses itself")


def any_node(graph: Graph, holds: Callable[[Node], bool]) -> bool:
    """True if something holds of a node of the graph or its regions."""
    return any(holds(node) or any(any_node(region, holds) for region in node.regions) for node in graph.nodes)
