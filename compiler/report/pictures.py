"""Pictures as numbers: where the boxes and lines of the two drawings stand. The template turns them into SVG.

The graph is drawn in layers (K. Sugiyama et al., 1981): a box stands below everything that it reads, boxes of one row are put in
the order of what they read. The arena is drawn over time: a tensor is as wide as its life and as high as its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from ..graph.text import print_shape
from ..program.memory_use import MemoryUse
from ..program.nodes import Place, Program, Storage
from .layers import LayerCost

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN = 230, 46, 26, 28, 12
ARENA_WIDTH, ARENA_HEIGHT = 960, 320
TEXT_LENGTH = 32


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with text; `layer` is the number of a layer, None for inputs and outputs."""

    x: float
    y: float
    width: float
    height: float
    text: str
    detail: str
    layer: int | None
    kind: str
    """`input`, `output`, `contraction` or `other`."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A drawing."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[str, ...] = ()
    """Paths of SVG."""
    marks: tuple[tuple[float, str], ...] = ()
    """Labels of the vertical axis and where they stand."""


def draw_graph(program: Program, layers: Sequence[LayerCost]) -> Picture:
    """The layers of a program with what flows between them."""
    graph = _flow(program, layers)
    rows = _rows(graph)
    width = max((len(row) for row in rows), default=1) * (BOX_WIDTH + GAP_X) - GAP_X + 2 * MARGIN
    place: dict[str, tuple[float, float]] = {}
    for k, row in enumerate(rows):
        start = (width - len(row) * (BOX_WIDTH + GAP_X) + GAP_X) / 2
        place.update({name: (start + j * (BOX_WIDTH + GAP_X), MARGIN + k * (BOX_HEIGHT + GAP_Y)) for j, name in enumerate(row)})
    boxes = tuple(_box(name, graph.nodes[name], *place[name]) for row in rows for name in row)
    height = len(rows) * (BOX_HEIGHT + GAP_Y) - GAP_Y + 2 * MARGIN
    return Picture(width, height, boxes, tuple(_line(place[a], place[b]) for a, b in graph.edges))


def _flow(program: Program, layers: Sequence[LayerCost]) -> nx.DiGraph:
    """A node for each input, layer and output; an edge from who wrote a storage last to who reads it."""
    graph: nx.DiGraph = nx.DiGraph()
    writer: dict[tuple[Place, int], str] = {}
    for k, value in enumerate(program.inputs):
        graph.add_node(f"i{k}", text=value.name, detail=value.type.dtype.label + print_shape(value.type.shape), layer=None, kind="input")
        writer[Place.INPUT, k] = f"i{k}"
    for layer in layers:
        name = f"l{layer.number}"
        kind = "contraction" if layer.macs else "other"
        text = " + ".join(op.rpartition("::")[2] for op in layer.operators if op != "DequantizeLinear") or layer.kernel
        graph.add_node(name, text=text, detail=f"{layer.number}: {layer.kernel}", layer=layer.number, kind=kind)
        graph.add_edges_from((writer[_key(s)], name) for s in layer.reads if _key(s) in writer and writer[_key(s)] != name)
        writer.update({_key(s): name for s in layer.writes})
    for k, value in enumerate(program.outputs):
        graph.add_node(f"o{k}", text=value.name, detail=value.type.dtype.label + print_shape(value.type.shape), layer=None, kind="output")
        if (Place.OUTPUT, k) in writer:
            graph.add_edge(writer[Place.OUTPUT, k], f"o{k}")
    return graph


def _key(storage: Storage) -> tuple[Place, int]:
    return storage.place, storage.index


def _rows(graph: nx.DiGraph) -> list[list[str]]:
    """Names by row, each in the order of the mean place of what it reads."""
    rows = [list(row) for row in nx.topological_generations(graph)]
    place: dict[str, float] = {}
    for row in rows:
        centre = {name: _mean([place[p] for p in graph.predecessors(name)]) for name in row}
        row.sort(key=lambda name: (centre[name], int(name[1:])))
        place.update({name: k - (len(row) - 1) / 2 for k, name in enumerate(row)})
    return rows


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0


def _box(name: str, data: Mapping[str, object], x: float, y: float) -> Box:
    layer = data["layer"]
    number = layer if isinstance(layer, int) else None
    return Box(x, y, BOX_WIDTH, BOX_HEIGHT, shortened(str(data["text"])), shortened(str(data["detail"])), number, str(data["kind"]))


def _line(source: tuple[float, float], target: tuple[float, float]) -> str:
    """A curve from the foot of one box to the head of another."""
    x0, y0, x1, y1 = source[0] + BOX_WIDTH / 2, source[1] + BOX_HEIGHT, target[0] + BOX_WIDTH / 2, target[1]
    if y1 - y0 > GAP_Y and abs(x1 - x0) < BOX_WIDTH:  # past the boxes of the rows between
        away = BOX_WIDTH / 2 + GAP_X / 2
        side = min(x0, x1) - away if x0 < x1 else max(x0, x1) + away
        return f"M{x0:g},{y0:g} C{side:g},{y0 + GAP_Y:g} {side:g},{y1 - GAP_Y:g} {x1:g},{y1:g}"
    return f"M{x0:g},{y0:g} C{x0:g},{(y0 + y1) / 2:g} {x1:g},{(y0 + y1) / 2:g} {x1:g},{y1:g}"


def draw_arena(use: MemoryUse) -> Picture:
    """The tensors in the arena: time to the right, offsets upwards."""
    steps, total = max(1, len(use.layers)), max(1, use.arena_bytes)
    scale_x, scale_y = ARENA_WIDTH / steps, ARENA_HEIGHT / total
    boxes = tuple(
        Box(
            t.first * scale_x, ARENA_HEIGHT - (t.offset + t.bytes) * scale_y, (t.last + 1 - t.first) * scale_x, t.bytes * scale_y,
            t.loc.node, f"{t.bytes:,} bytes at {t.offset:,}, layers {t.first} to {t.last}", t.first, "other",
        )
        for t in use.tensors
    )  # fmt: skip
    marks = tuple((ARENA_HEIGHT * (1 - k / 4), f"{total * k // 4:,}") for k in range(5))
    return Picture(ARENA_WIDTH, ARENA_HEIGHT, boxes, (), marks)


def shortened(text: str, limit: int = TEXT_LENGTH) -> str:
    """A text that fits into a box."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
