"""Text of the program that runs a model once on a board, of its memory layout, and of the labels that part its layers."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import jinja2

from ....compiler.program.interface import Interface
from ..names import model_prefix
from ..print import C99
from .boards import Board
from .toolchains import TEMPLATES

STACK_ROOM = 16 << 10
"""Bytes that are left to the stack at least."""
LAYER = re.compile(r"onnxc_layer_(\d+)_(begin|end)_\d+")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of what the program holds, for one set of extents."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    symbols: tuple[int, ...]
    """Values of the symbols that the caller sets."""
    arena: int

    @property
    def memory(self) -> int:
        """Of all that the caller provides."""
        return sum(self.inputs) + sum(self.outputs) + self.arena


def print_main(face: Interface, sizes: Sizes, *, own_arena: bool) -> str:
    """The program; `own_arena` if the model brings its arena."""
    inputs = [f"(const {C99.type(p.dtype)} *)(const void *)input_{k}" for k, p in enumerate(face.inputs)]
    outputs = [f"({C99.type(p.dtype)} *)(void *)output_{k}" for k, p in enumerate(face.outputs)]
    symbols = [f"symbols[{k}]" for k in range(len(face.symbols))]
    late = [f"symbols + {len(face.symbols)}"] if face.locals else []
    return _template("main.c.j2").render(
        name=model_prefix(face.name),
        inputs=sizes.inputs,
        outputs=sizes.outputs,
        symbols=[f"INT64_C({value})" for value in sizes.symbols],
        locals=len(face.locals),
        arena=0 if own_arena else sizes.arena,
        arguments=[*inputs, *outputs, *symbols, *late, "NULL" if own_arena else "arena"],
    )


def print_layout(board: Board, *, constants: str, memory: str) -> str:
    """The linker script; constants and the caller's memory go to the regions of these names."""
    return _template(f"{board.architecture.name}/image.ld.j2").render(
        regions=(board.code, board.ram, board.large), constants=constants, memory=memory, stack=STACK_ROOM
    )


def print_marks(face: Interface) -> str:
    """A header that puts labels around each layer; they are no instructions."""
    macro = model_prefix(face.name).upper()
    return "".join(
        f'#define {macro}_{end.upper()}(layer, name) __asm__ volatile("onnxc_layer_" #layer "_{end}_%=:" : : : "memory")\n'
        for end in ("begin", "end")
    )


def layers_in(source: str, face: Interface) -> Sequence[tuple[str, str]]:
    """Name and function of each layer of a model's source, in order."""
    return re.findall(rf'{model_prefix(face.name).upper()}_BEGIN\(\d+, "([^"]*)"\);\s*[^"]*?\b(\w+_k\d+)\(', source)


@functools.cache
def _template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(TEMPLATES)
    return jinja2.Environment(
        loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False
    ).get_template(name)
