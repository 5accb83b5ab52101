"""Walk decision trees one at a time on in-order cores, where interleaved walks would only be more code."""

from __future__ import annotations

from dataclasses import replace

from ...compiler.graph.nodes import Graph, Node


def walk_one_tree(graph: Graph) -> Graph:
    """Walk one tree at a time."""
    return graph.with_nodes(tuple(map(_serial, graph.nodes)))


def _serial(node: Node) -> Node:
    regions = tuple(walk_one_tree(region) for region in node.regions)
    attrs = {**node.attrs, "lanes": 1} if node.op == "onnxc::WalkTrees" else node.attrs
    return node if attrs is node.attrs and not regions else replace(node, attrs=attrs, regions=regions)
