"""The files of a model as build systems want them: an Arduino or PlatformIO library, an ESP-IDF component, a Zephyr module.

Each layout says where sources and headers go and which files stand beside them (`templates/layouts`). What onnxc reads again
(the record, the interface) stays at the top.

Sources: https://arduino.github.io/arduino-cli/latest/library-specification, https://docs.platformio.org/en/latest/manifests/library-json,
https://docs.espressif.com/projects/esp-idf/en/latest/esp32/api-guides/build-system.html,
https://docs.zephyrproject.org/latest/develop/modules.html
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass

import jinja2

from ...compiler.program.interface import Interface
from ...compiler.target import Artifact, Files
from .names import comment, model_prefix
from .package import VERSION
from .print_program import parameter_names

_FOLDER = pathlib.Path(__file__).parents[2] / "templates" / "layouts"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a build system looks for what."""

    sources: str
    """Folder of the sources."""
    headers: str
    """Folder of the headers."""
    beside: Mapping[str, str]
    """Template of each further file, by its path; `{name}` is that of the model."""


LAYOUTS: Mapping[str, Layout] = {
    "arduino": Layout(
        "src/", "src/", {"library.properties": "arduino/library.properties.j2", "examples/{name}/{name}.ino": "arduino/run.ino.j2"}
    ),
    "platformio": Layout("src/", "include/", {"library.json": "platformio/library.json.j2"}),
    "esp-idf": Layout("", "include/", {"CMakeLists.txt": "esp-idf/CMakeLists.txt.j2", "idf_component.yml": "esp-idf/idf_component.yml.j2"}),
    "zephyr": Layout("src/", "include/", {"CMakeLists.txt": "zephyr/CMakeLists.txt.j2", "zephyr/module.yml": "zephyr/module.yml.j2"}),
}


def arranged(layout: Layout, artifact: Artifact, files: Files) -> Files:
    """The files of a model in a layout."""
    face = artifact.interface
    name = model_prefix(face.name)
    placed = {_place(layout, path): data for path, data in files.items()}
    inputs, outputs, _ = parameter_names([p.name for p in face.inputs], [p.name for p in face.outputs])
    variables = {
        "name": name,
        "macro": name.upper(),
        "title": comment(face.name),
        "version": VERSION,
        "sources": sorted(path for path in placed if path.endswith(".c")),
        "example": _is_fixed(face),
        "inputs": inputs,
        "outputs": outputs,
    }
    texts = {path.format(name=name): _template(template).render(**variables) for path, template in layout.beside.items()}
    return {**placed, **{path: text.encode() for path, text in texts.items() if text.strip()}}


def _place(layout: Layout, path: str) -> str:
    folder = {".c": layout.sources, ".h": layout.headers}.get(pathlib.PurePath(path).suffix, "")
    return f"{folder}{path}"


def _is_fixed(face: Interface) -> bool:
    """True if all sizes are known, so that an example can declare the tensors."""
    ports = (*face.inputs, *face.outputs)
    return not face.locals and isinstance(face.arena_bytes, int) and all(isinstance(d, int) for p in ports for d in p.shape)


@functools.cache
def _template(name: str) -> jinja2.Template:
    loader = jinja2.FileSystemLoader(_FOLDER)
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False)
    return environment.get_template(name)
