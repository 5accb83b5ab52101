"""The files of a compiled model in C: one `.c`, one `.h`, and if wished a `.c` of weights.

Skeletons stand in `templates/c`; all arithmetic comes from the printers. Names and comments from the model
are reduced to plain letters first, so that a model cannot put code into the files.
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import jinja2
import numpy as np

from ...compiler.diagnostics import printable
from ...compiler.dtypes import DType
from ...compiler.graph.nodes import Value
from ...compiler.kernel import build
from ...compiler.kernel.nodes import Assert, Dim
from ...compiler.kernel.traverse import walk_statements
from ...compiler.program.nodes import Branch, Check, Program, Repeat, Step
from .dialect import Dialect
from .names import clean
from .print import C99, print_kernel_c
from .print_program import ProgramPrinter, Signature
from .weights import declaration, definition

ARENA_ALIGN_BYTES = 8
VERSION = "0.1.0"
_FOLDER = pathlib.Path(__file__).parents[2] / "templates" / "c"
_MATH = re.compile(r"\b(?:fabs|sqrt|floor|ceil|trunc|rint|copysign|fmod)f?\(|\b(?:INFINITY|NAN)\b")


@dataclass(frozen=True, slots=True)
class Port:
    """What the header says about an input or output."""

    role: str
    name: str
    parameter: str
    macro: str
    type: str
    shape: str
    elements: int
    """Number of elements, or the most that they can be if the run finds out; 0 if symbolic."""


def print_files(program: Program, *, separate_weights: bool = False, dialect: Dialect = C99) -> dict[str, str]:
    """Return the files of a program by name.

    Args:
        program: whose kernels are lowered for C.
        separate_weights: put the weights into a file of their own, for another flash section or object.
        dialect: rows of the language.

    Raises:
        CompileError: E0302 if the program needs a heap.
    """
    name = model_name(program)
    weights = [f"{name}_weights_{k}" if separate_weights else f"weights_{k}" for k in range(len(program.constants))]
    helpers: dict[str, str] = {}
    functions = {kernel: f"{clean(kernel)}_k{k}" for k, kernel in enumerate(program.kernels)}
    kernels = [print_kernel_c(kernel, helpers, functions[key]) for key, kernel in program.kernels.items()]
    run = ProgramPrinter(program, dialect, functions, weights, helpers).function(f"{name}_run")
    arena = "" if isinstance(program.arena_bytes, int) else _arena_function(program, dialect, helpers, name)
    arrays = list(zip(weights, map(np.asarray, program.constants), strict=True))
    face = {"name": name, "title": comment(program.name or name), "version": VERSION}
    definitions = [(f"extern {declaration(w, a, dialect)};", definition(w, a, dialect)) for w, a in arrays]
    inline = [d if separate_weights else f"static {text}" for d, text in definitions]
    needs_math = any(_MATH.search(text) for text in (*helpers.values(), *kernels, run, *(() if separate_weights else inline)))
    files = {
        f"{name}.h": _template("model.h.j2").render(**face, **_interface(program, dialect)),
        f"{name}.c": _template("model.c.j2").render(
            **face, needs_math=needs_math, weights=inline, helpers=list(helpers.values()), kernels=kernels, run=run, arena_function=arena
        ),
    }
    if separate_weights:
        files[f"{name}_weights.c"] = _template("weights.c.j2").render(**face, weights=definitions)
    return files


def model_name(program: Program) -> str:
    """The prefix of all public names."""
    return clean(program.name).lower()


def comment(text: str) -> str:
    """A text that is harmless in a comment."""
    return re.sub(r"[^A-Za-z0-9_ .:,\[\]()-]", "_", printable(text, 100))


def _arena_function(program: Program, dialect: Dialect, helpers: dict[str, str], name: str) -> str:
    return ProgramPrinter(program, dialect, {}, [], helpers).arena_function(f"{name}_arena_bytes")


def _interface(program: Program, dialect: Dialect) -> Mapping[str, object]:
    signature = Signature(program, dialect)
    macro = model_name(program).upper()
    named: list[tuple[str, Value, str, int | None]] = [("input", v, p, None) for v, p in zip(program.inputs, signature.inputs, strict=True)]
    most = program.capacities
    named += [("output", v, p, most.get(k)) for k, (v, p) in enumerate(zip(program.outputs, signature.outputs, strict=True))]
    return {
        "macro": macro,
        "align": ARENA_ALIGN_BYTES,
        "arena_bytes": program.arena_bytes if isinstance(program.arena_bytes, int) else None,
        "symbols": signature.symbol_parameters or ["void"],
        "symbol_names": signature.symbols,
        "sizes": [comment(v.name) for v in program.locals],
        "ports": [_port(*port, macro, dialect) for port in named],
        "codes": status_codes(program),
        "parameters": signature.parameters,
    }


def _port(role: str, value: Value, parameter: str, most: int | None, macro: str, dialect: Dialect) -> Port:
    elements = build.product(value.type.shape) if most is None else most
    shape = " x ".join(comment(dim_text(d)) for d in value.type.shape) or "1"
    held = dialect.type(value.type.dtype)
    kind = held if value.type.dtype in (DType.FLOAT32, DType.FLOAT64) or value.type.dtype.is_int else f"{held} ({value.type.dtype.label})"
    count = elements if isinstance(elements, int) else 0
    return Port(role, comment(value.name), parameter, f"{macro}_{parameter.upper()}", kind, shape, count)


def dim_text(extent: Dim) -> str:
    """An extent in a comment."""
    return str(extent) if isinstance(extent, int) else getattr(extent, "name", "computed")


def status_codes(program: Program) -> list[tuple[int, str]]:
    """Every status that the run may return, with what it means."""
    found: dict[int, str] = {}
    for kernel in program.kernels.values():
        found |= {s.code: s.message for s in walk_statements(kernel.body) if isinstance(s, Assert)}
    for step in _walk(program.steps):
        if isinstance(step, Check):
            found[step.code] = step.message
    return [(code, comment(message)) for code, message in sorted(found.items())]


def _walk(steps: tuple[Step, ...]) -> list[Step]:
    found: list[Step] = []
    for step in steps:
        found.append(step)
        if isinstance(step, Branch):
            found += [*_walk(step.then), *_walk(step.other)]
        elif isinstance(step, Repeat):
            found += _walk(step.body)
    return found


@functools.cache
def _template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(_FOLDER)
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False)
    return environment.get_template(name)
