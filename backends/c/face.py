"""What the header of a model says: tensors with extents and quantization, memory, status codes, parameters.

Everything that stands in a comment or a macro's name is reduced to plain letters first, so that a model cannot put
code into the header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Quant, Value
from ...compiler.kernel import build
from ...compiler.kernel.bounds import largest
from ...compiler.kernel.nodes import Assert, Dim
from ...compiler.kernel.traverse import walk_statements
from ...compiler.program.foreign import Prototype, prototypes
from ...compiler.program.memory_use import stack_bytes
from ...compiler.program.nodes import Check, Program, walk_steps
from .dialect import Dialect, integer
from .layers import layers_of
from .names import comment, model_prefix
from .print_program import Signature

ARENA_ALIGN_BYTES = 8


@dataclass(frozen=True, slots=True)
class Codes:
    """The quantization of an input or output: real = (code - zero_point) * scale."""

    scale: str
    zero_point: str
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Port:
    """What the header says about an input or output."""

    role: str
    name: str
    parameter: str
    macro: str
    type: str
    """The C type of an element."""
    kind: str
    """The element type in words."""
    shape: str
    extents: tuple[int, ...]
    """The extents if all are known."""
    elements: int
    """Number of elements, or the most that they can be if the run determines it or the user bounds them; 0 if nothing bounds them."""
    codes: Codes | None
    text: tuple[int, ...] | None = None
    """The bytes of the strings that an element may stand for, if it stands for one of the model's own."""


def face_of(program: Program, dialect: Dialect) -> Mapping[str, object]:
    """The variables of the header's template, but for those that say how the code was printed."""
    signature = Signature(program, dialect)
    macro = model_name(program).upper()
    named: list[tuple[str, Value, str, int | None]] = [("input", v, p, None) for v, p in zip(program.inputs, signature.inputs, strict=True)]
    most = program.capacities
    named += [("output", v, p, most.get(k)) for k, (v, p) in enumerate(zip(program.outputs, signature.outputs, strict=True))]
    return {
        "macro": macro,
        "align": ARENA_ALIGN_BYTES,
        "arena_bytes": program.arena_bytes if isinstance(program.arena_bytes, int) else None,
        "stack_bytes": stack_bytes(program.kernels.values()),
        "weight_bytes": sum(constant.nbytes for constant in program.constants),
        "symbols": signature.symbol_parameters or ["void"],
        "extents": [(n, program.bounds.get(s.symbol.name)) for n, s in zip(signature.symbols, program.symbols, strict=True)],
        "sizes": [comment(v.name) for v in program.locals],
        "local_count": len(program.locals),
        "ports": [_with_text(_port(*port, macro, dialect, program), port[1], program, signature) for port in named],
        "codes": status_codes(program),
        "layers": layers_of(program),
        "parameters": signature.parameters,
        "functions": [_declaration(name, found, dialect) for name, found in sorted(prototypes(program).items())],
    }


def model_name(program: Program) -> str:
    """The prefix of all public names."""
    return model_prefix(program.name)


def dim_text(extent: Dim) -> str:
    """An extent in a comment."""
    return str(extent) if isinstance(extent, int) else getattr(extent, "name", "computed")


def status_codes(program: Program) -> list[tuple[int, str]]:
    """Every status that the run may return, with what it means."""
    found: dict[int, str] = {}
    for kernel in program.kernels.values():
        found |= {s.code: s.message for s in walk_statements(kernel.body) if isinstance(s, Assert)}
    for step in walk_steps(program.steps):
        if isinstance(step, Check):
            found[step.code] = step.message
    return [(code, comment(message)) for code, message in sorted(found.items())]


def _port(role: str, value: Value, parameter: str, most: int | None, macro: str, dialect: Dialect, program: Program) -> Port:
    dtype, quants = value.type.dtype, program.quantization
    elements = largest(build.product(value.type.shape), program.bounds) if most is None else most
    shape = " x ".join(comment(dim_text(d)) for d in value.type.shape) or "1"
    held = dialect.type(dtype)
    kind = held if dtype in (DType.FLOAT32, DType.FLOAT64) or dtype.is_int else f"{held} ({dtype.label})"
    codes = _codes(quants[value.name], dialect) if value.name in quants else None
    extents = value.type.static_shape if value.type.is_static else ()
    return Port(role, comment(value.name), parameter, f"{macro}_{parameter.upper()}", held, kind, shape, extents, elements or 0, codes)


def _declaration(name: str, found: Prototype, dialect: Dialect) -> str:
    """The declaration of a function that the user links."""
    inputs = [f"const {dialect.type(t)} *in{k}" for k, t in enumerate(found.inputs)]
    outputs = [f"{dialect.type(t)} *out{k}" for k, t in enumerate(found.outputs)]
    numbers = [f"{dialect.type(t)} n{k}" for k, t in enumerate(found.numbers)]
    return f"void {name}({', '.join([*inputs, *outputs, *numbers])});"


def _with_text(port: Port, value: Value, program: Program, signature: Signature) -> Port:
    """A port that says what strings its elements stand for, if they do."""
    text = program.texts.get(value.name)
    if text is None:
        return port
    if isinstance(text, bytes):
        return replace(port, kind=f"{port.kind} (strings, see {port.parameter}_string)", text=tuple(text))
    values, parameters = (*program.inputs, *program.outputs), (*signature.inputs, *signature.outputs)
    place = parameters[[v.name for v in values].index(text)]
    return replace(port, kind=f"{port.kind} (strings: first byte in {place} times 2^32, plus the number of bytes)")


def _codes(quant: Quant, dialect: Dialect) -> Codes:
    scale, zero_point = quant.scale[0], quant.zero_point[0]
    return Codes(dialect.constant(scale, DType.FLOAT32), integer(zero_point, DType.INT32), *map(int, quant.dtype.limits))
