"""Where the caches of keys and values lie: in the caller's memory, which an input and an output share. Part of the lowering."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ...compiler.graph.nodes import Graph, Node, Value
from ...compiler.kernel.nodes import Buffer, Dim
from ...compiler.program.nodes import ROOM

if TYPE_CHECKING:
    from .lower_graph import Lowering


def input_extents(graph: Graph, value: Value) -> Iterable[tuple[int, Dim]]:
    """The axes of an input of a graph with their extents, as callers see them; a cache has those of its rows, and their room."""
    cache = next((c for c in graph.caches if c.input == value.name), None)
    for axis, extent in enumerate(value.type.shape):
        if cache is not None and axis == cache.axis:
            yield axis, cache.rows
            yield ROOM, extent
        else:
            yield axis, extent


def cached_outputs(graph: Graph) -> set[str]:
    """Outputs that are inputs with rows appended: they already are where they belong."""
    return {cache.output for cache in graph.caches}


def share_input(lowering: Lowering, node: Node, inputs: Sequence[Buffer | None], outputs: list[Buffer | None]) -> None:
    """Give the first output of a node that changes its first input in place the memory and the buffer of that."""
    source, changed = node.inputs[0], node.outputs[0]
    assert source is not None and changed is not None
    lowering.storages[changed.name], outputs[0] = lowering.storage(source), inputs[0]
