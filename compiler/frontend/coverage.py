"""Which operators of a model the compiler does not know: all of them, before any work is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ..diagnostics import CompileError, Diagnostic, Loc
from ..ops.table import INTERNAL, lookup
from .adapt import RENAMED
from .bodies import Body, Call
from .functions import Library, callee, calls_within
from .handlers import HANDLERS
from .opsets import Opsets
from .remedies import remedy
from .schemas import find_schema, fixed_body, has_body, was_withdrawn
from .special import SPECIAL


def check_operators(main: Body, opsets: Opsets, library: Library, model: str) -> None:
    """Raise E0201 for every node whose operator has neither a row, nor a function body.

    Functions of the model are searched if a node calls them; bodies of the specification where they do not
    depend on types (others are searched when they are expanded).
    """
    search = _Search(library, model)
    search.body(main, opsets, "")
    while search.waiting:
        search.body(*search.waiting.pop())
    if search.unknown:
        raise CompileError.collect(search.unknown)


@dataclass(slots=True)
class _Search:
    library: Library
    model: str
    unknown: list[Diagnostic] = field(default_factory=list)
    waiting: list[tuple[Body, Opsets, str]] = field(default_factory=list)
    seen: set[object] = field(default_factory=set)

    def body(self, body: Body, opsets: Opsets, within: str) -> None:
        for call in calls_within(body):
            version = opsets.version(call.domain)
            key = callee(call, self.library)
            if key is not None:
                self._visit(key, self.library[key].body, self.library[key].opsets, call.op)
            elif call.op not in SPECIAL and call.op not in HANDLERS and not _has_row(call, version):
                self._expand(call, opsets, within)

    def _expand(self, call: Call, opsets: Opsets, within: str) -> None:
        version = opsets.version(call.domain)
        schema = find_schema(call.domain, call.op_type, version)
        if schema is None or not has_body(schema):
            self.unknown.append(unknown_operator(call, version, Loc(self.model, call.name, call.op), within))
        elif (function := fixed_body(schema, opsets)) is not None:
            self._visit((call.op, version), function.body, function.opsets, call.op)

    def _visit(self, key: object, body: Body, opsets: Opsets, within: str) -> None:
        if key not in self.seen:
            self.seen.add(key)
            self.waiting.append((body, opsets, within))


def unknown_operator(call: Call, version: int, loc: Loc, within: str = "") -> Diagnostic:
    """The problem to report for a node that cannot be compiled."""
    place = f" (in the body of {within})" if within else ""
    message = f"the operator {call.op} is not known, opset {version}{place}"
    return Diagnostic("E0201", message, loc, "; ".join(_hints(call, version)))


def _hints(call: Call, version: int) -> Iterator[str]:
    if find_schema(call.domain, call.op_type, version) is None and was_withdrawn(call.domain, call.op_type):
        yield f"opset {version} has it no longer, name its successor"
    elif (known := remedy(call.op, call.domain)) is not None:
        yield known
    elif call.domain not in ("", "ai.onnx.ml", "com.microsoft"):
        yield f"give the model a function {call.op_type} of the domain '{call.domain}', or define the operator yourself"
        yield "--operators FILE.py, onnxc.compile(..., operators=[...]); see docs/custom-operators.md"
    else:
        yield "export the model with simpler operators, or give it a function of this name"


def _has_row(call: Call, version: int) -> bool:
    """True if the table has the operator, and the specification does not forbid it at this version."""
    if call.domain == INTERNAL or (lookup(call.op) is None and (call.op, version) not in RENAMED):
        return False
    op_type = call.op_type
    return find_schema(call.domain, op_type, version) is not None or not was_withdrawn(call.domain, op_type)
