"""The C header of a compiled model, of `templates/llvm/model.h.j2`.

Names and messages from the model are reduced to harmless letters, so that a model cannot put code into the file.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...compiler.diagnostics import printable
from ...compiler.dtypes import DType
from ...compiler.graph.text import print_dim
from ...compiler.program.interface import Interface, Port
from ...compiler.program.nodes import ROOM
from ...compiler.program.runner import ALIGN
from .features import CpuFeatures
from .names import model_name

VERSION = "0.1.0"
_FOLDER = pathlib.Path(__file__).parents[2] / "templates" / "llvm"


@dataclass(frozen=True, slots=True)
class HeaderPort:
    """What the header says about an input or output."""

    role: str
    position: int
    name: str
    macro: str
    dtype: str
    type: str
    shape: str
    rank: int
    extents: tuple[int, ...] | None
    """None if one of them is symbolic."""
    elements: int
    allocated: bool
    strings: str = ""
    """The input or output with the text, if elements stand for strings of it."""
    text: tuple[int, ...] | None = None
    """The bytes of the strings that an element may stand for, if it stands for one of the model's own."""


def print_header(interface: Interface, features: CpuFeatures, *, weight_bytes: int, embedded: bool) -> str:
    """The text of the header.

    Args:
        interface: how the model is called.
        features: the CPU that it was compiled for.
        weight_bytes: size of the block of weights.
        embedded: whether the library holds them.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    return environment.get_template("model.h.j2").render(**_facts(interface, features), weight_bytes=weight_bytes, embedded=embedded)


def _facts(interface: Interface, features: CpuFeatures) -> Mapping[str, object]:
    name = model_name(interface.name)
    macro = name.upper()
    return {
        "name": name,
        "macro": macro,
        "title": comment(interface.name or name),
        "version": VERSION,
        "target": comment(f"{features.triple} {features.cpu}"),
        "align": ALIGN,
        "arena_bytes": interface.arena_bytes if isinstance(interface.arena_bytes, int) else None,
        "inputs": [_port("input", k, port, macro, False, interface) for k, port in enumerate(interface.inputs)],
        "outputs": [_port("output", k, port, macro, k in interface.heap_outputs, interface) for k, port in enumerate(interface.outputs)],
        "symbols": [
            {"name": comment(s.symbol.name), "input": s.input, "axis": s.axis, "is_room": s.axis == ROOM} for s in interface.symbols
        ],
        "caches": interface.caches,
        "locals": [comment(local) for local in interface.locals],
        "extents": sum(len(port.shape) for port in interface.outputs),
        "codes": [(code, comment(text)) for code, text in sorted(interface.messages.items())],
    }


def _port(role: str, position: int, port: Port, macro: str, allocated: bool, interface: Interface) -> HeaderPort:
    extents = tuple(d for d in port.shape if isinstance(d, int))
    known = extents if len(extents) == len(port.shape) else None
    elements = 1
    for extent in extents:
        elements *= extent
    shape = ", ".join(comment(print_dim(d)) for d in port.shape)
    prefix = f"{macro}_{role.upper()}{position}"
    return HeaderPort(role, position, comment(port.name), prefix, port.dtype.label, c_type(port.dtype), shape,
                      len(port.shape), known, elements, allocated, *_strings(port, interface))  # fmt: skip


def _strings(port: Port, interface: Interface) -> tuple[str, tuple[int, ...] | None]:
    """Which port has the text of a port whose elements stand for strings, or the text itself."""
    text = interface.texts.get(port.name)
    if isinstance(text, bytes):
        return "", tuple(text)
    return ("" if text is None else comment(text)), None


def c_type(dtype: DType) -> str:
    """The C type that holds one element; floats that C does not have are their bits."""
    if dtype in (DType.FLOAT32, DType.FLOAT64):
        return "float" if dtype is DType.FLOAT32 else "double"
    if dtype in (DType.COMPLEX64, DType.COMPLEX128):
        return "struct { float re, im; }" if dtype is DType.COMPLEX64 else "struct { double re, im; }"
    return f"{'int' if dtype.is_int and dtype.is_signed else 'uint'}{8 * dtype.bytes}_t"


def comment(text: str) -> str:
    """A text that is harmless in a comment."""
    return re.sub(r"\*/|/\*", "__", re.sub(r"[^A-Za-z0-9_ .:,()+*/-]", "_", printable(text, 100)))
