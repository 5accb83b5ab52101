"""Functions: operators whose meaning is a body of other operators.

Two kinds are inlined while a graph is imported: functions that the model brings along, and the bodies that
the ONNX specification gives for operators that the operator table does not define itself. A chain of
functions that call each other twice doubles with each link, so the size of a model after inlining is
computed from the call graph before anything is expanded; recursion is found at the same time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..diagnostics import CompileError, Loc
from .attributes import Bindings
from .bodies import DEFAULT_DOMAINS, Body, BodyReader, Call
from .limits import Limits
from .opsets import Opsets

if TYPE_CHECKING:
    import onnx

Key = tuple[str, str, str]
"""Domain, name and overload of a function."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function that can be inlined."""

    body: Body
    opsets: Opsets
    """Versions of the operators in the body."""
    parameters: tuple[str, ...]
    """Names of the attributes."""
    defaults: Bindings
    """Values of attributes that a call may leave out."""


Library = Mapping[Key, Function]


def read_functions(model: onnx.ModelProto, reader: BodyReader, opsets: Opsets) -> dict[Key, Function]:
    """Check the functions of a model; E0106 if one is given twice, faults of bodies go to `reader`."""
    found: dict[Key, Function] = {}
    for proto in model.functions:
        key = ("" if proto.domain in DEFAULT_DOMAINS else proto.domain, proto.name, proto.overload)
        if key in found:
            raise CompileError("E0106", f"the function '{proto.name}' is defined twice", Loc(reader.model, proto.name))
        found[key] = _function(proto, reader, opsets)
    return found


def _function(proto: onnx.FunctionProto, reader: BodyReader, outer: Opsets) -> Function:
    own = outer.extended(proto.opset_import, Loc(reader.model, proto.name))
    defaults = {attribute.name: attribute for attribute in proto.attribute_proto}
    return Function(reader.function(proto), own, (*proto.attribute, *defaults), defaults)


def callee(call: Call, library: Library) -> Key | None:
    """The function of the model that a node calls, None if it is an operator."""
    if not library:
        return None
    key = (call.domain, call.op_type, call.proto.overload)
    return key if key in library else None


def check_size(main: Body, library: Library, limits: Limits, model: str) -> None:
    """Refuse recursion (E0106) and models that are too large after inlining (E0103)."""
    sizes: dict[Key, int] = {}
    path: dict[Key, Iterator[Key]] = {}
    for root in _callees(main, library):
        if root in sizes:
            continue
        path[root] = _callees(library[root].body, library)
        while path:
            key, pending = next(reversed(path.items()))
            inner = next((k for k in pending if k not in sizes), None)
            if inner is None:
                sizes[key] = _size(library[key].body, library, sizes)
                del path[key]
            elif inner in path:
                raise CompileError("E0106", f"the function '{inner[1]}' calls itself", Loc(model, inner[1]))
            else:
                path[inner] = _callees(library[inner].body, library)
    limits.check("nodes", _size(main, library, sizes), "the number of nodes after inlining", Loc(model))


def _callees(body: Body, library: Library) -> Iterator[Key]:
    return (key for call in calls_within(body) if (key := callee(call, library)) is not None)


def _size(body: Body, library: Library, sizes: Mapping[Key, int]) -> int:
    keys = [callee(call, library) for call in calls_within(body)]
    return sum(1 if key is None else 1 + sizes[key] for key in keys)


def calls_within(body: Body) -> Iterator[Call]:
    """All nodes of a body and its regions."""
    waiting = [body]
    while waiting:
        for call in waiting.pop().calls:
            yield call
            waiting.extend(call.regions.values())
