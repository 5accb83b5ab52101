"""Attributes of a node as Python values, after the substitution of a function's parameters.

An `AttributeProto` says its type twice, by `type` and by the field that is filled; models that disagree
with themselves are refused. Graphs are not attributes in the graph IR but regions, so they are kept apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..diagnostics import CompileError, Loc
from ..graph.nodes import Attribute
from .tensors import TensorReader, decode_text

if TYPE_CHECKING:
    import onnx

FIELDS = {
    1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings", 9: "tensors", 10: "graphs",
    11: "sparse_tensor", 12: "sparse_tensors", 13: "tp", 14: "type_protos",
}  # fmt: skip
"""Filled field by `AttributeProto.AttributeType`."""
GRAPH, GRAPHS = 5, 10
_SINGLE = frozenset({"f", "i", "s", "t", "g", "sparse_tensor", "tp"})

Bindings = Mapping[str, "onnx.AttributeProto"]


def resolve(attributes: Iterable[onnx.AttributeProto], parameters: Bindings, loc: Loc) -> dict[str, onnx.AttributeProto]:
    """Collect a node's attributes by name; those that refer to a parameter of the function take its value.

    Args:
        attributes: attributes of the node.
        parameters: attributes of the call whose body the node stands in.
        loc: the node.

    Raises:
        CompileError: E0102 for a name without or given twice, or for a type that is not clear.
    """
    found: dict[str, onnx.AttributeProto] = {}
    for attribute in attributes:
        name = attribute.name
        if not name or name in found:
            raise CompileError("E0102", f"the attribute '{name}' is given twice" if name else "an attribute has no name", loc)
        if attribute.ref_attr_name:
            # A parameter that the call does not give leaves the attribute absent.
            if attribute.ref_attr_name in parameters:
                found[name] = parameters[attribute.ref_attr_name]
        else:
            kind_of(attribute, loc)
            found[name] = attribute
    return found


def kind_of(attribute: onnx.AttributeProto, loc: Loc) -> int:
    """The `AttributeType` of an attribute, from its declaration or, in old files, from what is filled.

    Raises:
        CompileError: E0102 if declaration and content disagree.
    """
    filled = [code for code, field in FIELDS.items() if _is_filled(attribute, field)]
    if attribute.type == 0 and len(filled) == 1:
        return filled[0]
    if attribute.type not in FIELDS or any(code != attribute.type for code in filled):
        raise CompileError("E0102", f"the type of the attribute '{attribute.name}' does not agree with its content", loc)
    if FIELDS[attribute.type] in ("t", "g", "sparse_tensor", "tp") and not filled:
        raise CompileError("E0102", f"the attribute '{attribute.name}' has no content", loc)
    return int(attribute.type)


def _is_filled(attribute: onnx.AttributeProto, field: str) -> bool:
    return attribute.HasField(field) if field in _SINGLE else len(getattr(attribute, field)) > 0


def convert(attribute: onnx.AttributeProto, name: str, reader: TensorReader, loc: Loc) -> Attribute:
    """One attribute that is not a graph, as the graph IR holds it.

    Raises:
        CompileError: E0102, or E0202 for kinds that no operator of the table takes.
    """
    match FIELDS[kind_of(attribute, loc)]:
        case "f":
            return float(attribute.f)
        case "i":
            return int(attribute.i)
        case "s":
            return decode_text(attribute.s)
        case "t":
            return reader.dense(attribute.t, name)
        case "sparse_tensor":
            return reader.sparse(attribute.sparse_tensor, name)
        case "floats":
            return tuple(map(float, attribute.floats))
        case "ints":
            return tuple(map(int, attribute.ints))
        case "strings":
            texts = {raw: decode_text(raw) for raw in set(attribute.strings)}  # large ensembles of trees repeat a few a million times
            return tuple(map(texts.__getitem__, attribute.strings))
        case field:
            raise CompileError("E0202", f"the attribute '{name}' holds {field}, which the compiler does not take", loc)
