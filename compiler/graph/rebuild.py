"""The frame of graph passes: walk a graph in order and build the new one, node by node.

A pass gives a `Visit` function. It sees each node with its inputs already replaced, in the graph and in
all regions, and either returns the values that stand for the node's outputs or None to keep the node.
The names of the graph's outputs survive whatever happens to the nodes that make them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from .builder import GraphBuilder
from .facts import index_symbols
from .nodes import Graph, Node, Value
from .rename import rename_values


class Rebuilder:
    """The graph, or region, that is being rebuilt, and what has become of the old values."""

    def __init__(self, builder: GraphBuilder, values: dict[str, Value], visit: Visit, origin: str, symbols: frozenset[str]) -> None:
        self.builder = builder
        self.origin = origin
        """The pass that new nodes come from."""
        self.values = values
        """New values by the names of old ones; shared with the regions, names being unique."""
        self.visit = visit
        self.symbols = symbols
        """Symbols of the inputs of the whole graph."""
        self._unchanged: Node | None = None

    def value(self, old: Value) -> Value:
        """What stands for an old value."""
        return self.values.get(old.name, old)

    def nodes(self, graph: Graph) -> list[Value]:
        """Build a graph's constants and nodes here; its inputs must be among `values`. Returns its outputs."""
        for name, array in graph.constants.items():
            self.values[name] = self.builder.constant(name, array)
        for node in graph.nodes:
            self.node(node)
        return [self.value(output) for output in graph.outputs]

    def inline(self, region: Graph, inputs: Sequence[Value] = ()) -> list[Value]:
        """Build a region's nodes instead of the node that holds it; returns what its outputs become."""
        self.values.update({old.name: new for old, new in zip(region.inputs, inputs, strict=True)})
        return self.nodes(region)

    def node(self, node: Node) -> None:
        """Build one node, or what the visitor puts in its place."""
        inputs = tuple(None if v is None else self.value(v) for v in node.inputs)
        mapped = self._unchanged = node if inputs == node.inputs else node.with_inputs(*inputs)
        first = next((v.name for v in node.outputs if v is not None), "")
        with self.builder.at(node.loc.through(self.origin), first):
            made = self.visit(self, mapped)
            if made is None:
                made = self.keep(mapped)
        for old, new in zip(node.outputs, made, strict=False):
            if old is not None and new is not None:
                self.values[old.name] = new

    def keep(self, node: Node) -> Sequence[Value | None]:
        """Append the node as it is, on its new inputs, with its regions rebuilt."""
        if node is self._unchanged and self._is_settled(node):
            return self.builder.keep(node)
        kept = replace(node, regions=tuple(self.region(region) for region in node.regions))
        return self.builder.replay(kept, kept.inputs)

    def _is_settled(self, node: Node) -> bool:
        """True if the types of a node on unchanged inputs are certainly right: they depend on no data."""
        constants = self.builder.facts.constants
        return (
            not node.regions
            and all(not v.type.dtype.is_int or v.name in constants for v in node.inputs if v is not None)
            and self.symbols.issuperset(index_symbols([v.type for v in (*node.inputs, *node.outputs) if v is not None]))
        )

    def region(self, region: Graph) -> Graph:
        """Rebuild a region."""
        inner = Rebuilder(GraphBuilder(region.name, self.builder, loc=region.loc), self.values, self.visit, self.origin, self.symbols)
        for value in region.inputs:
            self.values[value.name] = inner.builder.input(value.name, value.type)
        return inner.builder.finish(own_outputs(inner.builder, inner.nodes(region)))


Visit: TypeAlias = Callable[[Rebuilder, Node], Sequence[Value | None] | None]


def rebuild(graph: Graph, visit: Visit, origin: str) -> Graph:
    """Rebuild a graph with a visitor; types are inferred again all the way.

    Args:
        graph: the graph.
        visit: what becomes of each node.
        origin: name of the pass, noted at the nodes that it makes.
    """
    builder = GraphBuilder(graph.name, loc=graph.loc)
    builder.reserve(sorted(all_names(graph)))
    rebuilder = Rebuilder(builder, {}, visit, origin, frozenset(graph.symbols))
    for value in graph.inputs:
        rebuilder.values[value.name] = builder.input(value.name, value.type)
    rebuilt = with_output_names(builder, rebuilder.nodes(graph), [value.name for value in graph.outputs])
    return replace(rebuilt, bounds=graph.bounds, declared=graph.declared, signature=graph.signature, texts=graph.texts)


def own_outputs(builder: GraphBuilder, outputs: Sequence[Value]) -> list[Value]:
    """Outputs of a region: distinct, and made by its nodes; others are copied."""
    own: list[Value] = []
    for value in outputs:
        if value.name not in builder.facts.producers or value in own:
            value = builder.op("Identity", value)
        own.append(value)
    return own


def all_names(graph: Graph) -> set[str]:
    """The names of all values of a graph and its regions."""
    names = {value.name for value in graph.inputs} | set(graph.constants)
    for node in graph.nodes:
        names.update(value.name for value in node.outputs if value is not None)
        for region in node.regions:
            names |= all_names(region)
    return names


def with_output_names(builder: GraphBuilder, outputs: list[Value], names: list[str]) -> Graph:
    """Finish with outputs that are distinct, made by nodes, and named as before.

    A value that a node makes is renamed; an input, a constant or the same value again is copied.
    """
    renamed: dict[str, str] = {}
    final: list[Value] = []
    made = builder.facts.producers
    kept = {value.name for value, name in zip(outputs, names, strict=True) if value.name == name}
    for value, name in zip(outputs, names, strict=True):
        if value.name != name and name not in renamed and builder.find(name) is not None:
            renamed[name] = builder.free_name(name)  # something dead, or another output's value, has the name still
        if value.name == name and name not in builder.facts.constants:
            final.append(value)
        elif value.name in made and value.name not in kept and value.name not in renamed:
            renamed[value.name] = name
            final.append(value)
        else:
            if value.name == name:
                renamed[name] = builder.free_name(f"{name}/const")
            (copy,) = builder.add("Identity", [value], outputs=[name])
            assert copy is not None
            renamed.update({copy.name: name} if copy.name != name else {})
            final.append(copy)
    return rename_values(builder.finish(final), renamed)
