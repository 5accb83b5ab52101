"""Renaming values throughout a graph and its regions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .nodes import Graph, Node, Value


def rename_values(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The same graph with values renamed; symbols keep their names.

    Args:
        graph: the graph.
        names: new names by old ones; the new ones must not be in use.
    """
    if not names:
        return graph
    return replace(
        graph,
        inputs=tuple(_value(v, names) for v in graph.inputs),
        outputs=tuple(_value(v, names) for v in graph.outputs),
        nodes=tuple(_node(node, names) for node in graph.nodes),
        constants={names.get(name, name): array for name, array in graph.constants.items()},
        data_symbols={s: (names.get(name, name), k) for s, (name, k) in graph.data_symbols.items()},
        size_symbols={s: (names.get(name, name), k) for s, (name, k) in graph.size_symbols.items()},
    )


def _value(value: Value, names: Mapping[str, str]) -> Value:
    return Value(names[value.name], value.type) if value.name in names else value


def _node(node: Node, names: Mapping[str, str]) -> Node:
    return replace(
        node,
        inputs=tuple(None if v is None else _value(v, names) for v in node.inputs),
        outputs=tuple(None if v is None else _value(v, names) for v in node.outputs),
        regions=tuple(rename_values(region, names) for region in node.regions),
    )
