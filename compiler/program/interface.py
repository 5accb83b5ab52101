"""What a caller must know of a compiled model: its inputs, outputs, symbols and working memory.

Kept beside the code in every artifact as JSON, so that an artifact can be loaded without the compiler's IRs.
Extents are integers, or expressions over symbols in prefix form: `["mul", "batch", 4]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ..diagnostics import CompileError
from ..dtypes import DType
from ..graph.nodes import Value
from ..graph.signature import Signature, signature_json, signature_of
from ..kernel import build
from ..kernel.nodes import Assert, Binary, BinaryOp, Const, Dim, Expr, Select, Unary, UnaryOp, Var
from ..kernel.scalar import Scalar, binary, unary
from ..kernel.traverse import walk_statements
from .nodes import InputSymbol, Program

Json: TypeAlias = "int | str | list[Json]"


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output."""

    name: str
    dtype: DType
    shape: tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class CachePorts:
    """An input with rows of earlier runs, and the output that is the same memory with more rows (`CachePair`)."""

    input: int
    output: int
    axis: int
    room: Dim
    """The rows that there must be room for, in terms of what is known before the run."""


@dataclass(frozen=True, slots=True)
class Interface:
    """How a compiled model is called."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    symbols: tuple[InputSymbol, ...]
    """Symbols that the caller sets from input shapes, in order."""
    locals: tuple[str, ...]
    """Names of the symbols that the model hands back, in order."""
    arena_bytes: Dim
    heap_outputs: frozenset[int]
    """Outputs that the model allocates."""
    weight_bytes: int = 0
    messages: Mapping[int, str] = field(default_factory=dict)
    """What the status codes of failed checks mean."""
    capacities: Mapping[int, int] = field(default_factory=dict)
    """Elements that the caller provides for outputs whose size the run determines, where the model cannot allocate them."""
    layers: tuple[tuple[str, ...], ...] = ()
    """ONNX nodes of each layer in order, where the target tells layers apart."""
    caches: tuple[CachePorts, ...] = ()
    """Inputs that outputs extend in place; the shapes of their ports are those of the rows that there are."""
    texts: Mapping[str, str | bytes] = field(default_factory=dict)
    """For inputs and outputs that are spans of strings, the input or output with the text, or the text itself (`strings.py`)."""
    signature: Signature | None = None
    """What inputs and outputs are to the caller, if they are more than tensors (`aggregates.py`)."""


def interface_of(program: Program) -> Interface:
    """The interface of a program."""
    rows = {cache.input: (cache.axis, cache.rows) for cache in program.caches}
    rows |= {cache.output: (cache.axis, cache.grown) for cache in program.caches}

    def port(value: Value) -> Port:
        shape = value.type.shape
        if value.name in rows:
            axis, extent = rows[value.name]
            shape = (*shape[:axis], extent, *shape[axis + 1 :])
        return Port(value.name, value.type.dtype, shape)

    return Interface(
        program.name,
        tuple(map(port, program.inputs)),
        tuple(map(port, program.outputs)),
        program.symbols,
        tuple(v.name for v in program.locals),
        program.arena_bytes,
        program.heap_outputs,
        sum(a.nbytes for a in program.constants),
        {**_kernel_messages(program), **program.messages},
        program.capacities,
        texts=program.texts,
        signature=program.signature,
        caches=tuple(_cache_ports(program)),
    )


def _cache_ports(program: Program) -> Iterator[CachePorts]:
    inputs, outputs = ([v.name for v in values] for values in (program.inputs, program.outputs))
    for cache in program.caches:
        yield CachePorts(inputs.index(cache.input), outputs.index(cache.output), cache.axis, cache.room)


def _kernel_messages(program: Program) -> dict[int, str]:
    """Messages of the assertions in kernels."""
    found = (s for kernel in program.kernels.values() for s in walk_statements(kernel.body) if isinstance(s, Assert))
    return {s.code: s.message for s in found if s.message}


# --- JSON -------------------------------------------------------------------------------------


def to_json(interface: Interface) -> str:
    """The interface as canonical JSON."""
    data: dict[str, object] = {
        "name": interface.name,
        "inputs": [_port_json(p) for p in interface.inputs],
        "outputs": [_port_json(p) for p in interface.outputs],
        "symbols": [[s.symbol.name, s.input, s.axis] for s in interface.symbols],
        "locals": list(interface.locals),
        "arena_bytes": dim_to_json(interface.arena_bytes),
        "heap_outputs": sorted(interface.heap_outputs),
        "weight_bytes": interface.weight_bytes,
        "capacities": {str(position): elements for position, elements in interface.capacities.items()},
        "messages": {str(code): text for code, text in interface.messages.items()},
    }
    if interface.caches:
        data["caches"] = [[c.input, c.output, c.axis, dim_to_json(c.room)] for c in interface.caches]
    if interface.texts:
        data["texts"] = {name: text if isinstance(text, str) else [text.decode("latin-1")] for name, text in interface.texts.items()}
    if interface.signature is not None:
        data["signature"] = signature_json(interface.signature)
    if interface.layers:
        data["layers"] = [list(nodes) for nodes in interface.layers]
    return json.dumps(data, sort_keys=True)


def from_json(text: str | bytes) -> Interface:
    """Read an interface.

    Raises:
        CompileError: E0501 if the text is damaged.
    """
    try:
        data = json.loads(text)
        return Interface(
            data["name"],
            tuple(map(_port, data["inputs"])),
            tuple(map(_port, data["outputs"])),
            tuple(InputSymbol(Var(name), position, axis) for name, position, axis in data["symbols"]),
            tuple(data["locals"]),
            dim_from_json(data["arena_bytes"]),
            frozenset(data["heap_outputs"]),
            data["weight_bytes"],
            {int(code): text for code, text in data["messages"].items()},
            {int(position): elements for position, elements in data["capacities"].items()},
            tuple(tuple(nodes) for nodes in data.get("layers", ())),
            tuple(CachePorts(source, target, axis, dim_from_json(room)) for source, target, axis, room in data.get("caches", ())),
            texts={name: text if isinstance(text, str) else text[0].encode("latin-1") for name, text in data.get("texts", {}).items()},
            signature=signature_of(data["signature"]) if "signature" in data else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CompileError("E0501", f"the interface of the artifact is damaged: {error}") from None


def _port_json(port: Port) -> list[object]:
    return [port.name, port.dtype.label, [dim_to_json(d) for d in port.shape]]


def _port(data: list) -> Port:  # type: ignore[type-arg]
    name, dtype, shape = data
    return Port(name, DType[dtype.upper()], tuple(dim_from_json(d) for d in shape))


def dim_to_json(extent: Dim) -> Json:
    """An extent in prefix form."""
    match extent:
        case int():
            return extent
        case Const(value=value):
            return int(value)
        case Var(name=name):
            return name
        case Unary(op=op, a=a):
            return [op.value, dim_to_json(a)]
        case Binary(op=op, a=a, b=b):
            return [op.value, dim_to_json(a), dim_to_json(b)]
        case Select(cond=cond, then=then, other=other):
            return ["select", dim_to_json(cond), dim_to_json(then), dim_to_json(other)]
    raise AssertionError(f"{type(extent).__name__} in an extent")


def dim_from_json(data: Json) -> Dim:
    """An extent of its prefix form."""
    if isinstance(data, int):
        return data
    if isinstance(data, str):
        return Var(data)
    op, *operands = data
    parts = [build.index(dim_from_json(o)) for o in operands]
    if op == "select":
        return build.dim(build.select(*parts))
    return build.dim(build.unary(UnaryOp(op), *parts) if len(parts) == 1 else build.binary(BinaryOp(op), *parts))


def evaluate_dim(extent: Dim, symbols: Mapping[str, int]) -> int:
    """Value of an extent; the arithmetic is that of the kernel IR."""
    return extent if isinstance(extent, int) else int(_value(extent, symbols, {}))


def _value(e: Expr, symbols: Mapping[str, int], known: dict[Expr, int | bool]) -> int | bool:
    """Value of an expression of integers; shared parts are computed once."""
    if e in known:
        return known[e]
    found: Scalar
    match e:
        case Var(name=name):
            found = symbols[name]
        case Const(value=value):
            found = value
        case Unary(op=op, a=a):
            found = unary(op, a.dtype)(_value(a, symbols, known))
        case Binary(op=op, a=a, b=b):
            found = binary(op, a.dtype)(_value(a, symbols, known), _value(b, symbols, known))
        case Select(cond=cond, then=then, other=other):
            found = _value(then if _value(cond, symbols, known) else other, symbols, known)
        case _:
            raise AssertionError(f"{type(e).__name__} in an extent")
    known[e] = bool(found) if e.dtype is DType.BOOL else int(found)
    return known[e]
