"""What the ONNX specification says of an operator at a version: arity, attributes, types, function body.

The onnx package carries the specification as data; here it becomes the gate that every node passes before
the operator table sees it. `onnx.checker` is not used: it checks whole files and refuses valid ones.
Operators of other domains have no schema and are checked by the table alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Protocol, cast

from ..diagnostics import CompileError, Loc
from ..dtypes import DType
from .attributes import FIELDS, kind_of
from .bodies import Body, BodyReader, Call
from .functions import Function
from .limits import Limits
from .opsets import Opsets

if TYPE_CHECKING:
    import onnx
    from onnx.defs import OpSchema

_STILL_COMPILED = frozenset({"GroupNormalization"})
"""Version 18 was withdrawn when 21 changed the shape of its scale; models of those opsets use it."""


class _Bodies(Protocol):
    """What the stubs of the onnx package leave out of `OpSchema`."""

    has_function: bool
    has_context_dependent_function: bool
    function_opset_versions: Sequence[int]
    context_dependent_function_opset_versions: Sequence[int]

    def get_function_with_opset_version(self, version: int) -> bytes: ...
    def get_context_dependent_function_with_opset_version(self, version: int, node: bytes, types: Sequence[bytes]) -> bytes: ...


def _bodies(schema: OpSchema) -> _Bodies:
    return cast("_Bodies", schema)


_SPELLED = {DType.FLOAT32: "float", DType.FLOAT64: "double"}


@cache
def find_schema(domain: str, op_type: str, version: int) -> OpSchema | None:
    """The schema that holds at a version, or the first one if the operator came later.

    Returns:
        The schema; None if there is none, or if the operator was withdrawn before.
    """
    import onnx.defs

    try:
        schema = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return _first_schemas().get((domain, op_type))
    return None if schema.deprecated and op_type not in _STILL_COMPILED else schema


@cache
def _first_schemas() -> dict[tuple[str, str], OpSchema]:
    import onnx.defs

    schemas = sorted(onnx.defs.get_all_schemas_with_history(), key=lambda schema: -schema.since_version)
    return {(schema.domain, schema.name): schema for schema in schemas if not schema.deprecated}


def was_withdrawn(domain: str, op_type: str) -> bool:
    """True if the specification knows the operator; if `find_schema` finds none, it holds no longer."""
    return (domain, op_type) in _first_schemas()


def check_call(schema: OpSchema, call: Call, attributes: Mapping[str, onnx.AttributeProto], loc: Loc) -> None:
    """Check the number of operands and the attributes of a node.

    Raises:
        CompileError: E0205 or E0203.
    """
    inputs, outputs = _count(call.inputs), _count(call.outputs)
    for what, count, low, high in (
        ("inputs", inputs, schema.min_input, schema.max_input),
        ("outputs", outputs, schema.min_output, schema.max_output),
    ):
        if not low <= count <= high:
            wanted = str(low) if low == high else f"{low} to {high}"
            raise CompileError("E0205", f"{count} {what}, but {schema.name} has {wanted}", loc)
    for position, formal in enumerate(_facts(schema)[0]):
        if formal == "required" and position < schema.min_input and not call.inputs[position]:
            raise CompileError("E0205", f"input {position} is missing", loc)
    _check_attributes(schema, attributes, loc)


def _count(names: Sequence[str]) -> int:
    count = len(names)
    while count and not names[count - 1]:
        count -= 1
    return count


def _check_attributes(schema: OpSchema, attributes: Mapping[str, onnx.AttributeProto], loc: Loc) -> None:
    known = _facts(schema)[1]
    for name, attribute in attributes.items():
        if name.startswith("__"):
            continue
        if name not in known:
            raise CompileError("E0203", f"the attribute '{name}' is not known to {schema.name}-{schema.since_version}", loc)
        expected, found = known[name][0], kind_of(attribute, loc)
        if expected != found:
            raise CompileError("E0203", f"the attribute '{name}' holds {FIELDS[found]}, but {FIELDS[expected]} is needed", loc)
    for name, (_, required) in known.items():
        if required and name not in attributes:
            raise CompileError("E0203", f"the attribute '{name}' is missing", loc)


def check_types(schema: OpSchema, types: Sequence[str | None], loc: Loc) -> None:
    """Check the types of a node's inputs, spelled as schemas do; E0202 if one is not allowed, or two differ that must not."""
    constraints = _facts(schema)[2]
    bound: dict[str, str] = {}
    last = len(constraints) - 1
    for position, found in enumerate(types):
        if found is None or last < 0:
            continue
        variable, allowed, homogeneous = constraints[min(position, last)]
        if found not in allowed:
            raise CompileError("E0202", f"input {position} is {_shown(found)}, which {schema.name} does not take", loc)
        if homogeneous and bound.setdefault(variable, found) != found:
            raise CompileError("E0202", f"input {position} is {_shown(found)}, but others are {_shown(bound[variable])}", loc)


