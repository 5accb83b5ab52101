"""Takes ImageDecoder out of a graph: the input of a picture's bytes becomes an input of its pixels, decoded before each run.

One of the last steps of loading. The signature says what the caller gives; from Python that is still the file
(`compiler/program/images.py`), C programs pass the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..graph.builder import used_names
from ..graph.facts import index_symbols
from ..graph.nodes import Graph, Node, TensorType, Value
from ..graph.rebuild import Rebuilder, rebuild
from ..graph.signature import ImageForm, Parameter, Signature, TensorForm
from ..kernel.nodes import Var


def dissolve_images(graph: Graph) -> Graph:
    """The graph with pixels in the place of pictures that are inputs."""
    if not any(node.op == "ImageDecoder" for node in graph.nodes):
        return graph
    decoders = _Decoders({v.name for v in graph.inputs})
    rebuilt = rebuild(graph, decoders.visit, dissolve_images.__name__)
    used = used_names(rebuilt.nodes) | {v.name for v in rebuilt.outputs}
    kept = tuple(v for v in rebuilt.inputs if v.name in used or v.name not in decoders.pictures)
    before = graph.signature or Signature(
        *(tuple(Parameter(v.name, TensorForm(v.name)) for v in vs) for vs in (graph.inputs, graph.outputs))
    )
    inputs = tuple(decoders.parameter(p, {v.name for v in kept}) for p in before.inputs)
    return replace(rebuilt, inputs=kept, symbols=index_symbols([v.type for v in kept]), signature=replace(before, inputs=inputs))


def _plain(values: Sequence[Value]) -> tuple[Parameter, ...]:
    return tuple(Parameter(v.name, TensorForm(v.name)) for v in values)


@dataclass(slots=True)
class _Decoders:
    """The visitor: which pictures are decoded, and how."""

    inputs: set[str]
    pictures: dict[str, dict[str, Value]] = field(default_factory=dict)
    """By input, the pixels by their format."""

    def visit(self, rebuilder: Rebuilder, node: Node) -> Sequence[Value | None] | None:
        """Put an input of pixels in the place of a node."""
        source, made = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op != "ImageDecoder" or source is None or made is None or source.name not in self.inputs or rebuilder.builder.outer:
            return None
        pixels, pixel_format = self.pictures.setdefault(source.name, {}), str(node.attrs.get("pixel_format", "RGB"))
        if pixel_format not in pixels:
            name = rebuilder.builder.free_name(f"{source.name}.pixels")
            shape = (Var(f"{name}_0"), Var(f"{name}_1"), made.type.shape[2])
            pixels[pixel_format] = rebuilder.builder.input(name, TensorType(made.type.dtype, shape))
        return [pixels[pixel_format]]

    def parameter(self, given: Parameter, kept: set[str]) -> Parameter:
        """An input as the caller knows it."""
        found = self.pictures.get(given.name)
        if found is None:
            return given
        pixels = tuple((value.name, pixel_format) for pixel_format, value in found.items())
        return replace(given, form=ImageForm(pixels, given.name if given.name in kept else None))
