"""Replaces operators that are defined by simpler ones, until only nests, kernels and control flow are left.

Runs after the passes that look for whole operators (batch normalization) and before fusion.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.graph.rebuild import Rebuilder, rebuild
from ...compiler.ops.table import Rewrite, context, lookup

MAX_ROUNDS = 16
"""Depth of definitions by definitions; more means a definition that never ends."""


def decompose(graph: Graph) -> Graph:
    """Replace operators that are defined by simpler ones."""
    for _ in range(MAX_ROUNDS):
        if not _has_rewrites(graph):
            return graph
        graph = rebuild(graph, _expand, decompose.__name__)
    raise AssertionError("a definition of an operator uses itself")


def _expand(rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
    row = lookup(node.op)
    if row is None or not isinstance(row.define, Rewrite):
        return None
    return row.define.build(context(node, rebuilder.builder.facts), rebuilder.builder)


def _has_rewrites(graph: Graph) -> bool:
    for node in graph.nodes:
        row = lookup(node.op)
        if (row is not None and isinstance(row.define, Rewrite)) or any(_has_rewrites(region) for region in node.regions):
            return True
    return False