def _shown(spelling: str) -> str:
    """A type for a message: that of a tensor is its element type."""
    element = spelling.removeprefix("tensor(").removesuffix(")")
    return spelling if "(" in element else next((dtype.label for dtype, name in _SPELLED.items() if name == element), element)


def spelled(dtype: DType) -> str:
    """An element type as schemas spell it."""
    return f"tensor({spelled_element(dtype)})"


def spelled_element(dtype: DType) -> str:
    """An element type as schemas spell it within other types."""
    return _SPELLED.get(dtype, dtype.label)


def spelled_proto(found: onnx.TypeProto) -> str:
    """A type of a model as schemas spell it; empty if it is not known."""
    match found.WhichOneof("value"):
        case "tensor_type":
            return spelled(DType.from_onnx(found.tensor_type.elem_type))
        case "sequence_type":
            return f"seq({spelled_proto(found.sequence_type.elem_type)})"
        case "optional_type":
            return f"optional({spelled_proto(found.optional_type.elem_type)})"
        case _:
            return ""


_ATTRIBUTE_CODES = {
    "FLOAT": 1, "INT": 2, "STRING": 3, "TENSOR": 4, "GRAPH": 5, "FLOATS": 6, "INTS": 7, "STRINGS": 8, "TENSORS": 9, "GRAPHS": 10,
    "SPARSE_TENSOR": 11, "SPARSE_TENSORS": 12, "TYPE_PROTO": 13, "TYPE_PROTOS": 14,
}  # fmt: skip
"""Codes of `AttributeProto.AttributeType`, which `OpSchema.AttrType` names in the same way."""

_Facts = tuple[tuple[str, ...], Mapping[str, tuple[int, bool]], tuple[tuple[str, frozenset[str], bool], ...]]


@cache
def _facts(schema: OpSchema) -> _Facts:
    """What the checks need of a schema, as Python objects: reading them from the schema each time is slow."""
    from onnx.defs import OpSchema

    required = OpSchema.FormalParameterOption.Single
    inputs = tuple("required" if i.option == required else "" for i in schema.inputs)
    attributes = {name: (_ATTRIBUTE_CODES[str(a.type).rpartition(".")[2]], bool(a.required)) for name, a in schema.attributes.items()}
    allowed = {c.type_param_str: frozenset(c.allowed_type_strs) for c in schema.type_constraints}
    types = tuple((i.type_str, allowed.get(i.type_str, frozenset({i.type_str})), i.is_homogeneous) for i in schema.inputs)
    return inputs, attributes, types


def has_body(schema: OpSchema) -> bool:
    """True if the specification defines the operator by simpler ones."""
    return _bodies(schema).has_function or _bodies(schema).has_context_dependent_function


def fixed_body(schema: OpSchema, opsets: Opsets) -> Function | None:
    """The operator's body, if it does not depend on types and attributes."""
    if not _bodies(schema).has_function:
        return None
    return _function(schema, _fixed(schema, _choose(_bodies(schema).function_opset_versions, opsets.version(schema.domain))), opsets)


def body_for(
    schema: OpSchema, opsets: Opsets, node: onnx.NodeProto, types: Sequence[onnx.TypeProto], loc: Loc, *, closed: bool = True
) -> Function:
    """The operator's body for a node with input types; E0106 if the specification has none for it.

    A body that is not `closed` may use names of the graph around the node.
    """
    if (fixed := fixed_body(schema, opsets)) is not None:
        return fixed
    import onnx

    chosen = _choose(_bodies(schema).context_dependent_function_opset_versions, opsets.version(schema.domain))
    protos = [t.SerializeToString() for t in types]
    try:
        text = _bodies(schema).get_context_dependent_function_with_opset_version(chosen, node.SerializeToString(), protos)
    except (ValueError, RuntimeError) as error:  # what ONNX's own builders of bodies throw at graphs without outputs, for example
        raise CompileError("E0106", f"the specification's definition of the operator does not apply: {error}", loc) from error
    proto = onnx.FunctionProto.FromString(text)
    if not proto.node:
        raise CompileError("E0106", "the specification defines the operator for other types or attributes only", loc)
    return _function(schema, proto, opsets, closed=closed)


@cache
def _fixed(schema: OpSchema, version: int) -> onnx.FunctionProto:
    import onnx

    proto = onnx.FunctionProto()
    proto.ParseFromString(_bodies(schema).get_function_with_opset_version(version))
    return proto


def _choose(versions: Sequence[int], version: int) -> int:
    """The newest body that is not newer than the model. Bodies name their own opset, so any one is right."""
    return max((v for v in versions if v <= version), default=min(versions))


def _function(schema: OpSchema, proto: onnx.FunctionProto, outer: Opsets, *, closed: bool = True) -> Function:
    reader = BodyReader(f"specification of {schema.name}", Limits())
    body: Body = reader.function(proto, partial=True, closed=closed)
    reader.finish()
    defaults = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.type}
    return Function(body, outer.extended(proto.opset_import, Loc(schema.name)), tuple(schema.attributes), defaults)
