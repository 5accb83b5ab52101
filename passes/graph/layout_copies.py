"""Rewrite a graph to chosen layouts, with copies (`onnxc::Relayout`) where a reader needs another one.

The part that `assign_layouts` and `assign_channels_last` share.
"""

from __future__ import annotations

from dataclasses import replace

from ...compiler.graph.builder import used_names
from ...compiler.graph.nodes import PLAIN, Graph, Layout, Node, Value


class LayoutCopies:
    """The nodes of a graph that is being rewritten, its new values, and the copies among them."""

    def __init__(self, graph: Graph) -> None:
        self.source = graph
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = {}
        """New values by the names of old ones."""
        self.copies: dict[tuple[str, Layout], Value] = {}
        self.names = {v.name for n in graph.nodes for v in n.outputs if v is not None}
        self.outputs = {v.name for v in graph.outputs}

    def finish(self) -> Graph:
        """The graph of the new nodes; its outputs are row-major and keep their names."""
        outputs = tuple(self._output(v) for v in self.source.outputs)
        return replace(self.source, nodes=tuple(self.nodes), outputs=outputs)

    def _output(self, value: Value) -> Value:
        found = self.current(value)
        return found if found.type.layout.is_plain else self.copy(found, PLAIN, value.name)

    def current(self, value: Value) -> Value:
        """The value with its layout."""
        return self.values.get(value.name, value)

    def plain(self, value: Value) -> Value:
        """The value in row-major order."""
        found = self.current(value)
        return found if found.type.layout.is_plain else self.copy(found, PLAIN)

    def present(self, value: Value) -> Value:
        """The value in row-major order if it lies so already, else with its layout."""
        found = self.current(value)
        return self.copies.get(_key(found, PLAIN), found)

    def written(self, value: Value, layout: Layout) -> Value:
        """A node's output in a layout; outputs of the graph leave their names to their row-major copies."""
        name = value.name if layout.is_plain or value.name not in self.outputs else self.free_name(value.name)
        made = self.values[value.name] = Value(name, replace(value.type, layout=layout))
        return made

    def copy(self, value: Value, layout: Layout, name: str = "") -> Value:
        """A value in another layout, copied once."""
        key = _key(value, layout, name)
        if key not in self.copies:
            copy = Value(name or self.free_name(f"{value.name}.{layout}"), replace(value.type, layout=layout))
            self.nodes.append(Node("onnxc::Relayout", (value,), (copy,)))
            self.copies[key] = copy
        return self.copies[key]

    def free_name(self, stem: str) -> str:
        """A name that no value has."""
        name, number = stem, 0
        while name in self.names or name in self.outputs:
            number += 1
            name = f"{stem}.{number}"
        self.names.add(name)
        return name


def _key(value: Value, layout: Layout, name: str = "") -> tuple[str, Layout]:
    return f"{name}<{value.name}", layout


def captured_names(graph: Graph) -> set[str]:
    """Values that regions use by name: they must be row-major."""
    regions = [region for node in graph.nodes for region in node.regions]
    return {name for region in regions for name in used_names(region.nodes) | {v.name for v in region.outputs}}
