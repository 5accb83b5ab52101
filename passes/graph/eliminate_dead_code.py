"""Remove nodes, constants and outputs of nodes that nothing uses; runs last, and cleans up after all others.

A value also counts as used if a symbol that is read from it stands in the type of a live value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ...compiler.graph.nodes import Graph, Node, TensorType, Value
from ...compiler.kernel import build
from ...compiler.kernel.traverse import free_vars


def eliminate_dead_code(graph: Graph) -> Graph:
    """Remove what no output depends on."""
    return _live_graph(graph, _symbol_sources(graph), set())


def _symbol_sources(graph: Graph) -> dict[str, str]:
    """The values from which the symbols of a graph and its regions are read."""
    sources = {symbol: name for symbol, (name, _) in (*graph.data_symbols.items(), *graph.size_symbols.items())}
    for node in graph.nodes:
        for region in node.regions:
            sources.update(_symbol_sources(region))
    return sources


def _live_graph(graph: Graph, sources: dict[str, str], live: set[str]) -> Graph:
    """The live part of a graph; names that it uses, those of graphs around it included, are added to `live`."""
    _mark(graph.outputs, sources, live)
    _mark(graph.inputs, sources, live)
    nodes: list[Node] = []
    for node in reversed(graph.nodes):
        if any(output is not None and output.name in live for output in node.outputs):
            nodes.append(_live_node(node, sources, live))
            _mark((v for v in (*nodes[-1].inputs, *nodes[-1].outputs) if v is not None), sources, live)
    made = {output.name for node in nodes for output in node.outputs if output is not None} | {v.name for v in graph.inputs}
    return replace(
        graph,
        nodes=tuple(reversed(nodes)),
        constants={name: array for name, array in graph.constants.items() if name in live},
        data_symbols={s: place for s, place in graph.data_symbols.items() if place[0] in live},
        size_symbols={s: place for s, place in graph.size_symbols.items() if place[0] in made},
    )


def _live_node(node: Node, sources: dict[str, str], live: set[str]) -> Node:
    """The node without unused outputs; those of control flow stay, since the bodies compute them."""
    regions = tuple(_live_graph(region, sources, live) for region in node.regions)
    if node.regions:
        return replace(node, regions=regions)
    outputs = [v if v is not None and (v.name in live or k == 0) else None for k, v in enumerate(node.outputs)]
    while outputs[-1] is None:
        outputs.pop()
    return replace(node, outputs=tuple(outputs))


def _mark(values: Iterable[Value], sources: dict[str, str], live: set[str]) -> None:
    for value in values:
        live.add(value.name)
        live.update(sources[symbol] for symbol in _symbols(value.type) if symbol in sources)


def _symbols(type_: TensorType) -> Iterable[str]:
    return (v.name for v in free_vars(*(build.index(d) for d in type_.shape if not isinstance(d, int))))
