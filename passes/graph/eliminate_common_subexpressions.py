"""Merge nodes that compute the same, and constants with the same content; runs after simplification.

Nodes with regions and random operators are left alone. A region may use what the graph around it has
computed already, not the other way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...compiler.graph.builder import GraphBuilder
from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.graph.rebuild import Rebuilder, rebuild
from ...compiler.graph.rename import rename_values
from ...compiler.graph.text import digest, print_attribute
from .random_operators import RANDOM_OPERATORS

_Key = tuple[object, ...]


def eliminate_common_subexpressions(graph: Graph) -> Graph:
    """Compute equal things once."""
    tables: dict[GraphBuilder, dict[_Key, Sequence[Value | None]]] = {}

    def visit(rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
        if node.regions or node.op in RANDOM_OPERATORS:
            return None
        key = _key(node)
        builder: GraphBuilder | None = rebuilder.builder
        while builder is not None:
            if key in tables.get(builder, {}):
                return tables[builder][key]
            builder = builder.outer
        made = rebuilder.keep(node)
        tables.setdefault(rebuilder.builder, {})[key] = made
        return made

    return rebuild(_merge_constants(graph), visit, eliminate_common_subexpressions.__name__)


def _key(node: Node) -> _Key:
    """Equal for nodes that compute the same outputs."""
    inputs = tuple(None if v is None else v.name for v in node.inputs)
    attrs = tuple(sorted((name, print_attribute(value)) for name, value in node.attrs.items()))
    return node.op, inputs, attrs, tuple(v is not None for v in node.outputs)


def _merge_constants(graph: Graph) -> Graph:
    """Keep one of equal constants of a graph (those of regions stay)."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, array in graph.constants.items():
        groups.setdefault((array.dtype, array.shape), []).append(name)
    first: dict[tuple[object, ...], str] = {}
    merged: dict[str, str] = {}
    for kind, names in groups.items():
        for name in names if len(names) > 1 else ():
            kept = first.setdefault((*kind, digest(graph.constants[name])), name)
            if kept != name and _equal(graph.constants[kept], graph.constants[name]):
                merged[name] = kept
    constants = {name: array for name, array in graph.constants.items() if name not in merged}
    return rename_values(_keep_outputs(graph, merged, constants), merged)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a is b or (a.dtype != object and a.tobytes() == b.tobytes()) or (a.dtype == object and bool((a == b).all()))


def _keep_outputs(graph: Graph, merged: dict[str, str], constants: dict[str, np.ndarray]) -> Graph:
    """A constant that is itself an output keeps its name."""
    for output in graph.outputs:
        if merged.pop(output.name, None) is not None:
            constants[output.name] = graph.constants[output.name]
    return replace(graph, constants=constants)
