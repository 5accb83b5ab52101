"""Find movements that move nothing: the elements of the result lie in memory as those of the operand do.

A Transpose from channels last to channels first whose operand is row-major and whose result has its channels last is the
usual one. Reshapes, and copies between layouts that are the same for some shape, are others.
"""

from __future__ import annotations

from collections.abc import Container

from ...compiler.graph.facts import GraphFacts
from ...compiler.graph.nodes import Node, TensorType
from ...compiler.kernel import build
from ...compiler.kernel.nest import Nest
from ...compiler.kernel.nodes import Expr, Read, Var
from ...compiler.kernel.traverse import substitute
from ...compiler.ops.table import Nests, context, lookup
from ...compiler.program.stages import View
from ..kernel.loop_form import physical_offset, physical_shape
from .stage_graph import StageGraph, is_movement


def has_same_bytes(source: TensorType, target: TensorType, nest: Nest) -> bool:
    """True if a nest that reads `source` and makes `target` moves no element, nor changes any.

    Args:
        source: operand of the nest's only read.
        target: what the nest makes.
        nest: a map.
    """
    read = nest.body
    if nest.combine is not None or not isinstance(read, Read) or source.dtype is not target.dtype:
        return False
    return has_same_order(source, read, target, nest)


def has_same_order(source: TensorType, read: Read, target: TensorType, nest: Nest) -> bool:
    """True if a nest that makes `target` reads each element of `source` where the element lies that it computes of it."""
    if any(source.layout.halo) or any(target.layout.halo):
        return False
    if build.product(physical_shape(source)) != build.product(physical_shape(target)):
        return False
    single: dict[Var, Expr] = {axis: build.const(0) for axis, extent in zip(nest.axes, nest.shape, strict=True) if extent == 1}
    before, after = physical_offset(source, read.indices), physical_offset(target, nest.axes)
    return build.sub(substitute(before, single), substitute(after, single)) is build.const(0)


def node_keeps_bytes(node: Node, source: TensorType, target: TensorType, facts: GraphFacts) -> bool:
    """True if a node that moves elements of its first input moves none when its types, with their layouts, are these."""
    row = lookup(node.op)
    if row is None or not isinstance(row.define, Nests):
        return False
    if row.is_view and source.layout.is_plain and target.layout.is_plain:
        return True
    (nest,) = row.define.build(context(node, facts))[:1]
    return nest is not None and has_same_bytes(source, target, nest)


def view_movements(graph: StageGraph, constants: Container[str]) -> None:
    """Turn the stages into views that move nothing and that no other stage has taken in."""
    for name, stage in list(graph.stages.items()):
        if not is_movement(stage) or len(stage.operands) != 1 or name in graph.placements:
            continue
        (operand,) = stage.operands
        if operand.name in graph.placements or operand.name in constants:
            continue
        if has_same_bytes(operand.type, stage.value.type, stage.nest):
            del graph.stages[name]
            graph.views[name] = View(stage.value, operand)
            graph.needed.add(operand.name)
