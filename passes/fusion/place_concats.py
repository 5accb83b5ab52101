"""Let the producers of a concatenation write their part of it, so that joining copies nothing.

A concatenation becomes a tensor without a stage of its own, the root, and each of its inputs a piece at a
known start in it. An input that a stage computes is written in place; others are copied by a stage each.
Roots may be pieces themselves, so the growing concatenations of a dense block are one buffer.
Small concatenations, and those that one cheap map reads, stay selects, which fuse.
"""

from __future__ import annotations

from dataclasses import replace

from ...compiler.graph.nodes import Node, Value
from ...compiler.kernel import build
from ...compiler.kernel.nest import pointwise
from ...compiler.kernel.nodes import Dim, Read
from ...compiler.program.stages import Placement, Stage
from .stage_graph import StageGraph

MIN_ELEMENTS = 2048
"""Concatenations of fewer elements stay selects."""


def place_concats(graph: StageGraph, nodes: tuple[Node, ...]) -> None:
    """Turn the concatenations among some nodes into roots with pieces."""
    for node in nodes:
        output = node.outputs[0] if node.outputs else None
        if node.op != "Concat" or output is None or output.name not in graph.stages:
            continue
        inputs = [v for v in node.inputs if v is not None]
        if len(inputs) >= 2 and _refuse(graph, output, inputs, _axis(node)) is None:
            _place(graph, output, inputs, _axis(node), node)


def _axis(node: Node) -> int:
    output, axis = node.outputs[0], node.attrs.get("axis", 0)
    assert output is not None and isinstance(axis, int)
    return axis % max(1, output.type.rank)


def _refuse(graph: StageGraph, output: Value, inputs: list[Value], axis: int) -> str | None:
    """Why a concatenation stays a select; None if it is placed."""
    if output.type.is_static and output.type.element_count < MIN_ELEMENTS:
        return "small"
    users = [s for s in graph.stages.values() if output in s.operands]
    if output.name not in graph.needed and len(inputs) == 2 and len(users) == 1 and users[0].is_map:
        return "read by one map"
    layout = output.type.layout
    if _is_one_block(output) and axis == layout.axis:
        return None if all(map(_is_whole, inputs)) else "a piece would be padded"
    if any(v.type.layout.block != layout.block for v in inputs):
        return "inputs lie in another layout"
    if layout.block > 1 and axis == layout.axis:
        sizes = [v.type.shape[axis] for v in inputs[:-1]]
        if any(not isinstance(d, int) or d % layout.block for d in sizes):
            return "a piece would start inside a block"
    return None


def _is_one_block(value: Value) -> bool:
    """True if all channels of a value are in one block: a piece of any layout may begin at any of them."""
    layout = value.type.layout
    return layout.block > 1 and value.type.shape[layout.axis] == layout.block


def _is_whole(value: Value) -> bool:
    """True if the loops over a value do not go beyond its extents."""
    layout = value.type.layout
    extent = value.type.shape[layout.axis] if layout.block > 1 else 0
    return isinstance(extent, int) and extent % layout.block == 0


def _place(graph: StageGraph, output: Value, inputs: list[Value], axis: int, node: Node) -> None:
    root = graph.stages.pop(output.name)
    start: Dim = 0
    pieces: list[str] = []
    for position, value in enumerate(inputs):
        at = tuple(start if k == axis else 0 for k in range(output.type.rank))
        piece = value if _may_write_in_place(graph, value, inputs) else _copied(graph, value, f"{output.name}.{position}", root)
        graph.placements[piece.name] = Placement(output, at)
        graph.needed.add(piece.name)
        pieces.append(piece.name)
        start = build.dim(build.add(build.index(start), build.index(value.type.shape[axis])))
    graph.roots[output.name] = tuple(pieces)


def _may_write_in_place(graph: StageGraph, value: Value, inputs: list[Value]) -> bool:
    """True if a value is made by a stage, or is a root, and nothing else decides where it lies."""
    is_free = value.name in graph.stages or value.name in graph.roots
    return is_free and value.name not in graph.needed and value.name not in graph.placements and inputs.count(value) == 1


def _copied(graph: StageGraph, value: Value, name: str, root: Stage) -> Value:
    """Add a stage that copies a value."""
    copy = Value(f"{name}#piece", replace(value.type, layout=replace(value.type.layout, halo=())))
    nest = pointwise(value.type.shape, lambda *axes: Read(0, axes, value.type.dtype))
    graph.stages[copy.name] = Stage(copy, (value,), nest, root.loc, root.covers)
    return copy
