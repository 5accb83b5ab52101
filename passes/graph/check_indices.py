"""Check indices at run time: one out of range ends the run with a message instead of giving some other element.

Kernels clamp indices, so that none reads or writes outside its operand; for ONNX such an index is an error. Runs on targets that
can look at data between kernels at no great cost, before operators are decomposed: what they become has indices in range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...compiler.diagnostics import CompileError
from ...compiler.graph.nodes import Attribute, Graph, Node, Value
from ...compiler.graph.rebuild import Rebuilder, rebuild
from ...compiler.ops.index_checks import MESSAGE

AXIS_INDEXED = frozenset({"Gather", "GatherElements", "ScatterElements"})
TUPLE_INDEXED = frozenset({"GatherND", "ScatterND"})
"""Operators whose input 1 holds indices: along an axis, or tuples along its last axis."""
FEW = 4
"""Indices up to this number are read one by one."""


def check_indices(graph: Graph) -> Graph:
    """Check the indices of Gather, Scatter and the like."""
    if not _has_indices(graph):
        return graph
    return rebuild(graph, _visit, check_indices.__name__)


def _has_indices(graph: Graph) -> bool:
    return any(node.op in AXIS_INDEXED | TUPLE_INDEXED or any(map(_has_indices, node.regions)) for node in graph.nodes)


def _visit(rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
    if node.op not in AXIS_INDEXED | TUPLE_INDEXED:
        return None
    data, indices = node.inputs[0], node.inputs[1]
    assert data is not None and indices is not None
    b, attrs = rebuilder.builder, _attributes(node)
    known = b.array(indices)
    if known is not None:
        _check_known(known, data, attrs, node)
        return None
    if b.contents(indices) is not None:  # arithmetic on shapes
        return None
    if indices.type.is_static and indices.type.element_count <= FEW:
        checked = b.op("onnxc::CheckedIndices", indices, data, **attrs)
    else:
        checked = b.op("onnxc::Require", indices, b.op("onnxc::AreIndicesInside", indices, data, **attrs), message=MESSAGE)
    return b.replay(node, [data, checked, *node.inputs[2:]])


def _attributes(node: Node) -> Mapping[str, Attribute]:
    """How the indices are meant: along an axis, or as tuples for the axes from `first` on."""
    if node.op in AXIS_INDEXED:
        return {"axis": node.attrs.get("axis", 0)}
    return {"first": node.attrs.get("batch_dims", 0)}


def _check_known(indices: np.ndarray, data: Value, attrs: Mapping[str, Attribute], node: Node) -> None:
    """E0203 for a constant index that is out of range."""
    shape, axis, first = data.type.shape, attrs.get("axis"), attrs.get("first", 0)
    assert isinstance(first, int)
    columns = [indices] if isinstance(axis, int) else [indices[..., k] for k in range(indices.shape[-1])]
    for k, column in enumerate(columns):
        extent = shape[axis] if isinstance(axis, int) else shape[first + k]
        if isinstance(extent, int) and column.size and not (-extent <= column.min() and column.max() < extent):
            raise CompileError("E0203", f"{MESSAGE} for {extent} elements", node.loc)
