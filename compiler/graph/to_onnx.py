"""From the graph IR back to an ONNX model: what the compiler understood of a model, as a file that others read.

The other direction of `compiler/frontend`. Nodes are in the form of their newest version; the model is declared for
the oldest opset from `OPSET` on in which all of them have that form. Used by `onnxc quantize` and `onnxc compile --emit onnx`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..diagnostics import CompileError
from ..dtypes import DType
from ..kernel.nodes import Dim, Var
from .nodes import Attribute, Graph, Node, TensorType, Value

if TYPE_CHECKING:
    import onnx

OPSET = 18
"""The oldest opset that is declared: since then reductions take their axes as an operand.

Not the newest, since ONNX Runtime refuses models of opset 21 in which it fuses a product of codes with its bias
(https://github.com/microsoft/onnxruntime/issues/25526).
"""
IR_VERSION = 8
"""That of the first release with this opset."""

INNER_DOMAIN = "onnxc"
"""Domain of operators that only the compiler has."""

FLATTEN = "flatten"
"""Attribute of a node of an older opset that works on its operand as a matrix (`ops/softmax.py`)."""

REGIONS: Mapping[str, tuple[str, ...]] = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}
"""Attributes that hold the regions of control flow, in the order of `Node.regions`."""


def to_onnx(graph: Graph, producer_version: str = "") -> onnx.ModelProto:
    """Make a model of a graph.

    Args:
        graph: the graph, before layouts are assigned.
        producer_version: that of the compiler, noted in the model.

    Returns:
        A model that `onnx.checker` accepts; its weights are inside.

    Raises:
        CompileError: E0202 for a value of a type that a model cannot hold.
    """
    import onnx

    inner = next((node for node in _all_nodes(graph) if _domain(node) == INNER_DOMAIN), None)
    if inner is not None:
        raise CompileError("E0202", f"{inner.op} is an operator of the compiler, which no model has", inner.loc)
    domains = {_domain(node) for node in _all_nodes(graph)} - {""}
    opsets = [onnx.helper.make_opsetid(domain, _opset(graph, domain)) for domain in ("", *sorted(domains))]
    model = onnx.helper.make_model(_graph(graph), opset_imports=opsets, producer_name="onnxc", producer_version=producer_version)
    model.ir_version = max(IR_VERSION, onnx.helper.find_min_ir_version_for(opsets[:1], ignore_unknown=True))
    return model


def _graph(graph: Graph) -> onnx.GraphProto:
    import onnx

    made = onnx.GraphProto(name=graph.name or "model")
    made.input.extend(_info(value) for value in graph.inputs)
    made.output.extend(_info(value) for value in graph.outputs)
    made.initializer.extend(_tensor(name, array) for name, array in graph.constants.items())
    made.node.extend(written for node in graph.nodes for written in _nodes(node))
    return made


def _info(value: Value) -> onnx.ValueInfoProto:
    import onnx

    return onnx.helper.make_tensor_value_info(value.name, value.type.dtype.onnx, [_extent(d) for d in value.type.shape])


def _extent(extent: Dim) -> int | str | None:
    """A number, a name, or nothing for what is computed from others."""
    return extent if isinstance(extent, int) else extent.name if isinstance(extent, Var) else None


def _tensor(name: str, array: np.ndarray) -> onnx.TensorProto:
    import onnx

    dtype = DType.of(array.dtype)
    if dtype is DType.STRING:
        return onnx.helper.make_tensor(name, dtype.onnx, array.shape, [str(s).encode() for s in array.reshape(-1)])  # type: ignore[misc]
    return onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)


def _nodes(node: Node) -> list[onnx.NodeProto]:
    """A node as nodes of a model: one, but for those of old versions that the newest one cannot say."""
    if node.attrs.get(FLATTEN) and node.inputs[0] is not None:
        return _through_a_matrix(node, node.inputs[0])
    return [_node(node)]


def _through_a_matrix(node: Node, x: Value) -> list[onnx.NodeProto]:
    """Softmax and the like before opset 13, over all axes from one on: of a matrix, split at this axis."""
    import onnx

    axis = node.attrs["axis"]
    assert isinstance(axis, int)
    made = _node(replace(node, attrs={"axis": -1}))
    if axis % max(x.type.rank, 1) == x.type.rank - 1:
        return [made]
    name = made.output[0]
    flat, result, shape = f"{name}/matrix", f"{name}/of_matrix", f"{name}/shape"
    made.input[0], made.output[0] = flat, result
    return [
        onnx.helper.make_node("Flatten", [x.name], [flat], flat, axis=axis),
        made,
        onnx.helper.make_node("Shape", [x.name], [shape], shape),
        onnx.helper.make_node("Reshape", [result, shape], [name], f"{name}/tensor"),
    ]


def _node(node: Node) -> onnx.NodeProto:
    import onnx

    made = onnx.NodeProto(op_type=node.op.rpartition("::")[2], domain=_domain(node), name=_name(node))
    made.input.extend("" if value is None else value.name for value in node.inputs)
    made.output.extend("" if value is None else value.name for value in node.outputs)
    made.attribute.extend(_attribute(node, name, value) for name, value in node.attrs.items() if value is not None)
    for name, region in zip(REGIONS.get(node.op, ()), node.regions, strict=True):
        made.attribute.append(onnx.helper.make_attribute(name, _graph(region)))
    return made


def _name(node: Node) -> str:
    """A name that no other node has: that of its first output."""
    return next((value.name for value in node.outputs if value is not None), "")


def _attribute(node: Node, name: str, value: Attribute) -> onnx.AttributeProto:
    import onnx

    if isinstance(value, DType):
        return onnx.helper.make_attribute(name, value.onnx)
    if isinstance(value, np.ndarray):
        return onnx.helper.make_attribute(name, _tensor("", value))
    if isinstance(value, tuple) and not value:
        return onnx.helper.make_attribute(name, [], attr_type=_list_type(node, name))
    return onnx.helper.make_attribute(name, list(value) if isinstance(value, tuple) else value)


def _list_type(node: Node, name: str) -> int:
    """What an empty list is a list of: what the operator's schema says, or integers."""
    import onnx

    schema = _schema(node, onnx.defs.onnx_opset_version())
    found = None if schema is None else schema.attributes.get(name)
    return onnx.AttributeProto.INTS if found is None else int(found.type.value)  # type: ignore[attr-defined]


# --- Versions ---------------------------------------------------------------------------------


def _domain(node: Node) -> str:
    return node.op.rpartition("::")[0]


def _all_nodes(graph: Graph) -> Iterator[Node]:
    for node in graph.nodes:
        yield node
        for region in node.regions:
            yield from _all_nodes(region)


def _newest(domain: str) -> int:
    """The newest opset of a domain that this onnx knows; 0 for those that it does not."""
    import onnx

    return max((s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.domain == domain), default=0)


def _schema(node: Node, opset: int) -> onnx.defs.OpSchema | None:
    import onnx

    try:
        return onnx.defs.get_schema(node.op.rpartition("::")[2], opset, _domain(node))
    except onnx.defs.SchemaError:
        return None


def _opset(graph: Graph, domain: str) -> int:
    """The oldest opset of a domain in which every node is as it stands here."""
    newest = _newest(domain)
    if not newest:
        return 1
    nodes = [node for node in _all_nodes(graph) if _domain(node) == domain]
    for opset in range(OPSET if not domain else 1, newest + 1):
        if all(_has_form(node, opset) for node in nodes):
            return opset
    wrong = next(node for node in nodes if not any(_has_form(node, opset) for opset in range(1, newest + 1)))
    raise CompileError("E0202", "no opset has the operator in this form, so that it cannot be written to a model", wrong.loc)


def _has_form(node: Node, opset: int) -> bool:
    schema = _schema(node, opset)
    if schema is None or schema.deprecated or len(node.inputs) > schema.max_input:
        return False
    if not all(name in schema.attributes or name == FLATTEN for name in node.attrs):
        return False
    return all(_takes(schema, position, value.type) for position, value in enumerate(node.inputs) if value is not None)


def _takes(schema: onnx.defs.OpSchema, position: int, type_: TensorType) -> bool:
    """Whether an operator in this version has operands of this type."""
    formal = schema.inputs[min(position, len(schema.inputs) - 1)]
    return f"tensor({_TYPE_NAMES.get(type_.dtype, type_.dtype.label)})" in formal.types


_TYPE_NAMES = {DType.FLOAT32: "float", DType.FLOAT64: "double"}
