"""The files of a compiled model in C: one `.c`, one `.h`, and if wished a `.c` of weights.

Skeletons stand in `templates/c`; all arithmetic comes from the printers. Names and comments from the model
are reduced to plain letters first, so that a model cannot put code into the files.
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Mapping

import jinja2
import numpy as np

from ...compiler.diagnostics import CompileError
from ...compiler.program.nodes import Program
from .choices import Choices
from .dialect import Dialect
from .face import Port, dim_text, face_of, model_name, status_codes
from .layers import stages
from .names import clean, comment
from .print import C99, print_kernel_c
from .print_program import ProgramPrinter, Signature
from .weights import constant_text, defined

__all__ = ["VERSION", "comment", "dim_text", "model_name", "print_files", "render", "status_codes"]

VERSION = "0.1.0"
_FOLDER = pathlib.Path(__file__).parents[2] / "templates" / "c"
_MATH = re.compile(r"\b(?:fabs|sqrt|floor|ceil|trunc|rint|copysign|fmod)f?\(|\b(?:INFINITY|NAN)\b")


def print_files(program: Program, choices: Choices = Choices(), dialect: Dialect = C99) -> dict[str, str]:  # noqa: B008 (frozen)
    """Return the files of a program by name.

    Args:
        program: whose kernels are lowered for C.
        choices: what the target string asks for.
        dialect: rows of the language.

    Raises:
        CompileError: E0302 if the program needs a heap, E0304 if a static arena has no constant size.
    """
    name = model_name(program)
    prefix = f"{name}_weights" if choices.separate_weights else "weights"
    weights = [constant_text(f"{prefix}_{k}", np.asarray(array), dialect) for k, array in enumerate(program.constants)]
    helpers: dict[str, str] = {}
    functions = {kernel: f"{clean(kernel)}_k{k}" for k, kernel in enumerate(program.kernels)}
    kernels = [f"{name.upper()}_APART {print_kernel_c(k, helpers, functions[key])}" for key, k in program.kernels.items()]
    printer = ProgramPrinter(program, dialect, functions, [w.elements for w in weights], helpers, static_arena=choices.static_arena)
    run = printer.step_function() if choices.steps else printer.run()
    arena = "" if isinstance(program.arena_bytes, int) else ProgramPrinter(program, dialect, {}, [], helpers).arena_function()
    face = _face(program, choices, dialect)
    attribute = f"{name.upper()}_WEIGHTS_ATTRIBUTE"
    declarations = [f"{w.type}extern {attribute} {w.declaration};" for w in weights]
    inline = declarations if choices.separate_weights else [w.type + defined(w, f"static {attribute}") for w in weights]
    texts = (*helpers.values(), *kernels, run, *inline)
    needs_math = any(_MATH.search(text) for text in texts)
    files = {
        f"{name}.h": render("model.h.j2", face),
        f"{name}.c": render(
            "model.c.j2",
            face,
            needs_math=needs_math,
            apart=bool(kernels),
            own_arena=choices.static_arena and printer.uses_base,
            weights=inline,
            helpers=list(helpers.values()),
            kernels=kernels,
            run=run,
            arena_function=arena,
        ),
    }
    if choices.separate_weights:
        definitions = [defined(w, attribute) for w in weights]
        needs_math = any(_MATH.search(text) for text in definitions)
        pairs = zip(declarations, definitions, strict=True)
        files[f"{name}_weights.c"] = render("weights.c.j2", face, needs_math=needs_math, weights=pairs)
    return files


def _face(program: Program, choices: Choices, dialect: Dialect) -> Mapping[str, object]:
    """The variables that all templates share."""
    if choices.static_arena and not isinstance(program.arena_bytes, int):
        hint = "fix the symbolic dimensions with --bind NAME=N, or bound them with --max NAME=N"
        raise CompileError("E0304", "a static arena needs a size that is known when compiling", hint=hint)
    name = model_name(program)

    def convert(port: Port) -> str:
        return render("quantize.h.j2", {"name": name}, port=port)

    return {
        "name": name,
        "title": comment(program.name or name),
        "version": VERSION,
        "static_arena": choices.static_arena,
        "steps": len(stages(program.steps)) if choices.steps else None,
        "step_parameters": [p.format(model=name) for p in Signature(program, dialect).step_parameters],
        "convert": convert,
        **face_of(program, dialect),
    }


def render(template: str, face: Mapping[str, object], **variables: object) -> str:
    """The text of a template of this backend."""
    return _template(template).render(**face, **variables)


@functools.cache
def _template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(_FOLDER)
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False)
    return environment.get_template(name)
