"""Names of a model must be text: protobuf hands out bytes where a string field is not valid UTF-8."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..diagnostics import CompileError, Loc

if TYPE_CHECKING:
    import onnx


def require_text(strings: Iterable[object], loc: Loc) -> None:
    """Raise E0102 if a string field of the model is not valid UTF-8."""
    for found in strings:
        if type(found) is not str:
            raise CompileError("E0102", f"a name in the model is not valid UTF-8: {found!r}", loc)


def require_graph_text(graph: onnx.GraphProto, model: str) -> None:
    """The same for all that a graph names itself, apart from its nodes."""
    loc = Loc(model)
    require_text([graph.name], loc)
    require_text((value.name for values in (graph.input, graph.output) for value in values), loc)
    require_text((dim.dim_param for value in graph.input for dim in value.type.tensor_type.shape.dim), loc)
    require_text((tensor.name for tensor in graph.initializer), loc)
    require_text((tensor.values.name for tensor in graph.sparse_initializer), loc)


def require_function_text(function: onnx.FunctionProto, model: str) -> None:
    """The same for a function."""
    loc = Loc(model)
    require_text([function.name, function.domain, function.overload, *function.input, *function.output, *function.attribute], loc)
    require_text((attribute.name for attribute in function.attribute_proto), loc)


def require_node_text(node: onnx.NodeProto, model: str) -> None:
    """The same for a node and its attributes."""
    loc = Loc(model)
    require_text((node.name, node.op_type, node.domain, node.overload, *node.input, *node.output), loc)
    for attribute in node.attribute:
        require_text((attribute.name, attribute.ref_attr_name), loc)
